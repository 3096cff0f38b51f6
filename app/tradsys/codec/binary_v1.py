"""`application/vnd.tradsys.v1+binary`: fixed-size little-endian records, one layout for all commands.

README.md beside this file has the tables. Prices and quantities are 1e-8, also where the grid is coarser:
only the engine turns them into ticks and lots. An internal record is a command with the sender in front.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i64_le

from tradsys.codec.applied import Done
from tradsys.codec.contradictions import is_plain, refuse_contradictions
from tradsys.codec.decimals import AMOUNT_MAX, SMALL_MAX, UNITS_MAX, Grid, average_of
from tradsys.codec.errors import INVALID_REQUEST, OFF_GRID, UNKNOWN_SYMBOL, Problem
from tradsys.codec.json_v1 import NAME, client_order_id_of
from tradsys.core import messages as m
from tradsys.core.outcome import is_refusal, outcome_of

if TYPE_CHECKING:
    from mypy_extensions import i64

MEDIA_TYPE = "application/vnd.tradsys.v1+binary"

COMMAND = Struct("<BbBBBBH16sQqqqqqq36si")
"""kind, side, type, time_in_force, flags, stp, reserved, symbol, order_id, quantity, price, stop_price,
display_quantity, expire_at, valid_until, client_order_id, version: 120 bytes"""
# Where they begin: compiled code reads a number from there without making an object of it.
SYMBOL_AT: Final = 8
ORDER_ID_AT: Final = 24
QUANTITY_AT: Final = 32
PRICE_AT: Final = 40
STOP_PRICE_AT: Final = 48
DISPLAY_QUANTITY_AT: Final = 56
EXPIRE_AT_AT: Final = 64
VALID_UNTIL_AT: Final = 72
CLIENT_ORDER_ID_AT: Final = 80
VERSION_AT: Final = 116
SENDER = Struct("<36sB3x")
"""account, scope: 40 bytes, in front of a command on the internal listener"""
RESULT = Struct("<HBBIQQqqqq")
"""code, status, flags, fills, seq, order_id, filled, remaining, avg_price, ts: 56 bytes"""
STATUS_SHIFT: Final = 16
FLAGS_SHIFT: Final = 24
FILLS_SHIFT: Final = 32
"""Where they are in the first of a result's seven words."""

PLACE: Final = 1
CANCEL: Final = 2
REPLACE: Final = 3
POST_ONLY: Final = 1
REPLAYED: Final = 1
INT64_MAX: Final = 2**63 - 1


GridFor = Callable[[str], Grid | None]
"""The grid of a symbol."""
GridOfOrder = Callable[[str, int], Grid | None]
"""The grid of an account's order, if it is in memory."""


def commands(
    body: bytes, account: str, grid_for: GridFor, grid_of_order: GridOfOrder, now: int
) -> list[m.Command | Problem]:
    """A command or a problem for each record. Raises Problem 1002 if the body is not whole records."""
    if not body or len(body) % COMMAND.size:
        raise Problem(INVALID_REQUEST, f"the body is not a number of {COMMAND.size}-byte records")
    sizes: dict[bytes, Sizes] = {}
    found: list[m.Command | Problem] = []
    for at in range(0, len(body), COMMAND.size):
        try:
            found.append(_command(body, at, account, sizes, grid_for, grid_of_order, now))
        except Problem as problem:
            found.append(problem.kept())
    return found


def internal_commands(
    body: bytes, grid_for: GridFor, grid_of_order: GridOfOrder, now: int
) -> Iterator[tuple[int, m.Command | Problem]]:
    """(scope, command or problem) for each record with its sender in front."""
    size = SENDER.size + COMMAND.size
    if not body or len(body) % size:
        raise Problem(INVALID_REQUEST, f"the body is not a number of {size}-byte records")
    sizes: dict[bytes, Sizes] = {}
    for offset in range(0, len(body), size):
        raw_account, scope = SENDER.unpack_from(body, offset)
        try:
            account = _name(raw_account, "account")
            at = offset + SENDER.size
            yield scope, _command(body, at, account, sizes, grid_for, grid_of_order, now)
        except Problem as problem:
            yield scope, problem.kept()


_NO_KEY = bytes(36)
_NAMES_KEPT: Final = bytes([byte if NAME.fullmatch(chr(byte)) else byte ^ 1 for byte in range(256)])
"""A table for `translate` that changes each byte which no name has: what comes back as it was is a name."""


def _text(raw: bytes, field: str) -> str:
    text = raw.rstrip(b"\0")
    if not text.isascii() or 0 in text:
        raise Problem(INVALID_REQUEST, f"{field} is ASCII, padded with NUL", {"field": field})
    return text.decode("ascii")


def _name(raw: bytes, field: str) -> str:
    """A client order id or an account. The pattern, which takes longer, only says what is wrong with one.

    Raises Problem 1002.
    """
    name = raw.rstrip(b"\0")
    if not name or name.translate(_NAMES_KEPT) != name:
        return client_order_id_of(_text(raw, field))
    return name.decode("ascii")


class Sizes:
    """What the numbers of a symbol's orders are multiples of, in 1e-8."""

    __slots__ = ("lot", "symbol", "tick")

    def __init__(self, symbol: str, tick: i64, lot: i64):
        self.symbol: Final[str] = symbol
        self.tick: Final[i64] = tick
        self.lot: Final[i64] = lot


def _sizes(raw_symbol: bytes, grid_for: GridFor) -> Sizes:
    symbol = _text(raw_symbol, "symbol")
    grid = grid_for(symbol)
    if grid is None:
        raise Problem(UNKNOWN_SYMBOL, f"no symbol {symbol!r}")
    return Sizes(symbol, grid.instrument.tick_size, grid.instrument.lot_size)


def _units(amount: i64, size: i64, field: str) -> i64:
    if not amount:
        return 0
    units = amount // size
    if amount < 0 or units > UNITS_MAX or amount > AMOUNT_MAX:
        raise Problem(INVALID_REQUEST, f"{field} is out of range", {"field": field})
    if units * size != amount:
        raise Problem(OFF_GRID, f"{field} is not on the symbol's grid", {"field": field})
    return units


def _number(order_id: i64) -> i64:
    """0, which no order has, for what is too large for one: read as signed it is negative."""
    return order_id if order_id > 0 else 0


def _command(
    body: bytes,
    at: i64,
    account: str,
    sizes: dict[bytes, Sizes],
    grid_for: GridFor,
    grid_of_order: GridOfOrder,
    now: int,
) -> m.Command:
    """Of the record at `at`. `sizes`: of the symbols that the body has named; no grid changes meanwhile."""
    # kind, side, type, time_in_force, flags, stp: a byte each, then the reserved two.
    head = read_i64_le(body, at)
    kind = head & 255
    flags = head >> 32 & 255
    if head >> 48 or flags & ~POST_ONLY:
        raise Problem(INVALID_REQUEST, "reserved bits are set")
    if kind == CANCEL:
        return m.CancelOrder(account, _number(read_i64_le(body, at + ORDER_ID_AT)))
    raw_symbol = body[at + SYMBOL_AT : at + ORDER_ID_AT]
    quantity = read_i64_le(body, at + QUANTITY_AT)
    price = read_i64_le(body, at + PRICE_AT)
    if kind == REPLACE:
        number = _number(read_i64_le(body, at + ORDER_ID_AT))
        version = read_i32_le(body, at + VERSION_AT)
        symbol = _text(raw_symbol, "symbol")
        return _replace_command(account, symbol, number, quantity, price, version, grid_for, grid_of_order)
    of = sizes.get(raw_symbol)
    if of is None:
        of = sizes[raw_symbol] = _sizes(raw_symbol, grid_for)
    qty = _units(quantity, of.lot, "quantity")
    price = _units(price, of.tick, "price")
    if kind != PLACE:
        raise Problem(INVALID_REQUEST, "kind is 1 place, 2 cancel or 3 replace", {"field": "kind"})
    stop_price = _units(read_i64_le(body, at + STOP_PRICE_AT), of.tick, "stop_price")
    display_qty = _units(read_i64_le(body, at + DISPLAY_QUANTITY_AT), of.lot, "display_quantity")
    side = (head >> 8 & 255 ^ 128) - 128
    type_ = head >> 16 & 255
    tif = head >> 24 & 255
    stp = head >> 40 & 255
    expire_at = read_i64_le(body, at + EXPIRE_AT_AT)
    valid_until = read_i64_le(body, at + VALID_UNTIL_AT)
    post_only = flags != 0
    raw_name = body[at + CLIENT_ORDER_ID_AT : at + VERSION_AT]
    order = m.PlaceOrder(
        account,
        of.symbol,
        side,
        type_,
        tif,
        qty,
        price,
        stop_price,
        display_qty,
        post_only,
        stp,
        expire_at,
        valid_until,
        _name(raw_name, "client_order_id") if raw_name != _NO_KEY else "",
    )
    if not is_plain(
        side, type_, tif, qty, price, stop_price, display_qty, post_only, stp, expire_at, valid_until
    ):
        refuse_contradictions(order, now)
    return order


def _replace_command(
    account: str,
    symbol: str,
    number: int,
    quantity: i64,
    price: i64,
    version: int,
    grid_for: GridFor,
    grid_of_order: GridOfOrder,
) -> m.ReplaceOrder:
    if not quantity and not price:
        raise Problem(INVALID_REQUEST, "give quantity (the new total), price, or both")
    grid = grid_of_order(account, number)
    if grid is None:
        if symbol and grid_for(symbol) is None:
            raise Problem(UNKNOWN_SYMBOL, f"no symbol {symbol!r}")
        # Without the order there is no grid to read the numbers on; the venue then says that it is unknown.
        return m.ReplaceOrder(account, number)
    # On another symbol's grid the same numbers would be another quantity.
    if symbol and symbol != grid.instrument.symbol:
        raise Problem(INVALID_REQUEST, "the order is of another symbol", {"field": "symbol"})
    instrument = grid.instrument
    return m.ReplaceOrder(
        account,
        number,
        _units(quantity, instrument.lot_size, "quantity"),
        _units(price, instrument.tick_size, "price"),
        max(version, -1),
    )


def results(outcomes: Sequence[Done | Problem], errors: defaultdict[int, int]) -> bytes:
    """A result record for each outcome. Counts its codes in `errors`."""
    told = BytesWriter()
    for outcome in outcomes:
        if isinstance(outcome, Done):
            code = _tell(outcome, told)
        else:
            code = outcome.code
            _write(told, code | m.REJECTED << STATUS_SHIFT, 0, 0, 0, 0, 0, 0)
        if code:
            errors[code] += 1
    return told.getvalue()


def _write(
    told: BytesWriter, first: i64, seq: i64, order_id: i64, filled: i64, left: i64, average: i64, ts: i64
) -> None:
    """The seven words of eight bytes that a result is."""
    write_i64_le(told, first)
    write_i64_le(told, seq)
    write_i64_le(told, order_id)
    write_i64_le(told, filled)
    write_i64_le(told, left)
    write_i64_le(told, average)
    write_i64_le(told, ts)


def _tell(done: Done, told: BytesWriter) -> int:
    """Append a command's record; returns its code."""
    events, seq = done.events, done.seq
    first = REPLAYED << FLAGS_SHIFT if done.replayed else 0
    if is_refusal(events):
        code: int = events[0][1]
        asked: int = getattr(done.command, "order_id", 0)
        _write(told, first | code | m.REJECTED << STATUS_SHIFT, seq, asked, 0, 0, 0, done.time_ns)
        return code
    order = done.order
    if order is None:
        instrument = done.instrument
        assert instrument is not None, "only an order that was there is changed"
        order_id = seq
        qty: int = done.command.qty  # type: ignore[union-attr]
        open_qty, cost, status, _, trades = outcome_of(qty, seq, events)
        fills = len(trades)
    else:
        instrument, qty, open_qty, cost = order.instrument, order.qty, order.open_qty, order.cost
        order_id, fills, status = order.id, len(order.fills), order.status
    lot: int = instrument.lot_size
    filled = qty - open_qty
    average = average_of(cost, filled, instrument.tick_size) if filled else 0
    _write(
        told, first | status << STATUS_SHIFT | fills << FILLS_SHIFT, seq, order_id, _told(filled * lot),
        _told(open_qty * lot), _told(average), done.time_ns,
    )  # fmt: skip
    return 0


def _told(number: int) -> int:
    """With the largest that a record can tell in place of anything larger."""
    return number if number <= SMALL_MAX else min(number, INT64_MAX)


# --- what the venue's own processes hand over -------------------------------------------------------


def handed_place(scope: int, order: m.PlaceOrder, instrument: m.Instrument) -> bytes:
    """An order on its instrument's grid as a record with its sender, as it is handed to the engine."""
    tick, lot = instrument.tick_size, instrument.lot_size
    return SENDER.pack(order.account.encode(), scope) + COMMAND.pack(
        PLACE, order.side, order.type, order.time_in_force, POST_ONLY if order.post_only else 0, order.stp, 0,
        order.symbol.encode(), 0, order.qty * lot, order.price * tick, order.stop_price * tick,
        order.display_qty * lot, order.expire_at, order.valid_until, order.client_order_id.encode(), -1,
    )  # fmt: skip


def handed_cancel(scope: int, account: str, order_id: int) -> bytes:
    """A cancel as a record with its sender."""
    return SENDER.pack(account.encode(), scope) + COMMAND.pack(
        CANCEL, 0, 0, 0, 0, 0, 0, b"", order_id, 0, 0, 0, 0, 0, 0, b"", -1
    )
