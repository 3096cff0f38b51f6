"""The part `metrics`: what all metrics cost an order in the engine.

In a process of its own with the real journal, without a socket: sixteen orders a turn, as they come where
the path is hot, and one a turn, which is the dearest case. Short blocks of orders with everything counted
stand beside blocks with nothing counted (`knobs.order_path.Counting`); the same process with nothing counted
in either says how far noise goes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import tradsys
from tests.bench.knobs.inside import worker
from tests.bench.knobs.knob import Effort
from tests.bench.promise import Bench

FIGURE = "counting, CPU µs an order"
PROMISED_US = 2
TURNS = {16: "sixteen a turn", 1: "one a turn"}
APP = Path(tradsys.__file__).parents[1]
"""The workers' form is this process's."""
NOISE_US_MAX = 0.5
"""Above it a miss says nothing."""


def measure(bench: Bench) -> None:
    for turn in TURNS:
        _measure(bench, turn)


def _measure(bench: Bench, turn: int) -> None:
    rounds, orders = bench.sized(5, 1, "ROUNDS"), bench.sized(40_000, 400)
    effort = Effort(orders=orders, seconds=0)
    with (
        tempfile.TemporaryDirectory(prefix="counting-") as place,
        worker(Path(place) / "all", effort, {"counting": "on", "turn": turn}, APP) as counted,
        worker(Path(place) / "none", effort, {"counting": "off", "turn": turn}, APP) as uncounted,
    ):
        counting, noise = [], []
        for number in range(rounds):
            bench.tell(f"{TURNS[turn]}, round {number + 1} of {rounds}")
            counting.append(counted()[FIGURE])
            noise.append(uncounted()[FIGURE])
    # Noise takes away as easily as it adds, and must not make a promise look held: so it is added.
    noise_us = median(abs(value) for value in noise)
    bench.at_most(
        f"what all metrics take of an order, {TURNS[turn]}", PROMISED_US, "µs",
        [value + noise_us for value in counting],
        f"CPU time in the engine, {rounds} × {orders:,} orders, every second block of 32 counted: "
        f"{median(counting):.2f}, and what the same shows where nothing is counted: {noise_us:.2f}",
        by_clock=False,
        doubt=f"noise alone shows {noise_us:.1f} µs" if noise_us > NOISE_US_MAX else "",
    )  # fmt: skip
    bench.found.figures[f"counting, CPU µs an order by round, {TURNS[turn]}"] = {
        "counted": counting, "uncounted": noise,
    }  # fmt: skip
