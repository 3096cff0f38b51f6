"""Bring the log to the disk behind the engine's back, and say how far that is."""

from __future__ import annotations

from tradsys.adapters.log.files import Files
from tradsys.adapters.log.mark import Mark, MarkFile
from tradsys.adapters.log.progress import Progress
from tradsys.adapters.log.segments import segment_path
from tradsys.codec.frame import CHAIN_BYTES
from tradsys.venue.ports import JournalError


class LogSync:
    """Syncs what the engine has published. One failure is for ever, and stops the engine: see `sync`.

    The follower calls `sync` every few milliseconds and `mark` about once a second; the engine has one of
    its own for the drain, and for the day the follower is gone.
    """

    def __init__(self, directory: str, files: Files, progress: Progress) -> None:
        self._directory = directory
        self._files = files
        self._progress = progress
        self._handles: dict[int, int] = {}
        self._synced_place: tuple[int, int, int] | None = None
        self._mark_file: MarkFile | None = None
        self._failure = ""

    def sync(self) -> int:
        """Sync everything published; returns the sequence number up to which all is on the disk now.

        Does nothing, and returns 0, as long as no engine has begun on this boot.

        Raises JournalError if a sync fails, now or before: the page is poisoned, the engine must recover,
        and this object is of no use any more. The kernel may have dropped what it could not write, so
        that a second fdatasync would succeed and mean nothing.
        """
        self._check()
        progress = self._progress
        if not progress.current:
            return 0
        # In this order: what was published by now lies in this segment or in one before.
        place = progress.place()
        seq = progress.published_seq if place is None else place[0]
        segment = progress.segment
        if seq > progress.durable_seq:
            first = progress.synced_segment
            try:
                for index in range(first, segment + 1):
                    if index not in self._handles:
                        self._handles[index] = self._files.open(segment_path(self._directory, index))
                    self._files.datasync(self._handles[index])
            except OSError as error:
                self._fail(f"sync of segment {index}", error)
            progress.synced(seq, segment)
            for index in [index for index in self._handles if index < segment]:
                self._files.close(self._handles.pop(index))
        if place is not None:
            self._synced_place = place
        return max(seq, progress.durable_seq)

    def mark(self) -> None:
        """Raise the high-water mark to what was synced last. Raises JournalError like `sync`."""
        self._check()
        if self._synced_place is None:
            return
        seq, segment, offset = self._synced_place
        try:
            if self._mark_file is None:
                self._mark_file = MarkFile(self._directory, self._files)
            if seq <= self._mark_file.mark.seq:
                return
            handle = self._files.open(segment_path(self._directory, segment))
            chain = self._files.read(handle, CHAIN_BYTES, offset - CHAIN_BYTES)
            self._files.close(handle)
            self._mark_file.write(Mark(seq, self._progress.epoch, chain))
        except OSError as error:
            self._fail("high-water mark", error)

    def close(self) -> None:
        for handle in self._handles.values():
            self._files.close(handle)
        self._handles.clear()
        if self._mark_file is not None:
            self._mark_file.close()
            self._mark_file = None

    def _check(self) -> None:
        if self._failure:
            raise JournalError(self._failure)
        if self._progress.poisoned:
            raise JournalError("a write or a sync of the journal failed in another process")

    def _fail(self, what: str, error: OSError) -> None:
        self._failure = f"{what}: {error}"
        self._progress.poison()
        raise JournalError(self._failure) from error
