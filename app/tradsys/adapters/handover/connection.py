"""HTTP/1.1 to the venue's own listeners from an asyncio loop: one request under way at a time."""

from __future__ import annotations

import asyncio
import re
from typing import cast

from msgspec import Struct

CONNECT_S = 1.0
HEAD_BYTES_MAX = 16_384

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,12})\r\n", re.I)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.I)


class Unreachable(Exception):
    """Nobody listens there: nothing was sent."""


class Lost(Exception):
    """Something was sent and no answer came: whether it was done is unknown."""


class Response(Struct, frozen=True):
    status: int
    body: bytes


class Connection:
    """A kept-alive connection, opened when it is needed. Not for two requests at once."""

    def __init__(self, host: str, port: int, answer_s: float) -> None:
        self._host, self._port, self._answer_s = host, port, answer_s
        self.host_line = f"Host: {host}:{port}\r\n"
        self._wire: _Wire | None = None

    @property
    def is_open(self) -> bool:
        return self._wire is not None and not self._wire.ended

    async def request(self, head: str, body: bytes = b"") -> Response:
        """Send a request (`head` ends before its last empty line) and wait. Raises Unreachable, Lost."""
        wire = self._wire
        if wire is None or wire.ended:
            wire = self._wire = await self._connect()
        try:
            return await asyncio.wait_for(wire.ask(head.encode("latin-1") + b"\r\n" + body), self._answer_s)
        except BaseException as fault:
            # Also when the caller is cancelled: the answer that still comes must not meet the next request.
            self.close()
            if isinstance(fault, TimeoutError):
                raise Lost("no answer in time") from None
            raise

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        try:
            _, wire = await asyncio.wait_for(loop.create_connection(_Wire, self._host, self._port), CONNECT_S)
        except (OSError, TimeoutError) as fault:
            raise Unreachable(f"{self._host}:{self._port}: {fault or 'no answer'}") from None
        return wire

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class _Wire(asyncio.Protocol):
    def __init__(self) -> None:
        self.ended = False
        self._received = bytearray()
        self._answer: asyncio.Future[Response] | None = None
        self._transport: asyncio.Transport

    def ask(self, request: bytes) -> asyncio.Future[Response]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self.ended = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection was closed")

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            if len(received) > HEAD_BYTES_MAX:
                self._fail("an endless head")
            return
        head = bytes(received[: end + 2])
        length = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 ") or length is None:
            self._fail("no answer of ours")
            return
        whole = end + 4 + int(length[1])
        if len(received) < whole:
            return
        response = Response(int(head[9:12]), bytes(received[end + 4 : whole]))
        del received[:whole]
        if _CLOSE.search(head):
            self.close()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(response)

    def _fail(self, why: str) -> None:
        if not self.ended:
            self.close()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(Lost(why))
