"""Segments as files: their names, and how the follower makes the next one before it is needed."""

from __future__ import annotations

import errno
from collections.abc import Callable

from tradsys.adapters.log.files import Files
from tradsys.adapters.log.progress import Progress

SUFFIX = ".log"
UNFINISHED = ".new"
PIECE_BYTES = 1 << 20
"""Zeros go to the disk in pieces, each synced, so that no other sync waits for a whole segment."""

# No space, over the quota, over the file size limit. Any other error is a fault.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def segment_name(index: int) -> str:
    return f"{index:08d}{SUFFIX}"


def segment_path(directory: str, index: int) -> str:
    return f"{directory}/{segment_name(index)}"


def segment_indexes(directory: str, files: Files) -> list[int]:
    """The indexes of the segments that are there, ascending."""
    stems = [name.removesuffix(SUFFIX) for name in files.list(directory) if name.endswith(SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def make_segment(
    directory: str,
    files: Files,
    index: int,
    segment_bytes: int,
    between: Callable[[], None] = lambda: None,
) -> bool:
    """Put a segment of zeros into the directory; False: there is no space for it, and nothing is left of it.

    A segment has its name only when all of its zeros are on the disk, and the name is on the disk when
    this returns. `between` is called after each piece. Raises OSError for anything but missing space.
    """
    unfinished = segment_path(directory, index) + UNFINISHED
    piece = bytes(min(PIECE_BYTES, segment_bytes))
    try:
        handle = files.create(unfinished)
        try:
            offset = 0
            while offset < segment_bytes:
                written = files.write(handle, piece[: segment_bytes - offset], offset)
                if not written:
                    raise OSError(errno.ENOSPC, "nothing was written")
                files.datasync(handle)
                offset += written
                between()
        finally:
            files.close(handle)
        files.rename(unfinished, segment_path(directory, index))
        files.sync_directory(directory)
    except OSError as error:
        if error.errno not in FULL:
            raise
        if unfinished.rpartition("/")[2] in files.list(directory):
            files.remove(unfinished)
        return False
    return True


def prepare_next_segment(
    directory: str,
    files: Files,
    progress: Progress,
    segment_bytes: int,
    between: Callable[[], None] = lambda: None,
) -> bool:
    """Make the segment after the current one, if it is not there; the follower calls this again and again.

    `between` is called after each MiB: a follower that also syncs does so there. False: there is no space
    for it now, or no engine has begun yet. The engine uses the segment once the page says that it is
    prepared.
    """
    if not progress.current:
        return False
    index = progress.segment + 1
    if progress.prepared_segment >= index:
        return True
    if _is_there(directory, files, index, segment_bytes):
        # A follower ended before it could say so. Another one in its place could take away what an engine
        # that starts meanwhile, and finds this one, has written to it.
        files.sync_directory(directory)
    elif not make_segment(directory, files, index, segment_bytes, between):
        return False
    progress.prepared(index)
    return True


def _is_there(directory: str, files: Files, index: int, segment_bytes: int) -> bool:
    """With that size; what has a segment's name is whole."""
    if segment_name(index) not in files.list(directory):
        return False
    handle = files.open(segment_path(directory, index))
    try:
        return files.size(handle) == segment_bytes
    finally:
        files.close(handle)
