"""Knobs inside the engine, by CPU time of processes that differ in one choice (order_path.py)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.bench.knobs.knob import Effort, Figures, Knob, Side, Unavailable
from tradsys.cli.session import settings_of_a_new_venue
from tradsys.cli.stages import Work, no_order
from tradsys.codec import binary_v1
from tradsys.codec.decimals import text_of
from tradsys.codec.json_order import place_command
from tradsys.codec.json_v1 import decode_new_order, encode
from tradsys.codec.stream_v1 import PriceMessage, price_frame, price_symbol_of
from tradsys.core import messages as m
from tradsys.flow.commands import Place

ROOT = Path(__file__).parents[3]
COMPILED = ROOT / "build" / "compiled"
WARM_OF_A_GLANCE = 200
ORDERS_OF_A_GLANCE = 1_000
"""Efforts below it only want to see that a knob runs."""
BATCH = 100


@contextlib.contextmanager
def worker(folder: Path, effort: Effort, choice: dict[str, Any], app: Path | None = None) -> Iterator[Side]:
    """A process with one choice, asleep unless it is asked. `app`: the folder of another build's package."""
    folder.mkdir()
    if effort.orders < ORDERS_OF_A_GLANCE:
        choice = choice | {"warm": WARM_OF_A_GLANCE}
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRADSYS_")}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (*((app,) if app else ()), ROOT)))
    with open(folder / "said", "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.knobs.order_path", json.dumps(choice)],
            cwd=folder, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
        )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    asking, answers = process.stdin, process.stdout

    def answer() -> Figures:
        line = answers.readline()
        if not line:
            raise SystemExit(f"{choice} ended: {(folder / 'said').read_text('utf-8', 'replace')[-2000:]}")
        figures: Figures = json.loads(line)
        return figures

    def side() -> Figures:
        print(effort.orders, file=asking, flush=True)
        return answer()

    try:
        answer()
        yield side
    finally:
        asking.close()
        process.wait(30)
        answers.close()


def choices(
    without: dict[str, Any], with_: dict[str, Any], names: Sequence[str] = ()
) -> Callable[[Path, Effort], AbstractContextManager[tuple[Side, Side]]]:
    """Two processes; of their figures those of `names`, or all."""

    @contextlib.contextmanager
    def sides(folder: Path, effort: Effort) -> Iterator[tuple[Side, Side]]:
        def shown(side: Side) -> Side:
            return lambda: {name: value for name, value in side().items() if not names or name in names}

        with worker(folder / "a", effort, without) as a, worker(folder / "b", effort, with_) as b:
            yield shown(a), shown(b)

    return sides


def core(choice: dict[str, Any]) -> Callable[[Path, Effort], AbstractContextManager[tuple[Side, Side]]]:
    """The same work interpreted and with the compiled book."""

    @contextlib.contextmanager
    def sides(folder: Path, effort: Effort) -> Iterator[tuple[Side, Side]]:
        if not list(COMPILED.glob("tradsys/core/book*.so")):
            raise Unavailable("the compiled core is not built (make compile)")

        def shown(side: Side) -> Side:
            return lambda: {name: value for name, value in side().items() if name.startswith("CPU")}

        with worker(folder / "a", effort, choice) as a, worker(folder / "b", effort, choice, COMPILED) as b:
            yield shown(a), shown(b)

    return sides


@contextlib.contextmanager
def order_forms(folder: Path, effort: Effort) -> Iterator[tuple[Side, Side]]:
    """Bytes to commands: orders as JSON, and as records of 120 bytes."""
    work = Work(1, max(effort.orders, BATCH))
    grid = work.grid
    records = [
        record for record, command in zip(work.records, work.flow, strict=True) if isinstance(command, Place)
    ]

    def timed(act: Callable[[], None], size: float) -> Figures:
        began = time.process_time_ns()
        act()
        taken = (time.process_time_ns() - began) / len(work.bodies) / 1e3
        return {"decode, CPU µs an order": taken, "bytes an order": size}

    def as_json() -> None:
        for body in work.bodies:
            place_command(decode_new_order(body), "demo", grid, 0, "")

    def as_records() -> None:
        for at in range(0, len(records), BATCH):
            body = b"".join(records[at : at + BATCH])
            for _ in binary_v1.commands(body, "demo", lambda symbol: grid, no_order, 0):
                pass

    yield (
        lambda: timed(as_json, sum(map(len, work.bodies)) / len(work.bodies)),
        lambda: timed(as_records, sum(map(len, records)) / len(records)),
    )


@contextlib.contextmanager
def price_forms(folder: Path, effort: Effort) -> Iterator[tuple[Side, Side]]:
    """One trade as the stream `price` says it: JSON, and bin.v1 of 32 bytes."""
    instrument = settings_of_a_new_venue().seed.symbols[0].instrument("seed")
    now = time.time_ns()
    # As the feed has it: time, number, trade id, the journal's event.
    made: Any = (now, 1_234_567, 98_765, (m.TRADE_EVENT, 0, 0, 0, 5_000_001, 12_345))

    def as_json() -> bytes:
        item = (
            text_of(made[3][4] * instrument.tick_size),
            text_of(made[3][5] * instrument.lot_size),
            str(now),
        )
        return encode(
            PriceMessage(
                type="delta", symbol=instrument.symbol, epoch=3, seq=1_234_567, prev_seq=1_234_560,
                ts=str(now), items=[item],
            )
        )  # fmt: skip

    symbol = price_symbol_of(instrument.symbol)

    def timed(make: Callable[[], bytes]) -> Figures:
        began = time.process_time_ns()
        for _ in range(effort.orders):
            make()
        taken = (time.process_time_ns() - began) / effort.orders / 1e3
        return {"encode, CPU µs an update": taken, "bytes an update": len(make())}

    yield lambda: timed(as_json), lambda: timed(lambda: price_frame(symbol, instrument, made))


def traced(one_in: int) -> dict[str, Any]:
    """With an exporter whose receiver is away."""
    endpoint = {"TRADSYS_TRACING_ENDPOINT": "http://127.0.0.1:9/v1/traces"}
    return {"settings": endpoint | {"TRADSYS_TRACING_ONE_IN": str(one_in)}}


COLLECTING = (
    "CPU µs an order",
    "longest collection, µs",
    "collecting, µs an order",
    "collections in 1,000 orders",
)

INSIDE = (
    Knob(
        "codec",
        "ujson and a dict",
        "msgspec into structs",
        choices({"codec": "ujson"}, {}, ("CPU µs an order",)),
        "the whole order without a socket; only decode and reply differ",
    ),
    Knob(
        "order_pool",
        "order_pool_size 0",
        "order_pool_size 1000",
        choices({"pool": 0}, {}, ("CPU µs an order", "objects made for 1,000 orders")),
    ),
    Knob(
        "gc",
        "CPython's collector",
        "young objects, between requests",
        choices(
            {"collector": "python", "keyed": True},
            {"keyed": True},
            COLLECTING,
        ),
        "one order a turn; a pause in the middle of an order is what B never has",
    ),
    Knob(
        "gc_freeze",
        "CPython's collector",
        "CPython's collector, what recovery made is frozen",
        choices({"collector": "python", "keyed": True}, {"collector": "frozen", "keyed": True}, COLLECTING),
    ),
    Knob(
        "gc_percent",
        "gc_percent 100",
        "gc_percent 1000",
        choices({"keyed": True}, {"keyed": True, "settings": {"TRADSYS_GC_PERCENT": "1000"}}, COLLECTING),
        "200 is the default; with 100 young objects are looked through after 700",
    ),
    Knob("core_apply", "interpreted book", "compiled book", core({"core_only": True})),
    Knob("core_order", "interpreted book", "compiled book", core({}), "the whole order without a socket"),
    Knob("binary_orders", "JSON", "records of 120 bytes, 100 a batch", order_forms),
    Knob("binary_prices", "JSON", "bin.v1", price_forms, "without the frame of the WebSocket"),
    Knob(
        "metrics",
        "nothing counted",
        "all metrics counted",
        choices({"counting": "off"}, {"counting": "on"}),
        "less than 2 µs is promised; both sides are differences between neighbouring blocks of one process, "
        "so A is noise",
    ),
    Knob(
        "tracing",
        "off",
        "one order in 100",
        choices({}, traced(100), ("CPU µs an order",)),
        "the engine's own process; off is the same code as without traces",
    ),
    Knob(
        "tracing_all",
        "off",
        "every order",
        choices({}, traced(1), ("CPU µs an order",)),
        "traced orders go through the framework, six spans each",
    ),
)
