"""`make ab`: what each knob of profile `hft` is worth against profile `baseline`, one by one, in one run.

A round is A B B A, A without the knob. How far the two A of a round are apart is the noise: a difference that
is not above it, or below 2 %, is said to show nothing. What counts are ratios of medians in one run; absolute
figures are the machine's. Results: build/ab/ab.json, and build/ab/ledger.md for tests/bench/ledger.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct, structs
from rich.console import Console
from rich.table import Table

from tests.bench.knobs.inside import INSIDE
from tests.bench.knobs.knob import Effort, Figures, Knob, Unavailable
from tests.bench.knobs.served import SERVED
from tests.bench.knobs.stores import STORES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "ab"
KNOBS = (*SERVED, *INSIDE, *STORES)
FULL, SMOKE = Effort(orders=10_000, seconds=3), Effort(orders=200, seconds=1)
LEAST_SHOWN = 0.02
"""A smaller difference is nothing, however quiet the machine is."""
RATIO_MAX = 10
"""Above it, and below 0, the difference itself says more."""


class Round(Struct, frozen=True):
    """A B B A."""

    without: tuple[Figures, Figures]
    with_: tuple[Figures, Figures]


class Row(Struct, frozen=True):
    """One figure of one knob over all rounds."""

    knob: str
    figure: str
    without: float
    with_: float
    noise: float
    """How far the two A of a round are apart, in the figure's unit."""

    @property
    def ratio(self) -> float:
        return self.with_ / self.without if self.without else float("nan")

    @property
    def shown(self) -> bool:
        return abs(self.with_ - self.without) > max(self.noise, LEAST_SHOWN * abs(self.without))

    @property
    def said(self) -> str:
        if not self.shown:
            return "nothing shown"
        more = self.with_ - self.without
        if not 0 < self.ratio < RATIO_MAX:
            return f"{number(abs(more))} {'more' if more > 0 else 'less'}"
        return f"{abs(self.ratio - 1):.0%} {'more' if more > 0 else 'less'}"


def judge(knob: str, rounds: Sequence[Round]) -> list[Row]:
    """A row for each figure."""
    rows = []
    for name in rounds[0].without[0]:
        without = statistics.median(one[name] for each in rounds for one in each.without)
        with_ = statistics.median(one[name] for each in rounds for one in each.with_)
        noise = statistics.median(abs(each.without[0][name] - each.without[1][name]) for each in rounds)
        rows.append(Row(knob, name, without, with_, noise))
    return rows


def measure(knob: Knob, effort: Effort, rounds: int, place: Path) -> list[Round]:
    """Raises Unavailable."""
    with (
        tempfile.TemporaryDirectory(prefix=f"ab-{knob.name}-", dir=place) as folder,
        knob.sides(Path(folder), effort) as (without, with_),
    ):
        without(), with_()  # Caches warm, memory taken.
        done = []
        for _ in range(rounds):
            one, two, three, four = without(), with_(), with_(), without()
            done.append(Round((one, four), (two, three)))
        return done


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def ledger(knobs: Sequence[Knob], rows: Sequence[Row], conditions: str) -> str:
    lines = [
        conditions,
        "",
        "| knob | A | B | figure | A | B | ratio | A − A | B against A |",
        "|---" * 9 + "|",
    ]
    words = {knob.name: knob for knob in knobs}
    for row in rows:
        knob = words[row.knob]
        lines.append(
            f"| `{row.knob}` | {knob.without} | {knob.with_} | {row.figure} | {number(row.without)} | "
            f"{number(row.with_)} | {row.ratio:.2f} | {number(row.noise)} | {row.said} |"
        )
    lines += ["", *(f"`{knob.name}`: {knob.note}." for knob in knobs if knob.note)]
    return "\n".join(lines) + "\n"


def show(knobs: Sequence[Knob], rows: Sequence[Row], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("knob", "figure", "A", "B", "ratio", "A − A", "B against A"):
        table.add_column(column, justify="left" if column in ("knob", "figure", "B against A") else "right")
    words = {knob.name: knob for knob in knobs}
    last = ""
    for row in rows:
        if row.knob != last:
            knob = words[row.knob]
            table.add_section()
            table.add_row(f"[bold]{row.knob}", f"[dim]{knob.without} → {knob.with_}")
            last = row.knob
        table.add_row(
            "", row.figure, number(row.without), number(row.with_), f"{row.ratio:.2f}", number(row.noise),
            f"[{'bold' if row.shown else 'dim'}]{row.said}",
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make ab", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help=f"names, by commas: {', '.join(k.name for k in KNOBS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="tiny, only to see that everything runs")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results")
    chosen = parser.parse_args()
    into: Path = chosen.into
    wanted = {name for name in chosen.only.replace(",", " ").split() if name}
    if unknown := wanted - {knob.name for knob in KNOBS}:
        parser.error(f"no knob {', '.join(sorted(unknown))}; there are {', '.join(k.name for k in KNOBS)}")
    effort, rounds = (SMOKE, 1) if chosen.smoke else (FULL, chosen.rounds)
    into.mkdir(parents=True, exist_ok=True)
    knobs: list[Knob] = []
    rows: list[Row] = []
    missing: dict[str, str] = {}
    samples: dict[str, list[Round]] = {}
    at, load_before = datetime.now(UTC), os.getloadavg()[0]
    conditions = ""
    for knob in KNOBS:
        if wanted and knob.name not in wanted:
            continue
        print(f"{knob.name}: {knob.without}, {knob.with_} …", file=sys.stderr, flush=True)
        try:
            samples[knob.name] = measure(knob, effort, rounds, into)
        except Unavailable as why:
            missing[knob.name] = str(why)
        else:
            knobs.append(knob)
            rows += judge(knob.name, samples[knob.name])
        conditions = (
            f"{at:%Y-%m-%d}, {rounds} rounds of A B B A, medians; {effort.orders:,} orders in a process, "
            f"{effort.seconds:g} s over sockets; Python {platform.python_version()}, {os.cpu_count()} CPUs, "
            f"load average {load_before:.1f} before and {os.getloadavg()[0]:.1f} after"
        )
        result = {
            "at": at.isoformat(timespec="seconds"), "conditions": conditions, "not_measured": missing,
            "rows": [structs.asdict(row) | {"ratio": row.ratio, "said": row.said} for row in rows],
            "rounds": {name: [structs.asdict(each) for each in some] for name, some in samples.items()},
        }  # fmt: skip
        # After each knob: a run that is cut keeps what it has measured.
        (into / "ab.json").write_text(json.dumps(result, indent=2) + "\n")
        (into / "ledger.md").write_text(ledger(knobs, rows, conditions))
    if rows:
        show(knobs, rows, conditions)
    for name, why_not in missing.items():
        print(f"{name}: not measured, {why_not}")
    print(into / "ab.json", into / "ledger.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
