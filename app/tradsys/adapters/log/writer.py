"""Write the log: the engine's side, on the path of every order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from msgspec import Raw

from tradsys.adapters.log.files import Files
from tradsys.adapters.log.mark import MARK_NAME, MarkFile
from tradsys.adapters.log.progress import Progress
from tradsys.adapters.log.recovery import PIECE_BYTES, Extent, Recovered
from tradsys.adapters.log.segments import make_segment, segment_indexes, segment_name, segment_path
from tradsys.adapters.log.sync import LogSync
from tradsys.codec.frame import (
    CHAIN_BYTES,
    CLOSED_FRAME,
    COMMANDS_FRAME,
    EPOCH_FRAME,
    FRAME_OVERHEAD,
    SEGMENT_FRAME,
    encode_frame,
    encode_payload,
    encode_segment_payload,
    join_payloads,
)
from tradsys.venue.ports import Entry, JournalError

RESERVE_SHARE = 4
"""The last quarter of a segment: without a next one, the venue is cancel-only from there on."""
GROUP_BYTES_MAX = 256 << 10
"""A group that has become so large is written at once."""
FRAME_COMMANDS_MAX = 1_000
"""As many as a batch may have: whoever reads frames has room for that."""
LAST_SHARE = 6
LAST_BYTES_MAX = 192 << 10
"""The last sixth, at most this much: without a next one, nothing at all is taken there, so that no frame
ever finds too little room. The largest one of a venue without space is 1,000 cancels with the longest names,
and 1,000 orders that expire before them: 161,000 bytes."""

SEGMENT_START_BYTES_MAX = CHAIN_BYTES + FRAME_OVERHEAD + 16
END_BYTES = 2 * FRAME_OVERHEAD
"""Kept free at the end of a segment: an epoch frame and a closed frame always find room."""

_Noted = tuple[int, int, bytes]
"""(time, commands, payload)"""


class LogWriter:
    """The journal of a venue (`venue.ports.Journal`). One thread of one process writes, holding the lock.

    Made by `begin`, from what `recover` has found.
    """

    def __init__(
        self,
        directory: str,
        files: Files,
        recovered: Recovered,
        progress: Progress,
        *,
        durable: bool,
        grouped: bool,
        segment_bytes: int,
    ) -> None:
        self._directory = directory
        self._files = files
        self._write = files.write
        self._datasync = files.datasync
        self._progress = progress
        self._durable = durable
        self._grouped = grouped
        self._group: list[_Noted] = []
        """What waits for `commit`."""
        self._group_bytes = 0
        """What they take at most."""
        self._segment_bytes = segment_bytes
        self._frame_bytes_max = segment_bytes - SEGMENT_START_BYTES_MAX - END_BYTES
        self._sync = LogSync(directory, files, progress)
        self._failure = ""
        self.writes = self.bytes_written = 0
        """Since the start."""
        self.epoch = recovered.epoch
        self.seq = recovered.seq
        """The last command taken."""
        self.chain = recovered.chain
        self.segment = recovered.segment
        self.offset = recovered.offset
        """Where the next frame goes."""
        self._handle = -1
        self._end = 0
        self._reserve_from = 0
        self._last_from = 0

    @classmethod
    def begin(
        cls,
        directory: str,
        files: Files,
        recovered: Recovered,
        progress: Progress,
        *,
        durable: bool,
        segment_bytes: int,
        time_ns: int,
        grouped: bool = False,
    ) -> LogWriter:
        """Take the log over: make certain what was found, cut what is stale, and begin a new epoch.

        When this returns all of it is on the disk, and the page says so. `durable`: `append` returns
        when the frame is on the disk. `grouped`: `append` only takes note, and `commit` does what it would
        have done, for all frames since the last one at once; until then nobody may be told of them.
        Raises JournalError: recover again, nothing was promised.
        """
        writer = cls(
            directory,
            files,
            recovered,
            progress,
            durable=durable,
            grouped=grouped,
            segment_bytes=segment_bytes,
        )
        try:
            writer._take_over(recovered, time_ns)
        except OSError as error:
            writer._fail(f"begin: {error}")
        return writer

    def append(self, first_seq: int, time_ns: int, entries: Sequence[Entry | Raw]) -> None:
        """Write a batch as one frame, or as several where it is larger than a segment.

        Raises JournalError: whether the batch will be found after a restart is unknown, and nothing can
        be appended any more.
        """
        if self._failure:
            self._fail(self._failure)
        assert first_seq == self.seq + 1 and entries
        try:
            payload = encode_payload(entries)
        except (OverflowError, TypeError, ValueError) as error:
            self._fail(f"seq {first_seq} can't be encoded: {error}")
        size = FRAME_OVERHEAD + len(payload)
        if self.offset + self._group_bytes + size > self._end - END_BYTES:
            if size > self._frame_bytes_max and len(entries) > 1:
                half = len(entries) // 2
                self.append(first_seq, time_ns, entries[:half])
                self.append(first_seq + half, time_ns, entries[half:])
                return
            if size > self._frame_bytes_max:
                self._fail(f"seq {first_seq} takes {size} bytes, more than a segment holds")
            self._roll(time_ns)
        self._group.append((time_ns, len(entries), payload))
        self._group_bytes += size
        self.seq += len(entries)
        if not self._grouped or self._group_bytes > GROUP_BYTES_MAX:
            self._write_group()

    def commit(self) -> None:
        """Write what was taken note of, and let it be seen.

        Raises JournalError, also if an `append` since the last commit had to write it, and failed.
        """
        if not self._group:
            return
        try:
            if self._failure:
                self._fail(self._failure)
            self._write_group()
        finally:
            self._forget_group()

    def _write_group(self) -> None:
        """What fails stays in the group: whoever waits for its `commit` must hear of it, too."""
        group = self._group
        if not group:
            return
        if self._progress.poisoned:
            self._fail("a sync failed in another process")
        seq = first_seq = self.seq - sum([count for _, count, _ in group]) + 1
        frames = []
        for time_ns, count, payload in _joined(group):
            frame = encode_frame(
                self.chain, COMMANDS_FRAME, self._durable, self.epoch, seq, count, time_ns, payload
            )
            self.chain = frame[-CHAIN_BYTES:]
            seq += count
            frames.append(frame)
        written = frames[0] if len(frames) == 1 else b"".join(frames)
        self._write_or_fail(written, self.offset, first_seq)
        self.offset += len(written)
        self._publish()
        self._forget_group()

    def _forget_group(self) -> None:
        self._group.clear()
        self._group_bytes = 0

    def _publish(self) -> None:
        """What is written may be seen."""
        if self._durable:
            # Synced before it is published, so that no follower sees a frame that may be withdrawn.
            self._datasync_or_fail()
            self._progress.publish(self.seq, self.segment, self.offset)
            self._progress.synced(self.seq, self.segment)
        else:
            self._progress.publish(self.seq, self.segment, self.offset)

    def space(self) -> bool:
        """False: the last quarter of the segment is begun, and the next segment is not prepared."""
        taken = self.offset + self._group_bytes
        return taken < self._reserve_from or self._progress.prepared_segment > self.segment

    def exhausted(self) -> bool:
        """The segment is all but full and there is no next one: nothing more can be taken now."""
        taken = self.offset + self._group_bytes
        return taken >= self._last_from and self._progress.prepared_segment <= self.segment

    def sync(self) -> None:
        """What the follower does, for when it is gone. Raises JournalError."""
        self.commit()
        try:
            self._sync.sync()
        except JournalError as error:
            self._fail(str(error))

    def close(self, time_ns: int) -> None:
        """The end of a drain: sync everything, and say so by a last frame. Nothing can be appended then.

        Raises JournalError.
        """
        self.sync()
        self._put(CLOSED_FRAME, self.seq + 1, 0, time_ns, b"")
        self._datasync_or_fail()
        self._progress.publish(self.seq, self.segment, self.offset)
        self._failure = "the journal is closed"
        self._files.close(self._handle)
        self._sync.close()

    # --- frames -------------------------------------------------------------------------------------

    def _put(self, kind: int, first_seq: int, count: int, time_ns: int, payload: bytes) -> None:
        """One frame, one write, at the current place."""
        frame = encode_frame(self.chain, kind, self._durable, self.epoch, first_seq, count, time_ns, payload)
        self._write_or_fail(frame, self.offset, first_seq)
        self.chain = frame[-CHAIN_BYTES:]
        self.offset += len(frame)

    def _write_or_fail(self, frames: bytes, offset: int, seq: int) -> None:
        try:
            written = self._write(self._handle, frames, offset)
        except OSError as error:
            self._fail(f"write of seq {seq}: {error}")
        if written != len(frames):
            self._fail(f"write of seq {seq}: {written} of {len(frames)} bytes")
        self.writes += 1
        self.bytes_written += written

    def _datasync_or_fail(self) -> None:
        try:
            self._datasync(self._handle)
        except OSError as error:
            self._progress.poison()
            self._fail(f"sync of seq {self.seq}: {error}")

    def _roll(self, time_ns: int) -> None:
        """Go on in the next segment. The old one is not synced here: `LogSync` does, or `append` did."""
        self._write_group()
        index = self.segment + 1
        if self._progress.prepared_segment < index:
            self._fail(f"segment {self.segment} is full, and the next one is not prepared")
        try:
            handle = self._files.open(segment_path(self._directory, index))
            self._files.close(self._handle)
            self._enter(index, handle)
            self._start_segment(time_ns)
        except OSError as error:
            self._fail(f"segment {index}: {error}")

    def _enter(self, index: int, handle: int) -> None:
        self._handle = handle
        self.segment = index
        self.offset = 0
        self._end = self._files.size(handle)
        self._reserve_from = self._end - self._end // RESERVE_SHARE
        self._last_from = self._end - min(self._end // LAST_SHARE, LAST_BYTES_MAX)

    def _start_segment(self, time_ns: int) -> None:
        """The chain before, and the segment's own frame."""
        if self._write(self._handle, self.chain, 0) != CHAIN_BYTES:
            self._fail(f"start of segment {self.segment}: short write")
        self.offset = CHAIN_BYTES
        self._put(SEGMENT_FRAME, self.seq + 1, 0, time_ns, encode_segment_payload(self.segment))

    # --- taking over --------------------------------------------------------------------------------

    def _take_over(self, recovered: Recovered, time_ns: int) -> None:
        directory, files = self._directory, self._files
        if MARK_NAME not in files.list(directory):
            MarkFile.create(directory, files).close()
        if not recovered.offset:
            self._make_segment(self.segment)
        self._settle(recovered)
        files.sync_directory(directory)
        prepared = self._last_prepared()
        self._enter(self.segment, files.open(segment_path(directory, self.segment)))
        self.offset = recovered.offset
        if not self.offset:
            self._start_segment(time_ns)
        elif self.offset + END_BYTES > self._end:
            files.close(self._handle)
            if prepared == self.segment:
                self._make_segment(self.segment + 1)
                prepared += 1
            self._enter(self.segment + 1, files.open(segment_path(directory, self.segment + 1)))
            self._start_segment(time_ns)
        self.epoch = recovered.next_epoch
        self._put(EPOCH_FRAME, self.seq + 1, 0, time_ns, b"")
        self._datasync_or_fail()
        self._progress.begin(
            epoch=self.epoch, seq=self.seq, segment=self.segment, offset=self.offset, prepared=prepared
        )

    def _settle(self, recovered: Recovered) -> None:
        """Write what was found again, so that a sync that failed before is made good; zero what is cut.

        In this order, each synced, and before the epoch frame: after a crash in between, the log still
        ends at the same place.
        """
        for extent in recovered.unsynced:
            self._rewrite(extent, zero=False)
        for extent in recovered.stale:
            if recovered.offset or extent.segment != recovered.segment:
                self._rewrite(extent, zero=True)

    def _rewrite(self, extent: Extent, *, zero: bool) -> None:
        files = self._files
        handle = files.open(segment_path(self._directory, extent.segment))
        try:
            for start in range(extent.start, extent.end, PIECE_BYTES):
                length = min(PIECE_BYTES, extent.end - start)
                data = bytes(length) if zero else files.read(handle, length, start)
                if files.write(handle, data, start) != length:
                    self._fail(f"{segment_name(extent.segment)} offset {start}: short write")
            files.datasync(handle)
        finally:
            files.close(handle)

    def _make_segment(self, index: int) -> None:
        if not make_segment(self._directory, self._files, index, self._segment_bytes):
            self._fail(f"no space for segment {index}")

    def _last_prepared(self) -> int:
        """The last of the segments that can be written to; one of another size is made anew."""
        index = self.segment
        present = segment_indexes(self._directory, self._files)
        while index + 1 in present:
            handle = self._files.open(segment_path(self._directory, index + 1))
            size = self._files.size(handle)
            self._files.close(handle)
            if size != self._segment_bytes:
                break
            index += 1
        return index

    def _fail(self, detail: str) -> NoReturn:
        self._failure = detail
        raise JournalError(f"journal: {detail}")


def _joined(group: Sequence[_Noted]) -> list[_Noted]:
    """The frames of a group: what has one time is one frame, up to a limit."""
    frames = []
    begin = commands = 0
    for end, (time_ns, count, _) in enumerate(group):
        if end > begin and (time_ns != group[begin][0] or commands + count > FRAME_COMMANDS_MAX):
            frames.append(_one_frame(group[begin:end], commands))
            begin, commands = end, 0
        commands += count
    frames.append(_one_frame(group[begin:], commands))
    return frames


def _one_frame(alike: Sequence[_Noted], commands: int) -> _Noted:
    if len(alike) == 1:
        return alike[0]
    return alike[0][0], commands, join_payloads([payload for _, _, payload in alike], commands)
