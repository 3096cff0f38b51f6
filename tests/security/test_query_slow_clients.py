"""Clients that keep a thread of `query` waiting keep nobody else waiting.

The real server with a small application, in processes of its own. Run as a module this file is that server.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.adapters.server_process import HOST, free_ports, until_closed

HEAD_S = 1.0
GET = b"GET /api/v1/fills HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE_S = 10.0
"""Far more than any answer takes, on a busy machine too."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(HEAD_S) as port:
        yield port


@contextlib.contextmanager
def serving(head_s: float) -> Iterator[int]:
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", __name__, str(port), str(head_s)])
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                if answers(port, GET) == 1:
                    break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def connected(port: int, *pieces: bytes) -> socket.socket:
    connection = socket.create_connection((HOST, port), timeout=PATIENCE_S)
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(0.05)
    return connection


def answers(port: int, *pieces: bytes, count: int = 1) -> int:
    """How many answers of so many came."""
    received = b""
    with connected(port, *pieces) as connection, contextlib.suppress(TimeoutError):
        while received.count(b"HTTP/1.1 200") < count and (more := connection.recv(1 << 16)):
            received += more
    return received.count(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        GET[:-2],
        # Answered, but it does not hang up.
        GET.replace(b"/api", b"/close/api"),
        GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 100\r\n\r\nx"),
        GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"),
    ],
    ids=["silent", "a byte", "half a head", "stays", "half a body", "half a chunk"],
)
def test_who_keeps_still_keeps_nobody_else_waiting(port: int, sent: bytes) -> None:
    with contextlib.ExitStack() as still:
        for _ in range(40):
            still.enter_context(connected(port, *([sent] if sent else [])))

        assert [answers(port, GET) for _ in range(6)] == [1] * 6


def test_half_a_head_of_one_that_has_closed_its_side_is_not_waited_for() -> None:
    with serving(60 * PATIENCE_S) as port, connected(port, GET[:-2]) as half, connected(port) as whole:
        half.shutdown(socket.SHUT_WR)
        # Both in one segment: when the request is seen its sender has closed already.
        whole.send(GET, socket.MSG_MORE)
        whole.shutdown(socket.SHUT_WR)

        # It would be looked at again and again: what has come of it wakes whoever waits for more.
        assert until_closed(half) == b""
        assert until_closed(whole).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("trickles", [False, True])
def test_a_head_that_does_not_end_is_cut(port: int, trickles: bool) -> None:
    with connected(port, b"GET / HTTP/1.1\r\nA: ") as connection:
        deadline = time.monotonic() + 10 * HEAD_S
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                if trickles:
                    connection.sendall(b"x")
                connection.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    assert connection.recv(100) == b""
                    break
            else:
                pytest.fail("it is still open")


def test_a_head_that_is_too_large_is_told_so(port: int) -> None:
    with connected(port, b"GET / HTTP/1.1\r\nA: " + b"x" * (17 << 10)) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert until_closed(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("cut", [1, 20, len(GET) - 1, len(GET) + 5])
def test_requests_are_answered_however_they_are_cut(port: int, cut: int) -> None:
    stream = GET * 4

    assert answers(port, stream[:cut], stream[cut:], count=4) == 4


def serve(port: int, head_s: float) -> int:
    from tradsys.adapters.query import server

    def app(environ, start_response):
        closing = [("Connection", "close")] if environ["PATH_INFO"].startswith("/close") else []
        start_response("200 OK", [("Content-Length", "2"), *closing])
        return [b"{}"]

    server.HEAD_S = head_s
    return server.QueryServer(
        lambda place: app, HOST, port, started=lambda: None, forked=lambda: None, ended=lambda: None
    ).serve()


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[1]), float(sys.argv[2])))
