"""The running candles of every symbol, so that who subscribes in the middle of a day gets that day whole.

A feed replays from a snapshot and so does not know the trades before it. What it needs of them it is told
once, at the start, by the read model: the running candles as of a sequence number. The trades up to
there are in them; those after it the replay adds. A candle that began before the first trade that is
known is not shown at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from tradsys.codec.stream_v1 import TradeMade
from tradsys.core.candles import INTERVALS, Candle, first_candle, start_of
from tradsys.core.messages import Instrument

_NEVER = 1 << 63
_LENGTHS = tuple(INTERVALS.items())


class KnownCandles(Struct, frozen=True):
    """The latest candle of each symbol and interval that has one, with all trades up to `seq`."""

    seq: int
    candles: Mapping[tuple[str, str], Candle]
    """By (symbol, interval)."""


class CandleBoard:
    def __init__(self) -> None:
        self._running: dict[str, dict[str, Candle]] = {}
        self._old: frozenset[str] = frozenset()
        """Symbols that may have had trades before."""
        self._complete_from_ns = 0
        """Their candles that begin here or later have all of their trades; 0: all do."""
        self._told_seq = 0
        """Trades up to here are in what was told."""

    def begin(self, symbols: frozenset[str]) -> None:
        """These symbols were there before the first command that is known."""
        self._old = symbols
        self._complete_from_ns = _NEVER

    def tell(self, known: KnownCandles) -> None:
        """What the read model knows, before the first trade is taken; it is not behind the replay's start."""
        self._told_seq = known.seq
        self._complete_from_ns = 0
        for (symbol, interval), candle in known.candles.items():
            self._running.setdefault(symbol, {})[interval] = candle

    def take(self, symbol: str, instrument: Instrument, trades: list[TradeMade], began_ns: int) -> None:
        """Add the trades of a turn, oldest first; the first command that is known was at `began_ns`."""
        if self._complete_from_ns == _NEVER:
            self._complete_from_ns = began_ns + 1
        running = self._running.setdefault(symbol, {})
        for time_ns, seq, _, event in trades:
            if seq <= self._told_seq:
                continue
            price, volume = event[4] * instrument.tick_size, event[5] * instrument.lot_size
            for interval, length in _LENGTHS:
                candle = running.get(interval)
                if candle is not None and time_ns < candle.start_ns + length:
                    candle.take(price, volume)
                elif self.knows(symbol, interval, time_ns):
                    running[interval] = first_candle(length, time_ns, price, volume)

    def knows(self, symbol: str, interval: str, time_ns: int) -> bool:
        """Whether all trades of the candle that holds a moment are known."""
        return symbol not in self._old or start_of(time_ns, INTERVALS[interval]) >= self._complete_from_ns

    def running(self, symbol: str, interval: str) -> Candle | None:
        """The latest candle; None: there is none, or not all of it is known."""
        return self._running.get(symbol, {}).get(interval)
