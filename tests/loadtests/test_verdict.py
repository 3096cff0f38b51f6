"""What the gate concludes from its evidence: fails closed, and noise excuses misses without making passes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from loadtests.slo.histograms import Histogram
from loadtests.slo.k6 import Findings, Run
from loadtests.slo.measure import Attempt, judged
from loadtests.slo.noise import Calibration, Quietness
from loadtests.slo.objectives import Gate, Objective, Profile, Socket
from loadtests.slo.verdict import Verdict, Window

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
BOUNDS = (50.0, 100.0, 250.0, 1000.0, math.inf)
FAST, SLOW, CRAWLING = (900, 95, 5, 0, 0), (100, 850, 50, 0, 0), (0, 0, 10, 990, 0)
CALM, NOISY = Quietness(0.01, 0.0, 2.0), Quietness(0.6, 0.0, 400.0)
STEADY, SHAKEN = (Calibration(50, 60), Calibration(51, 70)), (Calibration(50, 60), Calibration(50, 9000))
PROFILE = Profile(
    meaning="",
    window_days=28,
    objectives=[Objective("order-p99", "order_latency", 99, 100), Objective("up", "availability", 99.9)],
    gate=Gate(100, 5, 1000, 5, 1, 60, [Socket("socket-p99", "place", 99, 5000)]),
)


def window(counts: tuple[int, ...], quietness: Quietness = CALM) -> Window:
    return Window(0.0, quietness, {"order_latency": Histogram(BOUNDS, counts)})


def run(exit_code: int = 0, **found: Any) -> Run:
    right: dict[str, Any] = {
        "samples": 5000,
        "latency_us": {},
        "latency_by_us": {"place": {"99": 800.0}},
        "placed": 4000,
        "throughput_per_s": 100.0,
        "failed_ratio": 0.0,
        "checks_ratio": 1.0,
        "wrong": {},
        "dropped": 0,
        "thresholds": "ok",
    }
    return Run("order_flow", exit_code, "its last words", Findings(**(right | found)))


def judge(
    windows: list[Window], one: Run | None = None, steady: Any = STEADY, availability: Any = (5000, 0)
) -> Attempt:
    return judged(PROFILE, windows, availability, [one or run()], steady, {})


def verdicts(found: Attempt) -> dict[str, Verdict]:
    return {row.name: row.verdict for row in found.rows}


def test_met_objectives_pass():
    found = judge([window(FAST)] * 5)

    assert (found.verdict, found.problems, found.shortfalls, found.calm) == (PASS, [], [], True)
    assert verdicts(found) == {"order-p99": PASS, "up": PASS, "socket-p99": PASS}


def test_a_miss_in_quiet_windows_fails():
    assert judge([window(SLOW)] * 5).verdict == FAIL


def test_a_miss_in_noisy_windows_is_inconclusive():
    assert judge([window(SLOW, NOISY)] * 5).verdict == INCONCLUSIVE


def test_a_miss_beside_an_unsteady_calibration_is_inconclusive():
    assert judge([window(SLOW)] * 5, steady=SHAKEN).verdict == INCONCLUSIVE


def test_meeting_the_objectives_in_spite_of_noise_passes():
    assert judge([window(FAST, NOISY)] * 5).verdict == PASS


def test_noise_in_one_window_does_not_spoil_the_others():
    assert judge([window(FAST), window(CRAWLING, NOISY), window(FAST), window(FAST)]).verdict == PASS


def test_the_window_behind_a_noisy_one_is_not_held_against_the_build():
    found = judge([window(FAST), window(FAST, NOISY), window(SLOW), window(FAST), window(FAST)])

    assert (found.verdict, found.quiet) == (PASS, [True, False, False, True, True])


def test_seconds_in_which_nothing_happened_do_not_speak_for_the_build():
    # Two thirds of the seconds with orders missed it; the run begins and ends with seconds without any.
    idle = window((0, 0, 0, 0, 0))

    assert judge([idle] * 3 + [window(SLOW)] * 4 + [window(FAST)] * 2 + [idle] * 3).verdict == FAIL


def test_one_bad_second_is_no_slow_build_and_no_pass_either():
    assert judge([window(FAST)] * 6 + [window(CRAWLING)]).verdict == INCONCLUSIVE


def test_a_median_far_beyond_the_threshold_fails_on_a_noisy_machine_too():
    assert judge([window(CRAWLING, NOISY)] * 5, steady=SHAKEN).verdict == FAIL


def test_unless_the_machine_itself_was_slower():
    slower = (Calibration(50, 60), Calibration(200, 250))

    assert judge([window(CRAWLING, NOISY)] * 5, steady=slower).verdict == INCONCLUSIVE


def test_too_few_orders_are_no_pass():
    found = judge([window((10, 0, 0, 0, 0))], run(placed=10))

    assert (found.verdict, verdicts(found)["order-p99"]) == (INCONCLUSIVE, INCONCLUSIVE)


STREAMS = Objective("ws-p99", "ws_latency", 99, 100)


@pytest.mark.parametrize(
    ("messages", "quietness", "verdict"),
    [(0, CALM, FAIL), (0, NOISY, FAIL), (40, CALM, FAIL), (40, NOISY, INCONCLUSIVE)],
    ids=["none, calm", "none, noisy", "too few, calm", "too few, noisy"],
)
def test_a_feed_that_tells_nobody_of_orders_that_were_answered_fails(messages, quietness, verdict):
    profile = replace(PROFILE, objectives=[*PROFILE.objectives, STREAMS])
    told = Histogram(BOUNDS, (messages, 0, 0, 0, 0))
    quiet = Histogram(BOUNDS, (0, 0, 0, 0, 0))
    windows = [
        Window(0.0, quietness, {"order_latency": Histogram(BOUNDS, FAST), "ws_latency": streamed})
        for streamed in (told, quiet, quiet, quiet, quiet)
    ]

    found = judged(profile, windows, (5000, 0), [run()], STEADY, {})

    assert (found.verdict, verdicts(found)["ws-p99"]) == (verdict, verdict)


def test_no_windows_are_no_pass():
    assert judge([], run(placed=0)).verdict == INCONCLUSIVE


@pytest.mark.parametrize(
    "wrong",
    [
        run(99, wrong={"a repeat gets the first answer": 3}, thresholds=["checks: rate==1"]),
        run(99, failed_ratio=0.001, thresholds=["http_req_failed: rate==0"]),
        run(0, samples=0),
        run(107),
        Run("order_flow", 0, "it could not write", None),
    ],
    ids=["a wrong answer", "a failed request", "nothing right", "k6 gave up", "no findings"],
)
@pytest.mark.parametrize("quietness", [CALM, NOISY], ids=["calm", "noisy"])
def test_what_noise_can_not_explain_fails_on_any_machine(wrong: Run, quietness: Quietness):
    found = judge([window(FAST, quietness)] * 5, wrong)

    assert found.verdict == FAIL
    assert found.problems


@pytest.mark.parametrize(
    ("quietness", "verdict"), [(CALM, FAIL), (NOISY, INCONCLUSIVE)], ids=["calm", "noisy"]
)
def test_load_that_was_not_offered_is_never_a_pass(quietness: Quietness, verdict: Verdict):
    dropped = run(99, dropped=7, thresholds=["dropped_iterations: count<1"])

    found = judge([window(FAST, quietness)] * 5, dropped)

    assert (found.verdict, found.shortfalls) == (verdict, ["order_flow: dropped_iterations: count<1"])


def test_answers_that_the_venue_did_not_count_fail():
    found = judge([window(FAST)] * 2)

    assert (found.verdict, found.problems) == (
        FAIL,
        ["k6 had 4000 answers to orders, the venue counted only 2000"],
    )


@pytest.mark.parametrize("quietness", [CALM, NOISY], ids=["calm", "noisy"])
def test_failures_of_the_venue_are_its_own_on_any_machine(quietness: Quietness):
    assert judge([window(FAST, quietness)] * 5, availability=(5000, 20)).verdict == FAIL


@pytest.mark.parametrize(
    ("quietness", "verdict"), [(CALM, FAIL), (NOISY, INCONCLUSIVE)], ids=["calm", "noisy"]
)
def test_what_k6_sees_from_outside_counts_on_a_calm_machine(quietness: Quietness, verdict: Verdict):
    outside = run(latency_by_us={"place": {"99": 6000.0}})

    assert judge([window(FAST, quietness)] * 5, outside).verdict == verdict


def test_a_socket_that_was_not_measured_fails():
    assert judge([window(FAST)] * 5, run(latency_by_us={})).verdict == FAIL
