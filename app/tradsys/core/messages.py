"""The vocabulary of the venue: commands in the imperative, events as facts.

A command is a frozen record; it is written to the journal as it stands, so a field may be added at the
end (with a default) and never moved or reused. An event is a plain tuple that starts with its kind:
the book makes millions of them, and a tuple is the cheapest immutable thing Python has. README.md
beside this file holds both as tables, with a history section.

Prices are ticks and quantities are lots of the symbol's instrument; amounts of money and assets are
integers of 1e-8; fee rates and bands are parts per million; times are unix nanoseconds.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NewType

from msgspec import Struct

Price = NewType("Price", int)
Qty = NewType("Qty", int)
TimeNs = NewType("TimeNs", int)
OrderId = NewType("OrderId", int)

AMOUNT_SCALE: Final = 100_000_000
"""Money and assets are counted in units of 1e-8."""

PPM: Final = 1_000_000
DAY_NS: Final = 86_400_000_000_000

# Sides are signs, so that both halves of the book are one piece of code.
BUY: Final = 1
SELL: Final = -1

LIMIT: Final = 1
MARKET: Final = 2
STOP: Final = 3
STOP_LIMIT: Final = 4
GTC: Final = 1
IOC: Final = 2
FOK: Final = 3
GTD: Final = 4
DAY: Final = 5
STP_NONE: Final = 0
STP_CANCEL_TAKER: Final = 1
STP_CANCEL_MAKER: Final = 2
STP_CANCEL_BOTH: Final = 3
NEW: Final = 1
PARTIALLY_FILLED: Final = 2
FILLED: Final = 3
CANCELED: Final = 4
REJECTED: Final = 5
EXPIRED: Final = 6
TRADING: Final = 1
CANCEL_ONLY: Final = 2
HALTED: Final = 3
CASH: Final = 1
LIMITS: Final = 2

SideWord = Literal["buy", "sell"]
TypeWord = Literal["limit", "market", "stop", "stop_limit"]
TimeInForceWord = Literal["gtc", "ioc", "fok", "gtd", "day"]
StpWord = Literal["none", "cancel_taker", "cancel_maker", "cancel_both"]
StatusWord = Literal["new", "partially_filled", "filled", "canceled", "rejected", "expired"]
TradingStatusWord = Literal["trading", "cancel_only", "halted"]
RiskModeWord = Literal["cash", "limits"]

SIDE_WORDS: dict[int, SideWord] = {BUY: "buy", SELL: "sell"}
TYPE_WORDS: dict[int, TypeWord] = {LIMIT: "limit", MARKET: "market", STOP: "stop", STOP_LIMIT: "stop_limit"}
TIME_IN_FORCE_WORDS: dict[int, TimeInForceWord] = {GTC: "gtc", IOC: "ioc", FOK: "fok", GTD: "gtd", DAY: "day"}
STP_WORDS: dict[int, StpWord] = {
    STP_NONE: "none",
    STP_CANCEL_TAKER: "cancel_taker",
    STP_CANCEL_MAKER: "cancel_maker",
    STP_CANCEL_BOTH: "cancel_both",
}
STATUS_WORDS: dict[int, StatusWord] = {
    NEW: "new",
    PARTIALLY_FILLED: "partially_filled",
    FILLED: "filled",
    CANCELED: "canceled",
    REJECTED: "rejected",
    EXPIRED: "expired",
}
TRADING_STATUS_WORDS: dict[int, TradingStatusWord] = {
    TRADING: "trading",
    CANCEL_ONLY: "cancel_only",
    HALTED: "halted",
}
RISK_MODE_WORDS: dict[int, RiskModeWord] = {CASH: "cash", LIMITS: "limits"}

# Why an order ended without being filled (CLOSED events, `reason` of an order).
BY_REQUEST: Final = 1
BY_SELF_TRADE: Final = 2
BY_KILL: Final = 3
BY_ADMIN: Final = 4
UNFILLED: Final = 5
TIME_UP: Final = 6
REASON_WORDS = {
    BY_REQUEST: "requested",
    BY_SELF_TRADE: "self_trade",
    BY_KILL: "kill_switch",
    BY_ADMIN: "mass_cancel",
    UNFILLED: "unfilled",
    TIME_UP: "time_up",
}


class Instrument(Struct, frozen=True, gc=False, array_like=True):
    """What may be traded, on which grid. A change makes a new version; open orders keep theirs."""

    symbol: str
    base: str
    quote: str
    tick_size: int
    """1e-8 of the quote asset."""
    lot_size: int
    """1e-8 of the base asset; tick_size × lot_size is a multiple of 1e-8 of the quote asset."""
    qty_min: int = 1
    qty_max: int = 1_000_000_000_000
    notional_min: int = 0
    """1e-8 of the quote asset, for orders that have a price."""
    band_ppm: int = 0
    """How far a price may lie from the reference; 0: no band."""
    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0
    version: int = 0
    """Index in the shard's list of instrument versions; given by the shard."""


class Limits(Struct, frozen=True, gc=False, array_like=True):
    """What an account in mode LIMITS may do; 0 means no limit."""

    position_max: int = 0
    """1e-8 of the base asset, net position with all open orders of a side filled, per symbol."""
    order_notional_max: int = 0
    """1e-8 of the quote asset."""
    order_qty_max: int = 0
    """1e-8 of the base asset."""
    open_orders_max: int = 0
    """0: the shard's `account_orders_max`."""


class Rules(Struct, frozen=True, gc=False, array_like=True):
    """What bounds the shard as a whole. Part of the state: changed only by `SetRules`."""

    account_orders_max: int = 200_000
    shard_orders_max: int = 1_000_000
    closed_orders_max: int = 10_000
    """Closed orders that stay in memory, oldest leave first."""
    order_fills_max: int = 1_000
    """Latest fills that an order keeps in memory."""
    idempotency_window_ns: int = 3_600_000_000_000
    idempotency_keys_max: int = 1_000_000
    step_orders_max: int = 1_000
    """Orders that one command of a long piece of work may touch."""
    protection_ppm: int = 100_000
    """How far a market order may trade from the reference where the symbol has no band."""
    txn_ids_max: int = 100_000
    revocations_max: int = 100_000
    accounts_max: int = 100_000
    instrument_versions_max: int = 10_000
    match_makers_max: int = 2_000
    """Resting orders that one order may take; what is left of it then ends. Bounds the longest command."""


# --- commands of accounts ---------------------------------------------------------------------------


class PlaceOrder(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=1):
    """Ask to buy or sell. The order's id is the command's sequence number."""

    account: str
    symbol: str
    side: int
    type: int
    time_in_force: int
    qty: int
    price: int = 0
    stop_price: int = 0
    display_qty: int = 0
    """Shown slice of an iceberg; 0: all of it."""
    post_only: bool = False
    stp: int = STP_NONE
    expire_at: int = 0
    valid_until: int = 0
    """Judged before the journal; kept because it is part of what a retry must repeat."""
    client_order_id: str = ""
    request_id: str = ""
    """The caller's X-Request-Id, if it sent one; not part of what a retry must repeat."""


class ReplaceOrder(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=2):
    account: str
    order_id: int
    qty: int = 0
    """The new total; 0: as it is."""
    price: int = 0
    """0: as it is."""
    version: int = -1
    """Refused unless the order has had as many replaces; −1: any."""
    request_id: str = ""


class CancelOrder(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=3):
    account: str
    order_id: int
    request_id: str = ""


class CancelOrders(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=4):
    """Cancel what the account has open now, in steps; "" and 0 mean any symbol, any side."""

    account: str
    symbol: str = ""
    side: int = 0
    request_id: str = ""


# --- commands of the engine itself ------------------------------------------------------------------


class ExpireOrders(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=10):
    """Expire orders whose time is up, at most one step of them."""


class ContinueWork(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=11):
    """Do the next step of the oldest unfinished work (mass cancel, kill, stop cascade)."""


class SetJournalSpace(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=12):
    """The next journal segment could not be had (False: the shard is cancel-only) or is there again."""

    available: bool


# --- commands of admins -----------------------------------------------------------------------------


class SetRules(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=20):
    rules: Rules


class DefineInstrument(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=21):
    """Add a symbol or change it; tick and lot change only while its book is empty and it has no stops."""

    instrument: Instrument


class DefineAccount(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=22):
    """Create an account; a repeat with the same mode changes nothing, another mode is refused."""

    account: str
    mode: int


class SetLimits(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=23):
    account: str
    limits: Limits


class SetTradingStatus(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=24):
    """`symbol` "*" is the whole shard; the stricter of both holds."""

    symbol: str
    status: int


class SetReference(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=25):
    """Set the reference price of the band; the next trade replaces it."""

    symbol: str
    price: int


class SetKill(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=26):
    """Kill switch of an account or "*": cancel everything in steps, refuse new orders until lifted."""

    account: str
    on: bool


class AdjustBalance(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=27):
    """Deposit or withdraw; a repeat of the same `txn_id` changes nothing."""

    account: str
    asset: str
    amount: int
    txn_id: str


class RevokeToken(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=28):
    """Refuse a token by `jti`, or all tokens of an account issued at or before `issued_until` (seconds)."""

    jti: str = ""
    account: str = ""
    issued_until: int = 0
    expires: int = 0
    """Unix seconds after which the entry may be forgotten, because no such token is valid any more."""


class CancelAll(Struct, frozen=True, gc=False, array_like=True, tag_field="verb", tag=29):
    """Cancel open orders of an account or "*", as an admin; "" means every symbol."""

    account: str
    symbol: str = ""


AccountCommand = PlaceOrder | ReplaceOrder | CancelOrder | CancelOrders
EngineCommand = ExpireOrders | ContinueWork | SetJournalSpace
AdminCommand = (
    SetRules
    | DefineInstrument
    | DefineAccount
    | SetLimits
    | SetTradingStatus
    | SetReference
    | SetKill
    | AdjustBalance
    | RevokeToken
    | CancelAll
)
Command = AccountCommand | EngineCommand | AdminCommand

# --- events -----------------------------------------------------------------------------------------

Event = tuple[Any, ...]

ACCEPTED_EVENT: Final = 1
"""(1, order_id): the order was taken in."""
REFUSED_EVENT: Final = 2
"""(2, code, need, have): the command changed nothing; code is one of `REFUSALS`. Alone in its list."""
TRADE_EVENT: Final = 3
"""(3, trade_id, maker_id, taker_id, price, qty, maker_fee, taker_fee, maker_open_qty, taker_open_qty)"""
RESTED_EVENT: Final = 4
"""(4, order_id, side, price, shown_qty, open_qty): last in its level now."""
CLOSED_EVENT: Final = 5
"""(5, order_id, status, reason, open_qty): ended with `open_qty` unfilled (not sent for filled orders)."""
PARKED_EVENT: Final = 6
"""(6, order_id, stop_price): a stop waits."""
TRIGGERED_EVENT: Final = 7
"""(7, order_id): a stop became a market or limit order."""
REPLACED_EVENT: Final = 8
"""(8, order_id, version, price, qty, open_qty, kept): kept 1 keeps its place in the level (a RESTED_EVENT
or a TRADE_EVENT follows otherwise, unless the order is a waiting stop)."""
REPLENISHED_EVENT: Final = 9
"""(9, order_id, shown_qty): an iceberg shows its next slice, last in its level now."""
WORK_EVENT: Final = 10
"""(10, work_id, done, more): one step canceled or triggered `done` orders; more 1: `ContinueWork` is due."""
SET_EVENT: Final = 11
"""(11, what, ...): an admin or engine command took effect; `what` is the command's tag."""

# Refusals by the venue, in the order of checking. They are journalled and consume their key.
KILL_SWITCH: Final = 3005
NOT_TRADING: Final = 1010
NO_SUCH_ORDER: Final = 1007
NOT_CANCELABLE: Final = 1009
VERSION_CONFLICT: Final = 1008
PRICE_BAND: Final = 1005
SIZE_LIMIT: Final = 3002
TOO_MANY_ORDERS: Final = 3006
WOULD_CROSS: Final = 1011
POSITION_LIMIT: Final = 3001
INSUFFICIENT_BALANCE: Final = 3003
NOT_ALLOWED: Final = 1002
"""An admin command that contradicts the state (grid change under orders, unknown symbol or account)."""
REFUSALS = (
    KILL_SWITCH,
    NOT_TRADING,
    NO_SUCH_ORDER,
    NOT_CANCELABLE,
    VERSION_CONFLICT,
    PRICE_BAND,
    SIZE_LIMIT,
    TOO_MANY_ORDERS,
    WOULD_CROSS,
    POSITION_LIMIT,
    INSUFFICIENT_BALANCE,
    NOT_ALLOWED,
)
