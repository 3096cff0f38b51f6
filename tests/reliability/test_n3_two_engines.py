"""N3: a second engine on the same data directory ends at once and changes nothing; the first goes on.

COUNT_N3 tries (2; 10 in a release), by turns on the ports of the first engine and on others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.adapters.server_process import free_ports
from tests.api.venue_process import PORTS, RunningVenue, running_venue
from tests.reliability.load import Load, verify_journal

TRIES = int(os.environ.get("COUNT_N3", "2"))
WRITTEN_BY_TIME = {"page"}
"""The engine that runs writes its time there ten times a second."""


def second_engine(venue: RunningVenue, same_ports: bool) -> tuple[int, bytes, float]:
    """(exit code, what it said, seconds it took)"""
    ports = [] if same_ports else zip(PORTS, free_ports(len(PORTS)), strict=True)
    env = venue.env | {f"TRADSYS_{name.upper()}": str(port) for name, port in ports}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "tradsys", "serve", "engine"], env=env, capture_output=True, timeout=60
    )
    return ended.returncode, ended.stderr, time.monotonic() - began


def content(directory: Path) -> dict[str, tuple[bytes, int]]:
    """All files with the time of their last change."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.iterdir()
        if path.name not in WRITTEN_BY_TIME
    }


def test_a_second_engine_ends_with_75_and_changes_nothing(tmp_path):
    with running_venue(tmp_path) as venue:
        trader, market = venue.account("limits"), venue.market()
        order = trader.placed(market, "buy", "1", "10")["order_id"]
        before = content(venue.data)
        time_of_first = venue.call("GET", "/time")

        for number in range(2):
            code, said, _ = second_engine(venue, same_ports=number == 0)

            owner = venue.processes["engine"].pid
            assert (code, said.decode()) == (
                75,
                f"tradsys: {venue.data} is in use by process {owner}\n",
            )
        assert content(venue.data) == before
        after = venue.call("GET", "/time")
        assert (after.seq, after.headers["x-epoch"]) == (time_of_first.seq, "1")
        assert trader.order(order)["status"] == "new"


@pytest.mark.timeout(120 + 20 * TRIES)
def test_the_first_engine_trades_through_it(tmp_path):
    with running_venue(tmp_path, ("engine", "history"), segment_bytes=1 << 20) as venue:
        engine = venue.processes["engine"]
        load = Load(venue, clients=1, cancel_share=0.6)
        load.start()
        slowest_s = 0.0
        for number in range(TRIES):
            code, said, seconds = second_engine(venue, same_ports=number % 2 == 0)
            assert code == 75, said
            slowest_s = max(slowest_s, seconds)
            acknowledged = load.acknowledged
            while load.acknowledged < acknowledged + 50:
                time.sleep(0.01)
        answers = load.finish()

        assert engine.poll() is None
        assert load.unknown == 0
        assert venue.call("GET", "/time").headers["x-epoch"] == "1"
    counts = verify_journal(str(venue.data), answers)
    print(f"\n{TRIES} second engines, slowest end {slowest_s:.2f} s, {dict(counts)}")


def test_a_second_engine_may_begin_as_soon_as_the_first_is_dead(tmp_path):
    with running_venue(tmp_path) as venue:
        trader, market = venue.account("limits"), venue.market()
        order = trader.placed(market, "buy", "1", "10")["order_id"]
        assert second_engine(venue, same_ports=True)[0] == 75

        venue.kill9("engine")
        venue.start()

        assert trader.order(order)["status"] == "new"
        assert venue.call("GET", "/time").headers["x-epoch"] == "2"
