"""A new order from JSON to its command, and from its outcome to JSON: on the path of every order.

A module of its own because it is compiled in a release; the structs of `json_v1` can't be.
"""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import astuple

from tradsys.codec.applied import Done
from tradsys.codec.contradictions import refuse_contradictions
from tradsys.codec.decimals import DecimalError, Grid, average_text, grid_of, text_of
from tradsys.codec.errors import INVALID_REQUEST, Problem
from tradsys.codec.json_v1 import NewOrder, client_order_id_of, time_of, unreadable
from tradsys.core import messages as m
from tradsys.core.messages import GTC, IOC, LIMIT, STATUS_WORDS
from tradsys.core.outcome import is_refusal, outcome_of

_SIDES = {word: value for value, word in m.SIDE_WORDS.items()}
_TYPES = {word: value for value, word in m.TYPE_WORDS.items()}
_TIFS = {word: value for value, word in m.TIME_IN_FORCE_WORDS.items()}
_STPS = {word: value for value, word in m.STP_WORDS.items()}


def place_command(order: NewOrder, account: str, grid: Grid, now: int, request_id: str) -> m.PlaceOrder:
    """The command of an order. Raises Problem: 1002 what contradicts itself, 1004 what is off the grid."""
    # At once: compiled code looks up what a struct has by its name.
    (
        symbol, side, type_, quantity, price_text, time_in_force, stop_text, client_order_id, post_only,
        display_text, expire_at, stp, valid_until,
    ) = astuple(order)  # fmt: skip
    kind = _TYPES[type_]
    tif = m.IOC if kind == m.MARKET else m.GTC
    if time_in_force is not UNSET:
        tif = _TIFS[time_in_force]
    # Absent and zero are the same from here on; text never gives zero, so nothing is lost.
    price = stop_price = display_qty = 0
    field = "quantity"
    try:
        qty = grid.lots(quantity)
        if price_text is not UNSET:
            field = "price"
            price = grid.ticks(price_text)
        if stop_text is not UNSET:
            field = "stop_price"
            stop_price = grid.ticks(stop_text)
        if display_text is not UNSET:
            field = "display_quantity"
            display_qty = grid.lots(display_text)
    except DecimalError as error:
        raise unreadable(error, field) from None
    command = m.PlaceOrder(
        account,
        symbol,
        _SIDES[side],
        kind,
        tif,
        qty,
        price,
        stop_price,
        display_qty,
        post_only is True,
        _STPS[stp] if stp is not UNSET else m.STP_NONE,
        time_of(expire_at, "expire_at") if expire_at is not UNSET else 0,
        time_of(valid_until, "valid_until") if valid_until is not UNSET else 0,
        client_order_id_of(client_order_id) if client_order_id is not UNSET else "",
        request_id,
    )
    if (
        kind != LIMIT
        or not (tif == GTC or (tif == IOC and post_only is not True))
        or stop_price
        or display_qty
        or expire_at is not UNSET
    ):
        refuse_contradictions(command, now)
    elif not price:
        raise Problem(INVALID_REQUEST, "a limit order needs a price", {"field": "price"})
    return command


def reply_bytes_of(done: Done, shard: str) -> bytes | None:
    """`encode(reply_of(done, shard))`, of a cancel or replace `encode(reply_of_order(done.order, shard))`,
    without the struct between: on the path of every order.

    None for a refusal. Each text in it was checked when it came in and needs no escaping: names, words
    and decimals. A test holds it to those two, byte for byte.
    """
    events, order = done.events, done.order
    if is_refusal(events):
        return None
    if order is not None:
        placed, number = order.command, order.id
        grid = grid_of(order.instrument)
        fills = ",".join([_fill(grid, fill[3], number, str(fill[0])) for fill in order.fills])
        return _order(
            shard, number, placed, grid, order.price if placed.price else 0, order.qty, order.open_qty,
            order.cost, order.status, order.closed_reason, str(order.created_ns), str(order.updated_ns),
            order.updated_seq, order.version, fills,
        )  # fmt: skip
    command = done.command
    assert isinstance(command, m.PlaceOrder) and done.instrument is not None
    grid = grid_of(done.instrument)
    seq, qty, ts = done.seq, command.qty, str(done.time_ns)
    open_qty, cost, status, reason, trades = outcome_of(qty, seq, events)
    fills = ",".join([_fill(grid, trade, seq, ts) for trade in trades]) if trades else ""
    return _order(
        shard, seq, command, grid, command.price, qty, open_qty, cost, status, reason, ts, ts, seq, 0, fills
    )


def _fill(grid: Grid, trade: m.Event, order_id: int, ts: str) -> str:
    _, trade_id, maker_id, _, price, qty, maker_fee, taker_fee, _, _ = trade
    fee, liquidity = (taker_fee, "taker") if maker_id != order_id else (maker_fee, "maker")
    return (
        f'{{"trade_id":{trade_id},"price":"{grid.price_text(price)}","quantity":"{grid.qty_text(qty)}"'
        f',"fee":"{text_of(fee) if fee else 0}","liquidity":"{liquidity}","ts":"{ts}"}}'
    )


def _order(
    shard: str,
    number: int,
    command: m.PlaceOrder,
    grid: Grid,
    price: int,
    qty: int,
    open_qty: int,
    cost: int,
    status: int,
    reason: int,
    created_ts: str,
    updated_ts: str,
    seq: int,
    version: int,
    fills: str,
) -> bytes:
    qty_text = grid.qty_text
    filled, average = "0", "null"
    if open_qty != qty:
        filled = qty_text(qty - open_qty)
        average = f'"{average_text(grid, cost, qty - open_qty)}"'
    named, stop_price = command.client_order_id, command.stop_price
    key_text = f'"{named}"' if named else "null"
    price_text = f'"{grid.price_text(price)}"' if price else "null"
    stop_text = f'"{grid.price_text(stop_price)}"' if stop_price else "null"
    last = f',"reason":"{m.REASON_WORDS[reason]}"' if reason else ""
    return (
        f'{{"order_id":"{shard}-{number}","client_order_id":{key_text},"account":"{command.account}"'
        f',"symbol":"{command.symbol}{_WORDS[command.side, command.type, command.time_in_force]}{price_text}'
        f',"stop_price":{stop_text},"quantity":"{qty_text(qty)}"'
        f',"filled_quantity":"{filled}","remaining_quantity":"{qty_text(open_qty)}"'
        f',"avg_price":{average},"status":"{STATUS_WORDS[status]}"'
        f',"created_ts":"{created_ts}","updated_ts":"{updated_ts}","seq":{seq},"version":{version}'
        f',"fills":[{fills}]{last}}}'
    ).encode()


_WORDS = {
    (side, kind, tif): f'","side":"{side_word}","type":"{kind_word}","time_in_force":"{tif_word}","price":'
    for side, side_word in m.SIDE_WORDS.items()
    for kind, kind_word in m.TYPE_WORDS.items()
    for tif, tif_word in m.TIME_IN_FORCE_WORDS.items()
}
