"""gRPC, version 1: its messages to and from binary records, orders and problems; README.md has the errors.

The messages are those of app/proto; the gateway and the client share what is here.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from msgspec import UNSET

from tradsys.codec import errors as e
from tradsys.codec.binary_v1 import CANCEL, COMMAND, PLACE, POST_ONLY, REPLACE, REPLAYED
from tradsys.codec.decimals import DecimalError, amount_of, text_of
from tradsys.codec.errors import ERRORS, INVALID_REQUEST, OFF_GRID, Problem
from tradsys.codec.json_v1 import OrderReply, client_order_id_of
from tradsys.core import messages as m
from tradsys.v1 import orders_pb2 as pb

SERVICE = "tradsys.v1.OrderService"
DOMAIN = "tradsys"
DETAILS_KEY = "grpc-status-details-bin"
COMMANDS_MAX = 1_000
"""In one message of `Trade`."""

STATUS_NAMES: dict[int, str] = {
    e.PROCESSING_FAILED: "UNAVAILABLE",
    e.INVALID_REQUEST: "INVALID_ARGUMENT",
    e.UNKNOWN_SYMBOL: "NOT_FOUND",
    e.OFF_GRID: "INVALID_ARGUMENT",
    m.PRICE_BAND: "FAILED_PRECONDITION",
    e.KEY_REUSED: "ALREADY_EXISTS",
    m.NO_SUCH_ORDER: "NOT_FOUND",
    m.VERSION_CONFLICT: "ABORTED",
    m.NOT_CANCELABLE: "FAILED_PRECONDITION",
    m.NOT_TRADING: "FAILED_PRECONDITION",
    m.WOULD_CROSS: "FAILED_PRECONDITION",
    e.STALE: "FAILED_PRECONDITION",
    e.NOT_LEADER: "UNAVAILABLE",
    e.OTHER_SHARD: "FAILED_PRECONDITION",
    e.UNAUTHORIZED: "UNAUTHENTICATED",
    e.INVALID_TOKEN: "UNAUTHENTICATED",
    e.FORBIDDEN: "PERMISSION_DENIED",
    m.POSITION_LIMIT: "FAILED_PRECONDITION",
    m.SIZE_LIMIT: "FAILED_PRECONDITION",
    m.INSUFFICIENT_BALANCE: "FAILED_PRECONDITION",
    m.KILL_SWITCH: "PERMISSION_DENIED",
    m.TOO_MANY_ORDERS: "FAILED_PRECONDITION",
    e.RATE_LIMITED: "RESOURCE_EXHAUSTED",
}
"""The gRPC status of each error."""
STATUS_NUMBERS = {
    "INVALID_ARGUMENT": 3,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}

_SYMBOL_BYTES_MAX = 16
_VERSION_MAX = 2**31 - 1
_SIDES: dict[int, int] = {pb.SIDE_BUY: m.BUY, pb.SIDE_SELL: m.SELL}
_SIDES_OUT = {m.BUY: pb.SIDE_BUY, m.SELL: pb.SIDE_SELL}
_TYPES = {word: value for value, word in m.TYPE_WORDS.items()}
_TIMES_IN_FORCE = {word: value for value, word in m.TIME_IN_FORCE_WORDS.items()}
_STATUSES = {word: value for value, word in m.STATUS_WORDS.items()}

# --- commands ---------------------------------------------------------------------------------------


def place_record(order: pb.PlaceOrderRequest) -> bytes:
    """The order as a binary command. Raises Problem: 1002, 1004."""
    side = _SIDES.get(order.side)
    if side is None:
        raise _invalid("side", "is buy or sell")
    kind, tif = order.type, order.time_in_force
    if kind not in m.TYPE_WORDS:
        raise _invalid("type", "is limit, market, stop or stop_limit")
    if not tif:
        tif = m.IOC if kind == m.MARKET else m.GTC  # type: ignore[assignment]
    elif tif not in m.TIME_IN_FORCE_WORDS:
        raise _invalid("time_in_force", "is gtc, ioc, fok, gtd or day")
    if order.stp not in m.STP_WORDS:
        raise _invalid("stp", "is none, cancel_taker, cancel_maker or cancel_both")
    key = order.client_order_id
    return COMMAND.pack(
        PLACE,
        side,
        kind,
        tif,
        POST_ONLY if order.post_only else 0,
        order.stp,
        0,
        _symbol(order.symbol),
        0,
        _amount(order.quantity, "quantity"),
        _amount(order.price, "price"),
        _amount(order.stop_price, "stop_price"),
        _amount(order.display_quantity, "display_quantity"),
        order.expire_at,
        order.valid_until,
        client_order_id_of(key).encode() if key else b"",
        -1,
    )


def cancel_record(number: int) -> bytes:
    return COMMAND.pack(CANCEL, 0, 0, 0, 0, 0, 0, b"", number, 0, 0, 0, 0, 0, 0, b"", -1)


def replace_record(change: pb.ReplaceOrderRequest, number: int) -> bytes:
    """Raises Problem: 1002, 1004."""
    version = min(change.version, _VERSION_MAX) if change.HasField("version") else -1
    return COMMAND.pack(
        REPLACE, 0, 0, 0, 0, 0, 0, b"", number, _amount(change.quantity, "quantity"),
        _amount(change.price, "price"), 0, 0, 0, 0, b"", version,
    )  # fmt: skip


def _invalid(field: str, problem: str) -> Problem:
    return Problem(INVALID_REQUEST, f"{field} {problem}", {"field": field})


def _symbol(text: str) -> bytes:
    if not text.isascii() or "\0" in text or not 0 < len(text) <= _SYMBOL_BYTES_MAX:
        raise _invalid("symbol", f"is 1 to {_SYMBOL_BYTES_MAX} characters of ASCII")
    return text.encode()


def _amount(text: str, field: str) -> int:
    """In 1e-8; 0: not given."""
    if not text:
        return 0
    try:
        amount = amount_of(text)
    except DecimalError as error:
        code = OFF_GRID if error.precise else INVALID_REQUEST
        raise Problem(code, f"{field} {error.problem}", {"field": field}) from None
    if not amount:
        raise _invalid(field, "must be above zero")
    return amount


# --- replies ----------------------------------------------------------------------------------------


def result_of(result: tuple[int, ...], shard: str) -> pb.OrderResult:
    """What became of a command, as its result record says. Raises Problem: its refusal."""
    code, status, flags, fills, seq, number, filled, remaining, average, ts = result
    if code:
        raise Problem(code)
    return pb.OrderResult(
        order_id=f"{shard}-{number}",
        status=status,  # type: ignore[arg-type]
        filled_quantity=text_of(filled),
        remaining_quantity=text_of(remaining),
        avg_price=text_of(average) if average else "",
        fills=fills,
        seq=seq,
        ts=ts,
        replayed=bool(flags & REPLAYED),
    )


def order_of(reply: OrderReply) -> pb.Order:
    """An order as REST has it."""
    return pb.Order(
        order_id=reply.order_id,
        client_order_id=reply.client_order_id or "",
        account=reply.account,
        symbol=reply.symbol,
        side=pb.SIDE_BUY if reply.side == "buy" else pb.SIDE_SELL,
        type=_TYPES[reply.type],  # type: ignore[arg-type]
        time_in_force=_TIMES_IN_FORCE[reply.time_in_force],  # type: ignore[arg-type]
        price=reply.price or "",
        stop_price=reply.stop_price or "",
        quantity=reply.quantity,
        filled_quantity=reply.filled_quantity,
        remaining_quantity=reply.remaining_quantity,
        avg_price=reply.avg_price or "",
        status=_STATUSES[reply.status],  # type: ignore[arg-type]
        reason=reply.reason if reply.reason is not UNSET else "",
        created_ts=int(reply.created_ts),
        updated_ts=int(reply.updated_ts),
        seq=reply.seq,
        version=reply.version,
        fills=[
            pb.Fill(
                trade_id=fill.trade_id,
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
                liquidity=pb.LIQUIDITY_MAKER if fill.liquidity == "maker" else pb.LIQUIDITY_TAKER,
                ts=int(fill.ts),
            )
            for fill in reply.fills
        ],
    )


# --- events -----------------------------------------------------------------------------------------


def event_of(
    seq: int,
    ts: int,
    event: m.Event,
    order_id: str,
    number: int,
    command: m.PlaceOrder | None,
    instrument: m.Instrument | None,
) -> pb.OrderEvent:
    """An event about one order of the journal; `command` placed the order, if that is known."""
    message = pb.OrderEvent(seq=seq, ts=ts, kind=event[0], order_id=order_id)
    if event[0] == m.REFUSED_EVENT:
        message.code = event[1]
    if command is None or instrument is None:
        return message
    message.symbol = command.symbol
    message.client_order_id = command.client_order_id
    message.side = _SIDES_OUT[command.side]
    price, quantity, remaining = 0, 0, -1
    kind = event[0]
    if kind == m.ACCEPTED_EVENT:
        price, quantity, remaining = command.price, command.qty, command.qty
    elif kind == m.TRADE_EVENT:
        _, trade_id, maker, _, price, quantity, maker_fee, taker_fee, maker_open, taker_open = event
        is_maker = maker == number
        remaining = maker_open if is_maker else taker_open
        message.trade_id = trade_id
        message.liquidity = pb.LIQUIDITY_MAKER if is_maker else pb.LIQUIDITY_TAKER
        message.fee = text_of(maker_fee if is_maker else taker_fee)
    elif kind == m.RESTED_EVENT:
        _, _, _, price, quantity, remaining = event
    elif kind == m.CLOSED_EVENT:
        _, _, status, reason, remaining = event
        message.status = status
        message.reason = m.REASON_WORDS.get(reason, "")
    elif kind == m.PARKED_EVENT:
        price = event[2]
    elif kind == m.REPLACED_EVENT:
        _, _, _, price, quantity, remaining, _ = event
    elif kind == m.REPLENISHED_EVENT:
        quantity = event[2]
    if price:
        message.price = text_of(price * instrument.tick_size)
    if quantity:
        message.quantity = text_of(quantity * instrument.lot_size)
    if remaining >= 0:
        message.remaining_quantity = text_of(remaining * instrument.lot_size)
    return message


# --- errors -----------------------------------------------------------------------------------------


def status_details(problem: Problem, request_id: str) -> bytes:
    """A google.rpc.Status for the trailing metadata."""
    status = Status(code=STATUS_NUMBERS[STATUS_NAMES[problem.code]], message=problem.message)
    said = {name: str(value) for name, value in problem.details.items()}
    said |= {"code": str(problem.code), "request_id": request_id}
    status.details.add().Pack(
        ErrorInfo(reason=ERRORS[problem.code].name.upper(), domain=DOMAIN, metadata=said)
    )
    if problem.retry_after_s:
        status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=problem.retry_after_s)))
    packed: bytes = status.SerializeToString()
    return packed


def problem_of(details: bytes) -> tuple[Problem, str] | None:
    """(problem, request id) of a trailing google.rpc.Status; None: it is not the venue's."""
    status = Status()
    try:
        status.ParseFromString(details)
    except DecodeError:
        return None
    retry_after_s = 0
    found: dict[str, Any] | None = None
    for detail in status.details:
        info, retry = ErrorInfo(), RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            found = dict(info.metadata)
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.seconds
    if found is None or not (found.get("code", "").isdigit() and int(found["code"]) in ERRORS):
        return None
    code, request_id = int(found.pop("code")), found.pop("request_id", "")
    return Problem(code, status.message, found, retry_after_s=retry_after_s), request_id
