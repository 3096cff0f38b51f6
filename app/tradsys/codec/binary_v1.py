"""`application/vnd.tradsys.v1+binary`: fixed-size little-endian records, one layout for all commands.

README.md beside this file has the tables. Prices and quantities are 1e-8, also where the grid is coarser:
only the engine turns them into ticks and lots. An internal record is a command with the sender in front.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Any, Final

from tradsys.codec.contradictions import refuse_contradictions
from tradsys.codec.decimals import AMOUNT_MAX, UNITS_MAX, Grid, average_of
from tradsys.codec.errors import INVALID_REQUEST, OFF_GRID, UNKNOWN_SYMBOL, Problem
from tradsys.codec.json_v1 import Processed, client_order_id_of
from tradsys.core import messages as m
from tradsys.core.outcome import outcome_of

MEDIA_TYPE = "application/vnd.tradsys.v1+binary"

COMMAND = Struct("<BbBBBBH16sQqqqqqq36si")
"""kind, side, type, time_in_force, flags, stp, reserved, symbol, order_id, quantity, price, stop_price,
display_quantity, expire_at, valid_until, client_order_id, version: 120 bytes"""
SENDER = Struct("<36sB3x")
"""account, scope: 40 bytes, in front of a command on the internal listener"""
RESULT = Struct("<HBBIQQqqqq")
"""code, status, flags, fills, seq, order_id, filled, remaining, avg_price, ts: 56 bytes"""

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
) -> Iterator[m.Command | Problem]:
    """A command or a problem for each record. Raises Problem 1002 if the body is not whole records."""
    if not body or len(body) % COMMAND.size:
        raise Problem(INVALID_REQUEST, f"the body is not a number of {COMMAND.size}-byte records")
    grids: dict[str, Grid] = {}
    for record in COMMAND.iter_unpack(body):
        try:
            yield _command(record, account, grids, grid_for, grid_of_order, now)
        except Problem as problem:
            yield problem.kept()


def internal_commands(
    body: bytes, grid_for: GridFor, grid_of_order: GridOfOrder, now: int
) -> Iterator[tuple[int, m.Command | Problem]]:
    """(scope, command or problem) for each record with its sender in front."""
    size = SENDER.size + COMMAND.size
    if not body or len(body) % size:
        raise Problem(INVALID_REQUEST, f"the body is not a number of {size}-byte records")
    grids: dict[str, Grid] = {}
    for offset in range(0, len(body), size):
        raw_account, scope = SENDER.unpack_from(body, offset)
        try:
            account = client_order_id_of(_text(raw_account, "account"))
            record = COMMAND.unpack_from(body, offset + SENDER.size)
            yield scope, _command(record, account, grids, grid_for, grid_of_order, now)
        except Problem as problem:
            yield scope, problem.kept()


_NO_KEY = bytes(36)


def _text(raw: bytes, field: str) -> str:
    text = raw.rstrip(b"\0")
    if not text.isascii() or 0 in text:
        raise Problem(INVALID_REQUEST, f"{field} is ASCII, padded with NUL", {"field": field})
    return text.decode("ascii")


_SYMBOLS: dict[bytes, str] = {}
SYMBOLS_KEPT: Final = 4_096


def _symbol(raw: bytes) -> str:
    """The same few come again and again: what was read once is remembered, up to a bound."""
    symbol = _text(raw, "symbol")
    if len(_SYMBOLS) >= SYMBOLS_KEPT:
        _SYMBOLS.clear()
    _SYMBOLS[raw] = symbol
    return symbol


def _units(amount: int, size: int, field: str) -> int:
    if not amount:
        return 0
    units, rest = divmod(amount, size)
    if not 0 <= amount <= AMOUNT_MAX or units > UNITS_MAX:
        raise Problem(INVALID_REQUEST, f"{field} is out of range", {"field": field})
    if rest:
        raise Problem(OFF_GRID, f"{field} is not on the symbol's grid", {"field": field})
    return units


def _command(
    record: tuple[Any, ...],
    account: str,
    grids: dict[str, Grid],
    grid_for: GridFor,
    grid_of_order: GridOfOrder,
    now: int,
) -> m.Command:
    """`grids`: of the symbols that the body has named; no grid changes while it is read."""
    (
        kind, side, type_, tif, flags, stp, reserved, raw_symbol, order_id, quantity, price, stop_price,
        display_quantity, expire_at, valid_until, raw_client_order_id, version,
    ) = record  # fmt: skip
    if reserved or flags & ~POST_ONLY:
        raise Problem(INVALID_REQUEST, "reserved bits are set")
    if kind == CANCEL:
        return m.CancelOrder(account, order_id if order_id <= INT64_MAX else 0)
    symbol = _SYMBOLS.get(raw_symbol) or _symbol(raw_symbol)
    if kind == REPLACE:
        return _replace_command(account, symbol, order_id, quantity, price, version, grid_for, grid_of_order)
    grid = grids.get(symbol)
    if grid is None:
        grid = grid_for(symbol)
        if grid is None:
            raise Problem(UNKNOWN_SYMBOL, f"no symbol {symbol!r}")
        grids[symbol] = grid
    instrument = grid.instrument
    qty = _units(quantity, instrument.lot_size, "quantity")
    price = _units(price, instrument.tick_size, "price")
    if kind != PLACE:
        raise Problem(INVALID_REQUEST, "kind is 1 place, 2 cancel or 3 replace", {"field": "kind"})
    stop_price = _units(stop_price, instrument.tick_size, "stop_price")
    display_qty = _units(display_quantity, instrument.lot_size, "display_quantity")
    raw_key = _text(raw_client_order_id, "client_order_id") if raw_client_order_id != _NO_KEY else ""
    order = m.PlaceOrder(
        account,
        symbol,
        side,
        type_,
        tif,
        qty,
        price,
        stop_price,
        display_qty,
        bool(flags & POST_ONLY),
        stp,
        expire_at,
        valid_until,
        client_order_id_of(raw_key) if raw_key else "",
    )
    refuse_contradictions(order, now)
    return order


def _replace_command(
    account: str,
    symbol: str,
    order_id: int,
    quantity: int,
    price: int,
    version: int,
    grid_for: GridFor,
    grid_of_order: GridOfOrder,
) -> m.ReplaceOrder:
    if not quantity and not price:
        raise Problem(INVALID_REQUEST, "give quantity (the new total), price, or both")
    number = order_id if order_id <= INT64_MAX else 0
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


def results(outcomes: Sequence[Processed | Problem], errors: defaultdict[int, int]) -> bytes:
    """A result record for each outcome. Counts its codes in `errors`."""
    out = bytearray(RESULT.size * len(outcomes))
    pack = RESULT.pack_into
    offset = 0
    for outcome in outcomes:
        if isinstance(outcome, Problem):
            errors[outcome.code] += 1
            pack(out, offset, outcome.code, m.REJECTED, 0, 0, 0, 0, 0, 0, 0, 0)
        else:
            code, status, fills, order_id, filled, remaining, average = _facts(outcome)
            if code:
                errors[code] += 1
            flags = REPLAYED if outcome.replayed else 0
            pack(
                out, offset, code, status, flags, fills, outcome.seq, order_id, min(filled, INT64_MAX),
                min(remaining, INT64_MAX), min(average, INT64_MAX), outcome.time_ns,
            )  # fmt: skip
        offset += RESULT.size
    return bytes(out)


def _facts(done: Processed) -> tuple[int, int, int, int, int, int, int]:
    """(code, status, fills, order id, filled, remaining, average price) of a command; the last three ×1e8."""
    command, events, seq = done.command, done.events, done.seq
    if events and events[0][0] == m.REFUSED_EVENT:
        return events[0][1], m.REJECTED, 0, getattr(command, "order_id", 0), 0, 0, 0
    if isinstance(command, m.PlaceOrder):
        assert done.instrument is not None
        instrument = done.instrument
        open_qty, cost, status, _, trades = outcome_of(command.qty, seq, events)
        fills = len(trades)
        order_id, qty = seq, command.qty
    else:
        order = done.order
        assert order is not None, "only an order that was there is changed"
        instrument, qty, open_qty, cost = order.instrument, order.qty, order.open_qty, order.cost
        order_id, fills, status = order.id, len(order.fills), order.status
    filled = qty - open_qty
    average = average_of(cost, filled, instrument.tick_size) if filled else 0
    lot = instrument.lot_size
    return 0, status, fills, order_id, filled * lot, open_qty * lot, average


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
