"""Retries: the same order under the same key is one order, whatever happens in between."""

from __future__ import annotations

import time

import pytest

from tests.api import records
from tests.api.venue_process import Reply, RunningVenue, Trader

S = 1_000_000_000


@pytest.fixture
def market(venue: RunningVenue) -> str:
    return venue.market()


@pytest.fixture
def alice(venue: RunningVenue) -> Trader:
    return venue.account("cash", USD="1000")


def now_ns(venue: RunningVenue) -> int:
    return int(venue.ok(venue.call("GET", "/time"))["time"])


def assert_replays(retry: Reply, first: Reply) -> None:
    assert not first.replayed and retry.replayed
    assert (retry.status, retry.body, retry.seq) == (first.status, first.body, first.seq)


def test_a_retry_gets_the_first_reply_again(market: str, alice: Trader) -> None:
    first = alice.place(market, "buy", "1", "100", client_order_id="k1")

    retry = alice.place(market, "buy", "1", "100", client_order_id="k1")

    assert_replays(retry, first)
    assert len(alice.venue.ok(alice.get("/orders"))["items"]) == 1
    assert alice.balance("USD") == ("900", "100")


def test_a_retry_gets_the_first_reply_whatever_became_of_the_order(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    seller = venue.account("limits")
    filled = alice.place(market, "buy", "1", "100", client_order_id="filled")
    canceled = alice.place(market, "buy", "1", "90", client_order_id="canceled")
    replaced = alice.place(market, "buy", "1", "80", client_order_id="replaced")
    seller.placed(market, "sell", "1", "100")
    alice.delete(f"/orders/{canceled.json['order_id']}")
    alice.put(f"/orders/{replaced.json['order_id']}", {"price": "81"})

    for first, key, price in (
        (filled, "filled", "100"),
        (canceled, "canceled", "90"),
        (replaced, "replaced", "80"),
    ):
        assert_replays(alice.place(market, "buy", "1", price, client_order_id=key), first)
    assert venue.ok(alice.get("/orders/by-client/filled"))["status"] == "filled"


def test_a_retry_gets_the_first_reply_also_when_the_orders_date_has_passed(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    at = str(now_ns(venue) + 3 * S)
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "100"}
    order |= {"time_in_force": "gtd", "expire_at": at}
    first = alice.post("/orders", order | {"client_order_id": "late"})
    while now_ns(venue) <= int(at):
        time.sleep(0.01)

    retry = alice.post("/orders", order | {"client_order_id": "late"})
    record = records.place(order | {"client_order_id": "late"})
    in_binary = records.results(alice.post("/orders/batch", record, Content_Type=records.BINARY).body)[0]
    in_a_batch = alice.post("/orders/batch", {"orders": [order | {"client_order_id": "late"}]})
    new = order | {"client_order_id": "new"}
    others = [alice.post(*one) for one in (("/orders", order), ("/orders", new), ("/orders/test", new))]

    assert_replays(retry, first)
    assert (in_binary.replayed, in_binary.seq) == (True, first.seq)
    assert in_a_batch.json["results"] == [{"ok": True, "order": first.json}]
    assert [(one.code, one.json["details"]) for one in others] == [(1002, {"field": "expire_at"})] * 3
    assert alice.place(market, "buy", "1", "90", client_order_id="new").status == 200


def test_the_same_order_in_other_words_is_the_same_order(market: str, alice: Trader) -> None:
    first = alice.place(market, "buy", "1", "100", client_order_id="k2")

    retry = alice.post(
        "/orders",
        b'{ "time_in_force":"gtc", "quantity":"1.0","price":"100.00", "side":"buy","type":"limit",'
        b' "symbol":"%s", "post_only":false, "stp":"none", "client_order_id" : "\\u006b2"}' % market.encode(),
    )

    assert_replays(retry, first)


@pytest.mark.parametrize(
    "change",
    [{"quantity": "2"}, {"price": "101"}, {"side": "sell"}, {"post_only": True}, {"time_in_force": "day"}],
    ids=lambda change: next(iter(change)),
)
def test_another_order_under_a_used_key_is_refused_and_changes_nothing(
    market: str, alice: Trader, change: dict[str, object]
) -> None:
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "100"}
    order["client_order_id"] = "k3"
    first = alice.post("/orders", order)

    other = alice.post("/orders", order | change)

    assert (other.status, other.code, other.json["details"]) == (409, 1006, {"client_order_id": "k3"})
    assert not other.replayed
    assert_replays(alice.post("/orders", order), first)


def test_a_refusal_consumes_its_key_and_is_repeated_even_where_the_order_would_pass_now(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    first = alice.place(market, "buy", "20", "100", client_order_id="k4")
    assert (first.status, first.code) == (422, 3003)
    venue.deposit(alice.name, "USD", "5000")

    retry = alice.place(market, "buy", "20", "100", client_order_id="k4")

    assert_replays(retry, first)
    found = venue.ok(alice.get("/orders/by-client/k4"))
    assert (found["status"], found["reason"]) == ("rejected", "insufficient_balance")
    assert alice.place(market, "buy", "20", "100", client_order_id="k5").status == 200


def test_what_is_refused_at_the_edge_does_not_consume_its_key(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    stale = str(now_ns(venue) - S)
    for more, code in (
        ({"price": "100.001"}, 1004),
        ({"symbol": "NO-USD"}, 1003),
        ({"valid_until": stale}, 1012),
    ):
        order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "100"}
        reply = alice.post("/orders", order | {"client_order_id": "k6"} | more)
        assert reply.code == code

    good = alice.place(market, "buy", "1", "100", client_order_id="k6")

    assert good.status == 200 and not good.replayed


def test_a_key_belongs_to_its_account(venue: RunningVenue, market: str, alice: Trader) -> None:
    bob = venue.account("limits")
    first = alice.place(market, "buy", "1", "100", client_order_id="shared")

    anothers = bob.place(market, "buy", "2", "50", client_order_id="shared")

    assert first.status == anothers.status == 200 and not anothers.replayed


def test_the_request_id_is_no_part_of_what_a_retry_repeats_and_a_refusal_keeps_the_first(
    market: str, alice: Trader
) -> None:
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "20", "price": "100"}
    order["client_order_id"] = "k7"
    first = alice.post("/orders", order, X_Request_Id="try-1")

    retry = alice.post("/orders", order, X_Request_Id="try-2")

    assert_replays(retry, first)
    assert retry.json["request_id"] == "try-1"
    assert (first.headers["x-request-id"], retry.headers["x-request-id"]) == ("try-1", "try-2")


def test_valid_until_refuses_what_comes_too_late_and_what_outlives_the_keys(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    now = now_ns(venue)

    late = alice.place(market, "buy", "1", "100", valid_until=str(now - 1))
    far = alice.place(market, "buy", "1", "100", valid_until=str(now + 3700 * S))
    good = alice.place(market, "buy", "1", "100", valid_until=str(now + 3000 * S))

    assert [(reply.status, reply.code) for reply in (late, far, good)] == [(422, 1012), (422, 1012), (200, 0)]
    assert late.json["details"]["valid_until"] == str(now - 1)


def test_a_key_is_forgotten_with_its_window_and_valid_until_still_keeps_the_retry_safe(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    rules = venue.ok(venue.admin("GET", "/rules"))
    until = str(now_ns(venue) + S)
    try:
        venue.ok(venue.admin("PUT", "/rules", {"idempotency_window_ns": S}))
        first = alice.place(market, "buy", "1", "100", client_order_id="k8", valid_until=until)
        venue.ok(alice.delete(f"/orders/{first.json['order_id']}"))
        while now_ns(venue) < int(until) + S:
            # Keys that are too old leave as commands come.
            alice.delete("/orders")
            time.sleep(0.05)

        retry = alice.place(market, "buy", "1", "100", client_order_id="k8", valid_until=until)
    finally:
        venue.admin("PUT", "/rules", rules)

    # As new it may not be taken any more, whether the key is still known or not.
    assert retry.replayed or (retry.status, retry.code) == (422, 1012)


def test_a_retry_after_kill_9_gets_the_same_bytes(venue: RunningVenue, market: str, alice: Trader) -> None:
    seller = venue.account("limits")
    seller.placed(market, "sell", "1", "99.5")
    orders = {
        "traded": ("buy", "1.5", "100"),
        "rested": ("buy", "1", "90"),
        "refused": ("buy", "999", "100"),
    }
    first = {key: alice.place(market, *order, client_order_id=key) for key, order in orders.items()}
    assert [reply.status for reply in first.values()] == [200, 200, 422]

    venue.kill9()
    venue.start()

    for key, order in orders.items():
        assert_replays(alice.place(market, *order, client_order_id=key), first[key])
    changed = alice.place(market, "buy", "1.4", "100", client_order_id="traded")
    assert (changed.status, changed.code) == (409, 1006)
