"""From evidence to a verdict. Pure: what is decided here depends on its arguments alone.

    pass          every objective is met, every guard held
    fail          an objective is missed in quiet windows, or answers were wrong, or the venue did not stay up
    inconclusive  something is missed or missing that a noisy machine may explain

A window is about a second. Only quiet ones count for a miss; for a pass all of them do, because others' work
makes a venue slower and never faster. A miss must be seen in the quiet windows together and in at least half
of them, so that one bad second does not decide. Wrong answers and failures of the venue are never explained
by noise.

One miss needs no quiet window: where even the typical order is far beyond what the slowest were allowed.
Others' work puts a process off its CPU now and then; it does not slow down the piece of work that runs
between two such moments, and by how much it did is shown by the median of the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from functools import reduce

from msgspec import Struct

from loadtests.slo.histograms import Histogram
from loadtests.slo.noise import Quietness
from loadtests.slo.objectives import Objective

FAR_BEYOND = 2
"""How many times its threshold a median must be to need no quiet window."""


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}


class Window(Struct, frozen=True):
    """What happened in about a second."""

    start_s: float
    """Since the load began."""
    quietness: Quietness
    latencies: dict[str, Histogram]
    """By indicator; bounds in microseconds."""


class Row(Struct, frozen=True):
    """One objective judged."""

    name: str
    verdict: Verdict
    target: str
    measured: str
    events: int
    why: str


def judge_latency(
    objective: Objective,
    windows: Sequence[Window],
    quiet: Sequence[bool],
    events_min: int,
    typical_slack: float | None,
    owed: bool,
    calm: bool,
) -> Row:
    """Hold one latency against its objective; `quiet` says which windows may be held against the build.

    `typical_slack`: how much the machine itself changed the typical time of a piece of work meanwhile; None
    for events for which somebody is woken: there the median, too, depends on what else runs.
    `owed`: so much was asked of the venue, and answered, that these events had to come. A busy machine may
    make them fewer; that there is not one is the venue's doing.
    """
    assert objective.threshold_us is not None
    wanted, threshold = objective.target / 100, objective.threshold_us
    each = [window.latencies[objective.indicator] for window in windows]
    everything = added(each)
    in_quiet = [one for one, is_quiet in zip(each, quiet, strict=True) if is_quiet]
    together = added(in_quiet)

    def row(verdict: Verdict, histogram: Histogram | None, why: str) -> Row:
        return Row(
            name=objective.name,
            verdict=verdict,
            target=f"p{objective.target:g} ≤ {threshold} µs",
            measured=f"{said(histogram, objective.target)} µs"
            if histogram and histogram.count
            else "nothing",
            events=int(histogram.count) if histogram else 0,
            why=why,
        )

    note = ""
    if everything is not None and not everything.exact_at(threshold):
        note = f"; {threshold} µs lies between two bounds of the histogram: interpolated"
    if everything is None or everything.count < events_min:
        count = int(everything.count) if everything else 0
        lacking = owed and (calm or count == 0)
        verdict = Verdict.FAIL if lacking else Verdict.INCONCLUSIVE
        return row(verdict, everything, f"{count} events, {events_min} are needed")
    if everything.within(threshold) >= wanted:
        return row(
            Verdict.PASS, everything, f"{everything.within(threshold):.2%} within {threshold} µs{note}"
        )
    if typical_slack and everything.percentile(50) > FAR_BEYOND * typical_slack * threshold:
        return row(Verdict.FAIL, everything, f"even the median is {said(everything, 50)} µs")
    if together is None or together.count < events_min:
        return row(
            Verdict.INCONCLUSIVE,
            everything,
            f"missed, but only {len(in_quiet)} of {len(windows)} windows were quiet",
        )
    share = f"{together.within(threshold):.2%} within {threshold} µs in {len(in_quiet)} quiet windows{note}"
    if together.within(threshold) >= wanted:
        return row(Verdict.PASS, together, share)
    # Before and after the load, and where a page of metrics came late, a window has no events: no vote.
    missed = [one.within(threshold) < wanted for one in in_quiet if one.count]
    if sum(missed) * 2 < len(missed):
        return row(Verdict.INCONCLUSIVE, together, f"{share}, but only {sum(missed)} of them missed it")
    return row(Verdict.FAIL, together, share)


def judge_availability(objective: Objective, good: float, bad: float, events_min: int) -> Row:
    """Failures of the venue are its own, however busy the machine is."""
    events = good + bad
    share = 100 * good / events if events else math.nan
    if events < events_min:
        verdict, why = Verdict.INCONCLUSIVE, f"{events:g} events, {events_min} are needed"
    elif share >= objective.target:
        verdict, why = Verdict.PASS, f"{bad:g} of {events:g} failed"
    else:
        verdict, why = Verdict.FAIL, f"{bad:g} of {events:g} failed"
    measured = f"{share:.3f} %" if events else "nothing"
    return Row(objective.name, verdict, f"≥ {objective.target:g} %", measured, int(events), why)


def judge_socket(name: str, percentile: int, threshold_us: int, measured_us: float | None, calm: bool) -> Row:
    """What k6 saw from outside; it shares the machine, so that a miss counts on a quiet one only."""
    target = f"p{percentile} ≤ {threshold_us} µs"
    if measured_us is None:
        return Row(name, Verdict.FAIL, target, "nothing", 0, "k6 measured nothing")
    measured = f"{measured_us:.0f} µs"
    if measured_us <= threshold_us:
        return Row(name, Verdict.PASS, target, measured, 0, "as k6 sees it")
    if not calm:
        return Row(name, Verdict.INCONCLUSIVE, target, measured, 0, "missed on a noisy machine")
    return Row(name, Verdict.FAIL, target, measured, 0, "as k6 sees it")


def overall(rows: Sequence[Row], problems: Sequence[str], shortfalls: Sequence[str], calm: bool) -> Verdict:
    """All together. `problems` always fail; `shortfalls` (load not offered) do on a calm machine."""
    verdicts = {row.verdict for row in rows}
    if problems or Verdict.FAIL in verdicts or (shortfalls and calm):
        return Verdict.FAIL
    if shortfalls or not rows or Verdict.INCONCLUSIVE in verdicts:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS


def added(histograms: Sequence[Histogram]) -> Histogram | None:
    return reduce(Histogram.plus, histograms) if histograms else None


def said(histogram: Histogram, percent: float) -> str:
    """The percentile as text; one beyond the last finite bound as such."""
    value = histogram.percentile(percent)
    finite = [bound for bound in histogram.bounds if not math.isinf(bound)]
    return f"> {value:g}" if finite and value >= finite[-1] else f"{value:.0f}"
