"""What a venue's /metrics say, and what happened between two scrapes of them.

A histogram of Prometheus counts events up to each of its bounds. What share of them was within a bound is
therefore known exactly. A percentile, and a threshold between two bounds, are interpolated: as if the events
of a bucket lay evenly between its bounds, which is how Prometheus's own histogram_quantile does it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]


class Histogram(Struct, frozen=True):
    """Counts by bound, not cumulated; the last bound is infinite."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def count(self) -> float:
        return sum(self.counts)

    def minus(self, earlier: Self) -> Histogram:
        """What came since. Raises ValueError if it shrank, which a restart does, or if the bounds differ."""
        if self.bounds != earlier.bounds:
            raise ValueError("the bounds of the histogram have changed")
        counts = tuple(now - before for now, before in zip(self.counts, earlier.counts, strict=True))
        if min(counts, default=0) < 0:
            raise ValueError("the histogram has shrunk: its process has been started again")
        return Histogram(self.bounds, counts)

    def plus(self, other: Self) -> Histogram:
        return Histogram(
            self.bounds, tuple(one + more for one, more in zip(self.counts, other.counts, strict=True))
        )

    def within(self, threshold: float) -> float:
        """The share of events up to the threshold: exact at a bound, else interpolated; NaN of none."""
        if not self.count:
            return math.nan
        inside, lower = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if bound <= threshold:
                inside += count
            else:
                if not math.isinf(bound):
                    inside += count * (threshold - lower) / (bound - lower)
                break
            lower = bound
        return inside / self.count

    def exact_at(self, threshold: float) -> bool:
        return any(math.isclose(bound, threshold) for bound in self.bounds)

    def percentile(self, percent: float) -> float:
        """Interpolated; the greatest finite bound if it lies beyond that, NaN of no events."""
        if not self.count:
            return math.nan
        rank, below, lower = percent / 100 * self.count, 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count and below + count >= rank:
                return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / count
            below += count
            lower = lower if math.isinf(bound) else bound
        return lower


class Scrape(Struct, frozen=True):
    """The samples of one page of metrics."""

    samples: dict[str, list[tuple[Labels, float]]]

    @classmethod
    def of(cls, text: str) -> Scrape:
        samples: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
        return cls(samples)

    def histogram(self, name: str, units_per_us: float) -> Histogram:
        """All series of a name added up, bounds in microseconds. Raises KeyError if there is none."""
        cumulated: dict[float, float] = {}
        for labels, value in self.samples[f"{name}_bucket"]:
            # Microseconds have at most three decimals here, and 0.00025 s is not exactly 250 µs.
            bound = round(float(labels["le"]) / units_per_us, 3)
            cumulated[bound] = cumulated.get(bound, 0.0) + value
        bounds = tuple(sorted(cumulated))
        below = (0.0, *(cumulated[bound] for bound in bounds[:-1]))
        return Histogram(
            bounds, tuple(cumulated[bound] - less for bound, less in zip(bounds, below, strict=True))
        )

    def total(self, name: str, chosen: Mapping[str, list[str]] | None = None) -> float:
        """A counter's series added up, those with the chosen label values; KeyError of no series."""
        return sum(
            value
            for labels, value in self.samples[name]
            if all(labels.get(label) in values for label, values in (chosen or {}).items())
        )
