"""A GateRun: the candidate against the stable revision, on one slot, in the order A B B A.

Each round starts its pod on an empty journal, loads it with its own k6 Job and deletes both; one spare CPU is
enough. A drifting machine hurts both sides alike in this order, and the spread of the stable rounds among
themselves says how much a ratio means. Everything fails closed: what is missing, too little or unreadable is
Inconclusive, never a pass."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from tradsys_operator import names, pinning, pods, times
from tradsys_operator.api import API_VERSION, Compare, GateRunSpec, GateRunStatus, Round
from tradsys_operator.plans import Event, Manifest, Plan, Ref
from tradsys_operator.render import gate as render
from tradsys_operator.revisions import Revision

PENDING_S_MAX = 60
"""A pod that finds no node for so long has none: the cluster lacks a spare CPU."""
SUMMARY_BYTES_MAX = 4096

EXIT_PASSED = 0
EXIT_FAILED = frozenset((99, 108, 110))
"""Thresholds missed, the script gave up, a test was marked as failed."""
EXIT_SCRIPT = frozenset((104, 107))
"""The script or its options are wrong: its author's error, not the candidate's."""

FAILED_RATIO_MAX = 0.001
CHECKS_RATIO_MIN = 0.999


class Summary(Struct, frozen=True):
    """What the k6 script writes into the termination message."""

    samples: int
    latency_us: dict[str, float]
    throughput_per_s: float
    failed_ratio: float
    checks_ratio: float
    dropped: int = 0


class Seen(Struct, frozen=True):
    """What a step looks at."""

    pods: Mapping[str, dict[str, Any]] = {}
    """Gate pods by name."""
    jobs: Mapping[str, dict[str, Any]] = {}
    """k6 Jobs by name."""
    k6_pods: Mapping[str, dict[str, Any]] = {}
    """Pods of k6 Jobs by the Job's name."""
    evidence: Mapping[str, pinning.Evidence] = {}
    """By gate pod."""
    revisions: Mapping[str, Revision] = {}
    wanted: bool = True
    """The Venue's rollout still asks for this run."""
    since: int = 0
    """When this operator began to look, in unix seconds. While nobody looked, because there was no operator
    or no API server, there may have been no scheduler either: that time is nobody's waiting."""


class Run(Struct, frozen=True):
    """Which GateRun."""

    name: str
    namespace: str
    uid: str
    spec: GateRunSpec
    status: GateRunStatus
    deleting: bool = False


class Verdict(Struct, frozen=True):
    verdict: Literal["Pass", "Fail", "Inconclusive"]
    reason: str
    message: str
    latency_ratio_percent: int = 0
    throughput_ratio_percent: int = 0


def refused(run: Run, message: str, now: int) -> Plan[GateRunStatus]:
    """When the API server says that a pod or a Job makes no sense: waiting would not help."""
    return _complete(run, now, Verdict("Inconclusive", "Refused", message[:1024]))


def side_of(index: int) -> Literal["stable", "candidate"]:
    """A B B A, over and over."""
    return "stable" if index % 4 in (0, 3) else "candidate"


def advance(run: Run, seen: Seen, secret: tuple[str, str], now: int) -> Plan[GateRunStatus]:
    """One step. `secret` is a fresh key and a token signed with it, used if there is none yet."""
    status = run.status
    if run.deleting:
        return Plan(status)
    if status.phase == "Complete":
        return _tidy(run, seen)
    if not seen.wanted:
        return _complete(run, now, Verdict("Inconclusive", "Superseded", "the release was given up"))
    if status.phase == "Pending":
        started = structs.replace(status, phase="Running", started_at=times.text(now))
        return Plan(started, _shared(run), [_secret(run, secret)], requeue_s=0)
    return _round(run, seen, secret, now)


def _round(run: Run, seen: Seen, secret: tuple[str, str], now: int) -> Plan[GateRunStatus]:
    rounds = run.status.rounds
    current = rounds[-1] if rounds else None
    if current is None or current.state == "Done":
        leftover = [name for name in (*seen.pods, *seen.jobs)]
        if leftover:
            # One slot: the next pod needs the CPU that this one still has.
            return Plan(run.status, delete=_all(run, seen), requeue_s=1)
        if len(rounds) == 2 * run.spec.gate.compare.rounds:
            return _complete(
                run, now, verdict(rounds, run.spec.gate.compare, run.spec.gate.pinning == "Required")
            )
        return Plan(_with(run, _next(run, len(rounds), now)), requeue_s=0)
    revision = seen.revisions.get(_revision(run, current))
    if revision is None:
        return _complete(run, now, Verdict("Inconclusive", "RevisionMissing", "a stored revision is gone"))
    return (
        _start(run, seen, secret, current, revision, now)
        if current.state == "Starting"
        else _load(run, seen, current, revision, now)
    )


def _next(run: Run, index: int, now: int) -> Round:
    return Round(
        index=index,
        side=side_of(index),
        started_at=times.text(now),
        pod=names.gate_pod(run.name, index),
        job=names.gate_job(run.name, index),
    )


def _start(
    run: Run, seen: Seen, secret: tuple[str, str], current: Round, revision: Revision, now: int
) -> Plan[GateRunStatus]:
    pod = seen.pods.get(current.pod)
    if pod is None:
        made = render.gate_pod(run.spec.venue, run.name, current.pod, revision, run.spec.gate)
        return Plan(run.status, _shared(run), [_secret(run, secret), _owned(run, made)], requeue_s=2)
    if _foreign(run, pod):
        return _complete(
            run, now, Verdict("Inconclusive", "NameTaken", f"pod {current.pod} is somebody else's")
        )
    waited = _waited(current, seen, now)
    if pods.ready(pod):
        loading = structs.replace(
            current, state="Loading", node=pod.get("spec", {}).get("nodeName", ""), started_at=times.text(now)
        )
        return Plan(_with(run, loading), requeue_s=0)
    trouble = pods.trouble(pod)
    if trouble in pods.REFUSED_BY_KUBELET:
        return _complete(run, now, Verdict("Inconclusive", "NoGateCapacity", f"the kubelet said {trouble}"))
    if trouble or waited > run.spec.gate.timeout_seconds:
        return _complete(run, now, _does_not_start(current, trouble or "not ready in time"))
    if pods.lost(pod):
        reason = pod.get("status", {}).get("reason", "")
        if reason or pod["metadata"].get("deletionTimestamp"):
            return _complete(
                run, now, Verdict("Inconclusive", "GatePodLost", f"pod {current.pod}: {reason or 'deleted'}")
            )
        return _complete(run, now, _does_not_start(current, "it ended"))
    if not pods.scheduled(pod) and waited > PENDING_S_MAX:
        text = f"no node has room for {current.pod}: the gate needs as many spare CPUs as one engine"
        return _complete(run, now, Verdict("Inconclusive", "NoGateCapacity", text))
    return Plan(run.status, requeue_s=2)


def _waited(current: Round, seen: Seen, now: int) -> int:
    return now - max(times.unix(current.started_at), seen.since)


def _does_not_start(current: Round, why: str) -> Verdict:
    if current.side == "stable":
        return Verdict(
            "Inconclusive", "BaselineDoesNotStart", f"the stable revision does not start either: {why}"
        )
    return Verdict("Fail", "CandidateDoesNotStart", f"the candidate does not start: {why}")


def _load(run: Run, seen: Seen, current: Round, revision: Revision, now: int) -> Plan[GateRunStatus]:
    pod, job = seen.pods.get(current.pod), seen.jobs.get(current.job)
    evidence = seen.evidence.get(current.pod)
    if evidence is not None and not current.cpus:
        found = pinning.judge(evidence, _cpus_of(revision), {})
        current = structs.replace(current, cpus=found.cpus[:1024], pinning=found.verdict)
    if job is not None and _foreign(run, job):
        return _complete(
            run, now, Verdict("Inconclusive", "NameTaken", f"Job {current.job} is somebody else's")
        )
    if job is not None and _finished(job):
        return Plan(_with(run, _result(run, current, seen.k6_pods.get(current.job))), requeue_s=0)
    if pod is None or pods.lost(pod):
        why = (pod or {}).get("status", {}).get("reason") or "gone"
        return _complete(
            run, now, Verdict("Inconclusive", "GatePodLost", f"pod {current.pod} under load: {why}")
        )
    if job is None:
        if current.job_uid:
            text = f"Job {current.job} was deleted while it ran"
            return _complete(run, now, Verdict("Inconclusive", "JobDeleted", text))
        container = revision.shard["spec"]["containers"][0]
        made = render.k6_job(
            run.spec.venue,
            run.name,
            current.job,
            run.spec.gate,
            pod.get("status", {}).get("podIP", ""),
            # The load is made by the stable image on both sides.
            run.spec.stable_image,
            container.get("imagePullPolicy", "IfNotPresent"),
        )
        return Plan(_with(run, current), create=[_owned(run, made)], requeue_s=2)
    current = structs.replace(current, job_uid=job["metadata"]["uid"])
    if _waited(current, seen, now) > run.spec.gate.timeout_seconds + render.JOB_MARGIN_S:
        return _complete(
            run, now, Verdict("Inconclusive", "Infrastructure", f"Job {current.job} does not end")
        )
    return Plan(_with(run, current), requeue_s=2)


def _result(run: Run, current: Round, k6_pod: dict[str, Any] | None) -> Round:
    """The round with what k6 left behind; without a pod there is no exit code, and so no verdict."""
    ended = _terminated(k6_pod)
    done = structs.replace(current, state="Done")
    if ended is None:
        return done
    text = str(ended.get("message", ""))[:SUMMARY_BYTES_MAX]
    done = structs.replace(done, exit_code=int(ended.get("exitCode", 255)), summary=text)
    summary = summary_of(text)
    if summary is None:
        return done
    percentile = str(run.spec.gate.compare.percentile)
    return structs.replace(
        done,
        samples=summary.samples,
        latency_microseconds=round(summary.latency_us.get(percentile, 0)),
        throughput_per_second=round(summary.throughput_per_s),
    )


def summary_of(text: str) -> Summary | None:
    """None: not readable, or not a number."""
    try:
        summary = msgspec.json.decode(text, type=Summary)
    except (msgspec.DecodeError, UnicodeError):
        return None
    numbers = [
        summary.throughput_per_s,
        summary.failed_ratio,
        summary.checks_ratio,
        *summary.latency_us.values(),
    ]
    return summary if all(0 <= number < 1e12 for number in numbers) else None


def _terminated(pod: dict[str, Any] | None) -> dict[str, Any] | None:
    for container in (pod or {}).get("status", {}).get("containerStatuses", []):
        if container["name"] == "k6":
            found: dict[str, Any] | None = container.get("state", {}).get("terminated")
            return found
    return None


def _finished(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions)


# --- the verdict ------------------------------------------------------------------------------------


def verdict(rounds: list[Round], compare: Compare, pinned: bool = False) -> Verdict:
    """From the rounds alone. The order of the questions is the order of trust: first whether there is
    evidence at all, then whether it means anything, then what it says."""
    for each in rounds:
        doubt = _doubt(each, compare, pinned)
        if doubt is not None:
            return doubt
    stable = [each for each in rounds if each.side == "stable"]
    candidate = [each for each in rounds if each.side == "candidate"]
    if not stable or not candidate:
        return Verdict("Inconclusive", "NoVerdict", "there were no rounds of both sides")
    few = [each for each in rounds if each.samples < compare.min_samples]
    too_few = [f"round {each.index} ({each.side}): {each.samples} of {compare.min_samples}" for each in few]
    if any(each.side == "stable" for each in few):
        return Verdict("Inconclusive", "TooFewSamples", "; ".join(too_few))
    bad = [each for each in stable if _bad(each)]
    if bad and len(bad) < len(stable):
        text = f"the stable revision missed the thresholds in round {bad[0].index} and kept them in others"
        return Verdict("Inconclusive", "NoisyEnvironment", text)
    if bad:
        text = "the stable revision misses the thresholds too: this says nothing about the candidate"
        return Verdict("Inconclusive", "BaselineFails", text)
    spread = 100 * max(_latencies(stable)) // min(_latencies(stable))
    if spread > compare.max_latency_ratio_percent:
        allowed = compare.max_latency_ratio_percent
        text = f"rounds of the same revision differ by {spread} %, more than the {allowed} % allowed"
        return Verdict("Inconclusive", "NoisyEnvironment", text)
    latency = 100 * statistics.median(_latencies(candidate)) / statistics.median(_latencies(stable))
    throughput = 100 * statistics.median(_rates(candidate)) / statistics.median(_rates(stable))
    figures = (
        f"p{compare.percentile} {statistics.median(_latencies(candidate)):.0f} µs against "
        f"{statistics.median(_latencies(stable)):.0f} µs ({latency:.0f} %), throughput {throughput:.0f} %, "
        f"{len(candidate)} rounds each"
    )
    ratios = {"latency_ratio_percent": round(latency), "throughput_ratio_percent": round(throughput)}
    # The same load was offered to both: where only the candidate answered too little, it is the slower one.
    if few and throughput >= compare.min_throughput_ratio_percent:
        return Verdict("Inconclusive", "TooFewSamples", "; ".join(too_few))
    if latency > compare.max_latency_ratio_percent:
        return Verdict("Fail", "Slower", figures, **ratios)
    if throughput < compare.min_throughput_ratio_percent:
        return Verdict("Fail", "LessThroughput", figures, **ratios)
    bad = [each for each in candidate if _bad(each)]
    if bad and len(bad) < len(candidate) and all(_only_stalled(each) for each in bad):
        text = f"the candidate stalled in round {bad[0].index} and not in others; {figures}"
        return Verdict("Inconclusive", "NoisyEnvironment", text, **ratios)
    if bad:
        text = f"k6 thresholds were missed by the candidate only; {figures}"
        return Verdict("Fail", "ThresholdsMissed", text, **ratios)
    return Verdict("Pass", "AsGood", figures, **ratios)


def _doubt(each: Round, compare: Compare, pinned: bool) -> Verdict | None:
    """Why a round is no evidence."""
    where = f"round {each.index} ({each.side})"
    if each.exit_code is None:
        return Verdict("Inconclusive", "NoVerdict", f"{where}: k6 left no exit code")
    if each.exit_code in EXIT_SCRIPT:
        return Verdict(
            "Inconclusive", "ScriptError", f"{where}: k6 ended with {each.exit_code}, the script is wrong"
        )
    if each.exit_code != EXIT_PASSED and each.exit_code not in EXIT_FAILED:
        return Verdict("Inconclusive", "Infrastructure", f"{where}: k6 ended with {each.exit_code}")
    summary = summary_of(each.summary)
    if summary is None or str(compare.percentile) not in summary.latency_us:
        return Verdict("Inconclusive", "NoVerdict", f"{where}: the summary can't be read")
    if each.latency_microseconds <= 0 or each.throughput_per_second <= 0:
        return Verdict("Inconclusive", "NoVerdict", f"{where}: nothing was measured")
    if pinned and each.pinning != "Pinned":
        return Verdict("Inconclusive", "NotPinned", f"{where}: the gate pod was {each.pinning}")
    return None


def _bad(each: Round) -> bool:
    """Exit code 0 passes only with its guards: without them k6 is content with refused connections."""
    summary = summary_of(each.summary)
    assert summary is not None, "doubts come first"
    return (
        each.exit_code != EXIT_PASSED
        or summary.failed_ratio > FAILED_RATIO_MAX
        or summary.checks_ratio < CHECKS_RATIO_MIN
        or summary.dropped > 0
    )


def _only_stalled(each: Round) -> bool:
    """All that was answered was right; for a moment all clients waited and the load could not be offered."""
    summary = summary_of(each.summary)
    assert summary is not None, "doubts come first"
    right = summary.failed_ratio <= FAILED_RATIO_MAX and summary.checks_ratio >= CHECKS_RATIO_MIN
    return right and summary.dropped > 0


def _latencies(rounds: list[Round]) -> list[int]:
    return [each.latency_microseconds for each in rounds]


def _rates(rounds: list[Round]) -> list[int]:
    return [each.throughput_per_second for each in rounds]


# --- objects ----------------------------------------------------------------------------------------


def _revision(run: Run, current: Round) -> str:
    return run.spec.stable if current.side == "stable" else run.spec.candidate


def _cpus_of(revision: Revision) -> int:
    engine = next(each for each in revision.shard["spec"]["containers"] if each["name"] == names.ENGINE)
    return int(engine["resources"]["limits"]["cpu"])


def _with(run: Run, current: Round) -> GateRunStatus:
    rounds = [each for each in run.status.rounds if each.index != current.index]
    return structs.replace(run.status, rounds=[*rounds, current])


def _complete(run: Run, now: int, found: Verdict) -> Plan[GateRunStatus]:
    done = structs.replace(
        run.status,
        phase="Complete",
        verdict=found.verdict,
        reason=found.reason,
        message=found.message,
        completed_at=times.text(now),
        latency_ratio_percent=found.latency_ratio_percent,
        throughput_ratio_percent=found.throughput_ratio_percent,
    )
    kind: Literal["Normal", "Warning"] = "Normal" if found.verdict == "Pass" else "Warning"
    return Plan(
        done, events=[Event(kind, f"Gate{found.verdict}", f"{found.reason}: {found.message}")], requeue_s=0
    )


def _tidy(run: Run, seen: Seen) -> Plan[GateRunStatus]:
    leftover = _all(run, seen)
    return Plan(run.status, delete=leftover, requeue_s=2 if leftover else 3600)


def _all(run: Run, seen: Seen) -> list[Ref]:
    return [
        *(Ref("batch/v1", "Job", name) for name, job in seen.jobs.items() if not _foreign(run, job)),
        *(Ref("v1", "Pod", name) for name, pod in seen.pods.items() if not _foreign(run, pod)),
    ]


def _shared(run: Run) -> list[Manifest]:
    return [_owned(run, render.config_map(run.spec.venue, run.name))]


def _secret(run: Run, secret: tuple[str, str]) -> Manifest:
    return _owned(run, render.secret(run.spec.venue, run.name, *secret))


def _owned(run: Run, manifest: Manifest) -> Manifest:
    owner = {
        "apiVersion": API_VERSION,
        "kind": "GateRun",
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata = {**manifest["metadata"], "namespace": run.namespace, "ownerReferences": [owner]}
    return {**manifest, "metadata": metadata}


def _foreign(run: Run, found: Manifest) -> bool:
    """A name alone proves nothing: only what has this GateRun as its owner is adopted."""
    owners = found["metadata"].get("ownerReferences", [])
    return not any(owner.get("uid") == run.uid for owner in owners)
