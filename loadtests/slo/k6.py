"""k6 as a process: the binary of `make tools`, or the image with K6=docker.

Its exit code alone is not believed: with no threshold that can fail it is 0 for a run in which nothing was
answered. The scripts carry guards (venue.js) and write what they found to a file; a run without that file has
failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

SCRIPTS = Path(__file__).parents[1]
BUILT = SCRIPTS.parent / "build" / "tools" / "k6"
IMAGE = "grafana/k6:1.8.1"
THRESHOLDS_MISSED = 99
"""The exit code of k6 when a threshold was not met."""
GRACE_S = 45.0
"""How much longer than its load a run may take to start and to end."""
END_S = 5.0


class K6Error(Exception):
    """k6 can't be run at all."""


class Findings(Struct, frozen=True):
    """What a script wrote; see `verdict` in venue.js."""

    samples: int
    latency_us: dict[str, float]
    latency_by_us: dict[str, dict[str, float]]
    placed: int
    throughput_per_s: float
    failed_ratio: float
    checks_ratio: float
    wrong: dict[str, int]
    dropped: int
    thresholds: list[str] | str


class Run(Struct, frozen=True):
    """A finished run."""

    script: str
    exit_code: int
    said: str
    """The end of what it printed."""
    findings: Findings | None
    """None: it wrote none, because it could not begin or was ended."""

    def problems(self) -> list[str]:
        """What is wrong with the answers or the script, whatever the machine did; empty: nothing."""
        if self.findings is None:
            return [f"{self.script} ended with {self.exit_code} and no findings: {self.said}"]
        found = self.findings
        problems = [
            f"{self.script}: wrong answer, {count} times: {name}" for name, count in found.wrong.items()
        ]
        if found.failed_ratio > 0:
            problems.append(f"{self.script}: {found.failed_ratio:.2%} of the requests failed")
        if found.samples == 0:
            problems.append(f"{self.script}: not one right answer")
        if self.exit_code not in (0, THRESHOLDS_MISSED):
            problems.append(f"{self.script}: k6 ended with {self.exit_code}: {self.said}")
        return problems

    def shortfalls(self) -> list[str]:
        """What a busy machine may explain: thresholds that were not met, beside wrong answers."""
        if self.findings is None or self.findings.thresholds == "ok":
            return []
        return [f"{self.script}: {threshold}" for threshold in self.findings.thresholds]


class K6:
    """How to run it; `K6` in the environment names a binary, or is `docker`."""

    def __init__(self) -> None:
        chosen = os.environ.get("K6", "")
        self.docker = chosen == "docker"
        self.binary = chosen or (str(BUILT) if BUILT.exists() else shutil.which("k6") or "")
        if not self.docker and not (self.binary and shutil.which(self.binary)):
            raise K6Error("there is no k6: `make tools GROUP=k6` builds it; K6=docker takes its image")

    def start(self, script: Path, env: Mapping[str, str], verdict: Path) -> subprocess.Popen[str]:
        """Start a script; `finish` waits for it. k6 gets no CPU of the engine's, see venue.py."""
        arguments = ["run", "--no-usage-report", "--quiet", "--no-color", "--log-format", "raw"]
        # Two at once would quarrel about the port of k6's own API.
        arguments += ["--address", "127.0.0.1:0"]
        # Proxies of the machine's are not for loopback.
        given = {**env, "VERDICT_FILE": str(verdict), "NO_PROXY": "*"}
        cpus = sorted(os.sched_getaffinity(0))
        free = cpus[:-1] or cpus
        if self.docker:
            scripts, found = script.parent.resolve(), verdict.parent.resolve()
            command = ["docker", "run", "--rm", "--network", "host", "--user", str(os.getuid())]
            # The container is no child of ours: it would not inherit our CPUs.
            command += ["--cpuset-cpus", ",".join(map(str, free))]
            command += ["-v", f"{scripts}:{scripts}:ro", "-v", f"{found}:{found}"]
            # Names only: values, the token among them, do not belong into a command line.
            command += [word for name in given for word in ("-e", name)]
            command += [IMAGE]
        else:
            command = [self.binary]
        process = subprocess.Popen(
            [*command, *arguments, str(script.resolve())],
            env={**os.environ, **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.sched_setaffinity(process.pid, free)
        return process

    @staticmethod
    def finish(process: subprocess.Popen[str], script: Path, verdict: Path, timeout_s: float) -> Run:
        """Wait for a started script; one that does not end in time is ended, and has found nothing."""
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            # A signal that can be handed on: killing the client of Docker would leave the container running.
            process.terminate()
            try:
                said, _ = process.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
            said += f"\nit had not ended after {timeout_s:.0f} s"
        findings = None
        try:
            findings = msgspec.json.decode(verdict.read_bytes(), type=Findings)
        except (OSError, msgspec.MsgspecError) as error:
            said += f"\n{error}"
        return Run(script.stem, process.returncode, "\n".join(said.strip().splitlines()[-6:]), findings)


def told(findings: Findings | None) -> dict[str, Any]:
    return msgspec.to_builtins(findings) if findings else {}
