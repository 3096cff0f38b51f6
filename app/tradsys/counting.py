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
