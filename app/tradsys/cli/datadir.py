"""Read a venue's data directory from outside: replay its journal, with every frame compared.

Works beside a running engine, because a reader goes no further than what the engine has published, and
on a directory that nobody uses, where the end of the log and its high-water mark are judged as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
from msgspec import Struct

from tradsys import metrics
from tradsys.adapters.history.follower import is_full
from tradsys.adapters.history.process import READMODEL_NAME
from tradsys.adapters.history.readmodel import ReadModel
from tradsys.adapters.history.snapshots import (
    Damaged,
    Header,
    Loaded,
    SnapshotStore,
    load,
    read_header,
)
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.lock import DirectoryLocked, lock_directory
from tradsys.adapters.log.reader import BrokenLog, LogReader
from tradsys.adapters.log.recovery import recover
from tradsys.adapters.log.segments import segment_indexes
from tradsys.adapters.page.page import Page, PageError, boot_id
from tradsys.cli.failures import JOURNAL, LOCKED, Failure
from tradsys.codec.frame import COMMANDS_FRAME, first_difference
from tradsys.compose.pieces import PAGE_FILE, pragmas
from tradsys.compose.replay import replayer
from tradsys.core.shard import Shard
from tradsys.settings import Settings
from tradsys.venue.ports import Frame

Moved = Callable[[int, int], None]
"""Hears (last command replayed, last command known of)."""


class Moment(Struct):
    """A shard as it was after a command."""

    shard: Shard
    seq: int
    time_ns: int
    epoch: int
    chain: bytes


class Verified(Struct):
    """What a verification has found in order."""

    seq: int
    commands: int
    from_seq: int
    """What was replayed begins behind this command: 0, or a snapshot's."""
    epoch: int
    chain: str
    state_hash: str
    snapshots: list[int]
    """Sequence numbers of the snapshots whose state was reproduced."""
    live: bool
    """An engine was writing, so the end of the log was not judged."""


def directory_of(settings: Settings) -> Path:
    """The data directory, which must hold a journal."""
    directory = Path(settings.data_dir)
    if not any(directory.glob("*.log")):
        raise Failure(
            f"{directory} holds no journal",
            "name the venue's directory with --data-dir",
        )
    return directory


def page_of(directory: Path) -> Page | None:
    """The shared page if an engine has run since the machine started."""
    try:
        page = Page.open(str(directory / PAGE_FILE), boot_id())
    except (FileNotFoundError, PageError):
        return None
    if page.current:
        return page
    page.close()
    return None


def starting(directory: Path) -> Failure:
    """Why nothing can be read: an engine has the directory, and has not said yet how far its journal is."""
    return Failure(f"an engine is starting in {directory}", "try again in a moment", LOCKED)


def replay(settings: Settings, until: int | None, moved: Moved) -> Moment:
    """The shard after command `until`, or after the last one: a snapshot before it and the journal.

    Raises BrokenLog where the journal does not verify or replays to other events, Failure if it does
    not reach `until`, or no longer reaches back to it.
    """
    directory = directory_of(settings)
    page = page_of(directory)
    published = page.published_seq if page else None
    if until is not None and published is not None and until > published:
        raise Failure(f"the journal ends with {published}", "name an earlier --until")
    start = _newest_before(directory, until)
    shard, seq, chain = _begin(settings, start)
    reader = LogReader(str(directory), OsFiles(), seq, chain)
    apply = replayer(shard)
    last = until if until is not None else published
    moment = Moment(shard, seq, start.header.time_ns if start else 0, 0, chain or b"")
    try:
        while last is None or moment.seq < last:
            raw = reader.next_frame()
            if raw is None:
                break
            if raw.kind != COMMANDS_FRAME or raw.last_seq <= seq:
                continue
            frame = reader.decode(raw)
            if last is not None and raw.last_seq > last:
                _apply_some(shard, frame, last)
                moment.seq = last
            else:
                replayed = apply(frame)
                if replayed != raw.payload:
                    broken = raw.first_seq + first_difference(raw.payload, replayed)
                    raise reader.broken("replay gives other events", broken)
                moment.seq = raw.last_seq
            moment.time_ns, moment.epoch, moment.chain = raw.time_ns, raw.epoch, raw.chain
            moved(moment.seq, max(last or 0, moment.seq))
        if last is not None and moment.seq < last:
            if published is not None:
                raise reader.broken("no frame verifies here, but the engine has published it")
            raise Failure(f"the journal ends with {moment.seq}", "name an earlier --until")
    finally:
        reader.close()
        if page:
            page.close()
    return moment


def _apply_some(shard: Shard, frame: Frame, last: int) -> None:
    """The first commands of a batch, up to `last`."""
    for seq, entry in enumerate(frame.entries, frame.first_seq):
        if seq > last:
            return
        shard.apply(entry.command, seq, frame.time_ns)


def _newest_before(directory: Path, until: int | None) -> Loaded | None:
    """The newest whole snapshot that is not later than `until`."""
    for path in SnapshotStore(directory).paths():
        header = read_header(path)
        if isinstance(header, Damaged) or (until is not None and header.seq > until):
            continue
        found = load(path, Shard.restore)
        if isinstance(found, Loaded):
            return found
    return None


def _begin(settings: Settings, start: Loaded | None) -> tuple[Shard, int, bytes | None]:
    if start is None:
        return Shard(settings.shard), 0, None
    return start.shard, start.header.seq, start.header.chain


def verify(settings: Settings, moved: Moved) -> Verified:
    """Check everything there is to check in a data directory, and change nothing.

    Each frame's place in the chain; that replay gives the journalled events; that the replayed state is
    that of every snapshot on the way; that money is conserved. If no engine runs, also that the log
    reaches the high-water mark and that nothing behind its end was promised. Raises BrokenLog.
    """
    directory = directory_of(settings)
    try:
        lock = lock_directory(str(directory))
    except DirectoryLocked:
        return _verify(settings, directory, moved, live=True)
    try:
        return _verify(settings, directory, moved, live=False)
    finally:
        os.close(lock)


def _verify(settings: Settings, directory: Path, moved: Moved, live: bool) -> Verified:
    snapshots = {header.seq: path for path, header in _headers(directory)}
    start = None
    if not _begins_at_one(directory):
        oldest = min(snapshots, default=None)
        if oldest is None:
            raise BrokenLog(1, 0, 0, "the first segments are gone, and no snapshot stands in for them")
        loaded = load(snapshots[oldest], Shard.restore)
        if isinstance(loaded, Damaged):
            raise Failure(f"{loaded.path}: {loaded.problem}", exit_code=JOURNAL)
        start = loaded
    shard, seq, chain = _begin(settings, start)
    walk = _Walk(shard, seq, snapshots)
    page = page_of(directory)
    published = page.published_seq if page else None
    if page:
        page.close()
    if live:
        if published is None:
            raise starting(directory)
        epoch, chain_found = _follow(directory, walk, seq, chain, published, moved)
    else:
        found = recover(
            str(directory),
            OsFiles(),
            walk.apply,
            after_seq=seq,
            chain=chain,
            published_seq=published,
            progress=moved,
        )
        epoch, chain_found = found.epoch, found.chain
    _check(shard)
    return Verified(
        seq=walk.seq,
        commands=walk.seq - seq,
        from_seq=seq,
        epoch=epoch,
        chain=chain_found.hex(),
        state_hash=shard.state_hash(),
        snapshots=walk.reproduced,
        live=live,
    )


class Rebuilt(Struct):
    """What a read model was rebuilt from."""

    seq: int
    orders: int
    trades: int
    candles: int


def rebuild(settings: Settings, moved: Moved) -> Rebuilt:
    """Make the read model anew from the journal, from its first command to the last that is durable.

    History may run: it waits for the end of the one transaction that this is, and goes on from there. Raises
    BrokenLog; Failure where the journal no longer reaches back to its beginning.
    """
    directory = directory_of(settings)
    if not _begins_at_one(directory):
        raise Failure(
            f"the oldest journal segments of {directory} are gone, so rows of that time can't be made again",
            "the read model still has them; without it, take it from a backup (tradsys restore)",
        )
    page = page_of(directory)
    durable = page.durable_seq if page else None
    if page:
        page.close()
    reader = LogReader(str(directory), OsFiles())
    model = ReadModel(directory / READMODEL_NAME, pragmas(settings), [0] * metrics.WORDS_USED)
    try:
        model.rebuild(_batches(reader, durable, moved))
        counts = [
            model.db.execute(f"SELECT count(*) FROM {table}").get for table in ("orders", "trades", "candles")
        ]
    except apsw.BusyError:
        raise Failure(
            f"{directory / READMODEL_NAME} is being written all the time", "try again", LOCKED
        ) from None
    finally:
        reader.close()
        model.close()
    return Rebuilt(model.position.seq, *counts)


def _batches(reader: LogReader, last: int | None, moved: Moved) -> Iterator[tuple[list[Frame], bytes]]:
    """The journal's frames, some at a time, with the chain behind them."""
    frames: list[Frame] = []
    commands, size, seq, chain = 0, 0, 0, b""
    while last is None or seq < last:
        raw = reader.next_frame()
        if raw is None:
            if last is not None:
                raise reader.broken("no frame verifies here, but it was on the disk")
            break
        if raw.kind != COMMANDS_FRAME:
            continue
        if is_full(commands + raw.count, size) and frames:
            yield frames, chain
            moved(seq, max(last or 0, seq))
            frames, commands, size = [], 0, 0
        frames.append(reader.decode(raw))
        commands += raw.count
        size += len(raw.payload)
        seq, chain = raw.last_seq, raw.chain
    if frames:
        yield frames, chain
        moved(seq, seq)


class _Walk:
    """Replays frame by frame and compares the state with each snapshot that it comes by."""

    def __init__(self, shard: Shard, seq: int, snapshots: dict[int, Path]) -> None:
        self.seq = seq
        self.reproduced: list[int] = []
        self._shard = shard
        self._replay = replayer(shard)
        self._snapshots = snapshots
        self._compare()

    def apply(self, frame: Frame) -> bytes:
        payload = self._replay(frame)
        self.seq = frame.first_seq + len(frame.entries) - 1
        self._compare()
        return payload

    def _compare(self) -> None:
        path = self._snapshots.get(self.seq)
        if path is None:
            return
        # By its hash alone: the file proves itself, and a second state in memory is not needed.
        found = load(path, lambda chunks: self._shard)
        if isinstance(found, Damaged):
            raise Failure(f"{found.path}: {found.problem}", exit_code=JOURNAL)
        replayed = self._shard.state_hash()
        if found.state_hash != replayed:
            raise Failure(
                f"{path}: the journal replays to state {replayed}, the snapshot is of {found.state_hash}",
                exit_code=JOURNAL,
            )
        _check(self._shard)
        self.reproduced.append(self.seq)


def _follow(
    directory: Path, walk: _Walk, seq: int, chain: bytes | None, published: int, moved: Moved
) -> tuple[int, bytes]:
    """Replay up to what a running engine has published; returns the epoch and chain found there."""
    reader = LogReader(str(directory), OsFiles(), seq, chain)
    try:
        for frame in reader.frames(published):
            replayed = walk.apply(frame)
            if replayed != frame.payload:
                broken = frame.first_seq + first_difference(frame.payload, replayed)
                raise reader.broken("replay gives other events", broken)
            moved(walk.seq, published)
        return reader.epoch, reader.chain
    finally:
        reader.close()


def _check(shard: Shard) -> None:
    try:
        shard.check()
    except AssertionError as fault:
        raise Failure(f"the replayed state contradicts itself: {fault}", exit_code=JOURNAL) from None


def _headers(directory: Path) -> Iterator[tuple[Path, Header]]:
    """Snapshots that are what their name says; whether they are whole is seen when they are read."""
    for path in SnapshotStore(directory).paths():
        header = read_header(path)
        if isinstance(header, Damaged):
            raise Failure(f"{header.path}: {header.problem}", exit_code=JOURNAL)
        yield path, header


def _begins_at_one(directory: Path) -> bool:
    return 1 in segment_indexes(str(directory), OsFiles())
