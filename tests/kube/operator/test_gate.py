"""When a release is as good as the one before, and when nobody can say."""

from __future__ import annotations

import pytest
from tradsys_operator import times
from tradsys_operator.api import Compare, GateRunSpec, GateRunStatus, Round
from tradsys_operator.gate import PENDING_S_MAX, Run, Seen, advance, side_of, summary_of, verdict
from tradsys_operator.revisions import Revision

from tests.kube.operator.world import START, a_round

COMPARE = Compare(
    max_latency_ratio_percent=110, min_throughput_ratio_percent=90, min_samples=10_000, rounds=2
)


def rounds(stable, candidate, **of_candidate):
    """A B B A with these p99, in µs."""
    return [
        a_round(0, "stable", stable[0]),
        a_round(1, "candidate", candidate[0], **of_candidate),
        a_round(2, "candidate", candidate[1], **of_candidate),
        a_round(3, "stable", stable[1]),
    ]


def said(made, compare=COMPARE, **more):
    found = verdict(made, compare, **more)
    return found.verdict, found.reason


def test_rounds_go_a_b_b_a():
    assert [side_of(index)[0] for index in range(8)] == list("sccsscc" + "s")


def test_as_fast_passes():
    assert said(rounds((100, 104), (103, 105))) == ("Pass", "AsGood")


def test_the_figures_are_medians_and_are_told():
    found = verdict(rounds((100, 104), (102, 110)), COMPARE)

    assert found.latency_ratio_percent == 104
    assert found.message == "p99 106 µs against 102 µs (104 %), throughput 100 %, 2 rounds each"


def test_slower_than_allowed_fails():
    assert said(rounds((100, 100), (111, 112))) == ("Fail", "Slower")


def test_exactly_the_bound_passes():
    assert said(rounds((100, 100), (110, 110))) == ("Pass", "AsGood")


def test_less_throughput_fails():
    assert said(rounds((100, 100), (100, 100), rate=899)) == ("Fail", "LessThroughput")


@pytest.mark.parametrize("code", [99, 108, 110])
def test_missed_thresholds_of_the_candidate_alone_fail(code):
    assert said(rounds((100, 100), (100, 100), exit_code=code)) == ("Fail", "ThresholdsMissed")


@pytest.mark.parametrize("code", [104, 107])
def test_a_wrong_script_is_nobodys_verdict(code):
    assert said(rounds((100, 100), (100, 100), exit_code=code)) == ("Inconclusive", "ScriptError")


@pytest.mark.parametrize("code", [1, 97, 100, 103, 105, 109, 137, 255])
def test_any_other_end_of_k6_is_infrastructure(code):
    assert said(rounds((100, 100), (100, 100), exit_code=code)) == ("Inconclusive", "Infrastructure")


@pytest.mark.parametrize("guard", [{"failed": 0.01}, {"checks": 0.99}, {"dropped": 1}])
def test_exit_code_0_without_its_guards_is_no_pass(guard):
    assert said(rounds((100, 100), (100, 100), **guard)) == ("Fail", "ThresholdsMissed")


@pytest.mark.parametrize("code", [0, 99])
def test_k6_that_left_nothing_is_no_verdict(code):
    assert said(rounds((100, 100), (100, 100), exit_code=code, summary="")) == ("Inconclusive", "NoVerdict")


def test_a_pod_without_an_exit_code_is_no_verdict():
    assert said(rounds((100, 100), (100, 100), exit_code=None)) == ("Inconclusive", "NoVerdict")


def test_too_few_samples_are_no_verdict():
    assert said(rounds((100, 100), (50, 50), samples=9_999)) == ("Inconclusive", "TooFewSamples")


def test_a_candidate_that_answers_too_little_of_the_load_that_the_stable_revision_answers_fails():
    assert said(rounds((100, 100), (900, 900), samples=2_500, rate=250)) == ("Fail", "Slower")
    assert said(rounds((100, 100), (100, 100), samples=2_500, rate=250)) == ("Fail", "LessThroughput")


def test_too_few_samples_of_the_stable_revision_are_no_verdict_whatever_the_candidate_did():
    few = [a_round(0, "stable", 100, samples=9_999), a_round(1, "candidate", 900, rate=100)]

    assert said(few) == ("Inconclusive", "TooFewSamples")


def test_no_rounds_are_no_verdict():
    assert said([]) == ("Inconclusive", "NoVerdict")


def test_a_noisy_environment_is_no_verdict_whatever_the_candidate_did():
    assert said(rounds((100, 120), (100, 100))) == ("Inconclusive", "NoisyEnvironment")
    assert said(rounds((100, 120), (900, 900))) == ("Inconclusive", "NoisyEnvironment")


def test_when_both_are_bad_the_candidate_is_not_blamed():
    made = [a_round(index, side_of(index), exit_code=99) for index in range(4)]

    assert said(made) == ("Inconclusive", "BaselineFails")


def test_a_stable_revision_that_misses_the_thresholds_in_one_round_only_shows_a_noisy_environment():
    made = rounds((100, 100), (100, 100))
    made[3] = a_round(3, "stable", exit_code=99, dropped=3)

    assert said(made) == ("Inconclusive", "NoisyEnvironment")


@pytest.mark.parametrize(
    ("stalls", "expected"),
    [
        ([{"dropped": 3}, {}], ("Inconclusive", "NoisyEnvironment")),
        ([{"dropped": 3}, {"dropped": 1}], ("Fail", "ThresholdsMissed")),
        ([{"dropped": 3, "failed": 0.01}, {}], ("Fail", "ThresholdsMissed")),
        ([{"dropped": 3, "checks": 0.99}, {}], ("Fail", "ThresholdsMissed")),
    ],
)
def test_one_stall_of_the_candidate_is_noise_and_a_wrong_answer_never_is(stalls, expected):
    made = rounds((100, 100), (100, 100))
    for index, stall in enumerate(stalls, start=1):
        made[index] = a_round(index, "candidate", exit_code=99 if stall else 0, **stall)

    assert said(made) == expected


def test_a_gate_that_must_be_pinned_says_when_it_was_not():
    made = [a_round(index, side_of(index), pinning="Pinned") for index in range(4)]
    assert said(made, pinned=True) == ("Pass", "AsGood")

    made[2] = a_round(2, "candidate", pinning="Shared")

    assert said(made, pinned=True) == ("Inconclusive", "NotPinned")


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "null", "not json", '{"samples":1}',
        '{"samples":1,"latency_us":{"99":-1},"throughput_per_s":1,"failed_ratio":0,"checks_ratio":1}',
        '{"samples":1,"latency_us":{"99":NaN},"throughput_per_s":1,"failed_ratio":0,"checks_ratio":1}',
        '{"samples":1,"latency_us":{"99":1e400},"throughput_per_s":1,"failed_ratio":0,"checks_ratio":1}',
    ],
)  # fmt: skip
def test_a_summary_that_can_not_be_read_is_none(text):
    assert summary_of(text) is None


@pytest.mark.parametrize(
    ("looked_s", "expected"), [(PENDING_S_MAX, ""), (PENDING_S_MAX + 1, "NoGateCapacity")]
)
def test_a_gate_pod_has_no_node_only_when_somebody_looked_for_so_long(looked_s, expected):
    """An hour ago its round began; the API server was away since, and the operator with it."""
    run = Run(
        name="gate",
        namespace="trading",
        uid="uid-1",
        spec=GateRunSpec(
            venue="crypto", stable="1", candidate="2", stable_image="a:1", candidate_image="a:2"
        ),
        status=GateRunStatus(
            phase="Running",
            rounds=[Round(index=0, side="stable", started_at=times.text(START - 3600), pod="gate-r0")],
        ),
    )
    pod = {"metadata": {"name": "gate-r0", "ownerReferences": [{"uid": "uid-1"}]}}
    seen = Seen(pods={"gate-r0": pod}, revisions={"1": Revision("1", "a:1", {}, {})}, since=START - looked_s)

    assert advance(run, seen, ("key", "token"), START).status.reason == expected
