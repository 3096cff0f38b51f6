"""Both REST clients: typed replies, an exception for each error, and repeats that change nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.feed.feed_venue import feed_venue
from tradsys.client import AsyncClient, AsyncOrderPool, Client, Refused, Unreachable, errors, order_body
from tradsys.v1 import orders_pb2 as pb


class Awaited:
    """An AsyncClient whose calls are waited for: so both clients pass the same tests."""

    def __init__(self, url: str, token: str = "", **more: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(url, token, **more)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            made = method(*arguments, **named)
            if hasattr(made, "__aiter__"):
                return iter(self._loop.run_until_complete(_all(made)))
            return self._loop.run_until_complete(made)

        return call

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]


BOTH = pytest.mark.parametrize("kind", [Client, Awaited], ids=["sync", "async"])


@BOTH
def test_an_order_from_placing_to_its_end(venue, url, kind):
    market, trader = venue.market(), venue.account("limits")
    with kind(url, trader.token) as client:
        placed = client.place(market, "sell", Decimal("2.50"), "10", post_only=True, stp="cancel_both")
        bigger = client.replace(placed.order_id, quantity=3, version=0)
        found = client.order(placed.order_id)
        by_client = client.order_by_client(placed.client_order_id)
        many = client.place_many([order_body(market, "buy", 1, str(price)) for price in (7, 8, "7.001")])
        listed = list(client.orders(market, page=2))
        book, ticker, symbol = client.book(market, depth=5), client.ticker(market), client.symbol(market)
        canceled = client.cancel(placed.order_id)
        rest = client.cancel_all(market)
        closed = client.order(placed.order_id)
        trades, tested = client.trades(market), client.test(market, "buy", "1", "5")

    assert (placed.status, placed.quantity, bigger.quantity, bigger.version) == ("new", "2.5", "3", 1)
    assert (found.order_id, by_client.order_id) == (placed.order_id, placed.order_id)
    first, second, wrong = many
    assert (first.price, second.price, type(wrong), wrong.code) == ("7", "8", errors.OffGrid, 1004)
    assert [one.order_id for one in listed] == [second.order_id, first.order_id, placed.order_id]
    assert (book.bids, book.asks) == ([("8", "1"), ("7", "1")], [("10", "3")])
    assert (ticker.bid, ticker.ask, symbol.symbol) == ("8", "10", market)
    assert (canceled.status, rest.canceled, closed.reason) == ("canceled", 2, "requested")
    assert (trades.items, tested.valid, tested.worst_notional) == ([], True, "5")


@BOTH
def test_an_order_is_canceled_by_the_name_that_the_client_gave_it(venue, url, kind):
    market, trader = venue.market(), venue.account("limits")
    with kind(url, trader.token) as client:
        placed = client.place(market, "buy", "1", "9", client_order_id="mine")
        canceled, again = client.cancel_by_client("mine"), client.cancel_by_client("mine")
        with pytest.raises(errors.NoSuchOrder):
            client.cancel_by_client("nobodys")

    assert (canceled.order_id, canceled.status) == (placed.order_id, "canceled")
    assert again == canceled


@BOTH
def test_an_account_sees_what_it_has(venue, url, kind):
    market, trader = venue.market(), venue.account("cash", USD="100")
    with kind(url, trader.token) as client:
        client.place(market, "buy", "1", "10")
        balances, positions, me = client.balances(), client.positions(), client.account()
        symbols = client.symbols()

    assert [(one.asset, one.free, one.reserved) for one in balances if one.asset == "USD"] == [
        ("USD", "90", "10")
    ]
    assert [(one.symbol, one.open_buys) for one in positions if one.symbol == market] in ([], [(market, "1")])
    assert (me.account, me.open_orders) == (trader.name, 1)
    assert market in [one.symbol for one in symbols]


@BOTH
def test_an_order_that_left_the_engines_memory_comes_from_query(venue, url, kind):
    market, trader = venue.market(), venue.account("limits")
    with kind(url, trader.token) as client:
        placed = client.place(market, "buy", "1", "9")
        client.cancel(placed.order_id)
        found = []
        while not found:
            # The read model may not have come to the symbol itself.
            with contextlib.suppress(errors.UnknownSymbol):
                found = list(client.orders(market, status="canceled"))

    assert [one.order_id for one in found] == [placed.order_id]


WRONG: list[tuple[type[Refused], Callable[[Any, str], Any]]] = [
    (errors.InvalidRequest, lambda client, market: client.place(market, "buy", "0", "9")),
    (errors.UnknownSymbol, lambda client, market: client.place("NO-USD", "buy", "1", "9")),
    (errors.OffGrid, lambda client, market: client.place(market, "buy", "1", "9.001")),
    (errors.NoSuchOrder, lambda client, market: client.cancel("a-999999")),
    (errors.NotCancelable, lambda client, market: client.cancel(_filled(client, market))),
    (errors.Stale, lambda client, market: client.place(market, "buy", "1", "9", valid_until=1)),
    (errors.InsufficientBalance, lambda client, market: client.place(market, "buy", "1000", "9")),
]


def _filled(client: Any, market: str) -> str:
    made = client.place(market, "buy", "1", "5")
    client.place(market, "sell", "1", "5")
    filled: str = made.order_id
    return filled


@BOTH
@pytest.mark.parametrize(("error", "call"), WRONG, ids=[error.__name__ for error, _ in WRONG])
def test_each_refusal_is_an_exception_of_its_own(venue, url, kind, error, call):
    market = venue.market()
    trader = venue.account("cash", USD="100", **{market.split("-")[0]: "10"})
    with kind(url, trader.token) as client, pytest.raises(error) as caught:
        call(client, market)

    assert caught.value.code in errors.BY_CODE
    assert caught.value.request_id


@BOTH
def test_a_wrong_token_is_unauthorized(venue, url, kind):
    with kind(url, "x.y.z") as client, pytest.raises(errors.Unauthorized):
        client.account()


@BOTH
def test_a_float_is_no_amount(url, kind):
    with kind(url) as client, pytest.raises(TypeError):
        client.place("BTC-USD", "buy", 0.1, "9")


@BOTH
def test_nobody_there_is_unreachable_and_nothing_is_unknown(kind):
    with kind("http://127.0.0.1:1", patience_s=0.2) as client, pytest.raises(Unreachable) as caught:
        client.place("BTC-USD", "buy", "1", "9")

    assert caught.value.outcome_unknown is False


@pytest.mark.parametrize(
    ("given", "type"),
    [
        ({"price": 1}, "limit"),
        ({}, "market"),
        ({"stop_price": 1}, "stop"),
        ({"stop_price": 1, "price": 1}, "stop_limit"),
    ],
)
def test_what_is_given_says_what_kind_of_order_it_is(given, type):
    body = order_body("X-USD", "buy", 1, **given)

    assert body["type"] == type
    assert body["client_order_id"] != order_body("X-USD", "buy", 1)["client_order_id"]


@pytest.fixture
def breakable(tmp_path) -> Iterator[Any]:
    with feed_venue(tmp_path, ("engine", "history", "feed")) as running:
        yield running


@pytest.mark.timeout(200)
def test_orders_are_placed_once_while_the_engine_dies_and_comes_back(breakable):
    venue = breakable
    market, trader = venue.market(), venue.account("limits")
    url = f"http://127.0.0.1:{venue.ports['port']}"
    placed: list[str] = []

    def trade(client: Any) -> None:
        for _ in range(60):
            placed.append(client.place(market, "buy", "1", "9").order_id)

    with Client(url, trader.token, patience_s=120) as one, Awaited(url, trader.token, patience_s=120) as two:
        threads = [threading.Thread(target=trade, args=(client,)) for client in (one, two)]
        for thread in threads:
            thread.start()
        for number in (signal.SIGKILL, signal.SIGTERM):
            venue.end(number, ("engine",))
            venue.start()
        for thread in threads:
            thread.join(120)
        with Client(url, trader.token) as client:
            there = [order.order_id for order in client.orders(market, page=1000)]

    assert sorted(placed) == sorted(there), "an order is missing, or was placed twice"
    assert len(placed) == 120


def test_over_grpc_an_order_is_canceled_by_the_name_that_the_client_gave_it(venue, grpc_target):
    market, trader = venue.market(), venue.account("limits")
    order = pb.PlaceOrderRequest(
        symbol=market, side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT, quantity="1", price="9",
        client_order_id="mine",
    )  # fmt: skip

    async def trade() -> tuple[pb.OrderResult, pb.OrderResult]:
        async with AsyncOrderPool(grpc_target, trader.token) as pool:
            return await pool.place(order), await pool.cancel_by_client("mine")

    placed, canceled = asyncio.run(trade())

    assert (canceled.order_id, canceled.status) == (placed.order_id, pb.ORDER_STATUS_CANCELED)
