"""`reconcile(observed, now) -> plan`: a Venue as it is asked for and as it is, to what should be done. Pure.

Level-triggered: nothing is remembered between two calls. The plan carries out what the stored status says
(see `plans`); the new status is one step of the rollout further, with conditions about what was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, structs

from tradsys_operator import names, pinning, pods, rollout, times, tuning
from tradsys_operator.api import (
    API_VERSION,
    GROUP,
    Condition,
    GateRunSpec,
    GateRunStatus,
    Knob,
    ObjectiveStatus,
    PinningStatus,
    PodPinning,
    RevisionStatus,
    ShardStatus,
    Tristate,
    VenueSpec,
    VenueStatus,
)
from tradsys_operator.objectives import Judged
from tradsys_operator.plans import Event, Manifest, Plan, Ref
from tradsys_operator.render import monitoring
from tradsys_operator.render.shard import INTERNAL_FILE
from tradsys_operator.render.venue import OPTIONAL, desired, revision_of
from tradsys_operator.revisions import Revision, stored

APPLIED = f"{GROUP}/applied"
RESYNC_S = 120.0
EVIDENCE_S = 10.0
"""How often pods are asked about themselves, and how soon a phase that waits is looked at again."""
GATE_RUNS_KEPT = 10
REFUSED = "Refused"
"""The reason where the API server does not take an object."""
ORDERS = (names.ABORT, names.RETRY, names.PROMOTE)
"""By urgency."""


class Identity(Struct, frozen=True):
    """Which Venue."""

    name: str
    namespace: str
    uid: str
    generation: int = 1
    annotations: Mapping[str, str] = {}
    deleting: bool = False


class GateRun(Struct, frozen=True):
    """A GateRun of this Venue."""

    name: str
    created: str
    spec: GateRunSpec
    status: GateRunStatus


class Answers(Struct, frozen=True):
    """What the processes of a pod say about themselves; None: no answer."""

    pinning: Mapping[str, Any] | None = None
    """Of the engine."""
    history: Mapping[str, Any] | None = None
    """/internal/pinning of the container beside it, which must keep off the engine's CPUs."""
    status: Mapping[str, Any] | None = None


class Observed(Struct, frozen=True):
    """The world, read just now."""

    venue: Identity
    spec: VenueSpec
    status: VenueStatus
    revisions: Mapping[str, Revision] = {}
    revision_number: int = 0
    """The highest number among the stored revisions."""
    live: Mapping[Ref, Manifest] = {}
    """Objects of rendered kinds that this Venue owns, as they are."""
    pods: list[dict[str, Any]] = []
    """Of the shards, without gate pods."""
    gate_runs: list[GateRun] = []
    kinds: frozenset[tuple[str, str]] = frozenset()
    """Those of the optional kinds that the cluster has."""
    answers: Mapping[str, Answers] = {}
    """By pod."""
    judged: list[Judged] | None = None
    """None: no Prometheus is configured."""
    operator_namespace: str = "tradsys-system"
    fresh_secret: str = ""
    """Random, used if the venue has no internal secret yet."""


def reconcile(
    observed: Observed, now: int, refused: str = "", *, stored_wanted: bool = True
) -> Plan[VenueStatus]:
    """What to do for one Venue. `now` in unix seconds; `refused` is what the API server said to an object of
    this plan that it did not take: the status tells it, and the release goes on as far as its shards do.
    `stored_wanted`: False if that was the revision that the spec asks for. What is stored nowhere is not
    released: as long as that is so, the venue goes on as if the spec had not changed."""
    venue, spec, status = observed.venue, observed.spec, observed.status
    if venue.deleting:
        return Plan(status)
    if spec.paused:
        return Plan(_with_conditions(observed, status, [], now), requeue_s=RESYNC_S)
    wanted = revision_of(venue.name, spec)
    revisions = {**observed.revisions}
    create: list[Manifest] = []
    if wanted.hash not in revisions or _a_pod_waits(observed):
        # First: pods of any revision mount it. It can't be read, so only pods that serve say that it is
        # there. Somebody may have deleted it; or it was a deleted Venue's of this name, and went after it.
        create.append(_owned(observed, _internal_secret(observed)))
    if wanted.hash not in revisions:
        revisions[wanted.hash] = wanted
        create.append(_owned(observed, stored(venue.name, observed.revision_number + 1, wanted)))
    apply, delete, lacking = _objects(observed, revisions)
    create += _gate_run(observed, revisions)
    delete += _old_gate_runs(observed)
    is_told = any(each.reason == REFUSED for each in status.conditions)
    told = [Event("Warning", REFUSED, refused)] if refused and not is_told else []
    asked = RevisionStatus(revision=wanted.hash, image=wanted.image, since=times.text(now))
    if not stored_wanted:
        before = status.candidate or status.failed or status.stable
        if before is None:
            return Plan(_with_conditions(observed, status, lacking, now, refused[:1024]), events=told)
        asked = before
    step = rollout.advance(spec, status, _seen(observed, asked), now)
    moved = step.status != status
    new = _with_conditions(observed, step.status, lacking, now, refused[:1024])
    return Plan(new, apply, create, delete, [*step.events, *told], requeue_s=_again_s(new, moved, now))


def _a_pod_waits(observed: Observed) -> bool:
    """Whether a pod that there should be does not serve: it may wait for what it mounts."""
    if observed.spec.hibernated:
        return False
    pods_of = (_pod_of(observed, shard.name) for shard in observed.spec.shards)
    if not all(pod is not None and pods.ready(pod) for pod in pods_of):
        return True
    gateway = observed.live.get(Ref("apps/v1", "Deployment", names.gateway(observed.venue.name)), {})
    available = gateway.get("status", {}).get("availableReplicas", 0)
    return bool(available < observed.spec.gateway.replicas)


def _internal_secret(observed: Observed) -> Manifest:
    name = observed.venue.name
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.internal_secret(name), "labels": names.labels(name, "internal")},
        "type": "Opaque",
        "stringData": {INTERNAL_FILE: observed.fresh_secret},
    }


# --- objects ----------------------------------------------------------------------------------------


def _objects(
    observed: Observed, revisions: Mapping[str, Revision]
) -> tuple[list[Manifest], list[Ref], list[str]]:
    """What to apply because it is not so, what to delete, and which kinds are lacking, by the stored
    status."""
    venue, spec, status = observed.venue, observed.spec, observed.status
    running = rollout.running(spec, status)
    if not all(revision in revisions for revision in running.values()):
        # Nothing was decided yet, or a stored revision is gone: touch no workload.
        return [], [], []
    gateway = revisions.get(rollout.gateway_revision(status), revisions[next(iter(running.values()))])
    chosen = {shard: revisions[revision] for shard, revision in running.items()}
    made = desired(venue.name, venue.namespace, spec, chosen, gateway, observed.operator_namespace)
    possible = [each for each in made if _kind(each) not in OPTIONAL or _kind(each) in observed.kinds]
    lacking = sorted({each["kind"] for each in made} - {each["kind"] for each in possible})
    wanted = {ref_of(each) for each in possible}
    surplus = sorted(observed.live.keys() - wanted, key=lambda ref: (ref.kind, ref.name))
    marked = [_owned(observed, marked_with_hash(each)) for each in possible]
    drifted = [each for each in marked if not in_force(each, observed.live.get(ref_of(each), {}))]
    return drifted, surplus, lacking


def ref_of(manifest: Manifest) -> Ref:
    return Ref(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])


def marked_with_hash(manifest: Manifest) -> Manifest:
    """With a hash of itself: a field that is no longer asked for is still there in the live object."""
    digest = hashlib.blake2b(msgspec.json.encode(manifest, order="sorted"), digest_size=8).hexdigest()
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def in_force(wanted: Any, found: Any) -> bool:
    """Whether the live object holds everything that is wanted; what the API server or others add does not
    matter."""
    if found is None and not wanted:
        # What is empty is often not sent back.
        return True
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(in_force(each, found.get(key)) for key, each in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(wanted) == len(found)
            and all(in_force(*pair) for pair in zip(wanted, found, strict=True))
        )
    return bool(wanted == found)


def _kind(manifest: Manifest) -> tuple[str, str]:
    return manifest["apiVersion"], manifest["kind"]


def _owned(observed: Observed, manifest: Manifest) -> Manifest:
    """With namespace and owner: the garbage collector cleans up, so deletion needs no finalizer. Claims have
    no owner."""
    venue = observed.venue
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Venue",
        "name": venue.name,
        "uid": venue.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata = {**manifest["metadata"], "namespace": venue.namespace, "ownerReferences": [owner]}
    return {**manifest, "metadata": metadata}


def _gate_run(observed: Observed, revisions: Mapping[str, Revision]) -> list[Manifest]:
    """The GateRun that the stored status names, if it is not there."""
    status, spec = observed.status, observed.spec
    stable, candidate, under_way = status.stable, status.candidate, status.rollout
    if status.phase != "Deploying" or under_way is None or stable is None or candidate is None:
        return []
    name = under_way.gate_run
    if not name or any(run.name == name for run in observed.gate_runs):
        return []
    asked = GateRunSpec(
        venue=observed.venue.name,
        stable=stable.revision,
        candidate=candidate.revision,
        stable_image=stable.image,
        candidate_image=candidate.image,
        gate=spec.rollout.gate,
    )
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "GateRun",
        "metadata": {"name": name, "labels": names.labels(observed.venue.name, "gate-run")},
        "spec": builtins_of(asked),
    }
    return [_owned(observed, manifest)]


def builtins_of(struct: Struct) -> dict[str, Any]:
    """As the API server takes it: what is None is left out."""
    made = msgspec.to_builtins(struct)
    return {key: value for key, value in made.items() if value is not None}


def _old_gate_runs(observed: Observed) -> list[Ref]:
    newest_first = sorted(observed.gate_runs, key=lambda run: (run.created, run.name), reverse=True)
    return [Ref(API_VERSION, "GateRun", run.name) for run in newest_first[GATE_RUNS_KEPT:]]


# --- what was seen ----------------------------------------------------------------------------------


def _pod_of(observed: Observed, shard: str) -> dict[str, Any] | None:
    """The shard's pod; of several (one is leaving) the one that stays."""
    own = [pod for pod in observed.pods if pod["metadata"]["labels"].get(names.SHARD) == shard]
    own.sort(key=lambda pod: bool(pod["metadata"].get("deletionTimestamp")))
    return own[0] if own else None


def _seen(observed: Observed, wanted: RevisionStatus) -> rollout.Seen:
    shards = {}
    for shard in observed.spec.shards:
        pod = _pod_of(observed, shard.name)
        if pod is not None:
            shards[shard.name] = rollout.ShardSeen(pods.revision(pod), pods.ready(pod), pods.trouble(pod))
    under_way, handled = observed.status.rollout, observed.status.handled_nonces
    run = None
    if under_way is not None and under_way.gate_run:
        run = next((each.status for each in observed.gate_runs if each.name == under_way.gate_run), None)
    given = observed.venue.annotations
    return rollout.Seen(
        venue=observed.venue.name,
        wanted=wanted.revision,
        image=wanted.image,
        shards=shards,
        gate_run=run,
        judged=observed.judged,
        orders={
            verb: given[verb][:64]
            for verb in ORDERS
            if given.get(verb) and given[verb][:64] != handled.get(verb)
        },
    )


def _shards(observed: Observed) -> list[ShardStatus]:
    made = []
    for shard in observed.spec.shards:
        pod = _pod_of(observed, shard.name)
        if pod is None:
            made.append(ShardStatus(name=shard.name))
            continue
        name = pod["metadata"]["name"]
        answers = observed.answers.get(name, Answers())
        said = answers.status or {}
        made.append(
            ShardStatus(
                name=shard.name,
                revision=pods.revision(pod),
                ready=pods.ready(pod),
                pod=name,
                node=pod.get("spec", {}).get("nodeName", ""),
                epoch=int(said.get("epoch", 0)),
                closed_cleanly=bool((said.get("recovered") or {}).get("closed")),
            )
        )
    return made


def _pinning(observed: Observed, shards: list[ShardStatus], now: int) -> PinningStatus:
    if observed.spec.pinning.mode == "None":
        return PinningStatus(pods_total=len(shards))
    masks: dict[str, tuple[str, frozenset[int]]] = {}
    for shard in shards:
        answers = observed.answers.get(shard.pod, Answers())
        for who, said in (("engine", answers.pinning), ("history", answers.history)):
            mask = pinning.mask_of(pinning.evidence_of(said)) if said is not None else None
            if mask is not None:
                masks[f"{shard.pod}/{who}"] = (shard.node, mask)
    made = []
    for shard in shards:
        if not shard.pod:
            continue
        said = observed.answers.get(shard.pod, Answers()).pinning
        others = {
            who: mask
            for who, (node, mask) in masks.items()
            if node == shard.node and who != f"{shard.pod}/engine"
        }
        requested = observed.spec.resources.engine.cpu
        found = pinning.judge(pinning.evidence_of(said) if said is not None else None, requested, others)
        made.append(
            PodPinning(
                pod=shard.pod,
                node=shard.node,
                cpus=found.cpus[:1024],
                requested=requested,
                verdict=found.verdict,
                reason=found.reason[:512],
                observed_at=_kept_time(observed, shard.pod, found, now),
            )
        )
    return PinningStatus(
        pods_pinned=sum(each.verdict == "Pinned" for each in made), pods_total=len(shards), pods=made
    )


def _kept_time(observed: Observed, pod: str, found: pinning.Judgement, now: int) -> str:
    """The time of the last change: a status that says the same is not written again."""
    for before in observed.status.pinning.pods:
        if (before.pod, before.verdict, before.cpus) == (pod, found.verdict, found.cpus):
            return before.observed_at
    return times.text(now)


# --- status -----------------------------------------------------------------------------------------


def _with_conditions(
    observed: Observed, status: VenueStatus, lacking: list[str], now: int, refused: str = ""
) -> VenueStatus:
    spec = observed.spec
    shards = _shards(observed)
    pinned = _pinning(observed, shards, now)
    knobs, silent = _tuning(observed, shards)
    judged = observed.judged
    slo = status.slo
    if judged is not None:
        slo = [_objective(each) for each in judged]
    status = structs.replace(
        status,
        observed_generation=observed.venue.generation,
        shards=shards,
        shards_total=len(shards),
        shards_ready=sum(shard.ready for shard in shards),
        pinning=pinned,
        tuning=knobs[:64],
        slo=slo,
    )
    facts = [
        _ready(spec, status),
        ("Progressing", "False", REFUSED, refused) if refused else _progressing(status),
        _pinned(spec, pinned),
        _tuned(knobs, silent),
        _slo_met(judged, slo),
        _gate_passed(observed, status),
        _metrics(spec, judged, lacking),
        ("Paused", _said(spec.paused), "SpecPaused" if spec.paused else "NotPaused", ""),
    ]
    return structs.replace(status, conditions=_conditions(observed, facts, now))


Fact = tuple[str, Tristate, str, str]


def _said(value: bool) -> Tristate:
    return "True" if value else "False"


def _conditions(observed: Observed, facts: list[Fact], now: int) -> list[Condition]:
    before = {each.type: each for each in observed.status.conditions}
    made = []
    for kind, value, reason, message in facts:
        old = before.get(kind)
        since = old.last_transition_time if old and old.status == value else times.text(now)
        made.append(
            Condition(
                type=kind,
                status=value,
                observed_generation=observed.venue.generation,
                last_transition_time=since,
                reason=reason,
                message=message[:4096],
            )
        )
    return made


def _ready(spec: VenueSpec, status: VenueStatus) -> Fact:
    if spec.hibernated:
        return ("Ready", "False", "Hibernated", "set spec.hibernated to false to start again")
    waiting = [shard.name for shard in status.shards if not shard.ready]
    if waiting:
        return ("Ready", "False", "ShardsNotReady", f"not ready: {', '.join(waiting)}")
    if spec.pinning.mode == "Required":
        loose = [each.pod for each in status.pinning.pods if each.verdict != "Pinned"]
        if loose:
            return ("Ready", "False", "NotPinned", f"pinning is required: {', '.join(loose)}")
    return ("Ready", "True", "ShardsReady", f"{status.shards_ready} shards take orders")


def _progressing(status: VenueStatus) -> Fact:
    reason = status.rollout.reason if status.rollout else ""
    if status.phase == "Paused":
        return ("Progressing", "False", "Inconclusive", f"no verdict: {reason}; retry or abort")
    if status.phase == "Failed":
        return ("Progressing", "False", "Failed", reason or "the release was refused")
    return ("Progressing", _said(status.phase in rollout.UNDER_WAY), status.phase, reason)


def _pinned(spec: VenueSpec, found: PinningStatus) -> Fact:
    if spec.pinning.mode == "None":
        return ("CPUPinned", "False", "NotRequested", "spec.pinning.mode is None")
    bad = [each for each in found.pods if each.verdict not in ("Pinned", "Unknown")]
    if bad:
        text = "; ".join(f"{each.pod}: {each.reason}" for each in bad)
        return ("CPUPinned", "False", bad[0].verdict, text)
    if found.pods_pinned == found.pods_total and found.pods_total:
        return ("CPUPinned", "True", "Pinned", f"{found.pods_pinned} engines have CPUs of their own")
    text = "; ".join(f"{each.pod}: {each.reason}" for each in found.pods if each.verdict == "Unknown")
    return ("CPUPinned", "Unknown", "Unknown", text)


def _tuning(observed: Observed, shards: list[ShardStatus]) -> tuple[list[Knob], list[str]]:
    knobs: list[Knob] = []
    silent = []
    for shard in shards:
        said = observed.answers.get(shard.pod, Answers()).status
        found = tuning.mismatches(shard.pod, observed.spec, said)
        if found is None:
            silent.append(shard.pod or shard.name)
        else:
            knobs += found
    return knobs, silent


def _tuned(knobs: list[Knob], silent: list[str]) -> Fact:
    if knobs:
        text = "; ".join(f"{each.pod}: {each.knob} is {each.actual}, asked {each.expected}" for each in knobs)
        return ("TuningApplied", "False", "NotInForce", text)
    if silent:
        return ("TuningApplied", "Unknown", "NoAnswer", f"no answer from {', '.join(silent)}")
    return ("TuningApplied", "True", "InForce", "every knob was read back")


def _objective(judged: Judged) -> ObjectiveStatus:
    if judged.met is None or judged.bad is None or judged.burn_rate is None:
        return ObjectiveStatus(name=judged.name, met="Unknown")
    return ObjectiveStatus(
        name=judged.name,
        met=_said(judged.met),
        current=f"{100 * (1 - judged.bad):.2f}",
        burn_rate=f"{judged.burn_rate:.1f}",
    )


def _slo_met(judged: list[Judged] | None, slo: list[ObjectiveStatus]) -> Fact:
    if judged is None:
        return ("SLOMet", "Unknown", "NoPrometheus", "rollout.gate.prometheus is not set")
    missed = [each.name for each in slo if each.met == "False"]
    if missed:
        return ("SLOMet", "False", "Missed", ", ".join(missed))
    silent = [each.name for each in slo if each.met == "Unknown"]
    if silent:
        return ("SLOMet", "Unknown", "NoData", ", ".join(silent))
    return ("SLOMet", "True", "Met", f"{len(slo)} objectives are kept")


def _gate_passed(observed: Observed, status: VenueStatus) -> Fact:
    """About the newest finished GateRun; between two it stays as it was."""
    done = [run for run in observed.gate_runs if run.status.phase == "Complete"]
    if done:
        last = max(done, key=lambda run: (run.status.completed_at or "", run.name))
        value: Tristate = {"Pass": "True", "Fail": "False"}.get(last.status.verdict, "Unknown")  # type: ignore[assignment]
        return ("GatePassed", value, last.status.reason or "Unknown", last.status.message)
    if status.stable is not None or status.candidate is not None:
        return ("GatePassed", "Unknown", "NoBaseline", "no release has been compared yet")
    return ("GatePassed", "Unknown", "NotYet", "")


def _metrics(spec: VenueSpec, judged: list[Judged] | None, lacking: list[str]) -> Fact:
    unmonitored = [kind for kind in lacking if kind in (monitoring.POD_MONITOR[1], monitoring.RULE[1])]
    if unmonitored:
        return ("MetricsAvailable", "False", "KindsMissing", f"the cluster has no {', '.join(unmonitored)}")
    if lacking:
        return ("MetricsAvailable", "Unknown", "KindsMissing", f"the cluster has no {', '.join(lacking)}")
    if judged is not None:
        silent = [each.name for each in judged if each.met is None]
        if silent:
            return (
                "MetricsAvailable",
                "False",
                "NoData",
                f"Prometheus has no number for {', '.join(silent)}",
            )
        return ("MetricsAvailable", "True", "Answering", "")
    if spec.monitoring.enabled:
        return ("MetricsAvailable", "True", "Monitored", "")
    return ("MetricsAvailable", "Unknown", "NotConfigured", "spec.monitoring.enabled is false")


def _again_s(status: VenueStatus, moved: bool, now: int) -> float:
    """When to look again: at once after a step, soon while something is under way, at a deadline when it is
    due."""
    if moved:
        return 0.0
    waiting = status.phase in rollout.UNDER_WAY or any(
        each.status != "True"
        for each in status.conditions
        if each.type in ("Ready", "CPUPinned", "TuningApplied")
    )
    again = EVIDENCE_S if waiting else RESYNC_S
    if (
        status.rollout is not None
        and status.rollout.deadline is not None
        and status.phase in rollout.UNDER_WAY
    ):
        again = min(again, max(0.5, times.unix(status.rollout.deadline) - now))
    return again


def refusal(message: str) -> Event:
    """For a spec that the schema let through and the operator can't read."""
    return Event("Warning", "SpecNotUnderstood", message[:1024])
