"""What the shard remembers of the past, and for how long: orders by id, replies by client order id.

Both maps are split into buckets: a dict of 0.7 million keys stops the world for 28 ms when it grows,
one of a thousand for a tenth of one. Of more buckets than these their own heads are cold when they are asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from tradsys.core.messages import Instrument, Rules
from tradsys.core.order import Order
from tradsys.core.records import Page, Record, Row, pack_rest, unpack

CHUNK_BITS: Final = 12
BUCKETS: Final = 1024
LEAVE_MAX: Final = 4
"""Most orders and most records that one command lets go, so that forgetting never becomes a pause."""


class OrderMemory:
    """Open orders, and the most recently closed ones up to `closed_orders_max`."""

    def __init__(self, rules: Rules, pool_size: int):
        self.obey(rules)
        self.chunks: dict[int, dict[int, Order]] = {}
        """By id without its last bits: orders of the same time lie together, and so in the CPU's cache."""
        self.closed: deque[Order] = deque()
        self.open_count = 0
        self.pool: list[Order] = []
        self.pool_size = pool_size
        self.pool_hits = 0
        self.pool_misses = 0

    def obey(self, rules: Rules) -> None:
        self.closed_max: int = rules.closed_orders_max

    def get(self, order_id: int) -> Order | None:
        chunk = self.chunks.get(order_id >> CHUNK_BITS)
        return chunk.get(order_id) if chunk is not None else None

    def new(
        self, id: int, side: int, price: int, qty: int, display_qty: int, expire_at: int, account: object
    ) -> Order:
        """A clean order; one that left memory is initialised again if the pool has any."""
        if self.pool:
            self.pool_hits += 1
            order = self.pool.pop()
            order.reset(id, side, price, qty, display_qty, expire_at, account)
        else:
            self.pool_misses += 1
            order = Order(id, side, price, qty, display_qty, expire_at, account)
        chunk = self.chunks.get(id >> CHUNK_BITS)
        if chunk is None:
            self.add(order)
        else:
            chunk[order.id_object] = order
        self.open_count += 1
        return order

    def add(self, order: Order) -> None:
        chunk = self.chunks.get(order.id >> CHUNK_BITS)
        if chunk is None:
            chunk = self.chunks[order.id >> CHUNK_BITS] = {}
        chunk[order.id_object] = order

    def _remove(self, order: Order) -> None:
        chunk = self.chunks[order.id >> CHUNK_BITS]
        del chunk[order.id_object]
        if not chunk:
            del self.chunks[order.id >> CHUNK_BITS]

    def close(self, order: Order) -> None:
        """The order has ended; it stays until enough others have. It is in no book any more."""
        assert order.level is None
        self.open_count -= 1
        self.closed.append(order)

    def sweep(self) -> None:
        """Let go of the orders that closed longest ago, as long as there are too many."""
        closed = self.closed
        for _ in range(LEAVE_MAX):
            if len(closed) <= self.closed_max:
                break
            left = closed.popleft()
            self._remove(left)
            if len(self.pool) < self.pool_size:
                self.pool.append(left)


def key_of(account: str, client_order_id: str) -> str:
    return f"{account}/{client_order_id}"


class KeyMemory:
    """Idempotency records by (account, client order id): while open, then for a window, within a cap."""

    def __init__(self, rules: Rules, instruments: Sequence[Instrument]):
        self.obey(rules)
        self.instruments = instruments
        """By version."""
        self.buckets: list[dict[str, bytes]] = [{} for _ in range(BUCKETS)]
        self.loaded: dict[str, bytes] = {}
        """What a snapshot brought: one dict, filled at once, which never grows again."""
        self.closed: deque[tuple[int, str]] = deque()
        """(time of closing, key), oldest first."""
        self.pages: deque[Page] = deque()
        """The beginning of `closed` as a follower has written it; a writer has none."""
        self.count = 0
        self.evicted_early = 0

    def obey(self, rules: Rules) -> None:
        self.window_ns: int = rules.idempotency_window_ns
        self.keys_max: int = rules.idempotency_keys_max

    def get(self, key: str) -> Record | None:
        found = self.buckets[hash(key) & (BUCKETS - 1)].get(key)
        if found is None and self.loaded:
            found = self.loaded.get(key)
        return unpack(found, self.instruments) if found is not None else None

    def packed(self, key: str) -> bytes:
        loaded = self.loaded.get(key)
        return loaded if loaded is not None else self.buckets[hash(key) & (BUCKETS - 1)][key]

    def add(self, key: str, entry: bytes, seq: int, time_ns: int, version: int) -> None:
        """`entry`: the command with all of its events; `version`: of its instrument."""
        self.buckets[hash(key) & (BUCKETS - 1)][key] = entry + pack_rest(seq, time_ns, version)
        self.count += 1

    def load(self, rows: Sequence[Row]) -> None:
        """Take over what a snapshot holds: first the keys of open orders, then others as they closed."""
        loaded, closed = self.loaded, self.closed
        for closed_ns, key, record in rows:
            loaded[key] = record
            if closed_ns:
                closed.append((closed_ns, key))
        self.count += len(rows)

    def kept(self) -> Iterator[tuple[str, Record]]:
        """All keys with their records, in no order that means anything."""
        for part in (self.loaded, *self.buckets):
            for key, record in part.items():
                yield key, unpack(record, self.instruments)

    def close(self, key: str, now: int) -> None:
        self.closed.append((now, key))

    def sweep(self, now: int) -> None:
        """Forget what has outlived its window, or, over the cap, what closed first."""
        closed = self.closed
        for _ in range(LEAVE_MAX):
            if not closed:
                return
            if closed[0][0] + self.window_ns > now:
                if self.count <= self.keys_max:
                    return
                self.evicted_early += 1
            key = closed.popleft()[1]
            if self.buckets[hash(key) & (BUCKETS - 1)].pop(key, None) is None:
                del self.loaded[key]
            self.count -= 1
            if self.pages:
                self.pages[0].rows -= 1
                if not self.pages[0].rows:
                    self.pages.popleft()
