"""Sums that outgrow 64 bits: they are counted exactly, kept by snapshots, and no reason to fall over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.api.venue_process import RunningVenue, Trader, running_venue

MOST = "46116860184.27387904"
"""2**62 in 1e-8: the most of one order, price or adjustment."""


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    directory = tmp_path_factory.mktemp("venue")
    with running_venue(directory, ("engine", "history"), snapshot_every=5) as running:
        yield running


def held(trader: Trader) -> dict[str, Decimal]:
    rows = trader.venue.ok(trader.get("/balances"))["items"]
    return {row["asset"]: Decimal(row["total"]) for row in rows}


def newest_snapshot(venue: RunningVenue) -> int:
    """The last command in it; 0: there is none yet."""
    return max((int(path.stem.partition("-")[2]) for path in venue.data.glob("snapshot-*.tsn")), default=0)


def test_balances_positions_and_fees_may_be_larger_than_64_bits(venue: RunningVenue) -> None:
    market = venue.market(max_quantity="40000000000", maker_fee_bps="10", taker_fee_bps="25")
    base = market.removesuffix("-USD")
    seller, buyer, rich = venue.account("limits"), venue.account("limits"), venue.account("cash")
    for _ in range(5):
        venue.deposit(rich.name, "USD", MOST)
        seller.placed(market, "sell", "40000000000", "1")
        buyer.placed(market, "buy", "40000000000", "1")
    limits = {"position_max": "1"}
    venue.ok(venue.admin("PUT", f"/accounts/{buyer.name}/limits", limits))

    refused = buyer.place(market, "buy", "1", "1")

    whole = 5 * Decimal(40_000_000_000)
    assert held(buyer) == {base: whole, "USD": -whole * Decimal("1.0025")}
    assert held(seller) == {base: -whole, "USD": whole * Decimal("0.999")}
    assert held(rich) == {"USD": 5 * Decimal(MOST)}
    assert refused.code == 3001
    assert refused.json["details"] == {"limit": "1", "value": "92233720368.54775807"}
    # And so they stay, in snapshots too.
    before = [held(trader) for trader in (seller, buyer, rich)]
    deadline = time.monotonic() + 30
    while newest_snapshot(venue) < refused.seq:
        assert time.monotonic() < deadline, venue.log("history")[-2000:]
        buyer.delete("/orders/a-1")
        time.sleep(0.05)
    venue.kill9()
    venue.start()
    assert [held(trader) for trader in (seller, buyer, rich)] == before
