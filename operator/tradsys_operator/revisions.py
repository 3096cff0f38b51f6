"""Revisions: what a pod is made from, hashed; and stored, so that a later operator makes the same pod from
it.

A revision covers what only a new pod can change: image, resources, runtime, tracing, pinning, durability and
the names of the auth secrets. Replicas, objectives, rollout, routes and `paused` are applied as they are.

Only what differs from the defaults is hashed: a field that a later version adds, with its default, is not a
new revision. The rendered templates are stored beside the hash (a ControllerRevision), and an operator that
would render them differently still uses the stored ones. That is how its own upgrade restarts nothing."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from tradsys_operator import names
from tradsys_operator.api import VenueSpec

HASH_LENGTH = 8
PARTS = ("image", "imagePullPolicy", "resources", "durability", "auth", "runtime", "tracing", "pinning")


class Revision(Struct, frozen=True):
    """A revision with the pod templates of that time."""

    hash: str
    image: str
    shard: dict[str, Any]
    gateway: dict[str, Any]


def revision_hash(spec: VenueSpec) -> str:
    """Eight hex digits over what a pod is made from."""
    whole = msgspec.to_builtins(spec)
    kept = _without_empty({part: whole[part] for part in PARTS if part in whole})
    canonical = msgspec.json.encode(kept, order="sorted")
    return hashlib.blake2b(canonical, digest_size=HASH_LENGTH // 2).hexdigest()


def _without_empty(value: Any) -> Any:
    """A part in which everything has its default says nothing, whether it was written down or not."""
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty(each) for key, each in value.items()}
    return {key: each for key, each in kept.items() if each != {}}


def stored(venue: str, number: int, revision: Revision) -> dict[str, Any]:
    """The ControllerRevision that keeps it; `number` orders revisions in time."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": names.revision(venue, revision.hash),
            "labels": names.labels(venue, "revision") | {names.REVISION: revision.hash},
        },
        "revision": number,
        "data": {"image": revision.image, "shard": revision.shard, "gateway": revision.gateway},
    }


def read(stored: dict[str, Any]) -> Revision:
    """The revision in a ControllerRevision."""
    data = stored["data"]
    return Revision(
        stored["metadata"]["labels"][names.REVISION], data["image"], data["shard"], data["gateway"]
    )
