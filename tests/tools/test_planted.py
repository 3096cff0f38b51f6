"""`make planted`: a bug is caught by a test that notices it, and by nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[1] / "planted" / "run.py"
MODULE = "def doubled(n: int) -> int:\n    return 2 * n\n"
TEST = "from tradsys.sums import doubled\n\n\ndef test_twice_three():\n    {first}assert doubled(3) == 6\n"
PATCH = """\
breaks: twice is not twice
caught by: tests/test_sums.py::test_twice_three

--- a/app/tradsys/sums.py
+++ b/app/tradsys/sums.py
@@ -1,2 +1,2 @@
 def doubled(n: int) -> int:
-    return 2 * n
+    return {bug}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A tree with one function, one test of it, and a bug to plant."""
    for name, text in {
        "app/tradsys/__init__.py": "",
        "app/tradsys/v1/__init__.py": "",
        ".gitignore": "app/tradsys/v1/\nnot-in-git\n",
        "app/tradsys/sums.py": MODULE,
        "tests/test_sums.py": TEST.format(first=""),
        "tests/planted/twice.patch": PATCH.format(bug="3 * n"),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(RUNNER, tmp_path / "tests/planted")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def planted(project: Path) -> subprocess.CompletedProcess[str]:
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    return subprocess.run(
        [sys.executable, "tests/planted/run.py"], cwd=project, capture_output=True, text=True, timeout=60
    )


def test_a_bug_that_its_test_notices_is_caught(project):
    done = planted(project)

    assert done.returncode == 0, done.stdout
    assert "planted bugs: 1 passed, 0 failed" in done.stdout


def test_a_bug_that_its_test_does_not_notice_survives(project):
    (project / "tests/planted/twice.patch").write_text(PATCH.format(bug="n + n"))

    done = planted(project)

    assert done.returncode == 1
    assert "SURVIVED" in done.stdout


def test_a_test_that_fails_in_a_copy_anyway_catches_nothing(project):
    """It needs a file that git does not know, so that it fails in every copy, with a bug or without."""
    (project / "not-in-git").write_text("")
    needs = 'open("not-in-git").close()\n    '
    (project / "tests/test_sums.py").write_text(TEST.format(first=needs))
    (project / "tests/planted/twice.patch").write_text(PATCH.format(bug="n + n"))

    done = planted(project)

    assert done.returncode == 1, done.stdout
    assert "without a bug" in done.stdout


def test_a_module_that_can_not_be_imported_any_more_is_no_bug_that_was_caught(project):
    late = TEST.format(first="").replace("from tradsys.sums import doubled\n\n\n", "")
    late = late.replace("    assert", "    from tradsys.sums import doubled\n\n    assert")
    (project / "tests/test_sums.py").write_text(late)
    (project / "tests/planted/twice.patch").write_text(PATCH.format(bug="2 *"))

    done = planted(project)

    assert done.returncode == 1, done.stdout
    assert "SURVIVED" in done.stdout
