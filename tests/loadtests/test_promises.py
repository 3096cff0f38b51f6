"""What `make bench` says of measurements: held, MISSED, inconclusive; and that its page shows all of them."""

from __future__ import annotations

import json

import pytest

from tests.bench import report
from tests.bench.__main__ import PARTS, chosen_parts
from tests.bench.promise import Found, Line, Plot, Row, Verdict, judge

HELD, MISSED, INCONCLUSIVE = Verdict.HELD, Verdict.MISSED, Verdict.INCONCLUSIVE


def row(rounds: list[float], bound: float = 100, *, at_least: bool = True, **more: object) -> Row:
    return Row("orders", "orders a second", bound, at_least, "/s", rounds, "REST, `process`", **more)


@pytest.mark.parametrize(
    ("measured", "at_least", "quiet", "noisy"),
    [
        (120.0, True, HELD, HELD),
        (60.0, True, MISSED, INCONCLUSIVE),
        (40.0, True, MISSED, MISSED),
        (80.0, False, HELD, HELD),
        (150.0, False, MISSED, INCONCLUSIVE),
        (250.0, False, MISSED, MISSED),
    ],
)
def test_noise_excuses_a_miss_up_to_a_factor_of_two_and_makes_nothing_hold(measured, at_least, quiet, noisy):
    one = row([measured], at_least=at_least)

    assert (judge(one, noisy=False), judge(one, noisy=True)) == (quiet, noisy)


@pytest.mark.parametrize(
    ("rounds", "quiet", "noisy"),
    [
        ([1.9, 2.0, 2.1], HELD, HELD),
        ([1.7, 2.0, 2.1], HELD, INCONCLUSIVE),
        ([1.7, 1.6, 2.1], MISSED, INCONCLUSIVE),
        ([1.1, 1.0, 1.2], MISSED, MISSED),
    ],
)
def test_a_ratio_on_a_noisy_machine_needs_all_its_rounds_on_one_side(rounds, quiet, noisy):
    one = row(rounds, 1.8, relative=True)

    assert (judge(one, noisy=False), judge(one, noisy=True)) == (quiet, noisy)


def test_a_miss_that_is_the_generators_tells_nothing_and_what_holds_in_spite_of_it_holds():
    doubt = "the engine's CPU was busy for 60% only"

    assert judge(row([60.0], doubt=doubt), noisy=False) == INCONCLUSIVE
    assert judge(row([20.0], doubt=doubt), noisy=False) == INCONCLUSIVE
    assert judge(row([120.0], doubt=doubt), noisy=False) == HELD


def test_in_a_crowd_no_miss_by_the_clock_says_anything_and_what_is_counted_still_does():
    by_clock, counted = row([10.0]), row([10.0], by_clock=False)

    assert judge(by_clock, noisy=True, crowded=True) == INCONCLUSIVE
    assert judge(counted, noisy=True, crowded=True) == MISSED
    assert judge(row([120.0]), noisy=True, crowded=True) == HELD


def test_only_names_parts_that_there_are():
    assert chosen_parts("") == list(PARTS)
    assert chosen_parts("core,orders") == ["core", "orders"]
    with pytest.raises(ValueError, match="no part nonsense"):
        chosen_parts("core nonsense")


def test_table_json_and_page_hold_every_row_with_its_conditions_and_every_plot(tmp_path, capsys):
    found = Found("orders", smoke=False, conditions={"machine": "quiet"}, figures={"by round": [1, 2]})
    found.rows = [row([1.0, 3.0, 2.0], verdict=MISSED, doubt="<nobody knows>")]
    found.plots = [Plot("Latency <by> rate", "orders/s", "µs", [Line("p99", [1, 2], [3, 4])], log_y=True)]

    report.show([found], {"core": "ended with 1"})
    page = report.write(tmp_path, [found], {"core": "ended with 1"}).read_text()

    shown = capsys.readouterr().out
    for text in ("orders a second", "≥ 100 /s", "2 /s (1…3)", "REST, `process`", "0.02", "MISSED", "failed"):
        assert text in shown
        assert text in page
    assert "&lt;nobody knows&gt;" in page and "Latency" in page and "plotly" in page
    assert "src=" not in page.partition("<body>")[0][:2000]
    whole = json.loads((tmp_path / "bench.json").read_text())
    assert whole["parts"][0]["rows"][0]["verdict"] == "MISSED"
    assert whole["failed"] == {"core": "ended with 1"}
