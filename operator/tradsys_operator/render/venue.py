"""Everything that a Venue is made of, with the revision that each shard should run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradsys_operator.api import VenueSpec
from tradsys_operator.render import gateway, monitoring, network, routes, shard
from tradsys_operator.revisions import Revision, revision_hash

OPTIONAL = frozenset((monitoring.POD_MONITOR, monitoring.RULE, routes.HTTP_ROUTE, routes.GRPC_ROUTE))
"""Kinds that a cluster may lack: made only if discovery shows them."""


def revision_of(venue: str, spec: VenueSpec) -> Revision:
    """The revision that the spec asks for, rendered now."""
    return Revision(
        revision_hash(spec),
        spec.image,
        shard.shard_template(venue, spec),
        gateway.gateway_template(venue, spec),
    )


def desired(
    venue: str,
    namespace: str,
    spec: VenueSpec,
    running: Mapping[str, Revision],
    gateway_revision: Revision,
    operator_namespace: str,
) -> list[dict[str, Any]]:
    """All objects of the venue in the order in which they should come to life; `running` is by shard."""
    objects = [shard.config_map(venue, spec, running), *network.policies(venue, spec, operator_namespace)]
    for each in spec.shards:
        objects += [
            *shard.services(venue, each),
            shard.budget(venue, each),
            shard.stateful_set(venue, spec, each, running[each.name]),
        ]
    if spec.gateway.replicas:
        objects += gateway.gateway_objects(venue, spec, gateway_revision)
    objects += routes.routes(venue, spec)
    objects += monitoring.monitors(venue, namespace, spec)
    return objects
