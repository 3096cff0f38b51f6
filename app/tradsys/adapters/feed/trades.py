"""What trades make: the channels trades, price, ticker and candles."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET
from msgspec.structs import replace

from tradsys.adapters.feed.candles import CandleBoard
from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.adapters.feed.messages import Buffers, Encoded
from tradsys.adapters.feed.stream import Key, MarketStream, flags_of
from tradsys.codec import stream_v1 as s
from tradsys.codec.decimals import grid_of
from tradsys.codec.market_v1 import candle_item_of, ticker_of
from tradsys.core.candles import INTERVALS, Candle, first_candle

TRADES_SHOWN = 50
"""Trades in a snapshot."""


class TradesStream(MarketStream):
    """Every trade, whole."""

    frames: ClassVar[tuple[str, ...]] = (s.BIN_V2,)
    shown = TRADES_SHOWN

    def turned(self, turn: Turn) -> None:
        trades = turn.trades.get(self.subject)
        if not trades:
            return
        prev_seq, self.seq = self.seq, trades[-1][1]
        first = self.dense_seq + 1
        self.dense_seq += -(-len(trades) // s.TRADES_FRAME_MAX)
        self.publish(prev_seq, lambda form: self._encode(form, trades, "delta", first, prev_seq, False))

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
        latest = list(self.market.trades)[-self.shown :]
        return self._encode(form, latest, "snapshot", self.dense_seq, None, gap)

    def _encode(
        self,
        form: str,
        trades: list[s.TradeMade],
        type: s.Kind,
        first_dense_seq: int,
        prev_seq: int | None,
        gap: bool,
    ) -> Encoded:
        frame, instrument = self.buffers.frame, self.instrument
        if form == s.BIN_V1:
            name = s.price_symbol_of(self.subject)
            return Encoded(True, [frame(s.price_frame(name, instrument, made)) for made in trades])
        if form == s.BIN_V2:
            flags = flags_of(prev_seq, gap)
            frames = s.trade_frames(self.number, first_dense_seq, flags, instrument, trades)
            return Encoded(True, [frame(one) for one in frames])
        return Encoded(False, [self.buffers.text(self._message(trades, type, prev_seq, gap))])

    def _message(
        self, trades: list[s.TradeMade], type: s.Kind, prev_seq: int | None, gap: bool
    ) -> s.TradesMessage | s.PriceMessage:
        grid = grid_of(self.instrument)
        return s.TradesMessage(
            type=type, symbol=self.subject, epoch=self.follower.epoch, seq=self.seq,
            prev_seq=UNSET if prev_seq is None else prev_seq, ts=self.ts,
            items=[s.trade_of(grid, made) for made in trades], gap=gap,
        )  # fmt: skip


class PriceStream(TradesStream):
    """Price, quantity and time of every trade; the plan's 32 bytes."""

    frames: ClassVar[tuple[str, ...]] = (s.BIN_V1, s.BIN_V2)
    shown = 1

    def _message(
        self, trades: list[s.TradeMade], type: s.Kind, prev_seq: int | None, gap: bool
    ) -> s.PriceMessage:
        grid = grid_of(self.instrument)
        return s.PriceMessage(
            type=type, symbol=self.subject, epoch=self.follower.epoch, seq=self.seq,
            prev_seq=UNSET if prev_seq is None else prev_seq, ts=self.ts,
            items=[
                (grid.price_text(event[4]), grid.qty_text(event[5]), str(time_ns))
                for time_ns, _, _, event in trades
            ],
            gap=gap,
        )  # fmt: skip


class TickerStream(MarketStream):
    """Best prices and the last trade. `turned` only remembers; `flush` sends, a few times a second."""

    def __init__(self, key: Key, number: int, follower: Follower, buffers: Buffers) -> None:
        super().__init__(key, number, follower, buffers)
        self._turned = False

    def turned(self, turn: Turn) -> None:
        self._turned = True

    def flush(self) -> None:
        if not self._turned:
            return
        self._turned = False
        prev_seq, self.seq = self.seq, self.follower.seq
        self.publish(prev_seq, lambda form: self._encode(prev_seq, False))

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
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
        return Encoded(False, [self.buffers.text(message)])


class CandlesStream(MarketStream):
    """The running candle of an interval, and the last state of each that has ended."""

    def __init__(
        self, key: Key, number: int, follower: Follower, buffers: Buffers, board: CandleBoard
    ) -> None:
        super().__init__(key, number, follower, buffers)
        self._length = INTERVALS[self.interval]
        self._board = board
        known = board.running(self.subject, self.interval)
        self._candle = replace(known) if known is not None else None

    def turned(self, turn: Turn) -> None:
        trades = turn.trades.get(self.subject)
        if not trades:
            return
        changed: list[Candle] = []
        instrument = self.instrument
        for time_ns, _, _, event in trades:
            price, volume = event[4] * instrument.tick_size, event[5] * instrument.lot_size
            candle = self._candle
            if candle is not None and time_ns < candle.start_ns + self._length:
                candle.take(price, volume)
            elif self._board.knows(self.subject, self.interval, time_ns):
                candle = self._candle = first_candle(self._length, time_ns, price, volume)
            else:
                # Began before this process knew the trades: not shown rather than shown wrongly.
                continue
            if not changed or changed[-1] is not candle:
                changed.append(candle)
        if not changed:
            return
        prev_seq, self.seq = self.seq, trades[-1][1]
        self.publish(prev_seq, lambda form: self._encode("delta", changed, prev_seq, False))

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
        return self._encode("snapshot", [self._candle] if self._candle is not None else [], None, gap)

    def _encode(self, type: s.Kind, candles: list[Candle], prev_seq: int | None, gap: bool) -> Encoded:
        message = s.CandlesMessage(
            type=type, symbol=self.subject, interval=self.interval, epoch=self.follower.epoch, seq=self.seq,
            prev_seq=UNSET if prev_seq is None else prev_seq, ts=self.ts,
            items=[candle_item_of(candle) for candle in candles], gap=gap,
        )  # fmt: skip
        return Encoded(False, [self.buffers.text(message)])
