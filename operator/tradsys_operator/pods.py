"""What the status of a pod says."""

from __future__ import annotations

from typing import Any

from tradsys_operator import names

Pod = dict[str, Any]

REFUSED_BY_KUBELET = frozenset(("SMTAlignmentError", "TopologyAffinityError", "UnexpectedAdmissionError"))
"""The node could not give the CPUs that were asked for. The next pod would fare the same."""
STUCK = frozenset(
    (
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
    )
)


def ready(pod: Pod) -> bool:
    """All its containers take work, and it is not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def scheduled(pod: Pod) -> bool:
    return bool(pod.get("spec", {}).get("nodeName"))


def revision(pod: Pod) -> str:
    return str(pod["metadata"].get("labels", {}).get(names.REVISION, ""))


def trouble(pod: Pod) -> str:
    """The reason why the pod will not come to life by itself; empty: it may."""
    status = pod.get("status", {})
    if status.get("reason") in REFUSED_BY_KUBELET:
        return str(status["reason"])
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        reason = container.get("state", {}).get("waiting", {}).get("reason", "")
        if reason in STUCK:
            return str(reason)
    return ""


def lost(pod: Pod) -> bool:
    """It has ended or is being taken away."""
    return bool(pod["metadata"].get("deletionTimestamp")) or pod.get("status", {}).get("phase") in (
        "Failed",
        "Succeeded",
    )
