"""containerd: runs the node's containers, from images that are imported as files."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.kube.cluster import cgroups, mounts, network
from tests.kube.cluster.daemons import Daemons
from tests.kube.cluster.images import BUSYBOX
from tests.kube.cluster.places import CNI_PLUGINS, POD_RANGE, STATE, program

CONTAINERD = "containerd"
DIRECTORY = STATE / CONTAINERD
SOCKET = DIRECTORY / "containerd.sock"
CNI = STATE / "cni"
KUBERNETES_IMAGES = ("-n", "k8s.io")
"""containerd's own namespace of what the kubelet sees."""

# `restrict_oom_score_adj`, `tolerate_missing_hugetlb_controller`: on a machine where root may not do
# everything (a virtual machine without CAP_SYS_RESOURCE) no container would start.
CONFIGURATION = f"""version = 2
root = "{DIRECTORY}/root"
state = "{DIRECTORY}/state"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{BUSYBOX}"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{DIRECTORY}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{CNI}"
"""

NETWORK = {
    "cniVersion": "0.4.0",
    "name": "k8s",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,  # Nothing goes out, so nothing needs another address.
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(STATE / "cni-addresses"),
                "ranges": [[{"subnet": POD_RANGE.replace("/16", "/24")}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def start(daemons: Daemons) -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    CNI.mkdir(exist_ok=True)
    (DIRECTORY / "config.toml").write_text(CONFIGURATION)
    (CNI / "10-bridge.conflist").write_text(json.dumps(NETWORK))
    daemons.start(CONTAINERD, [program("containerd"), f"--config={DIRECTORY / 'config.toml'}"])
    cgroups.adopt(daemons.pid(CONTAINERD))
    daemons.wait_until("containerd", lambda: _ctr("version").returncode == 0, seconds=20)


def import_images(archives: Sequence[Path]) -> None:
    """Give the kubelet images; a pod asks for them with `imagePullPolicy: Never`."""
    for archive in archives:
        ended = _ctr(*KUBERNETES_IMAGES, "images", "import", str(archive))
        if ended.returncode:
            raise OSError(f"{archive.name} can't be imported: {ended.stderr.strip()}")


def tag_image(tag: str, another: str) -> None:
    """Give an image that was imported another name too."""
    ended = _ctr(*KUBERNETES_IMAGES, "images", "tag", "--force", tag, another)
    if ended.returncode:
        raise OSError(f"{tag} can't be tagged: {ended.stderr.strip()}")


def clear() -> None:
    """After containerd is gone: kill its containers, and take their networks and mounts away."""
    namespaces = _network_namespaces()
    cgroups.clear(cgroups.PODS, cgroups.DAEMONS)
    mounts.clear(STATE)
    for name in namespaces:
        subprocess.run([program("ip"), "netns", "delete", name], check=True)


def _network_namespaces() -> set[str]:
    """Names of the network namespaces of our pods; those of others look the same, so only these."""
    names: set[str] = set()
    for bundle in DIRECTORY.glob("state/io.containerd.runtime.v2.task/k8s.io/*/config.json"):
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            for namespace in json.loads(bundle.read_text())["linux"]["namespaces"]:
                path = Path(namespace.get("path", ""))
                if namespace["type"] == "network" and path.name.startswith("cni-") and path.exists():
                    names.add(path.name)
    return names


def _ctr(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [*network.INSIDE, program("ctr"), f"--address={SOCKET}", *arguments]
    return subprocess.run(argv, capture_output=True, text=True)
