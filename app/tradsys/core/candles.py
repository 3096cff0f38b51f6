"""Candles: what the trades of an interval came to. One rule for the read model, `query` and the feed.

An interval begins at a whole multiple of its length since the Unix epoch, so days begin at 00:00 UTC; a
trade at exactly that moment is its first. The first trade opens and the last one closes, in the order of
their ids. An interval without trades has no candle.

Prices and volumes are in 1e-8, not in ticks and lots: a symbol's grid may change in the middle of a day.
Each length divides the next one, so candles of a long interval are those of the short ones put together,
and the result is exactly the same.
"""

from __future__ import annotations

from msgspec import Struct

SECOND = 1_000_000_000
INTERVALS: dict[str, int] = {
    "1s": SECOND,
    "1m": 60 * SECOND,
    "5m": 300 * SECOND,
    "15m": 900 * SECOND,
    "1h": 3_600 * SECOND,
    "4h": 14_400 * SECOND,
    "1d": 86_400 * SECOND,
}
"""Length in ns by the word for it, shortest first."""


class Candle(Struct, gc=False):
    """One interval of one symbol, as far as it has come. Changes with each trade."""

    start_ns: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int

    def take(self, price: int, volume: int) -> None:
        """One more trade, later than all others."""
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.volume += volume
        self.trades += 1

    def join(self, later: Candle) -> None:
        """A part of the same interval with later trades only."""
        if later.high > self.high:
            self.high = later.high
        if later.low < self.low:
            self.low = later.low
        self.close = later.close
        self.volume += later.volume
        self.trades += later.trades


def start_of(time_ns: int, interval_ns: int) -> int:
    """When the interval began that holds a moment."""
    return time_ns - time_ns % interval_ns


def first_candle(interval_ns: int, time_ns: int, price: int, volume: int) -> Candle:
    """The candle that a trade begins."""
    return Candle(start_of(time_ns, interval_ns), price, price, price, price, volume, 1)
