"""The fold: commands and their events, as rows of the read model's tables.

It needs nothing but commands, their events and the rows that are there already: no state of the shard. What
one transaction is to write gathers in lists; `readmodel.py` binds them as they are.

A row of `orders` is a list in the order of its columns, a trade or a fill is appended to one long list: what
a row is made from are the very objects that were decoded, and nobody takes them apart in between. Compiled in
a release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import msgspec

from tradsys.core.messages import (
    ACCEPTED_EVENT,
    CLOSED_EVENT,
    FILLED,
    LIMIT,
    NEW,
    PARTIALLY_FILLED,
    REFUSED_EVENT,
    REJECTED,
    REPLACED_EVENT,
    REPLENISHED_EVENT,
    RESTED_EVENT,
    SET_EVENT,
    STOP_LIMIT,
    TRADE_EVENT,
    TRIGGERED_EVENT,
    DefineInstrument,
    Event,
    Instrument,
    PlaceOrder,
    RevokeToken,
)
from tradsys.venue.ports import Entry

OPEN_ROWS_MAX: Final = 50_000
"""Open orders kept in memory between transactions, so that a fill or a cancel rarely needs a get."""
PLACES: Final = 1 << 20
"""Places that one command may give out; it has far fewer events."""
COST_MAX: Final = (1 << 63) - 1
"""A larger cost is text, here as in its column."""
SECOND_NS: Final = 1_000_000_000

Row = list[Any]

# The columns of `orders`.
ID: Final = 0
ACCOUNT: Final = 1
SYMBOL: Final = 2
SIDE: Final = 3
QUANTITY: Final = 6
PRICE: Final = 7
INSTRUMENT: Final = 11
STATUS: Final = 12
REASON: Final = 13
OPEN_QUANTITY: Final = 14
COST: Final = 15
VERSION: Final = 16
UPDATED_NS: Final = 17
UPDATED_SEQ: Final = 18
SHOWN: Final = 19
PLACE: Final = 20
LAST_TRADE: Final = 21

_changes: Callable[[Row], tuple[Any, ...]] = itemgetter(
    QUANTITY, PRICE, INSTRUMENT, STATUS, REASON, OPEN_QUANTITY, COST, VERSION, UPDATED_NS, UPDATED_SEQ, SHOWN,
    PLACE, LAST_TRADE, ID,
)  # fmt: skip
_astuple = msgspec.structs.astuple


class Fold:
    """What the transaction under way means for the tables."""

    def __init__(self, get: Callable[[int], Row]) -> None:
        """`get` reads the row of an order that is not in memory."""
        self._get = get
        self.upto = 0
        """The last command that the tables have."""
        self.rows: dict[int, Row] = {}
        """Rows by id that the transaction under way may change, and open ones of earlier transactions."""
        self.placed: list[Row] = []
        self.changed: dict[int, Row] = {}
        """Rows that the tables have, and have otherwise."""
        self.trades: list[Any] = []
        self.fills: list[Any] = []
        """Both row after row, as they are bound."""
        self.trade_count = 0
        self.defined: list[tuple[Any, ...]] = []
        self.revoked: list[tuple[int, tuple[Any, ...]]] = []
        """(unix seconds of the command, row)"""
        self.seconds: dict[str, list[list[int]]] = {}
        """The candles of one second that this transaction adds to, by symbol, as far as it does."""
        self.versions = 0
        self.version_of: dict[str, int] = {}
        """Symbol -> the version of its instrument that holds now."""
        self.grids: dict[int, tuple[int, int]] = {}
        """Tick and lot size by version, in 1e-8."""

    def take(self, seq: int, now: int, entries: Sequence[Entry]) -> None:
        """Commands of one frame, the first with number `seq`.

        A refused order gets its row, too; without a symbol it has no text, and nobody can ask for it.
        """
        rows, placed, version_of = self.rows, self.placed, self.version_of
        place_order = PlaceOrder
        for entry in entries:
            command: Any = entry.command
            events: list[Event] = entry.events
            verb = type(command)
            if verb is place_order:
                fields = _astuple(command)
                version = version_of.get(fields[1])
                if version is not None:
                    first = events[0]
                    refused = first[0] == REFUSED_EVENT
                    kind: int = fields[3]
                    qty: Any = fields[5]
                    row = [
                        seq,
                        fields[0],
                        fields[1],
                        fields[2],
                        fields[3],
                        fields[4],
                        qty,
                        fields[6] if kind in (LIMIT, STOP_LIMIT) else 0,
                        fields[7],
                        fields[13],
                        now,
                        version,
                        REJECTED if refused else NEW,
                        first[1] if refused else 0,
                        qty,
                        0,
                        0,
                        now,
                        seq,
                        0,
                        0,
                        0,
                    ]
                    placed.append(row)
                    rows[seq] = row
            elif verb is DefineInstrument and events[0][0] == SET_EVENT:
                self._define(command.instrument)
            elif verb is RevokeToken and events[0][0] == SET_EVENT:
                row_of_token = (command.jti, command.account, command.issued_until, command.expires, seq)
                self.revoked.append((now // SECOND_NS, row_of_token))
            place = seq * PLACES
            for event in events:
                what: int = event[0]
                if what == ACCEPTED_EVENT:
                    pass
                elif what == RESTED_EVENT:
                    row = self.row(event[1])
                    row[SHOWN] = event[4]
                    row[PLACE] = place if row[SIDE] < 0 else -place
                elif what == CLOSED_EVENT:
                    row = self.row(event[1])
                    row[STATUS] = event[2]
                    row[REASON] = event[3]
                    row[OPEN_QUANTITY] = event[4]
                    row[UPDATED_NS] = now
                    row[UPDATED_SEQ] = seq
                    row[SHOWN] = 0
                elif what == TRADE_EVENT:
                    self._trade(event, seq, now)
                elif what == REPLENISHED_EVENT:
                    row = self.row(event[1])
                    row[SHOWN] = event[2]
                    row[PLACE] = place if row[SIDE] < 0 else -place
                elif what == REPLACED_EVENT:
                    row = self.row(event[1])
                    row[PRICE] = event[3]
                    row[QUANTITY] = event[4]
                    row[OPEN_QUANTITY] = event[5]
                    row[SHOWN] = min(row[SHOWN], event[5]) if event[6] else 0
                    row[VERSION] = event[2]
                    row[INSTRUMENT] = version_of[row[SYMBOL]]
                    row[UPDATED_NS] = now
                    row[UPDATED_SEQ] = seq
                elif what == TRIGGERED_EVENT:
                    row = self.row(event[1])
                    row[UPDATED_NS] = now
                    row[UPDATED_SEQ] = seq
                place += 1
            seq += 1

    def row(self, order_id: int) -> Row:
        """The row of an order, to be changed by this transaction."""
        row = self.rows.get(order_id)
        if row is None:
            row = self.rows[order_id] = self._get(order_id)
        if order_id <= self.upto:
            self.changed[order_id] = row
        return row

    def _trade(self, event: Event, seq: int, now: int) -> None:
        trade_id: Any = event[1]
        maker_id: Any = event[2]
        taker_id: Any = event[3]
        price: int = event[4]
        qty: int = event[5]
        maker, taker = self.row(maker_id), self.row(taker_id)
        # Both orders lie on one grid: it only changes while no order of the symbol is open.
        symbol: str = taker[SYMBOL]
        instrument: int = taker[INSTRUMENT]
        self.take_into_candle(symbol, instrument, price, qty, now)
        self.trade_count += 1
        self.trades += (
            trade_id, symbol, instrument, price, qty, taker[SIDE], maker_id, taker_id, seq, now,
        )  # fmt: skip
        self.fills += (
            maker_id, trade_id, maker[ACCOUNT], symbol, maker[SIDE], instrument,
            price, qty, event[6], 0, seq, now, maker[LAST_TRADE],
            taker_id, trade_id, taker[ACCOUNT], symbol, taker[SIDE], instrument,
            price, qty, event[7], 1, seq, now, taker[LAST_TRADE],
        )  # fmt: skip
        maker[SHOWN] -= qty
        self._filled(maker, price * qty, event[8], trade_id, seq, now)
        self._filled(taker, price * qty, event[9], trade_id, seq, now)

    def _filled(self, row: Row, cost: int, open_qty: int, trade_id: Any, seq: int, now: int) -> None:
        cost += int(row[COST])
        row[COST] = cost if cost <= COST_MAX else str(cost)
        row[OPEN_QUANTITY] = open_qty
        row[STATUS] = PARTIALLY_FILLED if open_qty else FILLED
        row[LAST_TRADE] = trade_id
        row[UPDATED_NS] = now
        row[UPDATED_SEQ] = seq

    def take_into_candle(self, symbol: str, instrument: int, price: int, qty: int, now: int) -> None:
        tick_size, lot_size = self.grids[instrument]
        price *= tick_size
        qty *= lot_size
        seconds = self.seconds.get(symbol)
        if seconds is None:
            seconds = self.seconds[symbol] = []
        start = now - now % SECOND_NS
        if seconds and seconds[-1][0] == start:
            second = seconds[-1]
            if price > second[2]:
                second[2] = price
            elif price < second[3]:
                second[3] = price
            second[4] = price
            second[5] += qty
            second[6] += 1
        else:
            seconds.append([start, price, price, price, price, qty, 1])

    def _define(self, wanted: Instrument) -> None:
        """An accepted definition is the next version, as in the shard."""
        version = self.versions
        self.defined.append(
            (version, wanted.symbol, wanted.base, wanted.quote, wanted.tick_size, wanted.lot_size)
        )
        self.versions = version + 1
        self.version_of[wanted.symbol] = version
        self.grids[version] = wanted.tick_size, wanted.lot_size

    # What is bound is forgotten here if it is over, while it is still in the processor's cache.

    def insertion(self, count: int) -> list[Any]:
        """The columns of so many rows, one row after the other, taken from the end of `placed`."""
        columns: list[Any] = []
        for _ in range(count):
            row = self.placed.pop()
            columns += row
            status: int = row[STATUS]
            if status > PARTIALLY_FILLED:
                del self.rows[row[ID]]
        return columns

    def update(self, row: Row) -> tuple[Any, ...]:
        """The bindings of UPDATE_ORDER for one of `changed`."""
        status: int = row[STATUS]
        if status > PARTIALLY_FILLED:
            del self.rows[row[ID]]
        return _changes(row)

    def written(self, upto: int) -> None:
        """The tables have it all now: keep what is still open, within the cap."""
        rows = self.rows
        # In one go: taking the first of a dict walks over the slots of those taken before it.
        for order_id in list(islice(rows, max(0, len(rows) - OPEN_ROWS_MAX))):
            del rows[order_id]
        self._clear()
        self.upto = upto

    def forget(self, upto: int) -> None:
        """Only what the tables say is known, which end with `upto`. The caller tells the instruments."""
        self.rows.clear()
        self._clear()
        self.upto = upto
        self.versions = 0
        self.version_of.clear()
        self.grids.clear()

    def _clear(self) -> None:
        self.placed.clear()
        self.changed.clear()
        self.trades.clear()
        self.fills.clear()
        self.trade_count = 0
        self.defined.clear()
        self.revoked.clear()
        self.seconds.clear()
