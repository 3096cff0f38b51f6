"""Names and labels of everything that is made from a Venue, and the ports of its processes."""

from __future__ import annotations

from tradsys_operator.api import GROUP

FIELD_MANAGER = "tradsys-operator"

VENUE = f"{GROUP}/venue"
SHARD = f"{GROUP}/shard"
REVISION = f"{GROUP}/revision"
ROLE = f"{GROUP}/role"
GATE_RUN = f"{GROUP}/gate-run"
PART = "app.kubernetes.io/component"

ENGINE, FEED, HISTORY, QUERY, GATEWAY = "engine", "feed", "history", "query", "gateway"

REST_PORT, WS_PORT, QUERY_PORT, ADMIN_PORT, INTERNAL_PORT, GRPC_PORT = 8000, 8001, 8002, 8081, 8090, 50051
FEED_INTERNAL_PORT = 8091
"""Where gateways follow a shard's journal: revocations and events of orders."""
OPS_PORTS = {ENGINE: 9100, FEED: 9101, HISTORY: 9102, GATEWAY: 9103, QUERY: 9104}

PROMOTE, ABORT, RETRY = f"{GROUP}/promote", f"{GROUP}/abort", f"{GROUP}/retry"
"""Annotations whose value is a nonce: a new value is an order, obeyed once. The spec is never edited."""


def labels(venue: str, part: str) -> dict[str, str]:
    """On everything: whose it is, and what part of it."""
    return {
        "app.kubernetes.io/name": "tradsys",
        "app.kubernetes.io/instance": venue,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        PART: part,
        VENUE: venue,
    }


def shard(venue: str, name: str) -> str:
    """The StatefulSet, the client Service and the budget of a shard."""
    return f"{venue}-{name}"


def headless(venue: str, name: str) -> str:
    return f"{venue}-{name}-pods"


def revision(venue: str, hash_: str) -> str:
    return f"{venue}-{hash_}"


def internal_secret(venue: str) -> str:
    """What gateway and feed prove themselves with to the engine."""
    return f"{venue}-internal"


def gateway(venue: str) -> str:
    return f"{venue}-gateway"


def gate_run(venue: str, rollout: str, attempt: int) -> str:
    return f"{venue}-{rollout}-{attempt}"


def gate_pod(gate_run: str, round_: int) -> str:
    return f"{gate_run}-r{round_}"


def gate_job(gate_run: str, round_: int) -> str:
    return f"{gate_run}-k6-{round_}"
