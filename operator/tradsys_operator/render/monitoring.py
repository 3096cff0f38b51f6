"""For a Prometheus operator: who is scraped, and the rules that the objectives make."""

from __future__ import annotations

from typing import Any

from tradsys_operator import names
from tradsys_operator.api import VenueSpec
from tradsys_operator.objectives import rule_groups

POD_MONITOR = ("monitoring.coreos.com/v1", "PodMonitor")
RULE = ("monitoring.coreos.com/v1", "PrometheusRule")


def monitors(venue: str, namespace: str, spec: VenueSpec) -> list[dict[str, Any]]:
    if not spec.monitoring.enabled:
        return []
    chosen = names.labels(venue, "monitoring") | dict(spec.monitoring.labels)
    endpoints = [
        {"port": port, "path": "/metrics", "interval": "15s", "scrapeTimeout": "10s"}
        for port in ("history-ops", "feed-ops", "query-ops", "gateway-ops")
    ]
    return [
        {
            "apiVersion": POD_MONITOR[0],
            "kind": POD_MONITOR[1],
            "metadata": {"name": venue, "labels": chosen},
            "spec": {
                "selector": {
                    "matchLabels": {names.VENUE: venue},
                    # Gate pods have another load on them: they must not count for the objectives.
                    "matchExpressions": [{"key": names.ROLE, "operator": "DoesNotExist"}],
                },
                "podTargetLabels": [names.VENUE, names.SHARD, names.REVISION],
                "podMetricsEndpoints": endpoints,
            },
        },
        {
            "apiVersion": RULE[0],
            "kind": RULE[1],
            "metadata": {"name": venue, "labels": chosen},
            "spec": {"groups": rule_groups(venue, namespace, spec.slo)},
        },
    ]
