"""One venue for the tests of a file; they share it, and make markets and accounts of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.venue_process import RunningVenue, running_venue


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    with running_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running
