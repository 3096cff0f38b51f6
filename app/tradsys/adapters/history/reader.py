"""The read model as others may read it: own orders and fills, everybody's trades, candles and books.

Each answer comes from one transaction, so its rows and its sequence number belong together. Orders come
out as the core's `Order`, so that one function makes their text here and in the engine.

A list looks at no more than SCAN_ROWS_MAX rows for one page, however rare what is asked for is: a page may
hold fewer items than wanted and still have a next one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct

from tradsys.adapters.history import sql
from tradsys.adapters.history.readmodel import OrderRow, candle_of
from tradsys.adapters.history.sqlite import Pragmas, SchemaDiffers, open_for_reading
from tradsys.core.messages import (
    REJECTED,
    TRADE_EVENT,
    Event,
    Instrument,
    PlaceOrder,
    RevokeToken,
)
from tradsys.core.order import Order
from tradsys.venue.past import (
    NEWEST,
    OPEN,
    CandlesPage,
    FillsPage,
    HistoryNotReady,
    OrdersPage,
    PastBook,
    PastFill,
    PastOrder,
    PastTrade,
    PastView,
    TradesPage,
)

SCAN_ROWS_MAX = 10_000
BOOK_ORDERS_MAX = 10_000
"""Of a side, the best: 0.4 MB of text. Who wants all of a longer one follows the stream `book_l3`."""
ORDER_FILLS_MAX = 10_000
"""Latest fills that come with an order; the list of fills has all of them."""


class ReadModelReader:
    """Read-only access; each thread has a connection of its own, opened when it first asks."""

    def __init__(self, path: Path, pragmas: Pragmas) -> None:
        self._path = path
        self._pragmas = pragmas
        self._threads = threading.local()

    @contextmanager
    def view(self) -> Iterator[PastView]:
        """What is in the read model now, all of it as of one sequence number.

        Raises HistoryNotReady while there is none.
        """
        opened = self._opened()
        db = opened.db
        try:
            db.execute(sql.BEGIN_READING)
            position = db.execute(sql.READ_POSITION).fetchone()
        except (apsw.SQLError, apsw.BusyError) as error:
            # The tables are just being made.
            self.close()
            raise HistoryNotReady from error
        try:
            yield _View(db, _At(*position) if position else _At(), opened.instruments)
        finally:
            db.execute(sql.COMMIT)

    def close(self) -> None:
        """Close this thread's connection; the next view opens one again."""
        opened: _Opened | None = getattr(self._threads, "opened", None)
        if opened is not None:
            opened.db.close()
            self._threads.opened = None

    def _opened(self) -> _Opened:
        """This thread's connection to the file that has the name now: history may have begun a new one."""
        try:
            inode = os.stat(self._path).st_ino
            opened: _Opened | None = getattr(self._threads, "opened", None)
            if opened is None or opened.inode != inode:
                self.close()
                opened = _Opened(open_for_reading(self._path, self._pragmas), inode)
                self._threads.opened = opened
        except (OSError, apsw.CantOpenError, SchemaDiffers) as error:
            raise HistoryNotReady from error
        return opened


class _Opened:
    """A connection, the file that it is to, and what never changes in it."""

    def __init__(self, db: apsw.Connection, inode: int) -> None:
        self.db = db
        self.inode = inode
        self.instruments: dict[int, Instrument] = {}


class _At(Struct, frozen=True):
    """The last command that a view has."""

    seq: int = 0
    epoch: int = 0
    time_ns: int = 0
    book_known: int = 1


class _View:
    """One transaction's answers."""

    def __init__(self, db: apsw.Connection, at: _At, instruments: dict[int, Instrument]) -> None:
        self._db = db
        self._at = at
        self.seq = at.seq
        self._instruments = instruments

    def order(self, account: str, order_id: int) -> PastOrder | None:
        found = self._ask(sql.FIND_ORDER, order_id, account)
        return self._order(found[0]) if found else None

    def order_by_client(self, account: str, client_order_id: str) -> PastOrder | None:
        found = self._ask(sql.FIND_ORDER_BY_CLIENT, account, client_order_id)
        return self._order(found[0]) if found else None

    def orders(
        self, account: str, *, symbol: str = "", status: int = 0, before: int = NEWEST, limit: int
    ) -> OrdersPage:
        if status == OPEN:
            rows = self._ask(sql.LIST_OPEN_ORDERS, account, before, symbol, limit)
            looked_at = []
        else:
            rows = self._ask(sql.LIST_ORDERS, account, before, symbol, status, limit, SCAN_ROWS_MAX)
            looked_at = self._ask(sql.LAST_ORDER_LOOKED_AT, account, before, SCAN_ROWS_MAX - 1)
        last = rows[-1:] if len(rows) == limit else looked_at
        return OrdersPage([self._order(row) for row in rows], last[0][0] if last else None)

    def fills(
        self, account: str, *, symbol: str = "", before: tuple[int, int] = (NEWEST, 0), limit: int
    ) -> FillsPage:
        rows = self._ask(sql.LIST_FILLS, account, *before, symbol, limit, SCAN_ROWS_MAX)
        looked_at = self._ask(sql.LAST_FILL_LOOKED_AT, account, *before, SCAN_ROWS_MAX - 1)
        last = rows[-1:] if len(rows) == limit else looked_at
        items = [
            PastFill(row[2], row[3], self._instrument(row[4]), row[1], row[9], row[10], _trade_event(row))
            for row in rows
        ]
        return FillsPage(items, (last[0][0], last[0][1]) if last else None)

    def trades(self, symbol: str, *, before: int = NEWEST, limit: int) -> TradesPage:
        rows = self._ask(sql.LIST_TRADES, symbol, before, limit)
        items = [
            PastTrade(trade_id, self._instrument(instrument), price, qty, taker_side, seq, time_ns)
            for trade_id, instrument, price, qty, taker_side, seq, time_ns in rows
        ]
        return TradesPage(items, rows[-1][0] if len(rows) == limit else None)

    def candles(
        self, symbol: str, interval_ns: int, *, start_ns: int = 0, before_ns: int = NEWEST, limit: int
    ) -> CandlesPage:
        rows = self._ask(sql.LIST_CANDLES, symbol, interval_ns, start_ns, before_ns, limit)
        return CandlesPage([candle_of(row) for row in rows], rows[-1][0] if len(rows) == limit else None)

    def book(self, symbol: str, levels_max: int, *, orders: bool = False) -> PastBook:
        """The best levels; with `orders` the orders in them, at most `BOOK_ORDERS_MAX` of a side."""
        if not self._at.book_known:
            raise HistoryNotReady
        self._load_instruments()
        instrument = max(
            (one for one in self._instruments.values() if one.symbol == symbol), key=lambda one: one.version
        )
        if orders:
            bids = self._orders_in(sql.LIST_BID_ORDERS, symbol, levels_max)
            asks = self._orders_in(sql.LIST_ASK_ORDERS, symbol, levels_max)
        else:
            bids = self._levels_in(sql.LIST_BIDS, symbol, levels_max)
            asks = self._levels_in(sql.LIST_ASKS, symbol, levels_max)
        return PastBook(instrument, self._at.epoch, self._at.time_ns, bids, asks)

    def _levels_in(self, statement: str, symbol: str, levels_max: int) -> list[tuple[int, ...]]:
        return [(price, (high << 20) + low) for price, high, low in self._ask(statement, symbol, levels_max)]

    def _orders_in(self, statement: str, symbol: str, levels_max: int) -> list[tuple[int, ...]]:
        found, levels, last = [], 0, 0
        rows = self._db.execute(statement, (symbol,))
        for row in rows:
            if row[0] != last:
                levels, last = levels + 1, row[0]
                if levels > levels_max:
                    break
            found.append(row)
            if len(found) == BOOK_ORDERS_MAX:
                break
        rows.close()
        return found

    def has_symbol(self, symbol: str) -> bool:
        if all(instrument.symbol != symbol for instrument in self._instruments.values()):
            self._load_instruments()
        return any(instrument.symbol == symbol for instrument in self._instruments.values())

    def revocations(self, after_seq: int) -> list[tuple[int, RevokeToken]]:
        """(seq, command) of what was revoked after a sequence number, in order."""
        return [
            (seq, RevokeToken(jti, account, issued_until, expires))
            for seq, jti, account, issued_until, expires in self._ask(sql.LIST_REVOCATIONS, after_seq)
        ]

    def _ask(self, statement: str, *bindings: int | str) -> list[tuple[Any, ...]]:
        return self._db.execute(statement, bindings).fetchall()

    def _order(self, found: tuple[Any, ...]) -> PastOrder:
        row = OrderRow(*found)  # its cost may be text
        order = Order(row.id, row.side, row.price, row.quantity, 0, 0, None)
        order.command = PlaceOrder(
            row.account,
            row.symbol,
            row.side,
            row.type,
            row.time_in_force,
            row.quantity,
            row.price,
            row.stop_price,
            client_order_id=row.client_order_id,
        )
        order.instrument = self._instrument(row.instrument)
        order.open_qty = row.open_quantity
        order.cost = int(row.cost)
        order.status = row.status
        order.closed_reason = 0 if row.status == REJECTED else row.reason
        order.version = row.version
        order.created_ns = row.created_ns
        order.updated_ns, order.updated_seq = row.updated_ns, row.updated_seq
        if row.last_trade:
            fills = self._ask(sql.ORDER_FILLS, row.account, row.id, row.last_trade, ORDER_FILLS_MAX)
            order.fills = [
                (fill[10], fill[9], row.side if fill[8] else -row.side, _trade_event(fill))
                for fill in reversed(fills)
            ]
        return PastOrder(order, row.reason if row.status == REJECTED else 0)

    def _instrument(self, version: int) -> Instrument:
        found = self._instruments.get(version)
        if found is None:
            self._load_instruments()
            found = self._instruments[version]
        return found

    def _load_instruments(self) -> None:
        known = self._instruments
        for version, symbol, base, quote, tick_size, lot_size in self._ask(sql.GET_INSTRUMENTS):
            # Each only once: its grid is kept for as long as the process lives.
            if version not in known:
                known[version] = Instrument(symbol, base, quote, tick_size, lot_size, version=version)


def _trade_event(row: tuple[Any, ...]) -> Event:
    """The trade as seen from one of its two orders: the other one's id and fee are left out."""
    trade_id, order_id, _, _, _, price, qty, fee, is_taker, _, _ = row
    if is_taker:
        return (TRADE_EVENT, trade_id, 0, order_id, price, qty, 0, fee, 0, 0)
    return (TRADE_EVENT, trade_id, order_id, 0, price, qty, fee, 0, 0, 0)
