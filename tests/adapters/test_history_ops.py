"""Who may ask history for a snapshot or a state hash, and what it answers."""

from __future__ import annotations

from concurrent.futures import Future

import falcon.testing
import pytest

from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.adapters.history import ops
from tradsys.adapters.history.follower import Snapshot, StateHash
from tradsys.adapters.history.ops import history_routes
from tradsys.adapters.http.app import create_app
from tradsys.adapters.http.edge import Edge

SECRET = "the internal secret"
PATHS = [("POST", "/internal/snapshot"), ("GET", "/internal/state-hash")]


@pytest.fixture
def answers():
    return {"snapshot": Future(), "state_hash": Future()}


@pytest.fixture
def client(answers):
    verifier = TokenVerifier(HmacKey(b"k" * 32), "tradsys", "tradsys", Revocations(), [0] * 1000)
    edge = Edge(
        verifier,
        lambda: 0,
        lambda: (0, 0, 1),
        close_after=lambda environ, set_header: set_header("Connection", "close"),
    )
    routes = history_routes(lambda: answers["snapshot"], lambda: answers["state_hash"], SECRET.encode())
    return falcon.testing.TestClient(create_app(edge, routes))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.8.9.10"])
def test_callers_on_this_machine_are_answered(client, answers, address):
    answers["state_hash"].set_result(StateHash(7, "abc"))
    answers["snapshot"].set_result(Snapshot(7, "abc", "snapshot-7.tsn", 100))

    replies = [client.simulate_request(*path, remote_addr=address) for path in PATHS]

    assert [reply.json for reply in replies] == [
        {"seq": 7, "state_hash": "abc", "file": "snapshot-7.tsn", "bytes": 100},
        {"seq": 7, "state_hash": "abc"},
    ]


@pytest.mark.parametrize("headers", [{}, {"X-Internal-Secret": "guess"}, {"X-Forwarded-For": "127.0.0.1"}])
@pytest.mark.parametrize("path", PATHS)
def test_to_others_the_paths_do_not_exist(client, path, headers):
    reply = client.simulate_request(*path, remote_addr="10.0.0.9", headers=headers)

    assert (reply.status_code, reply.json["message"]) == (404, "no such path")


def test_the_internal_secret_lets_others_in(client, answers):
    answers["state_hash"].set_result(StateHash(7, "abc"))

    reply = client.simulate_get(
        "/internal/state-hash", remote_addr="10.0.0.9", headers={"X-Internal-Secret": SECRET}
    )

    assert reply.status_code == 200


def test_a_busy_history_says_so(client, monkeypatch):
    monkeypatch.setattr(ops, "ANSWER_TIMEOUT_S", 0.01)

    reply = client.simulate_get("/internal/state-hash", remote_addr="127.0.0.1")

    assert (reply.status_code, reply.json["code"], reply.headers["retry-after"]) == (503, 1020, "5")
