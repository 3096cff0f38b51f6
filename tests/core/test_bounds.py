"""How much one command of a new venue may do, counted in orders: nobody waits for more than that.

And what an older one may do: its journal, in which no rules are set, must give the same events for ever.
"""

from __future__ import annotations

import pytest

from tradsys.core.messages import (
    BUY,
    CLOSED_EVENT,
    EXPIRED,
    GTC,
    GTD,
    IOC,
    LIMIT,
    LIMITS,
    SELL,
    STOP,
    STOP_LIMIT,
    TRADE_EVENT,
    TRIGGERED_EVENT,
    UNFILLED,
    WORK_EVENT,
    CancelOrders,
    Command,
    ContinueWork,
    DefineAccount,
    Event,
    ExpireOrders,
    PlaceOrder,
    SetRules,
)
from tradsys.core.shard import Shard
from tradsys.settings import Settings

SYMBOL = "BTC-USD"


class NewVenue:
    """The shard that an empty data directory begins with, and one account more."""

    def __init__(self, *, of_an_older_release: bool = False) -> None:
        self.shard = Shard("a")
        self.seq = 0
        for command in Settings().seed.commands():
            if not (of_an_older_release and isinstance(command, SetRules)):
                self.apply(command)
        self.apply(DefineAccount("other", LIMITS))

    def apply(self, command: Command, time_ns: int = 1) -> list[Event]:
        self.seq += 1
        return self.shard.apply(command, self.seq, time_ns)

    def sell(self, count: int, price: int) -> None:
        """So many orders of one lot."""
        for _ in range(count):
            self.apply(PlaceOrder("demo", SYMBOL, SELL, LIMIT, GTC, 1, price))

    def take(self, qty: int, price: int) -> list[Event]:
        return self.apply(PlaceOrder("other", SYMBOL, BUY, LIMIT, IOC, qty, price))

    def rest_of_the_work(self) -> list[list[Event]]:
        steps = []
        while self.shard.work_due:
            steps.append(self.apply(ContinueWork()))
        return steps


def count(kind: int, events: list[Event]) -> int:
    return sum(event[0] == kind for event in events)


def test_an_order_takes_at_most_a_thousand_others() -> None:
    venue = NewVenue()
    venue.sell(1_001, 100)

    events = venue.take(1_001, 100)

    assert (count(TRADE_EVENT, events), events[-1]) == (
        1_000,
        (CLOSED_EVENT, venue.seq, EXPIRED, UNFILLED, 1),
    )


def test_a_mass_cancel_takes_250_orders_a_step() -> None:
    venue = NewVenue()
    venue.sell(600, 100)

    steps = [venue.apply(CancelOrders("demo")), *venue.rest_of_the_work()]

    assert [count(CLOSED_EVENT, step) for step in steps] == [250, 250, 100]


def test_an_expiry_takes_250_orders_a_step() -> None:
    venue = NewVenue()
    for _ in range(600):
        venue.apply(PlaceOrder("demo", SYMBOL, SELL, LIMIT, GTD, 1, 100, expire_at=2))

    steps = [venue.apply(ExpireOrders(), 2) for _ in range(3)]

    assert [count(CLOSED_EVENT, step) for step in steps] == [250, 250, 100]
    assert not venue.shard.next_expiry


def test_a_cascade_takes_250_stops_a_step() -> None:
    venue = NewVenue()
    for _ in range(600):
        venue.apply(PlaceOrder("other", SYMBOL, BUY, STOP_LIMIT, GTC, 1, 10, stop_price=100))
    venue.sell(1, 100)

    steps = [venue.take(1, 100), *venue.rest_of_the_work()]

    assert [count(TRIGGERED_EVENT, step) for step in steps] == [250, 250, 100]


@pytest.mark.parametrize(
    ("own", "first"),
    [(998, (1, 1_998)), (999, (0, 999))],
    ids=["one event before the bound", "at the bound"],
)
def test_a_command_takes_fewer_than_two_thousand_orders_also_where_stops_take_many(own, first) -> None:
    """After a thousand events a cascade goes on in another command; the last stop may add as many."""
    venue = NewVenue()
    venue.sell(own, 100)
    venue.sell(4_000, 101)
    for _ in range(3):
        venue.apply(PlaceOrder("other", SYMBOL, BUY, STOP, IOC, 1_500, stop_price=100))

    steps = [venue.take(own, 100), *venue.rest_of_the_work()]

    stops_and_taken = [(count(TRIGGERED_EVENT, step), count(TRADE_EVENT, step)) for step in steps]
    assert stops_and_taken == [first, *[(1, 1_000)] * (3 - first[0])]
    assert [step[-1][0] for step in steps] == [WORK_EVENT] * len(steps)


def test_a_journal_in_which_no_rules_are_set_means_what_it_always_did() -> None:
    """A step takes 1,000 orders or, of a cascade, has 2,000 events; an order takes 2,000 others."""
    venue = NewVenue(of_an_older_release=True)
    for _ in range(1_200):
        venue.apply(PlaceOrder("other", SYMBOL, BUY, STOP_LIMIT, GTC, 1, 10, stop_price=100))
    venue.sell(3_201, 100)

    cascade = [venue.take(1, 100), *venue.rest_of_the_work()]
    sweep = venue.take(2_001, 100)
    cancels = [venue.apply(CancelOrders("other")), *venue.rest_of_the_work()]

    # The order itself has two events, each stop two more.
    assert [count(TRIGGERED_EVENT, step) for step in cascade] == [999, 201]
    assert count(TRADE_EVENT, sweep) == 2_000
    assert [count(CLOSED_EVENT, step) for step in cancels] == [1_000, 200]
