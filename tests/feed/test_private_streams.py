"""Orders and balances: to their owner only, as long as the token holds, and resumable."""

from __future__ import annotations

from tests.feed.feed_venue import FeedVenue, until

REVOKED = (4001, "the token has expired or was revoked")


def test_orders_go_to_their_owner_only(venue: FeedVenue) -> None:
    symbol = venue.market()
    alice, bob = venue.account(mode="limits"), venue.account(mode="limits")
    resting = alice.placed(symbol, "sell", "3", "100")
    with venue.feed() as hers, venue.feed() as his:
        for client, trader in ((hers, alice), (his, bob)):
            said = client.asked("auth", token=trader.token)
            assert said["account"] == trader.name
            client.subscribe("orders")
        taking = bob.placed(symbol, "buy", "1", "100")
        until(lambda: len(hers.of("orders")) == 2)
        another = alice.placed(symbol, "sell", "2", "101", client_order_id="c-1")
        until(lambda: len(hers.of("orders")) >= 3 and len(his.of("orders")) >= 2)

        snapshot, traded, placed = hers.of("orders")
        assert [snapshot["type"], snapshot["items"]] == ["snapshot", [resting]]
        assert traded["items"] == [alice.order(resting["order_id"])]
        assert placed["items"] == [another]
        assert [message["items"] for message in his.of("orders")] == [[], [taking]]
        assert {message["account"] for message in hers.of("orders")} == {alice.name}


def test_a_delta_has_the_new_fills_only(venue: FeedVenue) -> None:
    symbol = venue.market()
    alice, bob = venue.account(mode="limits"), venue.account(mode="limits")
    with venue.feed() as client:
        client.asked("auth", token=alice.token)
        client.subscribe("orders")
        order = alice.placed(symbol, "sell", "3", "100")
        until(lambda: len(client.of("orders")) == 2)
        for count in range(3, 6):
            bob.placed(symbol, "buy", "1", "100")
            until(lambda count=count: len(client.of("orders")) == count)

        items = [message["items"][0] for message in client.of("orders")[2:]]
        assert [item["filled_quantity"] for item in items] == ["1", "2", "3"]
        assert [fill for item in items for fill in item["fills"]] == alice.order(order["order_id"])["fills"]
        assert [len(item["fills"]) for item in items] == [1, 1, 1]


def test_balances_follow_reservations_trades_and_deposits(venue: FeedVenue) -> None:
    symbol = venue.market()
    alice = venue.account(USD="1000")
    with venue.feed() as client:
        client.asked("auth", token=alice.token)
        client.subscribe("balances")
        alice.placed(symbol, "buy", "2", "100")
        until(lambda: len(client.of("balances")) == 2)
        venue.deposit(alice.name, "EUR", "5")
        until(lambda: len(client.of("balances")) == 3)

        assert [message["items"] for message in client.of("balances")] == [
            [{"asset": "USD", "free": "1000", "reserved": "0", "total": "1000"}],
            [
                {"asset": symbol.removesuffix("-USD"), "free": "0", "reserved": "0", "total": "0"},
                {"asset": "USD", "free": "800", "reserved": "200", "total": "1000"},
            ],
            [{"asset": "EUR", "free": "5", "reserved": "0", "total": "5"}],
        ]


def test_private_channels_need_a_token_with_the_scope_to_read(venue: FeedVenue) -> None:
    trader = venue.account(scope="trade")
    wish = [{"name": "orders"}]
    with venue.feed() as client:
        assert client.ask("subscribe", channels=wish)["error"]["code"] == 2001
        client.asked("auth", token=trader.token)
        assert client.ask("subscribe", channels=wish)["error"]["code"] == 2003
        client.asked("auth", token=venue.token(trader.name, "read"))
        client.asked("subscribe", channels=wish)


def test_a_connection_belongs_to_one_account(venue: FeedVenue) -> None:
    alice, bob = venue.account(), venue.account()
    with venue.feed() as client:
        assert client.ask("auth", token=venue.token("nobody-here"))["error"]["code"] == 2003
        client.asked("auth", token=alice.token)
        assert client.ask("auth", token=bob.token)["error"]["code"] == 2003


def test_a_token_that_is_not_valid_ends_the_connection(venue: FeedVenue) -> None:
    trader = venue.account()
    head, _, signature = trader.token.rpartition(".")
    with venue.feed() as client:
        forged = f"{head}.{'A' * len(signature)}"
        reply = client.ask("auth", token=forged)

        assert (reply["ok"], reply["error"]["code"]) == (False, 2002)
        assert client.wait_closed()[0] == 1008


def test_an_expired_token_ends_the_stream(venue: FeedVenue) -> None:
    trader = venue.account()
    with venue.feed() as client:
        client.asked("auth", token=venue.token(trader.name, ttl_s=2))
        client.subscribe("orders")

        assert client.wait_closed() == REVOKED


def test_a_revoked_token_ends_the_stream_and_comes_in_no_more(venue: FeedVenue) -> None:
    alice, bob = venue.account(), venue.account()
    token = venue.token(alice.name, jti="lost-laptop")
    with venue.feed() as lost, venue.feed() as other, venue.feed() as stranger, venue.feed() as again:
        lost.asked("auth", token=token)
        other.asked("auth", token=alice.token)
        stranger.asked("auth", token=bob.token)
        venue.ok(venue.admin("POST", "/tokens/revoke", {"jti": "lost-laptop"}))

        assert lost.wait_closed() == REVOKED
        assert again.ask("auth", token=token)["error"]["code"] == 2002
        other.asked("ping")
        venue.ok(venue.admin("POST", "/tokens/revoke", {"account": alice.name}))
        assert other.wait_closed() == REVOKED
        stranger.asked("ping")


def test_a_private_stream_is_resumed_where_it_was_left(venue: FeedVenue) -> None:
    symbol = venue.market()
    alice = venue.account(mode="limits")
    kept = alice.placed(symbol, "buy", "1", "10")
    with venue.feed() as before:
        before.asked("auth", token=alice.token)
        before.subscribe("orders")
        until(lambda: before.of("orders"))
        (seen,) = before.of("orders")
    gone = alice.placed(symbol, "buy", "1", "11")
    canceled = venue.ok(alice.delete(f"/orders/{gone['order_id']}"))
    with venue.feed() as after, venue.feed() as elsewhere:
        for client, epoch in ((after, seen["epoch"]), (elsewhere, seen["epoch"] + 1)):
            client.asked("auth", token=alice.token)
            client.subscribe("orders", from_seq=seen["seq"], epoch=epoch)
            until(lambda client=client: client.of("orders"))

        (resumed,), (restarted,) = after.of("orders"), elsewhere.of("orders")
        assert (resumed["items"], resumed.get("gap", False)) == ([canceled, kept], False)
        assert (restarted["items"], restarted.get("gap", False)) == ([kept], True)


def test_many_open_orders_come_in_several_messages(venue: FeedVenue) -> None:
    symbol = venue.market()
    alice = venue.account(mode="limits")
    order = {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1", "price": "1"}
    for _ in range(2):
        venue.ok(alice.post("/orders/batch", {"orders": [order] * 505}))
    with venue.feed() as client:
        client.asked("auth", token=alice.token)
        client.subscribe("orders")
        messages = until(lambda: len(found := client.of("orders")) == 5 and found)

        assert [len(message["items"]) for message in messages] == [200] * 5
        assert [message.get("more", False) for message in messages] == [True] * 4 + [False]
        assert messages[-1]["truncated"]
        assert messages[-1]["items"][-1]["seq"] == messages[0]["items"][0]["seq"] + 999
