"""Decimal text to integers and back, exactly, once.

Text is a plain decimal: ASCII digits, at most one point with digits on both sides, no sign, no exponent,
no leading zeros. Inside, amounts are integers of 1e-8; prices and quantities are multiples of their grid.
Output is the shortest exact text (`"0.5"`, `"50000"`), so every number has one spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tradsys.core.messages import AMOUNT_SCALE, Instrument

UNITS_MAX: Final = 10**15
"""Most ticks or lots: a product of two still is a number people understand."""
AMOUNT_MAX: Final = 2**62
"""The largest amount, price or notional, in 1e-8: with its fee it still fits the journal's 64 bits."""
SMALL_MAX: Final = 2**62 - 1
"""A larger number is no machine word in compiled code, and compared by a call. Hardly any comes."""
CACHE_MAX: Final = 65_536

DECIMAL = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,18}))?", re.ASCII)


class DecimalError(Exception):
    """The text is no plain decimal (`precise` False), or not a number that the grid has (True)."""

    def __init__(self, problem: str, precise: bool):
        super().__init__(problem)
        self.problem = problem
        self.precise = precise


def amount_of(text: str) -> int:
    """1e-8 units of a decimal text. Raises DecimalError: no decimal, too large, or more than 8 places."""
    # `DECIMAL` by hand: its match takes a kilobyte from the allocator for a moment.
    whole, point, fraction = text.partition(".")
    if (
        not (text.isascii() and whole.isdigit() and (fraction.isdigit() or not point))
        or len(whole) > 18
        or len(fraction) > 18
        or (whole[0] == "0" and whole != "0")
    ):
        raise DecimalError("is not a plain decimal like 12.50", False)
    amount = int(whole) * AMOUNT_SCALE
    if fraction:
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


def average_text(grid: Grid, cost: int, filled: int) -> str:
    """`average_of` as text."""
    ticks, rest = divmod(cost, filled)
    return text_of(average_of(cost, filled, grid.instrument.tick_size)) if rest else grid.price_text(ticks)


class _Units(dict[str, int]):
    """Text to multiples of one size; see `Grid`."""

    __slots__ = ("name", "size")

    def __init__(self, size: int, name: str):
        self.size = size
        self.name = name

    def __missing__(self, text: str) -> int:
        units, rest = divmod(amount_of(text), self.size)
        if rest:
            raise DecimalError(f"is not a multiple of the {self.name} size {text_of(self.size)}", True)
        if not units:
            raise DecimalError("must be above zero", False)
        if units > UNITS_MAX:
            raise DecimalError(f"is more than {UNITS_MAX} times the {self.name} size", False)
        if len(self) >= CACHE_MAX:
            self.clear()
        self[text] = units
        return units


class _Texts(dict[int, str]):
    """Multiples of one size to text."""

    __slots__ = ("size",)

    def __init__(self, size: int):
        self.size = size

    def __missing__(self, units: int) -> str:
        if len(self) >= CACHE_MAX:
            self.clear()
        text = self[units] = text_of(units * self.size)
        return text


class Grid:
    """Prices and quantities of one instrument version, between text and integers.

    The same few numbers come again and again, so all four remember a bounded number of them: they are
    look-ups of dictionaries that learn what they are asked for, and cost no call of Python once it is known.
    """

    __slots__ = ("instrument", "lots", "price_text", "qty_text", "ticks")

    def __init__(self, instrument: Instrument):
        self.instrument = instrument
        self.ticks: Callable[[str], int] = _Units(instrument.tick_size, "tick").__getitem__
        """Ticks of a price. Raises DecimalError: no decimal, zero, or not a multiple of the tick size."""
        self.lots: Callable[[str], int] = _Units(instrument.lot_size, "lot").__getitem__
        """Lots of a quantity. Raises DecimalError: no decimal, zero, or not a multiple of the lot size."""
        self.price_text: Callable[[int], str] = _Texts(instrument.tick_size).__getitem__
        self.qty_text: Callable[[int], str] = _Texts(instrument.lot_size).__getitem__


_GRIDS: dict[int, Grid] = {}


def grid_of(instrument: Instrument) -> Grid:
    """The grid of an instrument version; versions are few and bounded by the rules."""
    # By identity, which the grid keeps alive: hashing twelve fields costs more than all the rest here.
    grid = _GRIDS.get(id(instrument))
    if grid is None:
        grid = _GRIDS[id(instrument)] = Grid(instrument)
    return grid
