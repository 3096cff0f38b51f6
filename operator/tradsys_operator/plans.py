"""What a reconciliation decides: objects to apply and delete, the status to write, what to say, when to look
again.

Side effects follow from the status that is stored, never from memory: a pass first carries out what the
stored status says, then writes what follows from what it saw. Killed anywhere in between, the next pass does
the same again."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct

Manifest = dict[str, Any]
S = TypeVar("S")


class Ref(Struct, frozen=True):
    """An object in the resource's namespace."""

    api_version: str
    kind: str
    name: str


class Event(Struct, frozen=True):
    """What people see in `kubectl describe`. Reasons are stable words."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Plan(Struct, Generic[S]):
    """In this order: apply, create what may exist already, delete, write the status, say the events."""

    status: S
    apply: list[Manifest] = []
    create: list[Manifest] = []
    delete: list[Ref] = []
    events: list[Event] = []
    requeue_s: float = 120.0
