"""Plants known bugs, each into a copy of the tree, and expects the tests that they name to fail there.

A suite that stays green with a bug inside proves nothing. Each `*.patch` beside this file begins with two
kinds of lines, `breaks:` with what no longer holds and `caught by:` with a pytest id that must notice; the
unified diff follows. The same tests have to pass in a copy without any bug: one that lacks something there
would fail whatever is planted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AT_ONCE = 2
TIME_LIMIT_S = 170
UNHARMED_LIMIT_S = 400


@dataclass(frozen=True)
class Bug:
    patch: Path
    breaks: str
    caught_by: list[str]
    changes: list[str]
    """The modules that it changes, as paths below app/."""

    @classmethod
    def read(cls, patch: Path) -> Bug:
        text = patch.read_text()
        head = text.split("\n--- ")[0].splitlines()
        said = [line.split(":", 1)[1].strip() for line in head if line.startswith("breaks:")]
        tests = [line.split(":", 1)[1].strip() for line in head if line.startswith("caught by:")]
        if len(said) != 1 or not tests:
            raise SystemExit(
                f"{patch.name}: one line `breaks:` and at least one `caught by:` must stand above the diff"
            )
        return cls(patch, said[0], tests, re.findall(r"^\+\+\+ b/app/(\S+\.py)", text, re.MULTILINE))


@dataclass(frozen=True)
class Outcome:
    bug: Bug
    caught: bool
    said: str
    seconds: float


def copy_of_the_tree(into: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)
    # Not in git: made from app/proto when the package was built.
    shutil.copytree(ROOT / "app/tradsys/v1", into / "app/tradsys/v1")


def plant(bug: Bug) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        tree = Path(folder)
        copy_of_the_tree(tree)
        caught, said = look(bug, tree)
    return Outcome(bug, caught, said, time.monotonic() - start)


def look(bug: Bug, tree: Path) -> tuple[bool, str]:
    applied = subprocess.run(["git", "apply", "-p1", bug.patch], cwd=tree, capture_output=True, text=True)
    if applied.returncode:
        return False, f"does not apply: {applied.stderr.strip()}"
    # A module that can't be loaded makes any test fail: that is no bug that somebody noticed.
    modules = ["tradsys", *(path.removesuffix(".py").replace("/", ".") for path in bug.changes)]
    script = f"import {', '.join(modules)}; print(tradsys.__file__)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=tree, env=environ_of(tree), capture_output=True, text=True
    )
    if loaded.returncode:
        return False, f"can't be imported: {loaded.stderr.strip().splitlines()[-1]}"
    assert loaded.stdout.startswith(str(tree)), "the copy is not what the tests would import"
    code, last = run_tests(tree, bug.caught_by, TIME_LIMIT_S)
    # 1 is "tests ran and failed", anything else is a mistake in the patch; and a test that could not even be
    # set up has noticed nothing.
    return code == 1 and " failed" in f" {last}", f"exit code {code}: {last}"


def failing_anyway(bugs: list[Bug]) -> str:
    """What fails in a copy without a bug, as it would with one: "" if nothing does."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        tree = Path(folder)
        copy_of_the_tree(tree)
        tests = sorted({test for bug in bugs for test in bug.caught_by})
        code, last = run_tests(tree, tests, UNHARMED_LIMIT_S)
    return f"exit code {code}: {last}" if code else ""


def run_tests(tree: Path, tests: list[str], limit_s: int) -> tuple[int, str]:
    """Exit code and last line of pytest in a copy."""
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "pytest_timeout", *tests],
            cwd=tree, env=environ_of(tree), capture_output=True, text=True, timeout=limit_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, f"the tests did not end in {limit_s} s"
    return ran.returncode, (ran.stdout.strip() or ran.stderr.strip() or "nothing").splitlines()[-1]


def environ_of(tree: Path) -> dict[str, str]:
    environ = {**os.environ, "PYTHONPATH": str(tree / "app"), "PYTHONDONTWRITEBYTECODE": "1"}
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # Half of a start is plugins that one test does not need.
    return environ


def main() -> int:
    chosen = [HERE / f"{name}.patch" for name in sys.argv[1:]] or sorted(HERE.glob("*.patch"))
    bugs = [Bug.read(patch) for patch in chosen]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        unharmed = pool.submit(failing_anyway, bugs)
        outcomes = []
        for outcome in pool.map(plant, bugs):
            outcomes.append(outcome)
            verdict = "caught  " if outcome.caught else "SURVIVED"
            print(
                f"{verdict} {outcome.seconds:5.1f} s  {outcome.bug.patch.stem}: {outcome.bug.breaks}",
                flush=True,
            )
            if not outcome.caught:
                print(f"         {outcome.said}")
        failing = unharmed.result()
    if failing:
        print(f"Nothing was shown: the tests fail without a bug, too: {failing}")
        return 1
    survived = sum(not outcome.caught for outcome in outcomes)
    print(f"planted bugs: {len(outcomes) - survived} passed, {survived} failed")
    return 1 if survived or not outcomes else 0


if __name__ == "__main__":
    raise SystemExit(main())
