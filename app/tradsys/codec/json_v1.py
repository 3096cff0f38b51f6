"""REST bodies, version 1: what clients send, decoded once into commands, and what they get.

Decoding is validation: unknown fields, wrong types and numbers where text belongs are refused by the
type. `explain` of errors.py makes messages. Replies are structs too, so that OpenAPI is generated from
the same types that are served.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import astuple

from tradsys.codec.applied import OrderState
from tradsys.codec.decimals import DECIMAL, DecimalError, Grid, average_text, grid_of, text_of
from tradsys.codec.errors import ERRORS, INVALID_REQUEST, OFF_GRID, Problem, explain
from tradsys.core import messages as m
from tradsys.core.messages import STATUS_WORDS
from tradsys.core.order import Order
from tradsys.core.outcome import is_refusal, outcome_of

NAME = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII)
_TIME = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_ORDER_ID = re.compile(r"([a-z0-9-]{1,8})-([1-9][0-9]{0,18})", re.ASCII)


def _shape(shape: re.Pattern[str]) -> dict[str, Any]:
    """For the description of the API only: the functions below judge, and say more than "no match"."""
    return {"pattern": f"^({shape.pattern})$"}


DecimalText = Annotated[
    str, Meta(max_length=40, description="plain decimal, e.g. 50000.01", extra_json_schema=_shape(DECIMAL))
]
TimeText = Annotated[
    str, Meta(max_length=19, description="unix time in nanoseconds", extra_json_schema=_shape(_TIME))
]
ClientOrderId = Annotated[str, Meta(min_length=1, max_length=36, extra_json_schema=_shape(NAME))]


class NewOrder(Struct, forbid_unknown_fields=True, gc=False, omit_defaults=True):
    symbol: Annotated[str, Meta(max_length=32)]
    side: m.SideWord
    type: m.TypeWord
    quantity: DecimalText
    price: DecimalText | UnsetType = UNSET
    time_in_force: m.TimeInForceWord | UnsetType = UNSET
    stop_price: DecimalText | UnsetType = UNSET
    client_order_id: ClientOrderId | UnsetType = UNSET
    post_only: bool | UnsetType = UNSET
    display_quantity: DecimalText | UnsetType = UNSET
    expire_at: TimeText | UnsetType = UNSET
    stp: m.StpWord | UnsetType = UNSET
    valid_until: TimeText | UnsetType = UNSET


class Replacement(Struct, forbid_unknown_fields=True, omit_defaults=True):
    quantity: DecimalText | UnsetType = UNSET
    price: DecimalText | UnsetType = UNSET
    version: Annotated[int, Meta(ge=0, le=2**53)] | UnsetType = UNSET


class NewOrders(Struct, forbid_unknown_fields=True):
    orders: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=1000)]


class _OrdersAtOnce(Struct, forbid_unknown_fields=True):
    """As `NewOrders`, for a batch that has no fault: it is read by one call."""

    orders: Annotated[list[NewOrder], Meta(min_length=1, max_length=1000)]


class OrderIds(Struct, forbid_unknown_fields=True):
    order_ids: Annotated[list[str], Meta(min_length=1, max_length=1000)]


class Fill(Struct, gc=False):
    trade_id: int
    price: str
    quantity: str
    fee: str
    liquidity: Literal["maker", "taker"]
    ts: str


class OrderReply(Struct):
    order_id: str
    client_order_id: str | None
    account: str
    symbol: str
    side: m.SideWord
    type: m.TypeWord
    time_in_force: m.TimeInForceWord
    price: str | None
    stop_price: str | None
    quantity: str
    filled_quantity: str
    remaining_quantity: str
    avg_price: str | None
    status: m.StatusWord
    created_ts: str
    updated_ts: str
    seq: int
    version: int
    fills: list[Fill]
    reason: str | UnsetType = UNSET


class Result(Struct, omit_defaults=True):
    """One of a batch: the order, or the error that this one alone would have got."""

    ok: bool
    order: OrderReply | None = None
    error: dict[str, Any] | None = None


_ENCODER = msgspec.json.Encoder()
_NEW_ORDER = msgspec.json.Decoder(NewOrder)
_NEW_ORDERS = msgspec.json.Decoder(NewOrders)
_ORDERS_AT_ONCE = msgspec.json.Decoder(_OrdersAtOnce)
encode = _ENCODER.encode


def decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Decode strictly. Raises Problem 1002: not JSON, another shape, or a member given twice.

    Members that may be absent must be UNSET then, or a body without them looks like another one.
    """
    try:
        value = decoder.decode(body)
        # The decoder keeps the last of two equal members. Written again, the value has each once, and as
        # long as nothing is escaped the same texts: the colons tell. Few clients escape anything.
        if b"\\" in body:
            json.loads(body, object_pairs_hook=_each_once)
            return value
    except (ValueError, RecursionError) as error:
        raise Problem(INVALID_REQUEST, _plain(error)) from None
    if body.count(b":") != encode(value).count(b":"):
        raise Problem(INVALID_REQUEST, _TWICE)
    return value


_TWICE = "a member is given twice"
_MESSAGE_CHARS_MAX = 200


def _each_once(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) != len(members):
        raise msgspec.ValidationError(_TWICE)


def _plain(error: Exception) -> str:
    """What the decoder found, which names fields and types; other exceptions keep their text."""
    if not isinstance(error, msgspec.MsgspecError):
        return "the body is not valid JSON"
    return str(error).replace("`", "'")[:_MESSAGE_CHARS_MAX]


def decode_new_order(body: bytes) -> NewOrder:
    """`decode` of an order. Raises Problem 1002."""
    try:
        order = _NEW_ORDER.decode(body)
    except (ValueError, RecursionError):
        return _strictly(body)
    return order if _is_plain(body, astuple(order).count(UNSET), 1) else _strictly(body)


_strictly: Callable[[bytes], NewOrder] = partial(decode, _NEW_ORDER)


def _is_plain(body: bytes, absent: int, orders: int) -> bool:
    """Nothing is escaped, and there are as many colons as members: then none is given twice, and no text has
    one. To count those that are absent takes half of writing the order again."""
    return body.count(b":") + absent == orders * _MEMBERS and b"\\" not in body


_MEMBERS = len(NewOrder.__struct_fields__)


def decode_new_orders(body: bytes) -> Sequence[NewOrder | Problem]:
    """The orders of a batch, or why one can't be read. Raises Problem 1002 if the batch can't."""
    try:
        plain = _ORDERS_AT_ONCE.decode(body).orders
    except (ValueError, RecursionError):
        plain = []
    absent: int = sum([astuple(order).count(UNSET) for order in plain])
    # One colon is that of `orders` itself.
    if plain and _is_plain(body, absent - 1, len(plain)):
        return plain
    found: list[NewOrder | Problem] = []
    for one in decode(_NEW_ORDERS, body).orders:
        try:
            found.append(decode_new_order(bytes(one)))
        except Problem as problem:
            found.append(problem.kept())
    return found


def client_order_id_of(text: str) -> str:
    if NAME.fullmatch(text) is None:
        raise Problem(INVALID_REQUEST, "client_order_id is 1 to 36 of A-Z a-z 0-9 _ -")
    return text


def time_of(text: str, field: str) -> int:
    """Nanoseconds. Raises Problem 1002."""
    if _TIME.fullmatch(text) is None or int(text) >= 2**63:
        raise Problem(INVALID_REQUEST, f"{field} is a unix time in nanoseconds, as text", {"field": field})
    return int(text)


def order_number(text: str, shard: str) -> int:
    """The number in "<shard>-<seq>"; 0 for anything that can't be an order of this shard."""
    found = _ORDER_ID.fullmatch(text)
    if found is None or found[1] != shard or int(found[2]) >= 2**63:
        return 0
    return int(found[2])


def unreadable(error: DecimalError, field: str) -> Problem:
    code = OFF_GRID if error.precise else INVALID_REQUEST
    return Problem(code, f"{field} {error.problem}", {"field": field})


def replace_command(
    body: Replacement, account: str, order_id: int, grid: Grid, request_id: str
) -> m.ReplaceOrder:
    """Raises Problem: 1002 nothing to change, 1004 off the grid."""
    if body.quantity is UNSET and body.price is UNSET:
        raise Problem(INVALID_REQUEST, "give quantity (the new total), price, or both")
    qty = price = 0
    field = "quantity"
    try:
        if body.quantity is not UNSET:
            qty = grid.lots(body.quantity)
        if body.price is not UNSET:
            field = "price"
            price = grid.ticks(body.price)
    except DecimalError as error:
        raise unreadable(error, field) from None
    return m.ReplaceOrder(
        account,
        order_id,
        qty,
        price,
        body.version if body.version is not UNSET else -1,
        request_id,
    )


class Applied(Protocol):
    """A placed order's command and everything that its reply depends on."""

    @property
    def command(self) -> m.Command: ...
    @property
    def seq(self) -> int: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def events(self) -> list[m.Event]: ...
    @property
    def instrument(self) -> m.Instrument | None: ...


# --- replies ----------------------------------------------------------------------------------------


def fill_of(grid: Grid, event: m.Event, order_id: int, time_ns: int) -> Fill:
    """How a trade event looks from the side of one of its two orders."""
    _, trade_id, maker_id, taker_id, price, qty, maker_fee, taker_fee, _, _ = event
    is_taker = taker_id == order_id and maker_id != order_id
    fee = taker_fee if is_taker else maker_fee
    return Fill(
        trade_id,
        grid.price_text(price),
        grid.qty_text(qty),
        text_of(fee) if fee else "0",
        "taker" if is_taker else "maker",
        str(time_ns),
    )


def reply_of(record: Applied, shard: str) -> OrderReply | tuple[int, str, dict[str, Any]]:
    """What a `PlaceOrder` is answered with: the order as the command left it, or (code, message, details).

    A pure function of the command and its events, so that a retry after a restart gets the same bytes.
    """
    command, seq, time_ns, instrument = record.command, record.seq, record.time_ns, record.instrument
    assert isinstance(command, m.PlaceOrder) and instrument is not None
    grid = grid_of(instrument)
    if is_refusal(record.events):
        return explain(record.events[0], command, grid)
    open_qty, cost, status, reason, trades = outcome_of(command.qty, seq, record.events)
    return _order_reply(
        shard, seq, command, grid, command.price, command.qty, open_qty, cost, status, reason,
        time_ns, time_ns, seq, 0, [fill_of(grid, trade, seq, time_ns) for trade in trades],
    )  # fmt: skip


def rejected_reply_of(record: Applied, shard: str) -> OrderReply:
    """How a refused order looks to one who asks for it later."""
    command = record.command
    assert isinstance(command, m.PlaceOrder) and record.instrument is not None
    reply = _order_reply(
        shard, record.seq, command, grid_of(record.instrument), command.price, command.qty, command.qty, 0,
        m.REJECTED, 0, record.time_ns, record.time_ns, record.seq, 0, [],
    )  # fmt: skip
    reply.reason = ERRORS[record.events[0][1]].name
    return reply


def reply_of_order(order: Order | OrderState, shard: str) -> OrderReply:
    """An order in memory as it is now, or as it was."""
    grid = grid_of(order.instrument)
    command: m.PlaceOrder = order.command
    price = order.price if command.price else 0
    fills = [fill_of(grid, fill[3], order.id, fill[0]) for fill in order.fills or ()]
    return _order_reply(
        shard, order.id, command, grid, price, order.qty, order.open_qty, order.cost, order.status,
        order.closed_reason, order.created_ns, order.updated_ns, order.updated_seq, order.version, fills,
    )  # fmt: skip


def _order_reply(
    shard: str,
    order_id: int,
    command: m.PlaceOrder,
    grid: Grid,
    price: int,
    qty: int,
    open_qty: int,
    cost: int,
    status: int,
    reason: int,
    created_ns: int,
    updated_ns: int,
    seq: int,
    version: int,
    fills: list[Fill],
) -> OrderReply:
    filled = qty - open_qty
    return OrderReply(
        f"{shard}-{order_id}",
        command.client_order_id or None,
        command.account,
        command.symbol,
        m.SIDE_WORDS[command.side],
        m.TYPE_WORDS[command.type],
        m.TIME_IN_FORCE_WORDS[command.time_in_force],
        grid.price_text(price) if price else None,
        grid.price_text(command.stop_price) if command.stop_price else None,
        grid.qty_text(qty),
        grid.qty_text(filled),
        grid.qty_text(open_qty),
        average_text(grid, cost, filled) if filled else None,
        STATUS_WORDS[status],
        str(created_ns),
        str(updated_ns),
        seq,
        version,
        fills,
        m.REASON_WORDS[reason] if reason else UNSET,
    )
