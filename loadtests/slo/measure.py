"""One attempt: start the venue, warm it up, load it with k6, look at it each second, and judge."""

from __future__ import annotations

import datetime
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from loadtests.slo import noise
from loadtests.slo.histograms import Histogram, Scrape
from loadtests.slo.k6 import GRACE_S, K6, Run, told
from loadtests.slo.objectives import Gate, Latency, Objectives, Profile, Share
from loadtests.slo.venue import SYMBOL, Venue, VenueError, running_venue
from loadtests.slo.verdict import (
    Row,
    Verdict,
    Window,
    added,
    judge_availability,
    judge_latency,
    judge_socket,
    overall,
)

PROCESSES = ("engine", "history", "feed")
LOOK_EVERY_S = 1.0
"""As often as the venue renders its metrics."""
SETTLE_S = 2.2
"""After the load, until the last of it is certainly in the metrics."""
WARM_UP_S = 3
CALM_WINDOWS = 0.8
"""Share of quiet windows from which on the machine counts as calm."""


class Look(Struct, frozen=True):
    """What was seen at one moment."""

    at: float
    pages: dict[str, str]
    machine: noise.Look


class Attempt(Struct, frozen=True):
    """All evidence of one attempt and what follows from it."""

    verdict: Verdict
    rows: list[Row]
    problems: list[str]
    shortfalls: list[str]
    calm: bool
    windows: list[Window]
    quiet: list[bool]
    whole: dict[str, Histogram]
    """The latencies of all windows together, by indicator."""
    calibrations: list[noise.Calibration]
    k6: dict[str, dict[str, Any]]
    conditions: dict[str, str]


def attempt(
    objectives: Objectives,
    profile: Profile,
    k6: K6,
    app: Path | None,
    scripts: Path,
    tell: Callable[[str], None],
) -> Attempt:
    """Measure once. A venue that does not come up or stay up fails. Raises OSError of this machine."""
    with tempfile.TemporaryDirectory(prefix="slo-") as folder:
        before = noise.calibrate()
        conditions = _conditions()
        try:
            tell("starting the venue")
            with running_venue(Path(folder), app, PROCESSES) as venue:
                looks, runs = _loaded(venue, profile, k6, scripts, Path(folder), tell)
                venue.check()
                after = noise.calibrate()
        except VenueError as error:
            return _failed(str(error), conditions)
    try:
        windows = _windows(objectives, looks)
        good, bad = _availability(objectives.indicators.availability, looks)
    except (KeyError, ValueError) as error:
        return _failed(f"the venue's metrics can't be judged: {error}", conditions)
    return judged(profile, windows, (good, bad), runs, (before, after), conditions)


def judged(
    profile: Profile,
    windows: Sequence[Window],
    availability: tuple[float, float],
    runs: Sequence[Run],
    calibrations: tuple[noise.Calibration, noise.Calibration],
    conditions: dict[str, str],
) -> Attempt:
    """Put the evidence together; pure."""
    # Metrics are up to a second old when they are seen: noise counts for its own window and the next.
    own = [window.quietness.quiet for window in windows]
    steady = noise.steady(*calibrations)
    quiet = [steady and here and before for here, before in zip(own, [True, *own], strict=False)]
    calm = bool(quiet) and sum(quiet) >= CALM_WINDOWS * len(quiet)
    whole = {
        name: total
        for name in (windows[0].latencies if windows else {})
        if (total := added([window.latencies[name] for window in windows])) is not None
    }
    counted = whole["order_latency"].count if "order_latency" in whole else 0
    orders, *_ = runs
    samples_min = profile.gate.samples_min
    rows = []
    for objective in profile.objectives:
        if objective.indicator == "availability":
            rows.append(judge_availability(objective, *availability, samples_min))
        else:
            of_orders = objective.indicator == "order_latency"
            needed = samples_min if of_orders else max(100, samples_min // 10)
            slack = noise.drift(*calibrations) if of_orders else None
            owed = not of_orders and counted >= samples_min
            rows.append(judge_latency(objective, windows, quiet, needed, slack, owed, calm))
    found = orders.findings
    for socket in profile.gate.socket:
        seen = found.latency_by_us.get(socket.op, {}).get(str(socket.percentile)) if found else None
        rows.append(judge_socket(socket.name, socket.percentile, socket.threshold_us, seen, calm))
    problems = [problem for run in runs for problem in run.problems()]
    shortfalls = [shortfall for run in runs for shortfall in run.shortfalls()]
    if found and counted < found.placed:
        problems.append(f"k6 had {found.placed} answers to orders, the venue counted only {counted:g}")
    return Attempt(
        verdict=overall(rows, problems, shortfalls, calm),
        rows=rows,
        problems=problems,
        shortfalls=shortfalls,
        calm=calm,
        windows=list(windows),
        quiet=quiet,
        whole=whole,
        calibrations=list(calibrations),
        k6={run.script: told(run.findings) for run in runs},
        conditions=conditions,
    )


def _failed(problem: str, conditions: dict[str, str]) -> Attempt:
    return Attempt(Verdict.FAIL, [], [problem], [], False, [], [], {}, [], {}, conditions)


def _loaded(
    venue: Venue, profile: Profile, k6: K6, scripts: Path, folder: Path, tell: Callable[[str], None]
) -> tuple[list[Look], list[Run]]:
    """Run the scripts against the venue; the looks at it, from just before until after, and the runs."""
    gate = profile.gate
    env = {"BASE_URL": venue.url, "WS_URL": venue.ws_url, "TOKEN": venue.token, "SYMBOL": SYMBOL}
    tell("warming up")
    warm_up = folder / "warm-up.json"
    # Its findings are looked at like all others: a venue that fails already now need not be measured.
    rate = {"RATE": str(gate.rate_per_s), "MIN_SAMPLES": "1", "DURATION_S": str(WARM_UP_S)}
    script = scripts / "order_flow.js"
    warm = k6.finish(k6.start(script, env | rate, warm_up), script, warm_up, WARM_UP_S + GRACE_S)
    if warm.problems():
        return [], [warm]
    tell(f"{gate.rate_per_s} orders a second for {gate.duration_s} s")
    # The listeners come first and stay longer, so that every order has somebody to be told to.
    listeners = {
        "SUBSCRIBERS": str(gate.subscribers),
        "DURATION_S": str(gate.duration_s + 4),
        "MIN_SAMPLES": "1",
    }
    started = []
    try:
        for name, numbers in (("feed", listeners), ("order_flow", offered(gate))):
            script, verdict = scripts / f"{name}.js", folder / f"{name}.json"
            started.append((k6.start(script, env | numbers, verdict), script, verdict))
            if name == "feed":
                time.sleep(2.0)
        pids = [*venue.pids(), os.getpid(), *(process.pid for process, _, _ in started)]
        with _Looking(venue, pids) as looking:
            timeout_s = gate.duration_s + GRACE_S
            runs = [k6.finish(*one, timeout_s=timeout_s) for one in reversed(started)]
            time.sleep(SETTLE_S)
    finally:
        for process, _, _ in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    return looking.looks, runs


def offered(gate: Gate) -> dict[str, str]:
    """The load of orders. How many must be answered the script knows: all, and `samples_min` is about fewer,
    those in the windows that count."""
    return {"RATE": str(gate.rate_per_s), "DURATION_S": str(gate.duration_s)}


class _Looking:
    """A thread that looks at the venue and the machine each second, as long as the block lasts."""

    def __init__(self, venue: Venue, pids: list[int]) -> None:
        self.looks: list[Look] = []
        self._venue = venue
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Looking:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self._look()
            except OSError:
                # A process has ended or hangs. `check` and the counts tell of it.
                continue

    def _look(self) -> None:
        pages = {name: self._venue.metrics(name) for name in ("history", "feed")}
        machine = noise.look(self._venue.processes["engine"].pid, self._pids)
        self.looks.append(Look(time.monotonic(), pages, machine))


def _windows(objectives: Objectives, looks: Sequence[Look]) -> list[Window]:
    """The differences between looks. Raises KeyError of a missing metric, ValueError after a restart."""
    named = {
        name: indicator
        for name in ("order_latency", "ws_latency", "db_latency")
        if isinstance(indicator := objectives.indicators.named(name), Latency)
    }
    seen = []
    for look in looks:
        pages = {process: Scrape.of(text) for process, text in look.pages.items()}
        seen.append(
            {
                name: pages[indicator.process].histogram(indicator.histogram, indicator.units_per_us)
                for name, indicator in named.items()
            }
        )
    return [
        Window(
            start_s=before.at - looks[0].at,
            quietness=noise.between(before.machine, after.machine),
            latencies={name: later[name].minus(earlier[name]) for name in named},
        )
        for before, after, earlier, later in zip(looks, looks[1:], seen, seen[1:], strict=False)
    ]


def _availability(indicator: Share, looks: Sequence[Look]) -> tuple[float, float]:
    """(good, bad) events of the whole attempt."""
    if not looks:
        return 0.0, 0.0
    first, last = (Scrape.of(look.pages[indicator.process]) for look in (looks[0], looks[-1]))
    bad = last.total(indicator.counter, indicator.bad) - first.total(indicator.counter, indicator.bad)
    return last.total(indicator.counter) - first.total(indicator.counter) - bad, bad


def _conditions() -> dict[str, str]:
    cpus = len(os.sched_getaffinity(0))
    return {
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "machine": f"{platform.machine()}, {cpus} CPUs, load {os.getloadavg()[0]:.1f}",
        "engine": "alone on the last CPU" if cpus > 1 else "shares the only CPU",
        "python": platform.python_version(),
        "kernel": platform.release(),
        "path": "single orders over HTTP from loopback, durability process",
    }
