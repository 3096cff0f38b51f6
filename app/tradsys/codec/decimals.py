"""Decimal text to integers and back, exactly, once.

Text is a plain decimal: ASCII digits, at most one point with digits on both sides, no sign, no exponent,
no leading zeros. Inside, amounts are integers of 1e-8; prices and quantities are multiples of their grid.
Output is the shortest exact text (`"0.5"`, `"50000"`), so every number has one spelling.
"""

from __future__ import annotations

import re

from tradsys.core.messages import AMOUNT_SCALE, Instrument

UNITS_MAX = 10**15
"""Most ticks or lots: a product of two still is a number people understand."""
AMOUNT_MAX = 2**62
"""The largest amount, price or notional, in 1e-8: with its fee it still fits the journal's 64 bits."""
CACHE_MAX = 65_536

DECIMAL = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,18}))?", re.ASCII)


class DecimalError(Exception):
    """The text is no plain decimal (`precise` False), or not a number that the grid has (True)."""

    def __init__(self, problem: str, precise: bool):
        super().__init__(problem)
        self.problem = problem
        self.precise = precise


def amount_of(text: str) -> int:
    """1e-8 units of a decimal text. Raises DecimalError: no decimal, too large, or more than 8 places."""
    found = DECIMAL.fullmatch(text)
    if found is None:
        raise DecimalError("is not a plain decimal like 12.50", False)
    whole, fraction = found.groups()
    amount = int(whole) * AMOUNT_SCALE
    if fraction is not None:
        fraction = fraction.rstrip("0")
        if len(fraction) > 8:
            raise DecimalError("has more than 8 digits after the point", True)
        amount += int(fraction.ljust(8, "0"))
    if amount > AMOUNT_MAX:
        raise DecimalError(f"is larger than {text_of(AMOUNT_MAX)}", False)
    return amount


def signed_amount_of(text: str) -> int:
    """As `amount_of`, with an optional leading minus."""
    return -amount_of(text[1:]) if text.startswith("-") else amount_of(text)


def text_of(amount: int) -> str:
    """The shortest exact decimal text of an amount in 1e-8."""
    if amount < 0:
        return "-" + text_of(-amount)
    whole, fraction = divmod(amount, AMOUNT_SCALE)
    if not fraction:
        return str(whole)
    return f"{whole}.{fraction:08d}".rstrip("0")


def average_of(cost: int, qty: int, tick_size: int) -> int:
    """cost / qty ticks as a price in 1e-8, rounded half to even. cost is Σ price × quantity."""
    amount, rest = divmod(cost * tick_size, qty)
    if 2 * rest > qty or (2 * rest == qty and amount % 2):
        amount += 1
    return amount


class Grid:
    """Prices and quantities of one instrument version, between text and integers.

    The same few numbers come again and again, so both directions remember a bounded number of them.
    """

    __slots__ = ("_lots", "_prices", "_qty_texts", "_ticks", "instrument")

    def __init__(self, instrument: Instrument):
        self.instrument = instrument
        self._ticks: dict[str, int] = {}
        self._lots: dict[str, int] = {}
        self._prices: dict[int, str] = {0: "0"}
        self._qty_texts: dict[int, str] = {0: "0"}

    def ticks(self, text: str) -> int:
        """Ticks of a price. Raises DecimalError: no decimal, zero, or not a multiple of the tick size."""
        found = self._ticks.get(text)
        return (
            found if found is not None else self._learn(text, self._ticks, self.instrument.tick_size, "tick")
        )

    def lots(self, text: str) -> int:
        """Lots of a quantity. Raises DecimalError: no decimal, zero, or not a multiple of the lot size."""
        found = self._lots.get(text)
        if found is not None:
            return found
        return self._learn(text, self._lots, self.instrument.lot_size, "lot")

    @staticmethod
    def _learn(text: str, known: dict[str, int], size: int, name: str) -> int:
        units, rest = divmod(amount_of(text), size)
        if rest:
            raise DecimalError(f"is not a multiple of the {name} size {text_of(size)}", True)
        if not units:
            raise DecimalError("must be above zero", False)
        if units > UNITS_MAX:
            raise DecimalError(f"is more than {UNITS_MAX} times the {name} size", False)
        if len(known) >= CACHE_MAX:
            known.clear()
        known[text] = units
        return units

    def price_text(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) >= CACHE_MAX:
                self._prices.clear()
            text = self._prices[ticks] = text_of(ticks * self.instrument.tick_size)
        return text

    def qty_text(self, lots: int) -> str:
        text = self._qty_texts.get(lots)
        if text is None:
            if len(self._qty_texts) >= CACHE_MAX:
                self._qty_texts.clear()
            text = self._qty_texts[lots] = text_of(lots * self.instrument.lot_size)
        return text


_GRIDS: dict[int, Grid] = {}


def grid_of(instrument: Instrument) -> Grid:
    """The grid of an instrument version; versions are few and bounded by the rules."""
    # By identity, which the grid keeps alive: hashing twelve fields costs more than all the rest here.
    grid = _GRIDS.get(id(instrument))
    if grid is None:
        grid = _GRIDS[id(instrument)] = Grid(instrument)
    return grid
