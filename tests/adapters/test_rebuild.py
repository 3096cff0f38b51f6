"""`tradsys rebuild`: the read model anew from the journal, beside everything that runs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import apsw
import pytest

from tests.adapters.following import Engine, HistoryProcess, until
from tests.adapters.journalled import Recording, last_seq
from tests.adapters.test_history import replayed, rows
from tests.cli.command import Ended, tradsys
from tradsys import metrics
from tradsys.adapters.history.process import READMODEL_NAME
from tradsys.adapters.history.reader import ReadModelReader
from tradsys.adapters.history.readmodel import ReadModel, ReadModelMoved
from tradsys.adapters.history.sqlite import Pragmas


@pytest.fixture(autouse=True)
def nobody_is_left_behind():
    yield
    while HistoryProcess.started:
        HistoryProcess.started.pop().kill()


@pytest.fixture
def engine(tmp_path):
    return Engine(tmp_path)


def rebuild(directory: Path, *arguments: str) -> Ended:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRADSYS_")}
    return tradsys("--data-dir", directory, "rebuild", *arguments, env=env)


def spoil(directory: Path) -> None:
    """Make the tables say something that never was."""
    db = apsw.Connection(str(directory / READMODEL_NAME))
    db.set_busy_timeout(5_000)
    with db:
        db.execute("UPDATE trades SET price = price + 1")
        db.execute("DELETE FROM fills")
        db.execute("DELETE FROM candles")
    db.close()


def test_beside_a_running_history_rows_are_those_of_the_journal_again_and_go_on(engine, tmp_path):
    history = HistoryProcess(tmp_path)
    engine.trade(1_500)
    history.wait_for(engine.seq)
    spoil(tmp_path)

    ended = rebuild(tmp_path, "--json")
    assert ended.json["seq"] == engine.seq
    engine.trade(500)
    history.wait_for(engine.seq)

    assert history.terminate() == 0
    assert rows(tmp_path / READMODEL_NAME) == replayed(engine, tmp_path / "replayed")
    assert ended.json["trades"] > 10 and ended.json["candles"] > 10


def test_while_the_engine_writes_nothing_is_missed_and_nothing_comes_twice(engine, tmp_path):
    history = HistoryProcess(tmp_path, snapshot_every=500)
    engine.trade(1_000)
    history.wait_for(engine.seq)
    writing = threading.Thread(target=lambda: [engine.trade(100) for _ in range(15)])
    writing.start()

    codes = [rebuild(tmp_path).code for _ in range(3)]

    writing.join()
    history.wait_for(engine.seq)
    assert history.terminate() == 0
    assert codes == [0, 0, 0]
    assert rows(tmp_path / READMODEL_NAME) == replayed(engine, tmp_path / "replayed")


def test_without_a_venue_a_missing_file_is_made(engine, tmp_path):
    history = HistoryProcess(tmp_path)
    engine.trade(600)
    history.wait_for(engine.seq)
    assert history.terminate() == 0
    for file in tmp_path.glob(READMODEL_NAME + "*"):
        file.unlink()

    ended = rebuild(tmp_path)

    assert (ended.code, f"{engine.seq}" in ended.out) == (0, True)
    assert rows(tmp_path / READMODEL_NAME) == replayed(engine, tmp_path / "replayed")


def test_whoever_reads_meanwhile_sees_the_tables_as_they_were(tmp_path):
    recording = Recording(3)
    model = ReadModel(tmp_path / READMODEL_NAME, Pragmas(), [0] * metrics.WORDS_USED)
    frames = recording.record(800)
    model.write(frames, b"")
    reader = ReadModelReader(model.path, Pragmas())
    seen = []

    def batches():
        for frame in frames[: len(frames) // 2]:
            with reader.view() as view:
                seen.append((view.seq, len(view.trades("BTC-USD", limit=1000).items)))
            yield [frame], b""

    with reader.view() as view:
        before = view.seq, len(view.trades("BTC-USD", limit=1000).items)
    model.rebuild(batches())

    assert set(seen) == {before}
    with reader.view() as view:
        assert view.seq == model.position.seq == last_seq(frames[len(frames) // 2 - 1])


def test_a_rebuild_that_fails_leaves_the_tables_as_they_were(tmp_path):
    frames = Recording(3).record(800)
    model = ReadModel(tmp_path / READMODEL_NAME, Pragmas(), [0] * metrics.WORDS_USED)
    model.write(frames[:-5], b"x")
    before = rows(model.path)

    def batches():
        yield frames[:10], b""
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        model.rebuild(batches())

    assert rows(model.path) == before
    model.write(frames[-5:], b"")


def test_a_writer_whose_tables_were_rebuilt_does_not_write_into_them(tmp_path):
    frames = Recording(3).record(800)
    first, second = (
        ReadModel(tmp_path / READMODEL_NAME, Pragmas(), [0] * metrics.WORDS_USED) for _ in range(2)
    )
    first.write(frames[:10], b"")
    second.rebuild([(frames[:12], b"")])

    with pytest.raises(ReadModelMoved, match="was rebuilt meanwhile"):
        first.write(frames[10:], b"")

    assert rows(first.path)["position"] == [(last_seq(frames[11]),)]


def test_what_the_journal_no_longer_holds_is_not_thrown_away(engine, tmp_path):
    history = HistoryProcess(tmp_path)
    engine.trade(600)
    history.wait_for(engine.seq)
    before = rows(tmp_path / READMODEL_NAME)
    os.rename(tmp_path / "00000001.log", tmp_path / "00000001.away")

    ended = rebuild(tmp_path)

    assert (ended.code, "can't be made again" in ended.err) == (1, True)
    assert rows(tmp_path / READMODEL_NAME) == before


def test_a_journal_that_does_not_verify_is_named_and_changes_nothing(engine, tmp_path):
    history = HistoryProcess(tmp_path)
    engine.trade(600)
    history.wait_for(engine.seq)
    assert history.terminate() == 0
    before = rows(tmp_path / READMODEL_NAME)
    with open(tmp_path / "00000001.log", "r+b") as file:
        file.seek(2_000)
        file.write(b"\xff" * 8)

    ended = rebuild(tmp_path)

    assert (ended.code, "journal broken at seq" in ended.err) == (70, True)
    assert rows(tmp_path / READMODEL_NAME) == before


def test_tables_that_another_holds_are_left_alone(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("tradsys.adapters.history.sqlite.BUSY_TIMEOUT_MS", 50)
    history = HistoryProcess(tmp_path)
    engine.trade(100)
    until("written", lambda: history.status()["readmodel_lag"] == 0)
    assert history.terminate() == 0
    db = apsw.Connection(str(tmp_path / READMODEL_NAME))
    db.execute("BEGIN IMMEDIATE")

    ended = rebuild(tmp_path)

    db.execute("ROLLBACK")
    assert (ended.code, "is being written all the time" in ended.err) == (75, True)
