"""The book alone and the whole `apply`, interpreted and compiled, on a deep book; then on adversarial ones.

    python -m tests.bench.core (deep COUNT | adversarial LARGEST)

prints the figures of whatever `tradsys.core` it imports, as JSON. `measure` runs it in processes that take
turns: one with the plain package, one with the copy that `make compile` has put into build/compiled. Both see
the same commands, and the hash of the events must be the same.

No operation may be worse than O(log n) per level touched: its typical time (median of many) at the largest
size is compared with that at a tenth of it. A logarithm grows by a fourth or less there, what is linear by
ten.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec

from tests.bench.promise import Bench, Line, Plot
from tradsys.core import book as book_module
from tradsys.core import messages as m
from tradsys.core.book import OrderBook
from tradsys.core.order import Order
from tradsys.core.shard import Shard
from tradsys.flow.commands import Cancel, Place, order_of
from tradsys.flow.model import Model, commands, units_of
from tradsys.settings import NEW_VENUE_RULES

ROOT = Path(__file__).parents[2]
COMPILED = ROOT / "build" / "compiled"
SYMBOL = "BTC-USD"
START = 5_000_000
OPEN_ORDERS = 20_000
"""The depth at which the flow settles."""
FILLING = 5
"""Commands of the flow for each order of that depth, until it has settled; not on the clock."""
GROWTH_MAX = 2.0
HELD_UP_US_MAX = 5_000
"""As long as a batch of 1,000 orders may hold up whoever comes behind it."""
BOOK_PROMISED = {"compiled": 1_000_000, "interpreted": 700_000}
SAMPLES = 1_000
"""Operations of each kind at each size."""

Op = tuple[int, Order, int]
"""(what, order, time in force) of the book alone."""
PLACE, REMOVE = 1, 2


def new_shard(cash: bool = False, **rules: int) -> Shard:
    """With the rules of a new venue. `cash`: fees are taken, and the one account, `t1`, is bounded by what it
    has, which is plenty."""
    many = {"account_orders_max": 10_000_000, "shard_orders_max": 10_000_000}
    shard = Shard("a", m.Rules(**(NEW_VENUE_RULES | many | rules)))
    maker_fee, taker_fee = (100, 200) if cash else (0, 0)
    instrument = m.Instrument(
        SYMBOL, "BTC", "USD", 1_000_000, 100_000, maker_fee_ppm=maker_fee, taker_fee_ppm=taker_fee
    )
    setup: list[m.Command] = [m.DefineInstrument(instrument)]
    setup += [m.DefineAccount("t1", m.CASH if cash else m.LIMITS)]
    if cash:
        setup += [m.AdjustBalance("t1", asset, 10**17, asset) for asset in ("BTC", "USD")]
    for seq, command in enumerate(setup, 1):
        assert shard.apply(command, seq, 1)[0][0] == m.SET_EVENT
    return shard


# --- the deep book ------------------------------------------------------------------------------------


def flow(count: int, open_orders: int) -> list[m.Command]:
    """Orders and cancels (two fifths of them, once the book has settled), ids as `new_shard` gives them."""
    model = Model(
        seed=1, symbol=SYMBOL, accounts=("t1",), tick_size=1_000_000, lot_size=100_000, start_price=START,
        typical_lots=1_000, open_orders=open_orders, distance_ticks=200.0, replaces=0, icebergs=0,
        post_only=0, stops=0,
    )  # fmt: skip
    sides = {word: value for value, word in m.SIDE_WORDS.items()}
    numbers: dict[str, int] = {}
    made: list[m.Command] = []
    for seq, command in enumerate(commands(model), 3):
        if len(made) == count:
            break
        if isinstance(command, Place):
            order = command.order
            numbers[order_of(command)] = seq
            side, qty = sides[order.side], units_of(order.quantity) // 100_000
            if order.type == "market":
                made.append(m.PlaceOrder("t1", SYMBOL, side, m.MARKET, m.IOC, qty))
            else:
                lasting = m.IOC if order.time_in_force == "ioc" else m.GTC
                price = units_of(order.price) // 1_000_000
                made.append(m.PlaceOrder("t1", SYMBOL, side, m.LIMIT, lasting, qty, price))
        else:
            assert isinstance(command, Cancel)
            made.append(m.CancelOrder("t1", numbers[order_of(command)]))
    return made


def book_ops(work: Sequence[m.Command]) -> list[Op]:
    """The same for the book alone, which is given its orders ready made."""
    account = object()
    orders: dict[int, Order] = {}
    ops: list[Op] = []
    for seq, command in enumerate(work, 3):
        if isinstance(command, m.PlaceOrder):
            # A market order is an IOC limit far away.
            price = command.price or START * (2 if command.side > 0 else 0) + (command.side < 0)
            order = orders[seq] = Order(seq, command.side, price, command.qty, 0, 0, account)
            ops.append((PLACE, order, command.time_in_force))
        else:
            assert isinstance(command, m.CancelOrder)
            ops.append((REMOVE, orders[command.order_id], 0))
    return ops


def book_alone(book: OrderBook, ops: Sequence[Op]) -> None:
    take, rest, remove = book.take, book.rest, book.remove
    gtc = m.GTC
    for what, order, lasting in ops:
        if what == 1:
            take(order, 0, 0, 2_000)
            if order.open_qty and lasting == gtc:
                rest(order)
        elif order.level is not None:
            remove(order)


def deep(count: int) -> dict[str, Any]:
    filling = min(FILLING * OPEN_ORDERS, 5 * count)
    work = flow(filling + count, OPEN_ORDERS if count >= OPEN_ORDERS else count)
    measured = work[filling:]
    ops = book_ops(work)
    book = OrderBook()
    gc.collect()
    gc.freeze()
    gc.disable()
    book_alone(book, ops[:filling])
    part = ops[filling:]
    began = time.process_time()
    book_alone(book, part)
    book_s = time.process_time() - began

    shard = new_shard()
    apply = shard.apply
    digest = blake2b(digest_size=16)
    for seq, command in enumerate(work[:filling], 3):
        apply(command, seq, seq)
    events: list[list[m.Event]] = []
    keep = events.append
    numbered = list(enumerate(measured, 3 + filling))
    began = time.process_time()
    for seq, command in numbered:
        keep(apply(command, seq, seq))
    apply_s = time.process_time() - began
    digest.update(msgspec.msgpack.encode(events))
    digest.update(shard.state_hash().encode())
    resting = [sum(1 for _ in side) for side in (book.bids, book.asks)]
    return {
        "form": form_of_core(),
        "book_per_s": round(len(part) / book_s),
        "apply_per_s": round(len(measured) / apply_s),
        "hash": digest.hexdigest(),
        "commands": len(measured),
        "cancels": sum(isinstance(command, m.CancelOrder) for command in measured) / len(measured),
        "resting_orders": sum(resting),
        "levels": len(book.bids.ranks) + len(book.asks.ranks),
        "events_per_command": round(sum(map(len, events)) / len(events), 2),
        "book_and_apply_agree": sum(resting) == shard.orders.open_count,
    }


def form_of_core() -> str:
    return "interpreted" if str(book_module.__file__).endswith(".py") else "compiled"


# --- adversarial books --------------------------------------------------------------------------------


class Taken:
    """CPU times of single operations by name, at one size: on the clock the worst is when others had the CPU.

    A reading of that clock is a system call, so each time is some tenths of a microsecond too long.
    """

    def __init__(self) -> None:
        self.ns: dict[str, list[int]] = {}

    def time(self, name: str, work: Callable[[], object]) -> None:
        began = time.thread_time_ns()
        work()
        self.ns.setdefault(name, []).append(time.thread_time_ns() - began)


class Desk:
    """Applies commands with numbers of its own."""

    def __init__(self, cash: bool = False, **rules: int) -> None:
        self.shard = new_shard(cash, **rules)
        self.seq = 4 if cash else 2

    def apply(self, command: m.Command) -> int:
        """The number of the command, which is the order's id."""
        self.seq += 1
        self.shard.apply(command, self.seq, self.seq)
        return self.seq

    def place(self, side: int, price: int, qty: int = 1, *, lasting: int = m.GTC, key: str = "") -> int:
        return self.apply(m.PlaceOrder("t1", SYMBOL, side, m.LIMIT, lasting, qty, price, client_order_id=key))


def one_level(size: int, taken: Taken) -> None:
    """Every order at one price: cancels from anywhere, newcomers, takers."""
    desk = Desk()
    ids = [desk.place(m.BUY, START) for _ in range(size)]
    Random(1).shuffle(ids)
    for number in ids[: min(SAMPLES, size // 4)]:
        taken.time(
            "one level: cancel anywhere", lambda number=number: desk.apply(m.CancelOrder("t1", number))
        )
        taken.time("one level: one more", lambda: desk.place(m.BUY, START))
        taken.time("one level: take one", lambda: desk.place(m.SELL, START, lasting=m.IOC))


def many_levels(size: int, taken: Taken) -> None:
    """Every order at a price of its own; new levels at the far end, where most others have to move."""
    desk = Desk()
    ids = [desk.place(m.BUY, START - 2 * i) for i in range(size)]
    draw = Random(1)
    worst = START - 2 * size
    for i in range(min(SAMPLES, size // 4)):
        taken.time("many levels: a new worst one", lambda i=i: desk.place(m.BUY, worst - i))
        between = START - 2 * draw.randrange(size) - 1
        taken.time("many levels: a new one between", lambda price=between: desk.place(m.BUY, price))
        number = ids[draw.randrange(size // 2, size)]
        taken.time(
            "many levels: cancel anywhere", lambda number=number: desk.apply(m.CancelOrder("t1", number))
        )
        taken.time("many levels: take the best", lambda: desk.place(m.SELL, 1, lasting=m.IOC))


def mass_cancel(size: int, taken: Taken) -> None:
    """One order of the other side, then all orders of an account, in steps of `step_orders_max`; a step is
    one operation."""
    desk = Desk()
    draw = Random(1)
    for _ in range(size):
        desk.place(m.BUY, START - draw.randrange(10_000))
    for _ in range(min(SAMPLES, size // 4)):
        desk.place(m.SELL, 2 * START)
        taken.time("mass cancel: one of the other side", lambda: desk.apply(m.CancelOrders("t1", "", m.SELL)))
    taken.time("mass cancel: a step", lambda: desk.apply(m.CancelOrders("t1")))
    while desk.shard.work_due:
        taken.time("mass cancel: a step", lambda: desk.apply(m.ContinueWork()))
    assert not desk.shard.orders.open_count


def stop_cascade(size: int, taken: Taken) -> None:
    """Stops, each of which trades and makes the next one due, from one trade on; a step is one operation."""
    desk = Desk()
    desk.apply(m.SetReference(SYMBOL, START))
    for i in range(size + 2):
        desk.place(m.SELL, START + i)
    for i in range(size):
        desk.apply(m.PlaceOrder("t1", SYMBOL, m.BUY, m.STOP, m.IOC, 1, 0, START + i))
    taken.time("stop cascade: a step", lambda: desk.place(m.BUY, START, lasting=m.IOC))
    while desk.shard.work_due:
        taken.time("stop cascade: a step", lambda: desk.apply(m.ContinueWork()))
    assert not desk.shard.markets[SYMBOL].buy_stops.ranks


TAKES, TAKES_TWICE = "as many as one may take", "as many, and a stop that takes as many"


def greedy(size: int, taken: Taken) -> None:
    """Orders that take as many others as one may, of the dearest kind: with fees, reservations, keys and ends
    of their own. Then the longest command there is: one that takes nearly as many and is followed by a stop
    that takes as many."""
    desk = Desk(cash=True, idempotency_keys_max=2 * size)
    draw = Random(1)
    most = desk.shard.rules.match_makers_max
    for i in range(size):
        price = START + draw.randrange(10_000)
        desk.apply(m.PlaceOrder("t1", SYMBOL, m.SELL, m.LIMIT, m.DAY, 1, price, client_order_id=f"key-{i}"))
    worst = START + 10_000
    for _ in range(max(1, min(SAMPLES, size // (3 * most)))):
        taken.time(TAKES, lambda: desk.place(m.BUY, worst, most, lasting=m.IOC, key="k"))
        # Due as soon as there is a trade at a higher price.
        due = desk.shard.markets[SYMBOL].last + 1
        desk.apply(m.PlaceOrder("t1", SYMBOL, m.BUY, m.STOP, m.IOC, most, 0, due))
        taken.time(TAKES_TWICE, lambda: desk.place(m.BUY, worst, most - 2, lasting=m.IOC, key="k"))


def growing_maps(size: int, taken: Taken) -> None:
    """Ten orders with keys for each of `size`, placed and canceled: the maps of orders and keys grow."""
    desk = Desk(idempotency_keys_max=20 * size)
    last = 10 * size - min(SAMPLES, size)
    for i in range(10 * size):
        # What is looked at are the last ones, at full size, and every one for the worst.
        name = "maps of keys: place" if i >= last else "maps of keys: growing"
        taken.time(name, lambda i=i: desk.place(m.BUY, START, key=f"key-{i}"))
        desk.apply(m.CancelOrder("t1", desk.seq))


BOOKS = (one_level, many_levels, mass_cancel, stop_cascade, greedy, growing_maps)


def adversarial(largest: int) -> dict[str, Any]:
    """By operation and size (tenths of one another): typical and worst CPU time."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for size in (largest // 100, largest // 10, largest):
        for book in BOOKS:
            gc.collect()
            gc.freeze()
            gc.disable()
            taken = Taken()
            book(size, taken)
            gc.enable()
            gc.unfreeze()
            for name, times in taken.ns.items():
                found.setdefault(name, {})[str(size)] = {
                    "p50_us": round(median(times) / 1000, 2),
                    "worst_us": round(max(times) / 1000, 1),
                    "operations": len(times),
                }
    return {"form": form_of_core(), "operations": found}


# --- the part -----------------------------------------------------------------------------------------


def in_its_own_process(form: str, what: str, size: int) -> Any:
    folder = str(COMPILED) if form == "compiled" else str(ROOT / "app")
    path = os.pathsep.join((folder, str(ROOT)))
    found = json.loads(
        subprocess.run(
            [sys.executable, "-m", "tests.bench.core", what, str(size)],
            env={**os.environ, "PYTHONPATH": path}, check=True, stdout=subprocess.PIPE, cwd=ROOT,
        ).stdout
    )  # fmt: skip
    assert found["form"] == form, f"{form} was asked for, {found['form']} was measured: make compile"
    return found


def is_compiled() -> bool:
    """Whether build/compiled is a copy of this very core."""
    sources = list((ROOT / "app" / "tradsys" / "core").glob("*.py"))
    copies = [COMPILED / path.relative_to(ROOT / "app") for path in sources]
    return all(
        copy.exists() and copy.read_bytes() == path.read_bytes()
        for path, copy in zip(sources, copies, strict=True)
    )


def measure(bench: Bench) -> None:
    forms = list(BOOK_PROMISED)
    if not is_compiled():
        if bench.smoke:
            bench.tell("build/compiled is of another core: left out (make compile)")
            forms.remove("compiled")
        else:
            bench.tell("make compile")
            subprocess.run(["make", "compile"], cwd=ROOT, check=True, stdout=sys.stderr)
    rounds, count = bench.sized(3, 1, "ROUNDS"), bench.sized(200_000, 2_000)
    runs: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
    for number in range(rounds):
        for form in runs:
            bench.tell(f"deep book, {form}, round {number + 1} of {rounds}")
            runs[form].append(in_its_own_process(form, "deep", count))
    hashes = {run["hash"] for form in runs for run in runs[form]}
    assert len(hashes) == 1, f"the forms of the core do not do the same: {hashes}"
    one = runs["interpreted"][0]
    assert one["book_and_apply_agree"], "the book alone does not hold what the shard does"
    how = (
        f"in process, no journal, CPU time, {one['resting_orders']:,} resting orders on {one['levels']:,} "
        f"levels, {one['cancels']:.0%} cancels, event hash {one['hash'][:8]} in both forms"
    )
    for form in forms:
        promised = BOOK_PROMISED[form]
        rates = [run["book_per_s"] for run in runs[form]]
        whole = sorted(run["apply_per_s"] for run in runs[form])[rounds // 2]
        told = f"{how}; the whole `apply` with events: {whole:,}/s"
        bench.at_least(f"the book alone, {form}: messages/s", promised, "/s", rates, told, by_clock=False)
    bench.found.figures["deep book"] = runs
    largest = bench.sized(100_000, 1_000)
    for form in runs:
        bench.tell(f"adversarial books, {form}, {largest:,} orders")
        _growth(bench, in_its_own_process(form, "adversarial", largest)["operations"], form, largest)
    bench.tell("the stages of an order: tradsys bench")
    counts = ["--count", "1000", "--rounds", "1"] if bench.smoke else []
    stages = subprocess.run(
        [sys.executable, "-m", "tradsys", "bench", "--json", *counts], check=True, stdout=subprocess.PIPE
    )
    bench.found.figures["tradsys bench: the stages of an order"] = json.loads(stages.stdout)


def _growth(bench: Bench, operations: dict[str, dict[str, Any]], form: str, largest: int) -> None:
    bench.found.figures[f"adversarial books, {form}"] = operations
    growth = {
        name: sizes[str(largest)]["p50_us"] / sizes[str(largest // 10)]["p50_us"]
        for name, sizes in operations.items()
    }
    name = max(growth, key=lambda one: growth[one])
    most = {one: sizes[str(largest)]["worst_us"] for one, sizes in operations.items()}
    takes, twice = most.pop(TAKES), most.pop(TAKES_TWICE)
    worst, *others = sorted(most, key=lambda one: -most[one])
    bench.at_most(
        f"growth of an operation from {largest // 10:,} to {largest:,} orders, the worst: {form}",
        GROWTH_MAX,
        "×",
        [growth[name]],
        f"in process, whole `apply`, median CPU time; “{name}”; maps of ids and keys have ten times as many",
        relative=True,
        by_clock=False,
    )
    bench.at_most(
        f"the worst single operation of an adversarial book, {largest:,} orders: {form}",
        HELD_UP_US_MAX,
        "µs",
        [most[worst]],
        f"in process, whole `apply`, CPU time; “{worst}”; then "
        + ", ".join(f"“{one}” {most[one]:,.0f}" for one in others[:4]),
        by_clock=False,
    )
    often = operations[TAKES_TWICE][str(largest)]
    bench.at_most(
        f"the longest command that a new venue's rules allow, {largest:,} orders: {form}",
        HELD_UP_US_MAX,
        "µs",
        [max(takes, twice)],
        "in process, whole `apply`, CPU time, with fees, reservations, keys and orders of the day: an order "
        f"takes 998 others, then a stop 1,000; the worst of {often['operations']}, in the middle "
        f"{often['p50_us']:,.0f}; an order that takes 1,000, without a stop: in the middle "
        f"{operations[TAKES][str(largest)]['p50_us']:,.0f}, at worst {takes:,.0f}",
        by_clock=False,
    )
    bench.found.plots.append(
        Plot(
            f"Typical time of an operation by size of the book, {form}", "orders", "µs",
            [Line(name, [float(size) for size in sizes], [one["p50_us"] for one in sizes.values()])
             for name, sizes in operations.items()],
            log_y=True, log_x=True,
            note=f"Steps of long work touch at most {NEW_VENUE_RULES['step_orders_max']} orders each. "
            "No operation may grow by more than "
            f"{GROWTH_MAX:g} from one size to the next.",
        )
    )  # fmt: skip
    bench.found.plots.append(
        Plot(
            f"Worst single operation by size of the book, {form}", "orders", "µs",
            [Line(name, [float(size) for size in sizes], [one["worst_us"] for one in sizes.values()])
             for name, sizes in operations.items()],
            log_y=True, log_x=True, note="CPU time; each of them holds up whoever comes behind it.",
        )
    )  # fmt: skip


if __name__ == "__main__":
    work = deep if sys.argv[1] == "deep" else adversarial
    print(json.dumps(work(int(sys.argv[2]))))
