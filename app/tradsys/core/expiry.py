"""Open orders by the time at which they end."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from tradsys.core.order import Order

STALE_TIMES_MAX: Final = 1_000


class Expiries:
    """Orders by (expire_at, id). All DAY orders share one time, so a cancel leaves nothing behind."""

    def __init__(self) -> None:
        self.orders: dict[int, dict[int, Order]] = {}
        self.times: list[int] = []

    def add(self, order: Order) -> None:
        at = self.orders.get(order.expire_at)
        if at is None:
            at = self.orders[order.expire_at] = {}
            heappush(self.times, order.expire_at)
        at[order.id_object] = order

    def remove(self, order: Order) -> None:
        at = self.orders[order.expire_at]
        del at[order.id_object]
        if not at:
            del self.orders[order.expire_at]
            # Times without orders stay in the heap until they are many: a rebuild then is amortised.
            if len(self.times) > 2 * len(self.orders) + STALE_TIMES_MAX:
                self.times = list(self.orders)
                heapify(self.times)

    @property
    def next(self) -> int:
        """The earliest time at which an order ends; 0: none does."""
        times = self.times
        while times and times[0] not in self.orders:
            heappop(times)
        return times[0] if times else 0

    def due(self, now: int, orders_max: int) -> list[Order]:
        """Orders that end at or before `now`, by (expire_at, id), at most `orders_max` of them."""
        found: list[Order] = []
        times: list[int] = []
        while len(found) < orders_max and self.next and self.times[0] <= now:
            time = heappop(self.times)
            if not times or time != times[-1]:
                times.append(time)
                found.extend(islice(self.orders[time].values(), orders_max - len(found)))
        for time in times:
            heappush(self.times, time)
        return found
