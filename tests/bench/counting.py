"""The part `metrics`: what all metrics cost an order in the engine.

In a process of its own with the real journal, without a socket, and one order a turn, which is the dearest
case. Short blocks of orders with everything counted stand beside blocks with nothing counted
(`knobs.order_path.Counting`); the same process with nothing counted in either says how far noise goes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench.knobs.inside import worker
from tests.bench.knobs.knob import Effort
from tests.bench.promise import Bench

FIGURE = "counting, CPU µs an order"
PROMISED_US = 2


def measure(bench: Bench) -> None:
    rounds, orders = bench.sized(7, 1, "ROUNDS"), bench.sized(40_000, 400)
    effort = Effort(orders=orders, seconds=0)
    with (
        tempfile.TemporaryDirectory(prefix="counting-") as place,
        worker(Path(place) / "all", effort, {"counting": "on"}) as counted,
        worker(Path(place) / "none", effort, {"counting": "off"}) as uncounted,
    ):
        counting, noise = [], []
        for number in range(rounds):
            bench.tell(f"round {number + 1} of {rounds}")
            counting.append(counted()[FIGURE])
            noise.append(uncounted()[FIGURE])
    bench.at_most(
        "what all metrics take of an order", PROMISED_US, "µs", counting,
        f"CPU time in the engine, one order a turn, {rounds} × {orders:,} orders, every second block of 32 "
        f"counted; where nothing is counted in either {median(noise):.2f} "
        f"({min(noise):.2f}…{max(noise):.2f})",
        by_clock=False,
    )  # fmt: skip
    bench.found.figures["counting, CPU µs an order, by round"] = {"counted": counting, "uncounted": noise}
