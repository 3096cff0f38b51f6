"""The node, the image and the way in, with a venue of plain objects: what the operator may rely on."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest
from tradsys_operator.pinning import cpu_set, evidence_of, judge, mask_of

from tests.kube.cluster import cgroups, network
from tests.kube.cluster.control_plane import KubectlFailed
from tests.kube.cluster.places import NODE
from tests.kube.e2e.way_in import WayIn

HERE = Path(__file__).parent
KEY = os.urandom(32)
POD = "plain-0"


@pytest.fixture(scope="module")
def plane(cluster):
    plane = cluster.plane
    plane.apply(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: trading\n"
        "  labels: {pod-security.kubernetes.io/enforce: restricted}\n"
    )
    key = base64.b64encode(KEY).decode()
    plane.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: plain-keys, namespace: trading}\n"
        f"data: {{hs256: {key}}}\n"
    )
    yield plane
    plane.kubectl("delete", "namespace", "trading", "--wait", seconds=90)


@pytest.fixture(scope="module")
def venue(plane):
    start(plane, engine_cpu="1", exclusive="1")
    client = WayIn("plain.example", KEY)
    plane.daemons.wait_until("the way in", client.answers, seconds=90)
    return client


def start(plane, *, engine_cpu: str, exclusive: str) -> None:
    manifest = (HERE / "plain.yaml").read_text()
    plane.apply(manifest.replace("$ENGINE_CPU", engine_cpu).replace("$EXCLUSIVE", exclusive))
    wait_until_ready(plane)


def wait_until_ready(plane) -> None:
    plane.daemons.wait_until("the venue's pod", lambda: is_ready(plane), seconds=300)


def is_ready(plane) -> bool:
    try:
        pod = plane.get("-n", "trading", "pod", POD)
    except KubectlFailed:
        return False
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def in_container(plane, container: str, program: str) -> str:
    """What a Python program prints that runs in a container of the pod."""
    return plane.kubectl("-n", "trading", "exec", POD, "-c", container, "--", "python", "-c", program)


def evidence(plane, port: int):
    """What a process answers about its CPUs, asked from inside its pod."""
    url = f"http://127.0.0.1:{port}/internal/pinning"
    ask = f"import urllib.request; print(urllib.request.urlopen('{url}').read().decode())"
    return evidence_of(json.loads(in_container(plane, "query", ask)))


ENGINE, HISTORY = 9100, 9102


def test_an_order_placed_through_the_ingress_address_trades(venue):
    resting = venue.place("sell", "50000", "0.5")
    taking = venue.place("buy", "50000", "0.2")

    assert (resting["status"], taking["status"], taking["filled_quantity"]) == ("new", "filled", "0.2")
    assert venue.get(f"/orders/{resting['order_id']}")["remaining_quantity"] == "0.3"


def test_an_ingress_reaches_it_too(venue, plane):
    by_ingress = WayIn("plain-ingress.example", KEY)

    plane.daemons.wait_until("the way in by Ingress", by_ingress.answers, seconds=90)


def test_a_trade_is_heard_over_websocket_through_the_ingress_address(venue):
    def trade():
        venue.place("sell", "49000", "0.1")
        venue.place("buy", "49000", "0.1")

    heard = venue.trades_heard(trade)

    assert "49000" in json.dumps(heard)


def test_an_order_placed_by_grpc_through_the_ingress_address_trades(venue):
    venue.place("sell", "48000", "0.1")

    result = venue.place_by_grpc("buy", "48000", "0.1")

    assert (result.filled_quantity, result.remaining_quantity) == ("0.1", "0")


def test_the_engine_is_pinned_to_a_cpu_of_its_own(venue, plane):
    neighbours = {"history": mask_of(evidence(plane, HISTORY))}

    judgement = judge(evidence(plane, ENGINE), 1, neighbours)

    assert (judgement.verdict, judgement.cpus, neighbours) == ("Pinned", "1", {"history": frozenset({0})})


def test_a_container_that_shares_reads_one_cpu_too_and_is_not_pinned(venue, plane):
    judgement = judge(evidence(plane, HISTORY), 1, {})

    assert (judgement.verdict, judgement.cpus) == ("Shared", "0")


def test_no_other_process_of_any_pod_may_run_on_the_engines_cpu(venue, plane):
    inside = in_container(plane, "engine", "import os; print(*os.sched_getaffinity(0))")
    (engine_cpu,) = cpu_set(inside)

    able = []
    for group in (cgroups.ROOT / "pids" / cgroups.PODS).rglob("cgroup.procs"):
        for pid in group.read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            # What holds a pod's network is in no container's hands, and sleeps for ever.
            if engine_cpu in os.sched_getaffinity(int(pid)) and command != "/busybox sleep infinity":
                able.append(command)
    assert [command.rpartition("bin/")[2] for command in able] == ["tradsys serve engine"]


def test_the_control_plane_keeps_off_the_engines_cpu(venue, plane):
    masks = {name: os.sched_getaffinity(plane.daemons.pid(name)) for name in plane.daemons.running()}
    del masks["containerd"]  # Its containers inherit its mask.

    assert set(map(frozenset, masks.values())) == {frozenset({0})}, masks


def test_a_second_pod_that_wants_a_cpu_of_its_own_waits(venue, plane):
    plane.kubectl(
        "-n", "trading", "run", "second", "--image=localhost/busybox:test", "--image-pull-policy=Never",
        "--overrides", json.dumps({"spec": {"containers": [{
            "name": "second", "image": "localhost/busybox:test", "imagePullPolicy": "Never",
            "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 10001,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            },
        }]}}),
    )  # fmt: skip
    try:

        def refused() -> bool:
            conditions = plane.get("-n", "trading", "pod", "second")["status"].get("conditions", [])
            return any("Insufficient cpu" in each.get("message", "") for each in conditions)

        plane.daemons.wait_until("the scheduler's refusal", refused, seconds=90)
    finally:
        plane.kubectl("-n", "trading", "delete", "pod", "second", "--now")


def test_what_was_answered_survives_the_deletion_of_the_pod(venue, plane):
    placed = venue.place("sell", "60000", "0.7", client_order_id="survives-deletion")

    plane.kubectl("-n", "trading", "delete", "pod", POD)
    wait_until_ready(plane)
    plane.daemons.wait_until("the way in", venue.answers, seconds=90)

    again = venue.get(f"/orders/{placed['order_id']}")
    assert (again["status"], again["remaining_quantity"], again["client_order_id"]) == (
        "new", "0.7", "survives-deletion",
    )  # fmt: skip


def test_a_drain_ends_and_the_venue_is_back_after_it(venue, plane):
    placed = venue.place("sell", "61000", "0.1")
    try:
        plane.kubectl("drain", NODE, "--delete-emptydir-data", "--timeout=60s", seconds=70)
    finally:
        plane.kubectl("uncordon", NODE)

    wait_until_ready(plane)
    plane.daemons.wait_until("the way in", venue.answers, seconds=300)
    assert venue.get(f"/orders/{placed['order_id']}")["status"] == "new"


def test_nothing_goes_out_of_the_cluster(venue, plane):
    """A documentation address (RFC 5737), which no machine has: the answer must come from our own routing."""
    outside = "import socket; socket.create_connection(('203.0.113.1', 80), timeout=5)"

    with pytest.raises(KubectlFailed, match=r"unreachable|No route"):
        in_container(plane, "query", outside)

    shown = subprocess.run(["ip", "route", "show", "proto", network.MARK], capture_output=True, text=True)
    assert [each for each in network.RANGES if f"blackhole {each}" not in shown.stdout] == []


def test_an_engine_without_whole_cpus_is_seen_as_unpinned(venue, plane):
    plane.kubectl("-n", "trading", "delete", "statefulset", "plain", "--wait")
    start(plane, engine_cpu="500m", exclusive="0")

    judgement = judge(evidence(plane, ENGINE), 1, {})

    assert (judgement.verdict, judgement.cpus) == ("Unpinned", "0-1")
