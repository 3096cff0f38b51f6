"""B1: a backup that is taken under load is a state that the venue was in, and restores to it.

COUNT_B1 backups (2; 20 in a release). Each is restored into an empty directory and verified there; its state
must be that of the original journal, replayed command by command from the first on, at that number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue, running_venue
from tests.cli.command import tradsys
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.page.page import Page, boot_id
from tradsys.core.shard import Shard

BACKUPS = int(os.environ.get("COUNT_B1", "2"))


def states_at(data: Path, seqs: Collection[int]) -> dict[int, str]:
    """The state hash after each of these commands, of the journal alone."""
    shard, found = Shard("a"), {}
    published = Page.open(str(data / "page"), boot_id()).published_seq
    for frame in LogReader(str(data), OsFiles()).frames(published):
        for seq, entry in enumerate(frame.entries, frame.first_seq):
            assert shard.apply(entry.command, seq, frame.time_ns) == entry.events
            if seq in seqs:
                shard.check()
                found[seq] = shard.state_hash()
    return found


@contextlib.contextmanager
def load_on(venue: RunningVenue) -> Iterator[None]:
    """Orders, cancels and replaces at a rate that leaves the machine time for the backups."""
    flow = subprocess.Popen(
        [sys.executable, "-m", "tradsys", "flow", "--seed", "1", "--rate", "500", "--duration", "1h"],
        env=venue.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        assert flow.poll() is None, "the load ended by itself"
    finally:
        # Not SIGTERM: coverage then saves what it has in the middle of what it does, and may wait for itself.
        flow.kill()
        flow.wait(timeout=30)


def seq_of(venue: RunningVenue) -> int:
    return venue.call("GET", "/time").seq


@pytest.mark.timeout(120 + 20 * BACKUPS)
def test_each_backup_under_load_restores_to_the_state_of_its_last_command(tmp_path):
    found: dict[int, tuple[str, str]] = {}
    settings = {"segment_bytes": 1 << 20, "snapshot_every": 3_000}
    with running_venue(tmp_path, ("engine", "history"), **settings) as venue, load_on(venue):
        while seq_of(venue) < 500:
            time.sleep(0.01)
        for number in range(BACKUPS):
            before = seq_of(venue)
            copy, restored = tmp_path / f"backup-{number}", tmp_path / f"restored-{number}"
            made = tradsys("backup", copy, "--json", env=venue.env).json
            # What was durable a moment ago is in it, and the venue went on meanwhile.
            assert before - 500 < made["seq"] < seq_of(venue)
            env = venue.env | {"TRADSYS_DATA_DIR": str(restored)}
            assert tradsys("restore", copy, env=env).code == 0
            verified = tradsys("verify", "--json", env=env).json
            assert (verified["live"], verified["seq"]) == (False, made["seq"])
            found[made["seq"]] = made["state_hash"], verified["state_hash"]
            if number:
                shutil.rmtree(restored)
            shutil.rmtree(copy)

    expected = states_at(venue.data, found)
    assert len(expected) == BACKUPS
    assert found == {seq: (state, state) for seq, state in expected.items()}
    print(f"\n{BACKUPS} backups at {sorted(found)}")
    _trades_on(tmp_path / "restored-0", min(found))


def _trades_on(data: Path, seq: int) -> None:
    """A venue on restored data goes on where the backup ends, in an epoch that the original never has."""
    (data.parent / "again").mkdir()
    with running_venue(data.parent / "again", data_dir=data) as again:
        reply = again.call("GET", "/time")
        assert reply.seq == seq
        assert int(reply.headers["x-epoch"]) > 1_000_000
        trader, market = again.account("limits"), again.market()
        assert trader.placed(market, "buy", "1", "10")["status"] == "new"
