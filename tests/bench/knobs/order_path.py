"""One order's way through the real engine in this process, without a socket: WSGI in, journal, WSGI out.

    python -m tests.bench.knobs.order_path '{"pool": 0}'

Reads a number of orders from each line of stdin, does them, and prints figures as a line of JSON. Two such
processes that differ in one choice are the two sides of a knob; the one that is not asked sleeps.
"""

from __future__ import annotations

import gc
import io
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import falcon.testing
import msgspec
from msgspec import Struct

import tradsys.compose.engine as composed
from tradsys import metrics
from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.mint import mint
from tradsys.adapters.http.baseline import read_order, write_order
from tradsys.adapters.http.edge import Tally
from tradsys.cli.stages import Work
from tradsys.codec.json_order import reply_bytes_of
from tradsys.codec.json_v1 import decode_new_order
from tradsys.core.messages import PlaceOrder
from tradsys.settings import load

BLOCK = metrics.STAGES_SAMPLED
"""Orders that are counted together."""


class Choice(Struct, forbid_unknown_fields=True):
    """The defaults are profile `hft`."""

    pool: int = 1_000
    """order_pool_size"""
    codec: str = "msgspec"
    """or ujson"""
    collector: Literal["engine", "python", "frozen"] = "engine"
    """python: CPython's own, with its own thresholds; frozen: the same, but what was there before the first
    figure is not looked at any more"""
    counting: Literal["", "off", "on"] = ""
    """What counting costs: blocks of orders with it off or on, each beside one with it off."""
    turn: int = 1
    """So many orders are answered by one turn of the loop."""
    core_only: bool = False
    """Not the whole order but `Shard.apply`, over the model's flow with its cancels."""
    keyed: bool = False
    """Each order has a client_order_id, so that memory grows."""
    warm: int = 11_000
    """Orders before the first figure: above `closed_orders_max`, so that orders leave memory and the pool
    has some to give."""
    settings: dict[str, str] = {}
    """More settings, by their variables."""


class NoServer:
    stopping = False

    def connections(self) -> int:
        return 0

    def stop(self) -> None:
        raise SystemExit("the engine stops: its journal failed")


class Pauses:
    """Of the collector, in ns, whoever called it."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._began = 0
        gc.callbacks.append(self._hear)

    def _hear(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.perf_counter_ns()
        else:
            self.seen.append(time.perf_counter_ns() - self._began)


def orders(place: Path, choice: Choice) -> Callable[[int], dict[str, float]]:
    """Does so many orders through the engine's application, and gives its figures."""
    chosen = {"TRADSYS_DATA_DIR": str(place), "TRADSYS_ORDER_POOL_SIZE": str(choice.pool)} | choice.settings
    settings = load(chosen)
    codec = (read_order, write_order) if choice.codec == "ujson" else (decode_new_order, reply_bytes_of)
    engine = composed.Engine(settings, lambda environ, set_header: None, *codec)
    engine.server = NoServer()
    token = mint(
        HmacKey.load(place / "hs256.key"),
        "demo",
        "trade read",
        86_400,
        "tradsys",
        "tradsys",
        int(time.time()),
    )
    head = falcon.testing.create_environ(
        "/api/v1/orders",
        method="POST",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    # Side by side, so that they fill each other and the book stays small.
    bodies = [
        b'{"symbol":"BTC-USD","side":"%b","type":"limit","time_in_force":"gtc","price":"50000.%02d",'
        b'"quantity":"0.%02d"}' % (side, number % 40, 1 + number % 90)
        for number in range(500)
        for side in (b"buy", b"sell")
    ]
    app, commit, each_turn = engine.apps[settings.port], engine._commit_turn, engine.each_turn
    direct = engine.direct(head) if engine.direct is not None else None
    keys = itertools.count()
    refused: list[str] = []

    def start_response(status: str, headers: Any, fault: Any = None) -> None:
        if status != "200 OK":
            refused.append(status)

    def some(count: int, also: Callable[[], None] | None = None) -> None:
        for number in range(count):
            body = bodies[number % len(bodies)]
            if choice.keyed:
                body = b'{"client_order_id":"k%d",%b' % (next(keys), body[1:])
            # As the server does it: an order goes past the framework if it can.
            found = direct(body) if direct is not None else {}
            if not isinstance(found, tuple):
                environ = head | found
                environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
                app(environ, start_response)
            if also is not None:
                also()
            if number % choice.turn == choice.turn - 1:
                commit()
                each_turn()
        assert not refused, refused[:3]

    some(choice.warm)
    gc.collect()
    if choice.collector != "python":
        gc.freeze()
    if choice.collector == "engine":
        gc.disable()
    else:
        gc.enable()
    pauses, pool = Pauses(), engine.venue.shard.orders

    def measure(count: int) -> dict[str, float]:
        pauses.seen.clear()
        misses, began = pool.pool_misses, time.process_time_ns()
        some(count)
        return {
            "CPU µs an order": (time.process_time_ns() - began) / count / 1e3,
            "objects made for 1,000 orders": (pool.pool_misses - misses) / count * 1e3,
            "longest collection, µs": max(pauses.seen, default=0) / 1e3,
            "collecting, µs an order": sum(pauses.seen) / count / 1e3,
            "collections in 1,000 orders": len(pauses.seen) / count * 1e3,
        }

    return Counting(engine, some, choice.counting == "on").measure if choice.counting else measure


class Counting:
    """What counting costs: short blocks of orders with it, each beside one without, in the same process.

    Whatever slows one of them down slows its neighbour, too. Without, the same calls are made and do nothing.
    With, what counts wherever an order passes is done a second time where it stands, since the first can't be
    left out: so it finds the processor's caches as the rest of an order leaves them.
    """

    def __init__(self, engine: composed.Engine, some: Callable[..., None], on: bool) -> None:
        """`on` False: nothing is counted in either block, so that what is measured is the noise."""
        self._engine, self._some, self._on = engine, some, on
        self._counters = engine._counters
        self._committed, self._keep_house = engine._committed, self._counters.keep_house
        self._kept: list[int] = []
        self._tally, self._done = Tally(), defaultdict[type, int](int)

    def measure(self, count: int) -> dict[str, float]:
        more, rounds = [], max(1, count // BLOCK // 4)
        before = self._counted()
        for _ in range(rounds):
            first, second, third, fourth = (self._block(on and self._on) for on in (False, True, True, False))
            more.append((second + third - first - fourth) / 2)
        # Both sides are what they are called: each order of a block with counting is in the histogram.
        assert self._counted() - before == 2 * rounds * BLOCK * self._on
        return {"counting, CPU µs an order": statistics.median(more)}

    def _block(self, on: bool) -> float:
        """CPU µs an order."""
        engine, answered = self._engine, self._counters.answered
        # One order and one write of a block take their times, or none.
        answered.timed_at = BLOCK // 2 if on else -1
        answered.times_write = on
        engine._committed = self._committed if on else _committed_nothing
        self._counters.keep_house = self._keep_house if on else _kept_no_house
        also = self._counted_twice if on else _nothing
        self._kept.clear()
        began = time.process_time_ns()
        self._some(BLOCK, also)
        took = time.process_time_ns() - began
        # What housekeeping has cut off from the block; and without counting, that there was one.
        answered.count()
        if not on:
            answered.came.clear()
            answered.committed(engine.journal.seq, 0)
        return took / BLOCK / 1e3

    def _counted_twice(self) -> None:
        """What counts on an order's way in any case: a note of when it came, which is read for the header
        X-Engine-Us, and the additions of edge, venue, tokens and journal."""
        tally = self._tally
        self._kept.append(0)
        tally.ok += 1
        self._done[PlaceOrder] += 1
        tally.tests += 1
        tally.tests += 1
        tally.tests += 1

    def _counted(self) -> int:
        """Orders in the histogram, of this process and those before."""
        self._keep_house(0, 0, True)
        words = self._engine.page.metrics
        return sum(words[word] for word in metrics.ORDER_DURATION.series().counts)


def _committed_nothing(seq: int, started_ns: int) -> None:
    pass


def _kept_no_house(now_ns: int, connections: int, ready: bool) -> None:
    pass


def _nothing() -> None:
    pass


def applied(choice: Choice) -> Callable[[int], dict[str, float]]:
    """The core alone: each call begins with an empty book."""
    works: dict[int, Work] = {}

    def measure(count: int) -> dict[str, float]:
        work = works.setdefault(count, Work(1, count))
        shard, first = work.shard(), len(work.setup) + 1
        gc.collect()
        gc.disable()
        began = time.process_time_ns()
        for seq, command in enumerate(work.commands, first):
            shard.apply(command, seq, seq)
        took = time.process_time_ns() - began
        gc.enable()
        return {"CPU µs a command": took / count / 1e3}

    return measure


def main() -> None:
    choice = msgspec.json.decode(sys.argv[1], type=Choice)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        measure = applied(choice) if choice.core_only else orders(Path(folder), choice)
        print(json.dumps({}), flush=True)
        for line in sys.stdin:
            print(json.dumps(measure(int(line))), flush=True)


if __name__ == "__main__":
    main()
