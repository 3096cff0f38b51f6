"""Was the machine quiet enough to believe a miss?

Other work on the machine makes a venue slower, never faster. So noise can excuse a miss, and must never make
one look like a pass. Evidence, all of it from outside the venue:

    windows      each second: CPU time that went to processes of others, CPU time that the hypervisor took,
                 and how often the engine was put off its CPU while it wanted to go on
    calibration  before and after: the same small piece of work again and again on the engine's CPU; alone on
                 a CPU its 99th percentile lies close to its median, and both medians agree
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import quantiles

from msgspec import Struct

OTHERS_MAX = 0.10
"""Share of the machine's CPU time that others may have in a quiet window."""
STOLEN_MAX = 0.01
"""Share that the hypervisor may have taken."""
INVOLUNTARY_PER_S_MAX = 50
"""Times a second that the engine may have been put off its CPU."""
SPREAD_MAX = 2.5
"""99th percentile of the calibration over its median."""
DRIFT_MAX = 1.4
"""Median of one calibration over that of the other."""

CALIBRATION_ROUNDS = 400
CALIBRATION_LOOP = 3_000
"""Additions in one piece of work: some 100 µs, about what an order takes."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
"""Columns of a line of /proc/stat, behind its name."""


class Look(Struct, frozen=True):
    """One look at the machine; counters, of which differences are made."""

    at: float
    """Monotonic seconds."""
    busy_s: float
    stolen_s: float
    all_s: float
    ours_s: float
    involuntary: int


class Quietness(Struct, frozen=True):
    """What others did between two looks, as shares of the machine's CPU time."""

    others: float
    stolen: float
    involuntary_per_s: float

    @property
    def quiet(self) -> bool:
        return (
            self.others <= OTHERS_MAX
            and self.stolen <= STOLEN_MAX
            and self.involuntary_per_s <= INVOLUNTARY_PER_S_MAX
        )


class Calibration(Struct, frozen=True):
    """Microseconds that the piece of work took."""

    p50: float
    p99: float


def look(engine: int, ours: Iterable[int]) -> Look:
    """Look at the machine now. `engine` and `ours` are process ids; one that has ended counts no more."""
    columns = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = columns[_IDLE] + columns[_IOWAIT]
    return Look(
        at=time.monotonic(),
        busy_s=(sum(columns) - idle - columns[_STEAL]) / _TICKS_PER_S,
        stolen_s=columns[_STEAL] / _TICKS_PER_S,
        all_s=sum(columns) / _TICKS_PER_S,
        ours_s=sum(_cpu_s(pid) for pid in ours),
        involuntary=_involuntary(engine),
    )


def between(before: Look, after: Look) -> Quietness:
    all_s = max(after.all_s - before.all_s, 1e-9)
    # A process of ours that has ended takes its time along: then the difference is negative, and nobody's.
    ours = max(0.0, after.ours_s - before.ours_s)
    others = max(0.0, (after.busy_s - before.busy_s) - ours)
    return Quietness(
        others=others / all_s,
        stolen=(after.stolen_s - before.stolen_s) / all_s,
        involuntary_per_s=(after.involuntary - before.involuntary) / max(after.at - before.at, 1e-9),
    )


def calibrate() -> Calibration:
    """Do the piece of work on the engine's CPU; the venue must be idle."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        took = []
        for _ in range(CALIBRATION_ROUNDS):
            start = time.perf_counter()
            sum(range(CALIBRATION_LOOP))
            took.append((time.perf_counter() - start) * 1e6)
    finally:
        os.sched_setaffinity(0, cpus)
    hundredths = quantiles(took, n=100)
    return Calibration(p50=hundredths[49], p99=hundredths[98])


def steady(before: Calibration, after: Calibration) -> bool:
    """Whether the same work took the same time, within a calibration and between the two."""
    return drift(before, after) <= DRIFT_MAX and all(
        one.p99 <= one.p50 * SPREAD_MAX for one in (before, after)
    )


def drift(before: Calibration, after: Calibration) -> float:
    """How many times longer the typical piece of work took in one than in the other."""
    return max(before.p50, after.p50) / min(before.p50, after.p50)


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    # User and system time, and the same of children that have ended.
    return sum(int(word) for word in fields[11:15]) / _TICKS_PER_S


def _involuntary(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.rsplit("nonvoluntary_ctxt_switches:", 1)[1].split()[0])
