"""Run one process of a venue: what `tradsys serve NAME` does, and what a supervisor starts again.

Nothing here imports the rest of the command line: its tables and option parsers take as long to import
as a small journal to replay, and would stay in the engine's memory.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from enum import StrEnum
from typing import NoReturn

from tradsys.compose.logs import start_logging
from tradsys.settings import EXIT_CONFIGURATION, SettingsError, load


class Process(StrEnum):
    """The processes of a venue, in the order in which they are stopped."""

    ENGINE = "engine"
    HISTORY = "history"
    QUERY = "query"
    FEED = "feed"
    GATEWAY = "gateway"


PROCESSES = tuple(process.value for process in Process)


def serve(name: str) -> int:
    """Run until told to stop; returns the exit code (see failures.py)."""
    try:
        settings = load(os.environ)
    except SettingsError as fault:
        print(f"tradsys: {fault}", file=sys.stderr, flush=True)
        return EXIT_CONFIGURATION
    start_logging(name, settings.log_format)
    if name == Process.ENGINE:
        from tradsys.compose.start import start_engine

        return start_engine(settings)
    if name == Process.HISTORY:
        from tradsys.compose.history import serve_history

        return serve_history(settings)
    if name == Process.QUERY:
        from tradsys.compose.query import serve_query

        return serve_query(settings)
    if name == Process.GATEWAY:
        from tradsys.compose.gateway import serve_gateway

        return serve_gateway(settings)
    assert name == Process.FEED
    from tradsys.compose.feed import serve_feed

    return serve_feed(settings)


def leave(code: int) -> NoReturn:
    """End this process as at the end of a program, except that the interpreter is not taken apart.

    That takes a tenth of a second of CPU: in a container with a tenth of a CPU a second, and whoever starts
    next on the same data waits for the last process to be gone.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # What can't be written must not change what the exit code says.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
