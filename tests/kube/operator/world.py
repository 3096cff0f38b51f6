"""A Venue and a world around it, for the pure functions: no API server, no time but the one that is said."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from msgspec import structs
from tradsys_operator import names, times
from tradsys_operator.api import Compare, GateRunSpec, GateRunStatus, Round, VenueSpec, VenueStatus
from tradsys_operator.objectives import Judged
from tradsys_operator.plans import Event
from tradsys_operator.reconcile import Answers, GateRun, Identity, Observed, reconcile, ref_of
from tradsys_operator.revisions import Revision, read

START = 1_800_000_000

SPEC: dict[str, Any] = {
    "image": "registry.example/tradsys:1",
    "shards": [{"name": "a", "symbols": ["BTC-USD", "ETH-USD"]}, {"name": "b", "symbols": ["SOL-USD"]}],
    "instruments": [
        {
            "symbol": "BTC-USD",
            "tickSize": "0.01",
            "lotSize": "0.00001",
            "makerFeeBps": "1",
            "takerFeeBps": "2.5",
        },
        {"symbol": "ETH-USD", "tickSize": "0.01", "lotSize": "0.0001", "minNotional": "1"},
        {"symbol": "SOL-USD", "tickSize": "0.01", "lotSize": "0.001", "bandPercent": "5"},
    ],
    "auth": {"jwks": {"secretName": "venue-keys", "key": "jwks.json"}},
}


def spec(**changes: Any) -> VenueSpec:
    """The example with other fields; `shards=1` keeps the first one only."""
    whole = copy.deepcopy(SPEC)
    if changes.pop("one_shard", False):
        whole["shards"] = whole["shards"][:1]
    return msgspec.convert(whole | changes, VenueSpec)


class World:
    """Carries plans out in memory, as an obedient cluster would: pods follow their StatefulSets at once."""

    def __init__(self, venue: VenueSpec):
        self.spec = venue
        self.now = START
        self.status = VenueStatus()
        self.generation = 1
        self.annotations: dict[str, str] = {}
        self.revisions: dict[str, Revision] = {}
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.deleted: list[tuple[str, str]] = []
        self.gate_runs: dict[str, GateRun] = {}
        self.answers: dict[str, Answers] = {}
        self.judged: list[Judged] | None = None
        self.broken: set[str] = set()
        """Revisions whose pods don't become ready."""
        self.trouble = ""
        """What the kubelet says about pods of broken revisions."""
        self.said: list[Event] = []
        self.phases: list[str] = []

    def ask(self, **changes: Any) -> None:
        self.spec = structs.replace(self.spec, **changes)
        self.generation += 1

    def pods(self) -> list[dict[str, Any]]:
        made = []
        for (kind, name), found in sorted(self.objects.items()):
            if kind != "StatefulSet" or not found["spec"]["replicas"]:
                continue
            labels = found["spec"]["template"]["metadata"]["labels"]
            broken = labels[names.REVISION] in self.broken
            waiting = [{"name": "engine", "state": {"waiting": {"reason": self.trouble}}}]
            made.append(
                {
                    "metadata": {"name": f"{name}-0", "labels": labels},
                    "spec": {"nodeName": "node1"},
                    "status": {
                        "podIP": "10.0.0.1",
                        "conditions": [{"type": "Ready", "status": "False" if broken else "True"}],
                        "containerStatuses": waiting if broken and self.trouble else [],
                    },
                }
            )
        return made

    def observed(self) -> Observed:
        return Observed(
            venue=Identity("crypto", "trading", "uid-1", self.generation, self.annotations),
            spec=self.spec,
            status=self.status,
            revisions=self.revisions,
            revision_number=len(self.revisions),
            live={ref_of(found): found for found in self.objects.values()},
            pods=self.pods(),
            gate_runs=list(self.gate_runs.values()),
            answers=self.answers,
            judged=self.judged,
        )

    def step(self) -> bool:
        """One pass; whether anything changed."""
        plan = reconcile(self.observed(), self.now)
        known = (len(self.gate_runs), dict(self.objects))
        for manifest in plan.create:
            name = manifest["metadata"]["name"]
            if manifest["kind"] == "ControllerRevision":
                self.revisions[manifest["metadata"]["labels"][names.REVISION]] = read(manifest)
            elif manifest["kind"] == "GateRun" and name not in self.gate_runs:
                asked = msgspec.convert(manifest["spec"], GateRunSpec)
                self.gate_runs[name] = GateRun(name, times.text(self.now), asked, GateRunStatus())
        for manifest in plan.apply:
            self.objects[(manifest["kind"], manifest["metadata"]["name"])] = manifest
        for ref in plan.delete:
            self.objects.pop((ref.kind, ref.name), None)
            self.gate_runs.pop(ref.name, None)
            self.deleted.append((ref.kind, ref.name))
        self.said += plan.events
        changed = plan.status != self.status
        if not self.phases or self.phases[-1] != plan.status.phase:
            self.phases.append(plan.status.phase)
        self.status = plan.status
        # A watch would hear of a new GateRun, and of pods that follow.
        return changed or plan.requeue_s == 0 or (len(self.gate_runs), self.objects) != known

    def settle(self, passes: int = 60) -> None:
        """Passes until nothing moves at this time."""
        for _ in range(passes):
            if not self.step():
                return
        raise AssertionError(f"still moving in phase {self.status.phase}: {self.said[-3:]}")

    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.settle()

    def gate(self, verdict: str, reason: str = "AsGood", message: str = "figures") -> None:
        """The gate under way ends so."""
        assert self.status.rollout is not None
        name = self.status.rollout.gate_run
        done = GateRunStatus(
            phase="Complete",
            verdict=verdict,
            reason=reason,
            message=message,
            completed_at=times.text(self.now),
        )
        self.gate_runs[name] = structs.replace(self.gate_runs[name], status=done)
        self.settle()

    def release(self, image: str) -> None:
        """Ask for another image and let the gate begin."""
        self.ask(image=image)
        self.settle()

    def running(self) -> dict[str, str]:
        """Image of each shard's template."""
        return {
            name.removeprefix("crypto-"): found["spec"]["template"]["spec"]["containers"][0]["image"].rsplit(
                ":"
            )[-1]
            for (kind, name), found in sorted(self.objects.items())
            if kind == "StatefulSet"
        }

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(each for each in self.status.conditions if each.type == kind)
        return found.status, found.reason

    def reasons(self) -> list[str]:
        return [event.reason for event in self.said]


def served(**changes: Any) -> World:
    """A world in which the first revision serves."""
    world = World(spec(**changes))
    world.settle()
    assert world.status.phase == "Stable", world.status
    world.said.clear()
    world.phases.clear()
    return world


def a_round(
    index: int, side: str, p99_us: int = 100, *, rate: int = 1000, exit_code: int | None = 0, **more: Any
) -> Round:
    """A finished round with a summary that says the same."""
    summary = {
        "samples": more.pop("samples", 20_000),
        "latency_us": {"50": p99_us / 2, "90": p99_us * 0.9, "99": p99_us},
        "throughput_per_s": rate,
        "failed_ratio": more.pop("failed", 0.0),
        "checks_ratio": more.pop("checks", 1.0),
        "dropped": more.pop("dropped", 0),
    }
    text = more.pop("summary", msgspec.json.encode(summary).decode())
    return Round(
        index=index,
        side=side,  # type: ignore[arg-type]
        state="Done",
        started_at=times.text(START),
        exit_code=exit_code,
        samples=summary["samples"],
        latency_microseconds=p99_us,
        throughput_per_second=rate,
        summary=text,
        **more,
    )


COMPARE = Compare()
