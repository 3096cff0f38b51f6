"""Commands on a venue's data: what is verified, how the past is shown, that a copy is worth something."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.api.venue_process import RunningVenue, running_venue
from tests.cli.command import Ended, tradsys
from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.lock import lock_directory
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.segments import prepare_next_segment
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page, boot_id
from tradsys.cli.stages import Work
from tradsys.codec.frame import COMMANDS_FRAME
from tradsys.codec.market_v1 import book_of
from tradsys.compose.replay import recover_shard
from tradsys.core.messages import Command
from tradsys.core.shard import Shard
from tradsys.settings import load
from tradsys.venue.clock import EngineClock
from tradsys.venue.venue import Venue

SEGMENT_BYTES = 64 << 10
Book = tuple[Any, Any]
"""(bids, asks)"""


class Data:
    """A data directory with 3,000 commands in several segments, two snapshots and no engine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.books: dict[int, Book] = {}
        """BTC-USD as it was, by sequence number; the last two have a snapshot."""
        self.state_hash = ""
        work = Work(seed=1, count=3_000)
        files = OsFiles()
        page = Page.create(str(directory / "page"), boot_id())
        shard, recovered = recover_shard(
            load({"TRADSYS_DATA_DIR": str(directory)}), files, None, lambda seq, last: None
        )
        journal = LogWriter.begin(
            str(directory), files, recovered, page, durable=False, segment_bytes=SEGMENT_BYTES, time_ns=1
        )
        venue = Venue(shard, journal, EngineClock(0, time.time_ns, time.monotonic_ns), 0)
        venue.process(work.setup)
        for start in range(0, len(work.commands), 50):
            assert prepare_next_segment(str(directory), files, page, SEGMENT_BYTES)
            venue.process(work.commands[start : start + 50])
            if start in (500, 1_500, 2_500):
                book = book_of(shard.markets["BTC-USD"], 50, 2, "a", venue.seq, 1, 0)
                self.books[venue.seq] = msgspec.json.decode(msgspec.json.encode((book.bids, book.asks)))
            if start in (1_500, 2_500):
                store = SnapshotStore(directory)
                written, _ = store.write(shard, 1, venue.seq, venue.time_ns, journal.chain)
                written.rename(written.with_suffix(""))
        self.seq = venue.seq
        self.state_hash = shard.state_hash()
        journal.close(venue.time_ns)
        page.close()

    def run(self, *arguments: object, data: Path | None = None) -> Ended:
        return tradsys(*arguments, env={"TRADSYS_DATA_DIR": str(data or self.directory)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def copy(data: Data, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data.directory, tmp_path / "copy"))


# --- verify -----------------------------------------------------------------------------------------


def test_a_sound_directory_is_verified_with_its_snapshots(data: Data):
    found = data.run("verify", "--json").json

    assert (found["seq"], found["commands"], found["state_hash"]) == (data.seq, data.seq, data.state_hash)
    assert (found["from_seq"], found["live"], found["epoch"]) == (0, False, 1)
    assert found["snapshots"] == list(data.books)[1:]
    told = data.run("verify")
    assert found["state_hash"] in told.out and "money is conserved" in told.out


def test_a_directory_that_begins_with_a_snapshot_is_verified_from_there(data: Data, copy: Path):
    (copy / "00000001.log").unlink()

    found = data.run("verify", "--json", data=copy).json

    assert (found["from_seq"], found["snapshots"]) == (list(data.books)[1], list(data.books)[1:])
    assert (found["seq"], found["state_hash"]) == (data.seq, data.state_hash)


def test_a_flipped_bit_is_found_with_its_place(data: Data, copy: Path):
    segment = copy / "00000001.log"
    content = bytearray(segment.read_bytes())
    content[len(content) // 3] ^= 4
    segment.write_bytes(content)

    ended = data.run("verify", data=copy)

    assert (ended.code, ended.out) == (70, "")
    assert "journal broken at seq" in ended.err and "00000001.log offset" in ended.err


def test_a_snapshot_that_is_not_of_this_journal_is_found(data: Data, copy: Path):
    snapshots = sorted(copy.glob("snapshot-*.tsn"))
    content = bytearray(snapshots[0].read_bytes())
    content[len(content) // 2] ^= 1
    snapshots[0].write_bytes(content)

    ended = data.run("verify", data=copy)

    assert (ended.code, "the checksum does not match" in ended.err) == (70, True)


def test_a_lost_tail_is_found(data: Data, copy: Path):
    last = sorted(copy.glob("*.log"))[-2]
    last.write_bytes(last.read_bytes()[:1000].ljust(SEGMENT_BYTES, b"\0"))

    assert data.run("verify", data=copy).code == 70


@pytest.mark.parametrize("command", [("verify",), ("backup", "elsewhere")])
def test_a_directory_whose_engine_is_just_starting_is_locked(
    data: Data, copy: Path, command: tuple[str, ...]
):
    (copy / "page").unlink()
    lock = lock_directory(str(copy))
    try:
        ended = data.run(*command[:1], *(copy.parent / name for name in command[1:]), data=copy)
    finally:
        os.close(lock)

    assert (ended.code, "an engine is starting" in ended.err) == (75, True)


def test_a_directory_without_a_journal_is_named(data: Data, tmp_path: Path):
    ended = data.run("verify", data=tmp_path)

    assert (ended.code, f"{tmp_path} holds no journal" in ended.err) == (1, True)


# --- replay -----------------------------------------------------------------------------------------


def test_the_books_are_shown_as_they_were(data: Data):
    for seq, (bids, asks) in data.books.items():
        shown = data.run("replay", "--until", seq, "--symbol", "BTC-USD", "--depth", "50", "--json").json

        assert (shown["seq"], shown["books"][0]["bids"], shown["books"][0]["asks"]) == (seq, bids, asks)


def test_a_moment_within_a_batch_is_the_state_after_that_command(data: Data, copy: Path):
    """From a snapshot and from the beginning it is the same state: that of the commands one by one."""
    seq = list(data.books)[1] + 17
    shard = Shard("a")
    for number, command, time_ns in journalled(data.directory)[:seq]:
        shard.apply(command, number, time_ns)
    with_snapshots = data.run("replay", "--until", seq, "--json").json
    for snapshot in copy.glob("snapshot-*.tsn"):
        snapshot.unlink()

    assert (with_snapshots["seq"], with_snapshots["state_hash"]) == (seq, shard.state_hash())
    assert data.run("replay", "--until", seq, "--json", data=copy).json == with_snapshots


def journalled(directory: Path) -> list[tuple[int, Command, int]]:
    """(number, command, time) of everything in the journal."""
    rows: list[tuple[int, Command, int]] = []
    reader = LogReader(str(directory), OsFiles())
    while (raw := reader.next_frame()) is not None:
        if raw.kind == COMMANDS_FRAME:
            frame = reader.decode(raw)
            numbered = enumerate(frame.entries, frame.first_seq)
            rows += [(number, entry.command, frame.time_ns) for number, entry in numbered]
    reader.close()
    return rows


def test_the_whole_journal_is_replayed_without_until(data: Data):
    shown = data.run("replay", "--json").json

    assert shown["state_hash"] == data.state_hash
    assert [book["symbol"] for book in shown["books"]] == ["BTC-USD", "ETH-USD"]
    told = data.run("replay", "--depth", "2").out
    assert "open orders" in told and "ETH-USD" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--until", "999999"), "the journal ends with"),
        (("--until", "5", "--symbol", "XRP-USD"), "there was no symbol XRP-USD at seq 5"),
    ],
)
def test_what_never_was_is_not_shown(data: Data, options: tuple[str, ...], said: str):
    ended = data.run("replay", *options)

    assert (ended.code, ended.out, said in ended.err) == (1, "", True)


# --- backup and restore -----------------------------------------------------------------------------


def test_a_backup_is_what_it_was_made_of_and_restores_to_it(data: Data, tmp_path: Path):
    made = data.run("backup", tmp_path / "backup", "--json").json

    assert (made["seq"], made["state_hash"]) == (data.seq, data.state_hash)
    assert {"high-water", "00000001.log"} <= set(made["files"])
    restored = tmp_path / "restored"
    assert data.run("restore", tmp_path / "backup", data=restored).code == 0
    again = data.run("verify", "--json", data=restored).json
    assert (again["seq"], again["state_hash"]) == (data.seq, data.state_hash)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "restored"]


def test_a_backup_under_load_is_a_state_that_the_venue_was_in_and_a_restored_venue_serves_it(tmp_path: Path):
    with running_venue(tmp_path, ("engine", "history")) as venue:
        results: list[Ended] = []
        arguments = ("flow", "--seed", "9", "--duration", "5s", "--rate", "400", "--batch", "10")
        load = threading.Thread(target=lambda: results.append(script(venue, *arguments)))
        load.start()
        while read_seq(venue) < 300:
            time.sleep(0.01)
        made = [tradsys("backup", tmp_path / f"b{number}", "--json", env=venue.env) for number in range(2)]
        live = tradsys("verify", "--json", env=venue.env).json
        load.join()
        venue.stop()

        assert [ended.code for ended in (*made, *results)] == [0] * 3, (made, results)
        assert (live["live"], live["from_seq"], live["seq"] >= 300) == (True, 0, True)
        first, second = (ended.json for ended in made)
        assert 300 <= first["seq"] < second["seq"]
        for manifest in (first, second):
            at = tradsys("replay", "--until", manifest["seq"], "--json", env=venue.env).json
            assert at["state_hash"] == manifest["state_hash"]
            assert "readmodel.db" in manifest["files"]
            assert not any("key" in name or "secret" in name for name in manifest["files"])

    again = tmp_path / "again"
    again.mkdir()
    env = venue.env | {"TRADSYS_DATA_DIR": str(again / "data")}
    assert tradsys("restore", tmp_path / "b0", env=env).code == 0
    with running_venue(again, ("engine", "history", "query")) as restored:
        book = tradsys("book", "BTC-USD", "--depth", "20", "--json", env=restored.env).json
        filled = tradsys("order", "list", "--status", "filled", "--json", env=restored.env).json["items"]
    was = tradsys("replay", "--until", first["seq"], "--depth", "20", "--json", env=venue.env).json

    assert (book["seq"], book["bids"]) == (first["seq"], was["books"][0]["bids"])
    assert book["epoch"] > 1_000_000
    assert filled


def read_seq(venue: RunningVenue) -> int:
    return int(tradsys("book", "BTC-USD", "--json", env=venue.env).json["seq"])


def script(venue: RunningVenue, *arguments: str) -> Ended:
    """A command in a process of its own, for what goes on beside another one."""
    ended = subprocess.run(
        [sys.executable, "-m", "tradsys", *arguments], env=venue.env, capture_output=True, text=True
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_nothing_is_backed_up_or_restored_over_something(data: Data, copy: Path, tmp_path: Path):
    data.run("backup", tmp_path / "backup")

    for ended in (
        data.run("backup", tmp_path / "backup"),
        data.run("restore", tmp_path / "backup", data=copy),
    ):
        assert (ended.code, "is not empty" in ended.err) == (1, True)


def test_an_unfinished_backup_is_none(data: Data, tmp_path: Path):
    data.run("backup", tmp_path / "backup")
    (tmp_path / "backup" / "backup.json").unlink()

    ended = data.run("restore", tmp_path / "backup", data=tmp_path / "restored")

    assert (ended.code, "is no whole backup" in ended.err) == (1, True)
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("name", ["00000001.log", "high-water"])
def test_a_damaged_backup_is_not_restored(data: Data, tmp_path: Path, name: str):
    data.run("backup", tmp_path / "backup")
    path = tmp_path / "backup" / name
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)

    ended = data.run("restore", tmp_path / "backup", data=tmp_path / "restored")

    assert (ended.code, f"{name} is not what was backed up" in ended.err) == (70, True)
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shard": "b"}, "TRADSYS_SHARD=b"),
        ({"format": 9}, "this release reads 1"),
        ({"state_hash": "00"}, "it should be seq"),
        ({"files": {"../x": "00"}}, "a file outside of the backup"),
        ({"seq": "many"}, "can't be read"),
    ],
)
def test_a_backup_that_tells_another_story_is_not_restored(
    data: Data, tmp_path: Path, change: dict[str, Any], said: str
):
    data.run("backup", tmp_path / "backup")
    manifest = tmp_path / "backup" / "backup.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))

    ended = data.run("restore", tmp_path / "backup", data=tmp_path / "restored")

    assert ended.code in (1, 70)
    assert said in ended.err
    assert not (tmp_path / "restored").exists()
