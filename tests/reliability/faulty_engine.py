"""An engine that kills itself at a named step of its n-th append: `faulty_engine.py MOMENT N`.

The engine is the real one; only its file port, or its journal, ends the process where it is told to.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.writer import LogWriter
from tradsys.codec.frame import HEADER
from tradsys.compose import engine
from tradsys.compose.start import start_engine
from tradsys.settings import load

HALF_BYTES = HEADER.size + 20


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingFiles(OsFiles):
    moment = ""
    appends_left = 0

    def write(self, handle: int, data: Any, offset: int) -> int:
        if not DyingFiles.appends_left:
            return super().write(handle, data, offset)
        DyingFiles.appends_left -= 1
        if DyingFiles.appends_left:
            return super().write(handle, data, offset)
        if DyingFiles.moment == "before_write":
            die()
        if DyingFiles.moment == "half_written":
            # Less than the first frame of a turn: a whole one would be an order that was written.
            super().write(handle, bytes(data)[:HALF_BYTES], offset)
            die()
        written = super().write(handle, data, offset)
        if DyingFiles.moment == "after_write":
            die()
        return written


class DyingWriter(LogWriter):
    commits_left = 0

    def commit(self) -> None:
        before = self.writes
        super().commit()
        if DyingWriter.commits_left and self.writes > before:
            DyingWriter.commits_left -= 1
            if not DyingWriter.commits_left:
                die()


if __name__ == "__main__":
    moment, count = sys.argv[1], int(sys.argv[2])
    if moment == "before_reply":
        DyingWriter.commits_left = count
        engine.LogWriter = DyingWriter  # type: ignore[misc]
    else:
        DyingFiles.moment, DyingFiles.appends_left = moment, count
        engine.OsFiles = DyingFiles  # type: ignore[misc]
    sys.exit(start_engine(load(os.environ)))
