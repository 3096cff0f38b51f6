"""`tradsys bench`: how long each stage of an order takes in this process, on this machine, now.

Absolute times drift with the machine; compare figures of one run. What is measured: stages.py.
"""

from __future__ import annotations

import gc
import os
import platform
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from tradsys.cli import session, show

PANEL = "Data"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(bench)


def bench(
    count: Annotated[int, typer.Option("--count", min=1_000, max=1_000_000, help="Commands.")] = 20_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100, help="Median of so many.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the flow.")] = 1,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where the journal is written. [default: a temporary one]")
    ] = None,
    as_json: session.Json = False,
) -> None:
    """Measure the stages of an order in this process: decode, match, journal, reply; and its memory."""
    from tradsys.cli import stages

    work = stages.Work(seed, count)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with show.Progress("measurements") as progress, tempfile.TemporaryDirectory(dir=directory) as place:
            rows = stages.measure(work, rounds, Path(place), progress.move)
            memory = stages.memory(work, Path(place) / "memory")
    finally:
        gc.enable()
        gc.unfreeze()
    flow = f"seed {seed}, {count} commands, {len(work.bodies)} of them orders"
    conditions = _conditions() | {"flow": flow, "rounds": rounds}
    if as_json:
        show.json({"conditions": conditions, "stages": rows, "memory": memory})
        return
    show.facts(conditions)
    cells = [
        {"stage": row.stage, "microseconds": f"{row.microseconds:.2f}", "per_second": f"{row.per_s:,}"}
        for row in rows
    ]
    show.table(cells, ("stage", "microseconds", "per_second"), "Time of one command")
    show.table([{"what": name, "bytes": n} for name, n in memory.items()], ("what", "bytes"), "Memory")


def _conditions() -> dict[str, Any]:
    from tradsys.core import book

    compiled = not str(book.__file__).endswith(".py")
    return {
        "python": platform.python_version(),
        "core": "compiled" if compiled else "interpreted",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        "durability": "process",
    }
