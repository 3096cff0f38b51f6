"""One venue with its feed for the tests of a file; they make markets and accounts of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.feed.feed_venue import FeedVenue, feed_venue


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    with feed_venue(tmp_path_factory.mktemp("venue"), cors_origins="https://pages.example") as running:
        yield running
