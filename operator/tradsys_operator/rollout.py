"""How a revision gets to the shards: a machine of phases, as a pure function.

    Pending → Deploying → Gating → Switching (shard by shard) → Baking → Stable
    any → RollingBack → Failed (the stable revision keeps serving)
    no verdict → Paused (retry, abort; nothing to promote without evidence)
    Failed by its gate and promoted by hand → Switching, Baking: the objectives decide

The first revision of a venue has nothing to be compared with: Pending → Deploying → Stable. A revision among
the last `rollbackWindow` that served needs no gate: Pending → Switching.

`advance` takes one step and is called again with what it returned. It reads the world through `Seen` and
never acts: what the shards should run follows from the status (`running`), which is stored before anybody
acts on it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, structs

from tradsys_operator import names, times
from tradsys_operator.api import (
    GateRunStatus,
    Phase,
    RevisionStatus,
    RolloutStatus,
    VenueSpec,
    VenueStatus,
)
from tradsys_operator.objectives import BURN_RATE_MAX, Judged
from tradsys_operator.plans import Event

GATE_ATTEMPTS_MAX = 3
"""A gate without a verdict because of the environment is tried again twice."""
RETRIED = frozenset(("NoisyEnvironment", "GatePodLost", "JobDeleted", "NoVerdict", "Infrastructure"))

UNDER_WAY: frozenset[Phase] = frozenset(
    ("Pending", "Deploying", "Gating", "Switching", "Baking", "RollingBack")
)


class ShardSeen(Struct, frozen=True):
    """A shard's pod: which revision it runs, whether it takes orders, why it never will."""

    revision: str = ""
    ready: bool = False
    trouble: str = ""


class Seen(Struct, frozen=True):
    """What a step looks at."""

    venue: str
    wanted: str
    """Hash of the revision that the spec asks for."""
    image: str
    shards: Mapping[str, ShardSeen]
    gate_run: GateRunStatus | None = None
    """The GateRun of the rollout under way, None if there is none."""
    judged: list[Judged] | None = None
    """Objectives on the live venue; None: no Prometheus is configured."""
    orders: Mapping[str, str] = {}
    """Nonces of promote, abort and retry that were not obeyed yet."""


class Step(Struct, frozen=True):
    status: VenueStatus
    events: list[Event] = []

    def moved_from(self, before: VenueStatus) -> bool:
        return self.status != before


def running(spec: VenueSpec, status: VenueStatus) -> dict[str, str]:
    """The revision that each shard should run, by the stored status."""
    stable = status.stable.revision if status.stable else ""
    candidate = status.candidate.revision if status.candidate else ""
    rollout = status.rollout
    if not stable:
        return {shard.name: candidate for shard in spec.shards}
    back = status.phase == "RollingBack"
    switched = frozenset(rollout.switched) if rollout and candidate and not back else frozenset[str]()
    return {shard.name: candidate if shard.name in switched else stable for shard in spec.shards}


def gateway_revision(status: VenueStatus) -> str:
    """The gateway follows when all shards have switched."""
    stable = status.stable.revision if status.stable else ""
    candidate = status.candidate.revision if status.candidate else ""
    baking = status.phase == "Baking" or (status.rollout is not None and status.rollout.paused_in == "Baking")
    return candidate if candidate and (baking or not stable) else stable


def advance(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    """One step. The same status means that there is nothing to do but to wait."""
    ordered = _obey(status, seen, now, spec)
    if ordered is not None:
        return ordered
    if spec.hibernated:
        return _hibernate(status)
    if status.phase == "Hibernated":
        woken: Phase = "Stable" if status.stable else "Pending"
        return _to(status, woken, now, Event("Normal", "Woken", "the venue starts again on its journals"))
    candidate = status.candidate
    if candidate is None:
        return _begin(spec, status, seen, now)
    if candidate.revision != seen.wanted and status.phase != "RollingBack":
        return _superseded(status, seen, now)
    match status.phase:
        case "Pending":
            return _leave_pending(spec, status, now)
        case "Deploying":
            return _deploying(spec, status, seen, now)
        case "Gating":
            return _gating(spec, status, seen, now)
        case "Switching":
            return _switching(spec, status, seen, now)
        case "Baking":
            return _baking(spec, status, seen, now)
        case "RollingBack":
            return _rolling_back(status, seen, now)
        case "Failed":
            return _first_failed(spec, status, seen, now)
        case _:
            return Step(status)


# --- what people order ------------------------------------------------------------------------------


def _obey(status: VenueStatus, seen: Seen, now: int, spec: VenueSpec) -> Step | None:
    """Orders given by annotation: each nonce is obeyed once, also when it asks for nothing that is
    possible."""
    for verb, nonce in seen.orders.items():
        status = structs.replace(status, handled_nonces={**status.handled_nonces, verb: nonce})
        if verb == names.ABORT:
            return _abort(status, now)
        if verb == names.RETRY:
            return _retry(spec, status, seen, now)
        return _promote(spec, status, seen, now)
    return None


def _abort(status: VenueStatus, now: int) -> Step:
    if status.candidate is None or status.stable is None or status.phase == "RollingBack":
        return Step(
            status, [Event("Warning", "NothingToAbort", "no release is under way that could be aborted")]
        )
    return _back(status, now, "Aborted", "aborted by hand")


def _retry(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    rollout = status.rollout
    if status.phase == "Paused" and rollout is not None:
        again: Phase = "Baking" if rollout.paused_in == "Baking" else "Deploying"
        rollout = structs.replace(rollout, attempt=rollout.attempt + 1, paused_in="", reason="")
        deadline = now + spec.rollout.bake_seconds if again == "Baking" else None
        return _to(
            structs.replace(status, rollout=rollout),
            again,
            now,
            Event("Normal", "Retried", f"{again} begins again, by hand"),
            deadline,
        )
    if status.failed is not None and status.failed.revision == seen.wanted:
        return Step(
            structs.replace(status, failed=None),
            [Event("Normal", "Retried", f"revision {seen.wanted} may try again, by hand")],
        )
    if status.phase == "Failed" and rollout is not None and status.stable is None:
        deadline = now + spec.rollout.progress_deadline_seconds
        event = Event("Normal", "Retried", "the first revision is waited for again, by hand")
        return _to(status, "Deploying", now, event, deadline)
    return Step(status, [Event("Warning", "NothingToRetry", "no release is paused or failed")])


def _promote(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    rollout, failed, run = status.rollout, status.failed, seen.gate_run
    refused = run is not None and run.verdict == "Fail"
    if rollout is not None and failed is not None and failed.revision == seen.wanted and refused:
        return _forced(spec, status, rollout, failed, now)
    if rollout is None or not rollout.gated:
        return Step(
            status,
            [
                Event(
                    "Warning",
                    "PromotionRefused",
                    "no release has passed its gate: without evidence none is promoted",
                )
            ],
        )
    if status.phase == "Baking" or rollout.paused_in == "Baking":
        return _promoted(status, now, "PromotedByHand", "baking ended by hand")
    return Step(status, [Event("Warning", "PromotionRefused", f"nothing to promote in phase {status.phase}")])


def _forced(
    spec: VenueSpec, status: VenueStatus, rollout: RolloutStatus, failed: RevisionStatus, now: int
) -> Step:
    """Somebody has read the evidence and wants the release nevertheless. It bakes like any other, and nobody
    can cut that short: `gated` stays False."""
    begun = structs.replace(rollout, started_at=times.text(now), switched=[], reason="Forced")
    event = Event("Warning", "Forced", f"revision {failed.revision} goes on by hand, against its gate")
    return _to(
        structs.replace(status, candidate=failed, failed=None, rollout=begun),
        "Switching",
        now,
        event,
        now + spec.rollout.progress_deadline_seconds,
    )


# --- phases -----------------------------------------------------------------------------------------


def _hibernate(status: VenueStatus) -> Step:
    if status.phase == "Hibernated":
        return Step(status)
    kept = structs.replace(status, rollout=None, candidate=None) if status.stable else status
    return Step(
        structs.replace(kept, phase="Hibernated"),
        [Event("Normal", "Hibernated", "scaled to zero; the journals are kept")],
    )


def _begin(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    """No release is under way: is there a reason for one?"""
    stable, failed = status.stable, status.failed
    if stable is not None and stable.revision == seen.wanted:
        if status.phase == "Stable" and failed is None:
            return Step(status)
        return Step(structs.replace(status, phase="Stable", failed=None, rollout=None))
    if failed is not None and failed.revision == seen.wanted:
        return Step(status if status.phase == "Failed" else structs.replace(status, phase="Failed"))
    since = times.text(now)
    rollout = RolloutStatus(
        id=f"{seen.wanted[:4]}{now:x}",
        started_at=since,
        phase_since=since,
        # What served before has shown that it can; the first has nothing to be compared with.
        gated=stable is None or seen.wanted in status.history[: spec.rollout.rollback_window + 1],
    )
    return Step(
        structs.replace(
            status,
            phase="Pending",
            candidate=RevisionStatus(revision=seen.wanted, image=seen.image, since=since),
            failed=None,
            rollout=rollout,
        ),
        [Event("Normal", "ReleaseFound", f"revision {seen.wanted} ({seen.image})")],
    )


def _leave_pending(spec: VenueSpec, status: VenueStatus, now: int) -> Step:
    rollout = _rollout(status)
    deadline = now + spec.rollout.progress_deadline_seconds
    if status.stable is not None and rollout.gated:
        event = Event("Normal", "GateSkipped", "the revision served before, within rollbackWindow")
        return _to(status, "Switching", now, event, deadline)
    text = (
        "the gate is prepared"
        if status.stable
        else "the first revision starts, with nothing to compare it with"
    )
    return _to(status, "Deploying", now, Event("Normal", "Deploying", text), deadline)


def _deploying(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    rollout, candidate = _rollout(status), status.candidate
    assert candidate is not None
    if status.stable is not None:
        name = names.gate_run(seen.venue, rollout.id, rollout.attempt)
        if rollout.gate_run != name:
            return Step(structs.replace(status, rollout=structs.replace(rollout, gate_run=name)))
        if seen.gate_run is None:
            return Step(status)
        return _to(status, "Gating", now, Event("Normal", "Gating", f"GateRun {name} compares"))
    trouble = _trouble(seen, candidate.revision)
    if trouble:
        # There is nothing to go back to: the pods stay for whoever looks for the reason.
        return _failed(status, now, trouble)
    if _all_ready(spec, seen, candidate.revision):
        return _promoted(status, now, "FirstRevision", "the first revision serves")
    if _late(rollout, now):
        return _failed(status, now, "ProgressDeadlineExceeded")
    return Step(status)


def _first_failed(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    """The first revision was given up, and its pods were left. If they serve after all, the next one is
    compared with it: without a stable revision it would have no gate."""
    candidate = status.candidate
    assert candidate is not None
    if _all_ready(spec, seen, candidate.revision):
        return _promoted(status, now, "FirstRevision", "the first revision serves, late")
    return Step(status)


def _gating(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    run, rollout = seen.gate_run, _rollout(status)
    if run is None:
        event = Event("Warning", "GateRunDeleted", "the GateRun is gone: the gate begins again")
        return _to(status, "Deploying", now, event)
    if run.phase != "Complete":
        return Step(status)
    if run.verdict == "Pass":
        passed = structs.replace(status, rollout=structs.replace(rollout, gated=True, reason=run.reason))
        deadline = now + spec.rollout.progress_deadline_seconds
        return _to(passed, "Switching", now, Event("Normal", "GatePassed", run.message), deadline)
    if run.verdict == "Fail":
        return _back(status, now, run.reason, run.message)
    if run.reason in RETRIED and rollout.attempt + 1 < GATE_ATTEMPTS_MAX:
        again = structs.replace(status, rollout=structs.replace(rollout, attempt=rollout.attempt + 1))
        event = Event("Warning", "GateRetried", f"no verdict ({run.reason}): {run.message}")
        return _to(again, "Deploying", now, event)
    return _inconclusive(spec, status, now, run.reason, run.message)


def _switching(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    rollout, candidate = _rollout(status), status.candidate
    assert candidate is not None
    switched = [shard.name for shard in spec.shards if shard.name in rollout.switched]
    for name in switched:
        shard = seen.shards.get(name, ShardSeen())
        if shard.revision == candidate.revision and shard.trouble:
            return _back(status, now, shard.trouble, f"shard {name} does not start on the new revision")
    if _late(rollout, now):
        return _back(
            status, now, "ProgressDeadlineExceeded", "a shard was not ready in time on the new revision"
        )
    if not all(_on(seen, name, candidate.revision) for name in switched):
        return Step(status)
    waiting = [shard.name for shard in spec.shards if shard.name not in switched]
    if waiting:
        more = structs.replace(
            rollout,
            switched=[*switched, waiting[0]],
            deadline=times.text(now + spec.rollout.progress_deadline_seconds),
        )
        return Step(
            structs.replace(status, rollout=more),
            [Event("Normal", "ShardSwitched", f"shard {waiting[0]} goes to revision {candidate.revision}")],
        )
    event = Event("Normal", "Baking", f"objectives are watched for {spec.rollout.bake_seconds} s")
    return _to(status, "Baking", now, event, now + spec.rollout.bake_seconds)


def _baking(spec: VenueSpec, status: VenueStatus, seen: Seen, now: int) -> Step:
    rollout, candidate = _rollout(status), status.candidate
    assert candidate is not None
    trouble = _trouble(seen, candidate.revision)
    if trouble:
        return _back(status, now, trouble, "a shard fell over while the release baked")
    judged = seen.judged
    for each in judged or []:
        if each.burn_rate is not None and each.burn_rate > float(BURN_RATE_MAX):
            text = f"{each.name} burns its budget {each.burn_rate:.1f} times too fast"
            return _back(status, now, "ObjectiveMissed", text)
    if not _late(rollout, now):
        return Step(status)
    if not _all_ready(spec, seen, candidate.revision):
        return _back(status, now, "NotReady", "a shard was not ready when the release had baked")
    if judged is not None:
        silent = [each.name for each in judged if each.met is None]
        if silent:
            return _inconclusive(
                spec, status, now, "NoMetrics", f"Prometheus has no number for {', '.join(silent)}"
            )
        missed = [each.name for each in judged if not each.met]
        if missed:
            return _back(
                status, now, "ObjectiveMissed", f"{', '.join(missed)} below target while the release baked"
            )
    return _promoted(status, now, "Baked", "the release has baked")


def _rolling_back(status: VenueStatus, seen: Seen, now: int) -> Step:
    stable, candidate, rollout = status.stable, status.candidate, _rollout(status)
    assert stable is not None and candidate is not None
    # Both bad: there is nothing better than the stable revision; the venue says that it is not ready.
    back = all(_on(seen, name, stable.revision) for name in rollout.switched)
    if not back and not _late(rollout, now):
        return Step(status)
    ended = structs.replace(status, candidate=None, rollout=None)
    how = f"revision {stable.revision} serves" if back else f"revision {stable.revision} is not ready either"
    if candidate.revision != seen.wanted:
        return Step(structs.replace(ended, phase="Stable"), [Event("Normal", "RolledBack", how)])
    failed = RevisionStatus(revision=candidate.revision, image=candidate.image, since=times.text(now))
    return Step(
        structs.replace(ended, phase="Failed", failed=failed, rollout=structs.replace(rollout, switched=[])),
        [Event("Normal" if back else "Warning", "RolledBack", how)],
    )


# --- steps that several phases share ----------------------------------------------------------------


def _superseded(status: VenueStatus, seen: Seen, now: int) -> Step:
    """The spec has changed midway: a candidate that nobody asks for any more goes."""
    rollout = _rollout(status)
    if rollout.switched and status.stable is not None:
        return _back(status, now, "Superseded", f"the spec asks for revision {seen.wanted} now")
    return Step(
        structs.replace(status, candidate=None, rollout=None, phase="Stable" if status.stable else "Pending"),
        [Event("Normal", "Superseded", f"the spec asks for revision {seen.wanted} now")],
    )


def _back(status: VenueStatus, now: int, reason: str, message: str) -> Step:
    rollout = structs.replace(_rollout(status), reason=reason, paused_in="")
    return _to(
        structs.replace(status, rollout=rollout),
        "RollingBack",
        now,
        Event("Warning", reason, message or reason),
        now + 600,
    )


def _inconclusive(spec: VenueSpec, status: VenueStatus, now: int, reason: str, message: str) -> Step:
    if spec.rollout.on_inconclusive == "Rollback":
        return _back(status, now, reason, message)
    rollout = structs.replace(_rollout(status), reason=reason, paused_in=status.phase)
    return _to(
        structs.replace(status, rollout=rollout),
        "Paused",
        now,
        Event("Warning", "Inconclusive", f"{reason}: {message}"),
    )


def _promoted(status: VenueStatus, now: int, reason: str, message: str) -> Step:
    candidate = status.candidate
    assert candidate is not None
    stable = RevisionStatus(revision=candidate.revision, image=candidate.image, since=times.text(now))
    history = [stable.revision, *(each for each in status.history if each != stable.revision)][:16]
    return Step(
        structs.replace(
            status, phase="Stable", stable=stable, candidate=None, failed=None, history=history, rollout=None
        ),
        [Event("Normal", "Promoted", f"revision {stable.revision} is stable: {message} ({reason})")],
    )


def _failed(status: VenueStatus, now: int, reason: str) -> Step:
    rollout = structs.replace(_rollout(status), reason=reason)
    candidate = status.candidate
    assert candidate is not None
    return Step(
        structs.replace(status, phase="Failed", rollout=rollout),
        [Event("Warning", reason, f"the first revision {candidate.revision} does not come to life")],
    )


def _to(status: VenueStatus, phase: Phase, now: int, event: Event, deadline: int | None = None) -> Step:
    rollout = status.rollout
    if rollout is not None:
        rollout = structs.replace(
            rollout,
            phase_since=times.text(now),
            deadline=times.text(deadline) if deadline is not None else None,
        )
    return Step(structs.replace(status, phase=phase, rollout=rollout), [event])


def _rollout(status: VenueStatus) -> RolloutStatus:
    assert status.rollout is not None, f"phase {status.phase} has a rollout"
    return status.rollout


def _late(rollout: RolloutStatus, now: int) -> bool:
    return rollout.deadline is not None and now >= times.unix(rollout.deadline)


def _on(seen: Seen, shard: str, revision: str) -> bool:
    found = seen.shards.get(shard, ShardSeen())
    return found.ready and found.revision == revision


def _all_ready(spec: VenueSpec, seen: Seen, revision: str) -> bool:
    return all(_on(seen, shard.name, revision) for shard in spec.shards)


def _trouble(seen: Seen, revision: str) -> str:
    troubles = (shard.trouble for shard in seen.shards.values() if shard.revision == revision)
    return next(filter(None, troubles), "")
