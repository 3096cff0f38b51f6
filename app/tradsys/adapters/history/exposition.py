"""The words of the page as text for Prometheus.

The words are read while their writers go on, so a histogram may be one observation ahead of its sum.
Counts are made cumulative here, and each histogram is shown under all the names that it was declared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from tradsys import metrics
from tradsys.metrics import Combined, Counter, Gauge, Histogram, Series, Shown, label_values

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Samples = Sequence[tuple[tuple[str, ...], float]]
"""Label values and value of each sample of a derived gauge."""


class Exposition(Collector):
    """Renders the words and what is derived from them."""

    def __init__(self, words: Sequence[int], derive: Callable[[], Mapping[str, Samples]]) -> None:
        """`derive` gives the samples of the gauges of `metrics.DERIVED` by name, as of now."""
        self._words = words
        self._derive = derive
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        words = self._words
        for metric in metrics.METRICS:
            if isinstance(metric, Histogram):
                yield from _histogram(metric, words)
            else:
                yield from _plain(metric, words)
        for combined in metrics.COMBINED:
            yield _combined(combined, words)
        derived = self._derive()
        for gauge in metrics.DERIVED:
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for labels, value in derived.get(gauge.name, ()):
                family.add_metric(labels, value)
            yield family


def _plain(metric: Counter | Gauge, words: Sequence[int]) -> Iterator[Metric]:
    labels = [name for name, _ in metric.labels]
    for name in metric.names:
        family: CounterMetricFamily | GaugeMetricFamily
        scale = 1
        if isinstance(metric, Counter):
            family = CounterMetricFamily(name, metric.help, labels=labels)
        else:
            family = GaugeMetricFamily(name, metric.help, labels=labels)
            scale = metric.scale
        for word, values in enumerate(label_values(metric.labels), metric.first):
            family.add_metric(values, words[word] / scale if scale > 1 else words[word])
        yield family


def _histogram(metric: Histogram, words: Sequence[int]) -> Iterator[Metric]:
    labels = [name for name, _ in metric.labels]
    for shown in metric.shown:
        family = HistogramMetricFamily(shown.name, metric.help, labels=labels)
        for values in label_values(metric.labels):
            _add(family, values, metric.series(*values), shown, words)
        yield family


def _combined(combined: Combined, words: Sequence[int]) -> Metric:
    family = HistogramMetricFamily(combined.shown.name, combined.help, labels=[combined.label])
    for value, series in combined.parts:
        _add(family, (value,), series, combined.shown, words)
    return family


def _add(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    series: Series,
    shown: Shown,
    words: Sequence[int],
) -> None:
    """Cumulative counts at the shown bounds; a bound that is not shown counts towards the next one."""
    buckets: list[tuple[str, float]] = []
    total = 0
    for word, bound in enumerate(series.bounds, series.first):
        total += words[word]
        if bound in shown.bounds:
            buckets.append((_number(bound / shown.scale), total))
    total += words[series.first + len(series.bounds)]
    buckets.append(("+Inf", total))
    family.add_metric(labels, buckets, words[series.sum] / shown.scale)


def _number(value: float) -> str:
    """A bound as a short decimal: Prometheus compares it as text, and k6 and the rules quote it."""
    return f"{value:.9f}".rstrip("0").rstrip(".")
