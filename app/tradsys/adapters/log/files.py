"""The file port: what the log asks of a file system. The crash simulator of the tests implements it too.

Four calls carry the promises: write, datasync, rename, list (with the directory's own sync). The others
open and read.
"""

from __future__ import annotations

import os
from typing import Protocol


class Files(Protocol):
    """Every call raises OSError as the operating system does. A handle is a small integer."""

    def open(self, path: str, /) -> int:
        """An existing file, for reading and writing."""

    def create(self, path: str, /) -> int:
        """A new, empty file; one that is there is emptied."""

    def close(self, handle: int, /) -> None: ...

    def size(self, handle: int, /) -> int: ...

    def read(self, handle: int, length: int, offset: int, /) -> bytes:
        """At most `length` bytes; fewer only at the end of the file."""

    def write(self, handle: int, data: bytes, offset: int, /) -> int:
        """How many bytes were written; fewer than given is a fault to the caller."""

    def datasync(self, handle: int, /) -> None:
        """Returns when everything written to the file, through any handle, is on the disk."""

    def rename(self, old: str, new: str, /) -> None:
        """Replaces what is there. Survives a power cut only after `sync_directory`."""

    def remove(self, path: str, /) -> None: ...

    def list(self, directory: str, /) -> list[str]:
        """Names, in no particular order."""

    def sync_directory(self, directory: str, /) -> None: ...


class OsFiles:
    """The real thing. `write` and `datasync` are the bare system calls, with nothing in between."""

    write = staticmethod(os.pwrite)
    datasync = staticmethod(os.fdatasync)
    read = staticmethod(os.pread)
    close = staticmethod(os.close)
    rename = staticmethod(os.rename)
    remove = staticmethod(os.unlink)
    list = staticmethod(os.listdir)

    def open(self, path: str, /) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def create(self, path: str, /) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def size(self, handle: int, /) -> int:
        return os.fstat(handle).st_size

    def sync_directory(self, directory: str, /) -> None:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
