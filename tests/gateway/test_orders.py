"""Orders over gRPC: the same rules, answers and journal as over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.over_grpc import Caller, Failed, caller, ended, failing, limit
from tradsys.v1 import orders_pb2 as pb


@pytest.fixture
def market(venue) -> str:
    return venue.market()


def test_an_order_rests_trades_and_is_canceled(venue, market):
    alice, bob = venue.account("limits"), venue.account("limits")
    with caller(venue, alice) as a, caller(venue, bob) as b:
        resting = a.place(limit(market, "sell", "2", "10.5", client_order_id="r"))
        taker = b.place(limit(market, "buy", "0.5", "11"))
        gone = a.cancel(resting.order_id)
        again = a.cancel(resting.order_id)

    assert (resting.status, resting.filled_quantity, resting.remaining_quantity, resting.avg_price) == (
        pb.ORDER_STATUS_NEW,
        "0",
        "2",
        "",
    )
    assert (taker.status, taker.filled_quantity, taker.avg_price, taker.fills) == (
        pb.ORDER_STATUS_FILLED,
        "0.5",
        "10.5",
        1,
    )
    assert (gone.status, gone.filled_quantity, gone.remaining_quantity) == (
        pb.ORDER_STATUS_CANCELED,
        "0.5",
        "1.5",
    )
    assert (again.status, again.order_id) == (gone.status, gone.order_id)


def test_get_and_list_show_what_rest_shows(venue, market):
    alice = venue.account("limits")
    with caller(venue, alice) as a:
        ids = [a.place(limit(market, "buy", "1", price)).order_id for price in ("9", "8", "7")]
        a.place(limit(market, "sell", "1", "9", client_order_id="taker"))
        maker, by_client = a.get(order_id=ids[0]), a.get(client_order_id="taker")
        first = a.list(symbol=market, limit=1)
        rest = a.list(symbol=market, limit=1, cursor=first.next_cursor)

    shown = venue.ok(alice.get(f"/orders/{ids[0]}"))
    assert (maker.status, maker.price, maker.filled_quantity) == (pb.ORDER_STATUS_FILLED, "9", "1")
    assert [(fill.trade_id, fill.liquidity, fill.price) for fill in maker.fills] == [
        (shown["fills"][0]["trade_id"], pb.LIQUIDITY_MAKER, "9")
    ]
    assert str(maker.updated_ts) == shown["updated_ts"]
    assert (by_client.client_order_id, by_client.side) == ("taker", pb.SIDE_SELL)
    assert [[one.order_id for one in page.orders] for page in (first, rest)] == [[ids[2]], [ids[1]]]
    assert rest.next_cursor == ""


def test_orders_that_left_memory_are_found_all_the_same(venue, market):
    alice = venue.account("limits")
    with caller(venue, alice) as a:
        order_id = a.place(limit(market, "buy", "1", "9")).order_id
        a.cancel(order_id)
        page = pb.ListOrdersResponse()
        while not page.orders:
            # The read model follows: for a moment it knows neither the order nor the symbol.
            try:
                page = a.list(symbol=market, status=pb.ORDER_STATUS_CANCELED)
            except Failed as not_yet:
                assert not_yet.status == "NOT_FOUND"

    assert [(one.order_id, one.reason) for one in page.orders] == [(order_id, "requested")]


def test_a_replace_changes_the_total_and_counts_versions(venue, market):
    alice = venue.account("limits")
    with caller(venue, alice) as a:
        order_id = a.place(limit(market, "buy", "2", "9")).order_id
        smaller = a.replace(order_id=order_id, quantity="1.5", version=0)
        late = failing(a.replace, order_id=order_id, price="8", version=0)
        order = a.get(order_id=order_id)

    assert (smaller.remaining_quantity, order.version, order.price) == ("1.5", 1, "9")
    assert (late.status, late.code) == ("ABORTED", 1008)


def test_a_retry_may_come_over_another_protocol(venue, market):
    alice = venue.account("limits")
    first = alice.placed(market, "buy", "1", "9", client_order_id="k")
    with caller(venue, alice) as a:
        again = a.place(limit(market, "buy", "1", "9", client_order_id="k"))
        other = failing(a.place, limit(market, "buy", "2", "9", client_order_id="k"))

    assert (again.order_id, again.seq, again.replayed) == (first["order_id"], first["seq"], True)
    assert (other.status, other.code) == ("ALREADY_EXISTS", 1006)


REFUSED: list[tuple[dict[str, Any], str, int]] = [
    ({"side": 0}, "INVALID_ARGUMENT", 1002),
    ({"side": 3}, "INVALID_ARGUMENT", 1002),
    ({"type": 0}, "INVALID_ARGUMENT", 1002),
    ({"type": 300}, "INVALID_ARGUMENT", 1002),
    ({"time_in_force": 9}, "INVALID_ARGUMENT", 1002),
    ({"stp": 4}, "INVALID_ARGUMENT", 1002),
    ({"quantity": ""}, "INVALID_ARGUMENT", 1002),
    ({"quantity": "0"}, "INVALID_ARGUMENT", 1002),
    ({"quantity": "1e3"}, "INVALID_ARGUMENT", 1002),
    ({"quantity": "-1"}, "INVALID_ARGUMENT", 1002),
    ({"quantity": "99999999999999"}, "INVALID_ARGUMENT", 1002),
    ({"price": "9.005"}, "INVALID_ARGUMENT", 1004),
    ({"price": "9.0000000001"}, "INVALID_ARGUMENT", 1004),
    ({"price": ""}, "INVALID_ARGUMENT", 1002),
    ({"symbol": "NO-SUCH"}, "NOT_FOUND", 1003),
    ({"symbol": ""}, "INVALID_ARGUMENT", 1002),
    ({"symbol": "M\0"}, "INVALID_ARGUMENT", 1002),
    ({"symbol": "É-USD"}, "INVALID_ARGUMENT", 1002),
    ({"symbol": "A" * 17}, "INVALID_ARGUMENT", 1002),
    ({"client_order_id": "with space"}, "INVALID_ARGUMENT", 1002),
    ({"client_order_id": "x" * 37}, "INVALID_ARGUMENT", 1002),
    ({"expire_at": -1}, "INVALID_ARGUMENT", 1002),
    ({"valid_until": 1}, "FAILED_PRECONDITION", 1012),
    ({"valid_until": -1}, "INVALID_ARGUMENT", 1002),
]


@pytest.mark.parametrize(("wrong", "status", "code"), REFUSED)
def test_a_wrong_order_is_refused_and_leaves_no_trace(venue, market, wrong, status, code):
    alice = venue.account("limits")
    order = limit(market, "buy", "1", "9")
    for name, value in wrong.items():
        setattr(order, name, value)
    before = venue.call("GET", "/time").seq
    with caller(venue, alice) as a:
        refusal = failing(a.place, order, ("x-request-id", "mine-7"))

    assert (refusal.status, refusal.code, refusal.request_id) == (status, code, "mine-7")
    assert venue.call("GET", "/time").seq == before


@pytest.mark.parametrize(
    "order_id", ["", "a", "a-", "a-0", "b-1", "a-x", "a-²", "a-99999999999999999999", "a-9" * 9]
)
def test_what_is_no_order_of_the_account_is_not_found(venue, market, order_id):
    alice = venue.account("limits")
    with caller(venue, alice) as a:
        failures = [
            failing(a.cancel, order_id),
            failing(a.get, order_id=order_id),
            failing(a.replace, order_id=order_id, price="1"),
        ]

    assert [(one.status, one.code) for one in failures] == [("NOT_FOUND", 1007)] * 3


def test_another_accounts_order_is_as_absent_as_one_that_never_was(venue, market):
    alice, eve = venue.account("limits"), venue.account("limits")
    with caller(venue, alice) as a, caller(venue, eve) as e:
        order_id = a.place(limit(market, "buy", "1", "9")).order_id
        failures = [
            failing(e.cancel, order_id),
            failing(e.get, order_id=order_id),
            failing(e.replace, order_id=order_id, price="1"),
        ]
        events = e.events(from_seq=0, epoch=1)
        first = next(events)

    assert [one.code for one in failures] == [1007] * 3
    assert first.WhichOneof("message") == "position"


def test_trade_answers_each_message_in_order_with_an_outcome_for_each_command(venue, market):
    alice = venue.account("limits")
    place = pb.Command(place=limit(market, "buy", "1", "9"))
    wrong = pb.Command(place=limit(market, "buy", "1", "9.001"))
    nothing, unknown = pb.Command(), pb.Command(cancel=pb.CancelOrderRequest(order_id="a-1"))
    with caller(venue, alice) as a:
        messages = [[place, wrong, place], [], [nothing, unknown]]
        answers = list(a.trade(iter([pb.TradeRequest(commands=message) for message in messages])))
        first = answers[0].outcomes[0].order.order_id
        change = pb.ReplaceOrderRequest(order_id=first, price="8")
        cancel = pb.CancelOrderRequest(order_id=first)
        both = [pb.Command(replace=change), pb.Command(cancel=cancel)]
        (later,) = a.trade(iter([pb.TradeRequest(commands=both)]))

    codes = [[one.error.code for one in answer.outcomes] for answer in answers]
    assert codes == [[0, 1004, 0], [], [1002, 1007]]
    seqs = [answers[0].outcomes[i].order.seq for i in (0, 2)]
    assert seqs[1] == seqs[0] + 1
    assert [one.order.status for one in later.outcomes] == [pb.ORDER_STATUS_NEW, pb.ORDER_STATUS_CANCELED]


def test_a_message_of_more_than_a_thousand_commands_ends_the_stream(venue, market):
    alice = venue.account("limits")
    place = pb.Command(place=limit(market, "buy", "1", "9"))
    with caller(venue, alice) as a:
        (most,) = a.trade(iter([pb.TradeRequest(commands=[place] * 1000)]))
        failure = ended(a.trade(iter([pb.TradeRequest(commands=[place] * 1001)])))

    assert len(most.outcomes) == 1000
    assert (failure.status, failure.code) == ("INVALID_ARGUMENT", 1002)


def test_calls_that_come_together_are_one_batch(venue, market):
    alice = venue.account("limits")
    with Caller(venue, alice.token) as a:
        place = a.channel.unary_unary(
            "/tradsys.v1.OrderService/PlaceOrder",
            pb.PlaceOrderRequest.SerializeToString,
            pb.OrderResult.FromString,
        )
        calls = [
            place.future(limit(market, "buy", "1", "9"), metadata=a.metadata, timeout=30) for _ in range(400)
        ]
        seqs = sorted(call.result().seq for call in calls)

    counts = metrics_of(venue)
    batches = counts["tradsys_gateway_batch_commands_count"]
    assert len(set(seqs)) == 400
    assert counts["tradsys_gateway_batch_commands_sum"] > batches, "nothing was ever gathered"
    assert counts['tradsys_gateway_calls_total{code="OK",method="PlaceOrder"}'] >= 400


def metrics_of(venue) -> dict[str, float]:
    text = venue.send("GET", "/metrics", port=venue.ports["gateway_ops_port"]).body.decode()
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


def test_the_ops_port_tells_of_the_gateway(venue):
    status = json.loads(venue.send("GET", "/internal/status", port=venue.ports["gateway_ops_port"]).body)

    assert (status["process"], status["shards"]) == ("gateway", ["a"])
