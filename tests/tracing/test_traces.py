"""Traces of a real venue at a real receiver."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.api.venue_process import RunningVenue, running_venue
from tests.feed.feed_venue import feed_venue, until
from tests.gateway.over_grpc import Caller
from tests.tracing.receiver import Receiver, receiving
from tradsys.v1 import orders_pb2 as pb

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


def traceparent(trace_id: str, flags: str = "01") -> str:
    return f"00-{trace_id}-{CALLER}-{flags}"


def trace(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[RunningVenue]:
    processes = ("engine", "history", "query", "gateway")
    place = tmp_path_factory.mktemp("traces")
    # By themselves hardly any are traced.
    with running_venue(place, processes, tracing_endpoint=receiver.endpoint, tracing_one_in=1_000_000) as one:
        yield one


def test_a_traced_order_is_a_span_below_the_callers_with_a_part_for_each_stage(venue, receiver):
    trader, market = venue.account("limits"), venue.market()
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "9"}
    before = time.time_ns()

    venue.ok(trader.post("/orders", order, traceparent=traceparent(TRACE), X_Request_Id="traced-1"))

    spans = until(lambda: receiver.of_trace(TRACE))
    whole = next(span for span in spans if span.parent_id == CALLER)
    assert (whole.service, whole.name, whole.failed) == ("tradsys-engine", "POST /api/v1/orders", False)
    assert whole.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "request_id": "traced-1",
    }
    parts = [span for span in spans if span.parent_id == whole.span_id]
    assert [part.name for part in parts] == ["auth", "decode", "apply", "reply", "journal"]
    assert len(spans) == 6
    ends = [before, *(part.began_ns for part in parts), whole.ended_ns, time.time_ns()]
    assert ends == sorted(ends)


@pytest.mark.parametrize(
    ("sent", "after"),
    [
        (traceparent(trace(2), "00"), trace(31)),
        (traceparent("0" * 32), trace(32)),
        ("ff-" + traceparent(TRACE)[3:], trace(33)),
        ("x", trace(34)),
    ],
)
def test_a_caller_that_is_not_sampled_or_says_nonsense_is_not_traced(venue, receiver, sent, after):
    before = len(receiver.spans)

    for one in (sent, traceparent(after)):
        assert venue.send("GET", "/api/v1/time", headers={"traceparent": one}).status == 200

    # What came after it is there, and it is not.
    until(lambda: receiver.of_trace(after))
    assert {span.trace_id for span in receiver.spans[before:]} == {after}


def test_a_grpc_order_is_one_trace_through_gateway_and_engine(venue, receiver):
    trader, market = venue.account("limits"), venue.market()
    order = pb.PlaceOrderRequest(
        symbol=market, side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT, quantity="1", price="9",
        time_in_force=pb.TIME_IN_FORCE_GTC,
    )  # fmt: skip

    with Caller(venue, trader.token) as caller:
        caller.call("PlaceOrder", order, pb.OrderResult, ("traceparent", traceparent(trace(4))))

    spans = until(lambda: (found := receiver.of_trace(trace(4))) and len(found) >= 3 and found)
    gateway = next(span for span in spans if span.service == "tradsys-gateway")
    assert (gateway.name, gateway.parent_id) == ("/tradsys.v1.OrderService/PlaceOrder", CALLER)
    assert gateway.attributes["grpc_status"] == "OK"
    engine = [span for span in spans if span.service == "tradsys-engine"]
    assert [(span.name, span.parent_id == gateway.span_id) for span in engine] == [
        ("POST /internal/commands", True), ("journal", False),
    ]  # fmt: skip
    assert engine[1].parent_id == engine[0].span_id


def test_an_order_over_a_stream_is_one_trace_through_feed_and_engine_and_a_refused_one_a_span(tmp_path):
    with (
        receiving() as receiver,
        feed_venue(tmp_path, tracing_endpoint=receiver.endpoint, tracing_one_in=1) as venue,
    ):
        trader, market = venue.account("limits"), venue.market()
        order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "9"}
        with venue.feed() as client:
            client.asked("auth", token=trader.token)
            client.asked("order.place", order=order)
            client.ask("order.place", order=order | {"symbol": "NO-PE"})
        of_feed = until(
            lambda: (
                len(found := [one for one in receiver.spans if one.service == "tradsys-feed"]) == 2 and found
            )
        )
        placed, refused = sorted(of_feed, key=lambda one: one.began_ns)
        spans = until(lambda: len(found := receiver.of_trace(placed.trace_id)) == 3 and found)

    assert [(one.name, one.parent_id, one.failed) for one in (placed, refused)] == [
        ("order.place", "", False), ("order.place", "", False),
    ]  # fmt: skip
    assert (placed.attributes["code"], refused.attributes["code"]) == (0, 1003)
    assert [(one.service, one.name, one.parent_id) for one in spans[1:]] == [
        ("tradsys-engine", "POST /internal/commands", placed.span_id),
        ("tradsys-engine", "journal", spans[1].span_id),
    ]
    assert placed.began_ns <= spans[1].began_ns < spans[1].ended_ns <= placed.ended_ns


def test_a_read_that_query_answers_is_traced_there(venue, receiver):
    trader = venue.account("limits")
    headers = {"traceparent": traceparent(trace(5)), "Authorization": f"Bearer {trader.token}"}

    venue.send("GET", "/api/v1/fills", headers=headers, port=venue.ports["query_port"])

    (span,) = until(lambda: receiver.of_trace(trace(5)))
    assert (span.service, span.name, span.parent_id) == ("tradsys-query", "GET /api/v1/fills", CALLER)


def test_one_in_so_many_requests_is_traced_by_itself(tmp_path):
    with (
        receiving() as receiver,
        running_venue(tmp_path, ("engine",), tracing_endpoint=receiver.endpoint, tracing_one_in=10) as venue,
    ):
        trader, market = venue.account("limits"), venue.market()
        for _ in range(40):
            trader.placed(market, "buy", "1", "9")

        roots = until(
            lambda: len(found := [one for one in receiver.spans if not one.parent_id]) >= 4 and found
        )

    assert [root.name for root in roots] == ["POST /api/v1/orders"] * 4
    assert len({root.trace_id for root in roots}) == 4


def test_a_receiver_that_hangs_costs_spans_and_no_orders_and_they_are_counted(tmp_path):
    with receiving() as receiver:
        receiver.open.clear()
        with running_venue(
            tmp_path, ("engine", "history"), tracing_endpoint=receiver.endpoint, tracing_one_in=1
        ) as venue:
            trader, market = venue.account("limits"), venue.market()

            def dropped() -> bool:
                for _ in range(300):
                    trader.placed(market, "buy", "1", "9", time_in_force="ioc")
                page = venue.send("GET", "/metrics", port=venue.ports["history_port"]).body.decode()
                rows = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
                return float(rows['tradsys_trace_spans_total{outcome="dropped"}']) > 0

            until(dropped)
            assert trader.placed(market, "buy", "1", "9")["status"] == "new"
            receiver.open.set()


def test_the_exporter_ends_with_its_process(tmp_path):
    with receiving() as receiver:
        venue = RunningVenue(tmp_path, ("engine",), tracing_endpoint=receiver.endpoint)
        venue.start()
        try:
            pid = venue.processes["engine"].pid
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                (child,) = file.read().split()
        finally:
            venue.kill9("engine")

        def ended() -> bool:
            try:
                with open(f"/proc/{child}/stat") as file:
                    return file.read().rpartition(")")[2].split()[0] == "Z"
            except FileNotFoundError:
                return True

        until(ended)
