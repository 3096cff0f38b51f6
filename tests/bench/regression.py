"""`make bench-compare BASE=<git ref>`: is this tree slower than that one?

Both builds serve at once, each engine on the last CPU, wrk on the first; whoever is not measured is stopped.
A round is base, this, this, base. The two measurements of the base within a round are the noise check: if
they differ by more than a regression may, nothing can be told, and the answer is 2, inconclusive. Otherwise
medians over all rounds decide: 0, or 1 for a regression.

Both run with the packages of this tree's environment; what is compared is the project's own code.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct, structs
from rich.console import Console
from rich.table import Table

from loadtests.slo.venue import Venue, running_venue
from tests.bench.compare import Measured, wrk

ROOT = Path(__file__).parents[2]
HISTORY = ROOT / "loadtests" / "baseline"
LATENCY_RATIO_MAX = 1.05
THROUGHPUT_RATIO_MIN = 0.95
NOISE_MAX = 0.05
PASS, FAIL, INCONCLUSIVE = 0, 1, 2
WORDS = {PASS: "no regression", FAIL: "regression", INCONCLUSIVE: "inconclusive: too noisy to tell"}
MEASURES = {"requests_per_s": "requests/s", "p50": "p50, µs", "p99": "p99, µs"}


class Round(Struct, frozen=True):
    """Base, this, this, base."""

    base: tuple[Measured, Measured]
    this: tuple[Measured, Measured]


class Row(Struct, frozen=True):
    """One measure over all rounds; `noise` is how far the base was from itself, as a share."""

    measure: str
    base: float
    this: float
    ratio: float
    noise: float
    verdict: int


def judge(rounds: Sequence[Round]) -> list[Row]:
    """A row for each measure. Throughput may not fall, latency may not rise, by more than 5 %."""
    rows = []
    for name in MEASURES:
        base = [getattr(one, name) for each in rounds for one in each.base]
        this = [getattr(one, name) for each in rounds for one in each.this]
        pairs = [(getattr(each.base[0], name), getattr(each.base[1], name)) for each in rounds]
        noise = statistics.median(abs(first - second) / min(first, second) for first, second in pairs)
        ratio = statistics.median(this) / statistics.median(base)
        worse = ratio < THROUGHPUT_RATIO_MIN if name == "requests_per_s" else ratio > LATENCY_RATIO_MAX
        verdict = INCONCLUSIVE if noise > NOISE_MAX else FAIL if worse else PASS
        rows.append(Row(name, statistics.median(base), statistics.median(this), ratio, noise, verdict))
    return rows


def verdict_of(rows: Sequence[Row]) -> int:
    """A regression that is certain counts, whatever could not be told of the rest."""
    verdicts = {row.verdict for row in rows}
    return FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS


@contextmanager
def tree_of(ref: str, folder: Path) -> Iterator[Path]:
    """The folder `app` of a commit, in a work tree of its own. Raises SystemExit for an unknown ref."""
    tree = folder / "base"
    added = subprocess.run(
        ["git", "worktree", "add", "--detach", str(tree), ref], cwd=ROOT, capture_output=True, text=True
    )
    if added.returncode:
        raise SystemExit(f"{ref} can't be checked out: {added.stderr.strip()}")
    try:
        made = ROOT / "app" / "tradsys" / "v1"
        if (tree / "app" / "proto").exists() and made.exists():
            shutil.copytree(made, tree / "app" / "tradsys" / "v1")
        yield tree / "app"
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def last_tag() -> str:
    said = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0"], cwd=ROOT, capture_output=True, text=True
    )
    if said.returncode:
        raise SystemExit("there is no tag yet: give the build to compare with, as make bench-compare BASE=…")
    return said.stdout.strip()


def signal_all(venue: Venue, number: int) -> None:
    for pid in venue.pids():
        os.kill(pid, number)


def measured(venue: Venue, seconds: int, connections: int, cpu: int) -> Measured:
    signal_all(venue, signal.SIGCONT)
    try:
        return wrk(venue.url, venue.token, seconds, connections, cpu)
    finally:
        signal_all(venue, signal.SIGSTOP)


def measure(base: Venue, this: Venue, chosen: argparse.Namespace) -> list[Round]:
    how = (chosen.seconds, chosen.connections, min(os.sched_getaffinity(0)))
    for venue in (base, this):
        signal_all(venue, signal.SIGSTOP)
    try:
        for venue in (base, this):
            measured(venue, *how)  # Caches warm, memory taken.
        rounds = []
        for number in range(chosen.rounds):
            print(f"Round {number + 1} of {chosen.rounds} …", file=sys.stderr)
            one, two, three, four = (measured(venue, *how) for venue in (base, this, this, base))
            rounds.append(Round((one, four), (two, three)))
        return rounds
    finally:
        for venue in (base, this):
            signal_all(venue, signal.SIGCONT)


def show(rows: Sequence[Row], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("", "base", "this", "ratio", "noise", "verdict"):
        table.add_column(column, justify="right" if column not in ("", "verdict") else "left")
    for row in rows:
        colour = {PASS: "green", FAIL: "red", INCONCLUSIVE: "yellow"}[row.verdict]
        table.add_row(
            MEASURES[row.measure], f"{row.base:,.0f}", f"{row.this:,.0f}", f"{row.ratio:.3f}",
            f"{row.noise:.1%}", f"[{colour}]{WORDS[row.verdict]}",
        )  # fmt: skip
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="", help="commit, branch or tag (default: the last tag)")
    parser.add_argument("--app", type=Path, default=ROOT / "app", help="folder `app` of the build to judge")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--keep", action="store_true", help="add the result to loadtests/baseline")
    chosen = parser.parse_args()
    ref = chosen.base or last_tag()
    with tempfile.TemporaryDirectory(prefix="bench-compare-") as place:
        folder = Path(place)
        for name in ("a", "b"):
            (folder / name).mkdir()
        with (
            tree_of(ref, folder) as app,
            running_venue(folder / "a", app, ("engine", "history")) as base,
            running_venue(folder / "b", chosen.app, ("engine", "history")) as this,
        ):
            rows = judge(measure(base, this, chosen))
    code = verdict_of(rows)
    show(rows, f"{ref} and this tree: {chosen.rounds} rounds of 4 × {chosen.seconds} s, medians")
    print(WORDS[code])
    if chosen.keep:
        HISTORY.mkdir(exist_ok=True)
        at = datetime.now(UTC)
        result = {"at": at.isoformat(timespec="seconds"), "base": ref, "verdict": WORDS[code],
                  "load": os.getloadavg()[0], "rows": [structs.asdict(row) for row in rows]}  # fmt: skip
        (HISTORY / f"{at:%Y%m%d-%H%M%S}.json").write_text(json.dumps(result, indent=2) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
