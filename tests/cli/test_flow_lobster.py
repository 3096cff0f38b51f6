"""Replaying LOBSTER files at a real venue: the tops of book must be the exchange's, one by one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue
from tests.cli.conftest import Run
from tests.cli.lobster_sample import Top, sample
from tradsys.client.rest import RestClient
from tradsys.flow.exchange import Diverged, Exchange
from tradsys.flow.lobster import Message, read_messages


def tops_of(path: Path) -> list[Top]:
    rows = [tuple(int(cell) for cell in line.split(",")) for line in path.read_text().splitlines()]
    return [(row[0], row[1], row[2], row[3]) for row in rows]


@pytest.mark.parametrize(("seed", "name", "halts"), [(1, "day.csv", False), (2, "day.csv.gz", True)])
def test_the_venue_has_the_tops_of_the_exchange_after_each_message(
    run: Run, tmp_path: Path, seed: int, name: str, halts: bool
):
    day = sample(seed, 3_000, halts)
    file, tops = day.write(tmp_path / name), tmp_path / "tops.csv"

    report = run(
        "flow",
        "--lobster",
        file,
        "--tops",
        tops,
        "--symbol",
        f"L{seed}-USD",
        "--check-every",
        "500",
        "--json",
    ).json

    assert tops_of(tops) == day.tops
    assert tuple(report["top"].values()) == day.tops[-1]
    assert (report["messages"], report["tops"]) == (len(day.lines), len(day.tops))
    assert (report["other_maker"], report["traded_on_arrival"], report["corrections"]) == (0, 0, 0)
    assert (report["refusals"], report["book_checks"]) == ({}, 7)
    unknown = {kind: n for kind, n in day.unknown.items() if n}
    words = {1: "new order", 2: "partial cancel", 3: "delete", 4: "visible execution", 7: "trading state"}
    assert report["unknown_orders"] == {words[kind]: unknown[kind] for kind in sorted(unknown)}
    assert report["unmapped"] == {"hidden execution": day.counts[5]}
    assert report["mapped"] == {
        word: day.counts[kind] - unknown.get(kind, 0) for kind, word in words.items() if day.counts[kind]
    }


def test_the_symbol_is_named_after_the_file_and_has_its_grid(run: Run, tmp_path: Path):
    file = tmp_path / "ACME_2012-06-21_34200000_57600000_message_10.csv"
    file.write_text("34200.1,1,1,100,1000050,1\n34200.2,1,2,70,1000100,-1\n34200.3,4,2,30,1000100,-1\n")

    told = run("flow", "--lobster", file).out

    assert "ask 1000100 × 40, bid 1000050 × 100" in told
    assert run("symbols", "ACME-USD", "--json").json["tick_size"] == "0.0001"
    again = run("flow", "--lobster", file)
    assert (again.code, "orders rest in ACME-USD already" in again.err) == (1, True)


def test_an_existing_symbol_must_have_the_grid_of_the_file(venue: RunningVenue, run: Run, tmp_path: Path):
    coarse = venue.market(tick_size="0.1", lot_size="1")

    ended = run("flow", "--lobster", sample(1, 50).write(tmp_path / "a.csv"), "--symbol", coarse)

    assert ended.code == 1
    assert "the file needs tick 0.01 and lot 1" in ended.err


def test_without_an_admin_token_halts_are_counted_and_a_symbol_must_exist(
    venue: RunningVenue, run: Run, tmp_path: Path
):
    symbol = venue.market(tick_size="0.01", lot_size="1")
    file = tmp_path / "halt.csv"
    file.write_text("1.0,1,1,5,100,1\n2.0,7,0,0,-1,-1\n3.0,7,0,0,1,-1\n4.0,1,2,5,200,1\n")
    for name in ("m", "t"):
        run("admin", "account", "create", name)
    # The key of the venue out of reach: tokens are given, as to somebody on another machine.
    given = ("--token", venue.token("m"), "--taker-token", venue.token("t"), "--url",
             f"http://127.0.0.1:{venue.ports['port']}", "--account", "m", "--account", "t")  # fmt: skip

    report = run(
        "flow", "--lobster", file, "--symbol", symbol, *given, "--json", TRADSYS_DATA_DIR=str(tmp_path)
    )
    missing = run("flow", "--lobster", file, "--symbol", "NOT-USD", *given, TRADSYS_DATA_DIR=str(tmp_path))

    assert report.json["unmapped"] == {"trading state": 2}
    assert report.json["mapped"] == {"new order": 2}
    assert "there is no symbol NOT-USD, and no admin token to define it" in missing.err


def exchange(venue: RunningVenue, symbol: str, tops: list[Top], **options: int) -> Exchange:
    url = f"http://127.0.0.1:{venue.ports['port']}"
    makers = [RestClient(url, venue.account("limits").token, patience_s=60) for _ in range(2)]
    admin = RestClient(f"http://127.0.0.1:{venue.ports['admin_port']}", venue.token("demo", "admin"))
    return Exchange(symbol, *makers, admin, run_id=symbol, saw_top=tops.append, **options)


def messages(*rows: tuple[int, int, int, int, int]) -> list[Message]:
    """(type, order id, size, price, direction)"""
    return [Message(line, line, *row) for line, row in enumerate(rows, 1)]


def test_an_order_left_behind_is_hit_in_place_of_another_which_then_loses_as_much(venue: RunningVenue):
    """As in a file of the best levels only: order 1 was canceled unseen, so order 2 was first."""
    tops: list[Top] = []
    symbol = venue.market(tick_size="0.01", lot_size="1")
    place = exchange(venue, symbol, tops)

    report = place.run(
        messages(
            (1, 1, 10, 10_000, -1),
            (1, 2, 10, 10_100, -1),
            (4, 2, 4, 10_100, -1),
            (2, 2, 1, 10_100, -1),
            (4, 2, 5, 10_100, -1),
        )
    )

    assert (report.other_maker, report.corrections) == (2, 2)
    assert tops[-1] == (10_000, 1, -9_999_999_999, 0)
    assert (report.mapped[4], report.checks) == (0, 1)


def test_an_order_that_trades_on_arrival_is_counted_and_rests_with_what_is_left(venue: RunningVenue):
    tops: list[Top] = []
    place = exchange(venue, venue.market(tick_size="0.01", lot_size="1"), tops)

    report = place.run(
        messages(
            (1, 1, 10, 10_000, -1),
            (1, 2, 25, 10_000, 1),
            (2, 2, 5, 10_000, 1),
            (3, 1, 10, 10_000, -1),
            (3, 2, 20, 10_000, 1),
        )
    )

    assert (report.traded_on_arrival, report.refusals) == (1, {1009: 1})
    assert tops == [
        (10_000, 10, -9_999_999_999, 0),
        (9_999_999_999, 0, 10_000, 15),
        (9_999_999_999, 0, 10_000, 10),
        (9_999_999_999, 0, -9_999_999_999, 0),
    ]


def test_a_halt_refuses_what_the_exchange_took_and_it_is_made_good_later(venue: RunningVenue):
    tops: list[Top] = []
    place = exchange(venue, venue.market(tick_size="0.01", lot_size="1"), tops)

    report = place.run(
        messages(
            (1, 1, 10, 10_000, 1),
            (7, 0, 0, -1, -1),
            (2, 1, 4, 10_000, 1),
            (1, 2, 7, 10_100, 1),
            (3, 2, 7, 10_100, 1),
            (7, 0, 0, 1, -1),
            (1, 3, 1, 9_900, 1),
        )
    )

    assert (report.refusals, report.corrections) == ({1010: 2}, 1)
    assert report.unknown == {3: 1}
    assert tops[-1] == (9_999_999_999, 0, 10_000, 6)


def test_somebody_else_in_the_symbol_is_noticed(venue: RunningVenue):
    symbol = venue.market(tick_size="0.01", lot_size="1")
    place = exchange(venue, symbol, [])
    stranger = venue.account("limits")
    stranger.placed(symbol, "sell", "3", "1.5")

    with pytest.raises(Diverged, match="after message 1 the venue's asks differ"):
        place.run(messages((1, 1, 10, 10_000, 1)))


def test_an_answer_that_does_not_fit_the_book_is_noticed(venue: RunningVenue):
    symbol = venue.market(tick_size="0.01", lot_size="1")
    place = exchange(venue, symbol, [])
    stranger = venue.account("limits")
    stranger.placed(symbol, "buy", "3", "1.01")

    with pytest.raises(Diverged, match=r"line 1 \(new order of order 1\): expected filled 0, remaining 10"):
        place.run(messages((1, 1, 10, 10_000, -1)))


def test_a_kill_of_the_engine_in_the_middle_changes_no_top(venue: RunningVenue, run: Run, tmp_path: Path):
    day = sample(5, 1_500)
    file = day.write(tmp_path / "day.csv")
    tops: list[Top] = []
    place = exchange(venue, venue.market(tick_size="0.01", lot_size="1"), tops, batch=50)
    killers: list[threading.Thread] = []

    def kill(report: object) -> None:
        if not killers:
            venue.kill9("engine")
            killers.append(threading.Thread(target=venue.start))
            killers[0].start()

    try:
        place.run(read_messages(file), kill)
    finally:
        killers[0].join()

    assert tops == day.tops
