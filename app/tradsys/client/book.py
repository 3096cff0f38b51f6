"""Keep a book in step with the venue's streams, and prove it: no I/O, for any client.

    book = LocalBook()
    try:
        book.take(message)              # of channel `book`, or a frame of bin.v2 by `take_frame`
    except OutOfStep as lost:
        ...                             # send `resync`, and skip the stream's messages until it is answered

A gap loses nothing that the book had: send `resync` with the book's `seq` as `from_seq`, and its `epoch`.
If the answer says `filled`, what was missed follows as it was: call `resume`, and go on. Otherwise, and after
any other reason (then without `from_seq`), a snapshot follows.

A delta is applied only if it follows what the book has; then the checksum that came with it must be the
book's own. So a message that was lost, doubled or damaged is found at once, and never traded on.
Prices and quantities are kept as integers of 1e-8, which compare exactly; `levels` gives the venue's texts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET

from tradsys.codec.decimals import amount_of, text_of
from tradsys.codec.market_v1 import CHECKSUM_LEVELS, Level, OrderLevel, checksum_of
from tradsys.codec.stream_v1 import (
    BOOK_DELTA_FRAME,
    BOOK_RECORD,
    BOOK_SNAPSHOT_FRAME,
    FRAME_HEADER,
    LEVEL_RECORD,
    BookMessage,
    OrderBookMessage,
)

Why = Literal["no_snapshot", "epoch", "gap", "checksum"]


class OutOfStep(Exception):
    """The book is no longer the venue's: ask for a `resync`. Until a snapshot comes, deltas are refused."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(f"{why}: {detail}")
        self.why = why


class Half:
    """Price levels of one side, in 1e-8."""

    __slots__ = ("_ranks", "_sign", "quantities")

    def __init__(self, sign: int, levels: Iterable[tuple[int, int]] = ()) -> None:
        self._sign = sign
        self.quantities = {price: quantity for price, quantity in levels}
        """By price."""
        self._ranks = sorted(price * sign for price in self.quantities)

    def set(self, price: int, quantity: int) -> None:
        """A level as it is now; 0 takes it out. KeyError if it is not there."""
        quantities = self.quantities
        if not quantity:
            del quantities[price]
            rank = price * self._sign
            del self._ranks[bisect_left(self._ranks, rank)]
        else:
            if price not in quantities:
                insort(self._ranks, price * self._sign)
            quantities[price] = quantity

    def best(self, levels_max: int) -> list[tuple[int, int]]:
        """(price, quantity) of the best levels, best first."""
        sign, quantities = self._sign, self.quantities
        return [
            (rank * sign, quantities[rank * sign])
            for rank in (self._ranks[: -levels_max - 1 : -1] if levels_max else ())
        ]


class _Kept:
    """What both forms of a book share: where it stands, and what may follow."""

    def __init__(self) -> None:
        self.epoch = self.seq = -1
        """Of the last message; −1: none was taken."""
        self.depth = 0
        self.in_step = False
        """What the book says is the venue's book at `seq`."""
        self.snapshots = self.deltas = self.gaps = 0

    def resume(self) -> None:
        """What was missed comes now: the answer to a `resync` from `seq` on has said `filled`."""
        self.in_step = True

    def _follow(self, epoch: int, seq: int, prev_seq: int) -> None:
        """Raises OutOfStep unless a delta follows what was taken last."""
        if not self.in_step:
            raise OutOfStep("no_snapshot", f"seq {seq} came before a snapshot")
        if epoch != self.epoch:
            self._refuse("epoch", f"{epoch} after {self.epoch}")
        if prev_seq != self.seq or seq <= prev_seq:
            self._refuse("gap", f"seq {seq} follows {prev_seq}, and {self.seq} was taken")

    def _refuse(self, why: Why, detail: str) -> None:
        self.in_step = False
        raise OutOfStep(why, detail)

    def _prove(self, bids: list[Level], asks: list[Level], checksum: int) -> None:
        found = checksum_of(bids, asks)
        if found != checksum:
            self._refuse("checksum", f"{found} at seq {self.seq}, where the venue has {checksum}")


class LocalBook(_Kept):
    """The price levels of one symbol, as far down as the subscription's depth."""

    def __init__(self) -> None:
        super().__init__()
        self.bids, self.asks = Half(1), Half(-1)
        self._dense_seq = 0

    def take(self, message: BookMessage) -> None:
        """Apply a message of channel `book`. Raises OutOfStep."""
        if message.type == "snapshot":
            self._begin(message.epoch, message.seq, message.gap)
            self.depth = message.depth
        else:
            assert message.prev_seq is not UNSET, "a delta has a prev_seq"
            self._follow(message.epoch, message.seq, message.prev_seq)
            self.seq = message.seq
            self.deltas += 1
        try:
            for half, levels in ((self.bids, message.bids), (self.asks, message.asks)):
                for price, quantity in levels:
                    half.set(amount_of(price), amount_of(quantity))
        except KeyError:
            self._refuse("checksum", f"seq {message.seq} takes out a level that is not there")
        self._prove_levels(message.checksum)

    def take_frame(self, frame: bytes) -> None:
        """Apply a frame of `tradsys.bin.v2`, of this book's stream. Raises OutOfStep."""
        kind, flags, _, _, dense_seq = FRAME_HEADER.unpack_from(frame)
        at = FRAME_HEADER.size
        epoch, seq, _, checksum, bids, asks = BOOK_RECORD.unpack_from(frame, at)
        if kind == BOOK_SNAPSHOT_FRAME:
            self._begin(epoch, seq, bool(flags & 4))
        else:
            assert kind == BOOK_DELTA_FRAME, "the frame is a book's"
            # A frame names no prev_seq: that its own number follows says the same.
            follows = dense_seq == self._dense_seq + 1
            self._follow(epoch, seq, self.seq if follows else -1)
            self.seq = seq
            self.deltas += 1
        self._dense_seq = dense_seq
        at += BOOK_RECORD.size
        try:
            for half, count in ((self.bids, bids), (self.asks, asks)):
                for price, quantity in LEVEL_RECORD.iter_unpack(frame[at : at + count * LEVEL_RECORD.size]):
                    half.set(price, quantity)
                at += count * LEVEL_RECORD.size
        except KeyError:
            self._refuse("checksum", f"seq {seq} takes out a level that is not there")
        self._prove_levels(checksum)

    def _begin(self, epoch: int, seq: int, gap: bool) -> None:
        self.bids, self.asks = Half(1), Half(-1)
        self.epoch, self.seq, self.in_step = epoch, seq, True
        self.snapshots += 1
        self.gaps += gap

    def _prove_levels(self, checksum: int) -> None:
        bids, asks = self.levels(CHECKSUM_LEVELS)
        self._prove(bids, asks, checksum)

    def levels(self, levels_max: int = 1000) -> tuple[list[Level], list[Level]]:
        """(bids, asks) as the venue writes them, best first."""
        return (
            [(text_of(price), text_of(quantity)) for price, quantity in self.bids.best(levels_max)],
            [(text_of(price), text_of(quantity)) for price, quantity in self.asks.best(levels_max)],
        )


class LocalOrderBook(_Kept):
    """The same order by order, from channel `book_l3`: each level's orders in the order of their priority."""

    def __init__(self) -> None:
        super().__init__()
        self._orders: dict[str, int] = {}
        """Price by order id."""
        self._halves: tuple[dict[int, dict[str, int]], dict[int, dict[str, int]]] = ({}, {})
        """By price: quantity by order id, first come first."""
        self._sums = Half(1), Half(-1)
        self._more = False

    def take(self, message: OrderBookMessage) -> None:
        """Apply a message of channel `book_l3`. Raises OutOfStep."""
        if message.type == "snapshot":
            # Pieces of one snapshot have one seq; another one after a cut does not go on with the old pieces.
            if not self._more or (message.epoch, message.seq) != (self.epoch, self.seq):
                self._orders, self._halves, self._sums = {}, ({}, {}), (Half(1), Half(-1))
                self.snapshots += 1
                self.gaps += message.gap
            self._more = message.more
            self.epoch, self.seq, self.depth = message.epoch, message.seq, message.depth
            self.in_step = not message.more
        else:
            assert message.prev_seq is not UNSET, "a delta has a prev_seq"
            self._follow(message.epoch, message.seq, message.prev_seq)
            self.seq = message.seq
            self.deltas += 1
        try:
            for side, rows in enumerate((message.bids, message.asks)):
                for price, quantity, order_id in rows:
                    self._set(side, amount_of(price), amount_of(quantity), order_id)
        except KeyError:
            self._refuse("checksum", f"seq {message.seq} changes an order that is not there")
        if not message.more:
            bids, asks = self.levels(CHECKSUM_LEVELS)
            self._prove(bids, asks, message.checksum)

    def _set(self, side: int, price: int, quantity: int, order_id: str) -> None:
        half, sums = self._halves[side], self._sums[side]
        if quantity:
            level = half.setdefault(price, {})
            before = level.get(order_id, 0)
            level[order_id] = quantity
            self._orders[order_id] = price
        else:
            level = half[price]
            before = level.pop(order_id)
            del self._orders[order_id]
            if not level:
                del half[price]
        sums.set(price, sums.quantities.get(price, 0) + quantity - before)

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._orders

    @property
    def count(self) -> int:
        """Orders in view."""
        return len(self._orders)

    def levels(self, levels_max: int = 1000) -> tuple[list[Level], list[Level]]:
        """(bids, asks) as channel `book` has them."""
        bids, asks = self._sums
        return (
            [(text_of(price), text_of(quantity)) for price, quantity in bids.best(levels_max)],
            [(text_of(price), text_of(quantity)) for price, quantity in asks.best(levels_max)],
        )

    def orders(self, levels_max: int = 1000) -> tuple[list[OrderLevel], list[OrderLevel]]:
        """(bids, asks) as `GET /market/{symbol}/book?level=3` has them: best first, earliest first."""
        found: list[list[OrderLevel]] = []
        for half, sums in zip(self._halves, self._sums, strict=True):
            found.append(
                [
                    (text_of(price), text_of(quantity), order_id)
                    for price, _ in sums.best(levels_max)
                    for order_id, quantity in half[price].items()
                ]
            )
        return found[0], found[1]
