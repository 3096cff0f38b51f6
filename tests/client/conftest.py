"""A whole venue for the clients; tests make accounts and markets of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.feed.feed_venue import FeedVenue, feed_venue


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    processes = ("engine", "history", "query", "feed", "gateway")
    with feed_venue(tmp_path_factory.mktemp("clients"), processes) as running:
        yield running


@pytest.fixture
def url(venue: FeedVenue) -> str:
    return f"http://127.0.0.1:{venue.ports['port']}"


@pytest.fixture
def ws_url(venue: FeedVenue) -> str:
    return f"ws://127.0.0.1:{venue.ws_port}"


@pytest.fixture
def grpc_target(venue: FeedVenue) -> str:
    return f"127.0.0.1:{venue.ports['grpc_port']}"
