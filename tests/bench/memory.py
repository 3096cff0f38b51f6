"""What an order allocates on its way, by layer; what one that rests keeps in the engine.

In this process, with `tracemalloc`: the layers are called one after the other, as the engine does, and of
each is taken the most that was in use at once above what was there before it. That is what a call needs, kept
or not; memory that is freed and taken again within a call counts once. What is kept of it, a command, events,
a reply, is told beside it: the next layer works on it, so that the most that one order has in use at once is
less than the sum, which counts each layer's own. The framework is what the whole call of the application
needs beyond the largest of its layers. In a venue: resident memory of the engine before
and after orders that rest.
"""

from __future__ import annotations

import gc
import io
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.processes import pinned_venue, resident_bytes
from tests.bench.promise import Bench
from tests.bench.sender import Lane, drive, request
from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.mint import mint
from tradsys.adapters.http.server import Listener, Server
from tradsys.client.records import RECORDS_TYPE, place_record
from tradsys.codec.decimals import grid_of
from tradsys.codec.json_order import place_command, reply_bytes_of
from tradsys.codec.json_v1 import decode_new_order
from tradsys.compose.engine import Engine
from tradsys.compose.pieces import KEY_FILE
from tradsys.settings import load
from tradsys.venue.outcome import Done
from tradsys.venue.ports import Entry
from tradsys.venue.venue import Venue

SYMBOL, ACCOUNT = "BTC-USD", "demo"
BATCH = 1_000
LANES = 4


class Needed:
    """The most that was in use at once during a call, by layer, one figure for each order."""

    def __init__(self) -> None:
        self.bytes: dict[str, list[int]] = {}
        self.kept: dict[str, list[int]] = {}

    def take(self, layer: str, work: Callable[[], Any]) -> Any:
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        result = work()
        now, most = tracemalloc.get_traced_memory()
        self.bytes.setdefault(layer, []).append(most - start)
        self.kept.setdefault(layer, []).append(now - start)
        return result

    def typical(self, layer: str) -> int:
        return int(median(self.bytes[layer]))

    def typically_kept(self, layer: str) -> int:
        return int(median(self.kept[layer]))


def body_of(number: int) -> bytes:
    """Prices of their own, each below the others, so that every order rests and makes a level of its own."""
    return b'{"symbol":"BTC-USD","side":"buy","type":"limit","quantity":"0.01","price":"%d"}' % number


def on_its_way(orders: int, folder: Path) -> tuple[Needed, int]:
    """What each layer needs, and what a resting order keeps of all of it."""
    engine = Engine(load({"TRADSYS_DATA_DIR": str(folder), "TRADSYS_SEGMENT_BYTES": str(64 << 20)}))
    settings = engine.settings
    app = engine.apps[settings.port]
    # The engine asks it whether it is stopping, and how many are connected; it never listens here.
    engine.server = Server([Listener("127.0.0.1", settings.port, app)], each_turn=engine.each_turn)
    venue = engine.venue
    grid = grid_of(venue.shard.markets[SYMBOL].instrument)
    key = HmacKey.load(f"{settings.data_dir}/{KEY_FILE}")
    now_s = int(time.time())
    token = mint(key, ACCOUNT, "trade read", 3600, settings.token_issuer, settings.token_audience, now_s)
    needed = Needed()
    whole = Needed()

    def environ(body: bytes) -> dict[str, Any]:
        return {
            "REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/orders", "QUERY_STRING": "", "SCRIPT_NAME": "",
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": str(settings.port), "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "127.0.0.1", "HTTP_AUTHORIZATION": f"Bearer {token}", "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "http", "wsgi.version": (1, 0), "wsgi.errors": None, "wsgi.multithread": False,
            "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip

    statuses: set[str] = set()

    def call(given: dict[str, Any]) -> list[bytes]:
        return list(app(given, lambda status, headers, *_: statuses.add(status)))

    price = iter(range(1, 10 * orders + 1000))
    for _ in range(200):  # Caches fill, and what is made once is made.
        call(environ(body_of(next(price))))
    engine.each_turn()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(orders):
        given = environ(body_of(next(price)))
        whole.take("whole", lambda given=given: call(given))
        del given
        engine.each_turn()
    kept = (tracemalloc.get_traced_memory()[0] - before) // orders
    for _ in range(orders):
        body = body_of(next(price))
        order = needed.take("codec: decode", lambda body=body: _decode(body, grid, venue.clock()))
        seq, now = venue.seq + 1, venue.clock()
        events = needed.take("core: apply", lambda o=order, s=seq, n=now: venue.shard.apply(o, s, n))
        # By hand, since `process` is core and journal in one; the venue's own count goes along.
        venue.seq, venue.time_ns = seq, now
        entry = Entry(order, events)
        needed.take("journal: append and commit", lambda e=entry, s=seq, n=now: _journal(venue, s, n, e))
        done = Done(order, seq, now, events, grid.instrument)
        needed.take("codec: encode the reply", lambda d=done: reply_bytes_of(d, settings.shard))
    tracemalloc.stop()
    assert statuses == {"200 OK"}, statuses
    engine.close()
    needed.bytes["whole"] = whole.bytes["whole"]
    return needed, kept


def _journal(venue: Venue, seq: int, now: int, entry: Entry) -> None:
    venue.journal.append(seq, now, (entry,))
    venue.journal.commit()


def _decode(body: bytes, grid: Any, now: int) -> Any:
    return place_command(decode_new_order(body), ACCOUNT, grid, now, "")


def _resting_lane(symbol: str, token: str, count: int) -> Lane:
    """Orders that rest, forty at each price."""
    for start in range(0, count, BATCH):
        records = [
            place_record(symbol=symbol, side="buy", quantity=10**8, price=(1_000 + (start + i) // 40) * 10**6)
            for i in range(min(BATCH, count - start))
        ]
        yield request("POST", "/orders/batch", token, b"".join(records), RECORDS_TYPE)


def _resident_of_resting(bench: Bench, count: int) -> None:
    """Of the engine, in a venue of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="memory-") as place,
        pinned_venue(Path(place), ("engine", "history")) as venue,
    ):
        traders = [venue.account("limits") for _ in range(LANES)]
        symbols = [venue.market() for _ in traders]

        def send(each: int) -> None:
            lanes = [
                _resting_lane(symbol, trader.token, each)
                for symbol, trader in zip(symbols, traders, strict=True)
            ]
            drive(venue.ports["port"], [(next(lane), lane) for lane in lanes], 600)

        engine = venue.processes["engine"].pid
        send(BATCH)  # What batches need once is needed now.
        before = resident_bytes(engine)
        send(count // LANES)
        each = (resident_bytes(engine) - before) / (count // LANES * LANES)
    bench.found.figures["resident memory of a resting order, bytes"] = round(each)


def measure(bench: Bench) -> None:
    orders = bench.sized(2_000, 100)
    bench.tell(f"tracemalloc, {orders:,} orders by layer")
    with tempfile.TemporaryDirectory(prefix="memory-") as place:
        needed, kept = on_its_way(orders, Path(place))
    layers = {layer: needed.typical(layer) for layer in needed.bytes}
    whole = layers.pop("whole")
    ours = sum(layers.values())
    framework = max(0, whole - max(layers.values()))
    kept_of = {layer: needed.typically_kept(layer) for layer in layers}
    told = ", ".join(f"{layer} {size:,} ({kept_of[layer]:,} kept)" for layer, size in layers.items())
    at_once = before = 0
    for layer, size in layers.items():
        at_once = max(at_once, before + size)
        before += kept_of[layer]
    count = bench.sized(100_000, 4_000)
    bench.tell(f"resident memory, {count:,} resting orders")
    _resident_of_resting(bench, count)
    resident = bench.found.figures["resident memory of a resting order, bytes"]
    bench.at_most(
        "an order's allocations in codec, core and journal", 1_024, "bytes", [ours],
        f"in process, `process`, tracemalloc, medians of {orders:,} orders that rest at prices of their own, "
        f"each layer's most at once, added up: {told}; of all four {at_once:,} at once; the whole call of "
        f"the application {whole:,}, so the framework {framework:,}; {kept:,} stay while the order rests; "
        f"resident memory of the engine {resident:,} a resting order, of {count:,}",
        relative=True, by_clock=False,
    )  # fmt: skip
    bench.found.figures["bytes of an order, by layer"] = layers | {
        "at once": at_once,
        "the whole call": whole,
        "the framework": framework,
        "kept while it rests": kept,
    }
    bench.found.figures["bytes that stay of an order, by layer"] = kept_of
