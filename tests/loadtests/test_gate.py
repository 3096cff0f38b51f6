"""The gate as CI runs it, against real builds: a slow one and a broken one are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tradsys
from loadtests.slo import noise
from loadtests.slo.objectives import FILE

ROOT = Path(__file__).parents[2]
REFUSED, INCONCLUSIVE, USAGE = 1, 2, 64


@pytest.fixture
def objectives(tmp_path: Path) -> Path:
    """The profile ci, shorter."""
    content = json.loads(FILE.read_text())
    content["profiles"]["ci"]["gate"] |= {
        "rate_per_s": 40,
        "duration_s": 5,
        "samples_min": 30,
        "attempts": 1,
    }
    path = tmp_path / "slo.json"
    path.write_text(json.dumps(content))
    return path


def build_with(change: dict[str, tuple[str, str]], folder: Path) -> Path:
    """A copy of the package with texts of some modules replaced."""
    shutil.copytree(
        Path(tradsys.__file__).parent, folder / "tradsys", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, (text, replacement) in change.items():
        module = folder / "tradsys" / name
        before = module.read_text()
        assert before.count(text) == 1, "the bug can't be planted any more"
        module.write_text(before.replace(text, replacement))
    return folder


def gate(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtests.slo", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True,
    )  # fmt: skip


def evidence(folder: Path) -> Any:
    return json.loads((folder / "ci.json").read_text())["attempts"][-1]


@pytest.mark.timeout(300)
def test_a_deliberately_slow_build_is_refused(tmp_path: Path, objectives: Path):
    whole = "    def process_one(self, command: Command, now: int) -> Outcome:\n"
    slow = (
        "    def process_one(self, command: Command, now: int) -> Outcome:\n"
        "        __import__('time').sleep(0.03)\n"
        "        return self.undisturbed(command, now)\n\n"
    ) + whole.replace("process_one", "undisturbed")
    app = build_with({"venue/venue.py": (whole, slow)}, tmp_path / "slow")

    done = gate("--profile", "ci", "--objectives", objectives, "--app", app, "--into", tmp_path / "report")

    assert done.returncode == REFUSED, done.stdout + done.stderr
    verdicts = {row["name"]: row["verdict"] for row in evidence(tmp_path / "report")["rows"]}
    assert (verdicts["order-p90"], verdicts["order-p99"]) == ("fail", "fail")
    page = (tmp_path / "report" / "ci.html").read_text()
    assert "order-p99" in page and "<script src=" not in page


@pytest.mark.timeout(300)
def test_a_build_that_does_not_start_is_refused(tmp_path: Path, objectives: Path):
    app = build_with(
        {"compose/engine.py": ("def serve_engine(", "raise RuntimeError('planted')\n\n\ndef serve_engine(")},
        tmp_path / "broken",
    )

    done = gate("--profile", "ci", "--objectives", objectives, "--app", app, "--into", tmp_path / "report")

    assert done.returncode == REFUSED
    (problem,) = evidence(tmp_path / "report")["problems"]
    assert problem.startswith("engine ended with 1:") and "planted" in problem


def test_a_gate_without_k6_is_no_pass_and_not_inconclusive(tmp_path: Path):
    done = gate("--profile", "ci", "--into", tmp_path, K6="/nowhere/k6")

    assert (done.returncode, "there is no k6" in done.stderr) == (REFUSED, True)


@pytest.mark.parametrize(
    "arguments", [("--profile", "fast"), ("--profle", "ci"), ("--objectives", "/nowhere")]
)
def test_a_mistake_in_the_call_is_not_inconclusive(arguments: tuple[str, str]):
    assert gate(*arguments).returncode == USAGE


def test_a_build_that_is_not_there_is_not_judged_by_another(tmp_path: Path):
    """Python would go on to the package that is installed, and the verdict would be about that one."""
    (tmp_path / "empty").mkdir()

    for app in (tmp_path / "nowhere", tmp_path / "empty"):
        done = gate("--profile", "ci", "--app", app, "--into", tmp_path, K6="/nowhere/k6")

        assert (done.returncode, f"{app} holds no package tradsys" in done.stderr) == (USAGE, True)


def test_somebody_elses_work_is_noise(tmp_path: Path):
    burn = [
        sys.executable,
        "-c",
        "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass",
    ]
    burning = [subprocess.Popen(burn) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        engine = burning[0].pid
        before = noise.look(engine, [os.getpid()])
        subprocess.run(["sleep", "1"], check=True)
        seen = noise.between(before, noise.look(engine, [os.getpid()]))
    finally:
        for process in burning:
            process.kill()
            process.wait()

    assert seen.others > noise.OTHERS_MAX
    assert not seen.quiet


def test_work_of_ones_own_is_none():
    burn = [
        sys.executable,
        "-c",
        "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass",
    ]
    with subprocess.Popen(burn) as burning:
        ours = [burning.pid]
        before = noise.look(burning.pid, ours)
        subprocess.run(["sleep", "1"], check=True)
        after = noise.look(burning.pid, ours)
        seen, without = noise.between(before, after), noise.between(before, noise.look(burning.pid, []))
        burning.kill()

    assert seen.others < without.others
