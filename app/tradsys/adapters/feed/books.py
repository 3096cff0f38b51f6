"""Books: `book`, level by level, and `book_l3`, order by order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from msgspec import UNSET

from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.adapters.feed.messages import Buffers, Encoded
from tradsys.adapters.feed.stream import Key, MarketStream, flags_of
from tradsys.codec import stream_v1 as s
from tradsys.codec.decimals import grid_of
from tradsys.codec.market_v1 import CHECKSUM_LEVELS, Level, OrderLevel, checksum_of
from tradsys.core.book import Side

ORDERS_PER_MESSAGE = 500

Row = tuple[int, int, int]
"""(price in ticks, shown quantity in lots or 0, order id)"""


class _Book(MarketStream):
    def __init__(self, key: Key, number: int, follower: Follower, buffers: Buffers) -> None:
        super().__init__(key, number, follower, buffers)
        self._grid = self._grid_now()

    def _grid_now(self) -> tuple[int, int]:
        return self.instrument.tick_size, self.instrument.lot_size

    def _is_of_another_grid(self) -> bool:
        """Ticks and lots have another size, which can only be because the book was empty in between."""
        before, self._grid = self._grid, self._grid_now()
        return before != self._grid

    def _texts(self, levels: Iterable[s.Ticks]) -> list[Level]:
        grid = grid_of(self.instrument)
        return [(grid.price_text(price), grid.qty_text(qty)) for price, qty in levels]

    def _checksum_of(self, bids: list[s.Ticks], asks: list[s.Ticks]) -> int:
        best = CHECKSUM_LEVELS
        return checksum_of(self._texts(bids[:best]), self._texts(asks[:best]))


class BookStream(_Book):
    """Price levels, best first, as far down as `depth`; a level that comes into view is a change, too."""

    frames: ClassVar[tuple[str, ...]] = (s.BIN_V2,)

    def __init__(self, key: Key, number: int, follower: Follower, buffers: Buffers) -> None:
        super().__init__(key, number, follower, buffers)
        self._bids, self._asks = self._levels()

    def _levels(self) -> tuple[list[s.Ticks], list[s.Ticks]]:
        book = self.market.book
        return _shown(book.bids, self.depth), _shown(book.asks, self.depth)

    def turned(self, turn: Turn) -> None:
        bids, asks = self._levels()
        if bids == self._bids and asks == self._asks:
            return
        changed_bids, changed_asks = _changes(self._bids, bids), _changes(self._asks, asks)
        self._bids, self._asks = bids, asks
        prev_seq, self.seq = self.seq, self.follower.seq
        self.dense_seq += 1
        if self._is_of_another_grid():
            self.renew()
            return
        checksum = self._checksum_of(bids, asks)
        self.publish(
            prev_seq,
            lambda form: self._encode(
                form, "delta", prev_seq, checksum, changed_bids, changed_asks, gap=False
            ),
        )

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
        checksum = self._checksum_of(self._bids, self._asks)
        return self._encode(form, "snapshot", None, checksum, self._bids, self._asks, gap=gap)

    def _encode(
        self,
        form: str,
        type: s.Kind,
        prev_seq: int | None,
        checksum: int,
        bids: list[s.Ticks],
        asks: list[s.Ticks],
        *,
        gap: bool,
    ) -> Encoded:
        follower = self.follower
        if form == s.BIN_V2:
            kind = s.BOOK_SNAPSHOT_FRAME if prev_seq is None else s.BOOK_DELTA_FRAME
            frame = s.book_frame(
                kind, self.number, self.dense_seq, flags_of(prev_seq, gap), self.instrument, follower.epoch,
                self.seq, follower.time_ns, checksum, bids, asks,
            )  # fmt: skip
            return Encoded(True, [self.buffers.frame(frame)])
        message = s.BookMessage(
            type=type, symbol=self.subject, epoch=follower.epoch, seq=self.seq,
            prev_seq=UNSET if prev_seq is None else prev_seq, ts=self.ts, depth=self.depth,
            checksum=checksum, bids=self._texts(bids), asks=self._texts(asks), gap=gap,
        )  # fmt: skip
        return Encoded(False, [self.buffers.text(message)])


def _shown(half: Side, depth: int) -> list[s.Ticks]:
    return [(price, qty) for price, qty, _ in half.depth(depth)]


def _changes(before: list[s.Ticks], now: list[s.Ticks]) -> list[s.Ticks]:
    if before == now:
        return []
    old, new = dict(before), dict(now)
    gone = [(price, 0) for price in old if price not in new]
    return gone + [level for level in now if old.get(level[0]) != level[1]]


class OrderBookStream(_Book):
    """The orders of the best `depth` levels, in the order of their priority."""

    def __init__(self, key: Key, number: int, follower: Follower, buffers: Buffers) -> None:
        super().__init__(key, number, follower, buffers)
        self._load()

    def _load(self) -> None:
        book = self.market.book
        self._bids, self._asks = _OrdersShown(book.bids, self.depth), _OrdersShown(book.asks, self.depth)

    def turned(self, turn: Turn) -> None:
        if self._is_of_another_grid():
            self._load()
            self.seq = self.follower.seq
            self.renew()
            return
        bids, asks = self._bids.changes(turn, self.subject), self._asks.changes(turn, self.subject)
        if not bids and not asks:
            return
        prev_seq, self.seq = self.seq, self.follower.seq
        self.publish(prev_seq, lambda form: self._encode("delta", [(bids, asks)], prev_seq, False))

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
        bids, asks = self._bids.rows(), self._asks.rows()
        pieces = []
        for start in range(0, max(1, len(bids), len(asks)), ORDERS_PER_MESSAGE):
            end = start + ORDERS_PER_MESSAGE
            pieces.append((bids[start:end], asks[start:end]))
        return self._encode("snapshot", pieces, None, gap)

    def _encode(
        self, type: s.Kind, pieces: list[tuple[list[Row], list[Row]]], prev_seq: int | None, gap: bool
    ) -> Encoded:
        book = self.market.book
        checksum = self._checksum_of(_shown(book.bids, CHECKSUM_LEVELS), _shown(book.asks, CHECKSUM_LEVELS))
        messages = []
        for count, (bids, asks) in enumerate(pieces, 1):
            message = s.OrderBookMessage(
                type=type, symbol=self.subject, epoch=self.follower.epoch, seq=self.seq,
                prev_seq=UNSET if prev_seq is None else prev_seq, ts=self.ts, depth=self.depth,
                checksum=checksum, bids=self._row_texts(bids), asks=self._row_texts(asks),
                more=count < len(pieces), gap=gap,
            )  # fmt: skip
            messages.append(self.buffers.text(message))
        return Encoded(False, messages)

    def _row_texts(self, rows: list[Row]) -> list[OrderLevel]:
        grid, shard = grid_of(self.instrument), self.follower.shard.name
        return [(grid.price_text(price), grid.qty_text(qty), f"{shard}-{id}") for price, qty, id in rows]


class _OrdersShown:
    """One half of an order book as its subscribers know it."""

    def __init__(self, half: Side, depth: int) -> None:
        self._half = half
        self._depth = depth
        self._levels: dict[int, dict[int, int]] = {}
        """Shown quantity by order id, by price. Only who is where counts; the book itself has the order."""
        self._prices: dict[int, int] = {}
        """Of the orders."""
        for price in self._in_view():
            self._enter(price)

    def _in_view(self) -> list[int]:
        half = self._half
        return [rank * half.sign for rank in half.ranks[: -self._depth - 1 : -1]]

    def _enter(self, price: int) -> list[Row]:
        """A level comes into view: all of its orders, earliest first."""
        level = self._levels[price] = {}
        rows = []
        order = self._half.levels[price * self._half.sign].head
        while order is not None:
            level[order.id] = order.shown
            self._prices[order.id] = price
            rows.append((price, order.shown, order.id))
            order = order.next
        return rows

    def rows(self) -> list[Row]:
        """Everything in view, best first and earliest first."""
        found = []
        for price in self._in_view():
            order = self._half.levels[price * self._half.sign].head
            while order is not None:
                found.append((price, order.shown, order.id))
                order = order.next
        return found

    def changes(self, turn: Turn, symbol: str) -> list[Row]:
        """What a turn has changed, as rows that are applied in their order: first what goes or changes
        where it stands, then what joins the end of a level, then the levels that came into view."""
        levels, prices, half = self._levels, self._prices, self._half
        in_view = self._in_view()
        now = set(in_view)
        entered = [price for price in in_view if price not in levels]
        rows: list[Row] = []
        for price in [price for price in levels if price not in now]:
            for order_id in levels.pop(price):
                rows.append((price, 0, order_id))
                del prices[order_id]
        joining: dict[int, Row] = {}
        new_levels = set(entered)
        for order_id in (*turn.gone, *turn.orders):
            order = turn.orders.get(order_id)
            if order is not None and (order.side != half.sign or order.command.symbol != symbol):
                continue
            rests = order is not None and order.level is not None and not order.waiting
            price = order.price if order is not None and rests and order.price in now else 0
            before = prices.get(order_id, 0)
            if before and (price != before or order_id in turn.queued):
                rows.append((before, 0, order_id))
                del prices[order_id], levels[before][order_id]
                before = 0
            if order is None or not price or price in new_levels:
                continue
            if not before:
                joining[order_id] = (price, order.shown, order_id)
            elif levels[price][order_id] != order.shown:
                levels[price][order_id] = order.shown
                rows.append((price, order.shown, order_id))
        for order_id in turn.queued:
            row = joining.get(order_id)
            if row is not None:
                rows.append(row)
                levels[row[0]][order_id] = row[1]
                prices[order_id] = row[0]
        for price in entered:
            rows += self._enter(price)
        return rows
