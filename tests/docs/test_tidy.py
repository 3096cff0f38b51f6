"""What is committed: no leftovers, no machine's paths, no secrets, no names that say nothing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THIS = "tests/docs/test_tidy.py"

FORBIDDEN = {
    "a machine's path": r"(?<![\w.}$)])/(work|root|home/\w+|Users/\w+|farm)/",
    "a folder of somebody's": r"/tmp/\w+",
    "a registry's host": r"\b(pypi\.org|pythonhosted\.org|proxy\.golang\.org|npmjs\.org|deb\.debian\.org)\b",
    "an index of one machine": r"--(extra-)?index-url|--find-links|--trusted-host",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{64}",
    "a token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
    "a cloud's key": r"\bAKIA[0-9A-Z]{16}\b|\bghp_[A-Za-z0-9]{36}\b|\bglpat-[\w-]{20}\b",
    "a leftover": r"\b(TODO|FIXME|XXX|HACK)\b",
    "a conflict": r"^(<<<<<<<|>>>>>>>) ",
    "a breakpoint": r"\bbreakpoint\(\)|\bpdb\.set_trace\(",
}
NAMES_THAT_SAY_NOTHING = {
    "base", "common", "enhanced", "fast", "helper", "helpers", "manager", "misc", "new", "optimized", "old",
    "shared", "unified", "util", "utils",
}  # fmt: skip


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def lines_with(pattern: str) -> Iterator[str]:
    for name in tracked():
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        if name == THIS:
            continue
        for found in re.finditer(pattern, text, re.M):
            yield f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found[0]!r}"


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_committed_holds(what):
    assert list(lines_with(FORBIDDEN[what])) == []


def test_no_module_has_a_name_that_says_nothing():
    empty = [
        name
        for name in tracked()
        if name.endswith((".py", ".sh", ".js"))
        and set(re.split("[_-]", Path(name).stem)) & NAMES_THAT_SAY_NOTHING
    ]

    assert empty == []


def test_the_operators_folder_does_not_shadow_the_standard_library():
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_nothing_that_was_built_or_made_by_a_run_is_committed():
    made = re.compile(r"(^|/)(\.venv|__pycache__|data|build|\.coverage)(/|$)|\.(pyc|so|log|db|pem|key)$")

    assert [name for name in tracked() if made.search(name)] == []


def test_no_committed_file_is_large():
    assert [name for name in tracked() if (ROOT / name).stat().st_size > 1 << 20] == []
