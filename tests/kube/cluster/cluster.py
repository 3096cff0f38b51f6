"""The whole cluster on this machine: up, down, and what it is.

There is one at most: its addresses and names are fixed. Whoever changes it holds a lock meanwhile. `up` and
`down` both begin with removing what an earlier one has left, however that ended.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kube.cluster import cgroups, containers, kubelet, network
from tests.kube.cluster.control_plane import ControlPlane, Ports
from tests.kube.cluster.images import BUSYBOX, K6, Say, product_images, program_image
from tests.kube.cluster.places import (
    GATEWAY_API,
    KUBECONFIG,
    LOCK,
    NODE_ADDRESS,
    STATE,
    MissingProgram,
    program,
)

MANIFESTS = Path(__file__).parent / "manifests"
COREDNS = "localhost/coredns:test"
TRAEFIK = "localhost/traefik:test"
VOLUMES = 12
SHARED_CPU = "0"
"""The CPU that the kubelet never gives away."""
PROGRAMS = (
    "busybox", "conntrack", "containerd", "coredns", "ctr", "etcd", "ip", "iptables", "k6", "kube-apiserver",
    "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet", "nsenter", "runc",
    "taskset", "traefik",
)  # fmt: skip


class Refused(Exception):
    """The cluster can't be changed now; the text says why."""


class Cluster:
    """The node and its control plane, whether it runs or not."""

    def __init__(self, say: Say = print) -> None:
        self.plane = ControlPlane(STATE, ports=Ports(), address=NODE_ADDRESS, prefix=network.INSIDE)
        self._say = say
        self._began = time.monotonic()

    def up(self, *, images: bool = True) -> None:
        """Start everything from nothing; with `images` the product's own are built and imported."""
        self._check_programs()
        with _locked():
            archives = self._archives(images)
            self._began = time.monotonic()
            self._clear()
            try:
                self._start(archives)
            except BaseException:
                # What has died has said why; the rest must not stay behind.
                self._clear()
                raise

    def down(self) -> None:
        """Stop everything, and leave nothing."""
        with _locked():
            self._clear()
            shutil.rmtree(STATE, ignore_errors=True)

    def is_up(self) -> bool:
        try:
            self.plane.daemons.check()
            return bool(self.plane.daemons.running()) and self.plane.answers("/readyz")
        except Exception:
            return False

    def import_images(self, archives: list[Path]) -> None:
        containers.import_images(archives)

    # --- up, step by step ------------------------------------------------------------------------------

    def _start(self, archives: list[Path]) -> None:
        plane = self.plane
        STATE.mkdir(parents=True)
        network.up()
        cgroups.make()
        self._done("network")
        importing = _Beside(lambda: self._start_containers(archives))
        plane.make_keys()
        KUBECONFIG.symlink_to(plane.kubeconfig)
        plane.start_etcd()
        plane.start_api_server()
        self._done("API server")
        crds = _Beside(self._define_gateway_api)
        plane.start_controllers(scheduler=True)
        self._done("controllers and scheduler")
        importing.join()
        self._done("containerd with its images")
        kubelet.start(plane)
        self._add_volumes()
        crds.join()
        for manifest in ("coredns.yaml", "traefik.yaml"):
            plane.apply((MANIFESTS / manifest).read_text())
        plane.daemons.wait_until("the node", lambda: kubelet.is_ready(plane))
        self._done("node is ready")
        for namespace, name in (("kube-system", "coredns"), ("ingress", "traefik")):
            plane.daemons.wait_until(name, lambda: self._has_rolled_out(namespace, name))  # noqa: B023
        plane.daemons.wait_until("the gateway", self._gateway_is_programmed)
        self._done("names and ingress")
        self._keep_off_exclusive_cpus()

    def _start_containers(self, archives: list[Path]) -> None:
        containers.start(self.plane.daemons)
        containers.import_images(archives)

    def _define_gateway_api(self) -> None:
        self.plane.kubectl(
            "apply", "--server-side", "-f", str(GATEWAY_API.resolve())
        )  # kubectl walks no link.

    def _add_volumes(self) -> None:
        template = (MANIFESTS / "volumes.yaml").read_text()
        documents = [(MANIFESTS / "storage.yaml").read_text()]
        for number in range(VOLUMES):
            directory = STATE / "volumes" / str(number)
            directory.mkdir(parents=True)
            documents.append(template.replace("$NUMBER", str(number)).replace("$DIRECTORY", str(directory)))
        self.plane.apply("---\n".join(documents))

    def _has_rolled_out(self, namespace: str, name: str) -> bool:
        status = self.plane.get("-n", namespace, "deployment", name)["status"]
        return bool(status.get("readyReplicas", 0) >= 1)

    def _gateway_is_programmed(self) -> bool:
        status = self.plane.get("-n", "ingress", "gateway", "public").get("status", {})
        return any(each["type"] == "Programmed" and each["status"] == "True" for each in status["conditions"])

    def _keep_off_exclusive_cpus(self) -> None:
        """What belongs to no pod is not subject to the kubelet, and would run on a CPU that it has given
        away."""
        for name in self.plane.daemons.running():
            # Not containerd: containers inherit the mask, and it would limit those that may use all CPUs.
            if name != containers.CONTAINERD:
                pid = str(self.plane.daemons.pid(name))
                argv = [program("taskset"), "--all-tasks", "--cpu-list", "--pid", SHARED_CPU, pid]
                subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)

    # --- down ------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        """Remove everything that is ours, whether it was left by `up`, by `down` or by a crash."""
        self.plane.stop()
        containers.clear()
        # The volumes too: a cluster begins with nothing. And before the blackholes: who found a kubeconfig
        # would ask an address that leads out of the machine.
        shutil.rmtree(STATE, ignore_errors=True)
        network.down()

    # --- what must be there ----------------------------------------------------------------------------

    def _check_programs(self) -> None:
        if os.geteuid() != 0:
            raise Refused("a node needs root: network namespaces, control groups, mounts")
        for name in PROGRAMS:
            program(name)
        if not GATEWAY_API.is_dir():
            raise MissingProgram("the manifests of the Gateway API are missing: `make tools` copies them")

    def _archives(self, images: bool) -> list[Path]:
        tools = [
            program_image(BUSYBOX, program("busybox"), ["/busybox", "sleep", "infinity"]),
            program_image(COREDNS, program("coredns"), ["/coredns"]),
            program_image(TRAEFIK, program("traefik"), ["/traefik"]),
            program_image(K6, program("k6"), ["/k6"]),
        ]
        return [*tools, *(product_images(self._say) if images else [])]

    def _done(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:5.1f} s  {what}")


class _Beside:
    """A step that runs beside others; `join` waits for it and raises what it raised."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            self._step()
        except BaseException as fault:
            self._fault = fault


@contextmanager
def _locked() -> Iterator[None]:
    """One at a time; another one is told at once, and does not wait."""
    with open(LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another `up` or `down` of this machine's cluster is under way") from None
        yield
