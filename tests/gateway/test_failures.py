"""An engine that is away, or dies: what is answered is done, the rest is unknown until it is asked again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time

import pytest

from tests.feed.feed_venue import FeedVenue, feed_venue, until
from tests.gateway.over_grpc import caller, ended, failing, journalled, limit, target_of
from tests.reliability.load import verify_journal
from tradsys.client import AsyncOrderPool, OrderPool, OutcomeUnknown, Unreachable
from tradsys.client.errors import NotServing
from tradsys.v1 import orders_pb2 as pb

KILLS = int(os.environ.get("COUNT_GRPC_KILLS", "2"))


@pytest.fixture
def venue(tmp_path):
    with feed_venue(tmp_path, ("engine", "history", "gateway"), segment_bytes=1 << 20) as running:
        yield running


def test_without_an_engine_nothing_is_refused_for_good(venue):
    market, alice = venue.market(), venue.account("limits")
    order = limit(market, "buy", "1", "9", client_order_id="k")
    with caller(venue, alice) as a:
        venue.kill9("engine")
        failures = [failing(a.place, order), failing(a.cancel, "a-1"), failing(a.get, order_id="a-1")]
        message = pb.TradeRequest(commands=[pb.Command(place=order)])
        (answer,) = a.trade(iter([message]))
        venue.start()
        placed = a.place(order)

    assert [(one.status, one.code) for one in failures] == [("UNAVAILABLE", 1020)] * 3
    assert [one.error.code for one in answer.outcomes] == [1020]
    assert placed.status == pb.ORDER_STATUS_NEW and not placed.replayed


def test_the_pool_waits_for_an_engine_that_comes_back(venue):
    market, alice = venue.market(), venue.account("limits")
    placed: list[pb.OrderResult] = []
    with OrderPool(target_of(venue), alice.token, patience_s=60) as pool:
        venue.kill9("engine")
        waiting = threading.Thread(target=lambda: placed.append(pool.place(limit(market, "buy", "1", "9"))))
        waiting.start()
        venue.start()
        waiting.join(60)

    assert [one.status for one in placed] == [pb.ORDER_STATUS_NEW]


def test_the_gateways_end_is_told_to_its_streams(venue):
    market, alice = venue.market(), venue.account("limits")
    opened = threading.Event()

    def open_ended():
        yield pb.TradeRequest(commands=[pb.Command(place=limit(market, "buy", "1", "9"))])
        opened.wait()

    with caller(venue, alice) as a:
        events, trade = a.events(), a.trade(open_ended())
        next(events)
        answer = next(trade)
        codes = venue.end(signal.SIGTERM, ("gateway",))
        opened.set()
        failures = [ended(events), ended(trade)]

    assert answer.outcomes[0].order.status == pb.ORDER_STATUS_NEW
    assert codes == {"gateway": 0}
    assert [(one.status, one.code) for one in failures] == [("UNAVAILABLE", 1020)] * 2


class Trading:
    """Many orders under way at once; each is answered, or unknown and sent again until it is."""

    def __init__(self, venue: FeedVenue, token: str, market: str) -> None:
        self._target, self._token, self._market = target_of(venue), token, market
        self.answered: dict[str, int] = {}
        """seq by client_order_id"""
        self.unknown = self.replayed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with AsyncOrderPool(self._target, self._token, patience_s=0.0, timeout_s=60) as pool:
            await asyncio.gather(*(self._trader(pool, i) for i in range(16)))

    async def _trader(self, pool: AsyncOrderPool, number: int) -> None:
        draw, sent = random.Random(number), 0
        while not self._stop.is_set():
            sent += 1
            key = f"t{number}-{sent}"
            side, price = draw.choice(("buy", "sell")), str(draw.randint(95, 105))
            order = limit(self._market, side, "1", price, client_order_id=key)
            while True:
                try:
                    result = await pool.place(order)
                    break
                except (OutcomeUnknown, Unreachable):
                    self.unknown += 1
                except NotServing:
                    pass
                await asyncio.sleep(0.02)
            self.replayed += result.replayed
            self.answered[key] = result.seq

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join(120)


@pytest.mark.timeout(300 + 10 * KILLS)
def test_an_engine_killed_under_load_loses_and_doubles_nothing(venue):
    market, alice = venue.market(), venue.account("limits")
    load = Trading(venue, alice.token, market)
    load.start()
    try:
        for kill in range(KILLS):
            wanted = len(load.answered) + 100
            until(lambda wanted=wanted: len(load.answered) >= wanted, "no load")
            time.sleep(random.Random(kill).uniform(0.0, 0.1))
            venue.kill9("engine")
            venue.start()
        wanted = len(load.answered) + 100
        until(lambda: len(load.answered) >= wanted, "no load after the last kill")
    finally:
        load.finish()
    venue.end()

    keys, seqs = list(load.answered), list(load.answered.values())
    placed = [entry.command.client_order_id for entry in journalled(venue, seqs)]
    print(f"\n{KILLS} kills, {len(keys)} answered, {load.unknown} unknown, {load.replayed} replayed")
    assert placed == keys, "an answer is not what the journal holds"
    assert len(set(seqs)) == len(seqs), "two orders were one"
    assert load.unknown > 0, "no kill hit a call: the run shows nothing"
    verify_journal(str(venue.data), [])
