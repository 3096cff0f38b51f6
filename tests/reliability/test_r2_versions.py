"""R2: data of a newer release is refused with a sentence that says so, and left as it is; format 1 is read.

`format_1.json` is a data directory as the first release writes it: a journal of two epochs, a high-water
mark and a snapshot in the middle, with the state that they are. A release that can't read it any more breaks
what was promised. Its state is of format 1 too, but the state hash beside it is that of format 3. It is made
by `python -m tests.reliability.test_r2_versions`; once a release is out, never.
"""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

import pytest

from tests.adapters.journalled import Recording, last_seq
from tests.api.venue_process import RunningVenue, running_venue
from tests.cli.command import tradsys
from tests.reliability.lives import Life
from tradsys.adapters.history import snapshots as snapshot_files
from tradsys.adapters.history.process import READMODEL_NAME
from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.segments import segment_path
from tradsys.cli.stages import Work
from tradsys.codec.frame import CHAIN_BYTES, COMMANDS_FRAME, FRAME_OVERHEAD, encode_frame
from tradsys.core import snapshot as shard_chunks
from tradsys.core.shard import Shard

FORMAT_1 = Path(__file__).with_name("format_1.json")
NEVER_KEPT = {"page", "lock", "hs256.key"}
"""What a start makes before it has read the journal."""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> RunningVenue:
    """A venue that does not run: 3,000 commands in several segments, and two snapshots."""
    venue = RunningVenue(tmp_path_factory.mktemp("r2"))
    venue.data.mkdir()
    life = Life(venue.data, segment_bytes=64 << 10)
    work = Work(seed=1, count=3_000)
    life.journal(work.setup, 1)
    for start in range(0, 3_000, 50):
        life.journal(work.commands[start : start + 50], start + 2)
        if start in (1_000, 2_000):
            life.snapshot(start + 2)
    life.drain(3_000)
    assert life.log.segment > 2
    return venue


@pytest.fixture
def data(left: RunningVenue, tmp_path: Path) -> Path:
    return Path(shutil.copytree(left.data, tmp_path / "data"))


def serve(left: RunningVenue, data: Path, name: str = "engine") -> tuple[int, str]:
    """(exit code, what it said) of a process that is expected to end by itself."""
    ended = subprocess.run(
        [sys.executable, "-m", "tradsys", "serve", name],
        env=left.env | {"TRADSYS_DATA_DIR": str(data)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return ended.returncode, ended.stderr


def kept(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in data.iterdir() if path.name not in NEVER_KEPT}


def end_of(data: Path) -> LogReader:
    reader = LogReader(str(data), OsFiles())
    while reader.next_frame() is not None:
        pass
    return reader


# --- the journal ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "value", "torn", "said"),
    [
        (4, 2, False, "format 2, kind 3, flags 0x0"),
        (5, 9, False, "format 1, kind 9, flags 0x0"),
        (6, 4, False, "format 1, kind 3, flags 0x4"),
        (4, 2, True, "format 2, kind 3, flags 0x0"),
    ],
    ids=["format", "kind", "flags", "format, behind a torn frame"],
)
def test_a_journal_that_a_newer_release_has_written_to_is_refused_and_not_cut(
    left, data, at, value, torn, said
):
    reader = end_of(data)
    frame = bytearray(
        encode_frame(
            reader.chain, COMMANDS_FRAME, False, reader.epoch + 1, reader.seq + 1, 1, reader.time_ns, b"\x90"
        )
    )
    frame[at] = value
    frame[-CHAIN_BYTES:] = blake2b(reader.chain + frame[:-CHAIN_BYTES], digest_size=CHAIN_BYTES).digest()
    with open(segment_path(str(data), reader.segment), "r+b") as file:
        file.seek(reader.offset)
        # What was torn: no frame, and then the 16 bytes that the next frame's hash begins with.
        file.write((b"\x01" * FRAME_OVERHEAD + reader.chain if torn else b"") + frame)
    before = kept(data)

    code, message = serve(left, data)

    assert (code, f"{said} are not known to this release" in message) == (70, True), message
    assert kept(data) == before
    verified = tradsys("verify", env=left.env | {"TRADSYS_DATA_DIR": str(data)})
    assert (verified.code, "not known to this release" in verified.err) == (70, True), verified
    assert kept(data) == before


# --- snapshots --------------------------------------------------------------------------------------


def newer_snapshot(data: Path, monkeypatch: pytest.MonkeyPatch, part: ModuleType) -> None:
    """Write the newest snapshot again, as a release with a newer format of `part`; it is the only one."""
    newest, *others = SnapshotStore(data).paths()
    loaded = snapshot_files.load(newest, Shard.restore)
    assert isinstance(loaded, snapshot_files.Loaded)
    for path in (newest, *others):
        path.unlink()
    header = loaded.header
    with monkeypatch.context() as newer:
        newer.setattr(part, "FORMAT", part.FORMAT + 1)
        written, _ = SnapshotStore(data).write(
            loaded.shard, header.epoch, header.seq, header.time_ns, header.chain
        )
    written.rename(written.with_suffix(""))


NEWER = pytest.mark.parametrize(
    ("part", "said"),
    [
        (snapshot_files, "format 2; this release reads 1"),
        (shard_chunks, "the state has format 4; this release reads 1 to 3"),
    ],
    ids=["file", "state"],
)


@NEWER
def test_a_newer_snapshot_is_passed_over_as_long_as_the_journal_has_everything(
    left, data, monkeypatch, part, said
):
    env = left.env | {"TRADSYS_DATA_DIR": str(data)}
    was = tradsys("replay", "--json", env=env).json
    newer_snapshot(data, monkeypatch, part)
    (snapshot,) = SnapshotStore(data).paths()
    before = snapshot.read_bytes()

    with running_venue(data.parent, data_dir=data) as venue:
        said_by_engine = venue.log().decode()
        verified = tradsys("verify", env=env)
    replayed = tradsys("replay", "--json", env=env).json

    assert f"{snapshot.name} is not used" in said_by_engine and said in said_by_engine
    assert verified.code == 70, verified
    assert (replayed["seq"], replayed["state_hash"]) == (was["seq"], was["state_hash"])
    assert snapshot.read_bytes() == before


@NEWER
def test_a_newer_snapshot_that_is_needed_stops_the_start(left, data, monkeypatch, part, said):
    newer_snapshot(data, monkeypatch, part)
    (data / "00000001.log").unlink()
    before = kept(data)

    code, message = serve(left, data)

    assert code == 70
    assert said in message and "the oldest segment begins with seq" in message
    assert kept(data) == before


# --- the read model ---------------------------------------------------------------------------------


def test_a_newer_read_model_stops_history_and_not_the_engine(left, data):
    database = sqlite3.connect(data / READMODEL_NAME)
    database.execute("PRAGMA journal_mode = wal")
    database.execute("PRAGMA user_version = 99")
    database.close()
    before = (data / READMODEL_NAME).read_bytes()

    with running_venue(data.parent, data_dir=data) as venue:
        code, message = serve(venue, data, "history")
        assert venue.call("GET", "/time").status == 200

    assert (code, "has schema 99, this release knows" in message) == (78, True), message
    assert (data / READMODEL_NAME).read_bytes() == before


# --- format 1 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_format_1_is_read_and_written_on(tmp_path, with_snapshot):
    stored = json.loads(FORMAT_1.read_text())
    for name, content in stored["files"].items():
        (tmp_path / name).write_bytes(zlib.decompress(base64.b64decode(content)))
    (snapshot,) = SnapshotStore(tmp_path).paths()
    if not with_snapshot:
        snapshot.unlink()

    life = Life(tmp_path)

    assert (life.recovered.seq, life.recovered.epoch, life.recovered.closed) == (stored["seq"], 2, True)
    assert life.shard.state_hash() == stored["state_hash"]
    assert life.shard.name == "a" and life.shard.orders.open_count == stored["open_orders"]
    life.shard.check()
    life.drain(life.recovered.time_ns)
    assert Life(tmp_path).recovered.next_epoch == 4


def write_format_1() -> None:
    recording = Recording(6, batch_max=8)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for epoch in (1, 2):
            life = Life(directory, segment_bytes=128 << 10)
            for number, frame in enumerate(recording.record(400)):
                commands = [entry.command for entry in frame.entries]
                assert life.journal(commands, frame.time_ns) == frame.entries
                if epoch == 1 and number == 40:
                    life.snapshot(frame.time_ns)
            time_ns = frame.time_ns
        life.drain(time_ns)
        files = {
            path.name: base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()
            for path in sorted(directory.iterdir())
            if path.name not in NEVER_KEPT
        }
    stored = {
        "seq": last_seq(frame),
        "state_hash": recording.shard.state_hash(),
        "open_orders": recording.shard.orders.open_count,
        "files": files,
    }
    FORMAT_1.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    write_format_1()
