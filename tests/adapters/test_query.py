"""The query process over HTTP requests: what clients get from the read model, and what they don't."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from pathlib import Path

import falcon.testing
import msgspec
import pytest

from tests.adapters.journalled import Recording, last_seq
from tradsys import metrics
from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.mint import mint
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.adapters.history import reader
from tradsys.adapters.history.reader import ReadModelReader
from tradsys.adapters.history.readmodel import ReadModel
from tradsys.adapters.history.sqlite import Pragmas
from tradsys.adapters.http.app import create_app
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.query import app as query
from tradsys.adapters.query.app import RevocationsFollowed, query_routes
from tradsys.adapters.query.server import THREADS
from tradsys.codec.decimals import amount_of, text_of
from tradsys.codec.errors import ERRORS
from tradsys.codec.frame import encode_payload
from tradsys.codec.json_v1 import OrderReply, encode, reply_of_order
from tradsys.codec.market_v1 import book_of
from tradsys.core.candles import INTERVALS
from tradsys.core.messages import DefineAccount, PlaceOrder, RevokeToken
from tradsys.venue.ports import Entry, Frame

KEY = HmacKey(b"k" * 32)
NOW_S = 1_800_000_000
PRAGMAS = Pragmas()


@cache
def a_token(account: str, scope: str) -> str:
    return mint(KEY, account, scope, 3600, "tradsys", "tradsys", NOW_S - 10)


class World:
    """A read model with a day's flow in it, and the app that serves it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "readmodel.db"
        self.revocations = Revocations()
        past = ReadModelReader(self.path, PRAGMAS)
        verifier = TokenVerifier(KEY, "tradsys", "tradsys", self.revocations, [0] * metrics.WORDS_USED)
        self.authenticator = RevocationsFollowed(verifier, past, self.revocations.revoke)
        edge = Edge(
            self.authenticator,
            lambda: NOW_S * 1_000_000_000,
            lambda: (12, 11, 3),
            close_after=lambda environ, set_header: set_header("Connection", "close"),
        )
        self.published = 0
        routes = query_routes("a", past, lambda: self.published)
        self.client = falcon.testing.TestClient(create_app(edge, routes))

    def fill(self, seed: int, commands: int) -> None:
        self.recording = Recording(seed)
        self.model = ReadModel(self.path, PRAGMAS, [0] * metrics.WORDS_USED)
        frames = self.recording.record(commands)
        self.model.write(frames, b"")
        self.published = self.model.position.seq
        self.shard = self.recording.shard

    def get(self, path: str, account: str = "", scope: str = "read", **params: str):
        headers = {"Authorization": f"Bearer {a_token(account, scope)}"} if account else {}
        return self.client.simulate_get("/api/v1" + path, headers=headers, params=params)

    def orders(self, account: str, *, is_open: bool):
        for bucket in self.shard.orders.chunks.values():
            for order in bucket.values():
                if order.account.name == account and (order.status < 3) == is_open:
                    yield order


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("query"))
    world.fill(7, 1_500)
    return world


@pytest.fixture(scope="module")
def account(world):
    """The account with the most fills."""
    return max(world.shard.accounts, key=lambda name: sum(1 for _ in world.orders(name, is_open=False)))


def test_an_order_has_the_same_bytes_as_from_the_engine(world, account):
    compared = 0
    for order in (*world.orders(account, is_open=True), *world.orders(account, is_open=False)):
        reply = world.get(f"/orders/a-{order.id}", account)
        wanted = reply_of_order(order, "a")
        wanted.fills = (
            msgspec.json.decode(reply.content, type=OrderReply).fills[: -len(wanted.fills) or None]
            + wanted.fills
        )
        assert reply.status_code == 200
        assert reply.content == encode(wanted)
        compared += 1
    assert compared > 5


def test_an_order_is_found_by_its_client_order_id(world, account):
    known = [*world.orders(account, is_open=False), *world.orders(account, is_open=True)]
    order = next(order for order in known if order.command.client_order_id)

    reply = world.get(f"/orders/by-client/{order.command.client_order_id}", account)

    assert reply.json["order_id"] == f"a-{order.id}"


def test_a_rejected_order_says_why(world):
    rejected = world.model.db.execute("SELECT id, account, reason FROM orders WHERE status = 5").fetchall()
    assert len({code for _, _, code in rejected}) > 2

    for order_id, owner, code in rejected:
        reply = world.get(f"/orders/a-{order_id}", owner).json
        assert (reply["status"], reply["reason"]) == ("rejected", ERRORS[code].name)
        assert reply["filled_quantity"] == "0" and reply["fills"] == []


def test_anothers_order_answers_exactly_like_a_missing_one(world, account):
    theirs = next(
        row[0] for row in world.model.db.execute("SELECT id FROM orders WHERE account <> ?", (account,))
    )

    replies = [
        world.get(path, account)
        for path in (f"/orders/a-{theirs}", "/orders/a-999999", "/orders/b-1", "/orders/nonsense")
    ]

    assert {reply.status_code for reply in replies} == {404}
    assert {(reply.json["code"], reply.json["message"]) for reply in replies} == {(1007, "no such order")}


def test_lists_hold_only_own_orders_and_fills(world):
    for account in world.shard.accounts:
        orders = world.get("/orders", account, limit="1000").json["items"]
        fills = world.get("/fills", account, limit="1000").json["items"]
        own = {
            row[0] for row in world.model.db.execute("SELECT id FROM orders WHERE account = ?", (account,))
        }
        assert {order["order_id"] for order in orders} == {f"a-{order_id}" for order_id in own}
        assert {fill["order_id"] for fill in fills} <= {f"a-{order_id}" for order_id in own}


def test_pages_follow_each_other_by_cursor(world, account):
    for path in ("/orders", "/fills", "/market/BTC-USD/trades"):
        whole = world.get(path, account, limit="1000").json["items"]
        items, cursor = [], None
        while cursor is not None or not items:
            page = world.get(path, account, limit="9", **({"cursor": cursor} if cursor else {})).json
            items += page["items"]
            cursor = page["next_cursor"]
        assert items == whole
        assert len(items) > 18


def test_orders_are_listed_by_symbol_and_status(world, account):
    found = world.get("/orders", account, status="open", symbol="BTC-USD").json["items"]

    assert {order["order_id"] for order in found} == {
        f"a-{order.id}" for order in world.orders(account, is_open=True) if order.command.symbol == "BTC-USD"
    }


def test_trades_are_public_and_newest_first(world):
    reply = world.get("/market/BTC-USD/trades")

    latest = [event for _, _, _, event in world.shard.markets["BTC-USD"].trades]
    assert reply.status_code == 200
    assert [trade["trade_id"] for trade in reply.json["items"]] == [event[1] for event in latest[:-101:-1]]
    assert set(reply.json["items"][0]) == {"trade_id", "price", "quantity", "taker_side", "seq", "ts"}


def test_candles_are_those_of_the_trades_in_every_interval(world):
    trades = world.get("/market/BTC-USD/trades", limit="1000").json["items"]
    assert len(trades) > 50

    for interval, length in INTERVALS.items():
        made: dict[int, list[dict]] = {}
        for trade in reversed(trades):
            made.setdefault(int(trade["ts"]) // length * length, []).append(trade)
        wanted = [
            {
                "start_ts": str(start),
                "open": inside[0]["price"],
                "high": max((trade["price"] for trade in inside), key=Decimal),
                "low": min((trade["price"] for trade in inside), key=Decimal),
                "close": inside[-1]["price"],
                "volume": text_of(sum(amount_of(trade["quantity"]) for trade in inside)),
                "trades": len(inside),
            }
            for start, inside in sorted(made.items(), reverse=True)
        ]
        reply = world.get("/market/BTC-USD/candles", interval=interval, limit="1000").json
        assert reply == {"symbol": "BTC-USD", "interval": interval, "items": wanted, "next_cursor": None}


def test_candles_begin_at_start_and_end_before_end(world):
    def starts(**params: str) -> list[str]:
        items = world.get("/market/BTC-USD/candles", interval="1s", **params).json["items"]
        return [candle["start_ts"] for candle in items]

    everything = starts()

    assert starts(start=everything[3], end=everything[1]) == everything[2:4]
    assert starts(start="0", end="0") == []


@pytest.mark.parametrize("depth", ["1", "5", "1000"])
def test_a_deep_book_is_the_engines(world, depth):
    for symbol, market in world.shard.markets.items():
        for level in (2, 3):
            reply = world.get(f"/market/{symbol}/book", depth=depth, level=str(level))
            at = world.model.position.seq, 1, world.recording.frames[-1].time_ns
            assert reply.content == encode(book_of(market, int(depth), level, "a", *at))


def test_of_a_long_book_the_best_orders_are_shown(world, monkeypatch):
    def bids() -> list[list[str]]:
        return world.get("/market/BTC-USD/book", level="3", depth="1000").json["bids"]

    everything = bids()
    monkeypatch.setattr(reader, "BOOK_ORDERS_MAX", 3)

    assert len(everything) > 3
    assert bids() == everything[:3]


def test_walking_pages_while_rows_are_written_gives_each_row_once(tmp_path):
    world = World(tmp_path)
    world.fill(7, 1_500)
    account = max(world.shard.accounts, key=lambda name: sum(1 for _ in world.orders(name, is_open=False)))
    paths = {
        "/orders": "order_id",
        "/fills": "trade_id order_id",
        "/market/BTC-USD/trades": "trade_id",
        "/market/BTC-USD/candles": "start_ts",
    }

    def keys(path: str, items: list[dict]) -> list[tuple]:
        return [tuple(item[name] for name in paths[path].split()) for item in items]

    params = {"/market/BTC-USD/candles": {"interval": "1s"}}
    at_first = {
        path: keys(path, world.get(path, account, limit="1000", **params.get(path, {})).json["items"])
        for path in paths
    }

    walked: dict[str, list[tuple]] = {path: [] for path in paths}
    cursors: dict[str, str | None] = dict.fromkeys(paths, "")
    while any(cursor is not None for cursor in cursors.values()):
        for path, cursor in cursors.items():
            if cursor is None:
                continue
            more = {"cursor": cursor} if cursor else {}
            page = world.get(path, account, limit="7", **more, **params.get(path, {})).json
            walked[path] += keys(path, page["items"])
            cursors[path] = page["next_cursor"]
        world.model.write(world.recording.record(20), b"")

    assert walked == at_first
    assert all(len(rows) > 14 for path, rows in walked.items() if "candles" not in path)


def test_replies_say_how_far_they_reach(world, account):
    reply = world.get("/orders", account)

    assert reply.headers["x-read-seq"] == str(world.model.position.seq)
    assert reply.headers["x-durable-seq"] == "11"


@pytest.mark.parametrize("path", ["/orders", "/orders/a-1", "/orders/by-client/c1", "/fills"])
def test_own_things_need_a_token_with_the_scope_read(world, account, path):
    assert (world.get(path).status_code, world.get(path).json["code"]) == (401, 2001)
    assert world.get(path, account, scope="trade admin").json["code"] == 2003


@pytest.mark.parametrize(
    "path,params",
    [
        ("/orders", {"limit": "0"}),
        ("/orders", {"limit": "1001"}),
        ("/orders", {"limit": "٣"}),
        ("/orders", {"status": "opened"}),
        ("/orders", {"cursor": "17"}),
        ("/orders", {"cursor": ""}),
        ("/orders", {"colour": "blue"}),
        ("/orders", {"symbol": ["BTC-USD", "ETH-USD"]}),
        ("/fills", {"cursor": "5"}),
        ("/fills", {"cursor": f"{2**63}-1"}),
        ("/market/BTC-USD/trades", {"cursor": str(2**63)}),
        ("/market/BTC-USD/trades", {"cursor": "-1"}),
        ("/market/BTC-USD/candles", {"interval": "2m"}),
        ("/market/BTC-USD/candles", {"start": "yesterday"}),
        ("/market/BTC-USD/candles", {"end": str(2**63)}),
        ("/market/BTC-USD/book", {"depth": "0"}),
        ("/market/BTC-USD/book", {"depth": "1001"}),
        ("/market/BTC-USD/book", {"level": "1"}),
        ("/orders/by-client/" + "x" * 37, {}),
    ],
)
def test_odd_parameters_are_refused_by_name(world, account, path, params):
    reply = world.get(path, account, **params)

    assert (reply.status_code, reply.json["code"]) == (400, 1002)


@pytest.mark.parametrize(
    "path",
    [
        *("/market/NO-SUCH/trades", "/market/NO-SUCH/candles", "/market/NO-SUCH/book"),
        *("/orders?symbol=NO-SUCH", "/fills?symbol=NO-SUCH"),
    ],
)
def test_unknown_symbols_are_1003(world, account, path):
    reply = world.get(path, account)

    assert (reply.status_code, reply.json["code"]) == (404, 1003)


def test_before_history_has_written_anything_clients_are_asked_to_come_again(tmp_path):
    reply = World(tmp_path).get("/orders", "demo")

    assert (reply.status_code, reply.json["code"], reply.headers["retry-after"]) == (503, 1020, "1")


@pytest.fixture
def behind(tmp_path, monkeypatch):
    """A read model that waits for frames which the engine has published already."""
    monkeypatch.setattr(query, "BEHIND_S", 0.05)
    world = World(tmp_path)
    world.fill(7, 1_500)
    world.unread = world.recording.record(200)
    world.published = last_seq(world.unread[-1])
    return world


@contextmanager
def catching_up(world, monkeypatch):
    """The frames are written while whoever asks within the block waits."""
    monkeypatch.setattr(query, "BEHIND_S", 60.0)
    writing = threading.Timer(0.1, lambda: world.model.write(world.unread, b""))
    # The connection is for one thread at a time, and this one waits.
    writing.start()
    yield
    writing.join()


def orders_to_come(world) -> list[tuple[int, str]]:
    """(number, account) of the orders in what is unread."""
    return [
        (seq, entry.command.account)
        for frame in world.unread
        for seq, entry in enumerate(frame.entries, frame.first_seq)
        if isinstance(entry.command, PlaceOrder)
    ]


def come_again(reply) -> bool:
    said = reply.status_code, reply.json.get("code"), reply.headers.get("retry-after")
    return said == (503, 1020, "1")


def test_an_order_that_has_not_come_yet_is_not_denied(behind):
    placed = orders_to_come(behind)
    number, owner = placed[-1]
    other = next(account for account in behind.shard.accounts if account != owner)

    # The same to everybody: nobody learns whose it is.
    for account in (owner, other):
        reply = behind.get(f"/orders/a-{number}", account)
        assert come_again(reply), reply.json
        assert reply.headers["x-read-seq"] == str(behind.model.position.seq)
    assert come_again(behind.get("/orders/by-client/not-here-yet", owner))
    assert behind.get(f"/orders/a-{behind.published + 1}", owner).status_code == 404
    behind.model.write(behind.unread, b"")
    assert behind.get(f"/orders/a-{number}", owner).json["order_id"] == f"a-{number}"
    assert behind.get(f"/orders/a-{number}", other).status_code == 404
    assert behind.get("/orders/by-client/not-here-yet", owner).status_code == 404


def test_an_order_is_waited_for_while_the_read_model_comes_to_it(behind, monkeypatch):
    number, owner = orders_to_come(behind)[-1]

    with catching_up(behind, monkeypatch):
        reply = behind.get(f"/orders/a-{number}", owner)

    assert (reply.status_code, reply.json["order_id"]) == (200, f"a-{number}")


def test_an_order_that_may_have_been_closed_since_is_not_told_as_open(behind, monkeypatch):
    was_open = set(behind.model.db.execute("SELECT id, account FROM orders WHERE status IN (1, 2)"))
    number, owner = next(
        (order.id, order.account.name)
        for account in behind.shard.accounts
        for order in behind.orders(account, is_open=False)
        if (order.id, order.account.name) in was_open
    )
    closed, closed_by = behind.model.db.execute("SELECT id, account FROM orders WHERE status = 4").fetchone()

    assert come_again(behind.get(f"/orders/a-{number}", owner))
    assert behind.get(f"/orders/a-{closed}", closed_by).json["status"] == "canceled"
    with catching_up(behind, monkeypatch):
        reply = behind.get(f"/orders/a-{number}", owner)
    assert reply.json["status"] not in ("new", "partially_filled")


def test_a_page_does_not_skip_what_the_engine_named_and_has_not_come_yet(behind, monkeypatch):
    trades = [event[1] for _, _, _, event in behind.shard.markets["BTC-USD"].trades]
    known = behind.get("/market/BTC-USD/trades", limit="1").json["items"][0]["trade_id"]
    # As the engine says it, which has sent the trades from there on.
    cursor = next(number for number in reversed(trades) if number > known + 3)
    _, owner = orders_to_come(behind)[0]
    pages = {
        "/market/BTC-USD/trades": {"cursor": str(cursor)},
        "/orders": {"cursor": f"a-{behind.published}"},
    }

    for path, params in pages.items():
        assert come_again(behind.get(path, owner, **params)), path
    assert behind.get("/market/BTC-USD/trades", cursor=str(known)).status_code == 200
    with catching_up(behind, monkeypatch):
        items = behind.get("/market/BTC-USD/trades", cursor=str(cursor), limit="3").json["items"]
    assert [trade["trade_id"] for trade in items] == [one for one in reversed(trades) if one < cursor][:3]


def test_a_symbol_that_may_be_new_is_not_denied(behind):
    for path in ("/market/NEW-USD/trades", "/market/NEW-USD/candles", "/market/NEW-USD/book"):
        assert come_again(behind.get(path)), path


def test_those_who_wait_leave_a_thread_to_others(behind, monkeypatch):
    number, owner = orders_to_come(behind)[-1]
    assert query.BEHIND_AT_ONCE < THREADS

    with catching_up(behind, monkeypatch), ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: behind.get(f"/orders/a-{number}", owner), range(20)))

    assert sum(come_again(reply) for reply in replies if reply.status_code != 200) >= 1
    assert sum(reply.status_code == 200 for reply in replies) >= query.BEHIND_AT_ONCE


def test_a_revoked_token_is_refused_within_a_second(tmp_path):
    world = World(tmp_path)
    world.fill(7, 300)
    account = next(iter(world.shard.accounts))
    assert world.get("/orders", account).status_code == 200
    command = RevokeToken(account=account, issued_until=NOW_S)
    revoke_now(world, command)

    until = time.monotonic() + 1
    while (reply := world.get("/orders", account)).status_code == 200 and time.monotonic() < until:
        time.sleep(0.05)

    assert (reply.status_code, reply.json["code"]) == (401, 2002)


def revoke_now(world: World, command: RevokeToken) -> None:
    seq = world.model.position.seq + 1
    entries = [
        Entry(command, world.shard.apply(command, seq, NOW_S * 1_000_000_000)),
        Entry(DefineAccount("x", 2), [(11, 22)]),
    ]
    frame = Frame(seq, NOW_S * 1_000_000_000, 1, entries, encode_payload(entries))
    world.model.write([frame], b"")
    assert world.model.position.seq == last_seq(frame)
