"""Copy a venue's data while it runs, and put such a copy back.

A backup directory holds

    *.log                the journal's segments, the last one cut behind `seq` and filled with zeros
    snapshot-*.tsn       the snapshots that are not later than `seq`
    high-water           so that a restored venue never starts with less
    backup.json          written last: what is in it, with the hash of each file, and the state's

It reaches up to what was on the disk when it began (`durable_seq`), so nothing in it can be withdrawn by a
power cut. The journal in the copy is replayed before backup.json is written, and the state hash found there
is what a restored venue has. Keys are not copied: whoever holds a backup could sign tokens with them. The
read model is not copied either: it is rebuilt from the journal.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from tradsys.adapters.history.snapshots import SnapshotStore, read_header, sync_directory
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.lock import DirectoryLocked, lock_directory
from tradsys.adapters.log.mark import Mark, MarkFile
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.segments import segment_indexes, segment_name
from tradsys.cli.datadir import directory_of, page_of, verify
from tradsys.cli.failures import JOURNAL, Failure
from tradsys.settings import Settings

FORMAT = 1
MANIFEST = "backup.json"
COPY_BYTES = 1 << 20
RESTORED_EPOCHS = 1_000_000
"""A restored venue continues another past than the one that went on, so their epochs must never be equal."""

Moved = Callable[[int, int], None]
"""Hears (done, total): bytes while copying, commands while replaying."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    shard: str
    seq: int
    """The last command in the backup."""
    epoch: int
    chain: str
    state_hash: str
    files: dict[str, str]
    """blake2b-256 of each file, in hex."""


class _End(Struct, frozen=True):
    """Where the copied journal ends."""

    seq: int
    epoch: int
    chain: bytes
    segment: int
    offset: int


def backup(settings: Settings, target: Path, copied: Moved, replayed: Moved) -> Manifest:
    """Copy the data directory to `target`, which must be empty or not exist.

    Raises BrokenLog, Failure and OSError; without its backup.json a copy is none.
    """
    directory = directory_of(settings)
    _expect_empty(target)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    end = _end_of(directory)
    files = OsFiles()
    snapshots = [
        path
        for path in SnapshotStore(directory).paths()
        if getattr(read_header(path), "seq", end.seq + 1) <= end.seq
    ]
    segments = [index for index in segment_indexes(str(directory), files) if index <= end.segment]
    total = sum(path.stat().st_size for path in snapshots)
    total += sum((directory / segment_name(index)).stat().st_size for index in segments)
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        copied(done, total)

    for path in snapshots:
        _copy(path, target / path.name, moved)
    for index in segments:
        name = segment_name(index)
        _copy(directory / name, target / name, moved, end.offset if index == end.segment else None)
    mark = MarkFile.create(str(target), files)
    mark.write(Mark(end.seq, end.epoch, end.chain))
    mark.close()
    found = verify(msgspec.structs.replace(settings, data_dir=str(target)), replayed)
    (target / "lock").unlink(missing_ok=True)
    manifest = Manifest(
        FORMAT, settings.shard, end.seq, end.epoch, end.chain.hex(), found.state_hash, _hashes(target)
    )
    _write(target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    sync_directory(target)
    return manifest


def _end_of(directory: Path) -> _End:
    """The last place of the journal that is on the disk for certain.

    Without a running engine that is the last frame that verifies, because nobody will withdraw it: the
    copy is synced.
    """
    page = page_of(directory)
    lock = -1
    try:
        lock = lock_directory(str(directory))
        last = None
    except DirectoryLocked:
        assert page is not None, "an engine that holds the lock has a page"
        last = page.durable_seq
    reader = LogReader(str(directory), OsFiles())
    try:
        end = None
        while (last is None or reader.seq <= last) and reader.next_frame() is not None:
            if last is None or reader.seq <= last:
                end = _End(reader.seq, reader.epoch, reader.chain, reader.segment, reader.offset)
        if end is None or (last is not None and end.seq < last):
            raise reader.broken("no frame verifies here, but the engine has published it")
        return end
    finally:
        reader.close()
        if page:
            page.close()
        if lock >= 0:
            os.close(lock)


def restore(settings: Settings, source: Path, copied: Moved, replayed: Moved) -> Manifest:
    """Make the data directory, which must be empty or not exist, from a backup.

    Every file's hash is compared, and the journal is replayed to the state hash that the backup tells. The
    directory appears whole or not at all. Raises BrokenLog, Failure and OSError.
    """
    target = Path(settings.data_dir)
    _expect_empty(target)
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise Failure(f"{source} is no whole backup: it has no {MANIFEST}") from None
    except msgspec.MsgspecError as fault:
        raise Failure(f"{source / MANIFEST} can't be read: {fault}") from None
    if manifest.format != FORMAT:
        raise Failure(f"the backup has format {manifest.format}; this release reads {FORMAT}")
    if manifest.shard != settings.shard:
        raise Failure(
            f"the backup is of shard {manifest.shard}, this venue is {settings.shard}",
            f"set TRADSYS_SHARD={manifest.shard}",
        )
    draft = target.with_name(f".{target.name}.restoring")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    total = sum((source / name).stat().st_size for name in manifest.files)
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        copied(done, total)

    for name, expected in manifest.files.items():
        if name != Path(name).name:
            raise Failure(
                f"{source / MANIFEST} names a file outside of the backup: {name!r}", exit_code=JOURNAL
            )
        _copy(source / name, draft / name, moved)
        if _hash(draft / name) != expected:
            raise Failure(f"{source / name} is not what was backed up", exit_code=JOURNAL)
    found = verify(msgspec.structs.replace(settings, data_dir=str(draft)), replayed)
    if (found.seq, found.state_hash) != (manifest.seq, manifest.state_hash):
        raise Failure(
            f"the backup replays to seq {found.seq}, state {found.state_hash}; it should be seq "
            f"{manifest.seq}, state {manifest.state_hash}",
            exit_code=JOURNAL,
        )
    mark = MarkFile(str(draft), OsFiles())
    mark.write(Mark(manifest.seq, manifest.epoch + RESTORED_EPOCHS, bytes.fromhex(manifest.chain)))
    mark.close()
    sync_directory(draft)
    if target.exists():
        target.rmdir()
    draft.rename(target)
    sync_directory(target.parent)
    return manifest


def _expect_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Failure(f"{target} is not empty", "name a directory that is empty or not there yet")


def _copy(source: Path, target: Path, moved: Callable[[int], None], length: int | None = None) -> None:
    """Copy a file, synced; behind `length` bytes there are zeros, so that an append finds its room."""
    with source.open("rb") as reading, target.open("wb") as writing:
        offset = 0
        while data := reading.read(COPY_BYTES):
            if length is not None:
                data = data[: max(length - offset, 0)].ljust(len(data), b"\0")
            writing.write(data)
            offset += len(data)
            moved(len(data))
        writing.flush()
        os.fsync(writing.fileno())
    target.chmod(0o600)


def _hash(path: Path) -> str:
    digest = blake2b(digest_size=32)
    with path.open("rb") as file:
        while data := file.read(COPY_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _hashes(directory: Path) -> dict[str, str]:
    return {path.name: _hash(path) for path in sorted(directory.iterdir())}


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
