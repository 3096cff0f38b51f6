"""NetworkPolicies: who may talk to a venue's pods. Everything else is refused, in both directions."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tradsys_operator import names
from tradsys_operator.api import VenueSpec

NAMESPACE = "kubernetes.io/metadata.name"
GATE, K6 = "gate", "k6"

Rule = dict[str, Any]


def _ports(*numbers: int) -> list[dict[str, Any]]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]


DNS: Rule = {
    "to": [{"namespaceSelector": {"matchLabels": {NAMESPACE: "kube-system"}}}],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}


def _pods(venue: str, part: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {names.VENUE: venue, names.PART: part}}}


def _policy(venue: str, part: str, ingress: list[Rule], egress: list[Rule]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{venue}-{part}", "labels": names.labels(venue, part)},
        "spec": {
            "podSelector": {"matchLabels": {names.VENUE: venue, names.PART: part}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _collector(spec: VenueSpec) -> list[Rule]:
    """The way to the receiver of traces: by its port, since policies know no names of hosts."""
    if not spec.tracing.endpoint:
        return []
    url = urlsplit(spec.tracing.endpoint)
    return [{"ports": _ports(url.port or (443 if url.scheme == "https" else 80))}]


def policies(venue: str, spec: VenueSpec, operator_namespace: str) -> list[dict[str, Any]]:
    """For shards, the gateway, gate pods and k6."""
    operator = {
        "namespaceSelector": {"matchLabels": {NAMESPACE: operator_namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "tradsys-operator"}},
    }
    watchers: list[Rule] = [operator]
    if spec.monitoring.enabled:
        chosen = {"matchLabels": {NAMESPACE: spec.monitoring.namespace}} if spec.monitoring.namespace else {}
        watchers.append({"namespaceSelector": chosen})
    ops = _ports(*sorted(names.OPS_PORTS.values()))
    # The ingress controller's namespace is anybody's choice: the public ports are open, and need a token.
    public = _ports(names.REST_PORT, names.WS_PORT, names.QUERY_PORT)
    shards = _pods(venue, "shard")
    return [
        _policy(
            venue,
            "shard",
            [
                {"ports": public},
                {"from": watchers, "ports": ops},
                {
                    "from": [_pods(venue, names.GATEWAY)],
                    "ports": _ports(names.INTERNAL_PORT, names.FEED_INTERNAL_PORT),
                },
            ],
            [DNS, *_collector(spec)],
        ),
        _policy(
            venue,
            names.GATEWAY,
            [{"ports": _ports(names.GRPC_PORT)}, {"from": watchers, "ports": ops}],
            [
                DNS,
                {
                    "to": [shards],
                    "ports": _ports(names.REST_PORT, names.INTERNAL_PORT, names.FEED_INTERNAL_PORT),
                },
                *_collector(spec),
            ],
        ),
        _policy(
            venue,
            GATE,
            [{"from": [_pods(venue, K6)], "ports": public}, {"from": [operator], "ports": ops}],
            [],
        ),
        _policy(venue, K6, [], [DNS, {"to": [_pods(venue, GATE)], "ports": public}]),
    ]
