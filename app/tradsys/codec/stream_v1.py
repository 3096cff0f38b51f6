"""The WebSocket stream, version 1: requests, messages and binary frames. README.md has the frames as tables.

A message of a stream carries the `seq` of the last command in it and the `prev_seq` of the message before
it in the same stream; a snapshot has no `prev_seq` and stands for everything up to its `seq`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct as Layout
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tradsys.codec.decimals import Grid, text_of
from tradsys.codec.errors import INVALID_REQUEST, Problem
from tradsys.codec.json_v1 import OrderReply, decode, encode
from tradsys.codec.market_v1 import CandleItem, Level, OrderLevel, Trade
from tradsys.core import candles
from tradsys.core import messages as m
from tradsys.core.account import Account

JSON_V1, BIN_V1, BIN_V2 = "tradsys.json.v1", "tradsys.bin.v1", "tradsys.bin.v2"
SUBPROTOCOLS = (JSON_V1, BIN_V1, BIN_V2)

PRICE, BOOK, BOOK_L3, TRADES, TICKER, CANDLES = "price", "book", "book_l3", "trades", "ticker", "candles"
ORDERS, BALANCES = "orders", "balances"
PUBLIC_CHANNELS = (PRICE, BOOK, BOOK_L3, TRADES, TICKER, CANDLES)
PRIVATE_CHANNELS = (ORDERS, BALANCES)
DEPTHS = (10, 20, 50, 100, 500, 1000)
DEPTHS_L3 = (10, 20, 50, 100)
DEPTH_DEFAULT = 50
INTERVALS = tuple(candles.INTERVALS)
INTERVAL_DEFAULT = "1m"

# Why the venue closes a connection, beside the codes of RFC 6455.
TOKEN_ENDED = 4001
"""The token has expired or was revoked."""
TOO_SLOW = 4008
"""The client has not read what was sent on its private streams."""

Kind = Literal["snapshot", "delta"]
TradeMade = tuple[int, int, int, m.Event]
"""(time_ns, seq, taker side, trade event), as a market remembers its trades."""

# --- requests ---------------------------------------------------------------------------------------

Name = Annotated[str, Meta(max_length=32)]
Id = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class ChannelRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One channel for some symbols; a private one has none, and may say where it was left."""

    name: Name
    symbols: Annotated[list[Name], Meta(min_length=1, max_length=1000)] | UnsetType = UNSET
    depth: Count | UnsetType = UNSET
    """Of book and book_l3."""
    interval: Name | UnsetType = UNSET
    """Of candles."""
    from_seq: Count | UnsetType = UNSET
    epoch: Count | UnsetType = UNSET


class Request(Struct, forbid_unknown_fields=True, omit_defaults=True):
    op: Name
    id: Id | UnsetType = UNSET
    channels: Annotated[list[ChannelRequest], Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    token: Annotated[str, Meta(max_length=16384)] | UnsetType = UNSET
    order: msgspec.Raw | UnsetType = UNSET
    """Of order.place: the body of POST /orders."""
    order_id: Name | UnsetType = UNSET
    """Of order.cancel: what DELETE /orders/{order_id} has in its path."""
    on: bool | UnsetType = UNSET
    """Of cancel_on_disconnect."""


class _Identified(Struct):
    id: Id | None = None


_REQUEST = msgspec.json.Decoder(Request)
_IDENTIFIED = msgspec.json.Decoder(_Identified)


def decode_request(body: bytes) -> Request:
    """Raises Problem 1002."""
    request: Request = decode(_REQUEST, body)
    return request


def id_of(body: bytes) -> int | str | None:
    """The id of a request that can't be decoded, if that much can be read."""
    try:
        return _IDENTIFIED.decode(body).id
    except (ValueError, RecursionError):
        return None


class ErrorReply(Struct, omit_defaults=True):
    code: int
    message: str
    details: dict[str, Any] = {}


def reply_ok(id: int | str | None, result: dict[str, Any] | OrderReply) -> bytes:
    return encode({"id": id, "ok": True, "result": result})


def reply_error(id: int | str | None, problem: Problem) -> bytes:
    error = ErrorReply(problem.code, problem.message, problem.details)
    return encode({"id": id, "ok": False, "error": error})


# --- messages ---------------------------------------------------------------------------------------


class BookMessage(Struct, tag_field="ch", tag="book", kw_only=True, omit_defaults=True):
    """Price levels; in a delta the changed ones only, and quantity "0" deletes one."""

    type: Kind
    symbol: str
    epoch: int
    seq: int
    prev_seq: int | UnsetType = UNSET
    ts: str
    depth: int
    checksum: int
    """Of the whole book after this message, as REST has it."""
    bids: list[Level]
    asks: list[Level]
    gap: bool = False
    """What came before this snapshot was skipped."""


class OrderBookMessage(Struct, tag_field="ch", tag="book_l3", kw_only=True, omit_defaults=True):
    """The orders of the best levels. The rows of a delta are applied in their order: quantity "0" takes the
    order out, another one changes it where it stands, and an unknown order goes last in its level."""

    type: Kind
    symbol: str
    epoch: int
    seq: int
    prev_seq: int | UnsetType = UNSET
    ts: str
    depth: int
    """Levels, as of `book`; how many orders they have is not bounded."""
    checksum: int
    """The one of `book`: of the levels that the orders add up to, after the last message of a snapshot."""
    bids: list[OrderLevel]
    asks: list[OrderLevel]
    more: bool = False
    """Another message of this snapshot follows."""
    gap: bool = False


class TradesMessage(Struct, tag_field="ch", tag="trades", kw_only=True, omit_defaults=True):
    """Trades, oldest first; a snapshot has the latest ones."""

    type: Kind
    symbol: str
    epoch: int
    seq: int
    prev_seq: int | UnsetType = UNSET
    ts: str
    items: list[Trade]
    gap: bool = False


class PriceMessage(Struct, tag_field="ch", tag="price", kw_only=True, omit_defaults=True):
    """(price, quantity, time) of each trade, oldest first; a snapshot has the last one, if there is one."""

    type: Kind
    symbol: str
    epoch: int
    seq: int
    prev_seq: int | UnsetType = UNSET
    ts: str
    items: list[tuple[str, str, str]]
    gap: bool = False


class TickerMessage(Struct, tag_field="ch", tag="ticker", kw_only=True, omit_defaults=True):
    """The latest state; each one replaces the one before."""

    type: Kind
    symbol: str
    epoch: int
    seq: int
    prev_seq: int | UnsetType = UNSET
    ts: str
    status: m.TradingStatusWord
    last: str | None
    reference: str | None
    bid: str | None
    bid_quantity: str | None
    ask: str | None
    ask_quantity: str | None
    gap: bool = False


class CandlesMessage(Struct, tag_field="ch", tag="candles", kw_only=True, omit_defaults=True):
    """The candles that have changed, as they are now, oldest first; a snapshot has the running one, if all of
    it is known."""

    type: Kind
    symbol: str
    interval: str
    epoch: int
    seq: int
    prev_seq: int | UnsetType = UNSET
    ts: str
    items: list[CandleItem]
    gap: bool = False


class OrdersMessage(Struct, tag_field="ch", tag="orders", kw_only=True, omit_defaults=True):
    """Own orders as they are now, and those that were refused, once. In a delta `fills` has the new fills of
    each; a snapshot has open orders, and after `from_seq` also those that have closed since."""

    type: Kind
    account: str
    epoch: int
    seq: int
    prev_seq: int | UnsetType = UNSET
    ts: str
    items: list[OrderReply]
    more: bool = False
    """Another message of this snapshot follows."""
    truncated: bool = False
    """There are more open orders than a snapshot shows; ask GET /orders."""
    gap: bool = False


class BalanceRow(Struct):
    asset: str
    free: str
    reserved: str
    total: str


class BalancesMessage(Struct, tag_field="ch", tag="balances", kw_only=True, omit_defaults=True):
    """Own balances; in a delta those that have changed."""

    type: Kind
    account: str
    epoch: int
    seq: int
    prev_seq: int | UnsetType = UNSET
    ts: str
    items: list[BalanceRow]
    gap: bool = False


class ChannelPosition(Struct, omit_defaults=True):
    name: str
    seq: int
    symbol: str = ""
    depth: int = 0
    interval: str = ""


class Heartbeat(Struct, tag_field="ch", tag="heartbeat", kw_only=True):
    epoch: int
    seq: int
    durable_seq: int
    """What is above may be withdrawn by a power cut; a new epoch tells."""
    ts: str
    channels: list[ChannelPosition]
    """Where each subscribed stream stands: a client that is behind has lost something."""


class ServerShutdown(Struct, tag_field="ch", tag="server_shutdown", kw_only=True):
    reconnect_after_ms: int


def trade_of(grid: Grid, made: TradeMade) -> Trade:
    time_ns, seq, side, event = made
    return Trade(
        event[1], grid.price_text(event[4]), grid.qty_text(event[5]), m.SIDE_WORDS[side], seq, str(time_ns)
    )


def balance_rows_of(account: Account) -> list[BalanceRow]:
    return [
        BalanceRow(asset, text_of(one.free), text_of(one.reserved), text_of(one.free + one.reserved))
        for asset, one in sorted(account.balances.items())
    ]


# --- bin.v1 -----------------------------------------------------------------------------------------

PRICE_FRAME = Layout("<8sQQq")
"""symbol, NUL-padded; price ×1e8; volume ×1e8; time in unix ns: 32 bytes, one message for each trade"""
SYMBOL_BYTES_MAX = 8


def price_symbol_of(symbol: str) -> bytes:
    """Raises Problem 1002 for one that is longer than the frame has room for."""
    name = symbol.encode()
    if len(name) > SYMBOL_BYTES_MAX:
        raise Problem(
            INVALID_REQUEST,
            f"{BIN_V1} has room for symbols of {SYMBOL_BYTES_MAX} characters; use {BIN_V2}",
            {"symbol": symbol},
        )
    return name


def price_frame(symbol: bytes, instrument: m.Instrument, made: TradeMade) -> bytes:
    time_ns, _, _, event = made
    return PRICE_FRAME.pack(symbol, event[4] * instrument.tick_size, event[5] * instrument.lot_size, time_ns)


# --- bin.v2 -----------------------------------------------------------------------------------------

FRAME_HEADER = Layout("<BBHIQ")
"""type, flags, payload bytes, stream, seq (dense for each stream): 16 bytes"""
MORE = 1
"""Flag: another frame of the same change follows."""
SNAPSHOT = 2
"""Flag: it does not follow the frame before, it stands for everything up to its seq."""
GAP = 4
"""Flag of a snapshot: what came before it was skipped."""
TRADES_FRAME, BOOK_SNAPSHOT_FRAME, BOOK_DELTA_FRAME = 1, 2, 3

TRADE_RECORD = Layout("<QQqQQb7x")
"""price ×1e8, volume ×1e8, time ns, trade id, seq of the command, taker side (1 buy, −1 sell): 48 bytes"""
TRADES_FRAME_MAX = 0xFFFF // TRADE_RECORD.size
BOOK_RECORD = Layout("<QQqIHH")
"""epoch, seq of the last command, time ns, checksum, count of bids, count of asks: 32 bytes"""
LEVEL_RECORD = Layout("<QQ")
"""price ×1e8, quantity ×1e8 (0 deletes the level): 16 bytes, bids first"""

assert BOOK_RECORD.size + 4 * max(DEPTHS) * LEVEL_RECORD.size <= 0xFFFF, "a delta fits one frame"

Ticks = tuple[int, int]
"""(price in ticks, quantity in lots)"""


def trade_frames(
    stream: int, dense_seq: int, flags: int, instrument: m.Instrument, trades: Sequence[TradeMade]
) -> list[bytes]:
    """The frames of one change, or of a snapshot; `dense_seq` is of the first one."""
    tick, lot = instrument.tick_size, instrument.lot_size
    frames = []
    for start in range(0, max(1, len(trades)), TRADES_FRAME_MAX):
        payload = b"".join(
            TRADE_RECORD.pack(event[4] * tick, event[5] * lot, time_ns, event[1], seq, side)
            for time_ns, seq, side, event in trades[start : start + TRADES_FRAME_MAX]
        )
        more = MORE if start + TRADES_FRAME_MAX < len(trades) else 0
        frames.append(
            FRAME_HEADER.pack(TRADES_FRAME, flags | more, len(payload), stream, dense_seq) + payload
        )
        dense_seq += 1
    return frames


def book_frame(
    kind: int,
    stream: int,
    dense_seq: int,
    flags: int,
    instrument: m.Instrument,
    epoch: int,
    seq: int,
    time_ns: int,
    checksum: int,
    bids: Sequence[Ticks],
    asks: Sequence[Ticks],
) -> bytes:
    payload = BOOK_RECORD.pack(epoch, seq, time_ns, checksum, len(bids), len(asks)) + _levels(
        instrument, (*bids, *asks)
    )
    return FRAME_HEADER.pack(kind, flags, len(payload), stream, dense_seq) + payload


def _levels(instrument: m.Instrument, levels: Iterable[Ticks]) -> bytes:
    tick, lot = instrument.tick_size, instrument.lot_size
    return b"".join(LEVEL_RECORD.pack(price * tick, qty * lot) for price, qty in levels)
