"""What a part of the bench finds: rows of the promise table, figures behind them, curves for the report.

A verdict is `held`, `MISSED` or `inconclusive`. Other work on the machine makes a venue slower, never faster,
so noise can excuse a miss and never makes one look as if it held: an absolute figure that misses by less than
`NOISE_FACTOR` on a noisy machine is inconclusive. A ratio of two things that were measured in turn is told by
its rounds: on a noisy machine they must all lie on one side of the bound. Where others have most of the
machine, no miss by the clock says anything; CPU time, bytes and counts still do.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct, field, structs

import tradsys.core.book
from loadtests.slo import noise

NOISE_FACTOR = 2.0
"""How far absolute times drift on a shared machine; see ledger.md."""
CROWDED = 0.5
"""Share of the CPUs that others have from which on the clock says nothing against a venue."""


class Verdict(StrEnum):
    HELD = "held"
    MISSED = "MISSED"
    INCONCLUSIVE = "inconclusive"
    UNJUDGED = "–"
    """Of a run that is too small to say anything."""


class Row(Struct, frozen=True):
    """One promise."""

    part: str
    what: str
    bound: float
    at_least: bool
    """False: at most."""
    unit: str
    rounds: list[float]
    conditions: str
    """Path, durability, load: without them a figure says nothing."""
    relative: bool = False
    """Of two things measured in turn, so that the machine's drift meets both."""
    doubt: str = ""
    """Why a miss would not be the venue's."""
    by_clock: bool = True
    """False: CPU time, bytes or counts, which hardly depend on what else the machine does."""
    verdict: Verdict = Verdict.UNJUDGED

    @property
    def measured(self) -> float:
        return statistics.median(self.rounds)

    @property
    def ratio(self) -> float:
        """Measured over promised."""
        return self.measured / self.bound

    def holds(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def judge(row: Row, noisy: bool, crowded: bool = False) -> Verdict:
    held = row.holds(row.measured)
    if not held and crowded and row.by_clock:
        return Verdict.INCONCLUSIVE
    if row.relative:
        if noisy and len({row.holds(value) for value in row.rounds}) > 1:
            return Verdict.INCONCLUSIVE
    elif not held and noisy:
        allowed = row.measured * NOISE_FACTOR if row.at_least else row.measured / NOISE_FACTOR
        if row.holds(allowed):
            return Verdict.INCONCLUSIVE
    if not held and row.doubt:
        return Verdict.INCONCLUSIVE
    return Verdict.HELD if held else Verdict.MISSED


class Line(Struct):
    name: str
    x: list[float]
    y: list[float]


class Plot(Struct):
    """Curves over a common axis."""

    title: str
    x: str
    y: str
    lines: list[Line]
    log_y: bool = False
    log_x: bool = False
    note: str = ""


class Found(Struct):
    """All that one part has found, as its file in build/bench holds it."""

    part: str
    smoke: bool
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """By the name of a table, whatever is not promised but worth knowing."""
    plots: list[Plot] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)
    noisy: bool = False
    seconds: float = 0.0


class Bench:
    """What a part is given: how large it may be, and where to put what it finds."""

    def __init__(self, part: str, smoke: bool) -> None:
        self.smoke = smoke
        self.found = Found(part, smoke)
        self._began = time.monotonic()
        self._load_before = os.getloadavg()[0]
        self._calibration = noise.calibrate()
        self._look = noise.look(os.getpid(), (os.getpid(),))

    def sized(self, whole: int, smoke: int, variable: str = "") -> int:
        """A count: the small one of a smoke run, what the environment says, or the usual one."""
        return smoke if self.smoke else int(os.environ.get(variable) or whole)

    def tell(self, what: str) -> None:
        print(f"  {self.found.part:>9} {time.monotonic() - self._began:5.0f} s  {what}", file=sys.stderr)

    def at_least(self, what: str, bound: float, unit: str, measured: Sequence[float], conditions: str,
                 *, relative: bool = False, doubt: str = "", by_clock: bool = True) -> None:  # fmt: skip
        self._row(what, bound, True, unit, measured, conditions, relative, doubt, by_clock)

    def at_most(self, what: str, bound: float, unit: str, measured: Sequence[float], conditions: str,
                *, relative: bool = False, doubt: str = "", by_clock: bool = True) -> None:  # fmt: skip
        self._row(what, bound, False, unit, measured, conditions, relative, doubt, by_clock)

    def _row(self, what: str, bound: float, at_least: bool, unit: str, measured: Sequence[float],
             conditions: str, relative: bool, doubt: str, by_clock: bool) -> None:  # fmt: skip
        rounds = [float(value) for value in measured]
        row = Row(self.found.part, what, bound, at_least, unit, rounds, conditions, relative, doubt, by_clock)
        self.found.rows.append(row)

    def finish(self) -> Found:
        """Judge the rows by how quiet the machine was. Every process of the part has ended before."""
        after = noise.calibrate()
        quiet = noise.between(self._look, noise.look(os.getpid(), (os.getpid(),)))
        found = self.found
        steady = noise.steady(self._calibration, after)
        found.noisy = quiet.others > noise.OTHERS_MAX or quiet.stolen > noise.STOLEN_MAX or not steady
        found.seconds = round(time.monotonic() - self._began, 1)
        found.conditions = {
            # Of the processes, too: they get this one's PYTHONPATH.
            "form": "interpreted" if str(tradsys.core.book.__file__).endswith(".py") else "compiled",
            "load average": f"{self._load_before:.1f} before, {os.getloadavg()[0]:.1f} after",
            "others": f"{quiet.others:.0%} of the CPUs, hypervisor {quiet.stolen:.1%}",
            "calibration p50/p99, µs": f"{self._calibration.p50:.0f}/{self._calibration.p99:.0f} before, "
            f"{after.p50:.0f}/{after.p99:.0f} after",
            "machine": "crowded" if quiet.others > CROWDED else "noisy" if found.noisy else "quiet",
        }
        if not found.smoke:
            crowded = quiet.others > CROWDED
            found.rows = [
                structs.replace(row, verdict=judge(row, found.noisy, crowded)) for row in found.rows
            ]
        return found
