"""The replay of one frame, as much as the engine has done for it. Compiled in a release."""

from __future__ import annotations

from msgspec import Raw

from tradsys.codec.frame import encode_payload
from tradsys.core.shard import Shard
from tradsys.venue.ports import Entry, Frame


def replay(shard: Shard, frame: Frame) -> bytes:
    """Apply the frame's commands; the payload that they make now."""
    seq: int = frame.first_seq
    now: int = frame.time_ns
    entries: list[Entry | Raw] = []
    for entry in frame.entries:
        command = entry.command
        events = shard.apply(command, seq, now)
        # What a record of the order needed in bytes is encoded already.
        encoded = shard.entry
        entries.append(Raw(encoded) if encoded else Entry(command, events))
        seq += 1
    return encode_payload(entries)
