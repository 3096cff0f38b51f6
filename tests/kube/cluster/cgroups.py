"""The control groups of the cluster: one name in each hierarchy, below which is everything that it runs.

Whatever is left in them when a cluster ends is killed: containers, their shims, daemons of a run that was
killed. So a leftover need not be known by name. The layout of cgroup v1 (one tree per controller) is the
one that is tried; of v2 (one tree) only the making of the directory is different.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.kube.cluster.places import NAME

ROOT = Path("/sys/fs/cgroup")
KUBELET_ROOT = f"/{NAME}"
"""The kubelet's cgroupRoot: its `kubepods` lie here."""
PODS = NAME
DAEMONS = f"{NAME}-daemons"
"""Where containerd lives, and with it the shims that it starts."""
DOCKER = f"{NAME}-docker"

CPU_SHARES, CPU_WEIGHT = 20_480, 2_000
"""Twenty times what a process or a group gets that nobody has said anything about, in v1 and in v2."""


def make() -> None:
    for tree in _trees():
        _make(tree / PODS)
        # Pods come before what else this machine does: releases are compared in them.
        for file, weight in (("cpu.shares", CPU_SHARES), ("cpu.weight", CPU_WEIGHT)):
            if (tree / PODS / file).exists():
                (tree / PODS / file).write_text(str(weight))
        # In a v1 tree of no CPUs at all nothing can run.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (tree / file).exists():
                (tree / PODS / file).write_text((tree / file).read_text())
    _make(_tree_of_daemons() / DAEMONS)


def adopt(pid: int) -> None:
    """Put a daemon where it and its children are found again."""
    (_tree_of_daemons() / DAEMONS / "cgroup.procs").write_text(str(pid))


def clear(*names: str) -> None:
    """Kill what is left in the groups of these names, and take them away."""
    deadline = time.monotonic() + 10
    while pids := set(_left(names)):
        assert time.monotonic() < deadline, f"these processes don't die: {sorted(pids)}"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for group in _groups(names):
        # The kernel lets go of a dead process's group a moment later.
        while group.exists():
            try:
                group.rmdir()
            except OSError:
                assert time.monotonic() < deadline, f"{group} can't be removed"
                time.sleep(0.05)


def _left(names: Sequence[str]) -> Iterator[int]:
    for group in _groups(names):
        with contextlib.suppress(FileNotFoundError):
            yield from map(int, (group / "cgroup.procs").read_text().split())


def _groups(names: Sequence[str]) -> list[Path]:
    """Those of the names and those below, children before their parents."""
    found: list[Path] = []
    for tree in _trees():
        for name in names:
            found += [Path(directory) for directory, _, _ in os.walk(tree / name, topdown=False)]
    return found


def _trees() -> list[Path]:
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [tree for tree in ROOT.iterdir() if tree.is_dir() and not tree.is_symlink()]


def _tree_of_daemons() -> Path:
    return ROOT if (ROOT / "cgroup.controllers").exists() else ROOT / "pids"


def _make(group: Path) -> None:
    group.mkdir(exist_ok=True)
