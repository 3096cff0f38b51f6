"""Plants known bugs, each into a copy of the tree, and expects the tests that they name to fail there.

A suite that stays green with a bug inside proves nothing. Each `*.patch` beside this file begins with two
kinds of lines, `breaks:` with what no longer holds and `caught by:` with a pytest id that must notice; the
unified diff follows. That the same tests pass without the bug is shown by the ordinary run.
"""

from __future__ import annotations

import os
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


@dataclass(frozen=True)
class Bug:
    patch: Path
    breaks: str
    caught_by: list[str]

    @classmethod
    def read(cls, patch: Path) -> Bug:
        head = patch.read_text().split("\n--- ")[0].splitlines()
        said = [line.split(":", 1)[1].strip() for line in head if line.startswith("breaks:")]
        tests = [line.split(":", 1)[1].strip() for line in head if line.startswith("caught by:")]
        if len(said) != 1 or not tests:
            raise SystemExit(
                f"{patch.name}: one line `breaks:` and at least one `caught by:` must stand above the diff"
            )
        return cls(patch, said[0], tests)


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
    environ = {**os.environ, "PYTHONPATH": str(tree / "app"), "PYTHONDONTWRITEBYTECODE": "1"}
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # Half of a start is plugins that one test does not need.
    where = subprocess.run(
        [sys.executable, "-c", "import tradsys; print(tradsys.__file__)"],
        cwd=tree, env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(tree)), "the copy is not what the tests would import"
    try:
        # 1 is "tests ran and failed", anything else is a mistake in the patch.
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "pytest_timeout", *bug.caught_by],
            cwd=tree, env=environ, capture_output=True, text=True, timeout=TIME_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"the tests did not end in {TIME_LIMIT_S} s"
    last = (ran.stdout.strip() or ran.stderr.strip() or "nothing").splitlines()[-1]
    # A test that could not even be set up has noticed nothing.
    return ran.returncode == 1 and " failed" in f" {last}", f"exit code {ran.returncode}: {last}"


def main() -> int:
    chosen = [HERE / f"{name}.patch" for name in sys.argv[1:]] or sorted(HERE.glob("*.patch"))
    bugs = [Bug.read(patch) for patch in chosen]
    with ThreadPoolExecutor(AT_ONCE) as pool:
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
    survived = sum(not outcome.caught for outcome in outcomes)
    print(f"planted bugs: {len(outcomes) - survived} passed, {survived} failed")
    return 1 if survived or not outcomes else 0


if __name__ == "__main__":
    raise SystemExit(main())
