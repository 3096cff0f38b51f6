"""C1: the machine's clock jumps by an hour, while the engine runs and between two of its lives.

COUNT_C1 jumps (4; 50 in a release) under load. The monotonic clock goes on as the kernel's does; only the
time of day is faked, by libfaketime, from a file that the engine's process looks at with each call.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue
from tests.reliability.load import Load, verify_journal
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader

JUMPS = int(os.environ.get("COUNT_C1", "4"))
HOUR = 3600
SECOND_NS = 1_000_000_000
MUCH_LESS_THAN_A_JUMP_NS = HOUR // 4 * SECOND_NS


class FakedVenue(RunningVenue):
    """A venue whose time of day is set by the test; its tokens hold two hours before and after now."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, segment_bytes=64 << 20)
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        self.file = directory / "clock"
        self.set_clock(0)
        self.env |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, offset_s: int) -> None:
        """Put the engine's time of day so far from the real one, at once."""
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{offset_s:+d}s\n")
        draft.rename(self.file)

    def token(
        self, account: str, scope: str = "trade read", ttl_s: int = 4 * HOUR, *, age_s: int = 2 * HOUR,
        jti: str = "",
    ) -> str:  # fmt: skip
        return super().token(account, scope, ttl_s, age_s=age_s, jti=jti)

    def token_until(self, account: str, expires_in_s: int) -> str:
        """From real time on."""
        return self.token(account, ttl_s=2 * HOUR + expires_in_s)

    def time_ns(self) -> int:
        return int(self.ok(self.call("GET", "/time"))["time"])

    def restart(self, offset_s: int) -> None:
        """Kill the engine, set the clock, and start it again."""
        self.kill9()
        self.set_clock(offset_s)
        self.start()


@contextmanager
def faked_venue(directory: Path) -> Iterator[FakedVenue]:
    venue = FakedVenue(directory)
    try:
        venue.start()
        yield venue
    finally:
        venue.end()


def times_of(data: Path) -> list[int]:
    """Engine time of every frame of the journal, in the order of the sequence."""
    reader, times = LogReader(str(data), OsFiles()), []
    while (raw := reader.next_frame()) is not None:
        times.append(raw.time_ns)
    reader.close()
    return times


@pytest.mark.timeout(120 + 20 * JUMPS)
def test_jumps_under_load_change_no_order_and_time_never_goes_back(tmp_path):
    draw = random.Random(int(os.environ.get("SEED", "1")))
    with faked_venue(tmp_path) as venue:
        load = Load(venue, clients=1, cancel_share=0.8)
        load.start()
        last = venue.time_ns()
        for jump in range(JUMPS):
            offset_s = draw.choice((-HOUR, 0, HOUR)) if jump > 1 else (HOUR, -HOUR)[jump]
            if jump % 3 == 2:
                venue.restart(offset_s)
                now = venue.time_ns()
            else:
                venue.set_clock(offset_s)
                # Longer than the second after which the engine looks at the time of day again.
                time.sleep(1.2)
                now = venue.time_ns()
                assert now - last < MUCH_LESS_THAN_A_JUMP_NS, "engine time jumped with the clock"
            assert now > last
            last = now
            acknowledged = load.acknowledged
            while load.acknowledged < acknowledged + 20:
                time.sleep(0.01)
        answers = load.finish()

    times = times_of(venue.data)
    assert times == sorted(times)
    counts = verify_journal(str(venue.data), answers)
    print(f"\n{JUMPS} jumps, {(times[-1] - times[0]) / SECOND_NS:.0f} s of engine time, {dict(counts)}")


def test_the_clock_is_faked_at_all(tmp_path):
    """Otherwise nothing here would show anything."""
    with faked_venue(tmp_path) as venue:
        assert abs(venue.time_ns() - time.time_ns()) < MUCH_LESS_THAN_A_JUMP_NS

        venue.restart(HOUR)

        assert abs(venue.time_ns() - time.time_ns() - HOUR * SECOND_NS) < MUCH_LESS_THAN_A_JUMP_NS


@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "across a restart"])
def test_a_token_that_was_refused_as_expired_stays_refused_when_the_clock_goes_back(tmp_path, restarted):
    with faked_venue(tmp_path) as venue:
        trader, market = venue.account("limits"), venue.market()
        expired = venue.token_until(trader.name, HOUR // 2)
        assert venue.call("GET", "/orders", token=expired).status == 200
        venue.restart(HOUR)
        assert venue.call("GET", "/orders", token=expired).code == 2002

        if restarted:
            venue.restart(-HOUR)
        else:
            venue.set_clock(-HOUR)
            time.sleep(1.2)

        assert venue.call("GET", "/orders", token=expired).code == 2002
        assert venue.call("GET", "/orders", token=trader.token).status == 200
        assert trader.placed(market, "buy", "1", "10")["status"] == "new"


def test_time_that_passed_without_a_command_is_kept_over_a_kill(tmp_path):
    with faked_venue(tmp_path) as venue:
        trader = venue.account("limits")
        short = venue.token_until(trader.name, 2)
        assert venue.call("GET", "/orders", token=short).status == 200
        deadline = time.monotonic() + 10
        while venue.call("GET", "/orders", token=short).status == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        before = venue.time_ns()

        venue.restart(-HOUR)

        assert venue.call("GET", "/orders", token=short).code == 2002
        assert venue.time_ns() > before


def test_good_till_date_follows_engine_time_and_what_expired_stays_expired(tmp_path):
    with faked_venue(tmp_path) as venue:
        trader, market = venue.account("limits"), venue.market()
        at = str(venue.time_ns() + HOUR // 2 * SECOND_NS)
        order = trader.placed(market, "buy", "1", "10", time_in_force="gtd", expire_at=at)["order_id"]

        # A jump of a running machine's clock is no passage of time.
        venue.set_clock(HOUR)
        time.sleep(1.2)
        assert trader.order(order)["status"] == "new"

        # A machine that was off for an hour has missed the date.
        venue.restart(HOUR)
        deadline = time.monotonic() + 10
        while trader.order(order)["status"] == "new" and time.monotonic() < deadline:
            time.sleep(0.01)
        gone = trader.order(order)
        assert (gone["status"], gone["reason"]) == ("expired", "time_up")

        for offset_s in (-HOUR, 0):
            venue.restart(offset_s)
            assert trader.order(order) == gone
            assert venue.ok(venue.call("GET", f"/market/{market}/book"))["bids"] == []
        late = trader.place(market, "buy", "1", "10", time_in_force="gtd", expire_at=at)
        assert late.status == 400, late
    assert times_of(venue.data) == sorted(times_of(venue.data))
