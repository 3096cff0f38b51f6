"""Knobs of whole processes: an engine on the last CPU, wrk and everything else on the first.

Both venues of a knob run; whoever is not measured is stopped. CPU time is the engine's own, with its worker
under gunicorn.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tests.api.venue_process import HOST, RunningVenue, with_us
from tests.bench.compare import wrk
from tests.bench.knobs.knob import Effort, Figures, Knob, Side

CONNECTIONS = 16
CALM_CONNECTIONS = 2
"""Where latency is compared."""
SCRAPES_PER_S = 10
RENDER_S = 1.2
"""After this the page of metrics shows what has been counted until now."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MSGSPEC_UNDER_MEINHELD = Path(__file__).parent / "meinheld_msgspec.py"

_BUCKET = re.compile(r'^tradsys_order_duration_seconds_bucket\{le="([^"]+)"\} (\d+)', re.M)


class Served(RunningVenue):
    """An engine with its history; `program` runs `tradsys` in another way."""

    def __init__(
        self, folder: Path, program: tuple[str, ...] = ("-m", "tradsys"), **settings: object
    ) -> None:
        folder.mkdir()
        super().__init__(folder, ("engine", "history"), segment_bytes=64 << 20, **settings)
        self._program = program

    def start(self) -> None:
        with open(self.directory / "engine.log", "ab") as log:
            self.processes["engine"] = subprocess.Popen(
                [*with_us(), sys.executable, *self._program, "serve", "engine"],
                env=self.env, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
        super().start()
        cpus = sorted(os.sched_getaffinity(0))
        for pid in self.engine_pids():
            os.sched_setaffinity(pid, cpus[-1:])
        os.sched_setaffinity(self.processes["history"].pid, cpus[:1])

    def engine_pids(self) -> list[int]:
        pid = self.processes["engine"].pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def engine_cpu_s(self) -> float:
        ticks = 0
        for pid in self.engine_pids():
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        return ticks / TICKS_PER_S

    def signal(self, number: int) -> None:
        for process in self.processes.values():
            os.killpg(process.pid, number)

    def load(self, effort: Effort, connections: int) -> Figures:
        """Orders as fast as they are answered."""
        cpu_s, began = self.engine_cpu_s(), time.monotonic()
        token = self.token("demo")
        cpu = min(os.sched_getaffinity(0))
        done = wrk(
            f"http://{HOST}:{self.ports['port']}", token, max(1, round(effort.seconds)), connections, cpu
        )
        seconds = time.monotonic() - began
        return {
            "engine's CPU, µs an order": (self.engine_cpu_s() - cpu_s)
            / (done.requests_per_s * seconds)
            * 1e6,
            "requests/s": done.requests_per_s,
            "p50, µs": done.p50,
            "p99, µs": done.p99,
        }

    def histogram(self) -> dict[float, int]:
        """Orders up to each bound in seconds, from the engine's own counters."""
        time.sleep(RENDER_S)
        page = self.send("GET", "/metrics", port=self.ports["history_port"]).body.decode()
        return {float(bound): int(count) for bound, count in _BUCKET.findall(page)}


def p99_us(before: dict[float, int], after: dict[float, int]) -> float:
    """Of what came between, read between the bounds of its bucket."""
    counts = {bound: after[bound] - before[bound] for bound in sorted(after)}
    wanted = 0.99 * max(counts.values())
    low, passed = 0.0, 0
    for bound, count in counts.items():
        if count >= wanted:
            if bound == float("inf"):
                return low * 1e6
            return (low + (bound - low) * (wanted - passed) / (count - passed)) * 1e6
        low, passed = bound, count
    raise AssertionError("no order came")


def venues(
    without: Callable[[Path], Served], with_: Callable[[Path], Served]
) -> Callable[[Path, Effort], AbstractContextManager[tuple[Side, Side]]]:
    """Two venues under the same orders."""

    @contextlib.contextmanager
    def sides(folder: Path, effort: Effort) -> Iterator[tuple[Side, Side]]:
        with contextlib.ExitStack() as running:
            both = []
            for name, make in (("a", without), ("b", with_)):
                venue = make(folder / name)
                running.callback(venue.end)
                venue.start()
                running.callback(venue.signal, signal.SIGCONT)
                venue.signal(signal.SIGSTOP)

                def side(venue: Served = venue) -> Figures:
                    venue.signal(signal.SIGCONT)
                    try:
                        return venue.load(effort, CONNECTIONS)
                    finally:
                        venue.signal(signal.SIGSTOP)

                both.append(side)
            yield both[0], both[1]

    return sides


@contextlib.contextmanager
def scraping(url: str) -> Iterator[None]:
    """Collect a page of metrics so many times a second meanwhile."""
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(1 / SCRAPES_PER_S):
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def scraped(port: str) -> Callable[[Path, Effort], AbstractContextManager[tuple[Side, Side]]]:
    """One venue under the same orders, while nobody or somebody collects its metrics."""

    @contextlib.contextmanager
    def sides(folder: Path, effort: Effort) -> Iterator[tuple[Side, Side]]:
        venue = Served(folder / "venue")

        def measured(meanwhile: AbstractContextManager[None]) -> Figures:
            before = venue.histogram()
            with meanwhile:
                figures = venue.load(effort, CALM_CONNECTIONS)
            return {
                "engine's own p99, µs": p99_us(before, venue.histogram()),
                "engine's CPU, µs an order": figures["engine's CPU, µs an order"],
            }

        try:
            venue.start()
            url = f"http://{HOST}:{venue.ports[port]}/metrics"
            yield lambda: measured(contextlib.nullcontext()), lambda: measured(scraping(url))
        finally:
            venue.end()

    return sides


def _hft(folder: Path) -> Served:
    return Served(folder, profile="hft")


SERVED = (
    Knob("profile", "baseline", "hft", venues(lambda folder: Served(folder, profile="baseline"), _hft)),
    Knob(
        "server",
        "gunicorn with meinheld",
        "own loop",
        venues(lambda folder: Served(folder, (str(MSGSPEC_UNDER_MEINHELD),), profile="baseline"), _hft),
        "both with msgspec",
    ),
    Knob("scrape", "nobody scrapes", "history scraped at 10/s", scraped("history_port")),
    Knob("scrape_engine", "nobody scrapes", "the engine's port scraped at 10/s", scraped("ops_port")),
)
