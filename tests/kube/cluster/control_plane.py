"""etcd, the API server and the controllers: Kubernetes without a node.

By itself it listens on 127.0.0.1 only, on ports that the system picks, needs no root, and ends with the
process that started it. That is what the operator's tests run against; a node (see kubelet.py) uses the same
in its network namespace.
"""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kube.cluster.daemons import Daemons
from tests.kube.cluster.pki import Authority
from tests.kube.cluster.places import API_SERVICE, NODE, POD_RANGE, SERVICE_RANGE, program

LOOPBACK = "127.0.0.1"
ETCD, API_SERVER, CONTROLLERS, SCHEDULER = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
)


class KubectlFailed(Exception):
    """Carries what kubectl said."""


@dataclass(frozen=True)
class Ports:
    etcd: int = 2379
    etcd_peer: int = 2380
    api: int = 6443
    controllers: int = 10257
    scheduler: int = 10259


def free_ports() -> Ports:
    """Ports of 127.0.0.1 that nobody holds now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(5)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))


class ControlPlane:
    """Its files are in `directory`. With an `address` other than loopback, pods can reach it."""

    def __init__(
        self, directory: Path, *, ports: Ports, address: str = LOOPBACK, prefix: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.address = address
        self.daemons = Daemons(directory / "daemons", prefix=prefix)
        self._ports = ports
        self._pki = directory / "pki"

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self._ports.api}"

    @property
    def kubeconfig(self) -> Path:
        return self._pki / "admin.kubeconfig"

    def kubeconfig_of(self, user: str) -> Path:
        return self._pki / f"{user}.kubeconfig"

    def pki(self, file: str) -> str:
        return str(self._pki / file)

    def start(self, *, scheduler: bool = False) -> None:
        """Start everything, and wait until the API server and the controllers are healthy."""
        self.make_keys()
        self.start_etcd()
        self.start_api_server()
        self.start_controllers(scheduler=scheduler)

    def stop(self) -> None:
        """Take everything away; what it remembered is thrown away anyhow, so nobody is asked to finish."""
        self.daemons.stop_all(by=signal.SIGKILL)

    def make_keys(self) -> None:
        authority = Authority(self._pki)
        names = (
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        )
        hosts = (*names, "localhost", LOOPBACK, API_SERVICE, *{self.address} - {LOOPBACK})
        authority.certificate("apiserver", "kube-apiserver", hosts=hosts)
        authority.certificate("apiserver-client", "kube-apiserver-kubelet-client", "system:masters")
        authority.certificate("front-proxy", "front-proxy-client")
        authority.signing_key("service-accounts")
        for user, common_name, group in (
            ("admin", "admin", "system:masters"),
            ("controllers", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("kube-proxy", "system:kube-proxy", None),
            ("kubelet", f"system:node:{NODE}", "system:nodes"),
        ):
            hosts = (NODE, "localhost", LOOPBACK, self.address) if user == "kubelet" else ()
            authority.certificate(user, common_name, group, hosts)
            authority.kubeconfig(user, self.server)

    def start_etcd(self) -> None:
        client = f"http://{LOOPBACK}:{self._ports.etcd}"
        peer = f"http://{LOOPBACK}:{self._ports.etcd_peer}"
        self.daemons.start(
            ETCD,
            [
                program("etcd"),
                f"--data-dir={self.directory / 'etcd'}",
                # It need not survive a power cut, and shares the disk with what is measured.
                "--unsafe-no-fsync",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--log-level=warn",
            ],
        )

    def start_api_server(self) -> None:
        """Start the API server, and wait until it is ready; its data are etcd's."""
        alone = self.address == LOOPBACK
        self.daemons.start(
            API_SERVER,
            [
                program("kube-apiserver"),
                f"--etcd-servers=http://{LOOPBACK}:{self._ports.etcd}",
                f"--bind-address={LOOPBACK if alone else '0.0.0.0'}",
                f"--advertise-address={self.address}",
                # A loopback address is no endpoint for pods, and the reconciler refuses it.
                f"--endpoint-reconciler-type={'none' if alone else 'lease'}",
                f"--secure-port={self._ports.api}",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                f"--tls-cert-file={self.pki('apiserver.crt')}",
                f"--tls-private-key-file={self.pki('apiserver.key')}",
                f"--client-ca-file={self.pki('ca.crt')}",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={self.pki('service-accounts.pub')}",
                f"--service-account-signing-key-file={self.pki('service-accounts.key')}",
                f"--kubelet-client-certificate={self.pki('apiserver-client.crt')}",
                f"--kubelet-client-key={self.pki('apiserver-client.key')}",
                f"--kubelet-certificate-authority={self.pki('ca.crt')}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--requestheader-client-ca-file={self.pki('ca.crt')}",
                "--requestheader-allowed-names=front-proxy-client",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                f"--proxy-client-cert-file={self.pki('front-proxy.crt')}",
                f"--proxy-client-key-file={self.pki('front-proxy.key')}",
            ],
        )
        self.daemons.wait_until("the API server", lambda: self.answers("/readyz"), seconds=300)

    def stop_api_server(self) -> None:
        """Take the API server away at once; the other processes stay and try again until it is back."""
        # Asked to end, it waits until all watches have ended, which takes a quarter of a minute.
        self.daemons.stop(API_SERVER, by=signal.SIGKILL)

    def bring_back_api_server(self) -> None:
        """After `stop_api_server`: start it, and the controllers anew.

        Their watches try again ever more rarely, up to a minute apart. In a cluster they hold a lease, end
        when they can't renew it for ten seconds, and a kubelet starts them; here they hold none.
        """
        self.start_api_server()
        self.daemons.stop(CONTROLLERS, by=signal.SIGKILL)
        self.start_controllers(scheduler=False)

    def start_controllers(self, *, scheduler: bool) -> None:
        """Start the controllers, and wait until a pod may be created: until its service account exists."""
        self.daemons.start(
            CONTROLLERS,
            [
                program("kube-controller-manager"),
                *self._as_user("controllers"),
                f"--secure-port={self._ports.controllers}",
                f"--service-account-private-key-file={self.pki('service-accounts.key')}",
                f"--root-ca-file={self.pki('ca.crt')}",
                f"--cluster-signing-cert-file={self.pki('ca.crt')}",
                f"--cluster-signing-key-file={self.pki('ca.key')}",
                "--use-service-account-credentials=true",
                "--allocate-node-cidrs=true",
                f"--cluster-cidr={POD_RANGE}",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
            ],
        )
        if scheduler:
            self.daemons.start(
                SCHEDULER,
                [
                    program("kube-scheduler"),
                    *self._as_user("scheduler"),
                    f"--secure-port={self._ports.scheduler}",
                ],
            )
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self.daemons.wait_until("the default service account", lambda: self.answers(account))

    def _as_user(self, user: str) -> list[str]:
        config = self.kubeconfig_of(user)
        return [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--bind-address={LOOPBACK}",
            "--leader-elect=false",  # There is one of each, and an election costs seconds.
        ]

    def answers(self, path: str) -> bool:
        """Whether the API server answers a path with 200, now."""
        context = ssl.create_default_context(cafile=self.pki("ca.crt"))
        context.load_cert_chain(self.pki("admin.crt"), self.pki("admin.key"))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"{self.server}{path}", timeout=5) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        """What kubectl prints; KubectlFailed with what it says when it does not end with 0 within
        `seconds`."""
        argv = [program("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        try:
            ended = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired as late:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: not within {seconds:g} s") from late
        if ended.returncode:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {ended.stderr.strip()}")
        return ended.stdout

    def get(self, *arguments: str) -> Any:
        """`kubectl get … -o json`, decoded."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, manifest: str) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", stdin=manifest)


@contextmanager
def control_plane(directory: Path) -> Iterator[ControlPlane]:
    """A control plane on 127.0.0.1 for the time of a `with`; it ends also when this process is killed."""
    plane = ControlPlane(
        directory, ports=free_ports(), prefix=(program("setpriv"), "--pdeathsig", "KILL", "--")
    )
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
