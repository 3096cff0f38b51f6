"""One queue of keys, and what is done for one key.

A key is due once, however often it was asked for, and no two workers hold the same one. Whatever goes wrong
is tried again later: 1 s, 2 s, 4 s … up to a minute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from httpx2 import HTTPError, HTTPStatusError
from msgspec import Struct

from tradsys_operator import gate, metrics, observe, reconcile, times, tokens
from tradsys_operator.api import API_VERSION, GateRunStatus, VenueStatus
from tradsys_operator.cluster import CONFLICT, FORBIDDEN, REFUSALS, Cluster, code_of
from tradsys_operator.evidence import Witnesses
from tradsys_operator.lease import LeaseLost
from tradsys_operator.plans import Manifest, Plan, Ref
from tradsys_operator.render.gate import ACCOUNT

BACKOFF_S_MAX = 60.0

log = logging.getLogger("tradsys.operator")


class Key(Struct, frozen=True):
    kind: Literal["Venue", "GateRun"]
    namespace: str
    name: str


class Queue:
    """Keys with the time at which they are due. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._held: set[Key] = set()
        self._changed = asyncio.Event()

    def add(self, key: Key, delay_s: float = 0.0) -> None:
        """Due in `delay_s` seconds, or earlier if it was due earlier."""
        due = self._clock() + delay_s
        self._due[key] = min(due, self._due.get(key, due))
        self._changed.set()

    async def take(self) -> Key:
        """The next key that is due; held until `done`."""
        while True:
            now = self._clock()
            waiting = [(due, key) for key, due in self._due.items() if key not in self._held]
            metrics.QUEUE_DEPTH.set(sum(due <= now for due, _ in waiting))
            if waiting:
                due, key = min(waiting, key=lambda each: each[0])
                if due <= now:
                    del self._due[key]
                    self._held.add(key)
                    return key
                wait_s = due - now
            else:
                wait_s = 3600.0
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), wait_s)
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        self._held.discard(key)
        self._changed.set()


class Operator:
    """Passes over single objects. Holds no state of theirs, only when it began to look at them."""

    def __init__(
        self,
        cluster: Cluster,
        witnesses: Witnesses,
        operator_namespace: str,
        instance: str,
        clock: Callable[[], float] = time.time,
    ):
        self._cluster = cluster
        self._witnesses = witnesses
        self._operator_namespace = operator_namespace
        self._instance = instance
        self._clock = clock
        self._since = int(clock())

    async def once(self, key: Key) -> float | None:
        """One pass; seconds until the next, None if the object is gone. Raises HTTPError."""
        found = await self._cluster.get(Ref(API_VERSION, key.kind, key.name), key.namespace)
        if found is None:
            if key.kind == "Venue":
                metrics.forget(key.namespace, key.name)
            return None
        return await (self._venue(found) if key.kind == "Venue" else self._gate_run(found))

    async def _venue(self, found: Manifest) -> float:
        try:
            observed = await observe.venue(self._cluster, self._witnesses, found, self._operator_namespace)
        except msgspec.ValidationError as error:
            await self._cluster.say(found, reconcile.refusal(str(error)), self._instance)
            return reconcile.RESYNC_S
        now = int(self._clock())
        plan = reconcile.reconcile(observed, now)
        refused: HTTPStatusError | None = None
        try:
            await self._make(found, plan)
        except HTTPStatusError as error:
            if code_of(error) not in REFUSALS:
                raise
            refused = error
            stored = not _of_a_revision(error)
            plan = reconcile.reconcile(observed, now, str(error), stored_wanted=stored)
        await self._tell(found, plan, observed.status)
        _report_venue(observed, plan.status, self._clock())
        if refused is not None:
            raise refused
        return plan.requeue_s

    async def _gate_run(self, found: Manifest) -> float:
        run, seen = await observe.gate_run(self._cluster, self._witnesses, found, self._since)
        now = int(self._clock())
        plan = gate.advance(run, seen, tokens.key_and_token(ACCOUNT, now), now)
        try:
            await self._make(found, plan)
        except HTTPStatusError as error:
            # Only of what is created, its pods and Jobs: what is applied may for a moment be that of a
            # deleted GateRun of this name; and a quota may grow.
            if code_of(error) == FORBIDDEN or error.request.method != "POST":
                raise
            plan = gate.refused(run, str(error), now)
        await self._tell(found, plan, run.status)
        _report_gate(run, plan.status)
        return plan.requeue_s

    async def _make(self, found: Manifest, plan: Plan[Any]) -> None:
        """All of it that the API server takes: one object that it refuses keeps no other, such as a shard
        that goes back. Raises HTTPError, for a refusal at the end: the revision's, or the first."""
        cluster, namespace = self._cluster, found["metadata"]["namespace"]
        refused: HTTPStatusError | None = None
        for make, manifests in ((cluster.create, plan.create), (cluster.apply, plan.apply)):
            for manifest in manifests:
                try:
                    await make(manifest)
                except HTTPStatusError as error:
                    if code_of(error) not in REFUSALS:
                        raise
                    if refused is None or _of_a_revision(error):
                        refused = error
        for ref in plan.delete:
            await cluster.delete(ref, namespace)
        if refused is not None:
            raise refused

    async def _tell(self, found: Manifest, plan: Plan[Any], before: Struct) -> None:
        cluster = self._cluster
        if plan.status != before:
            await cluster.apply_status(_status_manifest(found, plan.status))
        for event in plan.events:
            await cluster.say(found, event, self._instance)


def _of_a_revision(error: HTTPStatusError) -> bool:
    return "/controllerrevisions" in error.request.url.path


def _status_manifest(found: Manifest, status: Struct) -> Manifest:
    metadata = found["metadata"]
    return {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            # Two leaders, or a decision from old sight: the later write is refused and decided anew.
            "resourceVersion": metadata["resourceVersion"],
        },
        "status": without_nothing(msgspec.to_builtins(status)),
    }


def without_nothing(value: Any) -> Any:
    """As the API server takes it: a field that is None is left out."""
    if isinstance(value, dict):
        return {key: without_nothing(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nothing(each) for each in value]
    return value


async def work(
    queue: Queue, once: Callable[[Key], Awaitable[float | None]], heard: Callable[[], None]
) -> None:
    """One worker, for ever. Raises LeaseLost."""
    failures: dict[Key, int] = {}
    while True:
        key = await queue.take()
        started = time.perf_counter()
        outcome = "done"
        try:
            again_s = await once(key)
            failures.pop(key, None)
            heard()
        except HTTPError as error:
            failures[key] = failures.get(key, 0) + 1
            again_s = min(BACKOFF_S_MAX, 2.0 ** (failures[key] - 1))
            outcome = (
                "conflict" if isinstance(error, HTTPStatusError) and code_of(error) == CONFLICT else "failed"
            )
            log.warning("%s %s/%s: %s; again in %.0f s", key.kind, key.namespace, key.name, error, again_s)
        except LeaseLost:
            raise
        except Exception:
            # A fault in the operator must not stop the other venues.
            failures[key] = failures.get(key, 0) + 1
            again_s, outcome = BACKOFF_S_MAX, "fault"
            log.exception("%s %s/%s", key.kind, key.namespace, key.name)
        finally:
            queue.done(key)
        metrics.RECONCILES.labels(key.kind, outcome).inc()
        metrics.RECONCILE_DURATION.labels(key.kind).observe(time.perf_counter() - started)
        if again_s is not None:
            queue.add(key, again_s)


def _report_venue(observed: reconcile.Observed, after: VenueStatus, now: float) -> None:
    who, before = (observed.venue.namespace, observed.venue.name), observed.status
    metrics.phase(*who, after.phase)
    metrics.PODS_PINNED.labels(*who).set(after.pinning.pods_pinned)
    metrics.PODS.labels(*who).set(after.shards_total)
    metrics.TUNING_MISMATCHES.labels(*who).set(len(after.tuning))
    metrics.GATE_LATENCY_MAX.labels(*who).set(
        observed.spec.rollout.gate.compare.max_latency_ratio_percent / 100
    )
    for condition in after.conditions:
        for status in ("True", "False", "Unknown"):
            metrics.CONDITION.labels(*who, condition.type, status).set(condition.status == status)
    outcome = ended(before, after)
    if before.rollout is not None and outcome is not None:
        metrics.ROLLOUT_DURATION.labels(outcome).observe(
            max(0.0, now - times.unix(before.rollout.started_at))
        )


def ended(before: VenueStatus, after: VenueStatus) -> str | None:
    """How a release has ended between two statuses; one that the spec gave up has not ended."""
    if before.rollout is None or before.phase == after.phase:
        return None
    if after.phase == "Failed":
        return "failed"
    if after.phase != "Stable":
        return None
    if after.stable != before.stable:
        return "promoted"
    return "rolled_back" if before.phase == "RollingBack" else None


def _report_gate(run: gate.Run, after: GateRunStatus) -> None:
    if run.status.phase != "Complete" and after.phase == "Complete":
        metrics.GATE_RESULTS.labels(after.verdict, after.reason).inc()
        metrics.GATE_LATENCY.labels(run.namespace, run.spec.venue).set(after.latency_ratio_percent / 100)
