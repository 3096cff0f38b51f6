"""Snapshots: the state of a shard after one command, in a file that proves itself.

`snapshot-<seq, 20 digits>.tsn` is a row of records, each

| part | bytes | meaning |
|---|---|---|
| length | u32 | of the payload |
| kind | u8 | 1 header, 2 chunk, 3 end |
| link | 16 | blake2b-128 of the previous record's link, this length, this kind, the payload |
| payload | length | msgpack |

little-endian; the first record's previous link is zeros. The header (array) is format, shard, epoch, seq,
time_ns, journal chain after seq, release; a chunk is one of `Shard.snapshot()`; the end is the number of
chunks and the state hash. So a torn, flipped, shortened, lengthened or renamed file is never taken for
a snapshot, and nothing is decoded before its link has been checked.

A file has this name only after a second process has loaded it and found the same state hash; until then
it ends in `.tmp`. History of the format: 1, the first.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from struct import Struct as Layout
from typing import BinaryIO

import msgspec
from msgspec import Struct

from tradsys import __version__
from tradsys.core.shard import Shard
from tradsys.core.snapshot import hashed

FORMAT = 1
KEPT = 2
"""Snapshots that stay, newest first: if one is damaged there is another."""
SYNC_BYTES = 8 << 20
"""Written to the disk piece by piece: one sync of it all would hold up the journal's."""
RECORD_BYTES_MAX = 1 << 30
"""No chunk is near it; a damaged length is not worth an attempt to read it."""
VERIFY_TIMEOUT_S = 600.0

HEADER, CHUNK, END = 1, 2, 3

_PREFIX = Layout("<IB16s")
_COVERED = Layout("<IB")
_FIRST_LINK = bytes(16)


class Header(Struct, frozen=True, array_like=True):
    """What state this is. `chain` is the journal's, after the frame that ends with `seq`."""

    format: int
    shard: str
    epoch: int
    seq: int
    time_ns: int
    chain: bytes
    release: str


class End(Struct, frozen=True, array_like=True):
    chunks: int
    state_hash: str


class Loaded(Struct, frozen=True):
    """A snapshot that was read whole."""

    path: Path
    header: Header
    state_hash: str
    shard: Shard


class Damaged(Struct, frozen=True):
    """A file that has a snapshot's name and is none."""

    path: Path
    problem: str


class SnapshotDamaged(Exception):
    """A record is not what was written; carries the offset in the file."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"at byte {offset}: {problem}")


class SnapshotFailed(Exception):
    """No snapshot was made: no space, nothing to make it of, or it could not be loaded again as it was."""


Restore = Callable[[Iterable[bytes]], Shard]


def name_of(seq: int) -> str:
    return f"snapshot-{seq:020d}.tsn"


class SnapshotStore:
    """The snapshots of one data directory. One process writes, any may load."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def paths(self) -> list[Path]:
        """Verified snapshots, newest first."""
        return sorted(self.directory.glob("snapshot-" + "[0-9]" * 20 + ".tsn"), reverse=True)

    def newest(self, restore: Restore) -> tuple[Loaded | None, list[Damaged]]:
        """The newest snapshot that is whole, and the newer ones that are not."""
        damaged: list[Damaged] = []
        for path in self.paths():
            found = load(path, restore)
            if isinstance(found, Loaded):
                return found, damaged
            damaged.append(found)
        return None, damaged

    def write(self, shard: Shard, epoch: int, seq: int, time_ns: int, chain: bytes) -> tuple[Path, str]:
        """Write the state as `.tmp`, on the disk when this returns; `accept` gives it its name.

        Returns the file and the state hash. The shard must not change meanwhile. Other threads run
        between chunks. Raises SnapshotFailed if it can't be written; nothing is left of it then.
        """
        header = Header(FORMAT, shard.name, epoch, seq, time_ns, chain, __version__)
        path = self.directory / (name_of(seq) + ".tmp")
        try:
            return path, _write_file(path, header, shard.snapshot())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise SnapshotFailed(f"{path.name}: {error}") from error

    def verify(self, written: Path) -> subprocess.Popen[bytes]:
        """Start loading the file in a process of its own, so that neither time nor memory are ours.

        Hand its end to `accept`.
        """
        return subprocess.Popen(
            [sys.executable, "-m", "tradsys.adapters.history.verify", str(written)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def accept(self, written: Path, verifying: subprocess.Popen[bytes]) -> Path:
        """Give a verified file its name. Waits for the verification to end.

        Raises SnapshotFailed; the file is gone then.
        """
        try:
            out, err = verifying.communicate(timeout=VERIFY_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            verifying.kill()
            out, err = verifying.communicate()
        if verifying.returncode != 0:
            written.unlink()
            detail = (out + err).decode(errors="replace").strip().splitlines()
            raise SnapshotFailed(f"{written.name}: {detail[-1] if detail else verifying.returncode}")
        path = written.with_suffix("")
        written.rename(path)
        sync_directory(self.directory)
        return path

    def give_up(self, written: Path, verifying: subprocess.Popen[bytes]) -> None:
        """Nobody waits for it: end the verification, remove the file."""
        verifying.kill()
        verifying.communicate()
        written.unlink()

    def prune(self) -> list[Path]:
        """Remove what is older than the kept ones, and what a crash left unfinished."""
        gone = self.paths()[KEPT:]
        gone += self.directory.glob("snapshot-*.tsn.tmp")
        for path in gone:
            path.unlink()
        return gone


def load(path: Path, restore: Restore) -> Loaded | Damaged:
    """Read one snapshot, checking every byte before it is used."""
    collecting = gc.isenabled()
    # Nothing that this makes is garbage; looking for some takes as long as the rest.
    gc.disable()
    try:
        with path.open("rb") as file:
            records = _records(file)
            header = _expect_header(records)
            if path.name.removesuffix(".tmp") != name_of(header.seq):
                return Damaged(path, f"the file is of sequence number {header.seq}")
            end: list[End] = []
            chunks = _chunks(records, end)
            shard = restore(chunks)
            for _ in chunks:  # whatever `restore` needed, the whole file must be sound
                pass
    except (OSError, SnapshotDamaged, msgspec.ValidationError, msgspec.DecodeError) as error:
        return Damaged(path, str(error))
    finally:
        if collecting:
            gc.enable()
    return Loaded(path, header, end[0].state_hash, shard)


def read_header(path: Path) -> Header | Damaged:
    """What a snapshot says about itself, without loading it."""
    try:
        with path.open("rb") as file:
            return _expect_header(_records(file))
    except (OSError, SnapshotDamaged, msgspec.ValidationError) as error:
        return Damaged(path, str(error))


def sync_directory(directory: Path) -> None:
    """Make names durable: a rename is on the disk only once its directory is."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_file(path: Path, header: Header, chunks: Iterable[bytes]) -> str:
    """Header, chunks and end; returns the state hash. On the disk when this returns. Raises OSError."""
    encode = msgspec.msgpack.Encoder().encode
    digest = blake2b(digest_size=16)
    with path.open("wb") as file:
        link = _write_record(file, _FIRST_LINK, HEADER, encode(header))
        count = unsynced = 0
        for chunk in chunks:
            # The same bytes in the same order as `Shard.state_hash` takes; verifying compares the two.
            digest.update(hashed(chunk))
            link = _write_record(file, link, CHUNK, chunk)
            count += 1
            unsynced += len(chunk)
            if unsynced > SYNC_BYTES:
                file.flush()
                os.fdatasync(file.fileno())
                unsynced = 0
        _write_record(file, link, END, encode(End(count, digest.hexdigest())))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _write_record(file: BinaryIO, link: bytes, kind: int, payload: bytes) -> bytes:
    link = _link(link, kind, payload)
    file.write(_PREFIX.pack(len(payload), kind, link))
    file.write(payload)
    return link


def _link(before: bytes, kind: int, payload: bytes) -> bytes:
    digest = blake2b(before, digest_size=16)
    digest.update(_COVERED.pack(len(payload), kind))
    digest.update(payload)
    return digest.digest()


def _records(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """(offset, kind, payload) of each record, up to and with the end. Raises SnapshotDamaged."""
    link = _FIRST_LINK
    offset = 0
    while True:
        prefix = file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            raise SnapshotDamaged(offset, "the file ends before its end record")
        length, kind, expected = _PREFIX.unpack(prefix)
        if length > RECORD_BYTES_MAX:
            raise SnapshotDamaged(offset, f"a record of {length} bytes")
        payload = file.read(length)
        if len(payload) < length:
            raise SnapshotDamaged(offset, "the file ends within a record")
        link = _link(link, kind, payload)
        if link != expected:
            raise SnapshotDamaged(offset, "the checksum does not match")
        yield offset, kind, payload
        offset += _PREFIX.size + length
        if kind == END:
            if file.read(1):
                raise SnapshotDamaged(offset, "there is something after the end record")
            return


def _expect_header(records: Iterator[tuple[int, int, bytes]]) -> Header:
    offset, kind, payload = next(records)
    if kind != HEADER:
        raise SnapshotDamaged(offset, "no header")
    header = msgspec.msgpack.decode(payload, type=Header)
    if header.format != FORMAT:
        raise SnapshotDamaged(offset, f"format {header.format}; this release reads {FORMAT}")
    return header


def _chunks(records: Iterator[tuple[int, int, bytes]], end: list[End]) -> Iterator[bytes]:
    """The chunks; what the end record says goes into `end`."""
    count = 0
    for offset, kind, payload in records:
        if kind == CHUNK:
            count += 1
            yield payload
        elif kind == END:
            found = msgspec.msgpack.decode(payload, type=End)
            if found.chunks != count:
                raise SnapshotDamaged(offset, f"{count} chunks of {found.chunks}")
            end.append(found)
        else:
            raise SnapshotDamaged(offset, f"a record of kind {kind}")
