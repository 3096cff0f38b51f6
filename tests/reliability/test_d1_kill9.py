"""D1: kill -9 under load, at random moments and at every step of an append. Nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue
from tests.reliability.load import Load, answers_again, verify_journal

KILLS = int(os.environ.get("COUNT_D1", "4"))
ACKNOWLEDGED_MIN = 5_000 if KILLS >= 50 else 50 * KILLS
FAULTS = Path(__file__).with_name("faulty_engine.py")


@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_or_done_twice_by_kill_9(tmp_path):
    draw = random.Random(int(os.environ.get("SEED", "1")))
    venue = RunningVenue(tmp_path, ("engine", "history"), snapshot_every=2_000, segment_bytes=1 << 20)
    venue.start()
    # A hundred kills take minutes, and the oracle's book is a list: few orders, all of them looked at.
    load = Load(venue, rest_s=0.02)
    load.start()
    slowest_s = 0.0
    try:
        for kill in range(KILLS):
            wanted = load.acknowledged + ACKNOWLEDGED_MIN // KILLS
            time.sleep(draw.uniform(0.05, 0.35))
            while load.acknowledged < wanted:
                time.sleep(0.01)
            venue.kill9(*(("engine",), ("engine",), ("engine", "history"), ("history",))[kill % 4])
            began = time.monotonic()
            venue.start()
            slowest_s = max(slowest_s, time.monotonic() - began)
        answers = load.finish()
        answers_again(venue, answers, 200, seed=KILLS)
    finally:
        try:
            load.finish()
        finally:
            venue.end()

    counts = verify_journal(str(venue.data), answers)
    print(f"\n{KILLS} kills, {len(answers)} acknowledged, {load.unknown} unknown, {dict(counts)}, "
          f"slowest start {slowest_s:.2f} s")  # fmt: skip
    assert len(answers) >= ACKNOWLEDGED_MIN
    assert load.unknown > 0, "no kill hit a request: the run shows nothing"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["before_write", "half_written", "after_write", "before_reply"])
def test_a_kill_at_each_step_of_an_append_leaves_it_whole_or_not_there(tmp_path, moment):
    venue = RunningVenue(tmp_path, ("engine", "history"), segment_bytes=1 << 20)
    venue.start()
    load = Load(venue, clients=2, cancel_share=0)
    load.start()
    try:
        for _ in range(2):
            # Drained, not killed: only the engine with the fault may die between a write and its reply.
            venue.end(signal.SIGTERM, ("engine",))
            with open(tmp_path / "engine.log", "ab") as log:
                engine = subprocess.Popen(
                    [sys.executable, str(FAULTS), moment, "60"], env=venue.env, stdout=log, stderr=log
                )
            assert engine.wait(timeout=60) == -signal.SIGKILL, venue.log()[-2000:]
            venue.start()
        answers = load.finish()
    finally:
        try:
            load.finish()
        finally:
            venue.end()

    counts = verify_journal(str(venue.data), answers)
    assert load.unknown > 0
    assert len(answers) > 100
    if moment in ("after_write", "before_reply"):
        assert counts["replayed"] > 0, "an order was journalled, and its retry did not get its reply"
    else:
        assert counts["replayed"] == 0, "an order that was not written was taken for one that was"
