"""Instruments, accounts, halts, kill switches, rules: what admins may change, and what they may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.core.desk import (
    BTC,
    Desk,
    a_desk,
    accepted,
    closed,
    refused,
    rested,
    traded,
    was_set,
    worked,
)
from tradsys.core.messages import (
    BUY,
    BY_ADMIN,
    BY_KILL,
    BY_REQUEST,
    CANCEL_ONLY,
    CANCELED,
    CASH,
    HALTED,
    KILL_SWITCH,
    LIMITS,
    NOT_ALLOWED,
    NOT_TRADING,
    PPM,
    SELL,
    TRADING,
    CancelAll,
    Command,
    DefineAccount,
    DefineInstrument,
    Event,
    Instrument,
    RevokeToken,
    Rules,
    SetJournalSpace,
    SetKill,
    SetLimits,
    SetReference,
    SetRules,
    SetTradingStatus,
)

# --- instruments --------------------------------------------------------------------------------------


def test_an_instrument_version_is_given_by_the_shard() -> None:
    desk = a_desk()

    assert desk.apply(DefineInstrument(replace(BTC, taker_fee_ppm=5, version=77))) == [was_set(21)]
    assert [instrument.version for instrument in desk.shard.instruments] == [0, 1]
    assert desk.shard.markets["BTC-USD"].instrument == replace(BTC, taker_fee_ppm=5, version=1)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(BTC, symbol=""),
        replace(BTC, symbol="*"),
        replace(BTC, base="ETH"),
        replace(BTC, quote="EUR"),
        replace(BTC, symbol="BTC-BTC", quote="BTC"),
        replace(BTC, tick_size=0),
        replace(BTC, lot_size=0),
        replace(BTC, tick_size=50_000_000),
        replace(BTC, qty_min=0),
        replace(BTC, qty_min=5, qty_max=4),
        replace(BTC, notional_min=-1),
        replace(BTC, maker_fee_ppm=-1),
        replace(BTC, maker_fee_ppm=2, taker_fee_ppm=1),
        replace(BTC, taker_fee_ppm=100_001),
        replace(BTC, band_ppm=-1),
        replace(BTC, band_ppm=PPM),
    ],
)
def test_an_instrument_that_makes_no_sense_is_refused(wrong: Instrument) -> None:
    desk = a_desk()

    assert desk.apply(DefineInstrument(wrong)) == [refused(NOT_ALLOWED)]
    assert len(desk.shard.instruments) == 1


@pytest.mark.parametrize("place", [Desk.buy, Desk.sell, Desk.buy_stop, Desk.sell_stop])
def test_tick_and_lot_change_only_in_an_empty_book_without_stops(place: Callable[..., list[Event]]) -> None:
    coarser = DefineInstrument(replace(BTC, tick_size=2 * BTC.tick_size))
    desk = a_desk()
    place(desk, 5, 1000, by="ann")

    assert desk.apply(coarser) == [refused(NOT_ALLOWED)]
    desk.cancel(1)
    assert desk.apply(coarser) == [was_set(21)]


def test_a_new_grid_forgets_prices_that_were_counted_in_old_ticks() -> None:
    desk = a_desk()
    desk.trade_at(1000)
    desk.apply(DefineInstrument(replace(BTC, tick_size=2 * BTC.tick_size)))

    market = desk.shard.markets["BTC-USD"]
    assert (market.last, market.reference, list(market.trades)) == (0, 0, [])


def test_bounds_and_fees_change_under_open_orders() -> None:
    desk = a_desk("ann sell 5 @ 1000")

    assert desk.apply(DefineInstrument(replace(BTC, qty_min=3, taker_fee_ppm=10))) == [was_set(21)]
    assert desk.book() == ([], [(1000, 5)])


def test_versions_and_accounts_are_bounded() -> None:
    desk = a_desk()
    desk.rule(instrument_versions_max=1, accounts_max=3)

    assert desk.apply(DefineInstrument(BTC)) == [refused(NOT_ALLOWED)]
    assert desk.apply(DefineAccount("dan", CASH)) == [refused(NOT_ALLOWED)]
    assert desk.apply(DefineAccount("ann", LIMITS)) == [was_set(22)], "it is there already"


# --- accounts -----------------------------------------------------------------------------------------


def test_an_account_keeps_its_mode() -> None:
    desk = a_desk()

    assert desk.apply(DefineAccount("ann", LIMITS)) == [was_set(22)]
    assert desk.apply(DefineAccount("ann", CASH)) == [refused(NOT_ALLOWED)]


@pytest.mark.parametrize(
    "command",
    [
        DefineAccount("", CASH),
        DefineAccount("*", CASH),
        DefineAccount("dan", 3),
        SetLimits("nobody", BTC),  # type: ignore[arg-type]
        SetTradingStatus("NO-SUCH", HALTED),
        SetTradingStatus("*", 4),
        SetReference("NO-SUCH", 5),
        SetReference("BTC-USD", -1),
        SetKill("nobody", True),
        CancelAll("nobody"),
        CancelAll("*", "NO-SUCH"),
        RevokeToken(),
        RevokeToken(account="nobody"),
        SetRules(Rules(step_orders_max=0)),
        SetRules(Rules(closed_orders_max=-1)),
    ],
    ids=repr,
)
def test_an_admin_command_that_contradicts_the_state_is_refused(command: Command) -> None:
    desk = a_desk()
    before = desk.shard.state_hash()

    assert desk.apply(command) == [refused(NOT_ALLOWED)]
    assert desk.shard.state_hash() == before


# --- trading status -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [CANCEL_ONLY, HALTED])
@pytest.mark.parametrize("symbol", ["BTC-USD", "*"])
def test_while_a_symbol_does_not_trade_orders_may_only_leave(symbol: str, status: int) -> None:
    desk = a_desk("ann sell 5 @ 1000", "ann sell 6 @ 1000")

    assert desk.apply(SetTradingStatus(symbol, status)) == [was_set(24)]
    assert desk.buy(1, at=1000) == [refused(NOT_TRADING, 0, status)]
    assert desk.replace(1, qty=1) == [refused(NOT_TRADING, 0, status)]
    assert desk.cancel(1) == [closed(1, CANCELED, BY_REQUEST, 5)]
    assert desk.apply(SetTradingStatus(symbol, TRADING)) == [was_set(24)]
    assert desk.buy(1, at=1000) == [accepted(8), traded(1, 2, 8, 1000, 1, left=(5, 0))]


def test_the_strictest_status_is_reported() -> None:
    desk = a_desk()
    desk.apply(SetJournalSpace(False))
    no_space = desk.buy(1, at=1000)
    desk.apply(SetTradingStatus("BTC-USD", CANCEL_ONLY))
    desk.apply(SetTradingStatus("*", HALTED))
    halted = desk.buy(1, at=1000)
    desk.apply(SetTradingStatus("*", TRADING))
    desk.apply(SetJournalSpace(True))

    assert no_space == [refused(NOT_TRADING, 0, CANCEL_ONLY)]
    assert halted == [refused(NOT_TRADING, 0, HALTED)]
    assert desk.buy(1, at=1000) == [refused(NOT_TRADING, 0, CANCEL_ONLY)]


def test_without_journal_space_orders_may_only_leave() -> None:
    desk = a_desk("ann sell 5 @ 1000")

    assert desk.apply(SetJournalSpace(False)) == [was_set(12)]
    assert desk.replace(1, qty=1) == [refused(NOT_TRADING, 0, CANCEL_ONLY)]
    assert desk.cancel(1) == [closed(1, CANCELED, BY_REQUEST, 5)]
    assert desk.apply(SetJournalSpace(True)) == [was_set(12)]
    assert desk.buy(1, at=1000)[0] == accepted(6)


# --- kill switch --------------------------------------------------------------------------------------


def test_the_kill_switch_cancels_everything_and_refuses_new_orders() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")
    desk.buy_stop(5, stop=1100, by="ann")

    assert desk.apply(SetKill("ann", True)) == [
        was_set(26),
        closed(1, CANCELED, BY_KILL, 5),
        closed(3, CANCELED, BY_KILL, 5),
        worked(4, 2),
    ]
    assert desk.buy(1, at=1000, by="ann") == [refused(KILL_SWITCH)]
    assert desk.replace(1, qty=1) == [refused(KILL_SWITCH)]
    assert desk.buy(1, at=1000, by="cat")[-1] == traded(1, 2, 7, 1000, 1, left=(4, 0))


def test_a_kill_for_all_goes_account_by_account_in_steps() -> None:
    desk = a_desk("bob sell 5 @ 1000", "ann sell 5 @ 1000", "bob sell 5 @ 1000")
    desk.rule(step_orders_max=2)

    assert desk.apply(SetKill("*", True)) == [
        was_set(26),
        closed(2, CANCELED, BY_KILL, 5),
        closed(1, CANCELED, BY_KILL, 5),
        worked(4, 2, more=True),
    ]
    assert desk.cancel(3, by="bob") == [closed(3, CANCELED, BY_REQUEST, 5)], "a cancel is never refused"
    assert desk.buy(1, at=1000) == [refused(KILL_SWITCH)]


def test_the_switch_of_an_account_and_that_of_all_are_two() -> None:
    desk = a_desk()
    desk.apply(SetKill("ann", True))
    desk.apply(SetKill("*", True))

    assert desk.apply(SetKill("*", False)) == [was_set(26)]
    assert desk.buy(1, at=1000, by="ann") == [refused(KILL_SWITCH)]
    assert desk.buy(1, at=1000, by="bob") == [accepted(5), rested(5, BUY, 1000, 1)]
    assert desk.apply(SetKill("ann", False)) == [was_set(26)]
    assert desk.buy(1, at=1000, by="ann")[0] == accepted(7)


def test_an_admin_cancels_for_an_account_and_a_symbol() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")
    desk.open_with(DefineInstrument(replace(BTC, symbol="ETH-USD", base="ETH")))
    desk.sell(5, at=10, by="ann", symbol="ETH-USD")

    assert desk.apply(CancelAll("ann", "BTC-USD")) == [closed(1, CANCELED, BY_ADMIN, 5), worked(4, 1)]
    assert desk.apply(CancelAll("*")) == [
        closed(3, CANCELED, BY_ADMIN, 5),
        closed(2, CANCELED, BY_ADMIN, 5),
        worked(5, 2),
    ]


# --- rules and tokens ---------------------------------------------------------------------------------


def test_new_rules_hold_from_the_next_command_on() -> None:
    desk = a_desk("ann sell 5 @ 1000", "ann sell 5 @ 1001")

    assert desk.apply(SetRules(Rules(account_orders_max=2))) == [was_set(20)]
    assert desk.sell(1, at=1002, by="ann")[0][0] == refused(0)[0]
    assert desk.sell(1, at=1002, by="bob") == [accepted(5), rested(5, SELL, 1002, 1)]


def a_desk_that_revokes(*commands: RevokeToken, **rules: int) -> Desk:
    desk = a_desk()
    desk.rule(**rules)
    for command in commands:
        desk.open_with(command)
    return desk


def test_a_revocation_stays_until_no_such_token_can_be_valid() -> None:
    desk = a_desk_that_revokes(RevokeToken(jti="j1", expires=5), RevokeToken(account="ann", issued_until=9))

    assert desk.shard.revocations == {("", "ann"): (9, 0)}, "the first had expired long ago"


def test_a_repeated_revocation_never_weakens_the_first() -> None:
    now_s = a_desk().time_ns // 1_000_000_000
    desk = a_desk_that_revokes(
        RevokeToken(account="ann", issued_until=9, expires=now_s + 50),
        RevokeToken(account="ann", issued_until=7, expires=now_s + 40),
        RevokeToken(account="bob", issued_until=7, expires=0),
        RevokeToken(account="bob", issued_until=8, expires=now_s + 40),
    )

    assert desk.shard.revocations == {("", "ann"): (9, now_s + 50), ("", "bob"): (8, 0)}


def test_revocations_are_bounded() -> None:
    desk = a_desk_that_revokes(RevokeToken(jti="j1"), RevokeToken(jti="j2"), revocations_max=2)

    assert desk.apply(RevokeToken(jti="j3")) == [refused(NOT_ALLOWED)]
    assert desk.apply(RevokeToken(jti="j2")) == [was_set(28)]
