"""A venue of one build, in processes of its own, on free ports of loopback and in a directory of its own.

The engine gets the last CPU for itself where there are two or more; everything else, k6 too, shares the rest.
So what is measured is the engine and not how the machine divides two cores among six processes; the report
says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
READY_S = 60.0
STOP_S = 20.0
ACCOUNT = "demo"
SYMBOL = "BTC-USD"
OPS_PORTS = {
    "engine": "ops_port",
    "history": "history_port",
    "feed": "feed_ops_port",
    "query": "query_ops_port",
    "gateway": "gateway_ops_port",
}


class VenueError(Exception):
    """The build does not come up, or did not stay up: a verdict on it, not on the machine."""


class Venue:
    """`app` is the folder that holds the package `tradsys`: another build's, if it is not this one's."""

    def __init__(self, directory: Path, app: Path | None, processes: tuple[str, ...]) -> None:
        self.directory = directory
        self.names = processes
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("TRADSYS_")}
        self._env["TRADSYS_DATA_DIR"] = str(directory / "data")
        if app:
            self._env["PYTHONPATH"] = str(app)
        # Each build knows its own ports; an older one may have fewer.
        settings = json.loads(self._tradsys("config", "--json"))
        names = [one["name"] for one in settings if one["name"] == "port" or one["name"].endswith("_port")]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._env |= {f"TRADSYS_{name.upper()}": str(port) for name, port in self.ports.items()}
        self.token = ""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.ports['port']}"

    @property
    def ws_url(self) -> str:
        return f"ws://{HOST}:{self.ports['ws_port']}/ws"

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes.values()]

    def start(self) -> None:
        """Start all processes, wait until each is ready. Raises VenueError with the words of who ends."""
        cpus = sorted(os.sched_getaffinity(0))
        # If this program is killed, nothing of the venue may stay behind.
        with_us = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        for name in self.names:
            with open(self.directory / f"{name}.log", "ab") as log:
                process = subprocess.Popen(
                    [*with_us, sys.executable, "-m", "tradsys", "serve", name],
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            self.processes[name] = process
            if len(cpus) > 1:
                os.sched_setaffinity(process.pid, cpus[-1:] if name == "engine" else cpus[:-1])
        deadline = time.monotonic() + READY_S
        for name in self.names:
            while not self._ready(name):
                self.check()
                if time.monotonic() > deadline:
                    raise VenueError(f"{name} is not ready after {READY_S:.0f} s: {self._last_words(name)}")
                time.sleep(0.05)
        self.token = self._tradsys("token", "--account", ACCOUNT, "--ttl", "6h").strip()

    def check(self) -> None:
        """Raises VenueError if a process has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise VenueError(f"{name} ended with {process.returncode}: {self._last_words(name)}")

    def metrics(self, name: str) -> str:
        """The page of metrics of one process's ops port. Raises OSError if it does not answer."""
        return self._get(name, "/metrics")

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def _ready(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            self._get(name, "/readyz")
            return True
        return False

    def _get(self, name: str, path: str) -> str:
        url = f"http://{HOST}:{self.ports[OPS_PORTS[name]]}{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def _tradsys(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "tradsys", *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True)
        if done.returncode:
            raise VenueError(
                f"`tradsys {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}"
            )
        return done.stdout

    def _last_words(self, name: str) -> str:
        lines = (self.directory / f"{name}.log").read_text("utf-8", "replace").strip().splitlines()
        return "\n".join(lines[-5:]) or "it said nothing"


@contextlib.contextmanager
def running_venue(directory: Path, app: Path | None, processes: tuple[str, ...]) -> Iterator[Venue]:
    venue = Venue(directory, app, processes)
    try:
        venue.start()
        yield venue
    finally:
        venue.stop()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on; held together, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
