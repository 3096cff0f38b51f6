"""Puts the coverage of all processes together; holds it against `[tool.tradsys.coverage]` of pyproject.toml.

Prints a line for each group, and the modules with the most uncovered lines. Lines and branches are counted
apart: coverage's own percentage mixes them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "build" / "coverage" / "report.json"
SHOWN_MODULES_MAX = 12


def coverage(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=ROOT, check=True)


def percent(summaries: Iterable[dict[str, Any]], covered: str, all_: str) -> float:
    rows = list(summaries)
    total = sum(row[all_] for row in rows)
    return 100.0 * sum(row[covered] for row in rows) / total if total else 100.0


def main() -> int:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tradsys"]["coverage"]
    coverage("combine", "--quiet")
    # Tests also run copies of the package, with a bug planted; those count for nothing, and may be gone.
    coverage("json", "--quiet", "--include", f"{ROOT}/app/*", "-o", str(REPORT))
    files = {
        name: file["summary"]
        for name, file in json.loads(REPORT.read_text())["files"].items()
        if name.startswith("app/")
    }
    missed = 0
    for group in rules["groups"]:
        chosen = [file for name, file in files.items() if any(part in name for part in group["holds"])]
        lines = percent(chosen, "covered_lines", "num_statements")
        branches = percent(chosen, "covered_branches", "num_branches")
        good = bool(chosen) and lines >= group["lines"] and branches >= group["branches"]
        missed += not good
        print(
            f"{group['name']:<20} lines {lines:5.1f} % (≥ {group['lines']})   "
            f"branches {branches:5.1f} % (≥ {group['branches']})   {'good' if good else 'TOO LOW'}"
        )
    by_missing = sorted(
        files.items(), key=lambda item: -item[1]["missing_lines"] - item[1]["missing_branches"]
    )
    for name, file in by_missing[:SHOWN_MODULES_MAX]:
        if file["missing_lines"] or file["missing_branches"]:
            print(f"    {name}: {file['missing_lines']} lines, {file['missing_branches']} branches not run")
    return 1 if missed and rules["enforce"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
