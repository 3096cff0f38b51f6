"""The high-water mark: the log was once on the disk at least up to here, so it may never start shorter.

Two slots in sectors of their own, written in turn, so that a torn write leaves the other one; the valid one
with the greater count holds. The table is in `tradsys/codec/README.md`.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct as Layout

from msgspec import Struct

from tradsys.adapters.log.files import Files
from tradsys.venue.ports import JournalError

MARK_NAME = "high-water"
MARK_MAGIC = b"\xf5TSH"
MARK_FORMAT = 1
SLOT = Layout("<4sB3xQQQ16s16s")
"""magic, format, count of writes, seq, epoch, chain, hash of all that: 64 bytes"""
SLOT_DISTANCE = 4096
HASHED_BYTES = SLOT.size - 16


class Mark(Struct, frozen=True):
    """The frame that ends with `seq`, or one without commands behind it, has this chain."""

    seq: int = 0
    epoch: int = 0
    chain: bytes = bytes(16)


def _decode(slot: bytes) -> tuple[int, Mark] | None:
    if len(slot) != SLOT.size or blake2b(slot[:HASHED_BYTES], digest_size=16).digest() != slot[HASHED_BYTES:]:
        return None
    magic, version, count, seq, epoch, chain, _ = SLOT.unpack(slot)
    if magic != MARK_MAGIC or version != MARK_FORMAT:
        return None
    return count, Mark(seq, epoch, chain)


class MarkFile:
    """The file `high-water` of a data directory."""

    def __init__(self, directory: str, files: Files) -> None:
        """Raises FileNotFoundError if there is none, JournalError if neither slot can be read."""
        self._files = files
        self._handle = files.open(f"{directory}/{MARK_NAME}")
        self._count = 0
        self.mark = Mark()
        slots = [files.read(self._handle, SLOT.size, at) for at in (0, SLOT_DISTANCE)]
        valid = [decoded for slot in slots if (decoded := _decode(slot))]
        if valid:
            self._count, self.mark = max(valid, key=lambda slot: slot[0])
        elif any(any(slot) for slot in slots):
            raise JournalError(f"{directory}/{MARK_NAME}: neither slot is valid")

    @classmethod
    def create(cls, directory: str, files: Files) -> MarkFile:
        """A file with an empty mark, on the disk when this returns."""
        path = f"{directory}/{MARK_NAME}"
        handle = files.create(path + ".new")
        files.write(handle, bytes(2 * SLOT_DISTANCE), 0)
        files.datasync(handle)
        files.close(handle)
        files.rename(path + ".new", path)
        files.sync_directory(directory)
        return cls(directory, files)

    def write(self, mark: Mark) -> None:
        """On the disk when this returns. `mark.seq` must have been synced before. Raises OSError."""
        self._count += 1
        head = SLOT.pack(MARK_MAGIC, MARK_FORMAT, self._count, mark.seq, mark.epoch, mark.chain, bytes(16))
        slot = head[:HASHED_BYTES] + blake2b(head[:HASHED_BYTES], digest_size=16).digest()
        if self._files.write(self._handle, slot, self._count % 2 * SLOT_DISTANCE) != len(slot):
            raise JournalError(f"{MARK_NAME}: short write")
        self._files.datasync(self._handle)
        self.mark = mark

    def close(self) -> None:
        self._files.close(self._handle)
