"""The process that syncs: a child of `history`, so that no replay can keep a sync waiting.

    python -m tradsys.compose.syncing PAGE DIRECTORY SEGMENT_BYTES SYNC_INTERVAL_MS LOG_FORMAT PARENT

A fresh interpreter with few imports (the log and the page, no web, no SQLite): 21 MB, 10 of them its own,
and a tenth of a second while its parent starts, too. A fork would begin with its parent's memory, and could
be made only before there is any thread.

It ends with its standard input: the parent closes it to be synced for once more, the kernel closes it when
the parent is gone. Then it is killed besides, wherever it is: a new history has a new child, and two that
prepare the same segment could take away what an engine has written to it. For the same reason one waits for
the other by a lock on the page. When it ends by itself, history does, with exit code 1, and both are started
anew: nobody would see to the priority of its parent meanwhile (`adapters/history/priority.py`), which a busy
machine then would not let start another. Until they are back, the engine syncs for itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
from collections.abc import MutableSequence
from typing import cast

from tradsys import metrics
from tradsys.adapters.history.priority import LOOK_S, Priority
from tradsys.adapters.history.syncing import Syncing
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.segments import prepare_next_segment
from tradsys.adapters.log.sync import LogSync
from tradsys.adapters.page.page import Page, PageError, boot_id
from tradsys.compose.logs import start_logging

RETRY_S = 0.02
_PR_SET_PDEATHSIG = 1


def main() -> int:
    path, directory, segment_bytes, interval_ms, log_format, parent = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        # What is sent to the whole group is the parent's to judge.
        signal.signal(number, signal.SIG_IGN)
    start_logging(metrics.HISTORY, log_format)
    page = _page_of_our_own(path)
    if page is None:
        return 0
    files, words = OsFiles(), cast(MutableSequence[int], page.metrics)
    syncing = Syncing(
        page,
        lambda: LogSync(directory, files, page),
        lambda: prepare_next_segment(directory, files, page, int(segment_bytes)),
        words,
        int(interval_ms),
    )
    syncing.start()
    replayed, in_readmodel = metrics.REPLAY_SEQ.word(), metrics.READMODEL_SEQ.word()
    priority = Priority(
        int(parent), lambda: page.durable_seq, lambda: min(words[replayed], words[in_readmodel])
    )
    while not _is_over(LOOK_S):
        priority.look()
    # Whoever waits for history's end waits for the rest of its work.
    priority.give_back()
    syncing.stop()
    return 0


def _page_of_our_own(path: str) -> Page | None:
    """The shared page, once there is one and nobody else writes history's words; None: told to end before."""
    boot, handle = boot_id(), -1
    while True:
        with contextlib.suppress(FileNotFoundError, PageError, BlockingIOError):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Page.open(path, boot)
        if handle >= 0:
            os.close(handle)
            handle = -1
        if _is_over(RETRY_S):
            return None


def _is_over(within_s: float) -> bool:
    """The parent has closed our standard input, or does so within this time."""
    return bool(select.select([0], [], [], within_s)[0])


if __name__ == "__main__":
    sys.exit(main())
