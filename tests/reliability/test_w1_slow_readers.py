"""W1: clients that do not read cost nobody else anything: no update, no order, no memory without bound.

COUNT_W1 slow readers (10; 50 in a release) beside five healthy ones. What the healthy ones' delays were with
and without them is printed; it is judged by people, on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket

from tests.feed.feed_venue import FeedVenue, feed_venue
from tests.reliability.readers import Readers, percentile, resident_bytes, run

SLOW = int(os.environ.get("COUNT_W1", "10"))
BATCHES = 40
UNREAD_BYTES_MAX = 5 << 20
"""What one connection may leave unread in the feed, by its own bounds."""


def deaf(port: int, symbol: str) -> socket.socket:
    """A connection that subscribes to everything and never reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.connect(("127.0.0.1", port))
    sock.sendall(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    channels = [{"name": "book", "symbols": [symbol], "depth": depth} for depth in (100, 500, 1000)]
    channels += [{"name": name, "symbols": [symbol]} for name in ("book_l3", "trades", "ticker", "candles")]
    body = json.dumps({"op": "subscribe", "id": 1, "channels": channels}).encode()
    sock.sendall(b"\x81\xfe" + len(body).to_bytes(2, "big") + bytes(4) + body)
    return sock


async def load(venue: FeedVenue, symbol: str, readers: Readers) -> None:
    """Batches that change many levels; returns when every reader has the last of them."""
    trader = venue.account(mode="limits")
    reply = None
    for number in range(BATCHES):
        side, base = ("buy", 1_000) if number % 2 else ("sell", 5_000)
        orders = [
            {
                "symbol": symbol, "side": side, "type": "limit", "quantity": f"{number + 1}.123",
                "price": f"{base + n}.01",
            }
            for n in range(250)
        ]  # fmt: skip
        reply = await asyncio.to_thread(trader.post, "/orders/batch", {"orders": orders})
        assert reply.status == 200
    assert reply is not None
    # The last batch may lie below the levels in view: one order at the top shows where the end is.
    last = await asyncio.to_thread(trader.placed, symbol, "buy", f"{BATCHES}", "4000")
    await readers.until_at(last["seq"], 60)
    await asyncio.to_thread(trader.delete, f"/orders/{last['order_id']}")


def test_healthy_readers_do_not_notice_the_slow_ones(tmp_path):
    with feed_venue(tmp_path) as venue:
        symbol = venue.market()
        pid = venue.processes["feed"].pid

        async def watched() -> list[int]:
            readers = Readers(venue.ws_port, symbol, 5)
            await readers.connect()
            await load(venue, symbol, readers)
            for reader in readers.readers:
                assert (reader.snapshots, reader.broken, reader.ended) == (1, 0, False)
            readers.close()
            return readers.heard.delays

        alone = run(watched())
        before = resident_bytes(pid)
        slow = [deaf(venue.ws_port, symbol) for _ in range(SLOW)]
        beside = run(watched())
        grown = resident_bytes(pid) - before
        for sock in slow:
            sock.close()

        p99s = [percentile(delays, 0.99) / 1000 for delays in (alone, beside)]
        print(
            f"\nW1: {SLOW} slow readers; p99 of the healthy {p99s[0]:.0f} µs without, {p99s[1]:.0f} µs with"
            f" them; {grown / SLOW / 1024:.0f} KiB for each slow one"
        )
        assert grown <= SLOW * UNREAD_BYTES_MAX
