"""One node for all tests of this folder. They need root, minutes and the tools: `make e2e` runs them.

A cluster that is up already (`make cluster-up`) is used and stays, with the images it has; otherwise one is
started and taken down at the end.
"""

from __future__ import annotations

import os

import pytest

from tests.kube.cluster.cluster import Cluster

if os.environ.get("E2E") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def cluster():
    cluster = Cluster()
    if cluster.is_up():
        yield cluster
        return
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()
