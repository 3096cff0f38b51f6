"""The node itself: a kubelet that gives whole CPUs away, and kube-proxy, which makes Services reachable.

`kubeReserved: 100m` with the static CPU manager keeps one whole CPU for everybody and hands out the others.
On two CPUs that is one exclusive CPU, and 900m of the first one for pods that share.
"""

from __future__ import annotations

import json

from tests.kube.cluster import cgroups
from tests.kube.cluster.containers import SOCKET
from tests.kube.cluster.control_plane import LOOPBACK, ControlPlane
from tests.kube.cluster.places import DNS_SERVICE, NODE, NODE_ADDRESS, POD_RANGE, STATE, program

KUBELET, PROXY = "kubelet", "kube-proxy"
DIRECTORY = STATE / KUBELET


def start(plane: ControlPlane) -> None:
    """Start both; the node is ready when `is_ready` says so."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    # Pods that use the node's names ask nobody: the cluster's own server is the only one there is.
    (STATE / "resolv.conf").write_text(f"nameserver {NODE_ADDRESS}\n")
    (STATE / "kubelet.json").write_text(json.dumps(_kubelet(plane), indent=1))
    (STATE / "kube-proxy.json").write_text(json.dumps(_proxy(plane), indent=1))
    plane.daemons.start(
        KUBELET,
        [
            program("kubelet"),
            f"--config={STATE / 'kubelet.json'}",
            f"--kubeconfig={plane.kubeconfig_of('kubelet')}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
            f"--root-dir={DIRECTORY}",
            f"--cert-dir={DIRECTORY / 'pki'}",
        ],
    )
    plane.daemons.start(PROXY, [program("kube-proxy"), f"--config={STATE / 'kube-proxy.json'}"])


def is_ready(plane: ControlPlane) -> bool:
    nodes = plane.get("nodes")["items"]
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for node in nodes
        for condition in node["status"]["conditions"]
    )


def _kubelet(plane: ControlPlane) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": plane.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups.KUBELET_ROOT,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cpuManagerPolicy": "static",
        "cpuManagerReconcilePeriod": "1s",
        "kubeReserved": {"cpu": "100m"},
        "evictionHard": {
            "memory.available": "100Mi",
            **{
                f"{each}.{what}": "1%"
                for each in ("nodefs", "imagefs")
                for what in ("available", "inodesFree")
            },
        },
        "failCgroupV1": False,
        "failSwapOn": False,
        "healthzBindAddress": LOOPBACK,
        "imageGCHighThresholdPercent": 100,  # What is removed can't be pulled again.
        "maxOpenFiles": 20000,
        "nodeStatusUpdateFrequency": "4s",
        "oomScoreAdj": 0,
        "podLogsDir": str(STATE / "pod-logs"),
        "resolvConf": str(STATE / "resolv.conf"),
        "syncFrequency": "5s",
        "tlsCertFile": plane.pki("kubelet.crt"),
        "tlsPrivateKeyFile": plane.pki("kubelet.key"),
        "volumePluginDir": str(DIRECTORY / "volume-plugins"),
    }


def _proxy(plane: ControlPlane) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(plane.kubeconfig_of("kube-proxy"))},
        "clusterCIDR": POD_RANGE,
        # Connection tracking belongs to the machine, and is not ours to tune.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
        },
        "hostnameOverride": NODE,
        "oomScoreAdj": 0,
    }
