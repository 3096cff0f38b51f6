"""`make slo`: judge a build by a profile of slo.json.

Exit codes: 0 the objectives are met, 1 they are not (or the venue or the gate is broken), 2 the machine was
too noisy to tell, 64 usage. An inconclusive attempt is repeated as often as the profile allows.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console
from rich.table import Table

from loadtests.slo import report
from loadtests.slo.k6 import K6, SCRIPTS, K6Error
from loadtests.slo.measure import Attempt, attempt
from loadtests.slo.objectives import FILE, read
from loadtests.slo.verdict import EXIT_CODES, Verdict

BROKEN = 1
"""The gate itself can't be run: no evidence is no pass, and CI must see it."""
USAGE = 64
"""Not argparse's 2, which means inconclusive here."""
COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _Parser(prog="make slo", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="target")
    parser.add_argument("--objectives", type=Path, default=FILE, help="another file of slo.json's form")
    parser.add_argument("--app", type=Path, help="folder with the package tradsys of the build to judge")
    parser.add_argument("--scripts", type=Path, default=SCRIPTS, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, default=Path("build/slo"), help="where the report goes")
    chosen = parser.parse_args(arguments)
    try:
        objectives = read(chosen.objectives)
    except (OSError, msgspec.ValidationError) as error:
        parser.error(f"{chosen.objectives}: {error}")
    if chosen.profile not in objectives.profiles:
        parser.error(f"there is no profile {chosen.profile!r}; there are {', '.join(objectives.profiles)}")
    if chosen.app and not (chosen.app / "tradsys" / "__init__.py").is_file():
        # Python would go on to the package that is installed, and the verdict would be about that one.
        parser.error(f"{chosen.app} holds no package tradsys")
    # A stop from outside ends the venue, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(BROKEN))
    err = Console(stderr=True)
    profile = objectives.profiles[chosen.profile]
    attempts: list[Attempt] = []
    try:
        k6 = K6()
        began = time.monotonic()
        for number in range(1, profile.gate.attempts + 1):
            err.print(f"Attempt {number} of at most {profile.gate.attempts}, profile {chosen.profile}")
            found = attempt(
                objectives, profile, k6, chosen.app, chosen.scripts, lambda text: err.print(f"  {text} …")
            )
            attempts.append(found)
            # Another one takes as long as those before it did.
            next_ends_s = (time.monotonic() - began) * (number + 1) / number
            if found.verdict != Verdict.INCONCLUSIVE or next_ends_s > profile.gate.within_s:
                break
    except (K6Error, OSError) as error:
        err.print(f"The gate can't be run: {error}", style="red", markup=False)
        return BROKEN
    except KeyboardInterrupt:
        return 130
    show(Console(), chosen.profile, attempts[-1])
    chosen.into.mkdir(parents=True, exist_ok=True)
    data = {"profile": chosen.profile, "verdict": found.verdict, "attempts": attempts}
    json_file, html_file = (chosen.into / f"{chosen.profile}.{kind}" for kind in ("json", "html"))
    json_file.write_text(json.dumps(msgspec.to_builtins(data, str_keys=True), indent=1, default=str))
    html_file.write_text(report.page(objectives, chosen.profile, attempts))
    err.print(f"Report: {html_file}, evidence: {json_file}", markup=False)
    return EXIT_CODES[found.verdict]


def show(console: Console, profile: str, found: Attempt) -> None:
    """The verdict as a table for a person."""
    table = Table(title=f"Profile {profile}", title_justify="left")
    for column in ("objective", "target", "measured", "events", "verdict", "why"):
        table.add_column(column, justify="right" if column == "events" else "left")
    for row in found.rows:
        cells = (row.name, row.target, row.measured, f"{row.events:,}" if row.events else "")
        table.add_row(*cells, f"[{COLOURS[row.verdict]}]{row.verdict}[/]", row.why)
    console.print(table)
    for problem in found.problems:
        console.print(f"✗ {problem}", style="red", markup=False)
    for shortfall in found.shortfalls:
        console.print(f"! {shortfall}", style="yellow", markup=False)
    if found.windows:
        console.print(report.noise_told(found), markup=False)
    console.print(f"{found.verdict.upper()}", style=f"bold {COLOURS[found.verdict]}")


if __name__ == "__main__":
    sys.exit(main())
