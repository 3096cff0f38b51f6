"""Every error a client can meet: code, HTTP status, name; the API's list, once, as data."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tradsys.codec.decimals import Grid, text_of
from tradsys.core import messages as m

PROCESSING_FAILED = 1001
INVALID_REQUEST = 1002
UNKNOWN_SYMBOL = 1003
OFF_GRID = 1004
KEY_REUSED = 1006
STALE = 1012
NOT_LEADER = 1020
OTHER_SHARD = 1021
UNAUTHORIZED = 2001
INVALID_TOKEN = 2002
FORBIDDEN = 2003
RATE_LIMITED = 3029


class ErrorKind(Struct, frozen=True):
    status: int
    name: str
    message: str


ERRORS: dict[int, ErrorKind] = {
    PROCESSING_FAILED: ErrorKind(503, "processing_failed", "the outcome is unknown; ask by client_order_id"),
    INVALID_REQUEST: ErrorKind(400, "invalid_request", "the request is invalid"),
    UNKNOWN_SYMBOL: ErrorKind(404, "unknown_symbol", "no such symbol"),
    OFF_GRID: ErrorKind(422, "off_grid", "not on the symbol's tick or lot grid"),
    m.PRICE_BAND: ErrorKind(422, "price_band", "outside the price band, or below the minimum notional"),
    KEY_REUSED: ErrorKind(409, "key_reused", "this client_order_id was used for another order"),
    m.NO_SUCH_ORDER: ErrorKind(404, "no_such_order", "no such order"),
    m.VERSION_CONFLICT: ErrorKind(409, "version_conflict", "the order has another version"),
    m.NOT_CANCELABLE: ErrorKind(409, "not_cancelable", "the order can no longer be changed like this"),
    m.NOT_TRADING: ErrorKind(409, "not_trading", "trading is halted, or only cancels are accepted"),
    m.WOULD_CROSS: ErrorKind(422, "would_cross", "a post_only order would trade at once"),
    STALE: ErrorKind(422, "stale", "valid_until has passed"),
    NOT_LEADER: ErrorKind(503, "not_leader", "not serving orders here now; try again"),
    OTHER_SHARD: ErrorKind(421, "other_shard", "the symbol is served by another shard"),
    UNAUTHORIZED: ErrorKind(401, "unauthorized", "send Authorization: Bearer <token>"),
    INVALID_TOKEN: ErrorKind(401, "invalid_token", "the token is invalid, expired or revoked"),
    FORBIDDEN: ErrorKind(403, "forbidden", "the token's scope or account does not allow this"),
    m.POSITION_LIMIT: ErrorKind(422, "position_limit", "the position would exceed its limit"),
    m.SIZE_LIMIT: ErrorKind(422, "size_limit", "the quantity or notional exceeds its limit"),
    m.INSUFFICIENT_BALANCE: ErrorKind(422, "insufficient_balance", "the free balance is too small"),
    m.KILL_SWITCH: ErrorKind(403, "kill_switch", "the kill switch is on"),
    m.TOO_MANY_ORDERS: ErrorKind(422, "too_many_orders", "too many open orders"),
    RATE_LIMITED: ErrorKind(429, "rate_limited", "too many requests; see Retry-After"),
}


class Problem(Exception):
    """A request that is answered with an error. Carries what the answer needs; never reaches the journal."""

    def __init__(
        self,
        code: int,
        message: str = "",
        details: dict[str, Any] | None = None,
        *,
        status: int = 0,
        retry_after_s: int = 0,
        close: bool = False,
    ):
        kind = ERRORS[code]
        super().__init__(message or kind.message)
        self.code = code
        self.message = message or kind.message
        self.details = details or {}
        self.status = status or kind.status
        self.retry_after_s = retry_after_s
        self.close = close

    def kept(self) -> Problem:
        """Itself without where it was raised: kept as a value, it would hold the frames that hold it."""
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self


class ErrorBody(Struct):
    code: int
    message: str
    details: dict[str, Any]
    request_id: str


def explain(event: m.Event, command: m.Command, grid: Grid | None) -> tuple[int, str, dict[str, Any]]:
    """(code, message, details) of a refusal by the venue; numbers in the units a client uses."""
    _, code, need, have = event
    details: dict[str, Any] = {}
    message = ERRORS[code].message
    if code == m.PRICE_BAND and grid is not None:
        price = getattr(command, "price", 0)
        if price and have == price:
            details = {"bound": grid.price_text(need), "price": grid.price_text(have)}
            message = f"price {details['price']} is outside the band, which ends at {details['bound']}"
        else:
            details = {"min_notional": text_of(need), "notional": text_of(have)}
            message = f"notional {details['notional']} is below the minimum {details['min_notional']}"
    elif code == m.WOULD_CROSS and grid is not None:
        details = {"best_opposite": grid.price_text(need), "price": grid.price_text(have)}
        message = f"a post_only order at {details['price']} would trade with {details['best_opposite']}"
    elif code == m.SIZE_LIMIT and grid is not None:
        instrument = grid.instrument
        if need in (instrument.qty_min, instrument.qty_max) and have == getattr(command, "qty", -1):
            details = {"limit": grid.qty_text(need), "value": grid.qty_text(have)}
        else:
            details = {"limit": text_of(need), "value": text_of(have)}
        message = f"{details['value']} is outside the limit {details['limit']}"
    elif code in (m.POSITION_LIMIT, m.INSUFFICIENT_BALANCE):
        first, second = ("limit", "value") if code == m.POSITION_LIMIT else ("needed", "free")
        details = {first: text_of(need), second: text_of(have)}
        message = f"{message}: {first} {details[first]}, {second} {details[second]}"
    elif code == m.TOO_MANY_ORDERS:
        details = {"limit": need, "open": have}
        message = f"{have} orders are open, {need} are allowed"
    elif code == m.VERSION_CONFLICT:
        details = {"version": need, "asked": have}
        message = f"the order has version {need}, not {have}"
    elif code == m.NOT_TRADING:
        details = {"status": m.TRADING_STATUS_WORDS[have]}
        message = "trading is halted" if have == m.HALTED else "only cancels are accepted now"
    elif code == m.NOT_CANCELABLE and need and grid is not None:
        details = {"filled_quantity": grid.qty_text(need)}
        message = f"{details['filled_quantity']} is filled already; the new total must be larger"
    return code, message, details
