"""What every pod of a venue shares: who it runs as, and how much it gets."""

from __future__ import annotations

from typing import Any

from tradsys_operator.quantities import cpu_text, memory_bytes

USER = 10001

POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    # The volume of a shard has many large files: owners are changed only when the root's is wrong.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def guaranteed(cpu: int | str, memory: str) -> dict[str, Any]:
    """Requests equal limits: the pod is Guaranteed, and whole CPUs may be exclusive."""
    amount = {"cpu": cpu_text(str(cpu)), "memory": memory}
    return {"requests": amount, "limits": dict(amount)}


def unthrottled(cpu: str, memory: str) -> dict[str, Any]:
    """Asks for little, and may use a whole CPU: for what makes load. It would measure its own quota."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "1", "memory": memory}}


def variable(name: str, value: object) -> dict[str, Any]:
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return {"name": name, "value": text}


def soft_limit(memory: str, percent: int) -> int:
    """Bytes that a process may plan with. Never RLIMIT_AS, which counts mappings that cost nothing."""
    return memory_bytes(memory) * percent // 100


def probe(
    path: str, port: int, *, period_s: int, failures: int, timeout_s: int = 5, delay_s: int = 0
) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        **({"initialDelaySeconds": delay_s} if delay_s else {}),
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
