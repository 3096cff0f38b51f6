"""Counting: a metric is a word or two in a row, and nothing else."""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Callable, MutableSequence
from typing import cast

from tradsys.metrics import Series


def counter_of(words: memoryview[int], series: Series) -> Callable[[int], None]:
    """A function that counts one value (ns, bytes, commands) into a histogram's words."""
    first, sum_word, bounds = series.first, series.sum, series.bounds

    def count(value: int) -> None:
        words[first + bisect_left(bounds, value)] += 1
        words[sum_word] += value

    return count


class Gathered:
    """A histogram that is counted in integers of its own, and goes into its words now and then.

    Words of a shared page cost the one who counts half as much again.
    """

    __slots__ = ("_series", "bounds", "counts", "sum")

    def __init__(self, series: Series) -> None:
        self._series = series
        self.bounds = series.bounds
        self.counts = [0] * len(series.counts)
        """By bound, and above them all; always the same list."""
        self.sum = 0

    def count(self, value: int, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def pour(self, words: MutableSequence[int]) -> None:
        """Add what was counted since the last time."""
        counts = self.counts
        for index, count in enumerate(counts):
            if count:
                words[self._series.first + index] += count
                counts[index] = 0
        words[self._series.sum] += self.sum
        self.sum = 0


class SharedRows:
    """Rows of words that processes forked from this one share, each with one writer at a time."""

    def __init__(self, count: int, words: int) -> None:
        self._count, self._length = count, words
        self._words = memoryview(mmap.mmap(-1, 8 * count * words)).cast("Q")

    def row(self, index: int) -> MutableSequence[int]:
        return cast(MutableSequence[int], self._words[index * self._length : (index + 1) * self._length])

    def sums(self) -> list[int]:
        """Word by word over all rows."""
        return [sum(column) for column in zip(*(self.row(i) for i in range(self._count)), strict=True)]
