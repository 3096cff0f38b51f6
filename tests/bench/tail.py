"""Latency against offered rate, up to saturation; and what else the venue does, switched off in turn.

An open loop of single orders at even distances: latency counts from when an order was due, so that a stall
is charged for all that had to wait. The same on an empty handler (floor.py). Then one rate, and in turn
`history` stopped and running, and its /metrics asked twenty times a second or not at all: the engine's own
histogram of orders says what of it reaches the tail. (Its process that syncs goes on meanwhile.)
"""

from __future__ import annotations

import math
import os
import signal
import tempfile
import threading
from pathlib import Path
from random import Random

from loadtests.slo.histograms import Histogram
from tests.api.venue_process import RunningVenue
from tests.bench.processes import floor_server, pinned_venue, scrape
from tests.bench.promise import Bench, Line, Plot
from tests.bench.sender import Lane, Offered, drive, offer, request
from tradsys.client.http import Connection

CONNECTIONS = 16
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
"""Of what a closed loop reaches."""
MODERATE = 0.3
PERCENTS = (50.0, 99.0, 99.9)
SCRAPES_PER_S = 20
SETTLE_S = 2.2
"""Until the engine's counters are in the metrics for certain."""


def bodies() -> list[bytes]:
    """As wrk sends them: prices within 0.20 of 50,000, both sides, so that most of them trade."""
    draw = Random(20261122)
    return [
        f'{{"symbol":"BTC-USD","side":"{draw.choice(("buy", "sell"))}","type":"limit","time_in_force":"gtc",'
        f'"price":"{50_000 + draw.randint(-20, 20) / 100:.2f}",'
        f'"quantity":"{draw.randint(1, 100) / 100:.2f}"}}'
        .encode()
        for _ in range(20_000)
    ]  # fmt: skip


def _endless(requests: list[bytes], first: int) -> Lane:
    while True:
        first = (first + 1) % len(requests)
        yield requests[first]


def measure(bench: Bench) -> None:
    seconds = bench.sized(4, 1, "SECONDS_EACH")
    with (
        tempfile.TemporaryDirectory(prefix="tail-") as place,
        pinned_venue(Path(place), ("engine", "history")) as venue,
        floor_server() as (floor_port, _),
    ):
        token = venue.token("demo", ttl_s=36_000)
        requests = [request("POST", "/orders", token, body) for body in bodies()]
        port = venue.ports["port"]
        bench.tell("how much a closed loop reaches")
        lanes = [_endless(requests, 1_000 * i) for i in range(CONNECTIONS)]
        answered, took = drive(port, [(next(lane), lane) for lane in lanes], seconds)
        most = answered / took
        curves: dict[str, list[Offered]] = {"venue": [], "floor": []}
        shares = SHARES if not bench.smoke else (MODERATE,)
        for share in shares:
            bench.tell(f"{share:.0%} of {most:,.0f} orders a second")
            for name, at in (("venue", port), ("floor", floor_port)):
                curves[name].append(offer(at, requests, share * most, seconds, CONNECTIONS))
        rates = [round(share * most) for share in shares]
        _tell_of_curves(bench, rates, curves, most, seconds)
        _tell_of_others(bench, venue, requests, MODERATE * most, seconds)


def _tell_of_curves(
    bench: Bench, rates: list[int], curves: dict[str, list[Offered]], most: float, seconds: int
) -> None:
    bench.found.plots.append(
        Plot(
            "Latency of an order from when it was due, by offered rate", "orders a second", "µs",
            [Line(f"{name} p{percent:g}", [float(rate) for rate in rates], [one.us(percent) for one in runs])
             for name, runs in curves.items() for percent in PERCENTS],
            log_y=True,
            note=f"REST, `process`, {CONNECTIONS} connections, {seconds} s each. A closed loop reaches "
            f"{most:,.0f} orders a second. The floor is an empty handler on the same server.",
        )
    )  # fmt: skip
    bench.found.figures["by offered rate"] = [
        {"offered_per_s": rate} | {
            name: {f"p{percent:g}_us": round(runs[i].us(percent)) for percent in PERCENTS}
            | {"answered_per_s": round(runs[i].per_s)}
            for name, runs in curves.items()}
        for i, rate in enumerate(rates)
    ]  # fmt: skip
    at = min(range(len(rates)), key=lambda i: abs(rates[i] - MODERATE * most))
    ours, bare = curves["venue"][at], curves["floor"][at]
    bench.at_most(
        f"an order at the socket, {MODERATE:.0%} of the rate of saturation: p99", 150, "µs", [ours.us(99)],
        f"REST, `process`, open loop of {rates[at]:,}/s, {CONNECTIONS} connections, latency from when it was "
        f"due; p50 {ours.us(50):,.0f}, p99.9 {ours.us(99.9):,.0f}; floor p50 {bare.us(50):,.0f}, "
        f"p99 {bare.us(99):,.0f}",
    )  # fmt: skip


def of_orders(venue: RunningVenue) -> Histogram:
    return scrape(venue).histogram("hft_order_latency_microseconds", 1)


def _tell_of_others(
    bench: Bench, venue: RunningVenue, requests: list[bytes], rate: float, seconds: int
) -> None:
    """The engine's own p99 and p99.9, with and without what goes on beside it."""
    port, history = venue.ports["port"], venue.processes["history"].pid
    rounds = bench.sized(3, 1, "ROUNDS")
    ways = ("as it is", "history stopped", f"{SCRAPES_PER_S} scrapes a second")
    whole: dict[str, Histogram] = {}
    for number in range(rounds):
        for way in ways:
            bench.tell(f"{way}, round {number + 1} of {rounds}")
            settle()
            before = of_orders(venue)
            done = threading.Event()
            scraper = threading.Thread(target=_scrape_on, args=(venue.ports["history_port"], done))
            if way == ways[1]:
                os.kill(history, signal.SIGSTOP)
            elif way == ways[2]:
                scraper.start()
            try:
                offer(port, requests, rate, seconds, CONNECTIONS)
            finally:
                os.kill(history, signal.SIGCONT)
                done.set()
                if scraper.ident:
                    scraper.join()
            settle()
            run = of_orders(venue).minus(before)
            whole[way] = whole[way].plus(run) if way in whole else run
    found = {
        way: {f"p{percent:g}_us": said(histogram.percentile(percent)) for percent in PERCENTS}
        | {"orders": int(histogram.count)}
        for way, histogram in whole.items()
    }
    bench.found.figures["the engine's own histogram"] = found
    own = found[ways[0]]
    told = "; ".join(f"{way}: p99 {found[way]['p99_us']}, p99.9 {found[way]['p99.9_us']}" for way in ways[1:])
    bench.at_most(
        "an order inside the engine: p99", 100, "µs", [own["p99_us"]],
        f"REST, `process`, open loop of {rate:,.0f}/s, {rounds} rounds of {seconds} s in turn, the engine's "
        f"own histogram; p50 {own['p50_us']}, p99.9 {own['p99.9_us']}; {told}",
    )  # fmt: skip


def said(us: float) -> float:
    return 0.0 if math.isnan(us) else round(us, 1)


def settle() -> None:
    threading.Event().wait(SETTLE_S)


def _scrape_on(port: int, done: threading.Event) -> None:
    connection = Connection(f"http://127.0.0.1:{port}")
    while not done.wait(1 / SCRAPES_PER_S):
        connection.send("GET", "/metrics", "", b"")
        connection.receive()
    connection.close()
