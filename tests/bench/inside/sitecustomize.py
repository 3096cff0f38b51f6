"""Put on an engine's PYTHONPATH by `pauses.py`: writes down how long each garbage collection takes.

BENCH_GC_PAUSES names the file, a line for each: when it began (monotonic), how long it took, how much of that
was CPU time, all in nanoseconds. With BENCH_GC_DEFAULTS set, the engine's own way
with the collector has no effect, and CPython's defaults stay.
"""

from __future__ import annotations

import atexit
import gc
import os
import time
from array import array


def watch(path: str) -> None:
    rows = array("q")
    began = began_cpu = 0

    def seen(phase: str, info: dict[str, int]) -> None:
        nonlocal began, began_cpu
        if phase == "start":
            began, began_cpu = time.monotonic_ns(), time.thread_time_ns()
        else:
            took_cpu = time.thread_time_ns() - began_cpu
            rows.extend((began, time.monotonic_ns() - began, took_cpu))

    def write() -> None:
        with open(path, "w") as file:
            file.writelines(f"{rows[i]} {rows[i + 1]} {rows[i + 2]}\n" for i in range(0, len(rows), 3))

    gc.callbacks.append(seen)
    atexit.register(write)


def keep_the_defaults() -> None:
    gc.disable = gc.freeze = lambda: None
    gc.collect = lambda generation=2: 0
    # The engine collects when there are many young objects: it is told that there are none.
    gc.get_count = lambda: (0, 0, 0)


if found := os.environ.get("BENCH_GC_PAUSES"):
    watch(found)
if os.environ.get("BENCH_GC_DEFAULTS"):
    keep_the_defaults()
