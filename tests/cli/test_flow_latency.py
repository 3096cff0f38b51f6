from __future__ import annotations

from random import Random

import pytest

from tradsys.flow.latency import Latency


def test_percentiles_are_within_two_percent_of_the_true_ones():
    draw = Random(1)
    durations = [int(draw.lognormvariate(12, 2)) for _ in range(20_000)]
    latency = Latency()
    for duration_ns in durations:
        latency.record(duration_ns)

    durations.sort()
    for percent, found_ns in zip((50, 90, 99, 100), latency.percentiles_ns((50, 90, 99, 100)), strict=True):
        assert found_ns == pytest.approx(durations[len(durations) * percent // 100 - 1], rel=0.02)
    assert latency.max_ns == durations[-1]


def test_without_durations_percentiles_are_zero():
    assert Latency().percentiles_ns((50, 99)) == [0, 0]
