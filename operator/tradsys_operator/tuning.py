"""Tuning as asked against tuning in force: what each process says about itself in /internal/status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradsys_operator.api import Knob, VenueSpec
from tradsys_operator.render.pods import soft_limit


def expected(spec: VenueSpec) -> dict[str, object]:
    """The knobs of an engine, by the names of app/SETTINGS.md."""
    runtime = spec.runtime
    return {
        "profile": runtime.profile,
        "durability": spec.durability,
        "gc_percent": runtime.gc.percent,
        "gc_frozen": runtime.gc.freeze_after_warmup,
        "memory_limit": soft_limit(spec.resources.engine.memory, runtime.memory.soft_limit_percent),
        "malloc_arena_max": runtime.memory.malloc_arena_max,
        "max_connections": runtime.max_connections,
        "order_pool_size": runtime.pools.order,
        "message_pool_size": runtime.pools.message,
    }


def mismatches(pod: str, spec: VenueSpec, status: Mapping[str, Any] | None) -> list[Knob] | None:
    """Knobs that the process reports otherwise than asked, or not at all; None: it does not answer."""
    if status is None or not isinstance(status.get("tuning"), dict):
        return None
    actual = status["tuning"]
    return [
        Knob(pod=pod, knob=knob, expected=_text(wanted), actual=_text(actual.get(knob)))
        for knob, wanted in expected(spec).items()
        if _text(actual.get(knob)) != _text(wanted)
    ]


def _text(value: object) -> str:
    if value is None:
        return "not reported"
    return ("true" if value else "false") if isinstance(value, bool) else str(value)[:128]
