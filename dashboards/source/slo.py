"""The rules of the objectives: how much failed in seven windows, and alerts on how fast the budget goes.

Two windows each, as the SRE workbook has it: the long one says that it matters, the short one that it
still goes on. 14.4 times too fast for an hour uses 2 % of a month's budget, 6 times for six hours 5 %,
3 times for a day 10 %, 1 time for three days 10 %.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
PAGE, TICKET = "page", "ticket"
BURNS = (
    (PAGE, (("1h", "5m", 14.4), ("6h", "30m", 6.0)), "2m"),
    (TICKET, (("1d", "2h", 3.0), ("3d", "6h", 1.0)), "15m"),
)
"""(severity, ((long window, short window, times too fast), …), how long before it is told)"""
PROFILE = "target"
"""The objectives of loadtests/slo.json that production is held to."""
LIVE = 'tradsys_dev_role!="gate"'
"""A gate's engine is made to be loaded until it breaks; nobody is woken for it."""
BY = "namespace, job"
BOUNDS_US = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
"""Where the plan's histograms can be read exactly."""
RUNBOOKS = "https://github.com/tradsys/tradsys/blob/main/dashboards/runbooks"

Indicator = Literal["order_latency", "ws_latency", "db_latency", "availability"]
HISTOGRAMS = {
    "order_latency": "hft_order_latency_microseconds",
    "ws_latency": "hft_websocket_latency_microseconds",
    "db_latency": "hft_database_latency_microseconds",
}
ALERTS = {
    "order_latency": ("TradsysOrderLatencyBurn", "orders"),
    "ws_latency": ("TradsysStreamLatencyBurn", "stream messages"),
    "db_latency": ("TradsysStoreLatencyBurn", "journal writes and statements"),
    "availability": ("TradsysAvailabilityBurn", "requests"),
}
"""Name of the alert, and what it counts."""


class Objective(Struct, frozen=True):
    name: str
    indicator: Indicator
    target: Annotated[float, Meta(gt=0, lt=100)]
    """Percent of the events that must be good."""
    threshold_us: int = 0
    """An event that took no longer is good; without meaning for availability."""

    @property
    def allowed(self) -> float:
        """The part of the events that may fail."""
        return round(1 - self.target / 100, 9)


class Profile(Struct, frozen=True):
    objectives: list[Objective]
    window_days: int = 28


class File(Struct, frozen=True):
    profiles: dict[str, Profile]


def profile_of(slo_json: bytes) -> Profile:
    """The objectives for production. Raises msgspec.ValidationError, KeyError, ValueError."""
    profile = msgspec.json.decode(slo_json, type=File).profiles[PROFILE]
    for objective in profile.objectives:
        if objective.indicator != "availability" and objective.threshold_us not in BOUNDS_US:
            raise ValueError(f"{objective.name}: no bucket ends at {objective.threshold_us} µs")
    return profile


def rules_of(slo_json: bytes) -> str:
    """The rule file, as YAML."""
    profile = profile_of(slo_json)
    groups = []
    for objective in profile.objectives:
        groups.append(
            {
                "name": f"tradsys-slo-{objective.name}",
                "rules": [
                    *(_ratio(objective, window) for window in WINDOWS),
                    {
                        "record": "tradsys:slo_target:ratio",
                        "expr": f"vector({objective.target / 100:.9g})",
                        "labels": {"objective": objective.name},
                    },
                    _budget(objective, profile.window_days),
                    *(_alert(objective, *burn) for burn in BURNS),
                ],
            }
        )
    text = yaml.safe_dump({"groups": groups}, sort_keys=False, allow_unicode=True, width=10_000)
    return (
        f"# Written by `make dashboards` from the profile `{PROFILE}` of loadtests/slo.json; "
        f"change it there.\n{text}"
    )


def failed(objective: Objective, window: str) -> str:
    """The part of the events in the window that were not good; nothing where there were none."""

    def rate(series: str, more: str = "") -> str:
        return f"sum by ({BY}) (rate({series}{{{LIVE}{more}}}[{window}]))"

    if objective.indicator == "availability":
        requests = "tradsys_http_requests_total"
        failures = rate(requests, ', status="5xx"')
        return f"{failures} / ({rate(requests)} > 0)"
    histogram = HISTOGRAMS[objective.indicator]
    # Prometheus 2 stores the bound as it is written, Prometheus 3 with ".0".
    good = rate(f"{histogram}_bucket", f', le=~"{objective.threshold_us}(\\\\.0)?"')
    return f"1 - {good} / ({rate(f'{histogram}_count')} > 0)"


def _ratio(objective: Objective, window: str) -> dict[str, object]:
    return {
        "record": f"tradsys:slo_errors:ratio_rate{window}",
        "expr": failed(objective, window),
        "labels": {"objective": objective.name},
    }


def _budget(objective: Objective, days: int) -> dict[str, object]:
    mean = f'avg_over_time(tradsys:slo_errors:ratio_rate5m{{objective="{objective.name}"}}[{days}d])'
    return {
        "record": "tradsys:slo_budget_left:ratio",
        "expr": f"1 - {mean} / {objective.allowed:.9g}",
        "labels": {"objective": objective.name},
    }


def _alert(
    objective: Objective, severity: str, windows: tuple[tuple[str, str, float], ...], hold: str
) -> dict[str, object]:
    name, events = ALERTS[objective.indicator]

    def over(window: str, factor: float) -> str:
        series = f'tradsys:slo_errors:ratio_rate{window}{{objective="{objective.name}"}}'
        return f"{series} > {factor * objective.allowed:.9g}"

    terms = [f"({over(long, factor)} and {over(short, factor)})" for long, short, factor in windows]
    good = (
        "answered without a failure of the venue"
        if objective.indicator == "availability"
        else f"done within {objective.threshold_us} µs"
    )
    return {
        "alert": name,
        "expr": " or ".join(terms),
        "for": hold,
        "keep_firing_for": "5m",
        "labels": {"severity": severity, "objective": objective.name},
        "annotations": {
            "summary": f"{objective.name}: the error budget of {{{{ $labels.job }}}} burns too fast",
            "description": (
                f"{{{{ $value | humanizePercentage }}}} of the {events} were not {good}; the objective "
                f"{objective.name} allows {objective.allowed * 100:.4g} %."
            ),
            "runbook_url": f"{RUNBOOKS}/{name}.md",
        },
    }
