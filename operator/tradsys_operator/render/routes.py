"""How clients come in: Gateway API routes, or an Ingress with paths that end in `/`.

A plain-prefix controller sends /s/ab to the shard `a` unless the path of `a` is `/s/a/`.
"""

from __future__ import annotations

from typing import Any

from tradsys_operator import names
from tradsys_operator.api import VenueSpec

HTTP_ROUTE = ("gateway.networking.k8s.io/v1", "HTTPRoute")
GRPC_ROUTE = ("gateway.networking.k8s.io/v1", "GRPCRoute")
INGRESS = ("networking.k8s.io/v1", "Ingress")
RULES_MAX = 16
"""Of one HTTPRoute; the API server refuses more."""


def routes(venue: str, spec: VenueSpec) -> list[dict[str, Any]]:
    match spec.ingress.provider:
        case "Gateway":
            made = _http_routes(venue, spec)
            return [*made, _grpc_route(venue, spec)] if spec.gateway.replicas else made
        case "Ingress":
            return [_ingress(venue, spec)]
        case "None":
            return []


def paths(venue: str, spec: VenueSpec) -> list[tuple[str, bool, str, int]]:
    """(path, whether it is a prefix, Service, port), the longest first; the first shard answers what names
    none."""
    first = names.shard(venue, spec.shards[0].name)
    return [
        *(
            (f"/s/{shard.name}/", True, names.shard(venue, shard.name), names.REST_PORT)
            for shard in spec.shards
        ),
        ("/api/v1/", True, first, names.REST_PORT),
        ("/ws", False, first, names.WS_PORT),
        ("/", True, first, names.QUERY_PORT),
    ]


def _parents(spec: VenueSpec) -> list[dict[str, Any]]:
    parents = []
    for reference in spec.ingress.parent_refs:
        parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": reference.name}
        if reference.namespace:
            parent["namespace"] = reference.namespace
        if reference.section_name:
            parent["sectionName"] = reference.section_name
        parents.append(parent)
    return parents


def _backend(service: str, port: int) -> dict[str, Any]:
    return {"group": "", "kind": "Service", "name": service, "port": port, "weight": 1}


def _rewrite(path: dict[str, str]) -> dict[str, Any]:
    return {"type": "URLRewrite", "urlRewrite": {"path": path}}


def _http_routes(venue: str, spec: VenueSpec) -> list[dict[str, Any]]:
    """As many as the rules need. The longest path wins over all of them, so it does not matter which has
    which."""
    rules: list[dict[str, Any]] = []
    for shard in spec.shards:
        # Each shard has its own streams; the feed knows them by one path.
        service = names.shard(venue, shard.name)
        rules.append(
            {
                "matches": [{"path": {"type": "Exact", "value": f"/s/{shard.name}/ws"}}],
                "filters": [_rewrite({"type": "ReplaceFullPath", "replaceFullPath": "/ws"})],
                "backendRefs": [_backend(service, names.WS_PORT)],
            }
        )
        # The read model has the paths of the engine; where the engine sends clients on, the prefix tells them
        # apart.
        rules.append(
            {
                "matches": [{"path": {"type": "PathPrefix", "value": f"/q/{shard.name}"}}],
                "filters": [_rewrite({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"})],
                "backendRefs": [_backend(service, names.QUERY_PORT)],
            }
        )
    for path, prefix, service, port in paths(venue, spec):
        kind = "PathPrefix" if prefix else "Exact"
        rules.append(
            {
                "matches": [{"path": {"type": kind, "value": path.rstrip("/") or "/"}}],
                "backendRefs": [_backend(service, port)],
            }
        )
    return [
        {
            "apiVersion": HTTP_ROUTE[0],
            "kind": HTTP_ROUTE[1],
            "metadata": {
                "name": f"{venue}.routes-{number}" if number > 1 else venue,
                "labels": names.labels(venue, "route"),
            },
            "spec": {
                "parentRefs": _parents(spec),
                "hostnames": [spec.ingress.host],
                "rules": rules[first : first + RULES_MAX],
            },
        }
        for number, first in enumerate(range(0, len(rules), RULES_MAX), start=1)
    ]


def _grpc_route(venue: str, spec: VenueSpec) -> dict[str, Any]:
    matches = [
        {"method": {"type": "Exact", "service": service}}
        for service in (
            "tradsys.v1.OrderService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        )
    ]
    return {
        "apiVersion": GRPC_ROUTE[0],
        "kind": GRPC_ROUTE[1],
        "metadata": {"name": f"{venue}-grpc", "labels": names.labels(venue, "route")},
        "spec": {
            "parentRefs": _parents(spec),
            "hostnames": [spec.ingress.host],
            "rules": [{"matches": matches, "backendRefs": [_backend(names.gateway(venue), names.GRPC_PORT)]}],
        },
    }


def _ingress(venue: str, spec: VenueSpec) -> dict[str, Any]:
    # Nothing rewrites paths here: engine and read model know those that name their shard, the feed does not.
    queries = [
        (f"/q/{shard.name}/", True, names.shard(venue, shard.name), names.QUERY_PORT) for shard in spec.shards
    ]
    entries = [
        {
            "path": path,
            "pathType": "Prefix" if prefix else "Exact",
            "backend": {"service": {"name": service, "port": {"number": port}}},
        }
        for path, prefix, service, port in (*queries, *paths(venue, spec))
    ]
    made: dict[str, Any] = {"rules": [{"host": spec.ingress.host, "http": {"paths": entries}}]}
    if spec.ingress.class_name:
        made["ingressClassName"] = spec.ingress.class_name
    if spec.ingress.tls_secret_name:
        made["tls"] = [{"hosts": [spec.ingress.host], "secretName": spec.ingress.tls_secret_name}]
    return {
        "apiVersion": INGRESS[0],
        "kind": INGRESS[1],
        "metadata": {"name": venue, "labels": names.labels(venue, "route")},
        "spec": made,
    }
