"""Books: `book`, level by level, and `book_l3`, order by order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from msgspec import UNSET

from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.adapters.feed.messages import Buffers, Encoded
from tradsys.adapters.feed.stream import Key, MarketStream, flags_of
from tradsys.codec import stream_v1 as s
from tradsys.codec.decimals import Grid, grid_of
from tradsys.codec.market_v1 import (
    CHECKSUM_LEVELS,
    Level,
    OrderLevel,
    checksum_of,
    checksum_of_rows,
    checksum_row,
)
from tradsys.core.book import Side

ORDERS_PER_MESSAGE = 500

Row = tuple[int, int, int]
"""(price in ticks, shown quantity in lots or 0, order id)"""


class _Book(MarketStream):
    def __init__(self, key: Key, number: int, follower: Follower, buffers: Buffers) -> None:
        super().__init__(key, number, follower, buffers)
        self._known = self.instrument

    def _is_of_another_grid(self) -> bool:
        """Ticks and lots have another size, which can only be because the book was empty in between."""
        before, now = self._known, self.instrument
        if now is before:
            return False
        self._known = now
        return (before.tick_size, before.lot_size) != (now.tick_size, now.lot_size)

    def _texts(self, levels: Iterable[s.Ticks]) -> list[Level]:
        grid = grid_of(self._known)
        return [(grid.price_text(price), grid.qty_text(qty)) for price, qty in levels]


class BookStream(_Book):
    """Price levels, best first, as far down as `depth`; a level that comes into view is a change, too."""

    frames: ClassVar[tuple[str, ...]] = (s.BIN_V2,)

    def __init__(self, key: Key, number: int, follower: Follower, buffers: Buffers) -> None:
        super().__init__(key, number, follower, buffers)
        book = self.market.book
        self._bids, self._asks = _LevelsShown(book.bids, self.depth), _LevelsShown(book.asks, self.depth)

    def turned(self, turn: Turn) -> None:
        bids, asks = self._bids.changes(), self._asks.changes()
        if not bids and not asks:
            return
        prev_seq, self.seq = self.seq, self.follower.seq
        self.dense_seq += 1
        if self._is_of_another_grid():
            self.renew()
            return
        checksum = self._checksum()
        self.publish(
            prev_seq, lambda form: self._encode(form, "delta", prev_seq, checksum, bids, asks, gap=False)
        )

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
        bids, asks = self._bids.levels(), self._asks.levels()
        return self._encode(form, "snapshot", None, self._checksum(), bids, asks, gap=gap)

    def _checksum(self) -> int:
        grid = grid_of(self._known)
        return checksum_of_rows(self._bids.checksum_rows(grid) + self._asks.checksum_rows(grid))

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
                kind, self.number, self.dense_seq, flags_of(prev_seq, gap), self._known, follower.epoch,
                self.seq, follower.time_ns, checksum, bids, asks,
            )  # fmt: skip
            return Encoded(True, [self.buffers.frame(frame)])
        message = s.BookMessage(
            type=type, symbol=self.subject, epoch=follower.epoch, seq=self.seq,
            prev_seq=UNSET if prev_seq is None else prev_seq, ts=self.ts, depth=self.depth,
            checksum=checksum, bids=self._texts(bids), asks=self._texts(asks), gap=gap,
        )  # fmt: skip
        return Encoded(False, [self.buffers.text(message)])


class _LevelsShown:
    """One half of a book as its subscribers know it, level by level."""

    def __init__(self, half: Side, depth: int) -> None:
        self._half = half
        self._depth = depth
        self._ranks: list[int] = []
        self._shown: list[int] = []
        self._grid: Grid | None = None
        """Of the rows."""
        self._rows: list[str] = []
        """What the checksum covers; those of changed levels are empty until it is asked for."""
        self.changes()

    def levels(self) -> list[s.Ticks]:
        """Everything in view, best first."""
        sign = self._half.sign
        return [(rank * sign, shown) for rank, shown in zip(self._ranks, self._shown, strict=True)]

    def changes(self) -> list[s.Ticks]:
        """What has changed since the last call: levels that left the view with 0, then the others."""
        half = self._half
        sign, levels = half.sign, half.levels
        before, known = self._ranks, self._shown
        ranks = half.best_ranks(self._depth)
        shown = [levels[rank].shown for rank in ranks]
        if ranks == before:
            if shown == known:
                return []
            self._shown = shown
            at = [place for place, qty in enumerate(shown) if qty != known[place]]
            rows = self._rows
            for place in at:
                if place < CHECKSUM_LEVELS:
                    rows[place] = ""
            return [(ranks[place] * sign, shown[place]) for place in at]
        self._ranks, self._shown = ranks, shown
        self._rows = [""] * min(len(ranks), CHECKSUM_LEVELS)
        old, now = dict(zip(before, known, strict=True)), set(ranks)
        gone = [(rank * sign, 0) for rank in before if rank not in now]
        return gone + [
            (rank * sign, qty) for rank, qty in zip(ranks, shown, strict=True) if old.get(rank) != qty
        ]

    def checksum_rows(self, grid: Grid) -> list[str]:
        rows = self._rows
        if grid is not self._grid:
            self._grid = grid
            rows[:] = [""] * len(rows)
        sign = self._half.sign
        for place, row in enumerate(rows):
            if not row:
                price, qty = self._ranks[place] * sign, self._shown[place]
                rows[place] = checksum_row(grid.price_text(price), grid.qty_text(qty))
        return rows


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
        checksum = checksum_of(self._best(book.bids), self._best(book.asks))
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

    def _best(self, half: Side) -> list[Level]:
        return self._texts([(price, qty) for price, qty, _ in half.depth(CHECKSUM_LEVELS)])

    def _row_texts(self, rows: list[Row]) -> list[OrderLevel]:
        grid, shard = grid_of(self._known), self.follower.shard.name
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
        return [rank * half.sign for rank in half.best_ranks(self._depth)]

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
