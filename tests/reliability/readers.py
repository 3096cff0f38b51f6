"""Many WebSocket readers in one thread, each as cheap as can be: bin.v2 books, checked without being kept.

A reader holds each frame against the rules (dense numbers) and remembers what the last one said of the
book; its checksum must be the engine's in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import uvloop
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

HEADER = struct.Struct("<BBHIQ")
BOOK = struct.Struct("<QQqI")
AT_ONCE = 100
TRIES = 5
FILES_BESIDE = 200


class Heard:
    """What all readers have heard: delays from the engine's time of an order until a reader had it, in ns."""

    def __init__(self) -> None:
        self.delays: list[int] = []
        """One for each frame of each reader."""
        self.spread: dict[int, list[int]] = {}
        """By seq: of the first reader that had it, and of the last one."""

    def clear(self) -> None:
        self.delays.clear()
        self.spread.clear()


class Reader(WSListener):
    """One subscription to a book, depth 10."""

    def __init__(self, symbol: str, heard: Heard) -> None:
        super().__init__()
        self._symbol = symbol
        self._delays, self._spread = heard.delays, heard.spread
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
            delay = time.time_ns() - time_ns
            self._delays.append(delay)
            ends = self._spread.get(self.seq)
            if ends is None:
                self._spread[self.seq] = [delay, delay]
            else:
                ends[1] = delay


class Readers:
    """So many connections, all in the loop that connects them."""

    def __init__(self, port: int, symbol: str, count: int) -> None:
        self._url = f"ws://127.0.0.1:{port}/ws"
        self._symbol, self._count = symbol, count
        self.heard = Heard()
        self.readers: list[Reader] = []

    async def connect(self, within_s: float = 120) -> None:
        """All of them, until each has its first snapshot."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = self._count + FILES_BESIDE
        assert needed <= hard, f"{needed} open files are needed here and in the feed, {hard} are allowed"
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
        async with asyncio.timeout(within_s):
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
                    lambda: Reader(self._symbol, self.heard),
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


def _before_readers() -> None:
    """In life they have machines of their own; here who sends would wait for a CPU behind all of them."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


@contextlib.contextmanager
def beside() -> Iterator[ProcessPoolExecutor]:
    """A process beside this one, for what sends orders: here it would wait for the readers' interpreter,
    and the readers for it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _before_readers) as pool:
        pool.submit(time.time).result()
        yield pool


def percentile(values: Sequence[int], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:")) * 1024
