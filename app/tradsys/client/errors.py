"""What can go wrong, as exceptions: one class for each of the venue's codes.

`Refused` is the venue's own word: nothing was changed (but for `OutcomeUnknown`, which says that nobody
knows). `Unreachable` tells that there was no answer; whether the request was served is in `outcome_unknown`.
"""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """The venue answered with an error."""

    def __init__(
        self, status: int, code: int, message: str, details: Any = None, request_id: str = ""
    ) -> None:
        super().__init__(f"{code} {message}")
        self.status = status
        """HTTP's; 0 where it came another way."""
        self.code = code
        self.message = message
        self.details = details
        self.request_id = request_id


class OutcomeUnknown(Refused):
    """1001: whether it was done is unknown; the same order again, with its client_order_id, tells."""


class InvalidRequest(Refused):
    """1002"""


class UnknownSymbol(Refused):
    """1003"""


class OffGrid(Refused):
    """1004: not on the symbol's tick or lot grid"""


class OutsideBand(Refused):
    """1005: outside the price band, or below the minimum notional"""


class KeyReused(Refused):
    """1006: the client_order_id was used for another order"""


class NoSuchOrder(Refused):
    """1007"""


class VersionConflict(Refused):
    """1008"""


class NotCancelable(Refused):
    """1009"""


class NotTrading(Refused):
    """1010: halted, or only cancels are accepted"""


class WouldCross(Refused):
    """1011: a post-only order would have traded"""


class Stale(Refused):
    """1012: valid_until has passed"""


class NotServing(Refused):
    """1020: nothing was done; try again later"""


class OtherShard(Refused):
    """1021: `details["endpoint"]` serves the symbol"""


class Unauthorized(Refused):
    """2001, 2002"""


class Forbidden(Refused):
    """2003: the token's scope or account does not allow it"""


class PositionLimit(Refused):
    """3001"""


class SizeLimit(Refused):
    """3002"""


class InsufficientBalance(Refused):
    """3003"""


class KillSwitch(Refused):
    """3005"""


class TooManyOrders(Refused):
    """3006"""


class RateLimited(Refused):
    """3029"""


BY_CODE: dict[int, type[Refused]] = {
    1001: OutcomeUnknown,
    1002: InvalidRequest,
    1003: UnknownSymbol,
    1004: OffGrid,
    1005: OutsideBand,
    1006: KeyReused,
    1007: NoSuchOrder,
    1008: VersionConflict,
    1009: NotCancelable,
    1010: NotTrading,
    1011: WouldCross,
    1012: Stale,
    1020: NotServing,
    1021: OtherShard,
    2001: Unauthorized,
    2002: Unauthorized,
    2003: Forbidden,
    3001: PositionLimit,
    3002: SizeLimit,
    3003: InsufficientBalance,
    3005: KillSwitch,
    3006: TooManyOrders,
    3029: RateLimited,
}


class Unreachable(Exception):
    """No answer that tells what became of it; `outcome_unknown`: it may have been served all the same."""

    def __init__(self, url: str, why: str, outcome_unknown: bool) -> None:
        super().__init__(f"no answer from {url}: {why}")
        self.url = url
        self.why = why
        self.outcome_unknown = outcome_unknown


def refused(status: int, code: int, message: str, details: Any = None, request_id: str = "") -> Refused:
    """The exception of a code; `Refused` itself for one that this release does not know."""
    return BY_CODE.get(code, Refused)(status, code, message, details, request_id)


def refusal_of(status: int, body: Any) -> Refused:
    """The refusal that an error body (or an item of a batch) tells."""
    if not isinstance(body, dict) or "code" not in body:
        return Refused(status, 0, f"HTTP status {status}")
    return refused(
        status, body["code"], body.get("message", ""), body.get("details"), body.get("request_id", "")
    )
