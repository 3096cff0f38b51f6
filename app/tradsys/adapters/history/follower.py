"""The follower of the journal: a second copy of the state, and everything that is made from it.

It reads what is durable, applies each frame to its own shard, and compares the events with those that the
engine journalled, byte for byte. From the same frames it writes the read model, and from its shard the
snapshots and state hashes. So nothing that takes long happens in the engine, and a release that gives
other events than the one before is found on the first command where it does.

    sync process ─► durable_seq ─► frames ─► shard ─► snapshot ─► verified elsewhere ─► old segments may go
                                       └──► read model

Snapshot and read model each know their place in the journal (sequence number and chain), and either may be
ahead of the other after a crash: frames that one of them has already are only given to the other.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from subprocess import Popen
from time import monotonic, perf_counter_ns
from typing import Protocol

import apsw
from msgspec import Struct

from tradsys import metrics
from tradsys.adapters.history.readmodel import NOTHING, Position, ReadModel, ReadModelMoved
from tradsys.adapters.history.replay import replay
from tradsys.adapters.history.retention import Needed, first_seq_of, retire
from tradsys.adapters.history.schedule import Schedule
from tradsys.adapters.history.snapshots import (
    KEPT,
    Damaged,
    Loaded,
    SnapshotFailed,
    SnapshotStore,
    load,
    read_header,
)
from tradsys.adapters.history.syncing import Progress
from tradsys.codec.frame import first_difference
from tradsys.core.shard import Shard
from tradsys.venue.ports import Frame, JournalError

TRANSACTION_COMMANDS_MAX = 20_000
"""Of a history that is behind; one that keeps up has fewer in a round. An order that came and went in one
transaction is written once, as is a page that many of its rows lie in: 10,000 commands are written in half
of the time of ten times 1,000, twice as many take a sixth less."""
TRANSACTION_BYTES_MAX = 4 << 20
"""Of frames: a few commands may have very many events."""
ROUND_S = 0.05
"""From one look at the journal to the next. A round costs something whatever it finds, a transaction above
all: after each sync, five milliseconds apart, the read model cost twice as much a command."""
NICE = 5
"""The replay is the first to wait on a CPU that others want, also where it is not idle (`priority.py`)."""
RETRY_S = 1.0
FINISH_S = 5.0
"""How much of its backlog a history that was told to stop still works off."""
LAST_SNAPSHOT_COMMANDS_MIN = 20_000
"""Fewer are replayed within a third of a second: an end does not wait for a snapshot of them."""

_UNREADABLE = (apsw.CorruptError, apsw.NotADBError)
_REPLAYED = metrics.REPLAYED.word()
_REPLAY_SEQ = metrics.REPLAY_SEQ.word()
_READMODEL_SEQ = metrics.READMODEL_SEQ.word()

_log = logging.getLogger("tradsys.history")


class ReplayMismatch(JournalError):
    """The replay gave other events than the engine: one of the two is not the release it should be."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"replay of seq {seq} gives other events than the journal has")
        self.seq = seq


class Reader(Protocol):
    """Reads the journal from a place on."""

    chain: bytes
    """Of the frame that was read last."""
    agrees: bool
    """The place where it began is in this journal, with the chain that was given."""

    def frames(self, until_seq: int, /) -> Iterator[Frame]:
        """The frames up to a command; call again when there are more.

        Raises JournalError if one can't be trusted, or if the journal is another one at the place where
        the reader began.
        """

    def close(self) -> None: ...


class _AnotherJournal(Exception):
    """The read model was made from another journal than this one."""


class Snapshot(Struct, frozen=True):
    """What a request for one is answered with."""

    seq: int
    state_hash: str
    file: str
    bytes: int


class StateHash(Struct, frozen=True):
    seq: int
    state_hash: str


class _Verifying(Struct):
    """A snapshot that another process is loading, and who waits for it."""

    seq: int
    state_hash: str
    path: Path
    process: Popen[bytes]
    asked_by: list[Future[Snapshot]]
    write_s: float
    children_s: float
    """CPU time of all children that had ended when it was begun."""


class Follower:
    """Follows one journal until it is told to stop. `run` is the main loop of the process."""

    def __init__(
        self,
        *,
        shard_name: str,
        progress: Progress,
        open_reader: Callable[[int, bytes | None], Reader],
        readmodel_path: Path,
        open_readmodel: Callable[[Path], ReadModel],
        snapshots: SnapshotStore,
        segments: Callable[[], Sequence[Path]],
        snapshot_every: int,
        words: MutableSequence[int],
        collect: Callable[[int], None],
    ) -> None:
        """`open_reader(seq, chain)` reads what follows the frame with this end; `segments` are the
        journal's files, oldest first; `collect` looks for garbage, it is called now and then with the last
        command that was applied."""
        self._progress = progress
        self._open_reader = open_reader
        self._readmodel_path = readmodel_path
        self._open_readmodel = open_readmodel
        self._snapshots = snapshots
        self._segments = segments
        self._snapshot_every = snapshot_every
        self._schedule: Schedule
        self._words = words
        self._collect = collect
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._requests: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wanted: list[Future[Snapshot]] = []
        self._verifying: _Verifying | None = None
        self._verified_seq = 0
        """What a start finds in the newest snapshot."""
        self._pending: list[Frame] = []
        self._pending_commands = self._pending_bytes = 0
        self.shard = Shard(shard_name)
        self.position = NOTHING
        """What the shard has applied."""
        self._epoch = self._time_ns = 0
        self._shown_seq = 0
        self.readmodel: ReadModel
        self._reader: Reader
        self._started = False
        self.caught_up = False
        """Everything that was durable at some moment since the start has been applied."""

    # --- asked for by other threads -----------------------------------------------------------------

    def stop(self) -> None:
        """Follow to what is durable, write a last snapshot if the next start needs one, return from `run`."""
        self._stop.set()
        self._wake.set()

    def snapshot(self) -> Future[Snapshot]:
        """A snapshot of now, verified; the one of this state if there is one already."""
        done: Future[Snapshot] = Future()
        self._requests.put(lambda: self._wanted.append(done))
        self._wake.set()
        return done

    def state_hash(self) -> Future[StateHash]:
        """The hash of the state after the last command that was applied."""
        done: Future[StateHash] = Future()
        self._requests.put(lambda: done.set_result(StateHash(self.position.seq, self.shard.state_hash())))
        self._wake.set()
        return done

    @property
    def lag(self) -> tuple[int, int]:
        """Durable commands that the shard has not applied, and that the read model does not show."""
        durable = self._progress.durable_seq
        return max(0, durable - self.position.seq), max(0, durable - self._shown_seq)

    # --- the main loop ------------------------------------------------------------------------------

    def run(self) -> None:
        """Follow until `stop`. Raises JournalError for a journal that can't be trusted, ReplayMismatch
        for one that this release does not reproduce; both end the process."""
        os.nice(NICE)  # Of this thread alone, and of what it starts.
        while not self._progress.current:
            if self._stop.wait(ROUND_S):
                return
        self._start()
        self._started = True
        while not self._stop.is_set():
            self._advance(self._stop.is_set)
            self._tend()
            self.caught_up = True
            self._wake.wait(ROUND_S)
            self._wake.clear()

    def finish(self) -> None:
        """After `run` and the last sync: follow to the end, and see that the next start has little to replay.
        A long way that is left is left to that start, too."""
        if self._started:
            end = monotonic() + FINISH_S
            self._advance(lambda: monotonic() > end)
            self._take_requests()
            self._finish_snapshots()
            self._reader.close()
            self.readmodel.close()

    def _advance(self, enough: Callable[[], bool]) -> None:
        """Apply and write everything that is durable now, or until it is enough."""
        durable = self._progress.durable_seq
        if durable <= self.position.seq:
            return
        for frame in self._reader.frames(durable):
            if is_full(self._pending_commands + len(frame.entries), self._pending_bytes):
                self._flush()
                self._tend()
            self._replay(frame)
            if frame.first_seq > self.readmodel.position.seq:
                self._pending.append(frame)
                self._pending_commands += len(frame.entries)
                self._pending_bytes += len(frame.payload)
            elif self.position.seq >= self.readmodel.position.seq:
                self._compare_readmodel()
            if enough():
                break
        self._flush()

    def _replay(self, frame: Frame) -> None:
        replayed = replay(self.shard, frame)
        if replayed != frame.payload:
            self._words[metrics.REPLAY_MISMATCHES.word()] += 1
            raise ReplayMismatch(frame.first_seq + first_difference(frame.payload, replayed))
        commands = len(frame.entries)
        seq = frame.first_seq + commands - 1
        self.position = Position(seq, self._reader.chain)
        self._epoch, self._time_ns = frame.epoch, frame.time_ns
        words = self._words
        words[_REPLAYED] += commands
        words[_REPLAY_SEQ] = seq

    def _flush(self) -> None:
        """Write what was applied to the read model: whole frames, never ahead of what is durable."""
        if not self._pending:
            return
        while True:
            try:
                self.readmodel.write(self._pending, self.position.chain)
                break
            except (apsw.FullError, apsw.BusyError) as error:
                # The journal goes on meanwhile; a full disk is the engine's to judge.
                _log.error("the read model can't be written: %s", error)
                if self._stop.wait(RETRY_S):
                    return
            except _UNREADABLE as error:
                self.readmodel.close()
                self._set_aside(error)
                self._start_readmodel()
                break
            except ReadModelMoved as moved:
                _log.info("%s; going on from where it stands now", moved)
                self.readmodel.close()
                self._start_readmodel()
                break
        self._shown_seq = self._words[_READMODEL_SEQ] = self.readmodel.position.seq
        self._pending.clear()
        self._pending_commands = self._pending_bytes = 0

    def _tend(self) -> None:
        """What else is due: garbage, requests, snapshots, and the end of a verification."""
        self._collect(self.position.seq)
        self._take_requests()
        verifying = self._verifying
        if verifying is not None:
            if verifying.process.poll() is None:
                return
            self._accept(verifying)
        due = not self._stop.is_set() and self._schedule.due(self.position.seq, self.lag[0], monotonic())
        if self._wanted or due:
            self._begin_snapshot()

    def _take_requests(self) -> None:
        while True:
            try:
                request = self._requests.get_nowait()
            except Empty:
                return
            request()

    # --- snapshots ----------------------------------------------------------------------------------

    def _begin_snapshot(self) -> None:
        """Write one, and let another process load it; the replay waits only for the first."""
        wanted, self._wanted = self._wanted, []
        self._schedule.began(self.position.seq, monotonic())
        started = perf_counter_ns()
        try:
            if not self.position.seq:
                raise SnapshotFailed("nothing is journalled yet")
            path, state_hash = self._snapshots.write(
                self.shard, self._epoch, self.position.seq, self._time_ns, self.position.chain
            )
        except SnapshotFailed as error:
            self._snapshot_failed(error, wanted)
            return
        took_ns = self._words[metrics.SNAPSHOT_DURATION.word()] = perf_counter_ns() - started
        gc.freeze()
        self._verifying = _Verifying(
            self.position.seq,
            state_hash,
            path,
            self._snapshots.verify(path),
            wanted,
            took_ns / 1e9,
            _children_cpu_s(),
        )

    def _snapshot_failed(self, error: SnapshotFailed, wanted: list[Future[Snapshot]]) -> None:
        self._words[metrics.SNAPSHOTS.word("failed")] += 1
        _log.error("no snapshot: %s", error)
        for future in wanted:
            future.set_exception(error)

    def _accept(self, verifying: _Verifying) -> None:
        """A verification has ended, or is waited for here."""
        self._verifying = None
        words = self._words
        try:
            path = self._snapshots.accept(verifying.path, verifying.process)
        except SnapshotFailed as error:
            self._snapshot_failed(error, verifying.asked_by)
            return
        finally:
            self._schedule.cost(verifying.write_s + _children_cpu_s() - verifying.children_s)
        words[metrics.SNAPSHOTS.word("verified")] += 1
        self._verified_seq = words[metrics.SNAPSHOT_SEQ.word()] = verifying.seq
        done = Snapshot(verifying.seq, verifying.state_hash, path.name, path.stat().st_size)
        _log.info("snapshot %s, %d bytes, state %s", done.file, done.bytes, done.state_hash)
        for future in verifying.asked_by:
            future.set_result(done)
        self._snapshots.prune()
        self._retire_segments()

    def _finish_snapshots(self) -> None:
        """One that nobody waits for is given up, unless the next start would have much to replay."""

        def needed() -> bool:
            return self.position.seq - self._verified_seq >= LAST_SNAPSHOT_COMMANDS_MIN

        verifying = self._verifying
        if verifying is not None:
            if verifying.asked_by or needed():
                self._accept(verifying)
            else:
                self._verifying = None
                self._snapshots.give_up(verifying.path, verifying.process)
        if self._wanted or needed():
            self._begin_snapshot()
            if self._verifying is not None:
                self._accept(self._verifying)

    def _retire_segments(self) -> None:
        kept = [read_header(path) for path in self._snapshots.paths()]
        seqs = [header.seq for header in kept if not isinstance(header, Damaged)]
        if len(seqs) < KEPT:
            return
        after_seq = min(*seqs, self.readmodel.position.seq)
        needed = Needed(after_seq, self._time_ns - self.shard.rules.idempotency_window_ns)
        gone = retire(self._segments, needed)
        if gone:
            self._words[metrics.SEGMENTS_RETIRED.word()] += len(gone)
            _log.info("journal segments removed: %s", ", ".join(path.name for path in gone))

    # --- the start ----------------------------------------------------------------------------------

    def _start(self) -> None:
        """Load the newest snapshot that the journal agrees with, and bring the read model to its place."""
        self._snapshots.prune()
        self._load_snapshot()
        self._verified_seq = self.position.seq
        self._schedule = Schedule(self._snapshot_every, self.position.seq)
        gc.collect()
        gc.freeze()
        try:
            self._start_readmodel()
        except (*_UNREADABLE, _AnotherJournal) as error:
            self._set_aside(error)
            self._start_readmodel()
        words = self._words
        words[_REPLAY_SEQ] = words[metrics.SNAPSHOT_SEQ.word()] = self.position.seq
        self._shown_seq = words[_READMODEL_SEQ] = self.readmodel.position.seq
        _log.info(
            "following from seq %d; the read model is at %d, the journal at %d",
            self.position.seq,
            self.readmodel.position.seq,
            self._progress.durable_seq,
        )

    def _load_snapshot(self) -> None:
        for path in self._snapshots.paths():
            found = load(path, Shard.restore)
            problem = found.problem if isinstance(found, Damaged) else self._problem_of(found)
            if isinstance(found, Loaded) and not problem:
                header = found.header
                self.shard = found.shard
                self.position = Position(header.seq, header.chain)
                self._epoch, self._time_ns = header.epoch, header.time_ns
                return
            _log.error("%s can't be used: %s", path.name, problem)
            if isinstance(found, Damaged):
                # It must not count as one of the two that let old segments go.
                path.rename(path.with_name(path.name + ".damaged"))
        self._reader = self._open_reader(0, None)

    def _problem_of(self, snapshot: Loaded) -> str:
        """Why the journal can't be followed from this snapshot; "" if it can, and the reader stands there."""
        header = snapshot.header
        if header.shard != self.shard.name:
            return f"it is of shard {header.shard}"
        if header.seq > self._progress.durable_seq:
            return "the journal does not reach so far"
        self._reader = self._open_reader(header.seq, header.chain)
        try:
            for _ in self._reader.frames(header.seq):
                pass
        except JournalError as error:
            self._reader.close()
            return str(error)
        return "" if self._reader.agrees else "the journal is another one"

    def _start_readmodel(self) -> None:
        """Open the read model; if it is behind the shard, bring it there. Raises _AnotherJournal."""
        while True:
            try:
                self.readmodel = self._readmodel_brought_here()
                return
            except ReadModelMoved as moved:
                _log.info("%s, once more", moved)
            except apsw.BusyError as error:
                # Whoever rebuilds it has it for as long as that takes.
                _log.warning("the read model can't be written: %s", error)
                if self._stop.wait(RETRY_S):
                    raise

    def _readmodel_brought_here(self) -> ReadModel:
        model = self._open_readmodel(self._readmodel_path)
        try:
            if model.position.seq > self._progress.durable_seq:
                raise _AnotherJournal(f"it ends with seq {model.position.seq}")
            if model.position.seq < self.position.seq:
                self._bring_up(model)
            if model.position == self.position and not model.knows_book:
                model.learn_book(self.shard)
        except BaseException:
            model.close()
            raise
        return model

    def _bring_up(self, model: ReadModel) -> None:
        """Give it what the shard has: from the journal, or, as far as that is gone, from the shard."""
        reader = self._open_reader(model.position.seq, model.position.chain or None)
        try:
            self._catch_up(model, reader)
        except JournalError as error:
            begin = first_seq_of(self._segments())
            if not reader.agrees and begin is not None and begin <= model.position.seq + 1:
                raise _AnotherJournal(str(error)) from error
            _log.warning(
                "the read model goes on from the snapshot; between seq %d and %d it has no rows: %s",
                model.position.seq,
                self.position.seq,
                error,
            )
            model.bridge(self.shard, self.position, self._epoch, self._time_ns)
        finally:
            reader.close()

    def _catch_up(self, model: ReadModel, reader: Reader) -> None:
        """Give the read model what the shard has already. Raises JournalError where the journal fails."""
        frames: list[Frame] = []
        commands, size, chain = 0, 0, b""
        for frame in reader.frames(self.position.seq):
            if is_full(commands + len(frame.entries), size):
                model.write(frames, chain)
                frames, commands, size = [], 0, 0
            frames.append(frame)
            commands += len(frame.entries)
            size += len(frame.payload)
            chain = reader.chain
        if chain != self.position.chain:
            raise _AnotherJournal("it parts from the snapshot's")
        model.write(frames, chain)

    def _compare_readmodel(self) -> None:
        """The shard has come to where the read model was all along: do they mean the same journal?"""
        if self.position != self.readmodel.position:
            self.readmodel.close()
            self._set_aside(_AnotherJournal(f"it is another one at seq {self.readmodel.position.seq}"))
            self._start_readmodel()
        elif not self.readmodel.knows_book:
            self.readmodel.learn_book(self.shard)

    def _set_aside(self, why: Exception) -> None:
        """Put the read model's file away, for whoever wants to look at it; a new one is made."""
        path = self._readmodel_path
        _log.error("the read model is set aside as %s.aside: %s", path.name, why)
        for suffix in ("", "-wal", "-shm"):
            file = path.with_name(path.name + suffix)
            if file.exists():
                file.rename(path.with_name(path.name + ".aside" + suffix))


def is_full(commands: int, payload_bytes: int) -> bool:
    """Of a transaction: with so many commands, and the frames of so many bytes before them."""
    return commands > TRANSACTION_COMMANDS_MAX or payload_bytes > TRANSACTION_BYTES_MAX


def _children_cpu_s() -> float:
    """CPU time of the children that have ended: while this is asked, only those that verify."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
