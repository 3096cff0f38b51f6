"""Copy a venue's data while it runs, and put such a copy back.

A backup directory holds

    *.log             the journal's segments, the last one cut behind `seq` and filled with zeros
    snapshot-*.tsn    the snapshots that are not later than `seq`
    readmodel.db      history's database, which is not behind what the journal still has
    high-water        so that a restored venue never starts with less
    backup.json       written last: what is in it, with the hash of each file, and the state's

It reaches up to what is on the disk for certain (`durable_seq`), so nothing in it can be withdrawn by a
power cut. The journal in the copy is replayed before backup.json is written, and the state hash found
there is what a restored venue has. Keys are not copied: whoever holds a backup could sign tokens with them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import apsw
import msgspec
from msgspec import Struct

from tradsys.adapters.history.process import READMODEL_NAME
from tradsys.adapters.history.snapshots import SnapshotStore, read_header, sync_directory
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.lock import LOCK_NAME, DirectoryLocked, lock_directory
from tradsys.adapters.log.mark import Mark, MarkFile
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.segments import segment_indexes, segment_name
from tradsys.cli.datadir import directory_of, page_of, starting, verify
from tradsys.cli.failures import JOURNAL, Failure
from tradsys.settings import Settings

FORMAT = 1
MANIFEST = "backup.json"
COPY_BYTES = 1 << 20
RESTORED_EPOCHS = 1_000_000
"""A restored venue goes on from another past than the one that it was copied from, so their epochs must
never be equal: clients tell by the epoch whether what they have still holds."""

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
    with ExitStack() as stack:
        # History may retire a segment or a snapshot at any time; what is open stays readable. Segments first,
        # then the read model: what it lacked when a segment was retired would be nowhere.
        opened = {path: stack.enter_context(path.open("rb")) for path in _sources(directory)}
        _copy_readmodel(directory, target)
        end = stack.enter_context(_end_of(directory))
        for path in _sources(directory):
            if path not in opened:
                opened[path] = stack.enter_context(path.open("rb"))
        last = segment_name(end.segment)
        wanted = {path: file for path, file in opened.items() if _is_wanted(path, end, last)}
        moved = _adding_up(copied, sum(os.fstat(file.fileno()).st_size for file in wanted.values()))
        for path, file in wanted.items():
            _copy(file, target / path.name, moved, end.offset if path.name == last else None)
    mark = MarkFile.create(str(target), OsFiles())
    mark.write(Mark(end.seq, end.epoch, end.chain))
    mark.close()
    state_hash = _verified(settings, target, replayed)[1]
    files = {path.name: _hash(path) for path in sorted(target.iterdir())}
    manifest = Manifest(FORMAT, settings.shard, end.seq, end.epoch, end.chain.hex(), state_hash, files)
    _write(target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    sync_directory(target)
    return manifest


def restore(settings: Settings, source: Path, copied: Moved, replayed: Moved) -> Manifest:
    """Make the data directory, which must be empty or not exist, from a backup.

    Every file's hash is compared, and the journal is replayed to the state that the backup tells. The
    directory appears whole or not at all. Raises BrokenLog, Failure and OSError.
    """
    target = Path(settings.data_dir).absolute()
    _expect_empty(target)
    manifest = _manifest(source)
    if manifest.shard != settings.shard:
        raise Failure(
            f"the backup is of shard {manifest.shard}, this venue is {settings.shard}",
            f"set TRADSYS_SHARD={manifest.shard}",
        )
    draft = target.with_name(f".{target.name}.restoring")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    moved = _adding_up(copied, sum((source / name).stat().st_size for name in manifest.files))
    for name, expected in manifest.files.items():
        with (source / name).open("rb") as file:
            _copy(file, draft / name, moved)
        if _hash(draft / name) != expected:
            raise Failure(f"{source / name} is not what was backed up", exit_code=JOURNAL)
    found = _verified(settings, draft, replayed)
    if found != (manifest.seq, manifest.state_hash):
        raise Failure(
            f"the backup replays to seq {found[0]}, state {found[1]}; it should be seq {manifest.seq}, "
            f"state {manifest.state_hash}",
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


def _manifest(source: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise Failure(f"{source} is no whole backup: it has no {MANIFEST}") from None
    except msgspec.MsgspecError as fault:
        raise Failure(f"{source / MANIFEST} can't be read: {fault}") from None
    if manifest.format != FORMAT:
        raise Failure(f"the backup has format {manifest.format}; this release reads {FORMAT}")
    for name in manifest.files:
        if name != Path(name).name:
            raise Failure(f"{source / MANIFEST} names a file outside of the backup: {name!r}")
    return manifest


def _expect_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Failure(f"{target} is not empty", "name a directory that is empty or not there yet")


def _sources(directory: Path) -> list[Path]:
    """Segments, oldest first, then snapshots."""
    indexes = segment_indexes(str(directory), OsFiles())
    return [directory / segment_name(index) for index in indexes] + SnapshotStore(directory).paths()


def _is_wanted(path: Path, end: _End, last_segment: str) -> bool:
    """Whether the file holds something from before the end."""
    if path.suffix == ".log":
        return path.name <= last_segment
    return getattr(read_header(path), "seq", end.seq + 1) <= end.seq


@contextmanager
def _end_of(directory: Path) -> Iterator[_End]:
    """The last place of the journal that nobody can withdraw any more.

    Beside a running engine that is what is synced. Without one it is the last frame there is, and the
    directory stays locked, so that no engine begins to write meanwhile.
    """
    page = page_of(directory)
    lock = -1
    durable_seq = None
    try:
        lock = lock_directory(str(directory))
    except DirectoryLocked:
        if page is None:
            raise starting(directory) from None
        durable_seq = page.durable_seq
    reader = LogReader(str(directory), OsFiles(), _newest_snapshot_seq(directory, durable_seq))
    try:
        end = None
        while reader.next_frame() is not None:
            if durable_seq is not None and reader.seq > durable_seq:
                break
            end = _End(reader.seq, reader.epoch, reader.chain, reader.segment, reader.offset)
        if end is None or (durable_seq is not None and end.seq < durable_seq):
            raise reader.broken("no frame verifies here, but it was synced")
        yield end
    finally:
        reader.close()
        if page:
            page.close()
        if lock >= 0:
            os.close(lock)


def _newest_snapshot_seq(directory: Path, durable_seq: int | None) -> int:
    """From where to look for the end: the way there is long, and what is before may be retired meanwhile."""
    seqs = (getattr(read_header(path), "seq", 0) for path in SnapshotStore(directory).paths())
    return max((seq for seq in seqs if durable_seq is None or seq <= durable_seq), default=0)


def _copy_readmodel(directory: Path, target: Path) -> None:
    """SQLite's own online copy: consistent, whoever writes."""
    source = directory / READMODEL_NAME
    if not source.exists():
        return
    reading = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    writing = apsw.Connection(str(target / READMODEL_NAME))
    try:
        with writing.backup("main", reading, "main") as copying:
            copying.step()
        writing.pragma("journal_mode", "delete")
    finally:
        writing.close()
        reading.close()
    (target / READMODEL_NAME).chmod(0o600)


def _verified(settings: Settings, directory: Path, replayed: Moved) -> tuple[int, str]:
    """(seq, state hash) of a copy that was checked and replayed."""
    found = verify(msgspec.structs.replace(settings, data_dir=str(directory)), replayed)
    (directory / LOCK_NAME).unlink(missing_ok=True)
    return found.seq, found.state_hash


def _adding_up(moved: Moved, total: int) -> Callable[[int], None]:
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        moved(done, total)

    return add


def _copy(file: BinaryIO, target: Path, moved: Callable[[int], None], length: int | None = None) -> None:
    """Copy a file, synced; behind `length` bytes there are zeros, so that an append finds its room."""
    with target.open("wb") as writing:
        os.fchmod(writing.fileno(), 0o600)
        offset = 0
        while data := file.read(COPY_BYTES):
            if length is not None:
                data = data[: max(length - offset, 0)].ljust(len(data), b"\0")
            writing.write(data)
            offset += len(data)
            moved(len(data))
        writing.flush()
        os.fsync(writing.fileno())


def _hash(path: Path) -> str:
    digest = blake2b(digest_size=32)
    with path.open("rb") as file:
        while data := file.read(COPY_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
