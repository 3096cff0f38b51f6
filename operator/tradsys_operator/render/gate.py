"""A gate pod, its settings, and the k6 Job that loads it.

The pod is made from the revision's stored template, so that what is measured is what will run: same image,
resources, tuning. Its journal is an empty directory, its key and token exist for this GateRun only, and its
symbol nowhere else."""

from __future__ import annotations

import copy
from typing import Any

from tradsys_operator import names
from tradsys_operator.api import Gate, Instrument
from tradsys_operator.render.network import GATE, K6
from tradsys_operator.render.pods import CONTAINER_SECURITY, POD_SECURITY, unthrottled, variable
from tradsys_operator.render.shard import DATA, INTERNAL_FILE, KEYS, settings_text
from tradsys_operator.revisions import Revision

SYMBOL = Instrument(symbol="SANDBOX-USD", tick_size="0.01", lot_size="0.0001")
ACCOUNT = "gate"
SHARD = "gate"
KEY_FILE, TOKEN_FILE = "hs256.key", "token"
CONTAINERS = (names.ENGINE, names.HISTORY)
"""Matching and what it leans on; streams and the read model's REST are not what the gate compares."""
SEED_ORDERS = 2000
SHARED_CPU = "25m"
"""What a container asks for when the gate needs no CPU of its own."""
JOB_MARGIN_S = 60

PROFILES: dict[str, dict[str, int]] = {
    "gate": {"DURATION_S": 60, "WARMUP_S": 10, "RATE": 1000},
    # A busy machine stops for some 100 ms now and then: enough clients to offer the load meanwhile.
    "ci": {"DURATION_S": 5, "WARMUP_S": 1, "RATE": 50, "CLIENTS": 50},
}


def gate_labels(venue: str, gate_run: str, part: str) -> dict[str, str]:
    return names.labels(venue, part) | {names.GATE_RUN: gate_run, names.ROLE: part}


def secret(venue: str, gate_run: str, key: str, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": gate_run, "labels": gate_labels(venue, gate_run, GATE)},
        "type": "Opaque",
        "immutable": True,
        "stringData": {KEY_FILE: key, TOKEN_FILE: token},
    }


def config_map(venue: str, gate_run: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": gate_run, "labels": gate_labels(venue, gate_run, GATE)},
        "data": {f"{SHARD}.yaml": settings_text([SYMBOL], [ACCOUNT])},
    }


def gate_pod(venue: str, gate_run: str, name: str, revision: Revision, gate: Gate) -> dict[str, Any]:
    """The pod of one round."""
    spec = copy.deepcopy(revision.shard["spec"])
    spec["containers"] = [each for each in spec["containers"] if each["name"] in CONTAINERS]
    for container in spec["containers"]:
        container["env"] = [_for_the_gate(each, gate) for each in container["env"]]
        if gate.pinning == "None":
            # Less than its limit: the pod is not Guaranteed, it shares, and fits where no CPU is spare.
            container["resources"]["requests"]["cpu"] = SHARED_CPU
        # Nobody waits for this pod: it goes at once.
        container.pop("lifecycle", None)
    spec["volumes"] = [
        {"name": "data", "emptyDir": {}},
        {"name": "config", "configMap": {"name": gate_run}},
        {"name": "keys", "secret": {"secretName": gate_run, "defaultMode": 0o440}},
        {
            "name": "internal",
            "secret": {
                "secretName": gate_run,
                "items": [{"key": KEY_FILE, "path": INTERNAL_FILE}],
                "defaultMode": 0o440,
            },
        },
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    spec["restartPolicy"] = "Never"
    spec["terminationGracePeriodSeconds"] = 5
    labels = gate_labels(venue, gate_run, GATE) | {names.SHARD: SHARD, names.REVISION: revision.hash}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": dict(revision.shard["annotations"])},
        "spec": spec,
    }


def _for_the_gate(entry: dict[str, Any], gate: Gate) -> dict[str, Any]:
    name = entry["name"]
    if name in ("TRADSYS_JWKS_FILE", "TRADSYS_HS256_KEY_FILE"):
        return variable("TRADSYS_HS256_KEY_FILE", f"{KEYS}/{KEY_FILE}")
    if gate.pinning == "None" and name == "TRADSYS_CPU_EXCLUSIVE":
        return variable(name, "0")
    return entry


def k6_job(
    venue: str, gate_run: str, name: str, gate: Gate, pod_ip: str, app_image: str, pull: str
) -> dict[str, Any]:
    """The load of one round: some orders first, so that the book is no empty one, then k6."""
    profile = PROFILES.get(gate.k6.profile, PROFILES["gate"])
    target = f"http://{pod_ip}:{names.REST_PORT}"
    labels = gate_labels(venue, gate_run, K6)
    seed = {
        "name": "seed",
        "image": app_image,
        "imagePullPolicy": pull,
        "args": [
            "flow",
            *("--symbol", SYMBOL.symbol, "--account", ACCOUNT, "--seed", "1"),
            *("--rate", "0", "--count", str(SEED_ORDERS), "--batch", "100"),
        ],
        "env": [
            variable("TRADSYS_URL", target),
            variable("TRADSYS_DATA_DIR", DATA),
            {"name": "TRADSYS_TOKEN", "valueFrom": {"secretKeyRef": {"name": gate_run, "key": TOKEN_FILE}}},
        ],
        "resources": unthrottled("50m", "256Mi"),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "tmp", "mountPath": DATA}],
    }
    k6 = {
        "name": "k6",
        "image": gate.k6.image,
        "imagePullPolicy": pull,
        "args": ["run", "--no-usage-report", "--quiet", "/scripts/gate.js"],
        "env": [
            variable("BASE_URL", target),
            variable("TOKEN_FILE", f"/gate/{TOKEN_FILE}"),
            variable("SYMBOL", SYMBOL.symbol),
            variable("ACCOUNT", ACCOUNT),
            variable("PROFILE", gate.k6.profile),
            variable("MIN_SAMPLES", gate.compare.min_samples),
            variable("VERDICT_FILE", "/dev/termination-log"),
            variable("K6_NO_USAGE_REPORT", "true"),
            *(variable(key, value) for key, value in profile.items()),
        ],
        "resources": unthrottled("50m", "512Mi"),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "scripts", "mountPath": "/scripts", "readOnly": True},
            {"name": "token", "mountPath": "/gate", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "metadata": {"labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": POD_SECURITY,
            "initContainers": [seed],
            "containers": [k6],
            "volumes": [
                {"name": "scripts", "configMap": {"name": gate.k6.script_config_map or f"{venue}-k6"}},
                {"name": "token", "secret": {"secretName": gate_run, "defaultMode": 0o440}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": gate.timeout_seconds,
            # k6 decides by its exit code; an evicted pod is nobody's verdict.
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "k6", "operator": "NotIn", "values": [0]},
                    },
                ]
            },
            "template": pod,
        },
    }
