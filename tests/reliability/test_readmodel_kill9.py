"""RM: kill -9 of any process under load. The read model is the journal replayed, row for row."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.api.venue_process import API, RunningVenue
from tests.reliability.load import Load, verify_journal
from tradsys import metrics
from tradsys.adapters.history.process import READMODEL_NAME
from tradsys.adapters.history.readmodel import ReadModel
from tradsys.adapters.history.sqlite import Pragmas
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.page.page import Page, boot_id

KILLS = int(os.environ.get("COUNT_RM", "4"))
TABLES = ("instruments", "revocations", "orders", "trades", "fills", "candles")


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row there is, and the position."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found = {
        table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()
        for table in (*TABLES, "position")
    }
    db.close()
    return found


def replayed(data: Path, directory: Path) -> dict[str, list[tuple[Any, ...]]]:
    """A read model made here from the journal, one frame a transaction."""
    directory.mkdir()
    model = ReadModel(directory / READMODEL_NAME, Pragmas(), [0] * metrics.WORDS_USED)
    reader = LogReader(str(data), OsFiles())
    page = Page.open(str(data / "page"), boot_id())
    for frame in reader.frames(page.durable_seq):
        model.write([frame], reader.chain)
    model.close()
    return rows(directory / READMODEL_NAME)


def rebuild(venue: RunningVenue) -> subprocess.Popen[bytes]:
    with open(venue.directory / "rebuild.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tradsys", "rebuild"], env=venue.env, stdout=log, stderr=log
        )


def read_seq(venue: RunningVenue) -> int:
    reply = venue.send("GET", f"{API}/market/BTC-USD/trades?limit=1", port=venue.ports["query_port"])
    return int(reply.headers.get("x-read-seq", "0"))


@pytest.mark.timeout(900)
def test_the_read_model_is_a_replay_of_the_journal_after_kills_of_any_process(tmp_path):
    draw = random.Random(int(os.environ.get("SEED", "1")))
    venue = RunningVenue(
        tmp_path, ("engine", "history", "query"), snapshot_every=2_000, segment_bytes=1 << 20
    )
    venue.start()
    load = Load(venue)
    load.start()
    rebuilds = []
    try:
        for kill in range(KILLS):
            time.sleep(draw.uniform(0.1, 0.7))
            if kill % 2:
                rebuilds.append(rebuild(venue))
                time.sleep(draw.uniform(0.2, 1.0))
            venue.kill9(
                *draw.choice(
                    (("engine",), ("history",), ("history",), ("query",), ("engine", "history", "query"))
                )
            )
            if kill % 4 == 3:
                # The rebuild itself is killed, in the middle of its transaction or before it.
                rebuilds[-1].kill()
            venue.start()
        answers = load.finish()
        codes = {one.wait(60) for one in rebuilds}
        last = max(int(venue.call("GET", "/symbols").headers["x-seq"]), 1)
        deadline = time.monotonic() + 60
        while read_seq(venue) < last:
            assert time.monotonic() < deadline, (read_seq(venue), last)
            time.sleep(0.05)
    finally:
        load.finish()
        for one in rebuilds:
            one.kill()
        ended = venue.stop()

    counts = verify_journal(str(venue.data), answers)
    read = rows(venue.data / READMODEL_NAME)
    print(f"\n{KILLS} kills, {len(rebuilds)} rebuilds, {len(answers)} acknowledged, {dict(counts)}, "
          f"{ {table: len(found) for table, found in read.items()} }")  # fmt: skip
    assert set(ended.values()) == {0} and codes <= {0, -9}
    assert read == replayed(venue.data, tmp_path / "replayed")
    assert len(read["orders"]) > 20 * KILLS and read["trades"] and read["candles"]
