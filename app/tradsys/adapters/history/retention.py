"""Which segments of the journal nobody needs any more.

A segment may go when all of its commands are in two verified snapshots and in the read model, when none of
these ends with its last one, and when the newest of them is older than the idempotency window. The oldest
goes first, one name at a time, so that a crash in between leaves a journal that is only longer than it need
be. The last segment always stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from tradsys.adapters.history.snapshots import sync_directory
from tradsys.codec.frame import CHAIN_BYTES, FRAME_OVERHEAD, FrameError, decode_frame

FIRST_FRAME_BYTES_MAX = CHAIN_BYTES + FRAME_OVERHEAD + 64


class Needed(Struct, frozen=True):
    """What must stay."""

    after_seq: int
    """Commands with greater numbers, and this one: its frame's chain is what snapshot and read model know."""
    since_ns: int
    """Commands of this engine time or later."""


def retire(segments: Callable[[], Sequence[Path]], needed: Needed) -> list[Path]:
    """Remove the segments that hold nothing needed; returns them. `segments` gives all, oldest first."""
    paths = segments()
    gone: list[Path] = []
    for path, following in pairwise(paths):
        begin = _begin_of(following)
        # The next segment's first frame was written right after this one's last; that may have been an epoch,
        # so that the next one's chain need not be that of its last command.
        if begin is None or begin[0] > needed.after_seq or begin[1] >= needed.since_ns:
            break
        path.unlink()
        sync_directory(path.parent)
        gone.append(path)
    return gone


def first_seq_of(segments: Sequence[Path]) -> int | None:
    """The first command of what is left of the journal; None: nothing is there."""
    begin = _begin_of(segments[0]) if segments else None
    return None if begin is None else begin[0]


def _begin_of(path: Path) -> tuple[int, int] | None:
    """(first seq, time ns) of a segment; None: nothing has been written to it."""
    with path.open("rb") as file:
        data = file.read(FIRST_FRAME_BYTES_MAX)
    try:
        frame = decode_frame(data, CHAIN_BYTES, 0)
    except FrameError:
        return None
    return frame.first_seq, frame.time_ns
