"""Counting in the engine: a metric is a word or two in the shared page, and nothing else."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from tradsys.metrics import Series


def counter_of(words: memoryview[int], series: Series) -> Callable[[int], None]:
    """A function that counts one value (ns, bytes, commands) into a histogram's words."""
    first, sum_word, bounds = series.first, series.sum, series.bounds

    def count(value: int) -> None:
        words[first + bisect_left(bounds, value)] += 1
        words[sum_word] += value

    return count
