"""What the venue writes about itself: one JSON object a line, whatever came in, and never a secret."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.venue_process import API, HOST, RunningVenue, running_venue

CANARY = "CanaryCanaryCanary0123456789"
"""Stands in what no log may hold: tokens, bodies, queries."""


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    with running_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


_marks = itertools.count(1)


def lines(venue: RunningVenue) -> list[dict[str, Any]]:
    """All lines up to now, of which each has to be one JSON object (what a start says on stderr aside)."""
    mark = f"mark-{next(_marks)}"
    venue.call("GET", "/mark", headers={"X-Request-Id": mark})
    deadline = time.monotonic() + 10
    while f'"{mark}"'.encode() not in (written := venue.log()) or written[-1:] != b"\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = [json.loads(line) for line in written.splitlines() if not line.startswith(b"recovering: ")]
    return [line for line in found if line.get("path") != f"{API}/mark"]


def raw(venue: RunningVenue, request: bytes) -> bytes:
    with socket.create_connection((HOST, venue.ports["port"]), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while more := connection.recv(65536):
                received += more
        except ConnectionError:
            pass
    return received


HOSTILE = {
    "a line break": '%0a{"level":"error","event":"forged"}',
    "a carriage return": "%0d%0aforged: line",
    "a quote": '"},{"event":"forged',
    "a backslash": "\\\\%5c%22",
    "a terminal's escape": "%1b[2J%1b]0;owned%07%7f%c2%9b2J",
    "a NUL": "%00%01%02",
    "bytes that are no UTF-8": "%ff%fe%c0%af%ed%a0%80",
    "another direction": "%e2%80%ae%e2%80%a8%e2%80%a9",
    "raw UTF-8": "é😀".encode().decode("latin-1"),
    "raw bytes": "\xff\xfe",
    "a format": "{0}{self}%25s%25n${jndi:ldap://x}",
    "markup": "<script>alert(1)</script>",
    "very much of it": "A" * 12_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_path_is_one_line(venue: RunningVenue, name: str) -> None:
    text = HOSTILE[name].replace(" ", "%20").encode("latin-1")
    before = len(lines(venue))

    raw(
        venue,
        b"GET /api/v1/" + text + b" HTTP/1.1\r\nHost: x\r\nX-Request-Id: log-1\r\nConnection: close\r\n\r\n",
    )

    found = lines(venue)[before:]
    # Some of it the server itself refuses, before there is anything to log.
    assert len(found) <= 1
    for line in found:
        assert line["event"] == "request" and line["status"] in (400, 404)
        assert len(line["path"]) <= 256
        assert list(line) == [
            "ts", "level", "process", "event", "request_id", "method", "path", "status", "engine_us",
        ]  # fmt: skip
    assert venue.call("GET", "/time").status == 200


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_no_line(venue: RunningVenue, name: str) -> None:
    text = HOSTILE[name].encode("latin-1")
    before = len(lines(venue))

    for header in (b"X-Request-Id", b"User-Agent", b"Origin", b"Authorization", b"Referer"):
        raw(
            venue,
            b"GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\n"
            + header
            + b": "
            + text
            + b"\r\nConnection: close\r\n\r\n",
        )

    found = lines(venue)[before:]
    assert len(found) <= 5
    assert {(line["event"], line["path"]) for line in found} <= {("request", "/api/v1/nothing")}
    assert all(re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", line["request_id"]) for line in found)


def test_control_characters_never_reach_a_terminal(venue: RunningVenue) -> None:
    lines(venue)

    written = venue.log()

    assert not re.search(rb"[^\x20-\x7e\n]", written)


def test_an_error_is_told_with_its_request_id(venue: RunningVenue) -> None:
    reply = venue.call("GET", "/nothing", headers={"X-Request-Id": "find-me"})

    assert reply.status == 404
    (found,) = [line for line in lines(venue) if line["request_id"] == "find-me"]
    assert (found["level"], found["process"], found["method"]) == ("info", "engine", "GET")
    assert (found["path"], found["status"]) == ("/api/v1/nothing", 404)
    assert abs(int(found["ts"]) - time.time_ns()) < 60 * 10**9


def secrets_of(venue: RunningVenue) -> dict[str, bytes]:
    key = (venue.data / "hs256.key").read_bytes().strip()
    return {
        "key": key,
        "internal secret": (venue.data / "internal.secret").read_bytes(),
        "canary": CANARY.encode(),
    }


def test_no_secret_is_ever_logged(venue: RunningVenue) -> None:
    trader, market = venue.account("limits"), venue.market()
    good = trader.token
    changed = good[:-4] + "AAAA"
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "1"}
    internal = secrets_of(venue)["internal secret"].decode()

    trader.post("/orders", order)
    for body in (order | {"note": CANARY}, {CANARY: 1}, order | {"symbol": CANARY}, order | {"side": CANARY}):
        trader.post("/orders", body)
    trader.post("/orders", f'{{"{CANARY}'.encode())
    for token in (good, changed, CANARY, f"{CANARY}.{CANARY}.{CANARY}"):
        for path in ("/balances", "/orders/a-1", "/nothing"):
            venue.send("GET", f"{API}{path}", headers={"Authorization": f"Bearer {token}"})
            venue.send("GET", f"{API}{path}", headers={"Authorization": f"Basic {token}"})
            venue.send("GET", f"{API}{path}?token={token}&q={CANARY}", headers={"Cookie": f"t={token}"})
    venue.send(
        "POST", "/internal/commands", CANARY.encode(), {"X-Internal-Secret": internal},
        venue.ports["internal_port"],
    )  # fmt: skip
    venue.send("POST", "/internal/commands", b"", {"X-Internal-Secret": CANARY}, venue.ports["internal_port"])
    venue.admin("POST", "/tokens/revoke", {"jti": CANARY})
    raw(venue, f"GET /api/v1/time HTTP/1.1\r\nAuthorization: Bearer {CANARY}\r\n: broken\r\n\r\n".encode())
    venue.stop()
    venue.start()

    written = venue.log()
    for name, secret in secrets_of(venue).items():
        assert secret not in written, name
    for token in (good, changed):
        for part in token.split("."):
            # The header part is the same in all tokens; it tells nothing, and is not there either.
            assert part.encode() not in written
    assert b"eyJ" not in written


def test_secrets_stand_in_files_of_the_owner_only_and_on_no_command_line(venue: RunningVenue) -> None:
    for name in ("hs256.key", "internal.secret"):
        assert (venue.data / name).stat().st_mode & 0o777 == 0o600
    assert venue.data.stat().st_mode & 0o077 == 0
    process = Path(f"/proc/{venue.processes['engine'].pid}")
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()

    for name, secret in secrets_of(venue).items():
        assert secret not in shown, name


def test_a_fault_is_one_line_too(venue: RunningVenue) -> None:
    """The journal can't be written any more, the log can: the fault is told whole, and without secrets."""
    trader, market = venue.account("limits"), venue.market()
    process = venue.processes["engine"]
    segment = max(path.stat().st_size for path in venue.data.glob("*.log"))
    # Files may not grow beyond what the log has; the journal writes beyond that, into its segment.
    written = os.stat(venue.directory / "engine.log").st_size
    assert written + 100_000 < segment
    padding = {
        "orders": [{"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "1"}] * 1000
    }
    for _ in range(3):
        trader.post("/orders/batch", padding)
    venue.limit_files(written + 100_000)

    reply = trader.post("/orders/batch", padding)

    assert (reply.status, reply.code) == (503, 1001)
    assert process.wait(timeout=20) == 70
    del venue.processes["engine"]
    venue.hang_up()
    log = [line for line in venue.log().split(b"\n") if line.startswith(b"{")]
    faults = [line for line in map(json.loads, log) if line["event"] == "fault"]
    assert len(faults) == 1
    assert faults[0]["level"] == "error" and "JournalError" in faults[0]["error"]
    assert trader.token.encode() not in venue.log()
    venue.start()
