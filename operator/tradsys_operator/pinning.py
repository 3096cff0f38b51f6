"""The verdict about a pod's CPUs, from files that its engine read in /proc and /sys.

The kubelet decides at admission; the operator can only ask and look. One CPU in the mask proves nothing: a
shared container on a node whose other CPUs are taken reads one CPU too. What tells them apart is the quota: a
container with exclusive CPUs has none, a shared one has its limit. What can't be shown is Unknown, and
Unknown is not Pinned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from tradsys_operator.api import Verdict

SELF_STATUS = "/proc/self/status"
ONLINE = "/sys/devices/system/cpu/online"
QUOTA_V2 = "/sys/fs/cgroup/cpu.max"
QUOTA_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"
STAT_V2 = "/sys/fs/cgroup/cpu.stat"
STAT_V1 = "/sys/fs/cgroup/cpu/cpu.stat"


class Evidence(Struct, frozen=True):
    """What one process says about its CPUs: texts of files by path, and the mask of each of its threads."""

    files: Mapping[str, str] = {}
    thread_cpus: Mapping[str, str] = {}


class Judgement(Struct, frozen=True):
    verdict: Verdict
    reason: str
    cpus: str = ""


def evidence_of(answer: Mapping[str, Any]) -> Evidence:
    """The evidence in an answer of /internal/pinning; what is not there stays unknown."""
    files = {str(path): str(text) for path, text in dict(answer.get("files") or {}).items()}
    mask = answer.get("cpus_allowed_list")
    if SELF_STATUS not in files and isinstance(mask, str):
        files[SELF_STATUS] = f"Cpus_allowed_list:\t{mask}\n"
    threads = {str(tid): str(cpus) for tid, cpus in dict(answer.get("thread_cpus") or {}).items()}
    return Evidence(files, threads)


def cpu_set(text: str) -> frozenset[int]:
    """`0-2,5` as {0, 1, 2, 5}. Raises ValueError."""
    cpus: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.strip().split(","))):
        first, dash, last = part.partition("-")
        cpus.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(cpus)


def mask_of(evidence: Evidence | None) -> frozenset[int] | None:
    """The CPUs that a process may run on, None if it does not say."""
    if evidence is None:
        return None
    for line in evidence.files.get(SELF_STATUS, "").splitlines():
        key, _, value = line.partition(":")
        if key == "Cpus_allowed_list":
            try:
                return cpu_set(value) or None
            except ValueError:
                return None
    return None


def judge(evidence: Evidence | None, requested: int, neighbours: Mapping[str, frozenset[int]]) -> Judgement:
    """The verdict about an engine that asked for `requested` exclusive CPUs.

    `neighbours` are the masks of other processes on the same node that should keep off, by their names.
    """
    mask = mask_of(evidence)
    if evidence is None or mask is None:
        return Judgement("Unknown", "the engine does not answer with its CPU mask")
    cpus = text_of(mask)
    online = _cpus_in(evidence, ONLINE)
    if online is None:
        return Judgement("Unknown", "the node's CPUs are not known", cpus)
    if len(mask) != requested:
        if mask == online:
            return Judgement("Unpinned", f"it may run on all {len(online)} CPUs of the node", cpus)
        return Judgement("Shared", f"it may run on {len(mask)} CPUs and asked for {requested}", cpus)
    outside = sorted(tid for tid, text in evidence.thread_cpus.items() if not _within(text, mask))
    if outside:
        return Judgement("Unpinned", f"thread {outside[0]} may leave these CPUs", cpus)
    quota = _quota(evidence)
    if quota is None:
        return Judgement("Unknown", "the quota is not known, and a mask alone proves nothing", cpus)
    if quota:
        return Judgement("Shared", "it has a CPU quota: only containers with exclusive CPUs have none", cpus)
    for name, other in sorted(neighbours.items()):
        if mask & other:
            return Judgement("Overlap", f"{name} may run on CPU {text_of(mask & other)} too", cpus)
    throttled = _throttled(evidence)
    if throttled is None:
        return Judgement("Unknown", "throttling is not known", cpus)
    if throttled:
        return Judgement("Throttled", f"it was throttled in {throttled} periods", cpus)
    return Judgement("Pinned", f"{requested} of {len(online)} CPUs, without a quota", cpus)


def text_of(cpus: frozenset[int]) -> str:
    """{0, 1, 2, 5} as `0-2,5`."""
    ranges: list[tuple[int, int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1] = (ranges[-1][0], cpu)
        else:
            ranges.append((cpu, cpu))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _cpus_in(evidence: Evidence, path: str) -> frozenset[int] | None:
    try:
        return cpu_set(evidence.files[path]) or None
    except (KeyError, ValueError):
        return None


def _within(text: str, mask: frozenset[int]) -> bool:
    try:
        return cpu_set(text) <= mask
    except ValueError:
        return False


def _quota(evidence: Evidence) -> bool | None:
    """Whether there is a CPU quota; None: nobody knows."""
    if QUOTA_V2 in evidence.files:
        words = evidence.files[QUOTA_V2].split()
        return None if not words else words[0] != "max"
    if QUOTA_V1 in evidence.files:
        try:
            return int(evidence.files[QUOTA_V1]) > 0
        except ValueError:
            return None
    return None


def _throttled(evidence: Evidence) -> int | None:
    """Periods in which it was throttled; None: nobody knows."""
    for path in (STAT_V2, STAT_V1):
        for line in evidence.files.get(path, "").splitlines():
            key, _, value = line.partition(" ")
            if key == "nr_throttled" and value.strip().isdigit():
                return int(value)
    return None
