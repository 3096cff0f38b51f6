"""The court: the real shard and the oracle get the same commands, and must say and become the same.

`python -m tests.core.judge SEED COUNT` tries one case; a difference is printed with the fewest commands
that still show it. Each command keeps its sequence number and its time, so that any of them can be left
out without renaming the orders of the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from tests.core.contents import contents_of
from tests.core.flow import Flow
from tests.core.oracle import OracleShard
from tradsys.core.messages import ACCEPTED_EVENT, Command, Event, PlaceOrder
from tradsys.core.shard import Shard

COMPARED_EVERY = 100
"""Commands between two comparisons of the whole state."""
SHRINKS_MAX = 400
"""Replays that the search for a short case may take."""


class Step(NamedTuple):
    command: Command
    seq: int
    time_ns: int


class Difference(AssertionError):
    """The core and the oracle disagree; the message holds all that is needed to see it again."""


class Court:
    """One real shard (and, once it was split, a twin that was restored from its snapshot) and its judge."""

    def __init__(self, order_pool_size: int = 0) -> None:
        self.oracle = OracleShard("main")
        self.shard = Shard("main", order_pool_size=order_pool_size)
        self.twin: Shard | None = None

    def hear(self, step: Step) -> list[Event]:
        """Apply one command everywhere. Raises Difference, with the events in question."""
        expected = self.oracle.apply(*step)
        try:
            verdict = self.verdict(step)
            events = self.shard.apply(*step)
            after_restore = self.twin.apply(*step) if self.twin is not None else expected
        except Exception as fault:
            raise Difference(f"events\n  expected {expected}\n  got      {fault!r}") from fault
        if events != expected:
            raise Difference(f"events\n  expected {expected}\n  got      {events}")
        if after_restore != expected:
            raise Difference(f"events after a restore\n  expected {expected}\n  got      {after_restore}")
        if verdict is not None and verdict != expected[0]:
            raise Difference(f"verdict\n  expected {expected[0]}\n  got      {verdict}")
        return events

    def verdict(self, step: Step) -> Event | None:
        """What the shard says about an order that is only tried; asking must change nothing.

        The twin is not asked: if asking did change something, their state hashes would part.
        """
        command = step.command
        if not isinstance(command, PlaceOrder) or self.oracle.names_nothing(command):
            return None
        if step.seq % 8 == 0:
            for account in self.oracle.accounts:
                self.shard.judge(replace(command, account=account), step.time_ns)
        refusal, _ = self.shard.judge(command, step.time_ns)
        return refusal or (ACCEPTED_EVENT, step.seq)

    def compare_states(self) -> None:
        self.oracle.check()
        try:
            self.shard.check()
        except AssertionError as broken:
            raise Difference(f"invariant: {broken}") from broken
        differences = list(different("", self.oracle.contents(), contents_of(self.shard)))
        if differences:
            raise Difference("state\n" + "\n".join(differences))

    def compare_with_twin(self) -> None:
        """After a restore the state hash stays the same; it is defined over the contents alone."""
        if self.twin is not None and self.twin.state_hash() != self.shard.state_hash():
            differences = list(different("", contents_of(self.shard), contents_of(self.twin)))
            raise Difference("state hash after a restore\n" + "\n".join(differences))

    def split(self) -> None:
        """Restore a twin from the snapshot, by way of the bytes that a file would hold."""
        self.twin = Shard.restore(list(self.shard.snapshot()))
        self.twin.check()
        self.compare_states()
        self.compare_with_twin()


def judge(seed: int, count: int) -> None:
    """Try `count` commands of a seed. Raises Difference with a short case that anybody can repeat."""
    flow, court = Flow(seed), Court(order_pool_size=seed % 3 * 20)
    split_after = 10 + count * (seed % 10) // 10
    steps: list[Step] = []
    try:
        for index in range(count):
            command = flow.next(court.oracle.work_due, court.oracle.next_expiry)
            steps.append(Step(command, flow.seq, flow.time_ns))
            flow.saw(court.hear(steps[-1]))
            if index == split_after:
                court.split()
            elif index % COMPARED_EVERY == 0:
                court.compare_states()
        court.compare_states()
        court.compare_with_twin()
    except Difference as difference:
        raise Difference(report(seed, steps, difference)) from difference


def report(seed: int, steps: list[Step], difference: Difference) -> str:
    short = shrink(steps)
    lines = [
        f"seed {seed}, command {len(steps) - 1}: {difference}",
        "the last commands:",
        *(f"  {step}" for step in steps[-5:]),
        f"{len(short)} commands that show a difference, states compared after each:",
        *(f"  {step}" for step in short),
        f"again: python -m tests.core.judge {seed} {len(steps)}",
    ]
    return "\n".join(lines)


def shrink(steps: list[Step]) -> list[Step]:
    """Leave out ever smaller parts, as long as some difference remains."""
    if not differs(steps):
        return steps  # It takes the pool, or the restore; the whole case is the shortest one known.
    replays = 0
    size = len(steps) // 2
    while size and replays < SHRINKS_MAX:
        start = 0
        while start < len(steps) and replays < SHRINKS_MAX:
            without = steps[:start] + steps[start + size :]
            replays += 1
            if differs(without):
                steps = without
            else:
                start += size
        size //= 2
    return steps


def differs(steps: list[Step]) -> bool:
    court = Court()
    try:
        for step in steps:
            court.hear(step)
            court.compare_states()
    except Difference:
        return True
    except Exception:
        return False  # What makes no sense to the oracle itself is no case.
    return False


def different(path: str, expected: Any, got: Any) -> Iterator[str]:
    """The leaves in which two states differ."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted({*expected, *got}, key=str):
            yield from different(f"{path}/{key}", expected.get(key, "—"), got.get(key, "—"))
    elif expected != got:
        yield f"  {path}: expected {expected}, got {got}"


if __name__ == "__main__":
    judge(int(sys.argv[1]), int(sys.argv[2]))
    print("no difference")
