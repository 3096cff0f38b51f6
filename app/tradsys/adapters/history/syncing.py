"""What must go on however far the replay is behind: the journal to the disk, and its next segment.

Two threads of a process of its own (`compose/syncing.py`): a sync waits for nobody's interpreter. The
preparing one is apart, because zeros take long to reach a disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, MutableSequence, Sequence
from subprocess import PIPE, Popen
from time import monotonic_ns
from typing import Protocol

from tradsys import metrics
from tradsys.venue.ports import JournalError

MARK_EVERY_NS = 250_000_000
"""How often the high-water mark is raised."""
PREPARE_EVERY_S = 0.05
NO_SPACE_RETRY_S = 1.0
POISONED_RETRY_S = 0.05
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_log = logging.getLogger("tradsys.history")


class Progress(Protocol):
    """How far the journal is; the shared page provides it."""

    @property
    def current(self) -> bool:
        """An engine has begun since the machine started."""

    @property
    def published_seq(self) -> int: ...

    @property
    def durable_seq(self) -> int: ...

    @property
    def poisoned(self) -> bool:
        """A sync has failed: nobody may sync before an engine has recovered."""

    @property
    def sync_ended_ns(self) -> int:
        """When the last sync ended, or was found to be needless (monotonic)."""

    def sync_ended(self, now_ns: int) -> None: ...


class Sync(Protocol):
    """Brings the journal to the disk. Any JournalError is its end: it has poisoned the page."""

    def sync(self) -> int:
        """Everything published until now is on the disk when this returns."""

    def mark(self) -> None:
        """Raise the high-water mark to what was synced last."""

    def close(self) -> None: ...


class SyncingProcess:
    """The process that syncs, as its parent sees it. It begins at once, while the parent still starts.

    Make it in the main thread: the kernel ends it with the thread that has made it.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """`argv` starts it; it ends when its standard input does."""
        self._process = Popen([*argv, str(os.getpid())], stdin=PIPE)
        self._told = False

    def start(self, gone: Callable[[], None]) -> None:
        """`gone` is called, by another thread, should it end by itself."""

        def watch() -> None:
            code = self._process.wait()
            if not self._told:
                _log.critical("the process that syncs has ended with %d", code)
                gone()

        threading.Thread(target=watch, name="sync", daemon=True).start()

    def stop(self) -> None:
        """Sync once more what was published, then end. Again: nothing."""
        self._told = True
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def resident_bytes(self) -> int:
        """Its memory that is in RAM."""
        with contextlib.suppress(OSError), open(f"/proc/{self._process.pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
        return 0


class Syncing:
    """The two threads. After a failure they wait until an engine has recovered, and begin anew."""

    def __init__(
        self,
        progress: Progress,
        open_sync: Callable[[], Sync],
        prepare: Callable[[], bool],
        words: MutableSequence[int],
        interval_ms: int,
    ) -> None:
        """`prepare` makes the next segment if there is none, False if there is no space for it."""
        self._progress = progress
        self._open_sync = open_sync
        self._prepare = prepare
        self._words = words
        self._interval_s = interval_ms / 1000
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run_sync, name="sync", daemon=True),
            threading.Thread(target=self._run_prepare, name="prepare", daemon=True),
        ]
        self._duration = metrics.SYNC_DURATION.series()
        self._lag = metrics.DURABLE_LAG.word()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Sync once more what was published, then end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    # --- syncing ------------------------------------------------------------------------------------

    def _run_sync(self) -> None:
        while not self._stop.is_set():
            if not self._progress.current or self._progress.poisoned:
                self._progress.sync_ended(monotonic_ns())
                self._stop.wait(POISONED_RETRY_S)
                continue
            sync = self._open_sync()
            try:
                self._sync_on(sync)
            except JournalError as error:
                # The page is poisoned, so the engine stops and recovers. This sync is never tried again.
                _log.error("the journal can't be synced: %s", error)
            finally:
                sync.close()

    def _sync_on(self, sync: Sync) -> None:
        """Sync every interval, and once more at the end. Raises JournalError."""
        progress, words = self._progress, self._words
        marked_ns = 0
        before_ns = monotonic_ns()
        last_round = False
        while True:
            started_ns = monotonic_ns()
            behind = progress.published_seq > progress.durable_seq
            sync.sync()
            ended_ns = monotonic_ns()
            progress.sync_ended(ended_ns)
            if behind:
                self._duration.observe(words, ended_ns - started_ns)
            # The oldest command that just became durable may have come right after the sync before.
            words[self._lag] = ended_ns - before_ns if behind else 0
            before_ns = started_ns
            if last_round or ended_ns - marked_ns >= MARK_EVERY_NS:
                sync.mark()
                marked_ns = ended_ns
            if last_round:
                return
            last_round = self._stop.wait(max(0.0, self._interval_s - (monotonic_ns() - started_ns) / 1e9))

    # --- the next segment ---------------------------------------------------------------------------

    def _run_prepare(self) -> None:
        wait_s = PREPARE_EVERY_S
        told = ""
        while not self._stop.wait(wait_s):
            wait_s = PREPARE_EVERY_S
            if not self._progress.current or self._progress.poisoned:
                continue
            try:
                problem = "" if self._prepare() else "there is no space for it"
            except OSError as error:
                problem = str(error)
            if problem:
                wait_s = NO_SPACE_RETRY_S
            if problem != told:
                told = problem
                _log.log(
                    logging.ERROR if problem else logging.INFO,
                    "next segment of the journal: %s",
                    problem or "prepared",
                )
