"""What two scrapes of a histogram say about the time between them."""

from __future__ import annotations

import math

import pytest

from loadtests.slo.histograms import Histogram, Scrape

PAGE = """\
# TYPE order_seconds histogram
order_seconds_bucket{{le="5e-05"}} {a}
order_seconds_bucket{{le="0.0001"}} {b}
order_seconds_bucket{{le="+Inf"}} {c}
order_seconds_sum 1.0
order_seconds_count {c}
# TYPE store_microseconds histogram
store_microseconds_bucket{{operation="get",le="100.0"}} 3
store_microseconds_bucket{{operation="get",le="+Inf"}} 4
store_microseconds_bucket{{operation="put",le="100.0"}} 10
store_microseconds_bucket{{operation="put",le="+Inf"}} 10
# TYPE requests_total counter
requests_total{{status="2xx"}} {c}
requests_total{{status="5xx"}} 2
"""
INF = math.inf


def scrape(a: int, b: int, c: int) -> Scrape:
    return Scrape.of(PAGE.format(a=a, b=b, c=c))


def test_what_came_between_two_scrapes_is_their_difference_in_microseconds():
    before, after = (scrape(*counts).histogram("order_seconds", 1e-6) for counts in ((1, 2, 3), (5, 9, 10)))

    assert after.minus(before) == Histogram((50.0, 100.0, INF), (4, 3, 0))


def test_series_are_added_up_over_their_labels():
    assert scrape(0, 0, 0).histogram("store_microseconds", 1.0) == Histogram((100.0, INF), (13, 1))


def test_counters_are_added_up_over_chosen_labels():
    page = scrape(1, 2, 40)

    assert (page.total("requests_total"), page.total("requests_total", {"status": ["5xx"]})) == (42, 2)


def test_a_metric_that_is_not_there_is_no_zero():
    with pytest.raises(KeyError):
        scrape(0, 0, 0).histogram("orders_seconds", 1e-6)


def test_a_histogram_that_shrank_is_of_a_process_started_again():
    with pytest.raises(ValueError, match="started again"):
        Histogram((1.0, INF), (3, 0)).minus(Histogram((1.0, INF), (4, 0)))


@pytest.mark.parametrize(
    ("threshold", "share", "exact"),
    [(50, 0.5, True), (100, 0.9, True), (75, 0.7, False), (25, 0.25, False), (5_000, 0.9, False)],
)
def test_the_share_within_a_threshold_is_exact_at_a_bound_and_interpolated_between_two(
    threshold: float, share: float, exact: bool
):
    histogram = Histogram((50.0, 100.0, INF), (50, 40, 10))

    assert histogram.within(threshold) == pytest.approx(share)
    assert histogram.exact_at(threshold) == exact


@pytest.mark.parametrize(("percent", "value"), [(25, 25), (50, 50), (70, 75), (90, 100), (99, 100)])
def test_a_percentile_is_interpolated_and_never_beyond_the_last_bound(percent: float, value: float):
    assert Histogram((50.0, 100.0, INF), (50, 40, 10)).percentile(percent) == pytest.approx(value)


def test_of_no_events_nothing_is_said():
    nothing = Histogram((50.0, INF), (0, 0))

    assert math.isnan(nothing.within(50)) and math.isnan(nothing.percentile(99))
