"""Orders over the stream: the bodies of REST, the replies of REST, the same events."""

from __future__ import annotations

import json
from typing import Any

from tests.feed.feed_venue import Client, FeedVenue, until


def order(symbol: str, side: str, quantity: str, price: str, **more: Any) -> dict[str, Any]:
    return {
        "symbol": symbol, "side": side, "type": "limit", "quantity": quantity, "price": price,
    } | more  # fmt: skip


def without_identity(reply: dict[str, Any]) -> dict[str, Any]:
    """What does not name the order or its moment."""
    times = ("order_id", "client_order_id", "created_ts", "updated_ts", "seq")
    fills = [
        {name: value for name, value in fill.items() if name not in ("ts", "trade_id")}
        for fill in reply["fills"]
    ]
    return {name: value for name, value in reply.items() if name not in times} | {"fills": fills}


def test_an_order_over_the_stream_is_answered_as_over_rest(venue: FeedVenue) -> None:
    symbol = venue.market()
    alice, bob = venue.account(mode="limits"), venue.account(mode="limits")
    with venue.feed() as client:
        client.asked("auth", token=alice.token)
        for side, quantity, price in (("sell", "3", "100"), ("buy", "2", "99")):
            bob.placed(symbol, side, quantity, price)
        body = order(symbol, "buy", "1.5", "100", client_order_id="ws-1")
        over_stream = client.asked("order.place", order=body)
        over_rest = venue.ok(alice.post("/orders", body | {"client_order_id": "rest-1"}))

        assert without_identity(over_stream) == without_identity(over_rest)
        assert over_stream == alice.order(over_stream["order_id"])
        assert (over_stream["status"], over_stream["filled_quantity"]) == ("filled", "1.5")


def test_a_retry_gets_the_first_reply_through_either_protocol(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    body = order(symbol, "buy", "1", "10", client_order_id="once")
    with venue.feed() as client:
        client.asked("auth", token=trader.token)
        first = client.asked("order.place", order=body)
        venue.ok(trader.delete(f"/orders/{first['order_id']}"))

        assert client.asked("order.place", order=body) == first
        assert venue.ok(trader.post("/orders", body)) == first
        other = client.ask("order.place", order=body | {"price": "11"})
        assert other["error"]["code"] == 1006


def test_an_order_is_canceled_over_the_stream(venue: FeedVenue) -> None:
    symbol = venue.market()
    alice, bob = venue.account(mode="limits"), venue.account(mode="limits")
    with venue.feed() as hers, venue.feed() as his:
        hers.asked("auth", token=alice.token)
        his.asked("auth", token=bob.token)
        placed = hers.asked("order.place", order=order(symbol, "buy", "1", "10"))
        assert his.ask("order.cancel", order_id=placed["order_id"])["error"]["code"] == 1007

        canceled = hers.asked("order.cancel", order_id=placed["order_id"])

        assert canceled == alice.order(placed["order_id"])
        assert (canceled["status"], canceled["reason"]) == ("canceled", "requested")
        assert hers.ask("order.cancel", order_id="a-0")["error"]["code"] == 1007


def test_refusals_are_those_of_rest(venue: FeedVenue) -> None:
    symbol = venue.market()
    poor = venue.account(USD="5")
    bodies = [
        order(symbol, "buy", "1", "10"),  # 3003, by the venue
        order(symbol, "buy", "1", "10.001"),  # 1004, by the feed
        order("NO-PE", "buy", "1", "10"),
        order(symbol, "buy", "1", "10") | {"more": 1},
        order(symbol, "buy", "1", "10", valid_until="1"),  # 1012, by the engine's edge
    ]
    with venue.feed() as client:
        client.asked("auth", token=poor.token)
        for body in bodies:
            refused = client.ask("order.place", order=body)["error"]
            rest = poor.post("/orders", body)
            assert refused["code"] == rest.code
            if rest.code == 3003:
                assert (refused["message"], refused["details"]) == (
                    rest.json["message"],
                    rest.json["details"],
                )


def test_a_refused_order_is_shown_to_its_owner_once(venue: FeedVenue) -> None:
    symbol = venue.market()
    poor = venue.account(USD="5")
    with venue.feed() as client:
        client.asked("auth", token=poor.token)
        client.subscribe("orders")
        poor.place(symbol, "buy", "1", "10", client_order_id="too-much")
        until(lambda: len(client.of("orders")) == 2)

        (item,) = client.of("orders")[1]["items"]
        assert (item["status"], item["reason"], item["client_order_id"]) == (
            "rejected", "insufficient_balance", "too-much",
        )  # fmt: skip


def test_who_may_not_trade_is_told_so(venue: FeedVenue) -> None:
    symbol = venue.market()
    reader = venue.account(scope="read")
    body = order(symbol, "buy", "1", "10")
    with venue.feed() as client:
        for op, more in (
            ("order.place", {"order": body}),
            ("order.cancel", {"order_id": "a-1"}),
            ("cancel_on_disconnect", {"on": True}),
        ):
            assert client.ask(op, **more)["error"]["code"] == 2001
        client.asked("auth", token=reader.token)
        assert client.ask("order.place", order=body)["error"]["code"] == 2003
        client.asked("auth", token=venue.token(reader.name, "trade"))
        assert client.ask("order.place")["error"]["code"] == 1002
        assert client.ask("order.cancel")["error"]["code"] == 1002
        assert client.ask("cancel_on_disconnect")["error"]["code"] == 1002


def test_many_orders_at_once_are_gathered_and_each_is_answered(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed() as client:
        client.asked("auth", token=trader.token)
        for number in range(200):
            body = order(symbol, "buy", "1", "10", client_order_id=f"n{number}")
            client.connection.send(json.dumps({"op": "order.place", "id": f"n{number}", "order": body}))
        replies = [client.reply(f"n{number}") for number in range(200)]

        assert [reply["result"]["client_order_id"] for reply in replies] == [f"n{n}" for n in range(200)]


def left_open(venue: FeedVenue, trader: Any, symbol: str) -> list[str]:
    items = venue.ok(trader.get(f"/orders?symbol={symbol}"))["items"]
    return sorted(item["client_order_id"] for item in items)


def test_orders_end_with_their_connection_if_it_is_asked_for(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed() as leaver, venue.feed() as stayer:
        placed(leaver, trader.token, symbol, "before")
        assert leaver.asked("cancel_on_disconnect", on=True) == {"on": True}
        placed(leaver, trader.token, symbol, "during")
        placed(stayer, trader.token, symbol, "elsewhere")
        trader.placed(symbol, "buy", "1", "10", client_order_id="rest")
        leaver.close()

        until(lambda: left_open(venue, trader, symbol) == ["before", "elsewhere", "rest"])
        assert stayer.asked("cancel_on_disconnect", on=True)
        assert stayer.asked("cancel_on_disconnect", on=False) == {"on": False}


def placed(client: Client, token: str, symbol: str, name: str) -> None:
    client.asked("auth", token=token)
    client.asked("order.place", order=order(symbol, "buy", "1", "10", client_order_id=name))


def test_orders_of_a_client_that_loses_its_line_are_canceled(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed() as client:
        client.asked("auth", token=trader.token)
        client.asked("cancel_on_disconnect", on=True)
        placed(client, trader.token, symbol, "lost")
        client.connection.socket.shutdown(2)

        until(lambda: left_open(venue, trader, symbol) == [])
