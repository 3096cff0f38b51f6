"""A real API server with the operator's CRDs, on loopback, once for all tests of this folder.

`make tools GROUP="etcd kube-apiserver kube-controller-manager kubectl"` builds what it needs; without it
these tests are skipped, except under E2E=1, where they must run."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

import pytest
import yaml
from tradsys_operator import crd
from tradsys_operator.api import API_VERSION

from tests.kube.cluster.control_plane import control_plane
from tests.kube.cluster.places import MissingProgram, program
from tests.kube.control.process import (
    ACCOUNT,
    CHART,
    LEASE,
    SYSTEM,
    Left,
    OperatorProcess,
    helm,
    kubeconfig_of,
)
from tests.kube.control.venues import a_namespace

# Stories of releases take seconds each: they belong to `make e2e`.
if os.environ.get("E2E") != "1":
    collect_ignore = ["test_operator.py", "test_process.py", "test_charts.py", "test_dashboards.py"]

NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager")


@pytest.fixture(scope="session")
def plane(tmp_path_factory):
    try:
        for name in NEEDED:
            program(name)
    except MissingProgram as missing:
        if os.environ.get("E2E") == "1":
            raise
        pytest.skip(str(missing))
    with control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
        plane.apply(yaml.safe_dump_all(crd.crds()))
        for each in crd.crds():
            path = f"/apis/{API_VERSION}/{each['spec']['names']['plural']}"
            plane.daemons.wait_until(path, lambda path=path: plane.answers(path))
        yield plane


@pytest.fixture(scope="session")
def kubeconfig(plane, tmp_path_factory):
    """Of the service account that the chart brings."""
    helm(
        plane,
        *("install", ACCOUNT, str(CHART), "-n", SYSTEM, "--create-namespace"),
        "--set",
        "crds.create=false",
    )
    token = plane.kubectl("-n", SYSTEM, "create", "token", ACCOUNT, "--duration=2h").strip()
    return kubeconfig_of(plane, token, tmp_path_factory.mktemp("account") / "kubeconfig")


@pytest.fixture
def run():
    """Runs a coroutine to its end."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def left(plane, kubeconfig, tmp_path):
    """A namespace, and as many operators for it as names are given; the first one leads already."""

    @asynccontextmanager
    async def made(*identities):
        namespace = a_namespace()
        plane.kubectl("create", "namespace", namespace)
        # Whoever was killed could not give it back.
        plane.kubectl("delete", "--ignore-not-found", *LEASE)
        venues = Left(plane, namespace)
        operators = [OperatorProcess(tmp_path, kubeconfig, namespace, each) for each in identities]
        try:
            for each in operators:
                each.start()
                if each is operators[0]:
                    await each.until_leading()
            yield venues, *operators
        except Exception as fault:
            fault.add_note("\n".join(each.said() for each in operators))
            raise
        finally:
            for each in operators:
                each.stop()
        await venues.client.close()
        plane.kubectl("delete", "namespace", namespace, "--wait=false")

    return made
