"""When a snapshot is due: how much a start may have to replay, and what that is worth."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tradsys.adapters.history.schedule import Schedule

EVERY = 50_000


@pytest.fixture
def schedule() -> Schedule:
    """The last one was begun after command 1,000,000, ten seconds after the epoch, and took two seconds."""
    schedule = Schedule(EVERY)
    schedule.began(1_000_000, 10.0)
    schedule.cost(2.0)
    return schedule


def commands_until_due(schedule: Schedule, behind: int, now_s: float) -> int:
    steps = range(0, 10_000_000, 10_000)
    return next(since for since in steps if schedule.due(1_000_000 + since, behind, now_s))


@pytest.mark.parametrize(
    "behind,now_s,since",
    [
        (0, 29.9, 100_000),
        (0, 30.0, 50_000),
        (0, 1_000.0, 50_000),
        (100_000, 29.9, 100_000),
        (900_000, 29.9, 900_000),
        (900_000, 30.0, 50_000),
    ],
)
def test_it_is_due_when_it_is_cheap_or_when_a_start_would_replay_twice_what_it_must(
    schedule, behind, now_s, since
):
    assert commands_until_due(schedule, behind, now_s) == since


def test_the_first_one_is_due_after_as_many_commands_as_are_wanted_between_two():
    assert not Schedule(EVERY).due(EVERY - 1, 10_000_000, 0.0)
    assert Schedule(EVERY).due(EVERY, 10_000_000, 0.0)
    assert not Schedule(EVERY, 7).due(EVERY, 0, 0.0)


def test_a_long_backlog_is_followed_with_few_snapshots():
    """A million commands, 25 µs each; a snapshot takes 8 µs for each command so far."""
    schedule, now_s, end, seqs = Schedule(EVERY), 0.0, 1_000_000, []
    for seq in range(1_000, end + 1, 1_000):
        now_s += 0.025
        if schedule.due(seq, end - seq, now_s):
            seqs.append(seq)
            schedule.began(seq, now_s)
            now_s += seq * 8e-6
            schedule.cost(seq * 8e-6)

    left_and_since = [(end - seq, seq - before) for before, seq in pairwise([0, *seqs, end])]
    assert len(seqs) < 10
    assert all(since <= max(2 * EVERY, left + 1_000) for left, since in left_and_since)
