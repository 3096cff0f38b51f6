"""What leaves for the exporter, and what is dropped and counted."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest

from tradsys.adapters.tracing.spans import FLUSH_MAX, QUEUE_MAX, Span, Spans
from tradsys.settings import SettingsError, load


class Way:
    """Spans into a socket whose other end a test reads."""

    def __init__(self, one_in: int = 1) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours = ours
        self.counted: list[tuple[int, int]] = []
        self.spans = Spans(ours, one_in, lambda handed, dropped: self.counted.append((handed, dropped)))

    def trace(self, count: int) -> None:
        for _ in range(count):
            begun = self.spans.begin(None)
            assert begun is not None
            self.spans.end(begun, "GET /", 1, 2, {}, False)


@pytest.fixture
def way() -> Iterator[Way]:
    one = Way()
    with one.ours, one.theirs:
        yield one


def test_spans_leave_in_order_and_whole(way):
    begun = way.spans.begin("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    way.spans.end(begun, "POST /orders", 10, 20, {"request_id": "a"}, True)
    way.spans.part(begun, "apply", 12, 15)
    way.spans.flush()

    whole, part = msgspec.msgpack.decode(way.theirs.recv(1 << 20), type=list[Span])
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    assert whole == Span(trace, begun.span_id, parent, "POST /orders", 1, 10, 20, {"request_id": "a"}, True)
    assert part == Span(trace, part.span_id, begun.span_id, "apply", 0, 12, 15, {})
    assert begun.traceparent == f"00-{trace}-{begun.span_id}-01"
    assert way.counted == [(2, 0)]


def test_nothing_is_sent_where_nothing_was_traced(way):
    way.spans.flush()

    assert way.counted == []


def test_one_of_so_many_is_due_and_a_caller_that_decides_is_not_counted():
    spans = Way(one_in=3).spans

    taken = [spans.begin(None) is not None for _ in range(9)]

    assert taken == [False, False, True] * 3
    assert spans.begin("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00") is None
    assert [spans.begin(None) is not None for _ in range(3)] == [False, False, True]


def test_a_queue_that_is_full_drops_and_a_flush_takes_a_bounded_piece(way):
    way.trace(QUEUE_MAX + 7)

    way.spans.flush()

    assert way.counted == [(FLUSH_MAX, 7)]


def test_an_exporter_that_does_not_read_costs_spans_and_never_waits(way):
    for _ in range(30):
        way.trace(FLUSH_MAX)
        way.spans.flush()

    handed, dropped = map(sum, zip(*way.counted, strict=True))
    assert handed + dropped == 30 * FLUSH_MAX
    assert handed and dropped


def test_an_exporter_that_has_gone_costs_spans(way):
    way.theirs.close()
    way.trace(3)

    way.spans.flush()

    assert way.counted == [(0, 3)]


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://a b/", "http://x?y=1"])
def test_an_endpoint_that_is_no_url_stops_the_start(endpoint):
    with pytest.raises(SettingsError, match=r"tracing_endpoint: .* is not a URL"):
        load({"TRADSYS_TRACING_ENDPOINT": endpoint})
