"""The first thing an engine does: own its data directory. Everything else is imported only then.

What an engine is made of takes a second to import. A second engine on a directory need not wait for that
to hear that it is one too many.
"""

from __future__ import annotations

import contextlib
import os
import sys

from tradsys.adapters.log.lock import DirectoryLocked, lock_directory
from tradsys.settings import Settings


def start_engine(settings: Settings) -> int:
    """Own the directory, then run the engine until it is told to stop; returns its exit code."""
    try:
        os.makedirs(settings.data_dir, mode=0o700, exist_ok=True)
        lock = lock_directory(settings.data_dir)
    except DirectoryLocked as locked:
        return _end(locked.exit_code, str(locked))
    except OSError as error:
        return _end(1, str(error))
    try:
        from tradsys.compose.engine import serve_engine

        return serve_engine(settings)
    finally:
        os.close(lock)


def _end(code: int, message: str) -> int:
    with contextlib.suppress(OSError):
        print(f"tradsys: {message}", file=sys.stderr, flush=True)
    return code
