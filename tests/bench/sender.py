"""Plain sockets that send what was encoded before: as cheap as a client in Python can be.

`drive` is a closed loop: each connection sends its next request when the answer to the last one is there.
`offer` is an open loop: requests are due at fixed times, and latency counts from then, so that a venue that
stalls is charged for everything that had to wait (no coordinated omission).
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence

from msgspec import Struct

HOST = "127.0.0.1"
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.I)
READ_BYTES = 1 << 18
PATIENCE_S = 20.0

Lane = Generator[bytes, bytes, None]
"""Gives the requests of one connection, and is sent the body of each answer."""


class Strange(Exception):
    """An answer that is none of those expected, or no answer at all."""


class Connection:
    """One request under way at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.status = 0
        """Of the last answer."""
        self.due_ns = 0
        self._pieces = bytearray()

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, request: bytes | bytearray) -> None:
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The body of the answer; None: it is not all here. Raises Strange if the venue hangs up."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise Strange("the venue hung up")
        pieces = self._pieces
        pieces += data
        end = pieces.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = LENGTH.search(pieces, 0, end + 2)
        if length is None:
            raise Strange(bytes(pieces[:200]).decode("latin-1"))
        if len(pieces) < end + 4 + int(length[1]):
            return None
        self.status = int(pieces[9:12])
        body = bytes(pieces[end + 4 :])
        pieces.clear()
        return body

    def close(self) -> None:
        self.socket.close()


def request(method: str, path: str, token: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = (
        f"{method} /api/v1{path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def drive(
    port: int,
    lanes: Sequence[tuple[bytes, Lane]],
    seconds: float,
    statuses: Counter[int] | None = None,
) -> tuple[int, float]:
    """Until each lane ends or the time is over: (requests that were answered, seconds).

    A lane comes with its first request: what it encodes before that is not on the clock. With `statuses`,
    answers are counted there, whatever they are; without, one that is not 200 raises Strange.
    """
    poll = select.epoll()
    under_way: dict[int, tuple[Connection, Lane]] = {}
    answered = 0
    began = time.monotonic()
    try:
        for first, lane in lanes:
            connection = Connection(port)
            under_way[connection.fileno()] = connection, lane
            poll.register(connection.fileno(), select.EPOLLIN)
            connection.send(first)
        while under_way:
            events = poll.poll(PATIENCE_S)
            if not events:
                raise Strange(f"no answer within {PATIENCE_S:.0f} s")
            for fd, _ in events:
                connection, lane = under_way[fd]
                body = connection.receive()
                if body is None:
                    continue
                if statuses is not None:
                    statuses[connection.status] += 1
                elif connection.status != 200:
                    raise Strange(f"{connection.status}: {body[:300].decode('latin-1')}")
                answered += 1
                try:
                    coming = lane.send(body)
                except StopIteration:
                    coming = b""
                if coming and time.monotonic() < began + seconds:
                    connection.send(coming)
                else:
                    poll.unregister(fd)
                    connection.close()
                    del under_way[fd]
    finally:
        for connection, _ in under_way.values():
            connection.close()
        poll.close()
    return answered, time.monotonic() - began


class Offered(Struct):
    """What became of an open loop."""

    latencies_ns: list[int]
    """From due to answered, sorted."""
    seconds: float
    """Until the last answer."""

    def us(self, percent: float) -> float:
        found = self.latencies_ns
        return found[min(len(found) - 1, int(len(found) * percent / 100))] / 1000

    @property
    def per_s(self) -> float:
        return len(self.latencies_ns) / self.seconds


def offer(port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int) -> Offered:
    """Send `rate` requests a second at even distances, over as many connections as are free."""
    open_ = [Connection(port) for _ in range(connections)]
    free = deque(open_)
    count = max(1, int(rate * seconds))
    step_ns = 1e9 / rate
    latencies: list[int] = []
    sent = 0
    start = time.perf_counter_ns() + 1_000_000
    try:
        while len(latencies) < count:
            now = time.perf_counter_ns()
            while free and sent < count and (due := start + int(sent * step_ns)) <= now:
                connection = free.popleft()
                connection.due_ns = due
                connection.send(requests[sent % len(requests)])
                sent += 1
            wait_s = 1.0
            if free and sent < count:
                wait_s = max(0, start + int(sent * step_ns) - time.perf_counter_ns()) / 1e9
            # select, not epoll: its timeout counts microseconds, epoll's milliseconds.
            ready, _, _ = select.select(open_, [], [], wait_s)
            for connection in ready:
                body = connection.receive()
                if body is None:
                    continue
                latencies.append(time.perf_counter_ns() - connection.due_ns)
                if connection.status != 200:
                    raise Strange(f"{connection.status}: {body[:300].decode('latin-1')}")
                free.append(connection)
    finally:
        for connection in open_:
            connection.close()
    took = (time.perf_counter_ns() - start) / 1e9
    return Offered(sorted(latencies), took)
