"""`make bench`: what is promised, measured; a table, JSON, and a page with plots in build/bench.

    python -m tests.bench [--only orders,core] [--smoke]

Each part runs in a process of its own, one after the other, because what one has left in memory, or has told
Python's collector, would count for the next. A part that fails is a row of the table, and the code is 1.
A promise that is missed is a finding and no failure: the code is 0.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tests.bench.promise import Bench, Found

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
SMOKE_AT_ONCE = 4
PARTS = {
    "orders": "orders",
    "core": "core",
    "batch": "batch",
    "websocket": "feed",
    "database": "readmodel_statements",
    "memory": "memory",
    "gc": "pauses",
    "metrics": "counting",
    "grpc": "gateway",
    "recovery": "recovery",
    "tail": "tail",
    "snapshot": "snapshot",
}
"""The module of each, whose `measure` takes a Bench."""


def chosen_parts(text: str) -> list[str]:
    """Raises ValueError for a part that there is none of."""
    names = [name for name in text.replace(",", " ").split() if name]
    if unknown := [name for name in names if name not in PARTS]:
        raise ValueError(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names or list(PARTS)


def run_part(name: str, smoke: bool, out: Path) -> None:
    bench = Bench(name, smoke)
    importlib.import_module(f"tests.bench.{PARTS[name]}").measure(bench)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(bench.finish())))


def ended(names: Sequence[str], smoke: bool, at_once: int) -> Iterator[tuple[str, int]]:
    """Run each part in a process of its own, so many at once: (name, exit code) as they end."""
    # If this program is killed, nothing of a part may stay behind.
    with_us = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    coming = list(names)
    running: dict[str, subprocess.Popen[bytes]] = {}
    while coming or running:
        while coming and len(running) < at_once:
            name = coming.pop(0)
            print(f"Part {len(names) - len(coming)} of {len(names)}: {name}", file=sys.stderr)
            command = [*with_us, sys.executable, "-m", "tests.bench", "--part", name]
            running[name] = subprocess.Popen([*command, *(["--smoke"] if smoke else [])], cwd=ROOT)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                yield name, process.returncode
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, only to see that all of it runs")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    if chosen.part:
        run_part(chosen.part, chosen.smoke, BUILD / f"{chosen.part}.json")
        return 0
    # Not at the top: it takes a second, and no part needs it.
    from tests.bench import report

    try:
        names = chosen_parts(chosen.only)
    except ValueError as refusal:
        parser.error(str(refusal))
    found: list[Found] = []
    failed: dict[str, str] = {}
    began = time.monotonic()

    # A smoke run measures nothing, so its parts need not be alone.
    for name, code in ended(names, chosen.smoke, SMOKE_AT_ONCE if chosen.smoke else 1):
        if code:
            failed[name] = f"ended with {code}; see above"
        else:
            found.append(msgspec.json.decode((BUILD / f"{name}.json").read_bytes(), type=Found))
        found.sort(key=lambda one: names.index(one.part))
        # After each part, so that a run that is cut short leaves what it has found.
        page = report.write(BUILD, found, failed)
    report.show(found, failed)
    took = time.monotonic() - began
    print(f"{took:.0f} s; {page.relative_to(ROOT)} and bench.json beside it", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
