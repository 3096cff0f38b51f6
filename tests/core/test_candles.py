"""Candles: by the clock, by the order of trades, and the same however they are put together."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from tradsys.core.candles import INTERVALS, SECOND, Candle, first_candle, start_of

HOUR = INTERVALS["1h"]


def candles_of(trades: list[tuple[int, int, int]], interval_ns: int) -> list[Candle]:
    """The obvious way: all trades (time, price, volume) of an interval in a list."""
    made = []
    for start, group in itertools.groupby(trades, lambda trade: trade[0] // interval_ns * interval_ns):
        prices, volumes = zip(*((price, volume) for _, price, volume in group), strict=True)
        made.append(Candle(start, prices[0], max(prices), min(prices), prices[-1], sum(volumes), len(prices)))
    return made


def test_the_first_trade_opens_and_the_last_one_closes():
    candle = first_candle(SECOND, 7 * SECOND + 1, 100, 5)
    for price in (103, 98, 101):
        candle.take(price, 1)

    assert candle == Candle(7 * SECOND, 100, 103, 98, 101, 8, 4)


@pytest.mark.parametrize("interval_ns", INTERVALS.values(), ids=INTERVALS)
def test_a_trade_at_the_turn_of_an_interval_belongs_to_the_new_one(interval_ns):
    turn = 20_000 * 86_400 * SECOND

    assert start_of(turn, interval_ns) == turn
    assert start_of(turn - 1, interval_ns) == turn - interval_ns


def test_each_interval_divides_the_next():
    lengths = list(INTERVALS.values())

    assert [longer % shorter for shorter, longer in itertools.pairwise(lengths)] == [0] * (len(lengths) - 1)


@pytest.mark.parametrize("seed", range(5))
def test_long_candles_are_exactly_the_short_ones_put_together(seed):
    random = Random(seed)
    now, trades = 1_800_000_000 * SECOND, []
    for _ in range(2_000):
        now += random.choice((0, 0, 1, SECOND // 3, 40 * SECOND, HOUR))
        trades.append((now, random.randint(1, 1 << 62), random.randint(1, 1 << 60)))

    for interval_ns in INTERVALS.values():
        joined: list[Candle] = []
        for second in candles_of(trades, SECOND):
            start = start_of(second.start_ns, interval_ns)
            if joined and joined[-1].start_ns == start:
                joined[-1].join(second)
            else:
                second.start_ns = start
                joined.append(second)
        assert joined == candles_of(trades, interval_ns)


def test_taking_trades_one_by_one_gives_the_same_candles():
    random = Random(9)
    trades = [(i * SECOND // 7, random.randint(90, 110), random.randint(1, 9)) for i in range(3_000)]

    made: list[Candle] = []
    for time_ns, price, volume in trades:
        if made and made[-1].start_ns == start_of(time_ns, INTERVALS["1m"]):
            made[-1].take(price, volume)
        else:
            made.append(first_candle(INTERVALS["1m"], time_ns, price, volume))

    assert made == candles_of(trades, INTERVALS["1m"])
