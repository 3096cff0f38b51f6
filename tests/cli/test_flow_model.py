"""The model of order flow: the same seed gives the same bytes, and the book stays what it promises."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import islice, pairwise

import pytest
from msgspec.structs import replace

from tradsys.flow.commands import Cancel, Place, Replace, line_of
from tradsys.flow.model import Model, commands, decimal_text, units_of

MODEL = Model(
    seed=7,
    symbol="BTC-USD",
    accounts=("alice", "bob"),
    tick_size=1_000_000,
    lot_size=1_000,
    start_price=5_000_000,
    typical_lots=1_000,
)


def lines(model: Model, count: int) -> bytes:
    return b"".join(line_of(command) for command in islice(commands(model), count))


def test_the_same_seed_gives_the_same_commands_byte_for_byte():
    # A constant, so that a change of the model in any version of Python is noticed.
    assert hashlib.sha256(lines(MODEL, 5_000)).hexdigest() == (
        "d2d6a819ad249dcee4419348c2fbdfef443e73588e7175daa0a2773a6ce1266b"
    )
    assert lines(replace(MODEL, seed=8), 100) != lines(MODEL, 100)


def test_orders_are_canceled_and_replaced_by_who_placed_them_and_only_while_the_model_has_them_open():
    owner: dict[str, str] = {}
    canceled: set[str] = set()
    for command in islice(commands(MODEL), 20_000):
        if isinstance(command, Place):
            assert command.order.client_order_id not in owner
            owner[command.order.client_order_id] = command.account
        else:
            assert owner[command.client_order_id] == command.account
            assert command.client_order_id not in canceled
            if isinstance(command, Cancel):
                canceled.add(command.client_order_id)
    assert set(owner.values()) == {"alice", "bob"}


def test_the_mix_settles_where_the_documentation_says():
    kinds = Counter(type(command) for command in islice(commands(MODEL), 10_000, 40_000))

    assert kinds[Cancel] / kinds[Place] == pytest.approx(0.79, abs=0.05)
    assert kinds[Replace] / kinds.total() == pytest.approx(0.025, abs=0.01)


def test_commands_are_due_at_the_rate():
    due = [command.at_ns for command in islice(commands(replace(MODEL, rate=1_000.0)), 20_000)]

    assert all(earlier <= later for earlier, later in pairwise(due))
    assert due[-1] / 1e9 == pytest.approx(20.0, rel=0.05)


def test_a_flow_at_the_lowest_prices_never_asks_for_a_price_of_zero():
    low = replace(MODEL, start_price=3, distance_ticks=30.0)

    for command in islice(commands(low), 20_000):
        if isinstance(command, Place):
            assert "0" not in (command.order.price, command.order.stop_price)
            assert not command.order.price.startswith("-")


@pytest.mark.parametrize(
    ("units", "text"), [(0, "0"), (1, "0.00000001"), (150_000_000, "1.5"), (10**10, "100")]
)
def test_decimals_are_exact_both_ways(units: int, text: str):
    assert (decimal_text(units), units_of(text)) == (text, units)


@pytest.mark.parametrize("text", ["", "-1", "1.", ".5", "1e3", "0.000000001", "\u0661", "1,5"])
def test_what_is_no_decimal_is_refused(text: str):
    with pytest.raises(ValueError, match="decimal"):
        units_of(text)
