"""A knob: the same work twice, as profile `baseline` (or nobody) would do it and as profile `hft` does it.

A side is called again and again and gives its figures; what it needs it keeps while the context is open.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from msgspec import Struct

Figures = dict[str, float]
"""By what was measured, unit included. Less is better, but for those that end in "/s"."""
Side = Callable[[], Figures]


class Effort(Struct, frozen=True):
    """How much one call of a side does."""

    orders: int
    """Of work in a process."""
    seconds: float
    """Of load over sockets, and of statements and calls."""


class Knob(Struct, frozen=True):
    name: str
    without: str
    """What side A is."""
    with_: str
    """What side B is, as in profile `hft`."""
    sides: Callable[[Path, Effort], AbstractContextManager[tuple[Side, Side]]]
    """Given an empty folder. Raises Unavailable."""
    note: str = ""
    """What the figures don't say."""


class Unavailable(Exception):
    """The knob can't be turned here, and why."""
