"""Objectives as PromQL: ratios, burn rates, alerts, and what is asked while a release bakes.

Multi-window, multi-burn-rate: an alert needs a long window, so that it is worth waking somebody, and a short
one, so that it ends soon after the trouble does. The factors say how much of the budget is gone when it
fires."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec import Struct

from tradsys_operator.api import Objective, Slo

HISTOGRAMS = {
    "order_latency": "hft_order_latency_microseconds",
    "ws_latency": "hft_websocket_latency_microseconds",
    "db_latency": "hft_database_latency_microseconds",
}
ANSWERED, ERRORS = "tradsys_commands_total", "hft_errors_total"
BOUNDS_US = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
"""Buckets of the histograms: a threshold between two of them counts from the next lower one."""

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
BURN_RATES = (
    (Decimal("14.4"), "1h", "5m", "critical"),
    (Decimal("6"), "6h", "30m", "critical"),
    (Decimal("3"), "1d", "2h", "warning"),
    (Decimal("1"), "3d", "6h", "warning"),
)
BURN_RATE_MAX = Decimal("14.4")
"""A release that burns faster than this while it bakes goes back."""
RUNBOOKS = "https://github.com/tradsys/tradsys/blob/main/dashboards/runbooks"


def live(venue: str, namespace: str) -> str:
    """Selects the venue's own pods; gate pods have a role and are other people's load."""
    return f'namespace="{namespace}",tradsys_dev_venue="{venue}",tradsys_dev_role!="gate"'


def bad_ratio(objective: Objective, selector: str, window: str) -> str:
    """The share of bad events over a window, from 0 to 1; no data when there were none at all."""
    if objective.indicator == "availability":
        bad = f"(sum(rate({ERRORS}{{{selector}}}[{window}])) or vector(0))"
        return f"{bad} / (sum(rate({ANSWERED}{{{selector}}}[{window}])) > 0)"
    histogram = HISTOGRAMS[objective.indicator]
    good = f'sum(rate({histogram}_bucket{{{selector},le=~"{bound_text(objective)}"}}[{window}]))'
    return f"1 - {good} / (sum(rate({histogram}_count{{{selector}}}[{window}])) > 0)"


def bound_text(objective: Objective) -> str:
    """The `le` of the greatest bucket that is within the threshold, as a regular expression: 100 or 100.0."""
    threshold = objective.threshold_microseconds or 0
    bound = max((bound for bound in BOUNDS_US if bound <= threshold), default=BOUNDS_US[0])
    return rf"{bound}(\\.0)?"


def budget(objective: Objective) -> Decimal:
    """The share of bad events that is allowed, from 0 to 1."""
    return (Decimal(100) - Decimal(objective.target)) / 100


class Judged(Struct, frozen=True):
    """An objective on the live venue. None: Prometheus gave no number, which never counts as kept."""

    name: str
    bad: float | None
    met: bool | None
    burn_rate: float | None


def judge(objective: Objective, bad: float | None) -> Judged:
    """The verdict from a ratio that was just measured: within the target, how fast the budget burns."""
    if bad is None or bad != bad:
        return Judged(objective.name, None, None, None)
    burn = bad / float(budget(objective))
    return Judged(objective.name, bad, burn <= 1, burn)


def rule_groups(venue: str, namespace: str, slo: Slo) -> list[dict[str, Any]]:
    """Groups of a PrometheusRule: recorded ratios, remaining budget, burn-rate alerts, and one for
    silence."""
    selector = live(venue, namespace)
    identity = {"venue": venue, "venue_namespace": namespace}
    recorded: list[dict[str, Any]] = []
    alerts: list[dict[str, Any]] = []
    for objective in slo.objectives:
        labels = identity | {"slo": objective.name}
        matching = ",".join(f'{key}="{value}"' for key, value in labels.items())
        allowed = budget(objective)
        for window in WINDOWS:
            recorded.append(
                {
                    "record": f"tradsys:slo_bad:ratio_rate{window}",
                    "expr": bad_ratio(objective, selector, window),
                    "labels": labels,
                }
            )
        whole = f"avg_over_time(tradsys:slo_bad:ratio_rate5m{{{matching}}}[{slo.window_days}d])"
        recorded.append(
            {
                "record": "tradsys:slo_budget_remaining:ratio",
                "expr": f"1 - {whole} / {allowed}",
                "labels": labels,
            }
        )
        recorded.append(
            {"record": "tradsys:slo_objective:ratio", "expr": f"vector({1 - allowed})", "labels": labels}
        )
        for factor, long, short, severity in BURN_RATES:
            bound = factor * allowed
            alerts.append(
                {
                    "alert": "TradsysErrorBudgetBurn",
                    "expr": f"tradsys:slo_bad:ratio_rate{long}{{{matching}}} > {bound} "
                    f"and tradsys:slo_bad:ratio_rate{short}{{{matching}}} > {bound}",
                    "for": "2m" if severity == "critical" else "15m",
                    "labels": labels | {"severity": severity, "window": long},
                    "annotations": {
                        "summary": f"{venue}: {objective.name} burns its budget {factor} times too fast",
                        "description": f"Over {long} and {short}, {{{{ $value | humanizePercentage }}}} of "
                        f"events were bad; {objective.target} % must be good over {slo.window_days} days.",
                        "runbook_url": f"{RUNBOOKS}/operator-error-budget-burn.md",
                    },
                }
            )
    alerts.append(
        {
            "alert": "TradsysVenueAbsent",
            "expr": f"absent(tradsys_published_seq{{{selector}}})",
            "for": "5m",
            "labels": identity | {"severity": "critical"},
            "annotations": {
                "summary": f"{venue}: Prometheus sees no shard",
                "description": "No shard has been scraped for five minutes: objectives can't be judged.",
                "runbook_url": f"{RUNBOOKS}/operator-venue-absent.md",
            },
        }
    )
    return [
        {"name": f"{venue}-slo-ratios", "rules": recorded},
        {"name": f"{venue}-slo-alerts", "rules": alerts},
    ]
