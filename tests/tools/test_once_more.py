"""`.ci/once-more` forgives a test that fails beside others, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ONCE_MORE = Path(__file__).parents[2] / ".ci" / "once-more"
GOOD = "def test_good(): pass\n"
FLAKE = """from pathlib import Path
def test_flake():
    seen = Path("seen")
    before = seen.exists()
    seen.touch()
    assert before
"""


IMPORTED_LATE = """from pathlib import Path
seen = Path("imported")
before = seen.exists()
seen.touch()
assert before
def test_late(): pass
"""
BAD = "def test_bad(): assert False\n"


def code_of(folder: Path, **modules: str) -> int:
    for name, text in modules.items():
        (folder / f"test_{name}.py").write_text(text)
    command = [ONCE_MORE, sys.executable, "-m", "pytest", "-q", "--", "--durations", "1"]
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=120).returncode


def test_what_passes_alone_is_forgiven(tmp_path):
    assert code_of(tmp_path, good=GOOD, flake=FLAKE) == 0


def test_what_fails_again_is_not(tmp_path):
    assert code_of(tmp_path, flake=FLAKE, bad=BAD) != 0


def test_a_module_that_can_be_imported_at_the_second_try_does_not_hide_the_others(tmp_path):
    assert code_of(tmp_path, late=IMPORTED_LATE, bad=BAD) != 0
