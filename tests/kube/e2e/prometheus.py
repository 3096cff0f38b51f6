"""A real Prometheus beside the node that finds the venue's pods by asking the API server, as a PodMonitor of
the operator would have it: the cluster has none of the kinds of a Prometheus operator."""

from __future__ import annotations

import shutil
import urllib.request

import yaml
from tradsys_operator import names

from tests.kube.cluster.cluster import SHARED_CPU
from tests.kube.cluster.control_plane import ControlPlane
from tests.kube.cluster.places import NODE_ADDRESS, program

PROMETHEUS = "prometheus"
PORT = 9090
URL = f"http://{NODE_ADDRESS}:{PORT}"
SCRAPE_S = 1
"""Releases bake for seconds here."""


PORTS = ("history-ops", "feed-ops", "query-ops", "gateway-ops")


def start(plane: ControlPlane, namespace: str) -> None:
    """Scrape the venues of a namespace, but no pod of a gate."""
    directory = plane.directory / PROMETHEUS
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    pod, label = "__meta_kubernetes_pod", "__meta_kubernetes_pod_label"
    role, venue = (name.replace(".", "_").replace("/", "_") for name in (names.ROLE, names.VENUE))
    configuration = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"},
        "scrape_configs": [
            {
                "job_name": namespace,
                "kubernetes_sd_configs": [
                    {
                        "role": "pod",
                        "kubeconfig_file": str(plane.kubeconfig),
                        "namespaces": {"names": [namespace]},
                    }
                ],
                "relabel_configs": [
                    {
                        "source_labels": [f"{pod}_container_port_name"],
                        "regex": "|".join(PORTS),
                        "action": "keep",
                    },
                    {"source_labels": [f"{label}present_{role}"], "regex": "true", "action": "drop"},
                    {"source_labels": [f"{label}_{venue}"], "target_label": venue},
                    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                    {"source_labels": [f"{pod}_name"], "target_label": "pod"},
                ],
            }
        ],
    }
    file = directory / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration))
    plane.daemons.start(
        PROMETHEUS,
        [
            program("taskset"), "--cpu-list", SHARED_CPU,
            program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address={NODE_ADDRESS}:{PORT}", "--log.level=warn",
        ],
    )  # fmt: skip
    plane.daemons.wait_until("Prometheus", _is_ready, seconds=60)


def stop(plane: ControlPlane) -> None:
    if PROMETHEUS in plane.daemons.running():
        plane.daemons.stop(PROMETHEUS)


def _is_ready() -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{URL}/-/ready", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
