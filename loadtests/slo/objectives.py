"""The objectives as loadtests/slo.json states them; slo.schema.json says what each member means."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

FILE = Path(__file__).parents[1] / "slo.json"


class Latency(Struct, frozen=True, forbid_unknown_fields=True):
    """An indicator whose events are durations in a histogram."""

    meaning: str
    process: str
    histogram: str

    @property
    def units_per_us(self) -> float:
        """What one microsecond is in the unit of the histogram, which its name ends in."""
        return 1.0 if self.histogram.endswith("_microseconds") else 1e-6


class Share(Struct, frozen=True, forbid_unknown_fields=True):
    """An indicator whose events are counted, good and bad ones."""

    meaning: str
    process: str
    counter: str
    bad: dict[str, list[str]]


class Objective(Struct, frozen=True, forbid_unknown_fields=True):
    """At least `target` percent of the indicator's events are good: of a latency, within `threshold_us`."""

    name: str
    indicator: str
    target: float
    threshold_us: int | None = None


class Socket(Struct, frozen=True, forbid_unknown_fields=True):
    """A percentile of the times that k6 measures for one kind of request."""

    name: str
    op: str
    percentile: int
    threshold_us: int


class Gate(Struct, frozen=True, forbid_unknown_fields=True):
    """The load under which a profile is judged."""

    rate_per_s: int
    duration_s: int
    samples_min: int
    subscribers: int
    attempts: int
    within_s: int
    socket: list[Socket]


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    meaning: str
    window_days: int
    objectives: list[Objective]
    gate: Gate


class Indicators(Struct, frozen=True, forbid_unknown_fields=True):
    order_latency: Latency
    ws_latency: Latency
    db_latency: Latency
    availability: Share

    def named(self, name: str) -> Latency | Share:
        found: Latency | Share = getattr(self, name)
        return found


class Objectives(Struct, frozen=True, forbid_unknown_fields=True, rename={"schema": "$schema"}):
    schema: str
    indicators: Indicators
    profiles: dict[str, Profile]


def read(path: Path = FILE) -> Objectives:
    """Raises msgspec.ValidationError for a file of another shape."""
    return msgspec.json.decode(path.read_bytes(), type=Objectives)
