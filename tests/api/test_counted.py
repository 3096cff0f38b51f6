"""What the engine counts of orders, as `history` shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtests.slo.histograms import Scrape
from tests.api.venue_process import RunningVenue, running_venue
from tests.feed.feed_venue import until

ORDERS, BATCH = 150, 40


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    with running_venue(tmp_path_factory.mktemp("counted"), ("engine", "history")) as one:
        yield one


def metrics(venue: RunningVenue) -> Scrape:
    return Scrape.of(venue.send("GET", "/metrics", port=venue.ports["history_port"]).body.decode())


def test_every_order_and_every_write_is_counted_and_some_orders_by_their_stages(venue: RunningVenue) -> None:
    trader, symbol = venue.account("limits"), venue.market()
    order = {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1", "price": "9"}
    before = metrics(venue)

    for _ in range(ORDERS):
        venue.ok(trader.post("/orders", order))
    venue.ok(trader.post("/orders/batch", {"orders": [order] * BATCH}))

    def added(name: str, **labels: str) -> float:
        chosen = {label: [value] for label, value in labels.items()}
        return metrics(venue).total(name, chosen) - before.total(name, chosen)

    # A batch is no single order: it is in the histogram of writes only.
    until(lambda: added("tradsys_batch_commands_sum") >= ORDERS + BATCH)
    assert added("tradsys_order_duration_seconds_count") == ORDERS
    assert added("tradsys_commands_total", type="place", outcome="done") == ORDERS + BATCH
    assert added("tradsys_tokens_total", outcome="cached") >= ORDERS
    writes = added("tradsys_batch_commands_count")
    assert ORDERS < writes <= added("tradsys_batch_commands_sum") - BATCH + 1
    assert added("tradsys_batch_commands_bucket", le="20") == writes - 1
    for stage in ("auth", "decode", "apply", "reply", "journal"):
        assert 1 <= added("tradsys_stage_duration_seconds_count", stage=stage) < ORDERS
