"""The part `gc`: pauses of the garbage collector under load, the venue's way and with CPython's defaults.

Two engines with the same load in turn, single orders of wrk over sixteen connections; who is not measured is
stopped. `gc.callbacks` in each engine (inside/sitecustomize.py) takes the time of every collection.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.compare import HOST, wrk
from tests.bench.processes import cpus, pinned_venue, stopped
from tests.bench.promise import Bench, Line, Plot

INSIDE = Path(__file__).parent / "inside"
CONNECTIONS = 16
SHARES = (50.0, 90.0, 99.0, 99.9, 100.0)


def measure(bench: Bench) -> None:
    rounds, seconds = bench.sized(4, 1, "ROUNDS"), bench.sized(5, 1, "SECONDS_EACH")
    ways = {"the venue's way": {}, "CPython's defaults": {"BENCH_GC_DEFAULTS": "1"}}
    others, _ = cpus()
    requests: dict[str, float] = dict.fromkeys(ways, 0)
    p99: dict[str, list[float]] = {way: [] for way in ways}
    under_load: dict[str, list[tuple[int, int]]] = {way: [] for way in ways}
    """From when to when, monotonic ns: starts and stops have pauses of their own, in which nobody waits."""
    with tempfile.TemporaryDirectory(prefix="gc-") as place:
        files = {way: Path(place) / f"pauses-{number}" for number, way in enumerate(ways)}
        with ExitStack() as running:
            venues = {}
            for way, more in ways.items():
                bench.tell(f"starting an engine with {way}")
                folder = Path(place) / f"venue-{len(venues)}"
                path = os.pathsep.join([str(INSIDE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
                env = {"PYTHONPATH": path, "BENCH_GC_PAUSES": str(files[way]), **more}
                venues[way] = running.enter_context(pinned_venue(folder, ("engine",), env=env))
            for number in range(rounds):
                bench.tell(f"round {number + 1} of {rounds}")
                for way, venue in venues.items():
                    idle = [one.processes["engine"].pid for name, one in venues.items() if name != way]
                    with stopped(idle):
                        began = time.monotonic_ns()
                        at = f"http://{HOST}:{venue.ports['port']}"
                        run = wrk(at, venue.token("demo", ttl_s=36_000), seconds, CONNECTIONS, min(others))
                    under_load[way].append((began, time.monotonic_ns()))
                    requests[way] += run.requests_per_s * seconds
                    p99[way].append(run.p99)
        lines = []
        for way, file in files.items():
            seen = [tuple(map(int, line.split())) for line in file.read_text().splitlines()]
            seen = [row for row in seen if any(first <= row[0] <= last for first, last in under_load[way])]
            if not seen:
                raise SystemExit(f"no collection was seen with {way}")
            pauses, cpu = (sorted(row[column] / 1000 for row in seen) for column in (1, 2))
            taken = {f"p{share:g}_us": _at(pauses, share) for share in SHARES}
            taken |= {f"cpu_p{share:g}_us": _at(cpu, share) for share in SHARES}
            bench.found.figures[way] = taken | {
                "collections": len(pauses), "orders": round(requests[way]), "order_p99_us": p99[way],
                "us_an_order": round(sum(pauses) / requests[way], 3)}  # fmt: skip
            lines.append(Line(way, list(SHARES), [_at(pauses, share) for share in SHARES]))
            if not lines[1:]:
                venues_own = taken, len(pauses)
    own, count = venues_own
    defaults = bench.found.figures["CPython's defaults"]
    bench.at_most(
        "pauses of the garbage collector: p99", 1_000, "µs", [own["p99_us"]],
        f"REST, `process`, {CONNECTIONS} connections, {requests[next(iter(ways))]:,.0f} orders, {count:,} "
        f"collections, between requests; p50 {own['p50_us']:.0f}, most {own['p100_us']:,.0f}, of CPU time "
        f"p99 {own['cpu_p99_us']:,.0f}, most {own['cpu_p100_us']:,.0f}; CPython's defaults p99 "
        f"{defaults['p99_us']:,.0f}, most {defaults['p100_us']:,.0f}, of CPU time "
        f"{defaults['cpu_p99_us']:,.0f} and {defaults['cpu_p100_us']:,.0f}",
    )  # fmt: skip
    bench.found.plots.append(Plot("Pauses of the garbage collector", "percentile", "µs", lines, log_y=True))


def _at(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))], 1)
