"""Many WebSocket readers in one thread, each as cheap as can be: bin.v2 books, checked without being kept.

A reader holds each frame against the rules (dense numbers) and remembers what the last one said of the
book; its checksum must be the engine's in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import struct
import time
from collections.abc import Sequence
from typing import Any

import uvloop
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

HEADER = struct.Struct("<BBHIQ")
BOOK = struct.Struct("<QQqI")
AT_ONCE = 100
TRIES = 5


class Reader(WSListener):
    """One subscription to a book, depth 10."""

    def __init__(self, symbol: str, delays: list[int]) -> None:
        super().__init__()
        self._symbol = symbol
        self._delays = delays
        """Of all readers: event to here, in ns, one for each frame."""
        self.transport: WSTransport
        self.seq = self.dense_seq = self.checksum = -1
        self.frames = self.snapshots = self.broken = 0
        self.ended = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        channel = {"name": "book", "symbols": [self._symbol], "depth": 10}
        request = {"op": "subscribe", "id": 1, "channels": [channel]}
        transport.send(WSMsgType.TEXT, json.dumps(request).encode())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.ended = True

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.BINARY:
            return
        data = frame.get_payload_as_memoryview()
        _, flags, _, _, dense_seq = HEADER.unpack_from(data)
        if flags & 2:
            self.snapshots += 1
        elif dense_seq != self.dense_seq + 1:
            self.broken += 1
        self.dense_seq = dense_seq
        _, self.seq, time_ns, self.checksum = BOOK.unpack_from(data, HEADER.size)
        self.frames += 1
        if not flags & 2:
            self._delays.append(time.time_ns() - time_ns)


class Readers:
    """Connections in a loop of their own thread; made with `with`."""

    def __init__(self, port: int, symbol: str, count: int) -> None:
        self._url = f"ws://127.0.0.1:{port}/ws"
        self._symbol, self._count = symbol, count
        self.delays: list[int] = []
        self.readers: list[Reader] = []

    async def connect(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, self._count + 200)), hard))
        while len(self.readers) < self._count:
            some = min(AT_ONCE, self._count - len(self.readers))
            self.readers += await asyncio.gather(*(self._one() for _ in range(some)))
        while any(reader.seq < 0 for reader in self.readers):
            await asyncio.sleep(0.01)

    async def _one(self) -> Reader:
        headers = {"Sec-WebSocket-Protocol": "tradsys.bin.v2"}
        for _ in range(TRIES):
            # On a machine that does other work a handshake may take longer than the feed waits for it.
            with contextlib.suppress(OSError, WSError, TimeoutError):
                _, reader = await ws_connect(
                    lambda: Reader(self._symbol, self.delays),
                    self._url,
                    extra_headers=headers,
                    websocket_handshake_timeout=60,
                    logger_name="readers",
                )
                if isinstance(reader, Reader):
                    return reader
        raise AssertionError(f"no connection in {TRIES} tries")

    async def until_at(self, seq: int, within_s: float) -> None:
        """Every reader has seen the book as of a command, or as of a later one."""
        deadline = time.monotonic() + within_s
        while behind := sum(reader.seq < seq for reader in self.readers):
            assert time.monotonic() < deadline, f"{behind} of {self._count} are behind seq {seq}"
            await asyncio.sleep(0.01)

    def close(self) -> None:
        for reader in self.readers:
            reader.transport.disconnect()


def run(work: Any) -> Any:
    """A coroutine in a fast loop."""
    return uvloop.run(work)


def percentile(values: Sequence[int], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:")) * 1024
