"""The schema of the read model, as the steps that lead to it.

`PRAGMA user_version` counts the steps that a file has taken, and the table `schema_versions` says which
release took each of them. A step that has shipped is never changed; a new one is added at the end. Each
runs in one transaction together with its count.

Integers only: prices are ticks, quantities lots, fees 1e-8 of the quote asset, times unix nanoseconds.
`instrument` is the version of the symbol's grid that turns them into text. History of this file:

    1   orders, fills, trades, instruments, revocations, position
    2   candles; what of an order the book shows and where it stands; epoch and time of the position;
        which release took which step
    3   trades and fills lie as they are asked for, in one tree each; an order's fills are a chain
"""

from __future__ import annotations

from collections.abc import Callable

import apsw
from msgspec import Struct

from tradsys.adapters.history.sql import PUT_CANDLE, candle_row
from tradsys.core.candles import INTERVALS, Candle, first_candle, start_of


class Step(Struct, frozen=True):
    sql: str
    then: Callable[[apsw.Connection], None] | None = None
    """What SQL can't do: it knows no integers beyond 63 bits."""


def fill_candles(db: apsw.Connection) -> None:
    """Make the candles of all trades that are in the tables."""
    trades = db.execute(
        """SELECT trades.symbol, time_ns, price * tick_size, quantity, lot_size
        FROM trades JOIN instruments ON version = instrument ORDER BY trades.symbol, id"""
    )
    symbol, candles = "", dict[int, Candle]()
    for its_symbol, time_ns, price, quantity, lot_size in trades:
        if its_symbol != symbol:
            _put_candles(db, symbol, candles)
            symbol, candles = its_symbol, {}
        volume = quantity * lot_size
        for interval_ns in INTERVALS.values():
            candle = candles.get(interval_ns)
            if candle is not None and candle.start_ns == start_of(time_ns, interval_ns):
                candle.take(price, volume)
                continue
            if candle is not None:
                _put_candles(db, symbol, {interval_ns: candle})
            candles[interval_ns] = first_candle(interval_ns, time_ns, price, volume)
    _put_candles(db, symbol, candles)


def _put_candles(db: apsw.Connection, symbol: str, candles: dict[int, Candle]) -> None:
    for interval_ns, candle in candles.items():
        db.execute(PUT_CANDLE, candle_row(symbol, interval_ns, candle))


_FIRST = Step(
    """
    CREATE TABLE position (
        id          INTEGER PRIMARY KEY CHECK (id = 1),
        seq         INTEGER NOT NULL,   -- last command that is in these tables
        chain       BLOB    NOT NULL    -- the journal's chain after the frame that ends with seq
    ) STRICT;

    CREATE TABLE instruments (
        version     INTEGER PRIMARY KEY,
        symbol      TEXT    NOT NULL,
        base        TEXT    NOT NULL,
        quote       TEXT    NOT NULL,
        tick_size   INTEGER NOT NULL,
        lot_size    INTEGER NOT NULL
    ) STRICT;

    -- Kept for whoever verifies tokens beside the read model.
    CREATE TABLE revocations (
        jti              TEXT    NOT NULL,
        account          TEXT    NOT NULL,
        issued_until     INTEGER NOT NULL,   -- unix seconds
        expires          INTEGER NOT NULL,   -- unix seconds; 0: as long as any token can live
        seq              INTEGER NOT NULL,   -- the command that changed it last
        PRIMARY KEY (jti, account)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX revocations_by_seq ON revocations (seq);

    CREATE TABLE orders (
        id               INTEGER PRIMARY KEY,
        account          TEXT    NOT NULL,
        symbol           TEXT    NOT NULL,
        side             INTEGER NOT NULL,
        type             INTEGER NOT NULL,
        time_in_force    INTEGER NOT NULL,
        quantity         INTEGER NOT NULL,
        price            INTEGER NOT NULL,   -- 0: none
        stop_price       INTEGER NOT NULL,   -- 0: none
        client_order_id  TEXT    NOT NULL,   -- '': none
        created_ns       INTEGER NOT NULL,
        instrument       INTEGER NOT NULL,
        status           INTEGER NOT NULL,
        reason           INTEGER NOT NULL,   -- why it closed; of a rejected order the refusal's code
        open_quantity    INTEGER NOT NULL,
        cost             ANY     NOT NULL,   -- sum of price × quantity of the fills; text if over 63 bits
        version          INTEGER NOT NULL,
        updated_ns       INTEGER NOT NULL,
        updated_seq      INTEGER NOT NULL
    ) STRICT;
    -- The row id is the last column of every index, so each of these also sorts by age.
    CREATE INDEX orders_by_account ON orders (account);
    CREATE INDEX orders_open ON orders (account) WHERE status IN (1, 2);
    CREATE INDEX orders_by_client ON orders (account, client_order_id) WHERE client_order_id <> '';

    CREATE TABLE trades (
        id               INTEGER PRIMARY KEY,
        symbol           TEXT    NOT NULL,
        instrument       INTEGER NOT NULL,
        price            INTEGER NOT NULL,
        quantity         INTEGER NOT NULL,
        taker_side       INTEGER NOT NULL,
        maker_order      INTEGER NOT NULL,
        taker_order      INTEGER NOT NULL,
        seq              INTEGER NOT NULL,
        time_ns          INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX trades_by_symbol ON trades (symbol);

    -- One row for each order of a trade; both may be of the same account.
    CREATE TABLE fills (
        order_id         INTEGER NOT NULL,
        trade_id         INTEGER NOT NULL,
        account          TEXT    NOT NULL,
        symbol           TEXT    NOT NULL,
        side             INTEGER NOT NULL,
        instrument       INTEGER NOT NULL,
        price            INTEGER NOT NULL,
        quantity         INTEGER NOT NULL,
        fee              INTEGER NOT NULL,
        is_taker         INTEGER NOT NULL,
        seq              INTEGER NOT NULL,
        time_ns          INTEGER NOT NULL,
        PRIMARY KEY (order_id, trade_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX fills_by_account ON fills (account, trade_id);
    """
)

_CANDLES_AND_BOOK = Step(
    """
    CREATE TABLE schema_versions (
        version     INTEGER PRIMARY KEY,
        release     TEXT    NOT NULL    -- of tradsys, that took this step
    ) STRICT;

    ALTER TABLE position ADD COLUMN epoch      INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE position ADD COLUMN time_ns    INTEGER NOT NULL DEFAULT 0;
    -- 0: the open orders are those of a file without `shown` and `place`; a replay has to fill them in.
    ALTER TABLE position ADD COLUMN book_known INTEGER NOT NULL DEFAULT 1;
    UPDATE position SET book_known = 0;

    -- Lots that the book shows; 0: not in the book (waiting, or over).
    ALTER TABLE orders ADD COLUMN shown INTEGER NOT NULL DEFAULT 0;
    -- Of two orders of a price the one that came earlier to its place; × −side, so that the order of
    -- prices and that of places run the same way.
    ALTER TABLE orders ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX orders_in_book ON orders (symbol, side, price, place) WHERE shown > 0;

    CREATE TABLE candles (
        symbol      TEXT    NOT NULL,
        interval_ns INTEGER NOT NULL,
        start_ns    INTEGER NOT NULL,
        open        INTEGER NOT NULL,   -- 1e-8 of the quote asset, as all prices here
        high        INTEGER NOT NULL,
        low         INTEGER NOT NULL,
        close       INTEGER NOT NULL,
        volume      ANY     NOT NULL,   -- 1e-8 of the base asset; text if over 63 bits
        trades      INTEGER NOT NULL,
        PRIMARY KEY (symbol, interval_ns, start_ns)
    ) STRICT, WITHOUT ROWID;
    """,
    fill_candles,
)

# One tree less for trades. Fills lay by order, which is a place somewhere in the tree for each resting
# order that trades; by account they are appended, and what finds an order's fills is part of the rows.
_FEWER_TREES = Step(
    """
    ALTER TABLE trades RENAME TO old_trades;
    DROP INDEX trades_by_symbol;
    CREATE TABLE trades (
        id               INTEGER NOT NULL,
        symbol           TEXT    NOT NULL,
        instrument       INTEGER NOT NULL,
        price            INTEGER NOT NULL,
        quantity         INTEGER NOT NULL,
        taker_side       INTEGER NOT NULL,
        maker_order      INTEGER NOT NULL,
        taker_order      INTEGER NOT NULL,
        seq              INTEGER NOT NULL,
        time_ns          INTEGER NOT NULL,
        PRIMARY KEY (symbol, id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO trades SELECT * FROM old_trades ORDER BY symbol, id;
    DROP TABLE old_trades;

    ALTER TABLE fills RENAME TO old_fills;
    DROP INDEX fills_by_account;
    CREATE TABLE fills (
        order_id         INTEGER NOT NULL,
        trade_id         INTEGER NOT NULL,
        account          TEXT    NOT NULL,
        symbol           TEXT    NOT NULL,
        side             INTEGER NOT NULL,
        instrument       INTEGER NOT NULL,
        price            INTEGER NOT NULL,
        quantity         INTEGER NOT NULL,
        fee              INTEGER NOT NULL,
        is_taker         INTEGER NOT NULL,
        seq              INTEGER NOT NULL,
        time_ns          INTEGER NOT NULL,
        trade_before     INTEGER NOT NULL,   -- the order's fill before this one; 0: it is the first
        PRIMARY KEY (account, trade_id, order_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO fills
    SELECT *, lag(trade_id, 1, 0) OVER (PARTITION BY order_id ORDER BY trade_id) FROM old_fills
    ORDER BY account, trade_id, order_id;

    -- The order's latest fill; 0: it has none.
    ALTER TABLE orders ADD COLUMN last_trade INTEGER NOT NULL DEFAULT 0;
    UPDATE orders SET last_trade = latest.trade_id
    FROM (SELECT order_id, max(trade_id) AS trade_id FROM old_fills GROUP BY order_id) AS latest
    WHERE id = latest.order_id;
    DROP TABLE old_fills;
    """
)

STEPS = (_FIRST, _CANDLES_AND_BOOK, _FEWER_TREES)

VERSIONS_NOTED_FROM = 2
"""The step that made `schema_versions`; nobody noted the ones before."""
SCHEMA_VERSION = len(STEPS)
