"""The client's book: refuses what does not follow, proves what does."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from tradsys.client.book import LocalBook, LocalOrderBook, OutOfStep
from tradsys.codec import stream_v1 as s
from tradsys.codec.market_v1 import checksum_of
from tradsys.core.messages import Instrument

GRID = Instrument("A-B", "A", "B", 1_000_000, 100_000)


def book(seq: int, prev: int | None, bids: Any, asks: Any, of: Any = None, **more: Any) -> s.BookMessage:
    """`of` is what the checksum is of, where that is not the message's own levels."""
    whole = of or (bids, asks)
    return s.BookMessage(
        type="snapshot" if prev is None else "delta", symbol="A-B", epoch=more.pop("epoch", 1), seq=seq,
        prev_seq=UNSET if prev is None else prev, ts="0", depth=10, checksum=checksum_of(*whole),
        bids=bids, asks=asks, **more,
    )  # fmt: skip


def test_a_snapshot_and_what_follows_it_make_the_book() -> None:
    kept = LocalBook()
    kept.take(book(5, None, [("10", "1"), ("9.5", "2")], [("11", "3")]))
    kept.take(book(9, 5, [("9.5", "0"), ("10.5", "7")], [], of=([("10.5", "7"), ("10", "1")], [("11", "3")])))

    assert kept.levels() == ([("10.5", "7"), ("10", "1")], [("11", "3")])
    assert (kept.seq, kept.in_step, kept.bids.best(1)) == (9, True, [(1_050_000_000, 700_000_000)])
    assert kept.levels(0) == ([], [])


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (book(9, 6, [("8", "1")], [], of=([("10", "1"), ("8", "1")], [])), "gap"),
        (book(5, 5, [], [], of=([("10", "1")], [])), "gap"),
        (book(9, 5, [("8", "1")], [], of=([("10", "1"), ("8", "1")], []), epoch=2), "epoch"),
        (book(9, 5, [("8", "1")], [], of=([("10", "2")], [])), "checksum"),
        (book(9, 5, [("7", "0")], [], of=([("10", "1")], [])), "checksum"),
    ],
)
def test_what_does_not_follow_is_refused_until_a_snapshot_comes(message: s.BookMessage, why: str) -> None:
    kept = LocalBook()
    kept.take(book(5, None, [("10", "1")], []))

    with pytest.raises(OutOfStep) as met:
        kept.take(message)
    assert (met.value.why, kept.in_step) == (why, False)

    with pytest.raises(OutOfStep) as met:
        kept.take(book(9, 5, [("8", "1")], [], of=([("10", "1"), ("8", "1")], [])))
    assert met.value.why == "no_snapshot"
    kept.take(book(12, None, [("10", "1")], [], gap=True))
    assert (kept.in_step, kept.gaps, kept.snapshots) == (True, 1, 2)


def frame(kind: int, dense_seq: int, seq: int, flags: int, bids: Any, asks: Any, of: Any) -> bytes:
    return s.book_frame(kind, 1, dense_seq, flags, GRID, 1, seq, 0, checksum_of(*of), bids, asks)


def test_binary_frames_make_the_same_book_and_gaps_show_in_their_numbers() -> None:
    kept = LocalBook()
    first = [("10", "1")], [("11", "2")]
    kept.take_frame(frame(2, 7, 5, s.SNAPSHOT | s.GAP, [(1000, 1000)], [(1100, 2000)], first))
    then = [("10", "1")], [("12", "1")]
    kept.take_frame(frame(3, 8, 9, 0, [], [(1100, 0), (1200, 1000)], then))
    assert (kept.levels(), kept.seq, kept.gaps) == (then, 9, 1)

    with pytest.raises(OutOfStep, match="gap"):
        kept.take_frame(frame(3, 10, 11, 0, [], [(1300, 1000)], then))
    kept.take_frame(frame(2, 10, 11, s.SNAPSHOT, [(1000, 1000)], [(1200, 1000)], then))
    with pytest.raises(OutOfStep, match="checksum"):
        kept.take_frame(frame(3, 11, 12, 0, [(1, 0)], [], then))


def rows(seq: int, prev: int | None, bids: Any, of: Any, **more: Any) -> s.OrderBookMessage:
    return s.OrderBookMessage(
        type="snapshot" if prev is None else "delta", symbol="A-B", epoch=1, seq=seq,
        prev_seq=UNSET if prev is None else prev, ts="0", depth=10, checksum=checksum_of(of, []), bids=bids,
        asks=[], **more,
    )  # fmt: skip


def test_an_order_book_comes_in_pieces_and_keeps_priority() -> None:
    kept = LocalOrderBook()
    whole = [("10", "3"), ("9", "1")]
    kept.take(rows(5, None, [("10", "1", "a-1"), ("10", "2", "a-2")], whole, more=True))
    with pytest.raises(OutOfStep, match="no_snapshot"):
        kept.take(rows(6, 5, [], whole))
    kept.take(rows(5, None, [("9", "1", "a-3")], whole))
    kept.take(rows(7, 5, [("10", "0", "a-1"), ("10", "5", "a-1"), ("9", "0", "a-3")], [("10", "7")]))

    assert kept.orders() == ([("10", "2", "a-2"), ("10", "5", "a-1")], [])
    assert kept.levels() == ([("10", "7")], [])
    assert ("a-1" in kept, "a-3" in kept, kept.count) == (True, False, 2)
    with pytest.raises(OutOfStep, match="not there"):
        kept.take(rows(8, 7, [("9", "0", "a-3")], [("10", "7")]))


def test_a_snapshot_after_one_that_was_cut_between_its_pieces_begins_anew() -> None:
    kept = LocalOrderBook()
    kept.take(rows(5, None, [("10", "1", "a-1")], [("10", "1"), ("9", "1")], more=True))

    kept.take(rows(8, None, [("9", "2", "a-4")], [("9", "2")]))

    assert kept.orders() == ([("9", "2", "a-4")], [])
