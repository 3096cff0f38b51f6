"""A Venue on a real API server, an operator that is driven pass by pass, and a world that answers it."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType
from tradsys_operator.api import API_VERSION
from tradsys_operator.cluster import RESOURCES, Cluster
from tradsys_operator.work import Key, Operator

from tests.kube.control.node import Node
from tests.kube.operator.world import SPEC

VENUE = RESOURCES[(API_VERSION, "Venue")]
GATE_RUN = RESOURCES[(API_VERSION, "GateRun")]
CLAIM = create_namespaced_resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NAME = "crypto"
QUICK: dict[str, Any] = {"bakeSeconds": 0, "gate": {"compare": {"rounds": 1}}}


class Killed(BaseException):
    """The operator's process has ended here."""


class Told:
    """What processes and Prometheus answer, as the test says."""

    def __init__(self) -> None:
        self.internal_answers: dict[str, Mapping[str, Any]] = {}
        self.ratio: float | None = 0.0

    async def internal(self, pod_ip: str, container: str, what: str) -> Mapping[str, Any] | None:
        return self.internal_answers.get(f"{container}/{what}")

    async def bad(self, url: str, query: str) -> float | None:
        return self.ratio


class Venues:
    """One namespace with one Venue."""

    def __init__(self, client: AsyncClient, namespace: str):
        self.client = client
        self.namespace = namespace
        self.node = Node(client, namespace)
        self.told = Told()
        self.skew_s = 0
        self.writes = 0
        self.lives = 0
        self.conflicts = 0
        self._known_claims: dict[str, str] = {}
        self._kill_after: Callable[[], int] | None = None
        self._left = -1
        self._operator = self._begin()

    def kill_after(self, writes: Callable[[], int]) -> None:
        """From now on each operator lives for so many writes."""
        self._kill_after = writes
        self._left = writes()

    def _begin(self) -> Operator:
        self.lives += 1
        self._left = self._kill_after() if self._kill_after else -1

        def before_write() -> None:
            if self._left == 0:
                raise Killed
            self._left -= 1
            self.writes += 1

        return Operator(
            Cluster(self.client, before_write),
            self.told,
            "tradsys-system",
            f"operator-{self.lives}",
            lambda: time.time() + self.skew_s,
        )

    async def step(self) -> None:
        """One pass over everything, as watches would cause it."""
        await self.node.step()
        keys = [Key("Venue", self.namespace, NAME)]
        async for run in self.client.list(GATE_RUN, namespace=self.namespace):
            keys.append(Key("GateRun", self.namespace, run["metadata"]["name"]))
        for key in keys:
            try:
                await self._operator.once(key)
            except Killed:
                self._operator = self._begin()
            except ApiError as error:
                # Somebody wrote in between: a pass is repeated.
                assert error.status.code == 409, error
                self.conflicts += 1
        await self.check()

    async def once(self) -> None:
        """One pass over the Venue. Raises ApiError."""
        await self._operator.once(Key("Venue", self.namespace, NAME))

    async def check(self) -> None:
        """What must hold at any time: one engine a journal, and no journal is ever deleted."""
        used = [
            volume["persistentVolumeClaim"]["claimName"]
            for pod in await self.all("v1", "Pod")
            if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            for volume in pod["spec"].get("volumes", [])
            if "persistentVolumeClaim" in volume
        ]
        assert len(used) == len(set(used)), f"two engines on a journal: {used}"
        claims = await self.claims()
        assert self._known_claims.items() <= claims.items(), f"{self._known_claims} became {claims}"
        self._known_claims = claims

    async def until(self, what: Callable[[], Awaitable[bool]], passes: int = 150) -> None:
        for _ in range(passes):
            await self.step()
            if await what():
                return
            await asyncio.sleep(0.05)
        venue = await self.venue()
        raise AssertionError(f"not so after {passes} passes: {venue.get('status')}")

    async def until_phase(self, phase: str, passes: int = 150) -> None:
        async def reached() -> bool:
            return (await self.venue()).get("status", {}).get("phase") == phase

        await self.until(reached, passes)

    async def create(self, **spec: Any) -> None:
        whole = copy.deepcopy(SPEC) | {"rollout": QUICK} | spec
        await self.client.create(
            VENUE(
                apiVersion=API_VERSION,
                kind="Venue",
                metadata={"name": NAME, "namespace": self.namespace},
                spec=whole,
            )
        )

    async def serve(self, **spec: Any) -> None:
        """Create it, and wait until the first revision serves."""
        await self.create(**spec)
        await self.until_condition("Ready", "True")
        await self.until_phase("Stable")

    async def until_end(self, passes: int) -> str:
        """The phase in which a release that is under way ends."""
        phase = ""

        async def ended() -> bool:
            nonlocal phase
            phase = (await self.venue()).get("status", {}).get("phase", "")
            return phase in ("Stable", "Paused", "Failed")

        await self.until(ended, passes)
        return phase

    async def until_condition(self, kind: str, status: str) -> None:
        async def so() -> bool:
            return (await self.condition(kind))[0] == status

        await self.until(so)

    async def ask(self, **spec: Any) -> None:
        await self.client.patch(
            VENUE, NAME, {"spec": spec}, namespace=self.namespace, patch_type=PatchType.MERGE
        )

    async def annotate(self, **annotations: str) -> None:
        marked = {f"tradsys.dev/{verb}": nonce for verb, nonce in annotations.items()}
        await self.client.patch(
            VENUE,
            NAME,
            {"metadata": {"annotations": marked}},
            namespace=self.namespace,
            patch_type=PatchType.MERGE,
        )

    async def venue(self) -> dict[str, Any]:
        return dict(await self.client.get(VENUE, NAME, namespace=self.namespace))

    async def condition(self, kind: str) -> tuple[str, str]:
        found = [
            each
            for each in (await self.venue()).get("status", {}).get("conditions", [])
            if each["type"] == kind
        ]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    async def all(self, api_version: str, kind: str) -> list[dict[str, Any]]:
        resource = RESOURCES[(api_version, kind)]
        return [dict(each) async for each in self.client.list(resource, namespace=self.namespace)]

    async def claims(self) -> dict[str, str]:
        """Names of the volume claims, with their uids."""
        found = [each["metadata"] async for each in self.client.list(CLAIM, namespace=self.namespace)]
        return {each["name"]: each["uid"] for each in found}

    async def shard_pods(self) -> dict[str, tuple[str, str]]:
        """Shard to (uid, image) of its pod."""
        return {
            pod["metadata"]["labels"]["tradsys.dev/shard"]: (
                pod["metadata"]["uid"],
                pod["spec"]["containers"][0]["image"].rsplit(":")[-1],
            )
            for pod in await self.all("v1", "Pod")
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "shard"
        }

    async def reasons(self) -> list[str]:
        found = await self.all("v1", "Event")
        own = [each for each in found if each.get("source", {}).get("component") == "tradsys-operator"]
        return [each["reason"] for each in sorted(own, key=lambda each: each["metadata"]["name"])]


def client_of(plane: Any) -> AsyncClient:
    return AsyncClient(config=KubeConfig.from_file(str(plane.kubeconfig)), trust_env=False)


def a_namespace() -> str:
    return f"t{random.getrandbits(40):x}"
