"""A real API server refuses what makes no sense, and says what to do."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from tests.kube.charts.test_charts import EXAMPLES, example, objects
from tests.kube.cluster.control_plane import KubectlFailed

NAMESPACE = "refusals"

GOOD = yaml.safe_load(
    """
apiVersion: tradsys.dev/v1alpha1
kind: Venue
metadata: {name: crypto, namespace: refusals}
spec:
  image: registry.example/tradsys:1
  shards:
  - {name: a, symbols: [BTC-USD, ETH-USD]}
  - {name: b, symbols: [SOL-USD]}
  instruments:
  - {symbol: BTC-USD, tickSize: "0.01", lotSize: "0.00001"}
  - {symbol: ETH-USD, tickSize: "0.01", lotSize: "0.0001"}
  - {symbol: SOL-USD, tickSize: "0.01", lotSize: "0.001"}
  auth: {jwks: {secretName: venue-keys, key: jwks.json}}
"""
)
SECRET = {"secretName": "keys", "key": "hs256"}

BAD = {
    "a long name": ({"metadata": {"name": "x" * 41}}, "metadata.name must be 40 characters or fewer"),
    "a name with a dot": ({"metadata": {"name": "crypto.eu"}}, "metadata.name must begin with a letter"),
    "a name that begins with a digit": ({"metadata": {"name": "1crypto"}}, "metadata.name must begin with a"),
    "a shard with the gateway's name": (
        {"spec": {"shards": [{"name": "gateway", "symbols": ["BTC-USD"]}]}},
        "a shard can't be named gateway",
    ),
    "no image": ({"spec": {"image": None}}, "spec.image: Required value"),
    "no shards": ({"spec": {"shards": []}}, "spec.shards in body should have at least 1 items"),
    "a long shard name": (
        {"spec": {"shards": [{"name": "nineteen9", "symbols": ["BTC-USD"]}]}},
        "spec.shards[0].name: Too long: may not be more than 8 bytes",
    ),
    "an unknown field": ({"spec": {"replicas": 3}}, 'unknown field "spec.replicas"'),
    "a symbol twice": (
        {"spec": {"shards": [{"name": "a", "symbols": ["BTC-USD"]}, {"name": "b", "symbols": ["BTC-USD"]}]}},
        "a symbol belongs to one shard: remove it from the others",
    ),
    "a symbol twice in one shard": (
        {"spec": {"shards": [{"name": "a", "symbols": ["BTC-USD", "BTC-USD"]}]}},
        'Duplicate value: "BTC-USD"',
    ),
    "two shards of one name": (
        {"spec": {"shards": [{"name": "a", "symbols": ["BTC-USD"]}, {"name": "a", "symbols": ["SOL-USD"]}]}},
        "Duplicate value",
    ),
    "a symbol that nobody defines": (
        {"spec": {"shards": [{"name": "a", "symbols": ["XRP-USD"]}]}},
        "every symbol of a shard needs its line in instruments",
    ),
    "a tick that is no decimal": (
        {"spec": {"instruments": [{"symbol": "BTC-USD", "tickSize": "1e-2", "lotSize": "1"}]}},
        "spec.instruments[0].tickSize in body should match",
    ),
    "a fee of a hundredth of a ppm": (
        {
            "spec": {
                "instruments": [
                    {"symbol": "BTC-USD", "tickSize": "1", "lotSize": "1", "makerFeeBps": "0.001"}
                ]
            }
        },
        "spec.instruments[0].makerFeeBps in body should match",
    ),
    "half a CPU for the engine": (
        {"spec": {"resources": {"engine": {"cpu": 0.5}}}},
        "spec.resources.engine.cpu in body must be of type integer",
    ),
    "memory without a unit": (
        {"spec": {"resources": {"engine": {"memory": "1000000000"}}}},
        "spec.resources.engine.memory in body should match",
    ),
    "less memory than is mapped": (
        {"spec": {"resources": {"history": {"memory": "256Mi"}}}},
        "resources.history.memory must exceed runtime.sqlite.mmapSizeBytes by more than 64Mi",
    ),
    "no auth": ({"spec": {"auth": {"jwks": None}}}, "give exactly one of auth.jwks and auth.hs256"),
    "both auths": ({"spec": {"auth": {"hs256": SECRET}}}, "give exactly one of auth.jwks and auth.hs256"),
    "threads that make no core": (
        {"spec": {"pinning": {"fullPhysicalCores": True}}},
        "resources.engine.cpu must be a multiple of pinning.threadsPerCore",
    ),
    "a pinning mode that is not offered": (
        {"spec": {"pinning": {"mode": "Maybe"}}},
        'supported values: "None"',
    ),
    "CRI-O without its class": (
        {"spec": {"pinning": {"provider": "CRIOHighPerformance"}}},
        "pinning.provider CRIOHighPerformance needs pinning.runtimeClassName",
    ),
    "a Gateway without a host": (
        {"spec": {"ingress": {"provider": "Gateway", "parentRefs": [{"name": "public"}]}}},
        "ingress.provider Gateway needs ingress.host and at least one of ingress.parentRefs",
    ),
    "an Ingress without a host": (
        {"spec": {"ingress": {"provider": "Ingress"}}},
        "ingress.provider Ingress needs",
    ),
    "a latency objective without a threshold": (
        {"spec": {"slo": {"objectives": [{"name": "p99", "indicator": "order_latency", "target": "99"}]}}},
        "a latency objective needs thresholdMicroseconds",
    ),
    "an objective of 100 %": (
        {"spec": {"slo": {"objectives": [{"name": "up", "indicator": "availability", "target": "100"}]}}},
        "target is a percentage between 0 and 100",
    ),
    "promotion without a verdict": (
        {"spec": {"rollout": {"onInconclusive": "Promote"}}},
        'spec.rollout.onInconclusive: Unsupported value: "Promote"',
    ),
    "a percentile that nobody measures": (
        {"spec": {"rollout": {"gate": {"compare": {"percentile": 98}}}}},
        "Unsupported value: 98",
    ),
    "a Prometheus without a URL": (
        {"spec": {"rollout": {"gate": {"prometheus": {"url": "prometheus:9090"}}}}},
        "spec.rollout.gate.prometheus.url in body should match",
    ),
    "traces to what is no URL": (
        {"spec": {"tracing": {"endpoint": "collector:4318"}}},
        "spec.tracing.endpoint in body should match",
    ),
    "a collector that never collects": (
        {"spec": {"runtime": {"gc": {"percent": 0}}}},
        "spec.runtime.gc.percent in body should be greater than or equal to 10",
    ),
}


@pytest.fixture(scope="module")
def namespace(plane):
    plane.kubectl("create", "namespace", NAMESPACE)
    yield NAMESPACE
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def merged(whole, change):
    if not isinstance(change, dict) or not isinstance(whole, dict):
        return copy.deepcopy(change)
    made = copy.deepcopy(whole)
    for key, value in change.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merged(made.get(key), value)
    return made


def create(plane, manifest, *options):
    return plane.kubectl("create", "--validate=strict", *options, "-f", "-", stdin=json.dumps(manifest))


def test_the_example_is_accepted_and_filled_with_defaults(plane, namespace):
    create(plane, GOOD)

    found = plane.get("-n", namespace, "venue", "crypto")

    assert found["spec"]["resources"]["engine"] == {"cpu": 1, "memory": "1Gi"}
    assert [each["name"] for each in found["spec"]["slo"]["objectives"]] == [
        "order-p99", "ws-p99", "db-p95", "availability",
    ]  # fmt: skip
    assert found["spec"]["rollout"]["gate"]["compare"]["maxLatencyRatioPercent"] == 110
    plane.kubectl("-n", namespace, "delete", "venue", "crypto")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_chart_is_accepted(plane, namespace, name):
    """Also by the rules, which no schema of a file knows."""
    (venue,) = [each for each in objects(example(name)) if each["kind"] == "Venue"]

    assert "created" in create(
        plane, merged(venue, {"metadata": {"namespace": namespace}}), "--dry-run=server"
    )


@pytest.mark.parametrize("what", BAD)
def test_it_refuses(plane, namespace, what):
    change, message = BAD[what]

    with pytest.raises(KubectlFailed) as refused:
        create(plane, merged(GOOD, change), "--dry-run=server")

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {
                "shards": [
                    {"name": "a", "symbols": ["BTC-USD"]},
                    {"name": "b", "symbols": ["SOL-USD", "ETH-USD"]},
                ]
            },
            "a symbol can't move to another shard",
        ),
        ({"storage": {"size": "40Gi"}}, "storage can't be changed"),
    ],
)
def test_it_refuses_a_change(plane, namespace, change, message):
    create(plane, GOOD)
    try:
        with pytest.raises(KubectlFailed) as refused:
            plane.kubectl(
                *("-n", namespace, "patch", "venue", "crypto", "--type=merge", "--dry-run=server"),
                *("-p", json.dumps({"spec": change})),
            )
    finally:
        plane.kubectl("-n", namespace, "delete", "venue", "crypto")

    assert message in str(refused.value)


def test_evidence_can_not_be_edited(plane, namespace):
    run = {
        "apiVersion": "tradsys.dev/v1alpha1",
        "kind": "GateRun",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {
            "venue": "crypto",
            "stable": "a",
            "candidate": "b",
            "stableImage": "one",
            "candidateImage": "two",
        },
    }
    create(plane, run)

    with pytest.raises(KubectlFailed) as refused:
        plane.kubectl(
            "-n", namespace, "patch", "gaterun", "one", "--type=merge", "-p", '{"spec":{"candidate":"c"}}'
        )

    assert "a GateRun is evidence and can't be changed: make another one" in str(refused.value)


def test_the_columns_are_those_that_people_look_for(plane, namespace):
    create(plane, GOOD)

    heading = plane.kubectl("-n", namespace, "get", "venue").splitlines()[0].split()

    assert heading == ["NAME", "PHASE", "READY", "PINNED", "SLO", "SHARDS", "AGE"]
    plane.kubectl("-n", namespace, "delete", "venue", "crypto")
