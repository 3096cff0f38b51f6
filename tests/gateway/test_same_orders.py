"""One life of orders, sent through each protocol to real processes: the journal holds the same each time.

Every protocol has a symbol and two accounts of its own, made alike. What their commands and events hold is
compared field by field; only names of symbol and accounts, numbers, and the caller's request id may differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec
import pytest

from tests.api import records
from tests.api.venue_process import Trader
from tests.feed.feed_venue import FeedVenue
from tests.gateway.over_grpc import SIDES, Caller, Failed, journalled
from tradsys.core import messages as m
from tradsys.v1 import orders_pb2 as pb
from tradsys.venue.ports import Entry

MAKER, TAKER = 0, 1
UNTIL = str(time.time_ns() + 3_600_000_000_000)
"""One moment for all protocols: an order's end is a part of it."""


def limit(side: str, quantity: str, price: str, **more: Any) -> dict[str, Any]:
    return {"side": side, "type": "limit", "quantity": quantity, "price": price, **more}


LIFE: list[tuple[str, int, Any]] = [
    ("place", MAKER, limit("sell", "3.5", "100.01")),
    ("place", MAKER, limit("sell", "10", "100.02", display_quantity="2", time_in_force="day")),
    ("place", MAKER, limit("buy", "1.001", "99.5", post_only=True, stp="cancel_maker")),
    ("place", MAKER, limit("buy", "4", "99", time_in_force="gtd", expire_at=UNTIL)),
    ("place", TAKER, limit("buy", "4.25", "100.02", valid_until=UNTIL)),
    ("place", TAKER, limit("buy", "1", "100.02", post_only=True)),  # 1011
    ("place", TAKER, limit("buy", "20", "100.05", time_in_force="fok")),
    ("place", TAKER, limit("buy", "7", "100.02", time_in_force="ioc")),
    ("place", TAKER, {"side": "sell", "type": "market", "quantity": "0.5"}),
    ("place", TAKER, {"side": "sell", "type": "stop", "quantity": "0.25", "stop_price": "99"}),
    ("place", TAKER, limit("buy", "1", "101", type="stop_limit", stop_price="100.5")),
    ("place", TAKER, limit("buy", "1000000", "100")),  # 3003
    ("place", TAKER, {"side": "sell", "type": "market", "quantity": "0.6"}),  # triggers the stop
    ("replace", 1, {"quantity": "9", "price": "100.03"}),
    ("replace", 3, {"quantity": "2", "version": 0}),
    ("cancel", 3, None),
    ("cancel", 0, None),  # 1009: it is filled
    ("place", MAKER, limit("buy", "1", "100.03", stp="cancel_both")),
    ("cancel", 10, None),
]
"""What is done: place by an account, or replace or cancel of the n-th order by whoever placed it."""


class Way(Protocol):
    """How a protocol is spoken for one account. A refusal of the venue gives "" or is swallowed."""

    def place(self, order: dict[str, Any]) -> str:
        """The order's id."""

    def replace(self, order_id: str, change: dict[str, Any]) -> None: ...
    def cancel(self, order_id: str) -> None: ...


class Json:
    def __init__(self, venue: FeedVenue, trader: Trader) -> None:
        self._trader = trader

    def place(self, order: dict[str, Any]) -> str:
        return self._trader.post("/orders", order).json.get("order_id", "")

    def replace(self, order_id: str, change: dict[str, Any]) -> None:
        self._trader.put(f"/orders/{order_id}", change)

    def cancel(self, order_id: str) -> None:
        self._trader.delete(f"/orders/{order_id}")


class JsonBatch(Json):
    def place(self, order: dict[str, Any]) -> str:
        (result,) = self._trader.post("/orders/batch", {"orders": [order]}).json["results"]
        return result["order"]["order_id"] if result["ok"] else ""

    def cancel(self, order_id: str) -> None:
        self._trader.post("/orders/cancel-batch", {"order_ids": [order_id]})


class Binary:
    def __init__(self, venue: FeedVenue, trader: Trader) -> None:
        self._trader = trader

    def _send(self, record: bytes) -> records.Result:
        reply = self._trader.post("/orders/batch", record, content_type=records.BINARY)
        (result,) = records.results(reply.body)
        return result

    def place(self, order: dict[str, Any]) -> str:
        result = self._send(records.place(order))
        return f"a-{result.order_id}" if not result.code else ""

    def replace(self, order_id: str, change: dict[str, Any]) -> None:
        self._send(records.replace("", int(order_id[2:]), **change))

    def cancel(self, order_id: str) -> None:
        self._send(records.cancel(int(order_id[2:])))


class Stream(Json):
    """Over the WebSocket; it has no replace, that is REST's."""

    def __init__(self, venue: FeedVenue, trader: Trader) -> None:
        super().__init__(venue, trader)
        self._client = venue.feed()
        self._client.asked("auth", token=trader.token)

    def place(self, order: dict[str, Any]) -> str:
        reply = self._client.ask("order.place", order=order)
        return reply["result"]["order_id"] if reply["ok"] else ""

    def cancel(self, order_id: str) -> None:
        self._client.ask("order.cancel", order_id=order_id)

    def close(self) -> None:
        self._client.close()


TYPES = {"limit": 1, "market": 2, "stop": 3, "stop_limit": 4}


def message(order: dict[str, Any]) -> pb.PlaceOrderRequest:
    words = {"side": SIDES, "type": TYPES, "time_in_force": records.TIFS, "stp": records.STPS}
    times = ("expire_at", "valid_until")
    fields = {
        name: words[name][value] if name in words else int(value) if name in times else value
        for name, value in order.items()
    }
    return pb.PlaceOrderRequest(**fields)


class Unary:
    """Over gRPC, a call for each command."""

    def __init__(self, venue: FeedVenue, trader: Trader) -> None:
        self._caller = Caller(venue, trader.token)

    def place(self, order: dict[str, Any]) -> str:
        try:
            return self._caller.place(message(order)).order_id
        except Failed:
            return ""

    def replace(self, order_id: str, change: dict[str, Any]) -> None:
        self._caller.replace(order_id=order_id, **change)

    def cancel(self, order_id: str) -> None:
        try:
            self._caller.cancel(order_id)
        except Failed as failure:
            assert failure.code == m.NOT_CANCELABLE

    def close(self) -> None:
        self._caller.channel.close()


class Trading(Unary):
    """Over gRPC, a stream for each command."""

    def _send(self, command: pb.Command) -> pb.Outcome:
        (answer,) = self._caller.trade(iter([pb.TradeRequest(commands=[command])]))
        (outcome,) = answer.outcomes
        return outcome

    def place(self, order: dict[str, Any]) -> str:
        return self._send(pb.Command(place=message(order))).order.order_id

    def replace(self, order_id: str, change: dict[str, Any]) -> None:
        self._send(pb.Command(replace=pb.ReplaceOrderRequest(order_id=order_id, **change)))

    def cancel(self, order_id: str) -> None:
        self._send(pb.Command(cancel=pb.CancelOrderRequest(order_id=order_id)))


@contextmanager
def ways(venue: FeedVenue, speak: Callable[..., Way], traders: list[Trader]) -> Iterator[list[Way]]:
    made = [speak(venue, trader) for trader in traders]
    try:
        yield made
    finally:
        for one in made:
            if isinstance(one, Stream | Unary):
                one.close()


def lived(venue: FeedVenue, speak: Callable[..., Way]) -> list[Entry]:
    """The journal of LIFE through one protocol: commands of the accounts, with their events."""
    symbol = venue.market(maker_fee_bps="2", taker_fee_bps="5", min_notional="1")
    traders = [venue.account(USD="5000", **{symbol.partition("-")[0]: "50"}) for _ in (MAKER, TAKER)]
    first = venue.call("GET", "/time").seq + 1
    placed: list[tuple[Way, str]] = []
    with ways(venue, speak, traders) as spoken:
        for number, (act, which, what) in enumerate(LIFE):
            if act == "place":
                way = spoken[which]
                key = f"life-{number}"
                placed.append((way, way.place({"symbol": symbol, "client_order_id": key, **what})))
                continue
            way, order_id = placed[which]
            way.replace(order_id, what) if act == "replace" else way.cancel(order_id)
    last = venue.call("GET", "/time").seq
    names = [trader.name for trader in traders]
    entries = journalled(venue, list(range(first, last + 1)))
    mine = [
        (seq, one) for seq, one in enumerate(entries, first) if getattr(one.command, "account", None) in names
    ]
    numbers = {seq: -index for index, (seq, _) in enumerate(mine, 1)}
    alike = {symbol: "SYMBOL"} | {name: f"account {i}" for i, name in enumerate(names)}
    return [anonymous(one, numbers, alike) for _, one in mine]


def anonymous(entry: Entry, numbers: dict[int, int], alike: dict[str, str]) -> Entry:
    """Without what must differ: numbers count from the first command, names say whose they are."""
    command = entry.command
    changed: dict[str, Any] = {"account": alike[command.account], "request_id": ""}
    if isinstance(command, m.PlaceOrder):
        changed["symbol"] = alike[command.symbol]
    else:
        changed["order_id"] = numbers[command.order_id]
    events = []
    for event in entry.events:
        kind, *rest = event
        if kind == m.TRADE_EVENT:
            _, maker, taker, *amounts = rest
            rest = [numbers[maker], numbers[taker], *amounts]
        elif kind not in (m.REFUSED_EVENT, m.WORK_EVENT):
            rest[0] = numbers[rest[0]]
        elif kind == m.WORK_EVENT:
            rest[0] = 0
        events.append((kind, *rest))
    return Entry(msgspec.structs.replace(command, **changed), events)


@pytest.fixture(scope="module")
def json_life(venue: FeedVenue) -> list[Entry]:
    return lived(venue, Json)


def test_the_life_has_every_kind_of_event_and_both_refusals(json_life):
    kinds = {event[0] for entry in json_life for event in entry.events}
    codes = [event[1] for entry in json_life for event in entry.events if event[0] == m.REFUSED_EVENT]

    assert len(json_life) == len(LIFE)
    assert kinds >= set(range(m.ACCEPTED_EVENT, m.REPLENISHED_EVENT + 1))
    assert codes == [m.WOULD_CROSS, m.INSUFFICIENT_BALANCE, m.NOT_CANCELABLE]


@pytest.mark.parametrize("speak", [JsonBatch, Binary, Stream, Unary, Trading])
def test_the_same_orders_leave_the_same_journal_through_every_protocol(venue, json_life, speak):
    assert lived(venue, speak) == json_life
