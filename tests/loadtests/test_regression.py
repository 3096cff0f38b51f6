"""What `make bench-compare` says of measurements: a regression, none, or that nobody could tell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.bench.compare import Measured
from tests.bench.regression import FAIL, INCONCLUSIVE, PASS, Round, judge, tree_of, verdict_of

BASE = Measured(10_000, 1_000, 5_000)


def rounds(this: Measured, again: Measured = BASE) -> list[Round]:
    return [Round((BASE, again), (this, this))] * 3


@pytest.mark.parametrize(
    ("this", "verdict"),
    [
        (BASE, PASS),
        (Measured(9_600, 1_049, 5_240), PASS),
        (Measured(20_000, 500, 2_500), PASS),
        (Measured(9_400, 1_000, 5_000), FAIL),
        (Measured(10_000, 1_060, 5_000), FAIL),
        (Measured(10_000, 1_000, 5_300), FAIL),
    ],
)
def test_five_per_cent_decide_when_the_base_agrees_with_itself(this: Measured, verdict: int):
    assert verdict_of(judge(rounds(this))) == verdict


@pytest.mark.parametrize("this", [BASE, Measured(5_000, 2_000, 10_000), Measured(20_000, 500, 2_500)])
def test_a_base_that_differs_from_itself_tells_nothing(this: Measured):
    rows = judge(rounds(this, again=Measured(9_000, 1_100, 5_600)))

    assert {row.verdict for row in rows} == {INCONCLUSIVE}
    assert verdict_of(rows) == INCONCLUSIVE


def test_a_noisy_tail_does_not_hide_a_certain_loss_of_throughput():
    rows = judge(rounds(Measured(8_000, 1_000, 5_000), again=Measured(10_000, 1_000, 9_000)))

    assert [row.verdict for row in rows] == [FAIL, PASS, INCONCLUSIVE]
    assert verdict_of(rows) == FAIL


def test_an_unknown_base_is_named(tmp_path: Path):
    with (
        pytest.raises(SystemExit, match="no-such-ref can't be checked out"),
        tree_of("no-such-ref", tmp_path),
    ):
        pass


def test_a_base_is_checked_out_beside_this_tree_and_gone_afterwards(tmp_path: Path):
    with tree_of("HEAD", tmp_path) as app:
        there = (app / "tradsys" / "core" / "shard.py").exists()

    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert there
    assert str(tmp_path) not in listed
