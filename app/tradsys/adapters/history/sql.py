"""The statements of the read model, each written once and prepared once per connection.

They are prepared once in the sense of the connection's statement cache, which is keyed by the text: rows
of one transaction share a statement, and a test holds that no statement is prepared for each row.
"""

from __future__ import annotations

from tradsys.core.candles import Candle

INT64_MAX = (1 << 63) - 1
"""What is larger is text in its column: sums only."""


def candle_row(symbol: str, interval_ns: int, candle: Candle) -> tuple[int | str, ...]:
    """The bindings of PUT_CANDLE."""
    volume = candle.volume if candle.volume <= INT64_MAX else str(candle.volume)
    return (
        symbol, interval_ns, candle.start_ns, candle.open, candle.high, candle.low, candle.close, volume,
        candle.trades,
    )  # fmt: skip


ROWS_AT_ONCE = (16, 4, 1)
"""Rows of one execution: each execution costs about as much as a row."""


def by_rows(insert: str) -> tuple[tuple[int, str], ...]:
    """(bindings, statement) for each number of rows, from the statement of one, which ends with its marks."""
    head, marks = insert.split("VALUES ")
    return tuple(
        (rows * marks.count("?"), f"{head}VALUES {', '.join([marks] * rows)}") for rows in ROWS_AT_ONCE
    )


# --- writing ----------------------------------------------------------------------------------------

GET_ORDER = """
SELECT id, account, symbol, side, type, time_in_force, quantity, price, stop_price, client_order_id,
       created_ns, instrument, status, reason, open_quantity, cost, version, updated_ns, updated_seq, shown,
       place, last_trade
FROM orders WHERE id = ?"""
INSERT_ORDER = """
INSERT INTO orders (id, account, symbol, side, type, time_in_force, quantity, price, stop_price,
                    client_order_id, created_ns, instrument, status, reason, open_quantity, cost, version,
                    updated_ns, updated_seq, shown, place, last_trade)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_ORDERS = by_rows(INSERT_ORDER)
UPDATE_ORDER = """
UPDATE orders SET quantity = ?, price = ?, instrument = ?, status = ?, reason = ?, open_quantity = ?,
                  cost = ?, version = ?, updated_ns = ?, updated_seq = ?, shown = ?, place = ?,
                  last_trade = ?
WHERE id = ?"""
INSERT_TRADE = "INSERT INTO trades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_TRADES = by_rows(INSERT_TRADE)
INSERT_FILL = "INSERT INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_FILLS = by_rows(INSERT_FILL)
INSERT_INSTRUMENT = "INSERT INTO instruments VALUES (?, ?, ?, ?, ?, ?)"
PUT_REVOCATION = """
INSERT INTO revocations VALUES (?, ?, ?, ?, ?)
ON CONFLICT (jti, account) DO UPDATE SET
    issued_until = max(issued_until, excluded.issued_until),
    expires = iif(expires = 0 OR excluded.expires = 0, 0, max(expires, excluded.expires)),
    seq = excluded.seq"""
FORGET_REVOCATIONS = "DELETE FROM revocations WHERE expires > 0 AND expires < ?"
GET_INSTRUMENTS = "SELECT version, symbol, base, quote, tick_size, lot_size FROM instruments ORDER BY version"
GET_POSITION = "SELECT seq, chain FROM position"
PUT_POSITION = """
INSERT INTO position (id, seq, chain, epoch, time_ns) VALUES (1, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    seq = excluded.seq, chain = excluded.chain, epoch = excluded.epoch, time_ns = excluded.time_ns"""
GET_CANDLE = """
SELECT start_ns, open, high, low, close, volume, trades FROM candles
WHERE symbol = ? AND interval_ns = ? AND start_ns = ?"""
PUT_CANDLE = """
INSERT INTO candles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (symbol, interval_ns, start_ns) DO UPDATE SET
    high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
    trades = excluded.trades"""
BEGIN = "BEGIN IMMEDIATE"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

FORGET_EVERYTHING = tuple(
    f"DELETE FROM {table}"
    for table in ("position", "instruments", "revocations", "orders", "trades", "fills", "candles")
)

# --- bridging a gap from a snapshot -----------------------------------------------------------------

LAST_TRADE = "SELECT coalesce(max(id), 0) FROM trades WHERE symbol = ?"
OPEN_ORDERS_LAST_TRADES = "SELECT id, last_trade FROM orders WHERE status IN (1, 2)"
PLACE_ORDER = "UPDATE orders SET shown = ?, place = ? WHERE id = ?"
BOOK_IS_UNKNOWN = "SELECT 1 FROM position WHERE NOT book_known"
BOOK_IS_KNOWN = "UPDATE position SET book_known = 1"
FORGET_OPEN_ORDERS = "DELETE FROM orders WHERE status IN (1, 2)"
PUT_ORDER = INSERT_ORDER.replace("INSERT", "INSERT OR REPLACE", 1)
PUT_TRADE = INSERT_TRADE.replace("INSERT", "INSERT OR REPLACE", 1)
ADD_FILL = INSERT_FILL.replace("INSERT", "INSERT OR IGNORE", 1)
PUT_INSTRUMENT = INSERT_INSTRUMENT.replace("INSERT", "INSERT OR REPLACE", 1)

# --- reading, newest first --------------------------------------------------------------------------

BEGIN_READING = "BEGIN"
READ_POSITION = "SELECT seq, epoch, time_ns, book_known FROM position"
_ORDER = GET_ORDER.removesuffix("orders WHERE id = ?")
FIND_ORDER = _ORDER + "orders WHERE id = ? AND account = ?"
FIND_ORDER_BY_CLIENT = (
    _ORDER
    + """orders WHERE account = ? AND client_order_id = ? AND client_order_id <> ''
ORDER BY id DESC LIMIT 1"""
)
# ?1 account, ?2 before this id, ?3 symbol or '', ?4 rows
LIST_OPEN_ORDERS = (
    _ORDER
    + """orders WHERE account = ?1 AND status IN (1, 2) AND id < ?2 AND (?3 = '' OR symbol = ?3)
ORDER BY id DESC LIMIT ?4"""
)
# ?1 account, ?2 before this id, ?3 symbol or '', ?4 status or 0, ?5 rows, ?6 rows looked at
LIST_ORDERS = (
    _ORDER
    + """(SELECT * FROM orders WHERE account = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?6)
WHERE (?3 = '' OR symbol = ?3) AND (?4 = 0 OR status = ?4) ORDER BY id DESC LIMIT ?5"""
)
LAST_ORDER_LOOKED_AT = "SELECT id FROM orders WHERE account = ? AND id < ? ORDER BY id DESC LIMIT 1 OFFSET ?"
_FILL = """SELECT trade_id, order_id, symbol, side, instrument, price, quantity, fee, is_taker, seq,
       time_ns FROM """
# The latest fills of one order, newest first, each found by the one after it.
# ?1 account, ?2 order, ?3 its last trade, ?4 rows
ORDER_FILLS = (
    """WITH RECURSIVE latest AS (
    SELECT * FROM fills WHERE account = ?1 AND trade_id = ?3 AND order_id = ?2
    UNION ALL
    SELECT fills.* FROM latest CROSS JOIN fills
    WHERE fills.account = ?1 AND fills.trade_id = latest.trade_before AND fills.order_id = ?2
    LIMIT ?4
)
"""
    + _FILL
    + "latest"
)
# ?1 account, ?2 and ?3 before this trade and order, ?4 symbol or '', ?5 rows, ?6 rows looked at
LIST_FILLS = (
    _FILL
    + """(SELECT * FROM fills WHERE account = ?1 AND (trade_id, order_id) < (?2, ?3)
      ORDER BY trade_id DESC, order_id DESC LIMIT ?6)
WHERE ?4 = '' OR symbol = ?4 ORDER BY trade_id DESC, order_id DESC LIMIT ?5"""
)
LAST_FILL_LOOKED_AT = """SELECT trade_id, order_id FROM fills
WHERE account = ? AND (trade_id, order_id) < (?, ?)
ORDER BY trade_id DESC, order_id DESC LIMIT 1 OFFSET ?"""
LIST_TRADES = """SELECT id, instrument, price, quantity, taker_side, seq, time_ns FROM trades
WHERE symbol = ? AND id < ? ORDER BY id DESC LIMIT ?"""
# ?1 symbol, ?2 interval, ?3 from this start on, ?4 before this one, ?5 rows
LIST_CANDLES = """SELECT start_ns, open, high, low, close, volume, trades FROM candles
WHERE symbol = ?1 AND interval_ns = ?2 AND start_ns >= ?3 AND start_ns < ?4
ORDER BY start_ns DESC LIMIT ?5"""
# Best level first. The sum is taken in two parts: a whole one may pass 63 bits.
_LEVELS = """SELECT price, sum(shown >> 20), sum(shown & 1048575) FROM orders
WHERE symbol = ? AND side = {side} AND shown > 0 GROUP BY price ORDER BY price {order} LIMIT ?"""
LIST_BIDS, LIST_ASKS = _LEVELS.format(side=1, order="DESC"), _LEVELS.format(side=-1, order="ASC")
# Best level first, earliest first within a level.
_IN_BOOK = """SELECT price, shown, id FROM orders
WHERE symbol = ? AND side = {side} AND shown > 0 ORDER BY price {order}, place {order}"""
LIST_BID_ORDERS, LIST_ASK_ORDERS = (
    _IN_BOOK.format(side=1, order="DESC"),
    _IN_BOOK.format(side=-1, order="ASC"),
)
LIST_REVOCATIONS = """SELECT seq, jti, account, issued_until, expires FROM revocations
WHERE seq > ? ORDER BY seq"""
