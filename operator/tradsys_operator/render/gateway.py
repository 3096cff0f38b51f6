"""The gateway: gRPC for all shards, a Deployment without state."""

from __future__ import annotations

from typing import Any

from tradsys_operator import names
from tradsys_operator.api import VenueSpec
from tradsys_operator.render.pods import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    guaranteed,
    probe,
    soft_limit,
    variable,
)
from tradsys_operator.render.shard import (
    CONFIG,
    DATA,
    INTERNAL,
    INTERNAL_FILE,
    KEYS,
    config_name,
    key_of,
    tracing,
)
from tradsys_operator.revisions import Revision


def gateway_template(venue: str, spec: VenueSpec) -> dict[str, Any]:
    """The pod of a gateway, without labels."""
    resources = spec.resources.gateway
    ops = names.OPS_PORTS[names.GATEWAY]
    key_setting, key = key_of(spec)
    container = {
        "name": names.GATEWAY,
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "args": ["serve", names.GATEWAY],
        "env": [
            variable("TRADSYS_HOST", "0.0.0.0"),
            variable("TRADSYS_DATA_DIR", DATA),
            variable("TRADSYS_CONFIG", f"{CONFIG}/gateway.yaml"),
            variable(key_setting, f"{KEYS}/{key.key}"),
            variable("TRADSYS_INTERNAL_SECRET_FILE", f"{INTERNAL}/{INTERNAL_FILE}"),
            variable(
                "TRADSYS_MEMORY_LIMIT", soft_limit(resources.memory, spec.runtime.memory.soft_limit_percent)
            ),
            variable("MALLOC_ARENA_MAX", spec.runtime.memory.malloc_arena_max),
            *(variable(name, value) for name, value in tracing(spec).items()),
        ],
        "ports": [
            {"name": "grpc", "containerPort": names.GRPC_PORT, "protocol": "TCP"},
            {"name": "gateway-ops", "containerPort": ops, "protocol": "TCP"},
        ],
        "resources": guaranteed(resources.cpu, resources.memory),
        "securityContext": CONTAINER_SECURITY,
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
        "startupProbe": probe("/healthz", ops, period_s=1, failures=60),
        "readinessProbe": probe("/readyz", ops, period_s=2, failures=2),
        "livenessProbe": probe("/healthz", ops, period_s=10, failures=6),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG, "readOnly": True},
            {"name": "keys", "mountPath": KEYS, "readOnly": True},
            {"name": "internal", "mountPath": INTERNAL, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            # It keeps nothing; a data directory must be there all the same.
            {"name": "tmp", "mountPath": DATA},
        ],
    }
    return {
        "annotations": {},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": POD_SECURITY,
            "containers": [container],
            "volumes": [
                {"name": "config", "configMap": {"name": config_name(venue)}},
                {"name": "keys", "secret": {"secretName": key.secret_name, "defaultMode": 0o440}},
                {
                    "name": "internal",
                    "secret": {"secretName": names.internal_secret(venue), "defaultMode": 0o440},
                },
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
        },
    }


def gateway_objects(venue: str, spec: VenueSpec, revision: Revision) -> list[dict[str, Any]]:
    """Deployment, Service and budget of the gateway."""
    name, chosen = names.gateway(venue), names.labels(venue, names.GATEWAY)
    selects = {names.VENUE: venue, names.PART: names.GATEWAY}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": chosen},
        "spec": {
            "replicas": 0 if spec.hibernated else spec.gateway.replicas,
            "selector": {"matchLabels": selects},
            # Surge 0: a node with one spare CPU has no room for a second set.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "revisionHistoryLimit": 2,
            "template": {
                "metadata": {
                    "labels": chosen | {names.REVISION: revision.hash},
                    "annotations": revision.gateway["annotations"],
                },
                "spec": revision.gateway["spec"],
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": chosen},
        "spec": {
            "type": "ClusterIP",
            "selector": selects,
            "ports": [
                {
                    "name": "grpc",
                    "port": names.GRPC_PORT,
                    "targetPort": names.GRPC_PORT,
                    "protocol": "TCP",
                    "appProtocol": "kubernetes.io/h2c",
                }
            ],
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": chosen},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selects},
        },
    }
    return [deployment, service, budget]
