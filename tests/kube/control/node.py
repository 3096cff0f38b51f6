"""Stands in for nodes: pods get an address and become ready, k6 leaves a verdict. Nothing runs.

Everything around it is real: the API server, its validation and garbage collection, the controllers of
StatefulSets, Deployments and Jobs.
"""

from __future__ import annotations

import json
from typing import Any

from lightkube import ApiError, AsyncClient
from lightkube.types import PatchType
from tradsys_operator import names, pods
from tradsys_operator.cluster import RESOURCES

POD = RESOURCES[("v1", "Pod")]
STATUS_TIME = "2026-01-01T00:00:00Z"


class Node:
    """Takes care of all pods of a namespace, one step at a time."""

    def __init__(self, client: AsyncClient, namespace: str, network: str = "10.1.0."):
        """`network` is the beginning of the pods' addresses: where somebody asks them, use the loopback."""
        self._client = client
        self._namespace = namespace
        self._network = network
        self.broken: dict[str, str] = {}
        """Image to the reason why its pods don't come to life."""
        self.slow: dict[str, float] = {}
        """Image to its p99 in µs; 100 without."""
        self.full = False
        """No room for gate pods."""
        self.evicts: set[str] = set()
        """Gate pods that are evicted when they have been ready for a step; no k6 ends before that."""
        self.exit_codes: dict[str, int] = {}
        """Image to the exit code of k6 against it."""
        self.gated: dict[str, str] = {}
        """Address of a gate pod to its image."""
        self._count = 0

    async def step(self) -> None:
        async for pod in self._client.list(POD, namespace=self._namespace):
            await self._care_for(dict(pod))

    async def _care_for(self, pod: dict[str, Any]) -> None:
        status = pod.get("status", {})
        if pod["metadata"].get("deletionTimestamp") or status.get("phase") in ("Succeeded", "Failed"):
            return
        labels, image = pod["metadata"].get("labels", {}), pod["spec"]["containers"][0]["image"]
        if "batch.kubernetes.io/job-name" in labels:
            await self._load(pod)
        elif labels.get(names.PART) == "gate":
            await self._gate(pod, image)
        elif not pods.ready(pod) and image in self.broken:
            await self._set(pod, self._waiting(pod, self.broken[image]))
        elif not pods.ready(pod):
            await self._set(pod, self._running(pod))

    async def _gate(self, pod: dict[str, Any], image: str) -> None:
        if self.full:
            return
        if image in self.broken:
            await self._set(pod, self._waiting(pod, self.broken[image]))
        elif not pods.ready(pod):
            await self._set(pod, self._running(pod))
            self.gated[f"{self._network}{self._count}"] = image
        elif pod["metadata"]["name"] in self.evicts:
            self.evicts.discard(pod["metadata"]["name"])
            await self._set(
                pod, {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}
            )

    async def _load(self, pod: dict[str, Any]) -> None:
        """k6 ends at once, with figures for the image that it found at its target."""
        if self.evicts:
            return
        target = next(
            each["value"] for each in pod["spec"]["containers"][0]["env"] if each["name"] == "BASE_URL"
        )
        image = self.gated[target.removeprefix("http://").rsplit(":", 1)[0]]
        p99 = self.slow.get(image, 100.0)
        summary = {
            "samples": 20_000,
            "latency_us": {"50": p99 / 2, "90": p99 * 0.9, "95": p99 * 0.95, "99": p99},
            "throughput_per_s": 1000.0,
            "failed_ratio": 0.0,
            "checks_ratio": 1.0,
            "dropped": 0,
        }
        code = self.exit_codes.get(image, 0)
        ended = {
            "name": "k6",
            "image": "k6",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {
                "terminated": {"exitCode": code, "message": json.dumps(summary), "finishedAt": STATUS_TIME}
            },
        }
        await self._set(pod, {"phase": "Failed" if code else "Succeeded", "containerStatuses": [ended]})

    def _running(self, pod: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        return {
            "phase": "Running",
            "podIP": f"{self._network}{self._count}",
            "podIPs": [{"ip": f"{self._network}{self._count}"}],
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": STATUS_TIME}
                for kind in ("ContainersReady", "Ready")
            ],
            "containerStatuses": [
                self._container(each, {"running": {"startedAt": STATUS_TIME}}) for each in _names(pod)
            ],
        }

    def _waiting(self, pod: dict[str, Any], reason: str) -> dict[str, Any]:
        return {
            "phase": "Pending",
            "containerStatuses": [
                self._container(each, {"waiting": {"reason": reason}}) for each in _names(pod)
            ],
        }

    def _container(self, name: str, state: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": name,
            "image": "image",
            "imageID": "",
            "ready": "running" in state,
            "restartCount": 0,
            "state": state,
        }

    async def _set(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        try:
            await self._client.patch(
                POD.Status,
                pod["metadata"]["name"],
                {"status": status},
                namespace=self._namespace,
                patch_type=PatchType.MERGE,
            )
        except ApiError as error:
            # Somebody has deleted it since it was listed.
            if error.status.code != 404:
                raise


def _names(pod: dict[str, Any]) -> list[str]:
    return [each["name"] for each in pod["spec"]["containers"]]
