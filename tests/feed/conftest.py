"""One venue with its feed for all tests that do not break it; they make markets and accounts of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.feed.feed_venue import FeedVenue, feed_venue


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    with feed_venue(tmp_path_factory.mktemp("venue"), cors_origins="https://pages.example") as running:
        yield running
