"""One venue for all commands, with all its processes. Tests make markets and accounts of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.api.venue_process import RunningVenue, running_venue
from tests.cli.command import Ended, tradsys

Run = Callable[..., Ended]


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    directory = tmp_path_factory.mktemp("venue")
    with running_venue(directory, ("engine", "history", "query")) as running:
        yield running


@pytest.fixture(scope="session")
def run(venue: RunningVenue) -> Run:
    """A command beside the venue, with its settings in the environment."""

    def command(*arguments: object, **env: str) -> Ended:
        return tradsys(*arguments, env=venue.env | env)

    return command
