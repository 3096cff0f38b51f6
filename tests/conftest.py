"""What all tests share: hypothesis neither measures time nor surprises; a venue that limits its accounts.

By default the same examples come in every run, so that a red test is red for everybody.
`HYPOTHESIS_PROFILE=explore` looks for new ones and prints how to repeat what it finds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.feed.feed_venue import FeedVenue

RATE_LIMIT = 10
"""Requests a second of an account of the `limited` venue."""

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    """A venue with RATE_LIMIT, with its feed and its gateway."""
    # Tests of the core run where there is no client of streams.
    from tests.feed.feed_venue import feed_venue

    directory = tmp_path_factory.mktemp("limited")
    processes = ("engine", "history", "feed", "gateway")
    with feed_venue(directory, processes, rate_limit_per_s=RATE_LIMIT) as running:
        yield running
