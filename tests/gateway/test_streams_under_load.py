"""A stream of events beside much else that its account does."""

from __future__ import annotations

import time

import grpc
import pytest

from tests.feed.feed_venue import FeedVenue
from tests.gateway.over_grpc import Caller, Failed, limit


def test_a_stream_goes_on_while_its_account_sends_more_than_it_may(limited: FeedVenue) -> None:
    market, alice = limited.market(), limited.account("limits")
    refused = placed = 0
    with Caller(limited, alice.token) as a:
        stream = a.events()
        next(stream)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            try:
                a.place(limit(market, "buy", "1", "9"))
                placed += 1
            except Failed:
                refused += 1
        seen = 0
        for message in stream:
            seen += message.WhichOneof("message") == "event" and message.event.kind == 1
            if seen == placed:
                break

    assert refused
    assert seen == placed


def test_a_stream_that_is_behind_ends_with_its_token(venue: FeedVenue) -> None:
    market, alice = venue.market(), venue.account("limits")
    token = venue.token(alice.name, jti="behind")
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1"}
    with Caller(venue, token, **{"grpc.http2.lookahead_bytes": 16_384, "grpc.http2.bdp_probe": 0}) as a:
        stream = a.events()
        next(stream)
        for batch in "abcd":
            orders = [
                order | {"price": str(price), "client_order_id": f"{batch}{price}".ljust(36, "-")}
                for price in range(1, 1_001)
            ]
            venue.ok(alice.post("/orders/batch", {"orders": orders}))
        venue.ok(venue.admin("POST", "/tokens/revoke", {"jti": "behind"}))
        time.sleep(1.5)
        seen = 0
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            while seen < 8_000:
                next(stream)
                seen += 1
