"""Spans of requests, on their way to a process that exports them.

A request that is traced costs its process a few small objects. What has gathered goes through a socket to a
child (`exporter.py`), a few times a second and never waiting: a queue that is full, or a child that is slow,
costs spans, which are counted, and nothing else. A thread would be no child: it would take the interpreter
from the loop for milliseconds.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from random import Random

import msgspec
from msgspec import Struct

QUEUE_MAX = 2_000
"""Spans that wait; more are dropped."""
FLUSH_MAX = 500
"""Spans that leave in one flush, which takes about a microsecond for each."""
MESSAGE_SPANS = 100
INTERNAL, SERVER = 0, 1
"""Kinds, by the numbers that OpenTelemetry's SDK has for them."""

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
_encode = msgspec.msgpack.Encoder().encode


class Span(Struct, array_like=True):
    """Times are unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str
    """"": it is the first of its trace."""
    name: str
    kind: int
    began_ns: int
    ended_ns: int
    attributes: dict[str, str | int]
    error: bool = False


class Begun(Struct, frozen=True):
    """A span that is under way."""

    trace_id: str
    span_id: str
    parent_id: str

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


class Spans:
    def __init__(self, out: socket.socket, one_in: int, counted: Callable[[int, int], None]) -> None:
        """One of `one_in` requests without a `traceparent` is traced. `counted` hears of spans that were
        (handed over, dropped)."""
        self._out = out
        self._one_in = self._left = one_in
        self._counted = counted
        self._queue: list[Span] = []
        self._random = Random()
        self._dropped = 0

    def due(self) -> bool:
        """A request without a `traceparent` comes: is it one to trace? Then `begin` must follow."""
        if self._left > 1:
            self._left -= 1
            return False
        return True

    def begin(self, traceparent: str | None) -> Begun | None:
        """The span of a request, if it is to be traced: as its `traceparent` says, or by its turn."""
        sent = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        if sent is not None:
            if not int(sent[3], 16) & 1:
                return None
            return Begun(sent[1], self._id(64), sent[2])
        if not self.due():
            return None
        self._left = self._one_in
        return Begun(self._id(128), self._id(64), "")

    def end(
        self,
        span: Begun,
        name: str,
        began_ns: int,
        ended_ns: int,
        attributes: dict[str, str | int],
        error: bool,
    ) -> None:
        """A request has its answer."""
        self._add(
            Span(
                span.trace_id,
                span.span_id,
                span.parent_id,
                name,
                SERVER,
                began_ns,
                ended_ns,
                attributes,
                error,
            )
        )

    def part(self, span: Begun, name: str, began_ns: int, ended_ns: int) -> None:
        """A stage of a request."""
        self._add(Span(span.trace_id, self._id(64), span.span_id, name, INTERNAL, began_ns, ended_ns, {}))

    def _add(self, span: Span) -> None:
        if len(self._queue) < QUEUE_MAX:
            self._queue.append(span)
        else:
            self._dropped += 1

    def flush(self) -> None:
        """Hand over what has gathered, as far as that needs no waiting."""
        handed, dropped = 0, self._dropped
        self._dropped = 0
        leaving, self._queue = self._queue[:FLUSH_MAX], self._queue[FLUSH_MAX:]
        for at in range(0, len(leaving), MESSAGE_SPANS):
            some = leaving[at : at + MESSAGE_SPANS]
            try:
                self._out.send(_encode(some), socket.MSG_DONTWAIT)
                handed += len(some)
            except OSError:
                dropped += len(some)
        if handed or dropped:
            self._counted(handed, dropped)

    def _id(self, bits: int) -> str:
        return f"{self._random.getrandbits(bits) or 1:0{bits // 4}x}"


def start_exporter(endpoint: str, process: str, shard: str) -> socket.socket:
    """The way to a child that exports to a receiver of OTLP, and ends when nobody holds this end any more."""
    # Messages stay whole, as in a datagram socket, and are bounded by bytes, not by a handful of messages.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        program = [sys.executable, "-m", "tradsys.adapters.tracing.exporter"]
        subprocess.Popen(
            [*program, str(theirs.fileno()), endpoint, process, shard],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    return ours
