"""Releases, as a story each: what was asked, what the gate and the shards said, which revision serves in the
end."""

from __future__ import annotations

import pytest
from tradsys_operator import names
from tradsys_operator.api import Gate, Prometheus, Rollout
from tradsys_operator.objectives import Judged
from tradsys_operator.reconcile import reconcile
from tradsys_operator.work import ended

from tests.kube.operator.world import World, served, spec

PROMETHEUS = Rollout(bake_seconds=300, gate=Gate(prometheus=Prometheus(url="http://prometheus:9090")))


def good(name: str = "order-p99") -> Judged:
    return Judged(name, 0.001, True, 0.1)


def test_the_first_revision_serves_without_a_gate():
    world = World(spec())

    world.settle()

    assert world.phases == ["Pending", "Deploying", "Stable"]
    assert world.running() == {"a": "1", "b": "1"}
    assert world.gate_runs == {}
    assert world.condition("Ready") == ("True", "ShardsReady")
    assert world.condition("GatePassed") == ("Unknown", "NoBaseline")


def test_a_release_is_gated_then_switched_shard_by_shard_then_baked():
    world = served()

    world.release("registry.example/tradsys:2")
    assert world.status.phase == "Gating" and world.running() == {"a": "1", "b": "1"}
    world.gate("Pass")
    assert world.status.phase == "Baking" and world.running() == {"a": "2", "b": "2"}
    world.wait(300)

    assert world.phases == ["Pending", "Deploying", "Gating", "Switching", "Baking", "Stable"]
    assert world.reasons() == [
        "ReleaseFound", "Deploying", "Gating", "GatePassed",
        "ShardSwitched", "ShardSwitched", "Baking", "Promoted",
    ]  # fmt: skip
    assert world.condition("GatePassed") == ("True", "AsGood")


def test_the_second_shard_waits_until_the_first_is_ready():
    world = served()
    world.release("registry.example/tradsys:2")
    assert world.status.candidate is not None
    world.broken.add(world.status.candidate.revision)

    world.gate("Pass")

    assert world.status.phase == "Switching"
    assert world.running() == {"a": "2", "b": "1"}


def test_a_refused_release_never_touches_a_shard():
    world = served()
    before = {name: found for name, found in world.objects.items() if name[0] == "StatefulSet"}

    world.release("registry.example/tradsys:2")
    world.gate("Fail", "Slower")
    world.wait(3600)

    assert world.status.phase == "Failed"
    assert {name: found for name, found in world.objects.items() if name[0] == "StatefulSet"} == before
    assert world.condition("Progressing") == ("False", "Failed")
    assert world.condition("Ready") == ("True", "ShardsReady")
    assert world.condition("GatePassed") == ("False", "Slower")


def test_a_candidate_that_does_not_start_is_taken_back_at_once():
    world = served()
    world.release("registry.example/tradsys:2")
    assert world.status.candidate is not None
    world.broken.add(world.status.candidate.revision)
    world.trouble = "CrashLoopBackOff"

    world.gate("Pass")

    assert world.status.phase == "Failed" and world.running() == {"a": "1", "b": "1"}
    assert "CrashLoopBackOff" in world.reasons()


@pytest.mark.parametrize("said", ["SMTAlignmentError", "TopologyAffinityError", "UnexpectedAdmissionError"])
def test_a_pod_that_the_kubelet_refuses_stops_the_release(said):
    world = served()
    world.release("registry.example/tradsys:2")
    assert world.status.candidate is not None
    world.broken.add(world.status.candidate.revision)
    world.trouble = said
    refused = world.pods

    def pods():
        made = refused()
        for pod in made:
            if pod["status"]["containerStatuses"]:
                pod["status"] |= {"containerStatuses": [], "reason": said, "phase": "Failed"}
        return made

    world.pods = pods
    world.gate("Pass")

    assert world.status.phase == "Failed" and said in world.reasons()


def test_a_promotion_that_is_stuck_goes_back_at_its_deadline():
    world = served()
    world.release("registry.example/tradsys:2")
    assert world.status.candidate is not None
    world.broken.add(world.status.candidate.revision)
    world.gate("Pass")

    world.wait(1799)
    assert world.status.phase == "Switching"
    world.wait(2)

    assert world.status.phase == "Failed" and world.running() == {"a": "1", "b": "1"}
    assert "ProgressDeadlineExceeded" in world.reasons()


def test_when_both_revisions_are_bad_the_stable_one_stays_and_the_venue_says_so():
    world = served()
    world.release("registry.example/tradsys:2")
    stable, candidate = world.status.stable, world.status.candidate
    assert stable is not None and candidate is not None
    world.broken |= {stable.revision, candidate.revision}

    world.gate("Pass")
    world.wait(1800)
    assert world.status.phase == "RollingBack"
    world.wait(601)

    assert world.status.phase == "Failed" and world.running() == {"a": "1", "b": "1"}
    assert world.condition("Ready") == ("False", "ShardsNotReady")


def test_no_verdict_pauses_and_a_retry_gates_again():
    world = served()
    world.release("registry.example/tradsys:2")

    world.gate("Inconclusive", "NoGateCapacity")
    assert world.status.phase == "Paused"
    assert world.condition("Progressing") == ("False", "Inconclusive")
    world.annotations[names.RETRY] = "1"
    world.settle()

    assert world.status.phase == "Gating" and len(world.gate_runs) == 2


def test_no_verdict_rolls_back_where_that_was_asked():
    world = served(rollout={"onInconclusive": "Rollback"})
    world.release("registry.example/tradsys:2")

    world.gate("Inconclusive", "NoGateCapacity")

    assert world.status.phase == "Failed"


def test_a_noisy_environment_is_tried_three_times_in_all():
    world = served()
    world.release("registry.example/tradsys:2")

    for _ in range(2):
        world.gate("Inconclusive", "NoisyEnvironment")
        assert world.status.phase == "Gating"
    world.gate("Inconclusive", "NoisyEnvironment")

    assert world.status.phase == "Paused" and len(world.gate_runs) == 3


def test_promotion_without_evidence_is_refused():
    world = served()
    world.release("registry.example/tradsys:2")
    world.gate("Inconclusive", "NoGateCapacity")

    world.annotations[names.PROMOTE] = "1"
    world.settle()

    assert world.status.phase == "Paused" and world.reasons()[-1] == "PromotionRefused"
    assert world.running() == {"a": "1", "b": "1"}


def test_a_refused_release_that_is_promoted_by_hand_bakes_and_is_promoted_or_taken_back():
    world = served(rollout=PROMETHEUS)
    world.judged = [good()]
    world.release("registry.example/tradsys:2")
    world.gate("Fail", "Slower")
    assert world.status.phase == "Failed" and world.running() == {"a": "1", "b": "1"}

    world.annotations[names.PROMOTE] = "1"
    world.settle()
    assert world.status.phase == "Baking" and world.running() == {"a": "2", "b": "2"}
    world.judged = [Judged("order-p99", 0.9, False, 90.0)]
    world.wait(10)
    assert world.status.phase == "Failed" and world.running() == {"a": "1", "b": "1"}
    assert world.reasons()[-5:] == [
        "ShardSwitched",
        "ShardSwitched",
        "Baking",
        "ObjectiveMissed",
        "RolledBack",
    ]

    world.judged = [good()]
    world.annotations[names.PROMOTE] = "2"
    world.settle()
    world.wait(300)
    assert world.status.phase == "Stable" and world.running() == {"a": "2", "b": "2"}


def test_nobody_cuts_the_baking_of_a_refused_release_short():
    world = served()
    world.release("registry.example/tradsys:2")
    world.gate("Fail", "Slower")
    world.annotations[names.PROMOTE] = "1"
    world.settle()

    world.annotations[names.PROMOTE] = "2"
    world.settle()

    assert world.status.phase == "Baking" and world.reasons()[-1] == "PromotionRefused"


def test_a_release_that_was_aborted_before_its_gate_had_a_verdict_can_not_be_promoted():
    world = served()
    world.release("registry.example/tradsys:2")
    world.annotations[names.ABORT] = "1"
    world.settle()

    world.annotations[names.PROMOTE] = "1"
    world.settle()

    assert world.status.phase == "Failed" and world.reasons()[-1] == "PromotionRefused"
    assert world.running() == {"a": "1", "b": "1"}


def test_promotion_ends_baking_early():
    world = served()
    world.release("registry.example/tradsys:2")
    world.gate("Pass")

    world.annotations[names.PROMOTE] = "1"
    world.settle()

    assert world.status.phase == "Stable" and world.running() == {"a": "2", "b": "2"}


@pytest.mark.parametrize("gated", [False, True])
def test_abort_takes_the_candidate_back(gated):
    world = served()
    world.release("registry.example/tradsys:2")
    if gated:
        world.gate("Pass")

    world.annotations[names.ABORT] = "x"
    world.settle()

    assert world.status.phase == "Failed" and world.running() == {"a": "1", "b": "1"}


def test_an_order_is_obeyed_once():
    world = served()
    world.annotations[names.ABORT] = "x"
    world.settle()
    world.settle()

    assert world.reasons() == ["NothingToAbort"]


def test_a_failed_revision_is_not_tried_again_by_itself_but_by_hand():
    world = served()
    world.release("registry.example/tradsys:2")
    world.gate("Fail", "Slower")
    world.wait(3600)
    assert world.status.phase == "Failed"

    world.annotations[names.RETRY] = "now"
    world.settle()

    assert world.status.phase == "Gating" and len(world.gate_runs) == 2


def test_a_spec_that_changes_while_gating_gates_the_newer_one():
    world = served()
    world.release("registry.example/tradsys:2")
    first = world.status.rollout

    world.release("registry.example/tradsys:3")

    assert world.status.phase == "Gating" and "Superseded" in world.reasons()
    assert world.status.rollout != first
    assert world.status.candidate is not None and world.status.candidate.image.endswith(":3")


def test_a_spec_that_changes_while_baking_first_goes_back():
    world = served()
    world.release("registry.example/tradsys:2")
    world.gate("Pass")
    assert world.status.phase == "Baking"

    world.release("registry.example/tradsys:3")

    assert world.phases[-5:] == ["RollingBack", "Stable", "Pending", "Deploying", "Gating"]
    assert world.running() == {"a": "1", "b": "1"}


def test_a_spec_that_goes_back_to_stable_ends_the_release():
    world = served()
    world.release("registry.example/tradsys:2")

    world.release("registry.example/tradsys:1")

    assert world.status.phase == "Stable" and world.status.candidate is None
    assert world.status.failed is None


def test_a_revision_that_served_before_needs_no_gate():
    world = served()
    world.release("registry.example/tradsys:2")
    world.gate("Pass")
    world.wait(300)
    world.phases.clear()

    world.release("registry.example/tradsys:1")
    world.wait(300)

    assert world.phases == ["Pending", "Switching", "Baking", "Stable"]
    assert world.running() == {"a": "1", "b": "1"} and len(world.gate_runs) == 1


def test_without_a_rollback_window_it_is_gated_like_any_other():
    world = served(rollout={"rollbackWindow": 0})
    world.release("registry.example/tradsys:2")
    world.gate("Pass")
    world.wait(300)

    world.release("registry.example/tradsys:1")

    assert world.status.phase == "Gating"


def test_a_gate_run_that_is_deleted_begins_again():
    world = served()
    world.release("registry.example/tradsys:2")

    world.gate_runs.clear()
    world.settle()

    assert world.status.phase == "Gating" and len(world.gate_runs) == 1
    assert "GateRunDeleted" in world.reasons()


def test_a_release_that_burns_the_budget_while_it_bakes_goes_back_at_once():
    world = served()
    world.ask(rollout=PROMETHEUS)
    world.judged = [good()]
    world.release("registry.example/tradsys:2")
    world.gate("Pass")

    world.judged = [Judged("order-p99", 0.2, False, 20.0)]
    world.wait(10)

    assert world.status.phase == "Failed" and "ObjectiveMissed" in world.reasons()
    assert world.running() == {"a": "1", "b": "1"}


def test_an_objective_below_target_when_it_has_baked_takes_it_back():
    world = served()
    world.judged = [Judged("order-p99", 0.02, False, 2.0)]
    world.release("registry.example/tradsys:2")
    world.gate("Pass")

    world.wait(299)
    assert world.status.phase == "Baking"
    world.wait(2)

    assert world.status.phase == "Failed" and "ObjectiveMissed" in world.reasons()


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_silent_prometheus_is_no_pass(from_the_start):
    world = served()
    silent = Judged("order-p99", None, None, None)
    world.judged = [silent if from_the_start else good()]
    world.release("registry.example/tradsys:2")
    world.gate("Pass")
    world.wait(100)
    world.judged = [silent]

    world.wait(200)

    assert world.status.phase == "Paused" and world.running() == {"a": "2", "b": "2"}
    assert world.condition("MetricsAvailable") == ("False", "NoData")
    world.judged = [good()]
    world.annotations[names.RETRY] = "1"
    world.settle()
    world.wait(300)
    assert world.status.phase == "Stable"


def test_a_first_revision_that_does_not_start_fails_and_a_corrected_one_serves():
    world = World(spec())
    world.step()
    world.step()
    assert world.status.candidate is not None
    world.broken.add(world.status.candidate.revision)
    world.trouble = "ImagePullBackOff"
    world.settle()
    assert world.status.phase == "Failed"

    world.release("registry.example/tradsys:2")

    assert world.status.phase == "Stable" and world.running() == {"a": "2", "b": "2"}


def test_a_first_revision_that_serves_after_all_is_what_the_next_one_is_compared_with():
    """Its image could not be pulled for a moment; or the Secret that its pods mount came late."""
    world = World(spec())
    world.step()
    world.step()
    assert world.status.candidate is not None
    world.broken.add(world.status.candidate.revision)
    world.trouble = "ErrImagePull"
    world.settle()
    assert world.status.phase == "Failed"

    world.broken.clear()
    world.settle()
    assert world.status.phase == "Stable" and world.condition("Progressing") == ("False", "Stable")
    world.release("registry.example/tradsys:2")

    assert world.status.phase == "Gating" and world.running() == {"a": "1", "b": "1"}


@pytest.mark.parametrize("waits", ["nobody", "a shard", "a gateway", "nobody, it sleeps"])
def test_the_secret_that_every_pod_mounts_is_made_again_while_a_pod_waits(waits):
    """It can't be read. Somebody deletes it; or a Venue is deleted and made again at once, and the garbage
    collector takes the old one's after the new one's was asked for."""
    world = served()
    if waits.endswith("sleeps"):
        world.ask(hibernated=True)
        world.settle()
    assert world.status.stable is not None
    gateway = world.objects["Deployment", "crypto-gateway"]
    gateway["status"] = {"availableReplicas": 1 if waits == "a gateway" else 2}
    if waits == "a shard":
        world.broken.add(world.status.stable.revision)

    plan = reconcile(world.observed(), world.now)

    assert [made["kind"] for made in plan.create] == ([] if waits.startswith("nobody") else ["Secret"])


def test_hibernation_scales_to_zero_and_waking_serves_the_same_revision():
    world = served()
    world.ask(hibernated=True)
    world.settle()
    assert world.status.phase == "Hibernated"
    assert {
        o["spec"]["replicas"]
        for (kind, _), o in world.objects.items()
        if kind in ("StatefulSet", "Deployment")
    } == {0}
    assert world.condition("Ready") == ("False", "Hibernated")

    world.ask(hibernated=False)
    world.settle()

    assert world.status.phase == "Stable" and world.condition("Ready") == ("True", "ShardsReady")


def test_a_paused_venue_is_not_touched():
    world = served()
    world.ask(paused=True, image="registry.example/tradsys:2")
    before = dict(world.objects)
    world.objects.pop(("Service", "crypto-a"))

    world.settle()

    assert ("Service", "crypto-a") in before and ("Service", "crypto-a") not in world.objects
    assert world.condition("Paused") == ("True", "SpecPaused")
    assert world.running() == {"a": "1", "b": "1"}


def test_a_settled_venue_stays_as_it_is():
    world = served()
    before = (world.status, dict(world.objects))

    world.wait(3600)

    assert (world.status, world.objects) == before


def test_a_release_goes_back_also_while_an_object_is_refused():
    world = served(rollout=PROMETHEUS)
    world.judged = [good()]
    world.release("registry.example/tradsys:2")
    world.gate("Pass")
    assert world.status.phase == "Baking"
    world.judged = [Judged("order-p99", 0.2, False, 20.0)]

    plan = reconcile(world.observed(), world.now, "services is forbidden: exceeded quota")

    assert plan.status.phase == "RollingBack"
    assert [event.reason for event in plan.events] == ["ObjectiveMissed", "Refused"]
    progressing = next(each for each in plan.status.conditions if each.type == "Progressing")
    assert (progressing.status, progressing.reason) == ("False", "Refused")
    assert "exceeded quota" in progressing.message


QUOTA = "controllerrevisions is forbidden: exceeded quota"


def test_a_release_whose_revision_is_refused_does_not_begin_and_is_told():
    world = served()
    world.ask(image="registry.example/tradsys:2")

    plan = reconcile(world.observed(), world.now, QUOTA, stored_wanted=False)

    assert (plan.status.phase, plan.status.candidate) == ("Stable", None)
    assert [event.reason for event in plan.events] == ["Refused"]
    progressing = next(each for each in plan.status.conditions if each.type == "Progressing")
    assert (progressing.status, progressing.reason, progressing.message) == ("False", "Refused", QUOTA)
    assert plan.status.observed_generation == world.generation


def test_a_first_release_whose_revision_is_refused_does_not_begin_and_is_told():
    world = World(spec())

    plan = reconcile(world.observed(), world.now, QUOTA, stored_wanted=False)

    assert (plan.status.phase, plan.status.candidate) == (world.status.phase, None)
    assert [event.reason for event in plan.events] == ["Refused"]


def test_a_release_under_way_goes_on_and_back_while_the_next_ones_revision_is_refused():
    world = served(rollout=PROMETHEUS)
    world.judged = [good()]
    world.release("registry.example/tradsys:2")
    world.gate("Pass")
    world.ask(image="registry.example/tradsys:3")
    assert reconcile(world.observed(), world.now, QUOTA, stored_wanted=False).status.phase == "Baking"
    world.judged = [Judged("order-p99", 0.2, False, 20.0)]

    plan = reconcile(world.observed(), world.now, QUOTA, stored_wanted=False)

    assert plan.status.phase == "RollingBack"


def test_a_release_that_failed_stays_so_while_the_next_ones_revision_is_refused():
    world = served()
    world.release("registry.example/tradsys:2")
    world.gate("Fail", "Slower")
    world.ask(image="registry.example/tradsys:3")

    plan = reconcile(world.observed(), world.now, QUOTA, stored_wanted=False)

    assert (plan.status.phase, plan.status.failed) == ("Failed", world.status.failed)


def test_what_was_given_up_counts_as_no_promotion():
    def outcome(world, act):
        """Of the passes that `act` causes."""
        before = world.status
        act()
        world.settle()
        return ended(before, world.status)

    world = served()
    world.release("registry.example/tradsys:2")
    assert outcome(world, lambda: world.ask(image="registry.example/tradsys:1")) is None
    world.release("registry.example/tradsys:2")
    assert outcome(world, lambda: world.gate("Fail", "Slower")) == "failed"
    assert outcome(world, lambda: world.ask(image="registry.example/tradsys:1")) is None
    world.release("registry.example/tradsys:3")
    world.gate("Pass")
    assert outcome(world, lambda: world.wait(300)) == "promoted"


def test_only_ten_gate_runs_are_kept():
    world = served()
    for number in range(2, 15):
        world.release(f"registry.example/tradsys:{number}")
        world.gate("Fail", "Slower")
        world.wait(10)

    assert len(world.gate_runs) == 10
