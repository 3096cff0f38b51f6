"""What the log tells others, and asks them, about how far it is. The shared page provides it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """How far the log is written and synced, seen by every process of the shard at once."""

    @property
    def current(self) -> bool:
        """An engine has begun since the machine started; until then nothing here means anything."""

    @property
    def epoch(self) -> int: ...

    @property
    def segment(self) -> int:
        """The index of the segment that is being written."""

    @property
    def synced_segment(self) -> int:
        """All segments before this one are on the disk."""

    @property
    def prepared_segment(self) -> int:
        """The greatest index whose segment may be written to."""

    @property
    def published_seq(self) -> int: ...

    @property
    def durable_seq(self) -> int: ...

    @property
    def poisoned(self) -> bool:
        """A write or a sync has failed since the engine began."""

    def place(self) -> tuple[int, int, int] | None:
        """(published seq, segment, offset behind it), which belong together; None: ask again."""

    def begin(self, *, epoch: int, seq: int, segment: int, offset: int, prepared: int) -> None:
        """A new epoch has begun, and everything up to here is synced."""

    def publish(self, seq: int, segment: int, offset: int) -> None:
        """Everything up to `seq` is written, and the next frame goes to `offset` of `segment`."""

    def synced(self, seq: int, segment: int) -> None:
        """Everything up to `seq` is on the disk, and so are all segments before `segment`."""

    def prepared(self, segment: int) -> None:
        """The segment with this index may be written to."""

    def poison(self) -> None:
        """Nobody may sync any more, and the engine must stop."""
