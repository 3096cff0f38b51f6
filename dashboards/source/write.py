"""Writes dashboards/*.json and rules/slo.yaml from their sources; `--check` only says what differs.

    python -m dashboards.source.write [--check]

What is in git is what charts and Grafana take; a test holds it against this.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dashboards.source.boards import BOARDS
from dashboards.source.grafana import as_json
from dashboards.source.slo import rules_of

DASHBOARDS = Path(__file__).resolve().parents[1]
OBJECTIVES = DASHBOARDS.parent / "loadtests" / "slo.json"


def documents() -> dict[Path, str]:
    """Every file that is written, with its text."""
    links = [(board.uid, board.title.removeprefix("tradsys · ")) for board in BOARDS.values()]
    boards = {DASHBOARDS / f"{name}.json": as_json(board, links) for name, board in BOARDS.items()}
    return {**boards, DASHBOARDS / "rules" / "slo.yaml": rules_of(OBJECTIVES.read_bytes())}


def main() -> int:
    differing = [p for p, text in documents().items() if not p.is_file() or p.read_text() != text]
    for path in differing:
        print(f"{path.relative_to(DASHBOARDS.parent)} {'differs' if '--check' in sys.argv else 'written'}")
        if "--check" not in sys.argv:
            path.write_text(documents()[path])
    return 1 if differing and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
