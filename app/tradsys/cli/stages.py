"""The stages of an order, measured one by one in this process, through the real parts.

One seeded flow (see `tradsys.flow.model`) goes through all of them, with the journal on a disk. No socket and
no framework: those are measured by a load generator against a running venue.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

from tradsys.adapters.http.edge import Tally
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page, boot_id
from tradsys.cli import session
from tradsys.client.records import cancel_record, replace_record
from tradsys.codec import binary_v1
from tradsys.codec.decimals import grid_of
from tradsys.codec.errors import Problem
from tradsys.codec.frame import COMMANDS_FRAME, GENESIS, encode_frame, encode_payload
from tradsys.codec.json_order import place_command
from tradsys.codec.json_v1 import decode_new_order, encode, reply_of
from tradsys.compose.pieces import PAGE_FILE
from tradsys.compose.replay import recover_shard
from tradsys.core.messages import CancelOrder, Command, PlaceOrder, ReplaceOrder
from tradsys.core.shard import Shard
from tradsys.flow.commands import Cancel, FlowCommand, Place, order_of
from tradsys.flow.model import Model, commands, units_of
from tradsys.flow.send import order_record
from tradsys.venue.clock import EngineClock
from tradsys.venue.outcome import Done, Outcome
from tradsys.venue.ports import Entry
from tradsys.venue.venue import Venue

BATCH = 100
SYMBOL = "BTC-USD"
SEGMENT_BYTES_MIN = 64 << 20
COMMAND_BYTES_MAX = 1_024
"""More than a command takes in the journal."""
MEMORY_ORDERS = 2_000

Moved = Callable[[int, int], None]
"""Hears (measurements done, all)."""


class Row(Struct):
    stage: str
    microseconds: float
    """Of one command."""
    per_s: int


class Work:
    """The flow in every form in which a stage takes it."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed = seed
        self.flow: list[FlowCommand] = list(islice(commands(_model(seed)), count))
        self.setup = session.settings_of_a_new_venue().seed.commands()
        shard = self.shard()
        self.grid = grid_of(shard.markets[SYMBOL].instrument)
        self.bodies: list[bytes] = []
        """`POST /orders`, one for each order."""
        self.records: list[bytes] = []
        """The binary form of each command."""
        self.commands: list[Command] = []
        numbers: dict[str, int] = {}
        for seq, command in enumerate(self.flow, len(self.setup) + 1):
            if isinstance(command, Place):
                numbers[order_of(command)] = seq
                body = msgspec.json.encode(command.order)
                self.bodies.append(body)
                order = decode_new_order(body)
                self.commands.append(place_command(order, session.DEMO, self.grid, 0, ""))
                self.records.append(order_record(command.order))
                continue
            number = numbers[order_of(command)]
            if isinstance(command, Cancel):
                self.commands.append(CancelOrder(session.DEMO, number))
                self.records.append(cancel_record(number))
            else:
                qty = self.grid.lots(command.quantity)
                price = self.grid.ticks(command.price) if command.price else 0
                self.commands.append(ReplaceOrder(session.DEMO, number, qty, price))
                quantity = units_of(command.quantity)
                self.records.append(replace_record(SYMBOL, number, quantity, units_of(command.price or "0")))

    def shard(self) -> Shard:
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


def _venue(directory: Path, work: Work) -> tuple[Venue, Callable[[], None]]:
    """A venue with its journal in a new directory, and how to take it down."""
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


def measure(work: Work, rounds: int, place: Path, moved: Moved) -> list[Row]:
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
            moved(done, rounds * len(stages))
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


def _decode_json(work: Work) -> float:

    bodies, grid = work.bodies, work.grid

    def run() -> None:
        for body in bodies:
            place_command(decode_new_order(body), session.DEMO, grid, 0, "")

    return _timed(run)


def _decode_binary(work: Work) -> float:

    bodies, grid = _batches(work), work.grid

    def run() -> None:
        for body in bodies:
            for _ in binary_v1.commands(body, session.DEMO, lambda symbol: grid, no_order, 0):
                pass

    return _timed(run)


def no_order(account: str, number: int) -> None:
    """These batches change no orders."""


def _batches(work: Work) -> list[bytes]:
    return [b"".join(work.records[i : i + BATCH]) for i in range(0, len(work.records), BATCH)]


def _apply(work: Work) -> float:
    shard, first = work.shard(), len(work.setup) + 1

    def run() -> None:
        apply = shard.apply
        for seq, command in enumerate(work.commands, first):
            apply(command, seq, seq)

    return _timed(run)


def _entries(work: Work) -> list[Entry]:

    shard, first = work.shard(), len(work.setup) + 1
    return [
        Entry(command, shard.apply(command, seq, seq)) for seq, command in enumerate(work.commands, first)
    ]


def _encode_journal(work: Work) -> float:

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


def _append(work: Work, directory: Path, batch: int) -> float:
    venue, take_down = _venue(directory, work)
    entries: Sequence[Entry] = _entries(work)
    first = len(work.setup) + 1

    def run() -> None:
        append = venue.journal.append
        for start in range(0, len(entries), batch):
            append(first + start, 1, entries[start : start + batch])

    seconds = _timed(run)
    take_down()
    return seconds


def _encode_replies(work: Work) -> float:

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


def _whole(work: Work, directory: Path) -> float:
    """Orders from bytes to bytes, through the venue and its journal; cancels and replaces ready decoded."""

    venue, take_down = _venue(directory, work)
    bodies, grid, clock = iter(work.bodies), work.grid, venue.clock

    def run() -> None:
        process = venue.process
        for command in work.commands:
            if command.__class__ is PlaceOrder:
                placed = place_command(decode_new_order(next(bodies)), session.DEMO, grid, clock(), "")
                encode(reply_of(_done(process((placed,))), "a"))
            else:
                process((command,))

    seconds = _timed(run)
    take_down()
    return seconds


def _done(outcomes: Sequence[Outcome]) -> Done:
    (outcome,) = outcomes
    assert isinstance(outcome, Done)
    return outcome


def _whole_batch(work: Work, directory: Path) -> float:

    venue, take_down = _venue(directory, work)
    grid = work.grid
    tally = Tally()

    def run() -> None:
        for body in _batches(work):
            decoded = binary_v1.commands(body, session.DEMO, lambda symbol: grid, no_order, venue.clock())
            outcomes = venue.process([command for command in decoded if not isinstance(command, Problem)])
            binary_v1.results(outcomes, tally.errors)

    seconds = _timed(run)
    take_down()
    return seconds


def memory(work: Work, directory: Path) -> dict[str, int]:
    """Bytes that one resting order keeps, and that it needs for a moment on its way."""

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
        encode(reply_of(_done(venue.process((order,))), "a"))
        del order
        passing.append(tracemalloc.get_traced_memory()[1] - start)
    kept = (tracemalloc.get_traced_memory()[0] - before) // MEMORY_ORDERS
    tracemalloc.stop()
    take_down()
    return {"kept by a resting order": kept, "needed at most on its way": int(statistics.median(passing))}
