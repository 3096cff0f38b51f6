"""W2: very many readers of one book: all of them stay connected, in step and up to date, in little memory.

COUNT_W2 connections (200; 10,000 in a release). What the feed needs for each is measured and bounded.
"""

from __future__ import annotations

import asyncio
import os
import time

from tests.feed.feed_venue import feed_venue
from tests.reliability.readers import Readers, percentile, resident_bytes, run

READERS = int(os.environ.get("COUNT_W2", "200"))
ORDERS = 400
BYTES_EACH_MAX = 32 << 10


def test_readers_beyond_counting_are_all_up_to_date(tmp_path):
    with feed_venue(tmp_path, max_connections=READERS + 50) as venue:
        symbol = venue.market()
        trader = venue.account(mode="limits")
        pid = venue.processes["feed"].pid
        trader.placed(symbol, "buy", "1", "99")
        before = resident_bytes(pid)

        async def watch() -> Readers:
            readers = Readers(venue.ws_port, symbol, READERS)
            await readers.connect()
            each = (resident_bytes(pid) - before) / READERS
            began = time.monotonic()
            last = 0
            for number in range(ORDERS):
                placed = await asyncio.to_thread(
                    trader.placed, symbol, "buy", f"{1 + number % 7}", f"{100 + number % 10}"
                )
                last = placed["seq"]
            sent = time.monotonic() - began
            await readers.until_at(last, 60)
            caught_up = time.monotonic() - began - sent
            grown = (resident_bytes(pid) - before) / READERS
            book = venue.ok(venue.call("GET", f"/market/{symbol}/book?depth=10"))
            said = {(reader.seq, reader.checksum) for reader in readers.readers}
            assert said == {(last, book["checksum"])}
            assert not sum(reader.broken for reader in readers.readers)
            assert not any(reader.ended for reader in readers.readers)
            frames = sum(reader.frames for reader in readers.readers)
            p50, p99 = (percentile(readers.delays, share) / 1e6 for share in (0.5, 0.99))
            print(
                f"\nW2: {READERS} readers, {each / 1024:.1f} KiB each connected, {grown / 1024:.1f} after;"
                f"\n    {ORDERS} orders in {sent:.1f} s, {frames} frames; the last reader had the last one"
                f" after {caught_up * 1000:.0f} ms; delay p50 {p50:.1f} ms, p99 {p99:.1f} ms"
            )
            assert grown <= BYTES_EACH_MAX or READERS < 1000
            readers.close()
            return readers

        run(watch())
        with venue.feed() as late:
            late.subscribe("book", symbol, depth=10)
            assert late.asked("ping")
