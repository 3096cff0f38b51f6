"""Who leads: a Lease, renewed while it is held. Two operators at once are only slow, not wrong (status writes
carry a resourceVersion), but nobody writes once the lease may be gone: each write asks the clock first
(`must_hold`), so that a process that was stopped for a while ends before it acts on what it saw then."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from httpx2 import HTTPError

from tradsys_operator.cluster import Cluster
from tradsys_operator.plans import Ref

LEASE = ("coordination.k8s.io/v1", "Lease")
DURATION_S = 15
RENEW_DEADLINE_S = 10.0
RETRY_S = 2.0


class LeaseLost(Exception):
    """Somebody else may lead now."""


class Lease:
    """One holder's view of the Lease. Ages are measured from when a change was seen, not by clocks of
    others."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        self._cluster, self._namespace, self._name, self._identity = cluster, namespace, name, identity
        self._monotonic = monotonic
        self._seen_version = ""
        self._seen_at = 0.0
        self._renewed_at = -RENEW_DEADLINE_S

    async def acquire(self) -> None:
        """Wait until this process leads."""
        while not await self._try():
            await asyncio.sleep(RETRY_S)

    async def keep(self) -> None:
        """Renew for ever. Raises LeaseLost."""
        while True:
            await asyncio.sleep(RETRY_S)
            left_s = self._renewed_at + RENEW_DEADLINE_S - self._monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.1, left_s)):
                    if await self._try():
                        continue
            self.must_hold()

    def must_hold(self) -> None:
        """Before each write. Raises LeaseLost: somebody else may lead now."""
        if self._monotonic() - self._renewed_at >= RENEW_DEADLINE_S:
            raise LeaseLost(f"not renewed for {RENEW_DEADLINE_S:.0f} s")

    async def release(self) -> None:
        """Let the next one lead at once."""
        try:
            found = await self._cluster.get(Ref(*LEASE, self._name), self._namespace)
            if found is not None and found["spec"].get("holderIdentity") == self._identity:
                found["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._cluster.replace(found)
        except HTTPError:
            return

    async def _try(self) -> bool:
        """Take or renew it. False: somebody else holds it, or the API server does not answer."""
        asked_at = self._monotonic()
        try:
            held = await self._take()
        except HTTPError:
            return False
        if held:
            # From before it was asked: others count from when they saw the answer.
            self._renewed_at = asked_at
        return held

    async def _take(self) -> bool:
        found = await self._cluster.get(Ref(*LEASE, self._name), self._namespace)
        if found is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            spec = self._spec(0, None)
            return await self._cluster.create(
                {"apiVersion": LEASE[0], "kind": LEASE[1], "metadata": metadata, "spec": spec}
            )
        spec, version = found.get("spec") or {}, found["metadata"]["resourceVersion"]
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, self._monotonic()
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and self._monotonic() - self._seen_at < DURATION_S:
            return False
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
        since = spec.get("acquireTime") if holder == self._identity else None
        return await self._cluster.replace({**found, "spec": self._spec(transitions, since)})

    def _spec(self, transitions: int, acquired: str | None) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_S,
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
