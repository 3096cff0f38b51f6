"""Streams: one channel of one symbol or account, with everybody who has subscribed to it.

A stream exists while somebody is subscribed. What a turn changes becomes one message, encoded once for each
format and handed to all. A message's `prev_seq` is the `seq` of the one before, and a snapshot stands at the
`seq` of the last message, so that the next delta fits whichever of the two a client has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.codec import stream_v1 as s
from tradsys.codec.decimals import grid_of
from tradsys.codec.json_v1 import OrderReply, encode, reply_of_order, state_of
from tradsys.codec.market_v1 import CHECKSUM_LEVELS, Level, checksum_of, ticker_of
from tradsys.core.book import Side
from tradsys.core.market import Market
from tradsys.core.messages import Instrument
from tradsys.core.order import Order

TRADES_SHOWN = 50
"""Trades in a snapshot."""
ORDERS_PER_MESSAGE = 200
ORDERS_SHOWN_MAX = 1_000
"""Open orders in a snapshot, the latest ones."""

Key = tuple[str, str, int]
"""(channel, symbol or account, depth)"""


class Encoded:
    """One change or snapshot in one format: what is sent, in order."""

    __slots__ = ("binary", "messages")

    def __init__(self, binary: bool, messages: list[bytes]):
        self.binary = binary
        self.messages = messages


class Subscriber(Protocol):
    format: str

    def deliver(self, stream: Stream, encoded: Encoded) -> None:
        """Take a change of a stream, or fall behind."""


class Stream:
    """What the channels share."""

    private = False

    def __init__(self, key: Key, number: int, follower: Follower) -> None:
        self.key = key
        self.channel, self.subject, self.depth = key
        self.number = number
        """Its name in binary frames, for the life of the process."""
        self.follower = follower
        self.seq = follower.seq
        """Of the last message."""
        self.dense_seq = 0
        """Of the last binary frame."""
        self.members: dict[str, dict[Subscriber, None]] = {format: {} for format in s.SUBPROTOCOLS}

    @property
    def ts(self) -> str:
        return str(self.follower.time_ns)

    @property
    def has_members(self) -> bool:
        return any(self.members.values())

    def turned(self, turn: Turn) -> None:
        """Something about its subject may have changed: send what has."""
        raise NotImplementedError

    def snapshot(self, format: str, *, gap: bool = False, from_seq: int | None = None) -> Encoded:
        """Everything there is to know at `seq`."""
        raise NotImplementedError

    def hand_to(self, format: str, encoded: Encoded) -> None:
        for member in self.members[format]:
            member.deliver(self, encoded)

    def renew(self) -> None:
        """Send everybody a snapshot: a new epoch has begun."""
        for format, members in self.members.items():
            if members:
                self.hand_to(format, self.snapshot(format))


class _MarketStream(Stream):
    """A public stream: of one symbol."""

    @property
    def market(self) -> Market:
        return self.follower.shard.markets[self.subject]

    @property
    def instrument(self) -> Instrument:
        return self.market.instrument


def _flags(prev_seq: int | None, gap: bool) -> int:
    return 0 if prev_seq is not None else s.SNAPSHOT | (s.GAP if gap else 0)


class TradesStream(_MarketStream):
    """trades, and price, which says less about each."""

    def turned(self, turn: Turn) -> None:
        trades = turn.trades.get(self.subject)
        if not trades:
            return
        prev_seq, self.seq = self.seq, trades[-1][1]
        first = self.dense_seq + 1
        self.dense_seq += -(-len(trades) // s.TRADES_FRAME_MAX)
        for format, members in self.members.items():
            if members:
                self.hand_to(format, self._encode(format, trades, "delta", first, prev_seq, False))

    def snapshot(self, format: str, *, gap: bool = False, from_seq: int | None = None) -> Encoded:
        shown = 1 if self.channel == s.PRICE else TRADES_SHOWN
        latest = list(self.market.trades)[-shown:]
        return self._encode(format, latest, "snapshot", self.dense_seq, None, gap)

    def _encode(
        self,
        format: str,
        trades: list[s.TradeMade],
        type: s.Kind,
        first_dense_seq: int,
        prev_seq: int | None,
        gap: bool,
    ) -> Encoded:
        instrument = self.instrument
        if format == s.BIN_V1 and self.channel == s.PRICE:
            name = s.price_symbol_of(self.subject)
            return Encoded(True, [s.price_frame(name, instrument, made) for made in trades])
        if format == s.BIN_V2:
            flags = _flags(prev_seq, gap)
            return Encoded(True, s.trade_frames(self.number, first_dense_seq, flags, instrument, trades))
        grid = grid_of(instrument)
        prev = UNSET if prev_seq is None else prev_seq
        if self.channel == s.PRICE:
            items = [
                (grid.price_text(event[4]), grid.qty_text(event[5]), str(time_ns))
                for time_ns, _, _, event in trades
            ]
            message: s.PriceMessage | s.TradesMessage = s.PriceMessage(
                type=type, symbol=self.subject, epoch=self.follower.epoch, seq=self.seq, prev_seq=prev,
                ts=self.ts, items=items, gap=gap,
            )  # fmt: skip
        else:
            message = s.TradesMessage(
                type=type, symbol=self.subject, epoch=self.follower.epoch, seq=self.seq, prev_seq=prev,
                ts=self.ts, items=[s.trade_of(grid, made) for made in trades], gap=gap,
            )  # fmt: skip
        return Encoded(False, [encode(message)])


class BookStream(_MarketStream):
    """Price levels, best first, as far down as `depth`; a level that comes into view is a change, too."""

    def __init__(self, key: Key, number: int, follower: Follower) -> None:
        super().__init__(key, number, follower)
        self._grid = self._grid_now()
        self._bids, self._asks = self._levels()

    def _grid_now(self) -> tuple[int, int]:
        return self.instrument.tick_size, self.instrument.lot_size

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
        if self._grid != (grid := self._grid_now()):
            # Ticks and lots have another size, which can only be because the book was empty in between.
            self._grid = grid
            self.renew()
            return
        checksum = self._checksum()
        for format, members in self.members.items():
            if members:
                encoded = self._encode(
                    format, "delta", prev_seq, checksum, changed_bids, changed_asks, gap=False
                )
                self.hand_to(format, encoded)

    def snapshot(self, format: str, *, gap: bool = False, from_seq: int | None = None) -> Encoded:
        return self._encode(format, "snapshot", None, self._checksum(), self._bids, self._asks, gap=gap)

    def _texts(self, levels: Iterable[s.Ticks]) -> list[Level]:
        grid = grid_of(self.instrument)
        return [(grid.price_text(price), grid.qty_text(qty)) for price, qty in levels]

    def _checksum(self) -> int:
        best = CHECKSUM_LEVELS
        return checksum_of(self._texts(self._bids[:best]), self._texts(self._asks[:best]))

    def _encode(
        self,
        format: str,
        type: s.Kind,
        prev_seq: int | None,
        checksum: int,
        bids: list[s.Ticks],
        asks: list[s.Ticks],
        *,
        gap: bool,
    ) -> Encoded:
        follower = self.follower
        if format == s.BIN_V2:
            kind = s.BOOK_SNAPSHOT_FRAME if prev_seq is None else s.BOOK_DELTA_FRAME
            frame = s.book_frame(
                kind, self.number, self.dense_seq, _flags(prev_seq, gap), self.instrument, follower.epoch,
                self.seq, follower.time_ns, checksum, bids, asks,
            )  # fmt: skip
            return Encoded(True, [frame])
        message = s.BookMessage(
            type=type, symbol=self.subject, epoch=follower.epoch, seq=self.seq,
            prev_seq=UNSET if prev_seq is None else prev_seq, ts=self.ts, depth=self.depth,
            checksum=checksum, bids=self._texts(bids), asks=self._texts(asks), gap=gap,
        )  # fmt: skip
        return Encoded(False, [encode(message)])


def _shown(half: Side, depth: int) -> list[s.Ticks]:
    return [(price, qty) for price, qty, _ in half.depth(depth)]


def _changes(before: list[s.Ticks], now: list[s.Ticks]) -> list[s.Ticks]:
    if before == now:
        return []
    old, new = dict(before), dict(now)
    gone = [(price, 0) for price in old if price not in new]
    return gone + [level for level in now if old.get(level[0]) != level[1]]


class TickerStream(_MarketStream):
    """Best prices and the last trade. `turned` only remembers; `flush` sends, a few times a second."""

    def __init__(self, key: Key, number: int, follower: Follower) -> None:
        super().__init__(key, number, follower)
        self._turned = False

    def turned(self, turn: Turn) -> None:
        self._turned = True

    def flush(self) -> None:
        if not self._turned:
            return
        self._turned = False
        prev_seq, self.seq = self.seq, self.follower.seq
        for format, members in self.members.items():
            if members:
                self.hand_to(format, self._encode(prev_seq, False))

    def snapshot(self, format: str, *, gap: bool = False, from_seq: int | None = None) -> Encoded:
        return self._encode(None, gap)

    def _encode(self, prev_seq: int | None, gap: bool) -> Encoded:
        market, follower = self.market, self.follower
        now = ticker_of(market, follower.shard.trading_status(market), self.seq, follower.time_ns)
        message = s.TickerMessage(
            type="snapshot", symbol=now.symbol, epoch=follower.epoch, seq=now.seq,
            prev_seq=UNSET if prev_seq is None else prev_seq, ts=now.ts, status=now.status, last=now.last,
            reference=now.reference, bid=now.bid, bid_quantity=now.bid_quantity, ask=now.ask,
            ask_quantity=now.ask_quantity, gap=gap,
        )  # fmt: skip
        return Encoded(False, [encode(message)])


class OrdersStream(Stream):
    """An account's orders."""

    private = True

    def turned(self, turn: Turn) -> None:
        mine = [order for order in turn.orders.values() if order.account.name == self.subject]
        if not mine:
            return
        shard = self.follower.shard.name
        items = [_reply_with_fills_since(order, turn.first_seq, shard) for order in mine]
        prev_seq, self.seq = self.seq, self.follower.seq
        message = self._message("delta", items)
        message.prev_seq = prev_seq
        encoded = Encoded(False, [encode(message)])
        for format in self.members:
            self.hand_to(format, encoded)

    def snapshot(self, format: str, *, gap: bool = False, from_seq: int | None = None) -> Encoded:
        """With `from_seq` also what has closed since; `gap` is set if that is not known any more."""
        shard = self.follower.shard
        account = shard.accounts[self.subject]
        orders: list[Order] = []
        if from_seq is not None:
            closed = shard.orders.closed
            whole = len(closed) < shard.rules.closed_orders_max or closed[0].updated_seq <= from_seq
            gap = gap or not whole
            orders = [one for one in closed if one.account is account and one.updated_seq > from_seq]
        truncated = len(account.open) > ORDERS_SHOWN_MAX
        orders += list(account.open.values())[-ORDERS_SHOWN_MAX:]
        messages = []
        for start in range(0, max(1, len(orders)), ORDERS_PER_MESSAGE):
            end = start + ORDERS_PER_MESSAGE
            message = self._message(
                "snapshot", [reply_of_order(one, shard.name) for one in orders[start:end]]
            )
            message.more = end < len(orders)
            message.gap, message.truncated = gap, truncated
            messages.append(encode(message))
        return Encoded(False, messages)

    def _message(self, type: s.Kind, items: list[OrderReply]) -> s.OrdersMessage:
        return s.OrdersMessage(
            type=type, account=self.subject, epoch=self.follower.epoch, seq=self.seq, ts=self.ts, items=items
        )


def _reply_with_fills_since(order: Order, first_seq: int, shard: str) -> OrderReply:
    state = state_of(order)
    return reply_of_order(replace(state, fills=[fill for fill in state.fills if fill[1] >= first_seq]), shard)


class BalancesStream(Stream):
    """An account's balances."""

    private = True

    def __init__(self, key: Key, number: int, follower: Follower) -> None:
        super().__init__(key, number, follower)
        self._rows = self._rows_now()

    def _rows_now(self) -> list[s.BalanceRow]:
        return s.balance_rows_of(self.follower.shard.accounts[self.subject])

    def turned(self, turn: Turn) -> None:
        before, self._rows = {row.asset: row for row in self._rows}, self._rows_now()
        changed = [row for row in self._rows if before.get(row.asset) != row]
        if not changed:
            return
        prev_seq, self.seq = self.seq, self.follower.seq
        message = self._message("delta", changed, False)
        message.prev_seq = prev_seq
        encoded = Encoded(False, [encode(message)])
        for format in self.members:
            self.hand_to(format, encoded)

    def snapshot(self, format: str, *, gap: bool = False, from_seq: int | None = None) -> Encoded:
        return Encoded(False, [encode(self._message("snapshot", self._rows, gap))])

    def _message(self, type: s.Kind, items: list[s.BalanceRow], gap: bool) -> s.BalancesMessage:
        return s.BalancesMessage(
            type=type, account=self.subject, epoch=self.follower.epoch, seq=self.seq, ts=self.ts,
            items=items, gap=gap,
        )  # fmt: skip


_KINDS: dict[str, type[Stream]] = {
    s.PRICE: TradesStream,
    s.TRADES: TradesStream,
    s.BOOK: BookStream,
    s.TICKER: TickerStream,
    s.ORDERS: OrdersStream,
    s.BALANCES: BalancesStream,
}


class Streams:
    """All streams that somebody is subscribed to."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._by_key: dict[Key, Stream] = {}
        self._of_symbol: dict[str, list[Stream]] = {}
        self._of_account: dict[str, list[Stream]] = {}
        self._last_number = 0

    def open(self, key: Key) -> Stream:
        """The stream of a channel; the symbol or account exists."""
        stream = self._by_key.get(key)
        if stream is None:
            self._last_number += 1
            stream = self._by_key[key] = _KINDS[key[0]](key, self._last_number, self._follower)
            self._siblings(stream).append(stream)
        return stream

    def _siblings(self, stream: Stream) -> list[Stream]:
        by_subject = self._of_account if stream.private else self._of_symbol
        return by_subject.setdefault(stream.subject, [])

    def leave(self, stream: Stream, member: Subscriber) -> None:
        """A member goes; the last one takes the stream along."""
        del stream.members[member.format][member]
        if not stream.has_members:
            del self._by_key[stream.key]
            self._siblings(stream).remove(stream)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._by_key.values())

    def turned(self, turn: Turn) -> None:
        """Send what a turn has changed; in a new epoch everybody gets a snapshot instead."""
        symbols = self._of_symbol if turn.everything else turn.symbols
        for symbol in symbols:
            for stream in self._of_symbol.get(symbol, ()):
                stream.turned(turn)
        for account in turn.accounts:
            for stream in self._of_account.get(account, ()):
                stream.turned(turn)
        if turn.new_epoch:
            for stream in self:
                stream.renew()

    def flush(self) -> None:
        """Send the tickers that have changed."""
        for stream in self:
            if isinstance(stream, TickerStream):
                stream.flush()
