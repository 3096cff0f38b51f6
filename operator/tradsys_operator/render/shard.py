"""A shard: one StatefulSet of one pod, its Services, its budget, its instruments.

The StatefulSet's template only ever holds a revision that has passed. With OnDelete and a candidate in the
template an unrelated deletion of the pod would start it ungated; with OrderedReady a template that was put
back leaves the broken pod standing. So: RollingUpdate, Parallel, and candidates are other objects."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import yaml

from tradsys_operator import names
from tradsys_operator.api import Instrument, SecretKey, Shard, VenueSpec
from tradsys_operator.render.pods import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    guaranteed,
    probe,
    soft_limit,
    variable,
)
from tradsys_operator.revisions import Revision

DATA = "/data"
CONFIG = "/etc/tradsys/config"
KEYS = "/etc/tradsys/keys"
INTERNAL = "/etc/tradsys/internal"
INTERNAL_FILE = "secret"
FEED_INTERNAL = "TRADSYS_FEED_INTERNAL_PORT"

TEST_ACCOUNT = "helm-test"
"""An empty journal begins with it, so that `helm test` has somebody to place an order for."""

STARTUP_S = 1800
"""Recovery of a long journal may take so long; the engine says meanwhile how far it is."""
COMPANION_START_S = 60
"""With a tenth of a CPU a process takes seconds to start."""
LIVENESS_S = 60
"""A disk that stalls is not death."""
HISTORY_PRE_STOP_S = 1
"""History syncs and reads the engine's last frame: it leaves after it. Nobody else waits before it ends: a
shard has one pod, so no proxy has another way to go meanwhile, and one by Gateway API stops at once to send
anything to a pod that leaves."""
GRACE_S = 60

CRIO_ANNOTATIONS = {
    "cpu-load-balancing.crio.io": "disable",
    "cpu-quota.crio.io": "disable",
    "irq-load-balancing.crio.io": "disable",
}
BALLOON_ANNOTATION = "balloon.balloons.resource-policy.nri.io/container.engine"
BALLOON_TYPE = "tradsys-engine"


def key_of(spec: VenueSpec) -> tuple[str, SecretKey]:
    """The setting that names the key file, and where the key is."""
    if spec.auth.jwks is not None:
        return "TRADSYS_JWKS_FILE", spec.auth.jwks
    assert spec.auth.hs256 is not None, "the schema wants exactly one"
    return "TRADSYS_HS256_KEY_FILE", spec.auth.hs256


def settings(spec: VenueSpec, container: str, memory: str) -> list[dict[str, Any]]:
    """The environment of one process: every setting that a Venue speaks about, by its name in
    app/SETTINGS.md."""
    runtime, pools, sqlite, ws = spec.runtime, spec.runtime.pools, spec.runtime.sqlite, spec.runtime.websocket
    key_setting, key = key_of(spec)
    exclusive = container == names.ENGINE and spec.pinning.mode != "None"
    environment: dict[str, object] = {
        "TRADSYS_CONFIG": f"{CONFIG}/$(TRADSYS_SHARD).yaml",
        "TRADSYS_DATA_DIR": DATA,
        "TRADSYS_HOST": "0.0.0.0",
        "TRADSYS_DURABILITY": spec.durability,
        key_setting: f"{KEYS}/{key.key}",
        "TRADSYS_INTERNAL_SECRET_FILE": f"{INTERNAL}/{INTERNAL_FILE}",
        "TRADSYS_PROFILE": runtime.profile,
        "TRADSYS_SPIN": spec.pinning.spin,
        "TRADSYS_CPU_EXCLUSIVE": "1" if exclusive else "0",
        "TRADSYS_GC_PERCENT": runtime.gc.percent,
        "TRADSYS_MEMORY_LIMIT": soft_limit(memory, runtime.memory.soft_limit_percent),
        "TRADSYS_MAX_CONNECTIONS": runtime.max_connections,
        "TRADSYS_ORDER_POOL_SIZE": pools.order,
        "TRADSYS_MESSAGE_POOL_SIZE": pools.message,
        "TRADSYS_RESPONSE_POOL_SIZE": pools.response,
        "TRADSYS_SQLITE_WAL": sqlite.wal,
        "TRADSYS_SQLITE_CACHE_SIZE": sqlite.cache_size_pages,
        "TRADSYS_SQLITE_MMAP_SIZE": sqlite.mmap_size_bytes,
        "TRADSYS_WS_BUFFER_SIZE": ws.buffer_size_bytes,
        "TRADSYS_WS_BINARY_PROTOCOL": ws.binary_protocol,
        "TRADSYS_WS_COMPRESSION_LEVEL": ws.compression_level,
        "MALLOC_ARENA_MAX": runtime.memory.malloc_arena_max,
    } | tracing(spec)
    if container == names.FEED:
        environment[FEED_INTERNAL] = names.FEED_INTERNAL_PORT
    from_label = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{names.SHARD}']"}}
    return [
        # First: the config's path is made from it. From a label, so that all shards have one template.
        {"name": "TRADSYS_SHARD", "valueFrom": from_label},
        *(variable(name, value) for name, value in environment.items()),
    ]


def tracing(spec: VenueSpec) -> dict[str, object]:
    """The settings of traces, nothing where there are none."""
    if not spec.tracing.endpoint:
        return {}
    return {
        "TRADSYS_TRACING_ENDPOINT": spec.tracing.endpoint,
        "TRADSYS_TRACING_ONE_IN": spec.tracing.one_in,
    }


def feed_internal_port(revision: Revision) -> str:
    """Where the feed of this revision lets gateways follow, empty where it does not: templates are older
    than the operator that reads them."""
    for container in revision.shard["spec"]["containers"]:
        for entry in container["env"]:
            if entry["name"] == FEED_INTERNAL:
                return str(entry["value"])
    return ""


def shard_template(venue: str, spec: VenueSpec) -> dict[str, Any]:
    """The pod of every shard: annotations and pod spec, without the labels that tell the shards apart."""
    resources, pinning = spec.resources, spec.pinning
    ops = names.OPS_PORTS
    # In the order in which the kubelet starts them, one after another.
    containers = [
        _container(
            spec,
            names.ENGINE,
            guaranteed(resources.engine.cpu, resources.engine.memory),
            {
                "rest": names.REST_PORT,
                "admin": names.ADMIN_PORT,
                "internal": names.INTERNAL_PORT,
                "ops": ops["engine"],
            },
        )
        | {
            "startupProbe": probe("/healthz", ops["engine"], period_s=1, failures=STARTUP_S),
            "readinessProbe": probe("/readyz", ops["engine"], period_s=1, failures=2),
            "livenessProbe": probe("/healthz", ops["engine"], period_s=10, failures=LIVENESS_S // 10),
        },
        _container(
            spec,
            names.HISTORY,
            guaranteed(resources.history.cpu, resources.history.memory),
            {"history-ops": ops["history"]},
        )
        | {"lifecycle": {"preStop": {"sleep": {"seconds": HISTORY_PRE_STOP_S}}}}
        | _probes(ops["history"]),
        _container(
            spec,
            names.FEED,
            guaranteed(resources.feed.cpu, resources.feed.memory),
            {"ws": names.WS_PORT, "feed-internal": names.FEED_INTERNAL_PORT, "feed-ops": ops["feed"]},
        )
        | _probes(ops["feed"]),
        _container(
            spec,
            names.QUERY,
            guaranteed(resources.query.cpu, resources.query.memory),
            {"query": names.QUERY_PORT, "query-ops": ops["query"]},
        )
        | _probes(ops["query"]),
    ]
    _, key = key_of(spec)
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": POD_SECURITY,
        "containers": containers,
        "volumes": [
            {"name": "config", "configMap": {"name": config_name(venue)}},
            {"name": "keys", "secret": {"secretName": key.secret_name, "defaultMode": 0o440}},
            {
                "name": "internal",
                "secret": {"secretName": names.internal_secret(venue), "defaultMode": 0o440},
            },
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
    if pinning.node_selector:
        pod["nodeSelector"] = dict(pinning.node_selector)
    annotations: dict[str, str] = {}
    if pinning.mode != "None" and pinning.provider == "NRIBalloons":
        annotations[BALLOON_ANNOTATION] = BALLOON_TYPE
    if pinning.mode != "None" and pinning.provider == "CRIOHighPerformance":
        annotations |= CRIO_ANNOTATIONS
        pod["runtimeClassName"] = pinning.runtime_class_name
    return {"annotations": annotations, "spec": pod}


def _probes(port: int) -> dict[str, Any]:
    """Of the engine's companions: they are started again when dead, and never keep a pod from taking orders.
    So they have no startup probe, which would: they answer before the engine has recovered."""
    return {
        "livenessProbe": probe(
            "/healthz", port, period_s=10, failures=LIVENESS_S // 10, delay_s=COMPANION_START_S
        )
    }


def _container(
    spec: VenueSpec, name: str, resources: dict[str, Any], ports: dict[str, int]
) -> dict[str, Any]:
    return {
        "name": name,
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "args": ["serve", name],
        "env": settings(spec, name, resources["limits"]["memory"]),
        "ports": [
            {"name": port, "containerPort": number, "protocol": "TCP"} for port, number in ports.items()
        ],
        "resources": resources,
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            {"name": "config", "mountPath": CONFIG, "readOnly": True},
            {"name": "keys", "mountPath": KEYS, "readOnly": True},
            {"name": "internal", "mountPath": INTERNAL, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def config_name(venue: str) -> str:
    return f"{venue}-config"


def selector(venue: str, shard: str) -> dict[str, str]:
    # The part too: a gate pod also has a shard's name, since its settings come from there.
    return {names.VENUE: venue, names.SHARD: shard, names.PART: "shard"}


def stateful_set(venue: str, spec: VenueSpec, shard: Shard, revision: Revision) -> dict[str, Any]:
    """The shard's StatefulSet with the stored template of a revision."""
    chosen = names.labels(venue, "shard") | {names.SHARD: shard.name}
    template = {
        "metadata": {
            "labels": chosen | {names.REVISION: revision.hash},
            "annotations": revision.shard["annotations"],
        },
        "spec": revision.shard["spec"],
    }
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": spec.storage.size}},
        "volumeMode": "Filesystem",
    }
    if spec.storage.class_name:
        claim["storageClassName"] = spec.storage.class_name
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": names.shard(venue, shard.name),
            "labels": chosen | {names.REVISION: revision.hash},
        },
        "spec": {
            "replicas": 0 if spec.hibernated else 1,
            "serviceName": names.headless(venue, shard.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selector(venue, shard.name)},
            "template": template,
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data", "labels": selector(venue, shard.name)},
                    "spec": claim,
                }
            ],
        },
    }


def services(venue: str, shard: Shard) -> list[dict[str, Any]]:
    """One for clients, and a headless one that also names pods that are not ready: the operator looks at
    those."""
    chosen = names.labels(venue, "shard") | {names.SHARD: shard.name}

    def service(name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": chosen},
            "spec": spec,
        }

    def port(name: str, number: int) -> dict[str, Any]:
        return {"name": name, "port": number, "targetPort": number, "protocol": "TCP"}

    selects = selector(venue, shard.name)
    return [
        service(
            names.shard(venue, shard.name),
            {
                "type": "ClusterIP",
                "selector": selects,
                "ports": [
                    port("rest", names.REST_PORT),
                    port("ws", names.WS_PORT),
                    port("query", names.QUERY_PORT),
                    port("internal", names.INTERNAL_PORT),
                    port("feed-internal", names.FEED_INTERNAL_PORT),
                ],
            },
        ),
        service(
            names.headless(venue, shard.name),
            {
                "type": "ClusterIP",
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": selects,
                "ports": [port("ops", names.OPS_PORTS[names.ENGINE])],
            },
        ),
    ]


def budget(venue: str, shard: Shard) -> dict[str, Any]:
    """maxUnavailable 1: a drain may take the only pod, one at a time. minAvailable 1 would block it for
    ever."""
    chosen = names.labels(venue, "shard") | {names.SHARD: shard.name}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": names.shard(venue, shard.name), "labels": chosen},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(venue, shard.name)},
        },
    }


def config_map(venue: str, spec: VenueSpec, running: Mapping[str, Revision]) -> dict[str, Any]:
    """A settings file for each shard, and one for the gateway: what may change without another revision.
    `running` is the revision of each shard: a gateway waits for the feed of every shard that it is told
    of."""
    by_symbol = {instrument.symbol: instrument for instrument in spec.instruments}
    data = {
        f"{shard.name}.yaml": settings_text(
            [by_symbol[symbol] for symbol in shard.symbols], [TEST_ACCOUNT], where(venue, spec, shard)
        )
        for shard in spec.shards
    }
    shards = []
    for shard in spec.shards:
        ports = [str(names.REST_PORT), str(names.INTERNAL_PORT), feed_internal_port(running[shard.name])]
        address = ":".join([names.shard(venue, shard.name), *filter(None, ports)])
        shards.append(f"{shard.name}={address}")
    data["gateway.yaml"] = str(yaml.safe_dump({"gateway_shards": shards}))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": config_name(venue), "labels": names.labels(venue, "config")},
        "data": data,
    }


def where(venue: str, spec: VenueSpec, shard: Shard) -> dict[str, Any]:
    """Settings about addresses: where clients reach this shard's processes, and which shard has the other
    symbols."""
    ingress = spec.ingress
    root = "" if ingress.provider == "None" else f"{ingress.scheme}://{ingress.host}"
    others = [
        f"{symbol}={root or f'http://{names.shard(venue, each.name)}:{names.REST_PORT}'}/s/{each.name}/api/v1"
        for each in spec.shards
        if each is not shard
        for symbol in each.symbols
    ]
    settings: dict[str, Any] = {"other_symbols": others} if others else {}
    if root:
        streams = root.replace("http", "ws", 1)
        settings |= {
            "public_url": root,
            "public_query_url": f"{root}/q/{shard.name}",
            "public_ws_url": streams,
        }
    return settings


def settings_text(
    instruments: list[Instrument], accounts: list[str], more: dict[str, Any] | None = None
) -> str:
    """The settings file of a shard with so many instruments and accounts."""
    seed = {
        "symbols": [_seed_symbol(instrument) for instrument in instruments],
        "accounts": [{"account": account, "mode": "limits"} for account in accounts],
    }
    return str(yaml.safe_dump({"seed": seed} | (more or {}), sort_keys=False))


def _seed_symbol(instrument: Instrument) -> dict[str, Any]:
    symbol: dict[str, Any] = {
        "symbol": instrument.symbol,
        "tick_size": instrument.tick_size,
        "lot_size": instrument.lot_size,
    }
    if Decimal(instrument.min_notional):
        symbol["notional_min"] = instrument.min_notional
    # A basis point is 100 parts per million, a percent is 10,000.
    for key, text, scale in (
        ("maker_fee_ppm", instrument.maker_fee_bps, 100),
        ("taker_fee_ppm", instrument.taker_fee_bps, 100),
        ("band_ppm", instrument.band_percent, 10_000),
    ):
        if Decimal(text):
            symbol[key] = int(Decimal(text) * scale)
    return symbol
