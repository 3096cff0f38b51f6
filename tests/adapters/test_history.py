"""History as a whole: a real log, a real follower, and what happens to both."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import apsw
import pytest

from tests.adapters.following import Engine, HistoryProcess, HistoryThread, until
from tests.adapters.journalled import last_seq
from tradsys import metrics
from tradsys.adapters.history import follower, syncing
from tradsys.adapters.history.process import EXIT_ALONE, EXIT_JOURNAL
from tradsys.adapters.history.readmodel import ReadModel, ReadModelMoved
from tradsys.adapters.history.snapshots import KEPT, SnapshotStore
from tradsys.adapters.history.sqlite import Pragmas
from tradsys.adapters.log.files import OsFiles
from tradsys.core.shard import Shard
from tradsys.venue.ports import JournalError

KILLS = int(os.environ.get("COUNT_HISTORY_KILLS", "4"))


@pytest.fixture(autouse=True)
def nobody_is_left_behind():
    yield
    while HistoryProcess.started:
        HistoryProcess.started.pop().kill()


@pytest.fixture
def engine(tmp_path):
    return Engine(tmp_path)


def rows(path: Path) -> dict[str, list[tuple]]:
    """Everything that the read model tells, without the chain (it holds the epochs' frames)."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(5_000)
    tables = {
        table: db.execute(f"SELECT * FROM {table}").fetchall()
        for table in ("instruments", "revocations", "orders", "trades", "fills")
    }
    tables["position"] = db.execute("SELECT seq FROM position").fetchall()
    db.close()
    return tables


def replayed(engine: Engine, directory: Path) -> dict[str, list[tuple]]:
    """What the read model must hold: everything that was journalled, in one transaction."""
    directory.mkdir()
    model = ReadModel(directory / "readmodel.db", Pragmas(), [0] * metrics.WORDS_USED)
    model.write(engine.recording.frames, b"")
    model.close()
    return rows(directory / "readmodel.db")


def test_after_kills_at_random_moments_the_read_model_is_a_replay_of_the_journal(engine, tmp_path):
    random = Random(KILLS)
    for _ in range(KILLS):
        history = HistoryProcess(tmp_path, snapshot_every=random.choice((300, 700, 10_000)))
        engine.trade(random.randint(1, 1_000))
        wanted = random.choice((0, engine.seq // 2, engine.seq))
        until("some of it", lambda: engine.page.metrics[metrics.READMODEL_SEQ.word()] >= wanted)  # noqa: B023
        history.kill()
        if random.random() < 0.4:
            engine.begin()
    history = HistoryProcess(tmp_path)
    history.wait_for(engine.seq)
    state = json.loads(history.get("/internal/state-hash")[1])

    assert history.terminate() == 0

    assert state == {"seq": engine.seq, "state_hash": engine.recording.shard.state_hash()}
    assert rows(tmp_path / "readmodel.db") == replayed(engine, tmp_path / "replayed")


def syncs(history: HistoryProcess) -> int:
    """The process that syncs for this one; history has no other child as long as it makes no snapshot."""
    pid = history.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.fixture
def stopped_history(tmp_path, engine):
    """History that has begun, and is not run any more; it goes on behind the test."""
    history = HistoryProcess(tmp_path)
    engine.trade(50)
    history.wait_for(engine.seq)
    os.kill(history.process.pid, signal.SIGSTOP)
    yield history
    os.kill(history.process.pid, signal.SIGCONT)


def test_a_history_that_is_not_run_keeps_no_sync_and_no_segment_waiting(tmp_path, engine, stopped_history):
    replayed = engine.page.metrics[metrics.REPLAY_SEQ.word()]
    first = engine.page.segment
    while engine.page.segment < first + 2:
        engine.trade(500)
        until("a sync", lambda: engine.page.durable_seq == engine.seq, within_s=20)

    assert engine.page.metrics[metrics.REPLAY_SEQ.word()] == replayed


def test_without_the_process_that_syncs_history_ends_and_another_one_goes_on(tmp_path, engine):
    history = HistoryProcess(tmp_path)
    engine.trade(300)
    history.wait_for(engine.seq)

    os.kill(syncs(history), signal.SIGKILL)

    assert history.process.wait(30) == EXIT_ALONE
    assert "the process that syncs has ended with -9" in (tmp_path / "history.err").read_text()
    engine.trade(300)
    again = HistoryProcess(tmp_path)
    again.wait_for(engine.seq)
    assert again.terminate() == 0
    assert rows(tmp_path / "readmodel.db") == replayed(engine, tmp_path / "replayed")


def test_a_killed_history_leaves_nobody_behind_who_syncs(tmp_path, engine):
    history = HistoryProcess(tmp_path)
    engine.trade(50)
    history.wait_for(engine.seq)
    child = syncs(history)

    history.kill()

    until("it is gone", lambda: not is_alive(child))


def test_of_two_histories_only_the_first_syncs_as_long_as_it_lives(tmp_path, engine):
    history = HistoryProcess(tmp_path)
    engine.trade(50)
    history.wait_for(engine.seq)
    second = HistoryProcess(tmp_path)
    os.kill(syncs(history), signal.SIGSTOP)
    engine.trade(50)

    until("it says so", lambda: "the sync of the journal is late" in second.get("/readyz")[1])
    assert engine.page.durable_seq < engine.seq

    history.kill()
    until("the other one syncs", lambda: engine.page.durable_seq == engine.seq)
    assert second.terminate() == 0


def test_a_clean_end_leaves_a_snapshot_of_everything(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "LAST_SNAPSHOT_COMMANDS_MIN", 500)
    with HistoryThread(tmp_path, engine.page):
        engine.trade(500)

    newest, damaged = SnapshotStore(tmp_path).newest(Shard.restore)
    assert newest is not None and damaged == []
    assert newest.header.seq == engine.seq == engine.page.durable_seq
    assert newest.shard.state_hash() == newest.state_hash == engine.recording.shard.state_hash()
    assert rows(tmp_path / "readmodel.db")["position"] == [(engine.seq,)]


def test_a_clean_end_does_not_wait_for_a_snapshot_of_a_few_commands(engine, tmp_path):
    history = HistoryProcess(tmp_path)
    engine.trade(500)

    assert history.terminate() == 0

    assert list(tmp_path.glob("snapshot-*")) == []
    assert engine.seq == engine.page.durable_seq
    assert rows(tmp_path / "readmodel.db")["position"] == [(engine.seq,)]


def test_a_clean_end_gives_up_a_snapshot_that_nobody_needs(engine, tmp_path, monkeypatch):
    forever = [sys.executable, "-c", "import time; time.sleep(600)"]
    verifying: list[subprocess.Popen[bytes]] = []

    def verify(store: SnapshotStore, written: Path) -> subprocess.Popen[bytes]:
        verifying.append(subprocess.Popen(forever, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return verifying[-1]

    monkeypatch.setattr(SnapshotStore, "verify", verify)
    with HistoryThread(tmp_path, engine.page, snapshot_every=300):
        engine.trade(500)
        until("it is verified", lambda: verifying)

    assert [one.returncode for one in verifying] == [-signal.SIGKILL]
    assert list(tmp_path.glob("snapshot-*")) == []


def test_who_asked_for_a_snapshot_has_it_although_history_ends(engine, tmp_path, monkeypatch):
    verify, verifying = SnapshotStore.verify, []

    def held(store: SnapshotStore, written: Path) -> subprocess.Popen[bytes]:
        verifying.append(verify(store, written))
        verifying[-1].send_signal(signal.SIGSTOP)
        return verifying[-1]

    monkeypatch.setattr(SnapshotStore, "verify", held)
    with HistoryThread(tmp_path, engine.page) as following:
        engine.trade(50)
        following.wait_for(engine.seq)
        asked = following.history.follower.snapshot()
        until("it is verified", lambda: verifying)
        following.history.stop()
        verifying[0].send_signal(signal.SIGCONT)

    assert asked.result(0).seq == engine.seq


def test_the_next_snapshot_comes_so_many_commands_after_the_last_one_also_of_a_new_history(
    engine, tmp_path, monkeypatch
):
    write, written = SnapshotStore.write, []

    def noted(store: SnapshotStore, shard: Shard, epoch: int, seq: int, *rest: object):
        written.append(seq)
        return write(store, shard, epoch, seq, *rest)

    def verified() -> int:
        return engine.page.metrics[metrics.SNAPSHOTS.word("verified")]

    monkeypatch.setattr(SnapshotStore, "write", noted)
    with HistoryThread(tmp_path, engine.page, snapshot_every=1_000) as following:
        engine.trade(1_000)
        until("the first is verified", lambda: verified() == 1)
        engine.trade(100)
        following.wait_for(engine.seq)
        time.sleep(4 * follower.ROUND_S)
    with HistoryThread(tmp_path, engine.page, snapshot_every=1_000) as following:
        engine.trade(100)
        following.wait_for(engine.seq)
        time.sleep(4 * follower.ROUND_S)
        assert len(written) == 1

        engine.trade(1_000)
        until("the second is verified", lambda: verified() == 2)

    assert written[1] - written[0] >= 1_000


class GatedFiles(OsFiles):
    """The real files, whose fdatasync waits at a gate, or fails."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.waiting = False
        self.error: OSError | None = None

    @contextmanager
    def opened_at_last(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.gate.set()

    def datasync(self, handle: int) -> None:
        self.waiting = True
        self.gate.wait()
        if self.error is not None:
            raise self.error
        os.fdatasync(handle)


def test_nothing_is_shown_before_it_is_durable(engine, tmp_path):
    files = GatedFiles()
    durable = engine.page.durable_seq
    with HistoryThread(tmp_path, engine.page, files=files) as thread, files.opened_at_last():
        until("the start", lambda: thread.history.follower.caught_up)
        engine.trade(300)
        until("it tries to sync", lambda: files.waiting)
        assert engine.page.durable_seq == durable
        assert rows(tmp_path / "readmodel.db")["position"] == []

        files.gate.set()

        until("all of it", lambda: rows(tmp_path / "readmodel.db")["position"] == [(engine.seq,)])
        assert engine.page.durable_seq == engine.seq


def test_a_failed_sync_poisons_the_page_and_an_engine_that_recovered_is_followed_on(engine, tmp_path):
    files = GatedFiles()
    files.gate.set()
    with HistoryThread(tmp_path, engine.page, files=files) as thread:
        history = thread.history
        engine.trade(100)
        until("the first part", lambda: engine.page.durable_seq == engine.seq)
        durable = engine.seq
        files.error = OSError(errno.EIO, "planted")

        with pytest.raises(JournalError, match="a sync failed in another process"):
            while True:
                engine.trade(1)

        assert engine.page.poisoned
        assert engine.page.durable_seq == durable
        assert "a sync of the journal has failed" in history.not_ready()

        files.error = None
        published = engine.page.published_seq
        lost = [frame for frame in engine.recording.frames if last_seq(frame) > published]
        engine.begin()
        for frame in lost:
            engine.log.append(frame.first_seq, frame.time_ns, frame.entries)
        engine.trade(100)
        until("the rest", lambda: history.follower.position.seq == engine.seq)
        until("ready again", lambda: history.not_ready() == [])
    assert rows(tmp_path / "readmodel.db") == replayed(engine, tmp_path / "replayed")


def test_events_that_a_replay_does_not_give_end_the_process_with_their_number(engine, tmp_path):
    engine.trade(50)
    frame = engine.recording.record(60)[-1]
    seq = engine.seq + 1
    for entry in frame.entries:
        if entry.events and entry.events[0][0] == 1:
            entry.events[0] = (1, 77)
            break
        seq += 1
    for good in engine.recording.frames:
        if good.first_seq > engine.log.seq:
            engine.log.append(good.first_seq, good.time_ns, good.entries)
    history = HistoryProcess(tmp_path)

    assert history.process.wait(30) == EXIT_JOURNAL

    said = (tmp_path / "history.err").read_text()
    wrong = frame.first_seq + next(i for i, e in enumerate(frame.entries) if e.events[:1] == [(1, 77)])
    assert f"replay of seq {wrong} gives other events than the journal has" in said
    assert engine.page.metrics[metrics.REPLAY_MISMATCHES.word()] == 1
    assert rows(tmp_path / "readmodel.db")["position"] <= [(frame.first_seq - 1,)]


def follow(engine: Engine, snapshot_every: int = 10**9) -> str:
    """History runs until it has everything, in a snapshot too, and ends cleanly. Returns its state hash."""
    with HistoryThread(engine.directory, engine.page, snapshot_every=snapshot_every) as thread:
        thread.wait_for(engine.seq)
        thread.snapshot()
        return thread.history.follower.state_hash().result(30).state_hash


@pytest.mark.parametrize(
    "damage",
    ["missing", "garbage", "of another journal", "of another journal, ahead", "of a later point"],
)
def test_a_read_model_that_can_not_be_used_is_made_again(engine, tmp_path, damage):
    engine.trade(600)
    follow(engine, snapshot_every=200)
    path = tmp_path / "readmodel.db"
    if damage == "missing":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"no database" * 1000)
    else:
        with sqlite3.connect(path) as db:
            db.execute("UPDATE position SET chain = ?", (bytes(16),))
            if damage == "of a later point":
                db.execute("UPDATE position SET seq = seq + 1000")
            elif damage == "of another journal":
                db.execute("UPDATE position SET seq = ?", (last_seq(engine.recording.frames[5]),))
            else:
                for snapshot in SnapshotStore(tmp_path).paths():
                    snapshot.unlink()

    follow(engine)

    assert rows(path) == replayed(engine, tmp_path / "replayed")
    assert (tmp_path / "readmodel.db.aside").exists() == (damage != "missing")


@pytest.mark.parametrize(
    "errors",
    [
        [apsw.FullError("planted"), apsw.FullError("planted")],
        [apsw.CorruptError("planted")],
        [ReadModelMoved(Path("readmodel.db")), ReadModelMoved(Path("readmodel.db"))],
        [apsw.BusyError("planted"), ReadModelMoved(Path("readmodel.db"))],
    ],
    ids=["full", "damaged", "rebuilt twice", "rebuilt and being rebuilt"],
)
def test_a_full_disk_or_a_rebuild_is_waited_for_and_a_damaged_file_is_made_again(
    engine, tmp_path, monkeypatch, errors
):
    monkeypatch.setattr(follower, "RETRY_S", 0.01)
    write, failures = ReadModel.write, [*errors]

    def failing(model: ReadModel, frames: list, chain: bytes) -> None:
        if model.position.seq > 300 and failures:
            raise failures.pop()
        write(model, frames, chain)

    monkeypatch.setattr(ReadModel, "write", failing)
    engine.trade(400)
    with HistoryThread(tmp_path, engine.page) as thread:
        thread.wait_for(engine.seq)
        engine.trade(400)
        thread.wait_for(engine.seq)

    assert failures == []
    assert (tmp_path / "readmodel.db.aside").exists() == isinstance(errors[0], apsw.CorruptError)
    assert rows(tmp_path / "readmodel.db") == replayed(engine, tmp_path / "replayed")


@pytest.mark.parametrize("limit, at_most", [("COMMANDS", 100), ("BYTES", 6_000)])
def test_a_history_that_is_behind_bounds_its_transactions_by_commands_and_by_bytes(
    engine, tmp_path, monkeypatch, limit, at_most
):
    monkeypatch.setattr(follower, f"TRANSACTION_{limit}_MAX", at_most)
    write, written = ReadModel.write, []

    def noted(model: ReadModel, frames: list, chain: bytes) -> None:
        commands = [len(frame.entries) for frame in frames]
        # The frame that passes the limit in bytes is still taken.
        written.append(sum(commands) if limit == "COMMANDS" else sum(len(f.payload) for f in frames[:-1]))
        write(model, frames, chain)

    engine.trade(800)
    monkeypatch.setattr(ReadModel, "write", noted)
    with HistoryThread(tmp_path, engine.page) as thread:
        thread.wait_for(engine.seq)

    assert len(written) > 5 and at_most / 2 < max(written) <= at_most
    assert rows(tmp_path / "readmodel.db") == replayed(engine, tmp_path / "replayed")


def test_whoever_looks_for_garbage_hears_how_far_history_has_come(engine, tmp_path):
    heard: list[int] = []

    with HistoryThread(tmp_path, engine.page, collect=heard.append) as thread:
        engine.trade(100)
        thread.wait_for(engine.seq)
        until("it is told", lambda: heard[-1:] == [engine.seq])

    assert heard == sorted(heard)


@pytest.mark.parametrize("behind", [True, False])
def test_read_model_and_snapshot_may_be_ahead_of_each_other(engine, tmp_path, behind):
    engine.trade(400)
    follow(engine)
    early = (tmp_path / "readmodel.db").read_bytes()
    snapshot = SnapshotStore(tmp_path).paths()[0]
    engine.trade(400)
    follow(engine)
    if behind:
        (tmp_path / "readmodel.db").write_bytes(early)
    else:
        for path in SnapshotStore(tmp_path).paths():
            if path != snapshot:
                path.unlink()
    engine.trade(100)

    state = follow(engine)

    assert state == engine.recording.shard.state_hash()
    assert rows(tmp_path / "readmodel.db") == replayed(engine, tmp_path / "replayed")
    assert not (tmp_path / "readmodel.db.aside").exists()


@pytest.mark.parametrize(
    "what,said",
    [
        ("torn", "the file ends within a record"),
        ("of another shard", "it is of shard b"),
        ("of another journal", "the journal is another one"),
        ("of a later command", "the journal does not reach so far"),
    ],
)
def test_a_snapshot_that_is_not_this_journals_is_passed_over(engine, tmp_path, caplog, what, said):
    engine.trade(400)
    follow(engine)
    engine.trade(200)
    follow(engine)
    store, shard, seq, chain = SnapshotStore(tmp_path), engine.recording.shard, engine.seq, bytes(16)
    newest = store.paths()[0]
    if what == "torn":
        newest.write_bytes(newest.read_bytes()[:-5])
    else:
        if what == "of another shard":
            shard, chain = Shard("b"), engine.log.chain
        if what == "of a later command":
            seq += 1_000
        written, _ = store.write(shard, 1, seq, 1, chain)
        newest = store.accept(written, store.verify(written))
    engine.trade(1)

    state = follow(engine)

    assert f"{newest.name} can't be used" in caplog.text and said in caplog.text
    assert newest.exists() == (what != "torn")
    assert state == engine.recording.shard.state_hash()
    assert rows(tmp_path / "readmodel.db") == replayed(engine, tmp_path / "replayed")


def test_without_space_for_the_next_segment_it_is_tried_again(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(syncing, "NO_SPACE_RETRY_S", 0.01)
    engine = Engine(tmp_path, segment_bytes=64 << 10)
    files = FullFiles()
    with HistoryThread(tmp_path, engine.page, files=files) as thread:
        until("it was tried", lambda: files.refused > 2)
        assert engine.page.prepared_segment == engine.page.segment
        files.is_full = False
        until("a next segment", lambda: engine.page.prepared_segment == engine.page.segment + 1)
        engine.trade(1_000)
        thread.wait_for(engine.seq)

    said = [record.message for record in caplog.records if "next segment" in record.message]
    assert said[0] == "next segment of the journal: there is no space for it"
    assert len([message for message in said if "no space" in message]) == 1


class FullFiles(OsFiles):
    """The real files, on a disk without space for new ones."""

    def __init__(self) -> None:
        self.is_full = True
        self.refused = 0

    def create(self, path: str) -> int:
        if self.is_full:
            self.refused += 1
            raise OSError(errno.ENOSPC, "planted")
        return super().create(path)


def test_segments_go_when_nothing_needs_them_and_a_lost_read_model_is_bridged(tmp_path, caplog):
    engine = Engine(tmp_path, segment_bytes=64 << 10)
    with HistoryThread(tmp_path, engine.page, snapshot_every=500) as thread:
        while not engine.page.metrics[metrics.SEGMENTS_RETIRED.word()]:
            assert engine.seq < 60_000
            engine.trade(500)
            thread.wait_for(engine.seq)
    names = sorted(path.name for path in tmp_path.glob("*.log"))
    shard = engine.recording.shard
    for path in tmp_path.glob("readmodel.db*"):
        path.unlink()

    follow(engine)

    assert names[0] != "00000001.log" and len(SnapshotStore(tmp_path).paths()) == KEPT
    assert "the read model goes on from the snapshot" in caplog.text
    found = {(row[0], row[14]) for row in rows(tmp_path / "readmodel.db")["orders"] if row[12] in (1, 2)}
    assert found == {
        (order.id, order.open_qty) for account in shard.accounts.values() for order in account.open.values()
    }


def test_a_snapshot_and_a_state_hash_can_be_asked_for(engine, tmp_path):
    engine.trade(300)
    history = HistoryProcess(tmp_path)
    history.wait_for(engine.seq)

    status, body = history.get("/internal/snapshot", method="POST")

    assert status == 200
    snapshot = json.loads(body)
    assert snapshot["seq"] == engine.seq
    assert snapshot["state_hash"] == engine.recording.shard.state_hash()
    assert (tmp_path / snapshot["file"]).stat().st_size == snapshot["bytes"]
    assert history.get("/internal/snapshot")[0] == 405
    assert history.terminate() == 0


def test_before_anything_is_journalled_there_is_no_snapshot(engine, tmp_path):
    history = HistoryProcess(tmp_path)

    status, body = history.get("/internal/snapshot", method="POST")

    assert (status, json.loads(body)["message"]) == (503, "no snapshot: nothing is journalled yet")
    assert history.terminate() == 0


def test_the_shards_metrics_are_served_and_written_for_the_engine_to_hand_on(engine, tmp_path):
    engine.trade(300)
    history = HistoryProcess(tmp_path)
    history.wait_for(engine.seq)
    wanted = f"tradsys_readmodel_seq {float(engine.seq)}"
    until("the next second", lambda: wanted in history.get("/metrics")[1])

    text = history.get("/metrics")[1]
    assert history.terminate() == 0

    assert 'tradsys_sqlite_pragma{pragma="cache_size"} 10000.0' in text
    assert f"tradsys_replayed_commands_total {float(engine.seq)}" in text
    assert f"tradsys_durable_seq {float(engine.seq)}" in text
    assert wanted in (tmp_path / "metrics.prom").read_text()


def test_the_high_water_mark_follows_and_never_passes_what_is_durable(engine, tmp_path):
    from tradsys.adapters.log.mark import MarkFile

    history = HistoryProcess(tmp_path)
    for _ in range(20):
        engine.trade(100)
        durable_before = engine.page.durable_seq
        mark = MarkFile(str(tmp_path), OsFiles())
        assert mark.mark.seq <= engine.page.durable_seq
        mark.close()
        assert durable_before <= engine.page.durable_seq
    assert history.terminate() == 0

    mark = MarkFile(str(tmp_path), OsFiles())
    assert mark.mark.seq == engine.seq
