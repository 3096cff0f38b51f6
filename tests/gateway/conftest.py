"""One venue with its gateway for all tests that do not break it; they make their own accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.feed.feed_venue import FeedVenue, feed_venue


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    processes = ("engine", "history", "query", "feed", "gateway")
    with feed_venue(tmp_path_factory.mktemp("gateway"), processes) as running:
        yield running
