"""The shared page: what the processes of a shard tell one another about the journal, and their counters.

A small file in the data directory, mapped by all of them: a row of 64-bit words, about 50 ns to read or
write. It is no message queue and holds no promise: it lives in memory, and after a power cut it means
nothing, which its boot word tells.

Each word has one writer, so that no word needs a lock:

    engine      how far the journal is written (`PUBLISHED_SEQ` last, after the place), its own syncs,
                its epoch, time and pid
    history     how far the journal is synced and when that was, which segment is prepared: the process
                that it has for this
    a follower  its word of `ASLEEP`: a number while it waits to be woken (waking.py), 0 otherwise
    any of them `POISONED`, which only ever becomes 1: a sync has failed, the engine must stop

`begin` alone, at the start of an engine, sets the words of others, too. Behind the header lie the words of
the metrics, named by `tradsys.metrics`; they go on counting over restarts.

The order of writes is what others see: true of x86-64, whose stores are not reordered.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b
from typing import Self

MAGIC_WORD = int.from_bytes(b"tradsys\0", "little")
LAYOUT = 2

# Words of the header. The engine's and the follower's lie in different cache lines (8 words each).
MAGIC, LAYOUT_VERSION, BOOT, EPOCH = 0, 1, 2, 3

PUBLISHED_SEQ = 8
"""The last command that is journalled and may be seen."""
APPENDED_SEQ = 9
"""Equal to PUBLISHED_SEQ, but written before POSITION: while they differ, POSITION is on the move."""
POSITION = 10
"""Where the next frame goes: index of the segment × 2^40 + offset."""
ENGINE_SYNCED_SEQ, ENGINE_SYNCED_SEGMENT = 11, 12
ENGINE_TIME_NS = 13
ENGINE_PID = 14

FOLLOWER_SYNCED_SEQ, FOLLOWER_SYNCED_SEGMENT = 16, 17
"""All of the journal up to this command is on the disk, and all of the segments before this one."""
PREPARED_SEGMENT = 18
"""The greatest index whose segment may be written to: zeroed, and its name on the disk."""
SYNC_ENDED_NS = 19
"""When history's last sync ended, or was found to be needless (monotonic)."""

POISONED = 24

ASLEEP = 32
"""The first of eight words, one for each follower."""
FOLLOWERS_MAX = 8

HEADER_WORDS = 64
METRIC_WORDS = 4096
PAGE_BYTES = 8 * (HEADER_WORDS + METRIC_WORDS)

OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1


class PageError(Exception):
    """The file is not a page of this release's layout."""


def boot_id() -> int:
    """Which run of this machine's kernel it is: another one after every power cut, crash or reboot."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return int.from_bytes(blake2b(file.read().strip(), digest_size=8).digest(), "little")


class Page:
    """The mapped page. `words` is the whole of it, `metrics` the counters' part; both are plain int rows.

    Reading and writing `words[PUBLISHED_SEQ]` and the like is for hot paths; the rest is for everyone else.
    """

    def __init__(self, path: str, boot: int, synced_words: tuple[int, int]) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(handle).st_size != PAGE_BYTES:
                raise PageError(f"{path} is no page of {PAGE_BYTES} bytes")
            self._map = mmap.mmap(handle, PAGE_BYTES)
        finally:
            os.close(handle)
        self.words = memoryview(self._map).cast("Q")
        self.metrics = self.words[HEADER_WORDS:]
        self.boot = boot
        self._synced_seq_word, self._synced_segment_word = synced_words
        if self.words[MAGIC] != MAGIC_WORD or self.words[LAYOUT_VERSION] != LAYOUT:
            self.close()
            raise PageError(f"{path} is no page of layout {LAYOUT}")

    @classmethod
    def create(cls, path: str, boot: int) -> Self:
        """The engine's page: the one at `path`, or a new one if there is none or it is of another layout.

        Call it holding the data directory's lock.
        """
        engine_words = ENGINE_SYNCED_SEQ, ENGINE_SYNCED_SEGMENT
        try:
            return cls(path, boot, engine_words)
        except (FileNotFoundError, PageError):
            new = path + ".new"
            with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(MAGIC_WORD.to_bytes(8, "little") + LAYOUT.to_bytes(8, "little"))
                file.truncate(PAGE_BYTES)
            os.rename(new, path)
            return cls(path, boot, engine_words)

    @classmethod
    def open(cls, path: str, boot: int) -> Self:
        """A follower's page. Raises FileNotFoundError or PageError as long as no engine has made it.

        Of the followers only history may call `synced` and `prepared`.
        """
        return cls(path, boot, (FOLLOWER_SYNCED_SEQ, FOLLOWER_SYNCED_SEGMENT))

    def close(self) -> None:
        self.metrics.release()
        self.words.release()
        self._map.close()

    # --- how far the journal is ---------------------------------------------------------------------

    @property
    def current(self) -> bool:
        """An engine has begun since the machine started; until then the other words are of the past."""
        return self.words[BOOT] == self.boot

    @property
    def epoch(self) -> int:
        return self.words[EPOCH]

    @property
    def published_seq(self) -> int:
        return self.words[PUBLISHED_SEQ]

    @property
    def durable_seq(self) -> int:
        words = self.words
        return max(words[ENGINE_SYNCED_SEQ], words[FOLLOWER_SYNCED_SEQ])

    @property
    def segment(self) -> int:
        """The index of the segment that is being written."""
        return self.words[POSITION] >> OFFSET_BITS

    @property
    def synced_segment(self) -> int:
        """All segments before this one are on the disk."""
        words = self.words
        return max(words[ENGINE_SYNCED_SEGMENT], words[FOLLOWER_SYNCED_SEGMENT])

    @property
    def prepared_segment(self) -> int:
        return self.words[PREPARED_SEGMENT]

    @property
    def poisoned(self) -> bool:
        return self.words[POISONED] != 0

    @property
    def sync_ended_ns(self) -> int:
        return self.words[SYNC_ENDED_NS]

    def place(self) -> tuple[int, int, int] | None:
        """(published seq, segment, offset behind it), which belong together; None: on the move, ask again."""
        words = self.words
        seq = words[PUBLISHED_SEQ]
        position = words[POSITION]
        if words[APPENDED_SEQ] != seq:
            return None
        return seq, position >> OFFSET_BITS, position & OFFSET_MASK

    # --- the engine's -------------------------------------------------------------------------------

    def begin(self, *, epoch: int, seq: int, segment: int, offset: int, prepared: int) -> None:
        """A new epoch has begun and everything up to here is synced; what was poisoned is recovered."""
        words = self.words
        words[ENGINE_PID] = os.getpid()
        words[EPOCH] = epoch
        words[FOLLOWER_SYNCED_SEQ] = words[ENGINE_SYNCED_SEQ] = seq
        words[FOLLOWER_SYNCED_SEGMENT] = words[ENGINE_SYNCED_SEGMENT] = segment
        words[PREPARED_SEGMENT] = prepared
        self.publish(seq, segment, offset)
        words[POISONED] = 0
        words[BOOT] = self.boot

    def publish(self, seq: int, segment: int, offset: int) -> None:
        """Everything up to `seq` is written, and the next frame goes to `offset` of `segment`."""
        words = self.words
        words[APPENDED_SEQ] = seq
        words[POSITION] = segment << OFFSET_BITS | offset
        words[PUBLISHED_SEQ] = seq

    # --- of whoever syncs ---------------------------------------------------------------------------

    def synced(self, seq: int, segment: int) -> None:
        """Everything up to `seq` is on the disk, and so are all segments before `segment`."""
        self.words[self._synced_segment_word] = segment
        self.words[self._synced_seq_word] = seq

    def sync_ended(self, now_ns: int) -> None:
        self.words[SYNC_ENDED_NS] = now_ns

    def prepared(self, segment: int) -> None:
        self.words[PREPARED_SEGMENT] = segment

    def poison(self) -> None:
        """A write or a sync has failed: nobody may sync any more, and the engine must stop."""
        self.words[POISONED] = 1
