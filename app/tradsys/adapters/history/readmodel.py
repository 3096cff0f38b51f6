"""The read model's one writer: frames of the journal folded into rows.

The fold needs nothing but commands, their events and its own rows: no state of the shard. So it can
start at any sequence number that the tables end with, whether the newest snapshot is older or newer.
Where it stands is a row of the same transaction as the rows it wrote; a crash at any moment leaves the
tables as they were after some whole frame, and the fold goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from copy import copy
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
from msgspec import Struct

from tradsys import metrics
from tradsys.adapters.history import sql
from tradsys.adapters.history.fold import PLACES, Fold, Row
from tradsys.adapters.history.sqlite import Pragmas, open_database
from tradsys.core.candles import INTERVALS, Candle, start_of
from tradsys.core.market import Market
from tradsys.core.messages import LIMIT, STOP_LIMIT, PlaceOrder
from tradsys.core.order import Level, Order
from tradsys.core.shard import Shard
from tradsys.venue.ports import Frame


class Position(Struct, frozen=True):
    """How far the tables reach: the last command in them, and the journal's chain after its frame."""

    seq: int
    chain: bytes


NOTHING = Position(0, b"")


class OrderRow(Struct, gc=False):
    """One row of `orders`, in the order of its columns."""

    id: int
    account: str
    symbol: str
    side: int
    type: int
    time_in_force: int
    quantity: int
    price: int
    stop_price: int
    client_order_id: str
    created_ns: int
    instrument: int
    status: int
    reason: int
    open_quantity: int
    cost: int
    """Sum of price × quantity of the fills, ticks × lots. Text in the table once it needs over 63 bits."""
    version: int
    updated_ns: int
    updated_seq: int
    shown: int = 0
    """Lots that the book shows; 0: it is not in the book."""
    place: int = 0
    """Orders a level, and the level's orders as `price` orders the levels: × −side."""
    last_trade: int = 0
    """The row of `fills` that came last; it knows the one before."""


class ReadModelError(Exception):
    """An event names an order that the tables don't have: tables and journal don't belong together."""


class ReadModelMoved(Exception):
    """Another process has rebuilt the tables: they stand elsewhere now than this one had left them."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} was rebuilt meanwhile")


class ReadModel:
    """The read model's only writing connection. Not for use by several threads."""

    def __init__(self, path: Path, pragmas: Pragmas, words: MutableSequence[int]) -> None:
        """Open or create the tables and bring the schema up to date.

        Raises SqliteTooOld, PragmaNotInForce, SchemaTooNew, apsw.CorruptError and apsw.NotADBError.
        """
        self.path = path
        self.db = open_database(path, pragmas)
        self.pragmas = pragmas.read_back(self.db)
        """The settings in force, as SQLite reports them."""
        self.position = self._read_position()
        self.knows_book = self.db.execute(sql.BOOK_IS_UNKNOWN).fetchone() is None
        """False for an older file, until `learn_book`."""
        self._words = words
        self._transaction = metrics.READMODEL_DURATION.series()
        self._get = metrics.READMODEL_STATEMENT_DURATION.series("get")
        self._insert = metrics.READMODEL_STATEMENT_DURATION.series("insert")
        self._update = metrics.READMODEL_STATEMENT_DURATION.series("update")
        self._commands = metrics.READMODEL_COMMANDS.word()
        self._fold = Fold(self._get_row)
        self._candles: dict[tuple[str, int], Candle] = {}
        """The latest candle of a symbol and interval, as it is in the tables."""
        self._fold.upto = self.position.seq
        self._load_instruments()

    def close(self) -> None:
        self.db.close()

    # --- following the journal ----------------------------------------------------------------------

    def write(self, frames: Sequence[Frame], chain: bytes) -> None:
        """Fold whole frames that follow each other and the position, in one transaction.

        `chain` is the journal's chain after the last of them. On any error nothing was written and the
        position is as it was. Raises ReadModelMoved.
        """
        started = perf_counter_ns()
        assert frames[0].first_seq == self.position.seq + 1, "frames must follow the position"
        execute = self.db.execute
        execute(sql.BEGIN)
        try:
            if self._read_position() != self.position:
                raise ReadModelMoved(self.path)
            reached = self._write_frames(frames, chain)
            execute(sql.COMMIT)
        except BaseException:
            self._undo()
            raise
        words = self._words
        words[self._commands] += reached.seq - self.position.seq
        self._transaction.observe(words, perf_counter_ns() - started)
        self.position = reached
        self._fold.written(reached.seq)

    def rebuild(self, batches: Iterable[tuple[Sequence[Frame], bytes]]) -> None:
        """Forget everything and fold the journal anew from its first command, in one transaction.

        Whoever reads meanwhile sees the tables as they were. Each batch is what `write` takes. On any error
        the tables are as they were.
        """
        execute = self.db.execute
        execute(sql.BEGIN)
        try:
            for forget in sql.FORGET_EVERYTHING:
                execute(forget)
            self.position = NOTHING
            self._forget()
            for frames, chain in batches:
                assert frames[0].first_seq == self.position.seq + 1, "frames must follow each other"
                self.position = self._write_frames(frames, chain)
                self._fold.written(self.position.seq)
            execute(sql.COMMIT)
        except BaseException:
            self._undo()
            self.position = self._read_position()
            self._fold.upto = self.position.seq
            raise
        self.knows_book = True

    def _write_frames(self, frames: Sequence[Frame], chain: bytes) -> Position:
        """Within a transaction: the rows of whole frames, and the position behind them."""
        take = self._fold.take
        for frame in frames:
            take(frame.first_seq, frame.time_ns, frame.entries)
        self._flush()
        last = frames[-1]
        reached = Position(last.first_seq + len(last.entries) - 1, chain)
        self.db.execute(sql.PUT_POSITION, (reached.seq, reached.chain, last.epoch, last.time_ns))
        return reached

    def _read_position(self) -> Position:
        found = self.db.execute(sql.GET_POSITION).fetchone()
        return NOTHING if found is None else Position(*found[:2])

    def _flush_candles(self) -> None:
        """Join the seconds into the candles of every interval, and write those that have changed."""
        candles = self._candles
        changed: list[tuple[str, int, Candle]] = []
        for symbol, taken in self._fold.seconds.items():
            seconds = [Candle(*second) for second in taken]
            for interval_ns in INTERVALS.values():
                candle = candles.get((symbol, interval_ns))
                for second in seconds:
                    start = start_of(second.start_ns, interval_ns)
                    if candle is None or candle.start_ns != start:
                        candle = self._candle(symbol, interval_ns, start)
                        if candle is not None:
                            candle.join(second)
                        else:
                            candle = copy(second)
                            candle.start_ns = start
                        changed.append((symbol, interval_ns, candle))
                    else:
                        candle.join(second)
                        if not changed or changed[-1][2] is not candle:
                            changed.append((symbol, interval_ns, candle))
                assert candle is not None
                candles[symbol, interval_ns] = candle
        self.db.executemany(sql.PUT_CANDLE, (sql.candle_row(*one) for one in changed))

    def _candle(self, symbol: str, interval_ns: int, start_ns: int) -> Candle | None:
        """What the tables have of an interval: something only after a start, or a transaction that failed."""
        if (symbol, interval_ns) in self._candles:
            return None
        found = self.db.execute(sql.GET_CANDLE, (symbol, interval_ns, start_ns)).fetchone()
        return None if found is None else candle_of(found)

    def _get_row(self, order_id: int) -> Row:
        """The row of an order that the tables have."""
        started = perf_counter_ns()
        found = self.db.execute(sql.GET_ORDER, (order_id,)).fetchone()
        self._get.observe(self._words, perf_counter_ns() - started)
        if found is None:
            raise ReadModelError(f"no row of order {order_id}; the tables end with {self.position.seq}")
        return [*found]

    def _flush(self) -> None:
        fold, many, words = self._fold, self.db.executemany, self._words
        if fold.defined:
            many(sql.INSERT_INSTRUMENT, fold.defined)
        for now_s, revoked in fold.revoked:
            # One by one, as the shard does it: what is forgotten must not depend on the transaction.
            self.db.execute(sql.FORGET_REVOCATIONS, (now_s,))
            self.db.execute(sql.PUT_REVOCATION, revoked)
        if fold.placed:
            placed = len(fold.placed)
            started = perf_counter_ns()
            fold.placed.reverse()
            for rows, (_, statement) in zip(sql.ROWS_AT_ONCE, sql.INSERT_ORDERS, strict=True):
                while len(fold.placed) >= rows:
                    self.db.execute(statement, fold.insertion(rows))
            self._insert.observe(words, (perf_counter_ns() - started) // placed)
        if fold.changed:
            started = perf_counter_ns()
            many(sql.UPDATE_ORDER, map(fold.update, fold.changed.values()))
            self._update.observe(words, (perf_counter_ns() - started) // len(fold.changed))
        if fold.trades:
            self._put(sql.INSERT_TRADES, fold.trades)
            self._put(sql.INSERT_FILLS, fold.fills)
            self._flush_candles()

    def _put(self, inserts: tuple[tuple[int, str], ...], bindings: list[Any]) -> None:
        """Insert row after row; `inserts` is what `sql.by_rows` gives."""
        execute, at = self.db.execute, 0
        for many, statement in inserts:
            for _ in range((len(bindings) - at) // many):
                execute(statement, bindings[at : at + many])
                at += many

    def _undo(self) -> None:
        """Forget a transaction that failed, in SQLite and here."""
        if self.db.in_transaction:
            self.db.execute(sql.ROLLBACK)
        self._forget()

    def _forget(self) -> None:
        """Nothing is known here but what the tables say."""
        self._fold.forget(self.position.seq)
        self._candles.clear()
        self._load_instruments()

    def _load_instruments(self) -> None:
        fold = self._fold
        for version, symbol, _, _, tick_size, lot_size in self.db.execute(sql.GET_INSTRUMENTS):
            fold.versions = version + 1
            fold.version_of[symbol] = version
            fold.grids[version] = tick_size, lot_size

    # --- bridging a gap -----------------------------------------------------------------------------

    def bridge(self, shard: Shard, position: Position, epoch: int, time_ns: int) -> None:
        """Go on from a snapshot, where the journal between the tables and it is no longer retained.

        Rows of before stay as they are. Orders that were open then and that the shard has forgotten are
        removed: how they ended is not known. Candles are those of the trades that are there. One
        transaction, in proportion to the orders in memory.
        """
        assert position.seq > self.position.seq
        execute, many = self.db.execute, self.db.executemany
        execute(sql.BEGIN)
        try:
            last_trades = {row[0]: row[1] for row in execute(sql.OPEN_ORDERS_LAST_TRADES)}
            execute(sql.FORGET_OPEN_ORDERS)
            many(
                sql.PUT_INSTRUMENT,
                ((i.version, i.symbol, i.base, i.quote, i.tick_size, i.lot_size) for i in shard.instruments),
            )
            many(
                sql.PUT_REVOCATION,
                (
                    (jti, account, issued_until, expires, position.seq)
                    for (jti, account), (issued_until, expires) in shard.revocations.items()
                ),
            )
            take = self._fold.take_into_candle
            for market in shard.markets.values():
                instrument = market.instrument
                last_trade = execute(sql.LAST_TRADE, (instrument.symbol,)).get
                self._fold.grids[instrument.version] = instrument.tick_size, instrument.lot_size
                many(sql.PUT_TRADE, _trades_of(market))
                for now, _, _, event in market.trades:
                    if event[1] > last_trade:
                        take(instrument.symbol, instrument.version, event[4], event[5], now)
            self._flush_candles()
            for bucket in shard.orders.chunks.values():
                many(sql.PUT_ORDER, (_columns(_row_of(order)) for order in bucket.values()))
                many(
                    sql.ADD_FILL,
                    (
                        fill
                        for order in bucket.values()
                        for fill in _fills_of(order, last_trades.get(order.id, 0))
                    ),
                )
            execute(sql.PUT_POSITION, (position.seq, position.chain, epoch, time_ns))
            self._place_orders(shard, position.seq)
            execute(sql.COMMIT)
        except BaseException:
            self._undo()
            raise
        self.position = position
        self.knows_book = True
        self._fold.forget(position.seq)
        self._load_instruments()

    def learn_book(self, shard: Shard) -> None:
        """Fill in what an older file does not say of open orders, from a shard at the same position."""
        self.db.execute(sql.BEGIN)
        try:
            self._place_orders(shard, self.position.seq)
            self.db.execute(sql.COMMIT)
        except BaseException:
            self._undo()
            raise
        self._fold.rows.clear()
        self.knows_book = True

    def _place_orders(self, shard: Shard, seq: int) -> None:
        """Where resting orders stand: all places so far are before those that the next command gives out."""
        for market in shard.markets.values():
            for half in (market.book.bids, market.book.asks):
                self.db.executemany(
                    sql.PLACE_ORDER,
                    (
                        (order.shown, -order.side * (seq * PLACES + number), order.id)
                        for level in half.levels.values()
                        for number, order in enumerate(_orders_of(level))
                    ),
                )
        self.db.execute(sql.BOOK_IS_KNOWN)

    def statement_counts(self) -> tuple[int, int]:
        """(hits, misses) of the connection's statement cache: a hit was prepared before."""
        stats = self.db.cache_stats()
        return stats["hits"], stats["misses"]


def candle_of(found: tuple[Any, ...]) -> Candle:
    """From the columns of a question for candles."""
    candle = Candle(*found)
    candle.volume = int(candle.volume)
    return candle


def _orders_of(level: Level) -> Iterator[Order]:
    order = level.head
    while order is not None:
        yield order
        order = order.next


def _columns(row: OrderRow) -> tuple[Any, ...]:
    columns = msgspec.structs.astuple(row)
    if row.cost > sql.INT64_MAX:
        return (*columns[:15], str(row.cost), *columns[16:])
    return columns


def _row_of(order: Order) -> OrderRow:
    """What the fold would have made of an order that the shard has in memory."""
    command: PlaceOrder = order.command
    has_limit = command.type == LIMIT or command.type == STOP_LIMIT
    return OrderRow(
        order.id,
        command.account,
        command.symbol,
        command.side,
        command.type,
        command.time_in_force,
        order.qty,
        order.price if has_limit else 0,
        command.stop_price,
        command.client_order_id,
        order.created_ns,
        order.instrument.version,
        order.status,
        order.closed_reason,
        order.open_qty,
        order.cost,
        order.version,
        order.updated_ns,
        order.updated_seq,
        last_trade=order.fills[-1][3][1] if order.fills else 0,
    )


def _fills_of(order: Order, before: int) -> Iterator[tuple[Any, ...]]:
    """`before` is the last one that the tables have; a row that is there already is to stay as it is."""
    for time_ns, seq, _, event in order.fills or ():
        _, trade_id, _, taker_id, price, qty, maker_fee, taker_fee, _, _ = event
        is_taker = 1 if taker_id == order.id else 0
        fee = taker_fee if is_taker else maker_fee
        yield (
            order.id, trade_id, order.command.account, order.command.symbol, order.side,
            order.instrument.version, price, qty, fee, is_taker, seq, time_ns, before,
        )  # fmt: skip
        before = trade_id


def _trades_of(market: Market) -> Iterator[tuple[Any, ...]]:
    instrument = market.instrument
    for time_ns, seq, taker_side, event in market.trades:
        _, trade_id, maker_id, taker_id, price, qty, _, _, _, _ = event
        yield (
            trade_id, instrument.symbol, instrument.version, price, qty, taker_side, maker_id, taker_id, seq,
            time_ns,
        )  # fmt: skip
