"""A histogram that is counted beside its words."""

from __future__ import annotations

from tradsys.counting import Gathered
from tradsys.metrics import Series


def test_what_was_gathered_is_added_to_the_words_once_each_value_within_its_bound():
    words = [0, 5, 0, 0, 100]
    gathered = Gathered(Series(1, 4, (10, 20)))

    for value in (3, 10, 11, 50):
        gathered.count(value)
    gathered.pour(words)
    gathered.pour(words)

    assert words == [0, 7, 1, 1, 174]


def test_a_value_may_count_as_often_as_it_came():
    words = [0, 0, 0, 0]
    gathered = Gathered(Series(0, 3, (10, 20)))

    gathered.count(15, 3)
    gathered.pour(words)

    assert words == [0, 3, 0, 45]


def test_it_goes_on_after_it_was_poured():
    words = [0, 0, 0, 0]
    gathered = Gathered(Series(0, 3, (10, 20)))

    for _ in range(2):
        gathered.count(15)
        gathered.pour(words)

    assert words == [0, 2, 0, 30]
