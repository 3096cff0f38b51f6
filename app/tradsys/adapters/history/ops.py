"""Asking history for a snapshot or a state hash: two routes of its ops port."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDoneInTime
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

import falcon
from falcon import Response

from tradsys.adapters.history.follower import Snapshot, StateHash
from tradsys.adapters.history.snapshots import SnapshotFailed
from tradsys.codec.errors import INVALID_REQUEST, NOT_LEADER, Problem
from tradsys.codec.json_v1 import encode

ANSWER_TIMEOUT_S = 120.0
"""A snapshot of a million orders takes a few seconds, and as many again to be verified."""

_PUBLIC = MappingProxyType({"GET": 0, "POST": 0})
"""No token: who may ask is decided here."""


def history_routes(
    snapshot: Callable[[], Future[Snapshot]], state_hash: Callable[[], Future[StateHash]], secret: bytes
) -> list[tuple[str, Any]]:
    """(path, resource). Callers on this machine are answered, others if they have the internal secret."""
    return [
        ("/internal/snapshot", SnapshotResource(snapshot, secret)),
        ("/internal/state-hash", StateHashResource(state_hash, secret)),
    ]


class SnapshotResource:
    """POST /internal/snapshot: the state as it is now, written and verified"""

    needs = _PUBLIC
    answers_while_draining = True

    def __init__(self, snapshot: Callable[[], Future[Snapshot]], secret: bytes) -> None:
        self._snapshot = snapshot
        self._secret = secret

    def on_post(self, req: falcon.Request, resp: Response) -> None:
        _insiders_only(req, self._secret)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = encode(_result(self._snapshot()))


class StateHashResource:
    """GET /internal/state-hash: of the state after the last command that history has applied"""

    needs = _PUBLIC
    answers_while_draining = True

    def __init__(self, state_hash: Callable[[], Future[StateHash]], secret: bytes) -> None:
        self._state_hash = state_hash
        self._secret = secret

    def on_get(self, req: falcon.Request, resp: Response) -> None:
        _insiders_only(req, self._secret)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = encode(_result(self._state_hash()))


def _insiders_only(req: falcon.Request, secret: bytes) -> None:
    """Raises Problem 404: to others these paths don't exist."""
    address = req.env.get("REMOTE_ADDR", "")
    if address and ip_address(address).is_loopback:
        return
    sent = req.env.get("HTTP_X_INTERNAL_SECRET", "").encode("latin-1")
    if not secret or not hmac.compare_digest(sent, secret):
        raise Problem(INVALID_REQUEST, "no such path", status=404)


def _result(future: Future[Any]) -> Any:
    """What the follower's thread makes of it. Raises Problem 1020 if it can't, or is not done in time."""
    try:
        return future.result(ANSWER_TIMEOUT_S)
    except SnapshotFailed as error:
        raise Problem(NOT_LEADER, f"no snapshot: {error}", retry_after_s=1) from None
    except NotDoneInTime:
        raise Problem(NOT_LEADER, "history is busy; try again", retry_after_s=5) from None
