"""An engine that kills itself at a named step of its n-th append: `faulty_engine.py MOMENT N`.

The engine is the real one; only its file port, or its venue, ends the process where it is told to.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from tradsys.adapters.log.files import OsFiles
from tradsys.compose import engine
from tradsys.compose.start import start_engine
from tradsys.settings import load
from tradsys.venue.venue import Outcome, Venue


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
            super().write(handle, bytes(data)[: len(data) // 2], offset)
            die()
        written = super().write(handle, data, offset)
        if DyingFiles.moment == "after_write":
            die()
        return written


class DyingVenue(Venue):
    batches_left = 0

    def process(self, commands: Sequence[Any]) -> list[Outcome]:
        outcomes = super().process(commands)
        if DyingVenue.batches_left:
            DyingVenue.batches_left -= 1
            if not DyingVenue.batches_left:
                die()
        return outcomes


if __name__ == "__main__":
    moment, count = sys.argv[1], int(sys.argv[2])
    if moment == "before_reply":
        DyingVenue.batches_left = count
        engine.Venue = DyingVenue  # type: ignore[misc]
    else:
        DyingFiles.moment, DyingFiles.appends_left = moment, count
        engine.OsFiles = DyingFiles  # type: ignore[misc]
    sys.exit(start_engine(load(os.environ)))
