"""One symbol of a shard: its instrument, its book, its waiting stops, its prices."""

from __future__ import annotations

from collections import deque
from typing import Final

from tradsys.core.account import Balance
from tradsys.core.book import OrderBook, Side
from tradsys.core.messages import AMOUNT_SCALE, PPM, TRADING, Event, Instrument
from tradsys.core.order import Order

RECENT_TRADES_MAX: Final = 100


class Market:
    __slots__ = (
        "band_ppm",
        "book",
        "buy_stops",
        "fees",
        "instrument",
        "last",
        "lot_size",
        "notional_min",
        "qty_max",
        "qty_min",
        "reference",
        "sell_stops",
        "status",
        "trades",
        "unit",
    )

    def __init__(self, instrument: Instrument, fees: Balance):
        self.obey(instrument)
        self.fees = fees
        """What the shard has collected in the quote asset, over all its symbols."""
        self.book = OrderBook()
        # As ranks: the next buy stop to fire is the lowest, the next sell stop the highest.
        self.buy_stops = Side(-1)
        self.sell_stops = Side(1)
        self.status = TRADING
        self.last = 0
        self.reference = 0
        self.trades: deque[tuple[int, int, int, Event]] = deque(maxlen=RECENT_TRADES_MAX)
        """(time_ns, seq, taker side, trade event) of the latest trades, oldest first."""

    def obey(self, instrument: Instrument) -> None:
        self.instrument = instrument
        # Each by itself, too: compiled code looks up what a struct has by its name.
        self.band_ppm: int = instrument.band_ppm
        self.notional_min: int = instrument.notional_min
        self.qty_min: int = instrument.qty_min
        self.qty_max: int = instrument.qty_max
        self.lot_size: int = instrument.lot_size
        self.unit: int = instrument.tick_size * instrument.lot_size // AMOUNT_SCALE
        """One tick × one lot in 1e-8 of the quote asset."""

    @property
    def is_idle(self) -> bool:
        return not (
            self.book.bids.ranks or self.book.asks.ranks or self.buy_stops.ranks or self.sell_stops.ranks
        )

    def stops(self, side: int) -> Side:
        return self.buy_stops if side > 0 else self.sell_stops

    def stop_is_due(self, side: int, stop_price: int) -> bool:
        last = self.last
        return last > 0 and (last >= stop_price if side > 0 else last <= stop_price)

    def next_due_stop(self) -> Order | None:
        """Buys first, lowest stop price first; then sells, highest first; earliest first within a price."""
        last = self.last
        if not last:
            return None
        ranks = self.buy_stops.ranks
        if ranks and -ranks[-1] <= last:
            return self.buy_stops.levels[ranks[-1]].head
        ranks = self.sell_stops.ranks
        if ranks and ranks[-1] >= last:
            return self.sell_stops.levels[ranks[-1]].head
        return None


def fee_of(over: int, amount: int, rate_ppm: int) -> tuple[int, int]:
    """(fee, over) of one more amount, in whole units rounded up, where `over` millionths of a unit were
    charged too much before: what comes in parts costs in all what it would at once.

    Written so that no product is larger than it must be: to compiled code one of 2^62 is no machine word.
    """
    rest = amount % PPM * rate_ppm - over
    return amount // PPM * rate_ppm - (-rest // PPM), -rest % PPM


def band(price: int, side: int, band_ppm: int) -> int:
    """The bound of a band around a price: the upper one for side 1, the lower one (at least 1) for −1."""
    if side > 0:
        return price * (PPM + band_ppm) // PPM
    return max(1, -(-price * (PPM - band_ppm) // PPM))
