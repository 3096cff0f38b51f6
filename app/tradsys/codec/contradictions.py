"""What no order can be, however it was written."""

from __future__ import annotations

from typing import Final

from tradsys.codec.errors import INVALID_REQUEST, Problem
from tradsys.core import messages as m
from tradsys.core.messages import BUY, GTC, IOC, LIMIT, SELL, STP_CANCEL_BOTH

ICEBERG_SLICES_MAX: Final = 1_000
"""Each slice is one more trade for whoever takes it; crumbs would keep others from larger makers."""


def is_plain(
    side: int,
    kind: int,
    tif: int,
    qty: int,
    price: int,
    stop_price: int,
    display_qty: int,
    post_only: bool,
    stp: int,
    expire_at: int,
    valid_until: int,
) -> bool:
    """An order like most: nothing in it could contradict anything else."""
    return (
        kind == LIMIT
        and (tif == GTC or (tif == IOC and not post_only))
        and qty > 0
        and price > 0
        and side in (BUY, SELL)
        and 0 <= stp <= STP_CANCEL_BOTH
        and valid_until >= 0
        and not (stop_price or display_qty or expire_at)
    )


def refuse_contradictions(order: m.PlaceOrder, now: int) -> None:
    """Raises Problem 1002, naming the field. `too_late` of an order with a key is not asked here."""
    kind, tif = order.type, order.time_in_force
    rests = tif in (m.GTC, m.GTD, m.DAY)
    checks = (
        (order.side in m.SIDE_WORDS, "side", "is buy or sell"),
        (kind in m.TYPE_WORDS, "type", "is limit, market, stop or stop_limit"),
        (tif in m.TIME_IN_FORCE_WORDS, "time_in_force", "is gtc, ioc, fok, gtd or day"),
        (order.stp in m.STP_WORDS, "stp", "is none, cancel_taker, cancel_maker or cancel_both"),
        (order.qty > 0, "quantity", "must be above zero"),
        (
            (order.price > 0) == (kind in (m.LIMIT, m.STOP_LIMIT)),
            "price",
            "is for limit and stop_limit orders",
        ),
        ((order.stop_price > 0) == (kind >= m.STOP), "stop_price", "is for stop and stop_limit orders"),
        (
            not (kind == m.MARKET and rests),
            "time_in_force",
            "of a market order is ioc or fok",
        ),
        (not (kind >= m.STOP and not rests), "time_in_force", "of a stop is gtc, gtd or day"),
        (
            not order.post_only or (kind == m.LIMIT and rests),
            "post_only",
            "is for limit orders that may rest",
        ),
        (
            not order.display_qty or (kind in (m.LIMIT, m.STOP_LIMIT) and rests),
            "display_quantity",
            "is for orders that may rest",
        ),
        (order.display_qty <= order.qty, "display_quantity", "exceeds quantity"),
        (
            not order.display_qty or order.qty <= order.display_qty * ICEBERG_SLICES_MAX,
            "display_quantity",
            "is less than a thousandth of quantity",
        ),
        ((order.expire_at != 0) == (tif == m.GTD), "expire_at", "is for gtd orders, which need it"),
        (order.expire_at >= 0, "expire_at", "is a unix time in nanoseconds"),
        (order.valid_until >= 0, "valid_until", "is a unix time in nanoseconds"),
    )
    for holds, field, problem in checks:
        if not holds:
            raise Problem(INVALID_REQUEST, f"{field} {problem}", {"field": field})
    # One with a key may be a retry, whose answer is the first one at any time: the venue asks once it knows.
    late = None if order.client_order_id else too_late(order, now)
    if late is not None:
        raise late


def too_late(order: m.PlaceOrder, now: int) -> Problem | None:
    """Problem 1002 for a good-till-date order whose date has passed."""
    if order.expire_at and order.expire_at <= now:
        return Problem(INVALID_REQUEST, "expire_at has passed", {"field": "expire_at"})
    return None
