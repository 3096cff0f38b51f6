"""What an order notices of a snapshot of nearly a million others.

The book is filled with resting orders; then one moderate rate of single orders twice in turn: as it is, and
while `history` writes a snapshot and another process loads it to see that it holds. The engine's own
histogram of orders, and the client's times from when each order was due.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from loadtests.slo.histograms import Histogram
from tests.api.venue_process import RunningVenue
from tests.bench.batch import catch_up
from tests.bench.processes import pinned_venue
from tests.bench.promise import Bench
from tests.bench.sender import Lane, Offered, drive, offer, request
from tests.bench.tail import CONNECTIONS, bodies, of_orders, said, settle

ORDERS = 950_000
"""A shard may have a million, and what is offered rests, too."""
ACCOUNTS = 5
"""One may have 200,000 open orders."""
A_BATCH = 1_000
RATE = 1_000.0


def measure(bench: Bench) -> None:
    orders = bench.sized(ORDERS, 10_000, "ORDERS")
    rounds, seconds = bench.sized(2, 1, "ROUNDS"), bench.sized(8, 1, "SECONDS_EACH")
    with (
        tempfile.TemporaryDirectory(prefix="snapshot-") as place,
        pinned_venue(Path(place), ("engine", "history"), segment_bytes=256 << 20) as venue,
    ):
        token = venue.token("demo", ttl_s=36_000)
        tokens = [venue.account("limits").token for _ in range(ACCOUNTS)]
        bench.tell(f"{orders:,} orders to rest")
        lanes = [_resting(one, i, orders // ACCOUNTS) for i, one in enumerate(tokens)]
        answered, took = drive(venue.ports["port"], [(next(lane), lane) for lane in lanes], 3_600)
        assert answered * A_BATCH == orders
        bench.tell(f"they rest after {took:.0f} s; history follows")
        _, left, _ = catch_up(venue, 600)
        assert not left, "history does not follow"
        requests = [request("POST", "/orders", token, body) for body in bodies()]
        whole: dict[str, Histogram] = {}
        runs: dict[str, list[Offered]] = {"without": [], "with": []}
        written: list[float] = []
        for number in range(rounds):
            for way, found in runs.items():
                bench.tell(f"{way} a snapshot, round {number + 1} of {rounds}")
                settle()
                before = of_orders(venue)
                writer = threading.Thread(target=_snapshot, args=(venue, written))
                if way == "with":
                    writer.start()
                found.append(offer(venue.ports["port"], requests, RATE, seconds, CONNECTIONS))
                run = _orders_after(venue).minus(before)
                if writer.ident:
                    writer.join()
                whole[way] = whole[way].plus(run) if way in whole else run
    told = "; ".join(
        f"{way}: engine p99 {said(whole[way].percentile(99))}, p99.9 {said(whole[way].percentile(99.9))}, "
        f"client p99 {max(one.us(99) for one in found):,.0f}, p99.9 {max(one.us(99.9) for one in found):,.0f}"
        for way, found in runs.items()
    )
    ratio = whole["with"].percentile(99.9) / whole["without"].percentile(99.9)
    bench.at_most(
        "p99.9 of an order in the engine while a snapshot is written", 1.2, "×", [ratio],
        f"{orders:,} orders rest, REST, `process`, open loop of {RATE:,.0f}/s, {rounds} × {seconds} s "
        f"in turn; a snapshot with its verification {min(written):.1f} to {max(written):.1f} s; µs: {told}",
        relative=True,
    )  # fmt: skip


def _resting(token: str, lane: int, orders: int) -> Lane:
    """Batches of buys far below the market, at 500 prices, all of which rest."""

    for first in range(0, orders, A_BATCH):
        several = [
            {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "0.01",
             "price": f"{10_000 + lane + (first + i) % 500 / 100:.2f}"}
            for i in range(A_BATCH)
        ]  # fmt: skip
        reply = yield request("POST", "/orders/batch", token, json.dumps({"orders": several}).encode())
        assert reply.count(b'"ok":true') == A_BATCH, reply[:300]


def _orders_after(venue: RunningVenue) -> Histogram:
    settle()
    return of_orders(venue)


def _snapshot(venue: RunningVenue, written: list[float]) -> None:
    began = time.monotonic()
    url = f"http://127.0.0.1:{venue.ports['history_port']}/internal/snapshot"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=300) as answer:
        assert answer.status == 200
    written.append(time.monotonic() - began)
