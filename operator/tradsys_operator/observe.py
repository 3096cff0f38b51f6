"""Reading the world for one pass. Lists come from the API server, not from a watch's memory: a pass sees its
own writes."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import msgspec

from tradsys_operator import evidence, gate, names, pinning, revisions, times
from tradsys_operator.api import (
    API_VERSION,
    GateRunSpec,
    GateRunStatus,
    VenueSpec,
    VenueStatus,
)
from tradsys_operator.cluster import Cluster
from tradsys_operator.objectives import Judged
from tradsys_operator.plans import Manifest, Ref
from tradsys_operator.reconcile import Answers, GateRun, Identity, Observed
from tradsys_operator.render.venue import OPTIONAL

RENDERED = (
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("networking.k8s.io/v1", "Ingress"),
    *sorted(OPTIONAL),
)
"""Kinds of which a surplus object is deleted. Claims are not among them: a journal is never deleted."""
OURS = {names.PART: "revision"}
"""StatefulSets keep ControllerRevisions of their own, with the labels of their pods."""
STABLE_WINDOW_S = 300
BAKE_WINDOW_S_MIN = 10


def identity(found: Manifest) -> Identity:
    metadata = found["metadata"]
    return Identity(
        metadata["name"],
        metadata["namespace"],
        metadata["uid"],
        metadata.get("generation", 1),
        metadata.get("annotations") or {},
        bool(metadata.get("deletionTimestamp")),
    )


async def venue(
    cluster: Cluster, witnesses: evidence.Witnesses, found: Manifest, operator_namespace: str
) -> Observed:
    """Everything about one Venue. Raises HTTPError; msgspec.ValidationError: a spec that can't be read."""
    who = identity(found)
    spec = msgspec.convert(found["spec"], VenueSpec)
    status = msgspec.convert(found.get("status") or {}, VenueStatus)
    own = {names.VENUE: who.name}
    (stored, runs, pods), lists = await asyncio.gather(
        asyncio.gather(
            cluster.list("apps/v1", "ControllerRevision", who.namespace, own | OURS),
            cluster.list(API_VERSION, "GateRun", who.namespace, own),
            cluster.list("v1", "Pod", who.namespace, own | {names.PART: "shard"}),
        ),
        asyncio.gather(
            *(
                cluster.list_if_any(*kind, who.namespace, own)
                if kind in OPTIONAL
                else cluster.list(*kind, who.namespace, own)
                for kind in RENDERED
            )
        ),
    )
    stored = [each for each in stored if _owned_by(each, who.uid)]
    answers = dict(
        zip(
            (pod["metadata"]["name"] for pod in pods),
            await asyncio.gather(*(_answers(witnesses, pod) for pod in pods)),
            strict=True,
        )
    )
    return Observed(
        venue=who,
        spec=spec,
        status=status,
        revisions={each["metadata"]["labels"][names.REVISION]: revisions.read(each) for each in stored},
        revision_number=max((int(each["revision"]) for each in stored), default=0),
        live={
            Ref(*kind, each["metadata"]["name"]): each
            for kind, listed in zip(RENDERED, lists, strict=True)
            for each in listed or []
            if _owned_by(each, who.uid)
        },
        pods=pods,
        gate_runs=[_gate_run(each) for each in runs if _owned_by(each, who.uid)],
        kinds=frozenset(
            kind
            for kind, listed in zip(RENDERED, lists, strict=True)
            if kind in OPTIONAL and listed is not None
        ),
        answers=answers,
        judged=await _judged(witnesses, who, spec, status),
        operator_namespace=operator_namespace,
        fresh_secret=secrets.token_hex(32),
    )


def _owned_by(found: Manifest, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in found["metadata"].get("ownerReferences", []))


def _gate_run(found: Manifest) -> GateRun:
    return GateRun(
        found["metadata"]["name"],
        found["metadata"].get("creationTimestamp", ""),
        msgspec.convert(found["spec"], GateRunSpec),
        msgspec.convert(found.get("status") or {}, GateRunStatus),
    )


async def _answers(witnesses: evidence.Witnesses, pod: dict[str, Any]) -> Answers:
    address = pod.get("status", {}).get("podIP")
    if not address:
        return Answers()
    return Answers(
        *await asyncio.gather(
            witnesses.internal(address, names.ENGINE, "pinning"),
            witnesses.internal(address, names.HISTORY, "pinning"),
            witnesses.internal(address, names.ENGINE, "status"),
        )
    )


async def _judged(
    witnesses: evidence.Witnesses, who: Identity, spec: VenueSpec, status: VenueStatus
) -> list[Judged] | None:
    prometheus = spec.rollout.gate.prometheus
    if prometheus is None:
        return None
    window_s = STABLE_WINDOW_S
    if status.phase == "Baking" and status.rollout is not None:
        # Only what the candidate has answered counts.
        window_s = max(BAKE_WINDOW_S_MIN, int(time.time()) - times.unix(status.rollout.phase_since))
    return await evidence.objectives(
        witnesses, prometheus.url, who.name, who.namespace, spec.slo.objectives, window_s
    )


async def gate_run(
    cluster: Cluster, witnesses: evidence.Witnesses, found: Manifest, since: int
) -> tuple[gate.Run, gate.Seen]:
    """Everything about one GateRun; `since` as in Seen. Raises HTTPError, msgspec.ValidationError."""
    who = identity(found)
    run = gate.Run(
        who.name,
        who.namespace,
        who.uid,
        msgspec.convert(found["spec"], GateRunSpec),
        msgspec.convert(found.get("status") or {}, GateRunStatus),
        who.deleting,
    )
    own = {names.GATE_RUN: who.name}
    pods, jobs, stored, asking = await asyncio.gather(
        cluster.list("v1", "Pod", who.namespace, own),
        cluster.list("batch/v1", "Job", who.namespace, own),
        cluster.list("apps/v1", "ControllerRevision", who.namespace, {names.VENUE: run.spec.venue} | OURS),
        cluster.get(Ref(API_VERSION, "Venue", run.spec.venue), who.namespace),
    )
    gate_pods = {
        pod["metadata"]["name"]: pod for pod in pods if pod["metadata"]["labels"].get(names.PART) == "gate"
    }
    texts: dict[str, pinning.Evidence] = {}
    for name, pod in gate_pods.items():
        address = pod.get("status", {}).get("podIP")
        answer = await witnesses.internal(address, names.ENGINE, "pinning") if address else None
        if answer is not None:
            texts[name] = pinning.evidence_of(answer)
    return run, gate.Seen(
        pods=gate_pods,
        jobs={job["metadata"]["name"]: job for job in jobs},
        k6_pods={
            pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]: pod
            for pod in pods
            if "batch.kubernetes.io/job-name" in pod["metadata"]["labels"]
        },
        evidence=texts,
        revisions={each["metadata"]["labels"][names.REVISION]: revisions.read(each) for each in stored},
        wanted=_wanted(asking, who.name),
        since=since,
    )


def _wanted(venue: Manifest | None, name: str) -> bool:
    if venue is None or venue["metadata"].get("deletionTimestamp"):
        return False
    status = venue.get("status") or {}
    return bool(
        (status.get("rollout") or {}).get("gateRun") == name
        and status.get("phase") in ("Deploying", "Gating")
    )
