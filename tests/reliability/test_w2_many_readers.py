"""W2: very many readers of one book: all of them stay connected, in step and up to date, in little memory.

COUNT_W2 connections (200; 10,000 in a release). What the feed needs for each is measured and bounded; the p99
of orders without and with them is printed here, and judged by `make bench ONLY=websocket`.
"""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from tests.bench.sender import Offered, offer, request
from tests.feed.feed_venue import feed_venue
from tests.reliability.readers import Readers, beside, percentile, resident_bytes, run

READERS = int(os.environ.get("COUNT_W2", "200"))
RATE, SECONDS = 200, 2
BYTES_EACH_MAX = 32 << 10


@pytest.mark.timeout(120 + READERS // 40)
def test_readers_beyond_counting_are_all_up_to_date(tmp_path):
    with feed_venue(tmp_path, max_connections=READERS + 50) as venue, beside() as sender:
        symbol = venue.market()
        trader = venue.account(mode="limits")
        pid = venue.processes["feed"].pid
        requests = [
            request(
                "POST", "/orders", trader.token,
                f'{{"symbol":"{symbol}","side":"buy","type":"limit","quantity":"{1 + n % 7}",'
                f'"price":"{100 + n % 10}"}}'.encode(),
            )
            for n in range(70)
        ]  # fmt: skip

        def orders() -> Offered:
            return sender.submit(offer, venue.ports["port"], requests, RATE, SECONDS, 4).result()

        orders()
        alone = orders()
        before = resident_bytes(pid)

        async def watch() -> None:
            readers = Readers(venue.ws_port, symbol, READERS)
            began = time.monotonic()
            await readers.connect(60 + READERS / 100)
            connecting = time.monotonic() - began
            each = (resident_bytes(pid) - before) / READERS
            with_readers = await asyncio.to_thread(orders)
            last = (await asyncio.to_thread(trader.placed, symbol, "buy", "1", "110"))["seq"]
            began = time.monotonic()
            await readers.until_at(last, 60)
            caught_up = time.monotonic() - began
            grown = (resident_bytes(pid) - before) / READERS
            book = venue.ok(await asyncio.to_thread(venue.call, "GET", f"/market/{symbol}/book?depth=10"))
            said = {(reader.seq, reader.checksum) for reader in readers.readers}
            assert said == {(last, book["checksum"])}
            assert not sum(reader.broken for reader in readers.readers)
            assert not any(reader.ended for reader in readers.readers)
            frames = sum(reader.frames for reader in readers.readers)
            ends = list(zip(*readers.heard.spread.values(), strict=True))
            (first50, first99), (last50, last99) = (
                [percentile(delays, share) / 1e6 for share in (0.5, 0.99)] for delays in ends
            )
            print(
                f"\nW2: {READERS} readers within {connecting:.1f} s, {each / 1024:.1f} KiB each connected,"
                f" {grown / 1024:.1f} after;"
                f"\n    {RATE * SECONDS} orders in {with_readers.seconds:.1f} s, p99 {alone.us(99):.0f} us"
                f" without and {with_readers.us(99):.0f} us with them;"
                f"\n    {len(readers.heard.spread)} changes, {frames} frames; of each the first reader had"
                f" p50 {first50:.2f}, p99 {first99:.2f} ms, the last p50 {last50:.1f}, p99 {last99:.1f} ms;"
                f"\n    all had the last one after {caught_up * 1000:.0f} ms"
            )
            assert grown <= BYTES_EACH_MAX or READERS < 1000
            readers.close()

        run(watch())
        with venue.feed() as late:
            late.subscribe("book", symbol, depth=10)
            assert late.asked("ping")
