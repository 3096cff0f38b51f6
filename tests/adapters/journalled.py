"""What an engine would have journalled: generated flow, applied in batches, as frames."""

from __future__ import annotations

from random import Random

from tests.core.flow import Flow
from tradsys.codec.frame import encode_payload
from tradsys.core.shard import Shard
from tradsys.venue.ports import Entry, Frame


class Recording:
    """A shard under generated flow. `frames` are what it did, in order; `shard` is where it stands."""

    def __init__(self, seed: int, batch_max: int = 20) -> None:
        self.flow = Flow(seed)
        self.shard = Shard("a")
        self.frames: list[Frame] = []
        self._batches = Random(seed)
        self._batch_max = batch_max

    def record(self, commands: int) -> list[Frame]:
        """At least so many commands more; the frames of them."""
        until = self.flow.seq + commands
        begin = len(self.frames)
        while self.flow.seq < until:
            self._one_frame(self._batches.randint(1, self._batch_max))
        return self.frames[begin:]

    def _one_frame(self, commands: int) -> None:
        first_seq, entries = self.flow.seq + 1, []
        for _ in range(commands):
            command = self.flow.next(self.shard.work_due, self.shard.next_expiry)
            if not entries:
                time_ns = self.flow.time_ns
            events = self.shard.apply(command, self.flow.seq, time_ns)
            self.flow.saw(events)
            entries.append(Entry(command, events))
        self.frames.append(Frame(first_seq, time_ns, 1, entries, encode_payload(entries)))


def last_seq(frame: Frame) -> int:
    return frame.first_seq + len(frame.entries) - 1
