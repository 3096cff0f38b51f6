"""What `make ab` says of measurements, and that it turns its knobs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.ab import KNOBS, Round, judge, ledger
from tests.bench.knobs.inside import worker
from tests.bench.knobs.knob import Effort, Knob
from tests.bench.knobs.served import p99_us

ROOT = Path(__file__).parents[2]


def rounds(with_: float, without: float = 100.0, again: float = 100.0) -> list[Round]:
    return [Round(({"µs": without}, {"µs": again}), ({"µs": with_}, {"µs": with_}))] * 3


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (rounds(70), "30% less"),
        (rounds(130), "30% more"),
        (rounds(1_500), "1,400 more"),
        (rounds(99), "nothing shown"),
        (rounds(90, again=140), "nothing shown"),
        (rounds(70, again=120), "36% less"),
        (rounds(7, without=-1, again=1), "7 more"),
        (rounds(0, without=0, again=0), "nothing shown"),
    ],
)
def test_a_difference_counts_only_above_two_per_cent_and_the_distance_of_a_from_itself(measured, said):
    (row,) = judge("knob", measured)

    assert row.said == said


def test_the_lines_for_the_ledger_say_what_was_compared_and_how():
    knob = Knob("gc", "with", "without", lambda folder, effort: None, "one order a turn")

    assert ledger([knob], judge("gc", rounds(70)), "3 rounds").splitlines() == [
        "3 rounds",
        "",
        "| knob | A | B | figure | A | B | ratio | A − A | B against A |",
        "|---|---|---|---|---|---|---|---|---|",
        "| `gc` | with | without | µs | 100 | 70 | 0.70 | 0 | 30% less |",
        "",
        "`gc`: one order a turn.",
    ]


def test_knobs_have_names_of_their_own():
    names = [knob.name for knob in KNOBS]

    assert len(set(names)) == len(names)


def test_a_percentile_lies_within_the_bucket_that_holds_it():
    before = {0.00005: 10, 0.0001: 10, float("inf"): 10}
    after = {0.00005: 20, 0.0001: 110, float("inf"): 110}

    assert p99_us(before, after) == pytest.approx(99.44, abs=0.01)


def test_a_process_with_a_choice_does_real_orders(tmp_path):
    with worker(tmp_path / "one", Effort(orders=40, seconds=0), {"codec": "ujson"}) as side:
        figures = side()

    # Nothing has left memory yet, so the pool has none to give.
    assert figures["objects made for 1,000 orders"] == 1_000
    assert figures["CPU µs an order"] > 0


@pytest.mark.parametrize("counting", ["on", "off"])
def test_what_counting_costs_is_said_only_of_orders_that_were_counted(tmp_path, counting):
    """The process itself holds the histogram of orders against those that it did with everything counted."""
    with worker(tmp_path / "one", Effort(orders=256, seconds=0), {"counting": counting}) as side:
        figures = side()

    assert list(figures) == ["counting, CPU µs an order"]


def test_one_knob_alone_leaves_its_figures_as_json_and_as_lines_for_the_ledger(tmp_path):
    done = subprocess.run(
        [sys.executable, "tests/bench/ab.py", "--smoke", "--only", "binary_prices", "--into", tmp_path],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "ab.json").read_text())
    assert [row["knob"] for row in result["rows"]] == ["binary_prices", "binary_prices"]
    assert result["rows"][1] | {"noise": 0} == {
        "knob": "binary_prices", "figure": "bytes an update", "without": 173, "with_": 32, "noise": 0,
        "ratio": 32 / 173, "said": "82% less",
    }  # fmt: skip
    assert "| `binary_prices` |" in (tmp_path / "ledger.md").read_text()


def test_an_unknown_knob_is_named_with_those_there_are():
    done = subprocess.run(
        [sys.executable, "tests/bench/ab.py", "--only", "turbo"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 2
    assert "no knob turbo; there are profile, server," in done.stderr
