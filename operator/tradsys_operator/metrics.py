"""Metrics of the operator, declared once."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from tradsys_operator.api import Phase

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

RECONCILES = Counter(
    "tradsys_operator_reconciles_total",
    "Passes over one object, by kind and how they ended.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
RECONCILE_DURATION = Histogram(
    "tradsys_operator_reconcile_duration_seconds",
    "How long a pass took.",
    ("kind",),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("tradsys_operator_queue_depth", "Objects that are due.", registry=REGISTRY)
LEADER = Gauge("tradsys_operator_leader", "1 if this process holds the lease.", registry=REGISTRY)
LAST_EVENT_AGE = Gauge(
    "tradsys_operator_last_event_age_seconds",
    "How long ago a watch or a resync was last heard of.",
    registry=REGISTRY,
)
PHASE = Gauge(
    "tradsys_operator_rollout_phase",
    "1 for the phase that a venue's rollout is in.",
    ("namespace", "venue", "phase"),
    registry=REGISTRY,
)
ROLLOUT_DURATION = Histogram(
    "tradsys_operator_rollout_duration_seconds",
    "From the change of the spec to the end of its rollout.",
    ("outcome",),
    buckets=(10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200),
    registry=REGISTRY,
)
GATE_RESULTS = Counter(
    "tradsys_operator_gate_results_total",
    "Gates by verdict and reason.",
    ("verdict", "reason"),
    registry=REGISTRY,
)
GATE_LATENCY = Gauge(
    "tradsys_operator_gate_latency_ratio",
    "Latency of the last candidate over that of the stable revision.",
    ("namespace", "venue"),
    registry=REGISTRY,
)
GATE_LATENCY_MAX = Gauge(
    "tradsys_operator_gate_latency_ratio_max",
    "The ratio that a candidate may have.",
    ("namespace", "venue"),
    registry=REGISTRY,
)
PODS_PINNED = Gauge(
    "tradsys_operator_pods_pinned",
    "Engines with CPUs of their own.",
    ("namespace", "venue"),
    registry=REGISTRY,
)
PODS = Gauge(
    "tradsys_operator_pods", "Engines that there should be.", ("namespace", "venue"), registry=REGISTRY
)
TUNING_MISMATCHES = Gauge(
    "tradsys_operator_tuning_mismatches",
    "Knobs that are not in force.",
    ("namespace", "venue"),
    registry=REGISTRY,
)
CONDITION = Gauge(
    "tradsys_operator_condition",
    "1 if a venue's condition has this status.",
    ("namespace", "venue", "condition", "status"),
    registry=REGISTRY,
)

# From the start, so that the first failure and the first release are a change of a number.
for _kind in ("Venue", "GateRun"):
    for _outcome in ("done", "conflict", "failed", "fault"):
        RECONCILES.labels(_kind, _outcome)
for _outcome in ("promoted", "rolled_back", "failed"):
    ROLLOUT_DURATION.labels(_outcome)


def phase(namespace: str, venue: str, now: Phase) -> None:
    """The phase that a venue is in."""
    for each in get_args(Phase):
        PHASE.labels(namespace, venue, each).set(each == now)


def forget(namespace: str, venue: str) -> None:
    """A venue that is gone has no numbers: its last ones would stand for ever."""
    for metric in (PHASE, GATE_LATENCY, GATE_LATENCY_MAX, PODS_PINNED, PODS, TUNING_MISMATCHES, CONDITION):
        metric.remove_by_labels({"namespace": namespace, "venue": venue})
