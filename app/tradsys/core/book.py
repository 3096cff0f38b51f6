"""The order book: price–time priority over integers, without money, clock or I/O.

Rule: price–time ("FIFO") matching as on CME Globex; icebergs lose their place with each new slice.
Both halves are one piece of code: rank = price × side, so the best level always has the greatest rank,
and it is always the last of an ascending list.

In a book of thousands of levels that list holds the best ones only, and what is further away lies in
blocks: in one list of 100,000 prices a new one would move 0.8 MB.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from tradsys.core.order import Level, Order

TRADED: Final = 1
EXPIRED_MAKER: Final = 2
CANCELED_MAKER: Final = 3
CANCELED_TAKER: Final = 4
REPLENISHED_MAKER: Final = 5
STOPPED_TAKER: Final = 6

Step = tuple[int, Order, int, int]
"""(what, order, qty, the order's open_qty afterwards); for REPLENISHED_MAKER qty is the new slice."""

BLOCK_RANKS: Final = 1_024
BLOCK_RANKS_MAX: Final = 2_048
"""Where more come between, blocks are cut: to move all of so many takes less than half a microsecond."""


class Side:
    """One half of a book, or the stops that wait on one side."""

    __slots__ = ("far", "far_starts", "levels", "ranks", "sign")

    def __init__(self, sign: int):
        self.sign: int = sign
        self.ranks: list[int] = []
        """Of the best levels, ascending. Always the same list, and empty only if there are no levels."""
        self.far: list[list[int]] = []
        """Blocks of all other ranks, ascending, none empty; all are below `ranks`."""
        self.far_starts: list[int] = []
        """The lowest rank of each block."""
        self.levels: dict[int, Level] = {}

    def append(self, order: Order, price: int) -> None:
        """Put an order last in its level. O(1), or the insertion of a new level."""
        rank = price * self.sign
        level = self.levels.get(rank)
        if level is None:
            level = Level(rank)
            self.levels[rank] = level
            ranks = self.ranks
            if not ranks or rank > ranks[-1]:
                ranks.append(rank)
            elif self.far:
                self._insert_deep(rank)
            else:
                insort(ranks, rank)
                if len(ranks) > BLOCK_RANKS_MAX:
                    self._cut()
        level.append(order)

    def remove(self, order: Order) -> None:
        """Take an order out of its level, and the level out if it was the last one there."""
        level = order.level
        assert level is not None
        level.unlink(order)
        if level.head is None:
            self._drop(level.rank)

    def _drop(self, rank: int) -> None:
        del self.levels[rank]
        ranks = self.ranks
        if ranks[-1] == rank:
            ranks.pop()
            if not ranks and self.far:
                ranks.extend(self.far.pop())
                self.far_starts.pop()
        elif self.far:
            self._drop_deep(rank)
        else:
            del ranks[bisect_left(ranks, rank)]

    def _cut(self) -> None:
        """Keep the best of `ranks`, and put all others into blocks."""
        ranks = self.ranks
        end = len(ranks) - BLOCK_RANKS
        for start in range(0, end, BLOCK_RANKS):
            self.far.append(ranks[start : min(start + BLOCK_RANKS, end)])
            self.far_starts.append(ranks[start])
        del ranks[:end]

    def _insert_deep(self, rank: int) -> None:
        ranks, starts = self.ranks, self.far_starts
        if rank > ranks[0]:
            insort(ranks, rank)
            if len(ranks) > BLOCK_RANKS_MAX:
                self._cut()
            return
        at = max(bisect_right(starts, rank) - 1, 0)
        block = self.far[at]
        insort(block, rank)
        starts[at] = block[0]
        if len(block) > BLOCK_RANKS_MAX:
            self.far.insert(at + 1, block[BLOCK_RANKS:])
            starts.insert(at + 1, block[BLOCK_RANKS])
            del block[BLOCK_RANKS:]

    def _drop_deep(self, rank: int) -> None:
        ranks, starts = self.ranks, self.far_starts
        if rank >= ranks[0]:
            del ranks[bisect_left(ranks, rank)]
            return
        at = bisect_right(starts, rank) - 1
        block = self.far[at]
        del block[bisect_left(block, rank)]
        if block:
            starts[at] = block[0]
        else:
            del self.far[at], starts[at]

    def ranked(self) -> Iterator[int]:
        """All ranks, best first."""
        return self._also_far() if self.far else reversed(self.ranks)

    def _also_far(self) -> Iterator[int]:
        yield from reversed(self.ranks)
        for block in reversed(self.far):
            yield from reversed(block)

    def best_ranks(self, levels_max: int) -> list[int]:
        """Those of the best levels, best first."""
        found = self.ranks[: -levels_max - 1 : -1]
        if len(found) < levels_max and self.far:
            found = list(islice(self._also_far(), levels_max))
        return found

    def __iter__(self) -> Iterator[Order]:
        """All orders, best level first and earliest first within a level."""
        for rank in self.ranked():
            order = self.levels[rank].head
            while order is not None:
                yield order
                order = order.next

    def depth(self, levels_max: int) -> list[tuple[int, int, int]]:
        """(price, shown quantity, orders) of the best levels, best first."""
        found = []
        for rank in self.best_ranks(levels_max):
            level = self.levels[rank]
            found.append((rank * self.sign, level.shown, level.count))
        return found


class OrderBook:
    """Resting orders of one symbol. It refuses nothing: risk, post-only and FOK are decided before."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids: Side = Side(1)
        self.asks: Side = Side(-1)

    def rest(self, order: Order) -> None:
        (self.bids if order.side > 0 else self.asks).append(order, order.price)

    def remove(self, order: Order) -> None:
        (self.bids if order.side > 0 else self.asks).remove(order)

    def shrink(self, order: Order, by: int) -> None:
        """Lower a resting order's quantity in place; it keeps its priority."""
        order.qty -= by
        order.open_qty -= by
        level = order.level
        assert level is not None
        if order.shown > order.open_qty:
            level.shown -= order.shown - order.open_qty
            order.shown = order.open_qty

    def take(self, taker: Order, now: int, stp: int, makers_max: int) -> list[Step]:
        """Match an order as a taker up to its price; what remains open is the caller's to rest or close.

        Steps come best price first and, within a price, earliest first. Makers that are filled,
        expired or canceled have left the book when this returns; `taker.open_qty` is what is left.
        `stp` is the taker's self-trade prevention (0 none, 1 cancel taker, 2 maker, 3 both). After
        `makers_max` makers a taker that could go on is stopped.
        """
        other = self.asks if taker.side > 0 else self.bids
        ranks, levels = other.ranks, other.levels
        bound = taker.price * other.sign
        account = taker.account
        open_qty = taker.open_qty
        steps: list[Step] = []
        while open_qty and ranks and ranks[-1] >= bound:
            level = levels[ranks[-1]]
            maker = level.head
            while maker is not None:
                if not makers_max:
                    steps.append((STOPPED_TAKER, taker, 0, open_qty))
                    taker.open_qty = open_qty
                    return steps
                makers_max -= 1
                if 0 < maker.expire_at <= now:
                    level.unlink(maker)
                    steps.append((EXPIRED_MAKER, maker, 0, maker.open_qty))
                elif stp and maker.account is account:
                    if stp != 1:
                        level.unlink(maker)
                        steps.append((CANCELED_MAKER, maker, 0, maker.open_qty))
                    if stp != 2:
                        if level.head is None:
                            other._drop(level.rank)
                        steps.append((CANCELED_TAKER, taker, 0, open_qty))
                        taker.open_qty = open_qty
                        return steps
                else:
                    shown = maker.shown
                    if open_qty < shown:
                        maker.shown = shown - open_qty
                        maker.open_qty -= open_qty
                        level.shown -= open_qty
                        steps.append((TRADED, maker, open_qty, maker.open_qty))
                        taker.open_qty = 0
                        return steps
                    open_qty -= shown
                    left = maker.open_qty - shown
                    maker.open_qty = left
                    level.unlink(maker)
                    steps.append((TRADED, maker, shown, left))
                    if left:
                        maker.shown = slice_ = left if left < maker.display_qty else maker.display_qty
                        level.append(maker)
                        steps.append((REPLENISHED_MAKER, maker, slice_, left))
                    else:
                        maker.shown = 0
                    if not open_qty:
                        break
                maker = level.head
            if level.head is None:
                other._drop(level.rank)
        taker.open_qty = open_qty
        return steps

    def fillable(self, taker: Order, now: int, stp: int, makers_max: int) -> bool:
        """Whether all of a fill-or-kill order could trade: shown slices of live, foreign orders only.

        And whether it could do so by taking at most `makers_max` times from an order, counted at worst.
        """
        other = self.asks if taker.side > 0 else self.bids
        bound = taker.price * other.sign
        missing = taker.open_qty
        for rank in other.ranked():
            if rank < bound:
                return False
            order = other.levels[rank].head
            while order is not None:
                if order.shown < order.open_qty:
                    # Its next slices may come before worse prices: each of them would be taken like a maker.
                    makers_max -= 1 - (-min(order.open_qty, taker.open_qty) // order.display_qty)
                else:
                    makers_max -= 1
                if makers_max < 0:
                    return False
                if 0 < order.expire_at <= now:
                    pass
                elif stp and order.account is taker.account:
                    if stp != 2:
                        return False  # matching would end here
                else:
                    missing -= order.shown
                    if missing <= 0:
                        return True
                order = order.next
        return False

    def best_live_opposite(self, side: int, price: int, now: int) -> int:
        """The best price at which a live order would trade with one of `side` at `price`; 0: none would."""
        other = self.asks if side > 0 else self.bids
        bound = price * other.sign
        for rank in other.ranked():
            if rank < bound:
                break
            order = other.levels[rank].head
            while order is not None:
                if not 0 < order.expire_at <= now:
                    return rank * other.sign
                order = order.next
        return 0

    def best_price(self, side: int) -> int:
        """The best price of one half (1 bids, −1 asks); 0 if it is empty."""
        half: Any = self.bids if side > 0 else self.asks
        return half.ranks[-1] * half.sign if half.ranks else 0
