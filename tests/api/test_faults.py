"""Faults inside: the client hears that the outcome is unknown, the process ends, and nothing else is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue, running_venue
from tradsys.adapters.http.answered import AnsweredOrders
from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.edge import Tally
from tradsys.codec.errors import Problem
from tradsys.core import messages as m
from tradsys.core.shard import Shard
from tradsys.venue.ports import Entry, JournalError
from tradsys.venue.venue import Venue


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[RunningVenue]:
    with running_venue(tmp_path) as running:
        yield running


def test_an_order_whose_journal_write_fails_is_unknown_and_the_venue_ends_and_recovers(
    venue: RunningVenue,
) -> None:
    trader, market = venue.account("limits"), venue.market()
    trader.placed(market, "buy", "1", "10", client_order_id="before")
    process = venue.processes["engine"]
    # No write succeeds any more, the journal's and the log's.
    venue.limit_files(0)

    reply = trader.place(market, "buy", "1", "11", client_order_id="during")

    assert (reply.status, reply.code, reply.json["details"]) == (503, 1001, {})
    assert reply.headers["connection"].split(",")[0] == "close"
    # Not always the journal's own code: even the last word of the process can't be written.
    assert process.wait(timeout=20) != 0
    del venue.processes["engine"]
    venue.hang_up()
    venue.start()
    assert [one["client_order_id"] for one in venue.ok(trader.get("/orders"))["items"]] == ["before"]
    # The retry is safe: it is taken as new, because the first try left nothing.
    retry = trader.place(market, "buy", "1", "11", client_order_id="during")
    assert retry.status == 200 and not retry.replayed


class Kept:
    """A journal that keeps its frames in memory."""

    epoch = 1

    def __init__(self) -> None:
        self.frames: list[Sequence[Entry]] = []

    def append(self, first_seq: int, time_ns: int, entries: Sequence[Entry]) -> None:
        self.frames.append(entries)

    def space(self) -> bool:
        return True

    def exhausted(self) -> bool:
        return False


def small_venue() -> tuple[Venue, Kept]:
    journal = Kept()
    venue = Venue(Shard("a"), journal, lambda: 10**18, 0)
    venue.process(
        [m.DefineInstrument(m.Instrument("A-B", "A", "B", 10**6, 10**5)), m.DefineAccount("alice", m.LIMITS)]
    )
    return venue, journal


def test_a_fault_in_the_middle_of_a_batch_ends_the_venue_because_half_of_it_is_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    venue, journal = small_venue()
    order = m.PlaceOrder("alice", "A-B", m.BUY, m.LIMIT, m.GTC, 1, 1)
    apply = venue.shard.apply

    def apply_or_fail(command: m.Command, seq: int, time_ns: int) -> list[m.Event]:
        if seq == 4:
            raise ZeroDivisionError("a bug")
        return apply(command, seq, time_ns)

    monkeypatch.setattr(venue.shard, "apply", apply_or_fail)

    with pytest.raises(JournalError, match="seq 4 was not applied to its end"):
        venue.process([order, order, order])

    assert len(journal.frames) == 1 and venue.seq == 2


def test_another_shards_symbol_is_answered_with_where_it_is() -> None:
    venue, _ = small_venue()
    there = "http://venue.example/s/b/api/v1"
    desk = Desk(
        venue,
        query_url="",
        other_symbols={"ETH-USD": there},
        body_max=65536,
        answered=AnsweredOrders(0, (), [0]),
        tally=Tally(),
    )

    with pytest.raises(Problem) as refused:
        desk.grid("ETH-USD")

    problem = refused.value
    assert (problem.code, problem.status, problem.details) == (1021, 421, {"endpoint": there})
