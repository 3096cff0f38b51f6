"""A row of words as text for Prometheus.

The words are read while their writers go on, so a histogram may be one observation ahead of its sum.
Counts are made cumulative here, and each histogram is shown under all the names that it was declared with.
Each exposition has a registry of its own: nothing is shown that `metrics` does not declare.
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

from tradsys.metrics import Combined, Counter, Gauge, Histogram, Row, Series, Shown, label_values

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Samples = Sequence[tuple[tuple[str, ...], float]]
"""Label values and value of each sample of a derived gauge."""


class Exposition(Collector):
    """Renders a row's words and what is derived from them."""

    def __init__(
        self,
        row: Row,
        words: Callable[[], Sequence[int]],
        derive: Callable[[], Mapping[str, Samples]],
    ) -> None:
        """`words` and `derive` (the samples of the row's derived gauges by name) are asked each time."""
        self._row = row
        self._words = words
        self._derive = derive
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        derived = self._derive()
        words = self._words()
        for metric in self._row.metrics:
            if isinstance(metric, Histogram):
                yield from _histogram(metric, words)
            else:
                yield from _plain(metric, words)
        for combined in self._row.combined:
            yield _combined(combined, words)
        for gauge in self._row.derived:
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for labels, value in derived.get(gauge.name, ()):
                family.add_metric(labels, value)
            yield family


def _plain(metric: Counter | Gauge, words: Sequence[int]) -> Iterator[Metric]:
    labels = [name for name, _ in metric.labels]
    kind = CounterMetricFamily if isinstance(metric, Counter) else GaugeMetricFamily
    scale = metric.scale
    for name in metric.names:
        family: CounterMetricFamily | GaugeMetricFamily = kind(name, metric.help, labels=labels)
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


class Rate:
    """How much something grew per second, between two looks that are at least most of a second apart."""

    APART_S = 0.9

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None
        self._rate = 0.0

    def per_second(self, total: int, now: float) -> float:
        """`total` is the counter, `now` a monotonic time in seconds; a second scraper gets the same rate."""
        if self._before is None:
            self._before = now, total
        elif now - self._before[0] >= self.APART_S:
            self._rate = (total - self._before[1]) / (now - self._before[0])
            self._before = now, total
        return self._rate


def one(value: float) -> Samples:
    """The only sample of a gauge without labels."""
    return (((), value),)
