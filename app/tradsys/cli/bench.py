"""`tradsys bench`: how long each stage of an order takes in this process, on this machine, now.

One seeded flow (see `tradsys.flow.model`) goes through the real parts, stage by stage and as a whole, with
the journal on a disk. No socket, no framework: those are measured by a load generator against a running
venue. Absolute times drift with the machine; compare figures of one run.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct

from tradsys.cli import session, show
from tradsys.client.records import cancel_record, place_record, replace_record
from tradsys.flow.commands import Cancel, FlowCommand, Place, order_of
from tradsys.flow.model import Model, commands, units_of

PANEL = "Data"
BATCH = 100
SYMBOL = "BTC-USD"
SEGMENT_BYTES_MIN = 64 << 20
COMMAND_BYTES_MAX = 1_024
"""More than a command takes in the journal."""
MEMORY_ORDERS = 2_000


class Row(Struct):
    stage: str
    microseconds: float
    """Of one command."""
    per_s: int


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(bench)


def bench(
    count: Annotated[int, typer.Option("--count", min=1_000, max=1_000_000, help="Commands.")] = 20_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100, help="Median of so many.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the flow.")] = 1,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where the journal is written. [default: a temporary one]")
    ] = None,
    as_json: session.Json = False,
) -> None:
    """Measure the stages of an order in this process: decode, match, journal, reply; and its memory."""
    work = _Work(seed, count)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with show.Progress("measurements") as progress, tempfile.TemporaryDirectory(dir=directory) as place:
            rows = _measure(work, rounds, Path(place), progress)
            memory = _memory(work, Path(place) / "memory")
    finally:
        gc.enable()
        gc.unfreeze()
    conditions = _conditions(work, rounds)
    if as_json:
        show.json({"conditions": conditions, "stages": rows, "memory": memory})
        return
    show.facts(conditions)
    cells = [
        {"stage": row.stage, "microseconds": f"{row.microseconds:.2f}", "per_second": f"{row.per_s:,}"}
        for row in rows
    ]
    show.table(cells, ("stage", "microseconds", "per_second"), "Time of one command")
    show.table([{"what": name, "bytes": n} for name, n in memory.items()], ("what", "bytes"), "Memory")


def _conditions(work: _Work, rounds: int) -> dict[str, Any]:
    from tradsys.core import book

    compiled = not str(book.__file__).endswith(".py")
    return {
        "python": platform.python_version(),
        "core": "compiled" if compiled else "interpreted",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        "flow": f"seed {work.seed}, {len(work.flow)} commands, {len(work.bodies)} of them orders",
        "rounds": rounds,
        "durability": "process",
    }


class _Work:
    """The flow in every form in which a stage takes it."""

    def __init__(self, seed: int, count: int) -> None:
        from tradsys.codec.decimals import grid_of
        from tradsys.codec.json_v1 import decode_new_order, place_command
        from tradsys.core import messages as m

        self.seed = seed
        self.flow: list[FlowCommand] = list(islice(commands(_model(seed)), count))
        self.setup = session.settings_of_a_new_venue().seed.commands()
        shard = self.shard()
        self.grid = grid_of(shard.markets[SYMBOL].instrument)
        self.bodies: list[bytes] = []
        """`POST /orders`, one for each order."""
        self.records: list[bytes] = []
        """The binary form of each command."""
        self.commands: list[m.Command] = []
        numbers: dict[str, int] = {}
        for seq, command in enumerate(self.flow, len(self.setup) + 1):
            if isinstance(command, Place):
                numbers[order_of(command)] = seq
                body = msgspec.json.encode(command.order)
                self.bodies.append(body)
                order = decode_new_order(body)
                self.commands.append(place_command(order, session.DEMO, self.grid, 0, ""))
                self.records.append(_place_record(command))
                continue
            number = numbers[order_of(command)]
            if isinstance(command, Cancel):
                self.commands.append(m.CancelOrder(session.DEMO, number))
                self.records.append(cancel_record(number))
            else:
                qty = self.grid.lots(command.quantity)
                price = self.grid.ticks(command.price) if command.price else 0
                self.commands.append(m.ReplaceOrder(session.DEMO, number, qty, price))
                quantity = units_of(command.quantity)
                self.records.append(replace_record(SYMBOL, number, quantity, units_of(command.price or "0")))

    def shard(self) -> Any:
        from tradsys.core.shard import Shard

        shard = Shard("a")
        for seq, command in enumerate(self.setup, 1):
            shard.apply(command, seq, 1)
        return shard


def _model(seed: int) -> Model:
    return Model(
        seed=seed,
        symbol=SYMBOL,
        accounts=(session.DEMO,),
        tick_size=units_of("0.01"),
        lot_size=units_of("0.00001"),
        start_price=5_000_000,
        typical_lots=1_000,
    )


def _place_record(command: Place) -> bytes:
    order = command.order
    return place_record(
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        time_in_force=order.time_in_force,
        quantity=units_of(order.quantity),
        price=units_of(order.price or "0"),
        stop_price=units_of(order.stop_price or "0"),
        display_quantity=units_of(order.display_quantity or "0"),
        post_only=order.post_only,
        client_order_id=order.client_order_id,
    )


def _venue(directory: Path, work: _Work) -> tuple[Any, Callable[[], None]]:
    """A venue with its journal in a new directory, and how to take it down."""
    from tradsys.adapters.log.files import OsFiles
    from tradsys.adapters.log.writer import LogWriter
    from tradsys.adapters.page.page import Page, boot_id
    from tradsys.compose import PAGE_FILE, recover_shard
    from tradsys.venue.clock import EngineClock
    from tradsys.venue.venue import Venue

    directory.mkdir()
    chosen = msgspec.structs.replace(session.settings_of_a_new_venue(), data_dir=str(directory))
    page = Page.create(str(directory / PAGE_FILE), boot_id())
    files = OsFiles()
    shard, recovered = recover_shard(chosen, files, None, lambda seq, last: None)
    clock = EngineClock(0, time.time_ns, time.monotonic_ns)
    segment_bytes = max(SEGMENT_BYTES_MIN, len(work.flow) * COMMAND_BYTES_MAX)
    journal = LogWriter.begin(
        str(directory), files, recovered, page, durable=False, segment_bytes=segment_bytes, time_ns=clock()
    )
    venue = Venue(shard, journal, clock, 0)
    venue.process(work.setup)

    def take_down() -> None:
        journal.close(clock())
        page.close()
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()

    return venue, take_down


def _measure(work: _Work, rounds: int, place: Path, progress: show.Progress) -> list[Row]:
    """Each stage in turn within a round, so that a slow moment of the machine meets all of them."""
    stages: list[tuple[str, int, Callable[[], float]]] = [
        ("decode an order, JSON", len(work.bodies), lambda: _decode_json(work)),
        ("decode a command, binary", len(work.flow), lambda: _decode_binary(work)),
        ("apply: risk and matching", len(work.flow), lambda: _apply(work)),
        ("encode and hash for the journal", len(work.flow), lambda: _encode_journal(work)),
        ("encode and write to the journal", len(work.flow), lambda: _append(work, place / "append", 1)),
        (f"the same, batches of {BATCH}", len(work.flow), lambda: _append(work, place / "batch", BATCH)),
        ("encode a reply, JSON", len(work.bodies), lambda: _encode_replies(work)),
        ("whole, JSON, one by one", len(work.flow), lambda: _whole(work, place / "whole")),
        (f"whole, binary, batches of {BATCH}", len(work.flow), lambda: _whole_batch(work, place / "whole")),
    ]
    taken: dict[str, list[float]] = {name: [] for name, _, _ in stages}
    done = 0
    for _ in range(rounds):
        for name, _, stage in stages:
            taken[name].append(stage())
            done += 1
            progress.move(done, rounds * len(stages))
            gc.collect()
    rows = []
    for name, count, _ in stages:
        seconds = statistics.median(taken[name])
        rows.append(Row(name, round(seconds / count * 1e6, 3), round(count / seconds)))
    return rows


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _decode_json(work: _Work) -> float:
    from tradsys.codec.json_v1 import decode_new_order, place_command

    bodies, grid = work.bodies, work.grid

    def run() -> None:
        for body in bodies:
            place_command(decode_new_order(body), session.DEMO, grid, 0, "")

    return _timed(run)


def _decode_binary(work: _Work) -> float:
    from tradsys.codec import binary_v1

    bodies, grid = _batches(work), work.grid

    def run() -> None:
        for body in bodies:
            for _ in binary_v1.commands(body, session.DEMO, lambda symbol: grid, 0):
                pass

    return _timed(run)


def _batches(work: _Work) -> list[bytes]:
    return [b"".join(work.records[i : i + BATCH]) for i in range(0, len(work.records), BATCH)]


def _apply(work: _Work) -> float:
    shard, first = work.shard(), len(work.setup) + 1

    def run() -> None:
        apply = shard.apply
        for seq, command in enumerate(work.commands, first):
            apply(command, seq, seq)

    return _timed(run)


def _entries(work: _Work) -> list[Any]:
    from tradsys.venue.ports import Entry

    shard, first = work.shard(), len(work.setup) + 1
    return [
        Entry(command, shard.apply(command, seq, seq)) for seq, command in enumerate(work.commands, first)
    ]


def _encode_journal(work: _Work) -> float:
    from tradsys.codec.frame import COMMANDS_FRAME, GENESIS, encode_frame, encode_payload

    entries = _entries(work)

    def run() -> None:
        for seq, entry in enumerate(entries, 1):
            payload = encode_payload((entry,))
            encode_frame(
                GENESIS,
                COMMANDS_FRAME,
                durable=False,
                epoch=1,
                first_seq=seq,
                count=1,
                time_ns=seq,
                payload=payload,
            )

    return _timed(run)


def _append(work: _Work, directory: Path, batch: int) -> float:
    venue, take_down = _venue(directory, work)
    entries: Sequence[Any] = _entries(work)
    first = len(work.setup) + 1

    def run() -> None:
        append = venue.journal.append
        for start in range(0, len(entries), batch):
            append(first + start, 1, entries[start : start + batch])

    seconds = _timed(run)
    take_down()
    return seconds


def _encode_replies(work: _Work) -> float:
    from tradsys.codec.json_v1 import encode, reply_of
    from tradsys.core.messages import PlaceOrder
    from tradsys.venue.venue import Done

    instrument = work.grid.instrument
    done = [
        Done(entry.command, seq, seq, entry.events, instrument)
        for seq, entry in enumerate(_entries(work), len(work.setup) + 1)
        if isinstance(entry.command, PlaceOrder)
    ]

    def run() -> None:
        for one in done:
            encode(reply_of(one, "a"))

    return _timed(run)


def _whole(work: _Work, directory: Path) -> float:
    """Orders from bytes to bytes, through the venue and its journal; cancels and replaces ready decoded."""
    from tradsys.codec.json_v1 import decode_new_order, encode, place_command, reply_of
    from tradsys.core.messages import PlaceOrder

    venue, take_down = _venue(directory, work)
    bodies, grid, clock = iter(work.bodies), work.grid, venue.clock

    def run() -> None:
        process = venue.process
        for command in work.commands:
            if command.__class__ is PlaceOrder:
                placed = place_command(decode_new_order(next(bodies)), session.DEMO, grid, clock(), "")
                encode(reply_of(process((placed,))[0], "a"))
            else:
                process((command,))

    seconds = _timed(run)
    take_down()
    return seconds


def _whole_batch(work: _Work, directory: Path) -> float:
    from tradsys.adapters.http.orders import binary_results
    from tradsys.codec import binary_v1

    venue, take_down = _venue(directory, work)
    grid = work.grid

    def run() -> None:
        for body in _batches(work):
            found = list(binary_v1.commands(body, session.DEMO, lambda symbol: grid, venue.clock()))
            binary_results(venue.process(found), venue)

    seconds = _timed(run)
    take_down()
    return seconds


def _memory(work: _Work, directory: Path) -> dict[str, int]:
    """Bytes that one resting order keeps, and that it needs for a moment on its way."""
    from tradsys.codec.json_v1 import decode_new_order, encode, place_command, reply_of

    venue, take_down = _venue(directory, work)
    grid = work.grid
    # Prices of their own, each below the others, so that every order rests and makes a level of its own.
    bodies = [
        b'{"symbol":"BTC-USD","side":"buy","type":"limit","quantity":"0.01","price":"%d"}' % (i + 1)
        for i in range(MEMORY_ORDERS)
    ]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    passing = []
    for body in bodies:
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        order = place_command(decode_new_order(body), session.DEMO, grid, venue.clock(), "")
        encode(reply_of(venue.process((order,))[0], "a"))
        del order
        passing.append(tracemalloc.get_traced_memory()[1] - start)
    kept = (tracemalloc.get_traced_memory()[0] - before) // MEMORY_ORDERS
    tracemalloc.stop()
    take_down()
    return {"kept by a resting order": kept, "needed at most on its way": int(statistics.median(passing))}
