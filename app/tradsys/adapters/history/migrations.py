"""The schema of the read model, as the steps that lead to it.

`PRAGMA user_version` counts the steps that a file has taken. A step that has shipped is never changed;
a new one is added at the end. Each runs in one transaction together with its count.

Integers only: prices are ticks, quantities lots, fees 1e-8 of the quote asset, times unix nanoseconds.
`instrument` is the version of the symbol's grid that turns them into text. History of this file:

    1   orders, fills, trades, instruments, revocations, position
"""

from __future__ import annotations

STEPS: tuple[str, ...] = (
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
    """,
)

SCHEMA_VERSION = len(STEPS)
