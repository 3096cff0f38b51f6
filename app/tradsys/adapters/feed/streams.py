"""All streams that somebody is subscribed to. A stream exists as long as it has a member."""

from __future__ import annotations

from collections.abc import Iterator

from tradsys.adapters.feed.books import BookStream, OrderBookStream
from tradsys.adapters.feed.candles import CandleBoard
from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.adapters.feed.messages import Buffers
from tradsys.adapters.feed.private import BalancesStream, OrdersStream
from tradsys.adapters.feed.stream import Key, Stream, Subscriber
from tradsys.adapters.feed.trades import CandlesStream, PriceStream, TickerStream, TradesStream
from tradsys.codec import stream_v1 as s

_KINDS: dict[str, type[Stream]] = {
    s.PRICE: PriceStream,
    s.TRADES: TradesStream,
    s.BOOK: BookStream,
    s.BOOK_L3: OrderBookStream,
    s.TICKER: TickerStream,
    s.ORDERS: OrdersStream,
    s.BALANCES: BalancesStream,
}


class Streams:
    def __init__(self, follower: Follower, buffers: Buffers) -> None:
        self._follower = follower
        self._buffers = buffers
        self.candles = CandleBoard()
        self._by_key: dict[Key, Stream] = {}
        self._of_symbol: dict[str, list[Stream]] = {}
        self._of_account: dict[str, list[Stream]] = {}
        self._tickers: dict[TickerStream, None] = {}
        self._last_number = 0

    def open(self, key: Key) -> Stream:
        """The stream of a channel; the symbol or account exists."""
        stream = self._by_key.get(key)
        if stream is None:
            self._last_number += 1
            stream = self._by_key[key] = self._made(key)
            self._siblings(stream).append(stream)
            if isinstance(stream, TickerStream):
                self._tickers[stream] = None
        return stream

    def _made(self, key: Key) -> Stream:
        rest = key, self._last_number, self._follower, self._buffers
        return CandlesStream(*rest, self.candles) if key.channel == s.CANDLES else _KINDS[key.channel](*rest)

    def _siblings(self, stream: Stream) -> list[Stream]:
        by_subject = self._of_account if stream.private else self._of_symbol
        return by_subject.setdefault(stream.subject, [])

    def leave(self, stream: Stream, member: Subscriber) -> None:
        """A member goes; the last one takes the stream along."""
        stream.leave(member)
        if stream.members:
            return
        del self._by_key[stream.key]
        siblings = self._siblings(stream)
        siblings.remove(stream)
        if not siblings:
            del (self._of_account if stream.private else self._of_symbol)[stream.subject]
        if isinstance(stream, TickerStream):
            del self._tickers[stream]

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._by_key.values())

    def turned(self, turn: Turn) -> None:
        """Send what a turn has changed; in a new epoch everybody gets a snapshot instead."""
        self.take_trades(turn)
        # Copies: a client that is closed while it is handed something may take its stream along.
        symbols = list(self._of_symbol) if turn.everything else turn.symbols
        for symbol in symbols:
            for stream in list(self._of_symbol.get(symbol, ())):
                stream.turned(turn)
        for account in turn.accounts:
            for stream in list(self._of_account.get(account, ())):
                stream.turned(turn)
        if turn.new_epoch:
            for stream in list(self):
                stream.renew()

    def take_trades(self, turn: Turn) -> None:
        """What is counted whether somebody listens or not."""
        follower = self._follower
        for symbol, trades in turn.trades.items():
            instrument = follower.shard.markets[symbol].instrument
            self.candles.take(symbol, instrument, trades, follower.began_ns)

    def flush(self) -> None:
        """Send the tickers that have changed."""
        for stream in list(self._tickers):
            stream.flush()
