"""CPU and memory as Kubernetes writes them."""

from __future__ import annotations

UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def memory_bytes(text: str) -> int:
    """`256Mi` as bytes."""
    return int(text[:-2]) * UNITS[text[-2:]]


def cpu_text(millicores: str) -> str:
    """The spelling that the API server would give back, so that what is applied equals what is read: 1000m is
    1."""
    if millicores.endswith("m") and int(millicores[:-1]) % 1000 == 0:
        return str(int(millicores[:-1]) // 1000)
    return millicores
