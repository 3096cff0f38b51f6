"""From `helm install` to a trade: the charts, the operator and the image on a real node."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.kube.cluster import images
from tests.kube.cluster.places import KUBECONFIG, NODE, REPOSITORY, program
from tests.kube.e2e.way_in import WayIn

KEY = os.urandom(48).hex()
HOST = "trade.example"
NAMESPACE, OPERATORS = "crypto", "tradsys-system"
VENUE, POD = "crypto", "crypto-a-0"


def helm(*arguments: str, seconds: float = 120) -> str:
    argv = [program("helm"), f"--kubeconfig={KUBECONFIG}", *arguments]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, cwd=REPOSITORY)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return ended.stdout


@pytest.fixture(scope="module")
def plane(cluster):
    plane = cluster.plane
    for namespace in (NAMESPACE, OPERATORS):
        plane.apply(
            f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n"
            "  labels: {pod-security.kubernetes.io/enforce: restricted}\n"
        )
    plane.kubectl(
        "-n", NAMESPACE, "create", "secret", "generic", "tradsys-keys", f"--from-literal=hs256.key={KEY}"
    )
    repository, _, tag = images.OPERATOR.rpartition(":")
    helm(
        "install", "operator", "charts/tradsys-operator", "--namespace", OPERATORS, "--wait",
        "--timeout", "90s",
        "--set", f"image.repository={repository},image.tag={tag},image.pullPolicy=Never",
    )  # fmt: skip
    yield plane
    helm("uninstall", VENUE, "--namespace", NAMESPACE, "--ignore-not-found")
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait", seconds=300)
    helm("uninstall", "operator", "--namespace", OPERATORS)


@pytest.fixture(scope="module")
def venue(plane):
    ingress = {"provider": "Gateway", "scheme": "http", "host": HOST}
    ingress["parentRefs"] = [{"name": "public", "namespace": "ingress"}]
    values = {
        "venue": {
            "image": images.APP,
            "ingress": ingress,
            "pinning": {"mode": "Required", "spin": "never"},  # Others may need what it would spin away.
            "rollout": {"gate": {"k6": {"image": images.K6, "profile": "ci"}}},
        }
    }
    file = plane.directory / "values.json"
    file.write_text(json.dumps(values))
    helm(
        "install", VENUE, "charts/tradsys", "--namespace", NAMESPACE,
        "--values", "charts/examples/ci.yaml", "--values", str(file),
    )  # fmt: skip
    wait_for(plane, "Ready", seconds=240)
    exec_in(plane, "tradsys", "admin", "account", "create", "demo")
    client = WayIn(HOST, KEY.encode())
    plane.daemons.wait_until("the way in", client.answers, seconds=90)
    return client


def wait_for(plane, condition: str, *, seconds: int = 120) -> None:
    plane.kubectl(
        "-n", NAMESPACE, "wait", f"venue/{VENUE}", f"--for=condition={condition}", f"--timeout={seconds}s",
        seconds=seconds + 10,
    )  # fmt: skip


def exec_in(plane, *argv: str) -> str:
    return plane.kubectl("-n", NAMESPACE, "exec", POD, "-c", "engine", "--", *argv)


def test_an_order_placed_through_the_ingress_address_trades(venue):
    resting = venue.place("sell", "50000", "0.5")
    taking = venue.place("buy", "50000", "0.2")

    assert (resting["status"], taking["status"], taking["filled_quantity"]) == ("new", "filled", "0.2")
    assert venue.get(f"/orders/{resting['order_id']}")["remaining_quantity"] == "0.3"


def test_a_trade_is_heard_over_websocket_through_the_ingress_address(venue):
    def trade():
        venue.place("sell", "49000", "0.1")
        venue.place("buy", "49000", "0.1")

    assert "49000" in json.dumps(venue.trades_heard(trade))


def test_an_order_placed_by_grpc_through_the_ingress_address_trades(venue):
    venue.place("sell", "48000", "0.1")

    result = venue.place_by_grpc("buy", "48000", "0.1")

    assert (result.filled_quantity, result.remaining_quantity) == ("0.1", "0")


def test_the_operator_reports_the_engine_as_pinned_and_the_container_sees_one_cpu_of_its_own(venue, plane):
    wait_for(plane, "CPUPinned")

    inside = json.loads(exec_in(plane, "python", "-c", "import os; print(list(os.sched_getaffinity(0)))"))
    given = json.loads((plane.directory / "kubelet" / "cpu_manager_state").read_text())
    assert inside == [1]
    assert [cpus for pod in given["entries"].values() for cpus in pod.values()] == ["1"]


def test_helm_test_places_reads_and_cancels_an_order(venue, plane):
    exec_in(plane, "tradsys", "admin", "account", "create", "helm-test")

    said = helm("test", VENUE, "--namespace", NAMESPACE, "--timeout", "90s", seconds=100)

    assert "Phase:          Succeeded" in said


def test_what_was_answered_survives_the_deletion_of_the_pod(venue, plane):
    placed = venue.place("sell", "60000", "0.7", client_order_id="survives-deletion")

    plane.kubectl("-n", NAMESPACE, "delete", "pod", POD, seconds=90)
    plane.daemons.wait_until("the way in", venue.answers, seconds=90)

    again = venue.get(f"/orders/{placed['order_id']}")
    assert (again["status"], again["remaining_quantity"], again["client_order_id"]) == (
        "new", "0.7", "survives-deletion",
    )  # fmt: skip


def test_a_drain_ends_and_the_venue_is_back_after_it(venue, plane):
    placed = venue.place("sell", "61000", "0.1")
    try:
        # The operator is drained too: its pod has local data, a folder in memory.
        plane.kubectl("drain", NODE, "--delete-emptydir-data", "--timeout=120s", seconds=130)
    finally:
        plane.kubectl("uncordon", NODE)

    plane.daemons.wait_until("the way in", venue.answers, seconds=300)
    assert venue.get(f"/orders/{placed['order_id']}")["status"] == "new"
    wait_for(plane, "Ready", seconds=180)
