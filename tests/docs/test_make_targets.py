"""Every make target has its line of help, and every page names only targets that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = {name for line in re.findall("^\\.PHONY: (.*)$", MAKEFILE, re.M) for name in line.split()}


def pages() -> dict[str, str]:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "*.md", ".ci"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return {
        name: (ROOT / name).read_text() for name in tracked.split("\0") if name and (ROOT / name).exists()
    }


def test_every_target_that_is_no_file_is_declared_so_and_has_help():
    rules = re.findall("^([a-z][a-z0-9-]*):", MAKEFILE, re.M)
    with_help = re.findall("^([a-z][a-z0-9-]*):.*## [A-Z].*[.).]$", MAKEFILE, re.M)

    assert sorted(rules) == sorted(TARGETS)
    assert sorted(with_help) == sorted(TARGETS)


def test_make_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert {line.split()[1] for line in shown.splitlines()} == TARGETS


def test_pages_and_ci_name_only_targets_that_exist():
    named = {
        (page, target)
        for page, text in pages().items()
        for target in re.findall("(?:`|^ {4}|\\$ |stage [0-9]+ [a-z-]+ )make ([a-z][a-z0-9-]*)", text, re.M)
    }

    assert not {(page, target) for page, target in named if target not in TARGETS}
    assert {target for page, target in named if page == "README.md"} >= {"run", "test"}
