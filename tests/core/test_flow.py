"""The generated flow is not vacuous: everything that can happen happens, and often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest

from tests.core.flow import Flow
from tests.core.oracle import OracleShard
from tradsys.core.messages import (
    ACCEPTED_EVENT,
    BY_ADMIN,
    BY_KILL,
    BY_REQUEST,
    BY_SELF_TRADE,
    CANCELED,
    CLOSED_EVENT,
    EXPIRED,
    FOK,
    PARKED_EVENT,
    REFUSALS,
    REFUSED_EVENT,
    REPLACED_EVENT,
    REPLENISHED_EVENT,
    RESTED_EVENT,
    SET_EVENT,
    TIME_UP,
    TRADE_EVENT,
    TRIGGERED_EVENT,
    UNFILLED,
    WORK_EVENT,
    AccountCommand,
    AdjustBalance,
    AdminCommand,
    Command,
    ContinueWork,
    EngineCommand,
    Event,
    ExpireOrders,
    PlaceOrder,
    ReplaceOrder,
)

SEEDS, SEED_COMMANDS = 40, 1_000

LEAST: dict[object, int] = {
    ("event", ACCEPTED_EVENT): 10_000,
    ("event", REFUSED_EVENT): 5_000,
    ("event", TRADE_EVENT): 5_000,
    ("event", RESTED_EVENT): 5_000,
    ("event", CLOSED_EVENT): 5_000,
    ("event", PARKED_EVENT): 1_500,
    ("event", TRIGGERED_EVENT): 1_500,
    ("event", REPLACED_EVENT): 1_500,
    ("event", REPLENISHED_EVENT): 1_000,
    ("event", WORK_EVENT): 1_000,
    ("event", SET_EVENT): 1_000,
    **dict.fromkeys((("refused", code) for code in REFUSALS), 100),
    ("closed", CANCELED, BY_REQUEST): 1_000,
    ("closed", CANCELED, BY_SELF_TRADE): 500,
    ("closed", CANCELED, BY_KILL): 200,
    ("closed", CANCELED, BY_ADMIN): 200,
    ("closed", EXPIRED, UNFILLED): 2_000,
    ("closed", EXPIRED, TIME_UP): 500,
    **{("command", kind.__name__): 25 for kind in (AccountCommand | EngineCommand | AdminCommand).__args__},
    "a FOK that finds all it wants": 300,
    "a FOK that finds too little": 300,
    "a taker meets an expired maker": 30,
    "a stop is due when it is placed": 200,
    "one command triggers three stops": 100,
    "a cascade becomes work": 50,
    "work goes on with a cascade": 50,
    "work takes more than two commands": 100,
    "a due stop has expired": 5,
    "a replaced order keeps its place": 300,
    "a replaced order trades": 100,
    "a replace is refused by risk": 100,
    "a repeated transaction": 10,
    "one taker trades five times": 100,
    "a fee that was rounded up": 500,
    "two symbols trade": 1_000,
}


def occurrences(command: Command, events: list[Event]) -> Iterator[object]:
    """What a command and its events are examples of."""
    yield "command", type(command).__name__
    kinds = [event[0] for event in events]
    for event in events:
        yield "event", event[0]
        if event[0] == REFUSED_EVENT:
            yield "refused", event[1]
        if event[0] == CLOSED_EVENT:
            yield "closed", event[2], event[3]
    time_up = any(event[0] == CLOSED_EVENT and event[3] == TIME_UP for event in events)
    if isinstance(command, PlaceOrder):
        if command.time_in_force == FOK and kinds[0] == ACCEPTED_EVENT:
            if kinds[1:2] == [TRADE_EVENT]:
                yield "a FOK that finds all it wants"
            elif kinds == [ACCEPTED_EVENT, CLOSED_EVENT]:
                yield "a FOK that finds too little"
        if kinds[1:2] == [TRIGGERED_EVENT]:
            yield "a stop is due when it is placed"
        if time_up:
            yield "a taker meets an expired maker"
        if WORK_EVENT in kinds:
            yield "a cascade becomes work"
        if [event[3] for event in events if event[0] == TRADE_EVENT].count(events[0][1]) >= 5:
            yield "one taker trades five times"
        if command.symbol != "BTC-USD" and TRADE_EVENT in kinds:
            yield "two symbols trade"
    if kinds.count(TRIGGERED_EVENT) >= 3:
        yield "one command triggers three stops"
    if isinstance(command, ContinueWork):
        if TRIGGERED_EVENT in kinds:
            yield "work goes on with a cascade"
            if kinds[0] == CLOSED_EVENT and events[0][3] == TIME_UP:
                yield "a due stop has expired"
        if events[-1][3] == 1:
            yield "work takes more than two commands"
    elif time_up and not isinstance(command, ExpireOrders) and TRIGGERED_EVENT in kinds:
        yield "a due stop has expired"
    if isinstance(command, ReplaceOrder):
        if kinds[0] == REPLACED_EVENT and events[0][6] == 1:
            yield "a replaced order keeps its place"
        if TRADE_EVENT in kinds:
            yield "a replaced order trades"
        if kinds[0] == REFUSED_EVENT and events[0][1] in (3001, 3002, 3003, 1005, 1011):
            yield "a replace is refused by risk"
    if isinstance(command, AdjustBalance) and not events:
        yield "a repeated transaction"
    if any(event[0] == TRADE_EVENT and event[7] % 2 == 1 for event in events):
        yield "a fee that was rounded up"


def commands_and_events(seed: int) -> Iterator[tuple[Command, list[Event]]]:
    flow, oracle = Flow(seed), OracleShard("main")
    while True:
        command = flow.next(oracle.work_due, oracle.next_expiry)
        events = oracle.apply(command, flow.seq, flow.time_ns)
        flow.saw(events)
        yield command, events


@pytest.fixture(scope="module")
def counted() -> Counter[object]:
    count: Counter[object] = Counter()
    for seed in range(SEEDS):
        for command, events in islice(commands_and_events(seed), SEED_COMMANDS):
            count.update(occurrences(command, events))
    return count


def test_everything_that_can_happen_happens_often(counted: Counter[object]) -> None:
    too_rare = {what: (counted[what], least) for what, least in LEAST.items() if counted[what] < least}

    assert too_rare == {}


def test_no_event_or_refusal_is_left_out_of_the_counts(counted: Counter[object]) -> None:
    unexpected = {what for what in counted if isinstance(what, tuple) and what not in LEAST}

    assert unexpected == set()


def test_a_seed_gives_the_same_commands_and_events_each_time() -> None:
    assert list(islice(commands_and_events(7), 500)) == list(islice(commands_and_events(7), 500))


def test_seeds_give_different_commands() -> None:
    assert list(islice(commands_and_events(7), 500)) != list(islice(commands_and_events(8), 500))
