"""What the venue's own processes hand over: binary records that carry their senders."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api import records
from tests.api.venue_process import Reply, RunningVenue

READ, TRADE, ADMIN = 2, 1, 4


@pytest.fixture
def market(venue: RunningVenue) -> str:
    return venue.market()


def post(venue: RunningVenue, body: bytes) -> Reply:
    secret = (venue.data / "internal.secret").read_text()
    headers = {"X-Internal-Secret": secret, "Content-Type": records.BINARY}
    return venue.send("POST", "/internal/commands", body, headers, venue.ports["internal_port"])


def sent_by(account: str, record: bytes, scope: int = TRADE) -> bytes:
    return records.SENDER.pack(account.encode(), scope) + record


def order(symbol: str, side: str, price: str, **more: Any) -> bytes:
    return records.place(
        {"symbol": symbol, "side": side, "type": "limit", "quantity": "1", "price": price} | more
    )


def test_commands_of_several_accounts_are_one_batch(venue: RunningVenue, market: str) -> None:
    alice, bob = venue.account("limits"), venue.account("limits")

    reply = post(
        venue,
        sent_by(alice.name, order(market, "sell", "10", client_order_id="k"))
        + sent_by(bob.name, order(market, "buy", "10"))
        + sent_by(bob.name, order(market, "buy", "9"), TRADE | READ | ADMIN),
    )

    found = records.results(reply.body)
    assert (reply.status, reply.headers["content-type"]) == (200, records.BINARY)
    assert [(one.code, one.status) for one in found] == [(0, "new"), (0, "filled"), (0, "new")]
    assert [one.seq for one in found] == list(range(reply.seq - 2, reply.seq + 1))
    assert venue.ok(alice.get("/orders/by-client/k"))["status"] == "filled"
    assert [one["price"] for one in venue.ok(bob.get("/orders"))["items"]] == ["9"]


@pytest.mark.parametrize("scope", [0, READ, ADMIN, READ | ADMIN, 8, 254])
def test_a_sender_without_the_scope_trade_is_refused_for_itself(
    venue: RunningVenue, market: str, scope: int
) -> None:
    alice = venue.account("limits")

    body = sent_by(alice.name, order(market, "buy", "9"), scope) + sent_by(
        alice.name, order(market, "buy", "8")
    )
    found = records.results(post(venue, body).body)

    assert [(one.code, one.status) for one in found] == [(2003, "rejected"), (0, "new")]
    assert [one["price"] for one in venue.ok(alice.get("/orders"))["items"]] == ["8"]


@pytest.mark.parametrize(
    ("account", "code"),
    [("nobody", 2003), ("", 1002), ("a b", 1002), ("*", 1002), ("a\0b", 1002), ("é", 1002)],
)
def test_an_account_that_is_none_is_refused_for_itself(
    venue: RunningVenue, market: str, account: str, code: int
) -> None:
    before = venue.call("GET", "/time").seq

    found = records.results(
        post(venue, sent_by(account, order(market, "buy", "9")) + sent_by(account, records.cancel(1))).body
    )

    assert [(one.code, one.seq) for one in found] == [(code, 0)] * 2
    assert venue.call("GET", "/time").seq == before


def test_nobody_cancels_anothers_order_here_either(venue: RunningVenue, market: str) -> None:
    alice, bob = venue.account("limits"), venue.account("limits")
    number = int(alice.placed(market, "buy", "1", "9")["order_id"][2:])

    found = records.results(
        post(
            venue,
            sent_by(bob.name, records.cancel(number))
            + sent_by(bob.name, records.replace(market, number, price="8"))
            + sent_by(alice.name, records.cancel(number)),
        ).body
    )

    assert [one.code for one in found] == [1007, 1007, 0]


def test_an_order_is_changed_on_its_own_grid_whatever_symbol_is_said(
    venue: RunningVenue, market: str
) -> None:
    coarse = venue.market(lot_size="0.1")
    alice = venue.account("limits")
    number = int(alice.placed(market, "buy", "1", "9")["order_id"][2:])

    other, unsaid = records.results(
        post(
            venue,
            sent_by(alice.name, records.replace(coarse, number, quantity="0.5"))
            + sent_by(alice.name, records.replace("", number, quantity="0.25")),
        ).body
    )

    assert (other.code, other.seq) == (1002, 0)
    assert (unsaid.code, unsaid.remaining) == (0, records.e8("0.25"))
    assert venue.ok(alice.get(f"/orders/a-{number}"))["quantity"] == "0.25"


def test_a_retry_may_come_in_another_form(venue: RunningVenue, market: str) -> None:
    alice = venue.account("limits")
    first = alice.placed(market, "buy", "1", "9", client_order_id="k")

    (internal,) = records.results(
        post(venue, sent_by(alice.name, order(market, "buy", "9", client_order_id="k"))).body
    )
    (other,) = records.results(
        post(venue, sent_by(alice.name, order(market, "buy", "8", client_order_id="k"))).body
    )

    assert (internal.replayed, internal.seq, internal.code) == (True, first["seq"], 0)
    assert other.code == 1006
    again = alice.place(market, "buy", "1", "9", client_order_id="k")
    assert again.replayed and again.json == first


@pytest.mark.parametrize("body", [b"", b"\0", b"\0" * 120, b"\0" * 159, b"\0" * 161])
def test_half_a_record_is_no_batch(venue: RunningVenue, body: bytes) -> None:
    reply = post(venue, body)

    assert (reply.status, reply.code) == (400, 1002)


def test_a_thousand_records_and_not_one_more(venue: RunningVenue, market: str) -> None:
    alice = venue.account("limits")
    one = sent_by(alice.name, order(market, "buy", "1"))

    most, more = post(venue, one * 1000), post(venue, one * 1001)

    assert (most.status, len(records.results(most.body))) == (200, 1000)
    assert (more.status, more.code) == (400, 1002)
