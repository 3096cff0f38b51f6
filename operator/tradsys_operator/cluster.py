"""The API server, as far as the operator needs it: list, get, apply, create, delete, events.

Objects are plain dicts and every kind is generic: a typed model of another Kubernetes version would silently
drop fields. All writes go through `_write`, so that a test can end the operator at the n-th one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from httpx2 import HTTPStatusError
from lightkube import ApiError, AsyncClient
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import CascadeType

from tradsys_operator.api import API_VERSION
from tradsys_operator.names import FIELD_MANAGER
from tradsys_operator.plans import Event, Manifest, Ref

PLURALS = {
    (API_VERSION, "Venue"): "venues",
    (API_VERSION, "GateRun"): "gateruns",
    ("v1", "Pod"): "pods",
    ("v1", "Service"): "services",
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Secret"): "secrets",
    ("v1", "Event"): "events",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "ControllerRevision"): "controllerrevisions",
    ("batch/v1", "Job"): "jobs",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("networking.k8s.io/v1", "Ingress"): "ingresses",
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): "httproutes",
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): "grpcroutes",
    ("monitoring.coreos.com/v1", "PodMonitor"): "podmonitors",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "prometheusrules",
    ("coordination.k8s.io/v1", "Lease"): "leases",
}

NOT_FOUND, CONFLICT, FORBIDDEN = 404, 409, 403
REFUSALS = frozenset((400, FORBIDDEN, 422))
"""Of one object: it makes no sense here, or a right, a quota or a policy is against it."""


def _resource(api_version: str, kind: str) -> Any:
    group, _, version = api_version.rpartition("/")
    return create_namespaced_resource(group, version, kind, PLURALS[(api_version, kind)])


RESOURCES = {key: _resource(*key) for key in PLURALS}


def code_of(error: HTTPStatusError) -> int:
    """The HTTP status. A group that does not exist answers 404 without a Status, which is then no
    ApiError."""
    return int(error.response.status_code)


class Cluster:
    """One connection to one cluster."""

    def __init__(self, client: AsyncClient, before_write: Callable[[], None] = lambda: None):
        """`before_write` is called before each write; what it raises ends the pass before it."""
        self._client = client
        self._before_write = before_write

    async def list_if_any(
        self, api_version: str, kind: str, namespace: str, labels: dict[str, Any]
    ) -> list[Manifest] | None:
        """As `list`, of a kind that a cluster may lack: None if it does, or shows it to nobody."""
        try:
            return await self.list(api_version, kind, namespace, labels)
        except HTTPStatusError as error:
            if code_of(error) in (NOT_FOUND, FORBIDDEN):
                return None
            raise

    async def list(
        self, api_version: str, kind: str, namespace: str, labels: dict[str, Any]
    ) -> list[Manifest]:
        """Objects of a namespace by labels; the namespace `*` is all of them.

        Raises HTTPError, also for 403 and 404: an API server that has just started answers so for a moment,
        and that must not look as if nothing were there.
        """
        found = [
            dict(each)
            async for each in self._client.list(
                RESOURCES[(api_version, kind)], namespace=namespace, labels=labels
            )
        ]
        for each in found:
            # Items of a list carry neither.
            each["apiVersion"], each["kind"] = api_version, kind
        return found

    async def get(self, ref: Ref, namespace: str) -> Manifest | None:
        """None: there is none. Raises HTTPError, also if the kind is not served (yet)."""
        try:
            found = await self._client.get(
                RESOURCES[(ref.api_version, ref.kind)], ref.name, namespace=namespace
            )
        except ApiError as error:
            # A kind that is not served answers 404 without a Status, which is no ApiError.
            if code_of(error) == NOT_FOUND:
                return None
            raise
        return dict(found)

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply; fields of others stay, ours are corrected. Raises HTTPError."""
        resource = RESOURCES[(manifest["apiVersion"], manifest["kind"])]
        self._before_write()
        await self._client.apply(resource(manifest), field_manager=FIELD_MANAGER, force=True)

    async def apply_status(self, manifest: Manifest) -> None:
        """Of a Venue or a GateRun; with a resourceVersion it is refused if anybody wrote since."""
        resource = RESOURCES[(manifest["apiVersion"], manifest["kind"])].Status
        self._before_write()
        await self._client.apply(
            resource(manifest),
            manifest["metadata"]["name"],
            namespace=manifest["metadata"]["namespace"],
            field_manager=FIELD_MANAGER,
            force=True,
        )

    async def create(self, manifest: Manifest) -> bool:
        """False: one of that name exists, and stays as it is. Raises HTTPError."""
        resource = RESOURCES[(manifest["apiVersion"], manifest["kind"])]
        self._before_write()
        try:
            await self._client.create(resource(manifest), field_manager=FIELD_MANAGER)
        except HTTPStatusError as error:
            if code_of(error) == CONFLICT:
                return False
            raise
        return True

    async def replace(self, manifest: Manifest) -> bool:
        """False: somebody wrote since it was read. Raises HTTPError."""
        resource = RESOURCES[(manifest["apiVersion"], manifest["kind"])]
        self._before_write()
        try:
            await self._client.replace(resource(manifest), field_manager=FIELD_MANAGER)
        except HTTPStatusError as error:
            if code_of(error) in (CONFLICT, NOT_FOUND):
                return False
            raise
        return True

    async def delete(self, ref: Ref, namespace: str) -> None:
        """With what depends on it. Gone already is as good. Raises HTTPError."""
        self._before_write()
        try:
            await self._client.delete(
                RESOURCES[(ref.api_version, ref.kind)],
                ref.name,
                namespace=namespace,
                cascade=CascadeType.BACKGROUND,
            )
        except HTTPStatusError as error:
            if code_of(error) != NOT_FOUND:
                raise

    async def say(self, about: Manifest, event: Event, instance: str) -> None:
        """An Event beside the object. Raises HTTPError."""
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now // 1_000_000_000))
        metadata = about["metadata"]
        self._before_write()
        await self._client.create(
            RESOURCES[("v1", "Event")](
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"name": f"{metadata['name']}.{now:x}", "namespace": metadata["namespace"]},
                    "involvedObject": {
                        "apiVersion": about["apiVersion"],
                        "kind": about["kind"],
                        "name": metadata["name"],
                        "namespace": metadata["namespace"],
                        "uid": metadata["uid"],
                    },
                    "type": event.type,
                    "reason": event.reason,
                    "message": event.message[:1024],
                    "source": {"component": FIELD_MANAGER},
                    "reportingComponent": f"tradsys.dev/{FIELD_MANAGER}",
                    "reportingInstance": instance[:128],
                    "action": "Reconcile",
                    "firstTimestamp": stamp,
                    "lastTimestamp": stamp,
                    "count": 1,
                }
            )
        )
