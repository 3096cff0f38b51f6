"""Times as Kubernetes writes them: RFC 3339, UTC, whole seconds. Inside they are unix seconds."""

from __future__ import annotations

from datetime import UTC, datetime


def text(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(text: str) -> int:
    """Raises ValueError."""
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
