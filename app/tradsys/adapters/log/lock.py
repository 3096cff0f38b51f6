"""One engine at a time in a data directory."""

from __future__ import annotations

import errno
import fcntl
import os

LOCK_NAME = "lock"


class DirectoryLocked(Exception):
    """Another process owns the data directory; a start may succeed later (EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75

    def __init__(self, directory: str, owner: str) -> None:
        super().__init__(f"{directory} is in use by process {owner or 'unknown'}")
        self.directory = directory
        self.owner = owner


def lock_directory(directory: str) -> int:
    """Own the directory as long as the returned descriptor is open, at most as long as the process lives.

    Raises DirectoryLocked. Call it before anything in the directory is read, and before a port is opened.
    """
    handle = os.open(f"{directory}/{LOCK_NAME}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        os.close(handle)
        if error.errno != errno.EWOULDBLOCK:
            raise
        raise DirectoryLocked(directory, owner) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle
