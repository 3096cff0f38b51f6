"""Real operator processes with the chart's own rights, beside pods that only pretend.

The pods have addresses of this machine's loopback: an operator asks them about themselves, nobody answers,
and no packet leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from httpx2 import HTTPError

from tests.kube.cluster.control_plane import ControlPlane
from tests.kube.cluster.places import REPOSITORY, program
from tests.kube.control.node import Node
from tests.kube.control.venues import Venues, client_of

SYSTEM = "tradsys-system"
ACCOUNT = "tradsys-operator"
"""Of the chart's release, and its service account."""
CHART = REPOSITORY / "charts/tradsys-operator"
LEASE = ("-n", SYSTEM, "lease", "tradsys-operator")
LOOPBACK = "127.9.0."
POLL_S = 0.1


def helm(plane: ControlPlane, *arguments: str) -> str:
    """What helm prints. Raises CalledProcessError with what it says."""
    argv = [program("helm"), f"--kubeconfig={plane.kubeconfig}", *arguments]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    if ended.returncode:
        fault = subprocess.CalledProcessError(ended.returncode, argv, ended.stdout, ended.stderr)
        fault.add_note(ended.stderr)
        raise fault
    return ended.stdout


def kubeconfig_of(plane: ControlPlane, token: str, path: Path) -> Path:
    """A kubeconfig of a service account."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [
            {
                "name": "it",
                "cluster": {"server": plane.server, "certificate-authority": plane.pki("ca.crt")},
            }
        ],
        "users": [{"name": "it", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


class OperatorProcess:
    """`tradsys-operator run` for one namespace; it ends with this process."""

    def __init__(self, directory: Path, kubeconfig: Path, namespace: str, identity: str):
        self.identity = identity
        self.port = free_port()
        self._argv = [
            *(
                program("setpriv"),
                "--pdeathsig",
                "KILL",
                "--",
                sys.executable,
                "-m",
                "tradsys_operator",
                "run",
            ),
            *("--namespace", namespace, "--operator-namespace", SYSTEM, "--identity", identity),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        ]
        self._env = os.environ | {"KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1"}
        self._log = directory / f"{identity}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, env=self._env, stdout=log, stderr=log)
        self.starts += 1

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def ended(self) -> int | None:
        """Its exit code, None while it lives."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """Ask it to end, so that it gives the lease back."""
        if self._process is None or self.ended() is not None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def leads(self) -> bool:
        return self.asked("/healthz").startswith("leader")

    def asked(self, path: str) -> str:
        """What its port says, empty if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as reply:
                return str(reply.read().decode())
        except (OSError, urllib.error.URLError):
            return ""

    def said(self) -> str:
        """Its last words."""
        return self._log.read_text(errors="replace")[-4000:]

    async def until_leading(self, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(self.leads):
                assert self.ended() is None, self.said()
                await asyncio.sleep(POLL_S)

    async def keep_alive(self) -> None:
        """As a kubelet does: what has ended is started again, for ever."""
        while True:
            if self.ended() is not None:
                self.start()
            await asyncio.sleep(0.5)


class Left(Venues):
    """A Venue that is left to operators that run by themselves; a step only moves the pods."""

    def __init__(self, plane: ControlPlane, namespace: str):
        super().__init__(client_of(plane), namespace)
        self.node = Node(self.client, namespace, LOOPBACK)

    async def step(self) -> None:
        try:
            await self.node.step()
            await self.check()
        except HTTPError:
            # The API server may be away; whoever waits for something says for how long.
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(POLL_S)

    async def steps(self, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            await self.step()
