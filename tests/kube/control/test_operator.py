"""The operator against a real API server, real controllers, and nodes that only pretend (see node.py)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
from contextlib import asynccontextmanager

import pytest
from httpx2 import HTTPStatusError
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from tradsys_operator import names
from tradsys_operator.api import API_VERSION
from tradsys_operator.cluster import RESOURCES, Cluster
from tradsys_operator.lease import DURATION_S, Lease, LeaseLost
from tradsys_operator.plans import Ref
from tradsys_operator.work import Key, Operator

from tests.kube.control.process import kubeconfig_of
from tests.kube.control.venues import CLAIM, NAME, Venues, a_namespace, client_of

QUOTA = create_namespaced_resource("", "v1", "ResourceQuota", "resourcequotas")
KILLS = int(os.environ.get("COUNT_O1", "10"))
"""How often operators are killed; nine of ten times at a write, the others are in test_process.py."""
LIFE_WRITES = 9
"""Kills of one story are so many writes apart; so many stories have met every write."""
KILLS_OF_A_STORY = 5
CONFLICTS = 20
TWO = "registry.example/tradsys:2"
ONLY_2 = {"a": "2", "b": "2"}


async def verdicts(venues):
    return sorted(
        (each["status"]["verdict"], each["status"]["reason"])
        for each in await venues.all(API_VERSION, "GateRun")
    )


async def images(venues):
    return {shard: image for shard, (_, image) in (await venues.shard_pods()).items()}


@pytest.fixture
def in_a_namespace(plane):
    @asynccontextmanager
    async def made():
        namespace = a_namespace()
        plane.kubectl("create", "namespace", namespace)
        async with client_of(plane) as client:
            yield Venues(client, namespace)
        plane.kubectl("delete", "namespace", namespace, "--wait=false")

    return made


def test_a_venue_becomes_its_workloads_and_serves(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            kinds = (
                ("apps/v1", "StatefulSet"), ("apps/v1", "Deployment"), ("policy/v1", "PodDisruptionBudget"),
                ("networking.k8s.io/v1", "NetworkPolicy"),
            )  # fmt: skip
            found = {key[1]: len(await venues.all(*key)) for key in kinds}
            assert found == {"StatefulSet": 2, "Deployment": 1, "PodDisruptionBudget": 3, "NetworkPolicy": 4}
            assert await venues.condition("Ready") == ("True", "ShardsReady")
            assert await venues.condition("CPUPinned") == ("Unknown", "Unknown")
            assert await venues.condition("MetricsAvailable") == ("Unknown", "NotConfigured")
            pods = await venues.all("v1", "Pod")
            shard = next(pod for pod in pods if "tradsys.dev/shard" in pod["metadata"]["labels"])
            assert shard["status"]["qosClass"] == "Guaranteed"
            assert (await venues.reasons())[:2] == ["ReleaseFound", "Deploying"]

    run(story())


def test_a_settled_venue_costs_no_write(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.step()
            before = venues.writes
            for _ in range(3):
                await venues.step()
            assert venues.writes == before

    run(story())


def test_what_others_change_is_put_right(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            service, stateful = RESOURCES[("v1", "Service")], RESOURCES[("apps/v1", "StatefulSet")]
            await venues.client.delete(service, f"{NAME}-a", namespace=venues.namespace)
            await venues.client.patch(
                stateful, f"{NAME}-b", {"spec": {"replicas": 3}}, namespace=venues.namespace
            )

            await venues.step()

            assert f"{NAME}-a" in {each["metadata"]["name"] for each in await venues.all("v1", "Service")}
            found = await venues.client.get(stateful, f"{NAME}-b", namespace=venues.namespace)
            assert found["spec"]["replicas"] == 1

    run(story())


def test_a_good_release_is_gated_switched_and_promoted(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            before = await venues.shard_pods()
            await venues.ask(image="registry.example/tradsys:2")
            await venues.until_phase("Gating")
            assert await venues.shard_pods() == before
            await venues.until_phase("Stable")

            assert {shard: image for shard, (_, image) in (await venues.shard_pods()).items()} == {
                "a": "2",
                "b": "2",
            }
            (gate_run,) = await venues.all(API_VERSION, "GateRun")
            assert gate_run["status"]["verdict"] == "Pass"
            assert [each["side"] for each in gate_run["status"]["rounds"]] == ["stable", "candidate"]
            await venues.step()
            assert [each["kind"] for each in await venues.all("batch/v1", "Job")] == []
            assert await venues.condition("GatePassed") == ("True", "AsGood")

    run(story())


def test_a_slow_release_is_refused_and_no_live_pod_was_touched(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            before = await venues.shard_pods()
            venues.node.slow["registry.example/tradsys:2"] = 20_000.0
            await venues.ask(image="registry.example/tradsys:2")
            await venues.until_phase("Failed")

            assert await venues.shard_pods() == before
            assert await venues.condition("GatePassed") == ("False", "Slower")
            assert await venues.condition("Ready") == ("True", "ShardsReady")

    run(story())


@pytest.mark.parametrize(
    ("code", "phase", "reason"),
    [(99, "Failed", "ThresholdsMissed"), (107, "Paused", "ScriptError"), (255, "Paused", "Infrastructure")],
)
def test_the_exit_code_of_k6_decides(run, in_a_namespace, code, phase, reason):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            venues.node.exit_codes["registry.example/tradsys:2"] = code
            await venues.ask(image="registry.example/tradsys:2")
            await venues.until_phase(phase, passes=300)

            assert (await venues.condition("GatePassed"))[1] == reason

    run(story())


def test_a_candidate_that_breaks_on_a_live_shard_is_taken_back(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.ask(image="registry.example/tradsys:2")
            await venues.until_phase("Switching")
            venues.node.broken["registry.example/tradsys:2"] = "CrashLoopBackOff"
            await venues.until_phase("Failed")
            await venues.until_condition("Ready", "True")

            assert {shard: image for shard, (_, image) in (await venues.shard_pods()).items()} == {
                "a": "1",
                "b": "1",
            }

    run(story())


def test_without_room_for_the_gate_the_release_waits_for_people(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            venues.node.full = True
            await venues.ask(image="registry.example/tradsys:2")
            await venues.until_phase("Gating")
            for _ in range(4):
                await venues.step()
            venues.skew_s += 61
            await venues.until_phase("Paused")
            assert await venues.condition("GatePassed") == ("Unknown", "NoGateCapacity")
            assert await venues.condition("Progressing") == ("False", "Inconclusive")

            venues.node.full = False
            await venues.annotate(retry="1")
            await venues.until_phase("Stable")

    run(story())


def test_an_evicted_gate_pod_is_no_verdict_and_the_gate_is_tried_again(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.ask(image="registry.example/tradsys:2")
            await venues.until_phase("Gating")
            (gate_run,) = await venues.all(API_VERSION, "GateRun")
            venues.node.evicts.add(f"{gate_run['metadata']['name']}-r0")
            await venues.until_phase("Stable")

            assert await verdicts(venues) == [("Inconclusive", "GatePodLost"), ("Pass", "AsGood")]

    run(story())


def test_a_job_deleted_by_hand_is_no_verdict(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.ask(image="registry.example/tradsys:2")
            job = RESOURCES[("batch/v1", "Job")]
            original = venues.node._load

            async def hold(pod):
                return None

            venues.node._load = hold

            async def under_load():
                runs = await venues.all(API_VERSION, "GateRun")
                return any(
                    each.get("jobUid") for run in runs for each in run.get("status", {}).get("rounds", [])
                )

            await venues.until(under_load)
            for each in await venues.all("batch/v1", "Job"):
                await venues.client.delete(job, each["metadata"]["name"], namespace=venues.namespace)
            venues.node._load = original
            await venues.until_phase("Stable")

            assert await verdicts(venues) == [("Inconclusive", "JobDeleted"), ("Pass", "AsGood")]

    run(story())


def test_prometheus_away_is_no_pass(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            quick = {
                "bakeSeconds": 1,
                "gate": {"compare": {"rounds": 1}, "prometheus": {"url": "http://prometheus:9090"}},
            }
            await venues.serve(rollout=quick)
            venues.told.ratio = None
            await venues.ask(image="registry.example/tradsys:2")
            await venues.until_phase("Paused", passes=300)
            assert await venues.condition("MetricsAvailable") == ("False", "NoData")

            venues.told.ratio = 0.0
            await venues.annotate(retry="1")
            await venues.until_phase("Stable", passes=300)
            assert await venues.condition("SLOMet") == ("True", "Met")

    run(story())


def test_prometheus_that_goes_while_a_release_bakes_is_no_pass(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            watched = {
                "bakeSeconds": 300,
                "gate": {"compare": {"rounds": 1}, "prometheus": {"url": "http://prometheus:9090"}},
            }
            await venues.serve(rollout=watched)
            await venues.ask(image=TWO)
            await venues.until_phase("Baking", passes=300)
            venues.told.ratio = None
            venues.skew_s += 301
            await venues.until_phase("Paused")

            assert await images(venues) == ONLY_2
            assert await venues.condition("Progressing") == ("False", "Inconclusive")
            await venues.annotate(abort="1")
            await venues.until_phase("Failed")
            assert await images(venues) == {"a": "1", "b": "1"}

    run(story())


def test_a_promotion_that_is_stuck_goes_back_at_its_deadline(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.ask(image=TWO)
            await venues.until_phase("Switching")
            venues.node.broken[TWO] = "ContainerCreating"
            for _ in range(5):
                await venues.step()
            assert (await images(venues))["b"] == "1"
            venues.skew_s += 1801
            await venues.until_phase("Failed")

            await venues.until_condition("Ready", "True")
            assert await images(venues) == {"a": "1", "b": "1"}
            assert "ProgressDeadlineExceeded" in await venues.reasons()

    run(story())


def test_when_both_revisions_are_bad_the_venue_says_so_and_stays_on_the_stable_one(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.ask(image=TWO)
            await venues.until_phase("Switching")
            venues.node.broken |= {TWO: "CrashLoopBackOff", "registry.example/tradsys:1": "CrashLoopBackOff"}
            await venues.until_phase("RollingBack")
            venues.skew_s += 601
            await venues.until_phase("Failed")

            assert await images(venues) == {"a": "1", "b": "1"}
            assert await venues.condition("Ready") == ("False", "ShardsNotReady")

    run(story())


def test_a_spec_that_changes_midway_is_what_is_released(run, in_a_namespace):
    """Once while the gate compares, once when a shard has switched already."""

    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            before = await venues.shard_pods()
            await venues.ask(image=TWO)
            await venues.until_phase("Gating")
            await venues.ask(image="registry.example/tradsys:3")
            await venues.step()
            assert await venues.shard_pods() == before
            await venues.until_phase("Switching", passes=300)
            venues.node.broken["registry.example/tradsys:3"] = "ContainerCreating"

            async def one_has_switched():
                return await images(venues) == {"a": "3", "b": "1"}

            await venues.until(one_has_switched)
            await venues.ask(image="registry.example/tradsys:4")
            await venues.until_phase("RollingBack")
            await venues.until_phase("Stable", passes=300)
            await venues.until_phase("Gating")
            await venues.until_phase("Stable", passes=300)

            assert await images(venues) == {"a": "4", "b": "4"}
            assert await verdicts(venues) == [
                ("Inconclusive", "Superseded"), ("Pass", "AsGood"), ("Pass", "AsGood"),
            ]  # fmt: skip

    run(story())


def test_back_to_a_revision_that_served_before_needs_no_gate(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.ask(image=TWO)
            await venues.until_phase("Gating")
            await venues.until_phase("Stable")
            await venues.ask(image="registry.example/tradsys:1")
            await venues.until_phase("Switching")
            await venues.until_phase("Stable")

            assert await images(venues) == {"a": "1", "b": "1"}
            assert await verdicts(venues) == [("Pass", "AsGood")]
            assert "GateSkipped" in await venues.reasons()

    run(story())


def test_a_first_revision_that_does_not_start_fails_and_its_successor_serves(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            venues.node.broken["registry.example/tradsys:1"] = "ErrImagePull"
            await venues.create()
            await venues.until_phase("Failed")
            assert await venues.condition("Ready") == ("False", "ShardsNotReady")

            await venues.ask(image=TWO)
            await venues.until_condition("Ready", "True")
            await venues.until_phase("Stable")
            assert await venues.all(API_VERSION, "GateRun") == []

    run(story())


def test_a_storm_of_conflicts_only_delays_a_release(run, in_a_namespace):
    """Somebody writes to the Venue all the time: no status fits any more, and nothing is done twice."""

    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.ask(image=TWO)
            await venues.until_phase("Gating")
            before = await venues.shard_pods()

            async def storm():
                for number in itertools.count():
                    await venues.annotate(storm=str(number))

            blowing = asyncio.create_task(storm())
            while venues.conflicts < CONFLICTS:
                await venues.step()
            blowing.cancel()
            await asyncio.gather(blowing, return_exceptions=True)
            assert await venues.shard_pods() == before
            await venues.until_phase("Stable")

            assert await images(venues) == ONLY_2
            assert await verdicts(venues) == [("Pass", "AsGood")]

    run(story())


def test_a_leader_that_was_not_heard_of_for_long_writes_nothing(run, in_a_namespace):
    """Its clock has gone on while it was stopped, and another one has taken the lease."""

    async def story():
        async with in_a_namespace() as venues:
            await venues.create()
            clocks = [0.0, 0.0]
            name = venues.namespace
            first, second = (
                Lease(Cluster(venues.client), name, "lease", f"operator-{i}", lambda i=i: clocks[i])
                for i in range(2)
            )
            await first.acquire()
            cluster = Cluster(venues.client, before_write=first.must_hold)
            operator = Operator(cluster, venues.told, name, "operator-0")
            key = Key("Venue", name, NAME)
            await operator.once(key)
            acted = await venues.venue()

            clocks[0] = DURATION_S + 1
            taking = asyncio.create_task(second.acquire())
            await asyncio.sleep(0.5)
            clocks[1] = DURATION_S + 1
            await taking
            with pytest.raises(LeaseLost):
                await operator.once(key)
            with pytest.raises(LeaseLost):
                await first.keep()

            assert await venues.venue() == acted
            assert acted["status"]["phase"] == "Pending"

    run(story())


def test_what_is_not_shown_or_not_served_is_not_taken_for_absent(run, in_a_namespace, plane, tmp_path):
    """An API server that has just started answers 403 and 404 for a moment."""

    async def story():
        async with in_a_namespace() as venues:
            where = venues.namespace
            token = plane.kubectl("-n", where, "create", "token", "default").strip()
            nobody = kubeconfig_of(plane, token, tmp_path / "kubeconfig")
            config = KubeConfig.from_file(str(nobody))
            async with AsyncClient(config=config, trust_env=False) as client:
                blind, sighted = Cluster(client), Cluster(venues.client)
                route = ("gateway.networking.k8s.io/v1", "HTTPRoute")

                with pytest.raises(HTTPStatusError, match="forbidden"):
                    await blind.list("v1", "Pod", where, {})
                with pytest.raises(HTTPStatusError, match="forbidden"):
                    await blind.get(Ref(API_VERSION, "Venue", NAME), where)
                with pytest.raises(HTTPStatusError, match="404"):
                    await sighted.get(Ref(*route, NAME), where)
                assert await sighted.get(Ref(API_VERSION, "Venue", NAME), where) is None
                assert await sighted.list_if_any(*route, where, {}) is None
                assert await sighted.list("v1", "Pod", where, {}) == []

    run(story())


def test_an_object_that_is_refused_is_told_in_the_status_which_stays_as_new_as_the_shards(
    run, in_a_namespace
):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            services = RESOURCES[("v1", "Service")]
            await venues.client.delete(services, "crypto-b", namespace=venues.namespace)
            quota = {"hard": {"services": "0"}}
            await venues.client.create(
                QUOTA(metadata={"name": "none", "namespace": venues.namespace}, spec=quota)
            )
            async with asyncio.timeout(20):
                while not (await venues.client.get(QUOTA, "none", namespace=venues.namespace)).get("status"):
                    await asyncio.sleep(0.1)
            venues.node.broken["registry.example/tradsys:1"] = "CrashLoopBackOff"
            await venues.client.delete(RESOURCES[("v1", "Pod")], "crypto-a-0", namespace=venues.namespace)

            for _ in range(10):
                await venues.node.step()
                with contextlib.suppress(ApiError):
                    await venues.once()

            assert await venues.condition("Progressing") == ("False", "Refused")
            assert await venues.condition("Ready") == ("False", "ShardsNotReady")
            assert (await venues.reasons()).count("Refused") == 1
            await venues.client.delete(QUOTA, "none", namespace=venues.namespace)
            await venues.until_condition("Progressing", "False")
            assert await venues.condition("Progressing") == ("False", "Stable")

    run(story())


def test_a_release_whose_revision_is_refused_does_not_begin_and_what_serves_is_kept(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            before = await venues.shard_pods()
            counted = {"hard": {"count/controllerrevisions.apps": "0"}}
            await venues.client.create(
                QUOTA(metadata={"name": "none", "namespace": venues.namespace}, spec=counted)
            )
            async with asyncio.timeout(20):
                while not (await venues.client.get(QUOTA, "none", namespace=venues.namespace)).get("status"):
                    await asyncio.sleep(0.1)
            services = RESOURCES[("v1", "Service")]
            await venues.client.delete(services, "crypto-b", namespace=venues.namespace)
            await venues.ask(image=TWO)

            for _ in range(5):
                await venues.node.step()
                with contextlib.suppress(ApiError):
                    await venues.once()

            assert await venues.condition("Progressing") == ("False", "Refused")
            assert (await venues.venue())["status"]["phase"] == "Stable"
            assert await venues.all(API_VERSION, "GateRun") == []
            assert await venues.shard_pods() == before
            assert "crypto-b" in {each["metadata"]["name"] for each in await venues.all("v1", "Service")}
            await venues.client.delete(QUOTA, "none", namespace=venues.namespace)
            await venues.until_phase("Gating")
            await venues.until_phase("Stable")
            assert await images(venues) == ONLY_2

    run(story())


def test_a_candidate_whose_pod_is_refused_ends_its_gate_without_a_verdict(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()

            await venues.ask(pinning={"nodeSelector": {"no label!": "x"}})

            await venues.until_phase("Paused")
            (gate_run,) = await venues.all(API_VERSION, "GateRun")
            assert gate_run["status"]["reason"] == "Refused"
            assert "no label!" in gate_run["status"]["message"]

    run(story())


def test_killed_every_few_writes_a_release_still_ends_as_it_should(run, in_a_namespace):
    """Each operator lives for four writes: a pass may begin by creating again what it can't read (a Secret),
    so with fewer it would never come further. The next operator finds what this one left."""

    async def story():
        async with in_a_namespace() as venues:
            venues.kill_after(lambda: 4)
            await venues.serve()
            await venues.ask(image="registry.example/tradsys:2")
            # It is Stable until an operator has lived long enough to see the change.
            await venues.until_phase("Gating")
            await venues.until_phase("Stable", passes=400)

            assert {shard: image for shard, (_, image) in (await venues.shard_pods()).items()} == {
                "a": "2",
                "b": "2",
            }
            assert venues.lives > 10
            assert [each["status"]["verdict"] for each in await venues.all(API_VERSION, "GateRun")] == [
                "Pass"
            ]

    run(story())


@pytest.mark.parametrize("first", range(max(1, min(LIFE_WRITES, KILLS * 9 // 10 // KILLS_OF_A_STORY))))
def test_killed_at_the_nth_write_a_release_ends_as_if_nothing_had_been(run, in_a_namespace, first):
    async def story():
        async with in_a_namespace() as venues:
            lives = itertools.chain([first], itertools.repeat(LIFE_WRITES - 1))
            venues.kill_after(lambda: next(lives))
            await venues.serve()
            # Pods mount it, and nothing but its making says that it is there.
            secrets = {each["metadata"]["name"] for each in await venues.all("v1", "Secret")}
            assert names.internal_secret(NAME) in secrets
            await venues.ask(image=TWO)
            await venues.until_phase("Gating")
            await venues.until_phase("Stable", passes=400)

            assert await images(venues) == ONLY_2
            assert await verdicts(venues) == [("Pass", "AsGood")]
            assert venues.lives > KILLS_OF_A_STORY

    run(story())


def test_killed_anywhere_a_bad_release_is_still_refused(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            chance = random.Random(1)
            venues.kill_after(lambda: chance.randint(1, 8))
            await venues.serve()
            before = await venues.shard_pods()
            venues.node.slow["registry.example/tradsys:2"] = 20_000.0
            await venues.ask(image="registry.example/tradsys:2")
            await venues.until_phase("Failed", passes=400)

            assert await venues.shard_pods() == before

    run(story())


def test_an_older_template_is_kept_by_a_later_operator(run, in_a_namespace, monkeypatch):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()

            async def pods():
                return {
                    each["metadata"]["name"]: each["metadata"]["uid"]
                    for each in await venues.all("v1", "Pod")
                }

            before = await pods()
            assert len(before) == 4
            # A later operator renders pods of shards and gateway otherwise; the revision is the same.
            monkeypatch.setattr("tradsys_operator.render.shard.GRACE_S", 61)
            monkeypatch.setattr("tradsys_operator.render.gateway.DATA", "/elsewhere")
            for _ in range(3):
                await venues.step()

            assert await pods() == before
            stateful = (await venues.all("apps/v1", "StatefulSet"))[0]
            assert stateful["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60

    run(story())


def test_paused_touches_nothing_and_hibernated_keeps_the_claims(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.ask(paused=True, hibernated=True)
            for _ in range(3):
                await venues.step()
            assert len(await venues.shard_pods()) == 2
            assert await venues.condition("Paused") == ("True", "SpecPaused")

            await venues.ask(paused=False)
            await venues.until_phase("Hibernated")

            async def asleep():
                return not await venues.shard_pods()

            await venues.until(asleep)
            assert len(await venues.claims()) == 2
            await venues.ask(hibernated=False)
            await venues.until_condition("Ready", "True")

    run(story())


def test_deleting_a_venue_leaves_the_journals(run, in_a_namespace):
    async def story():
        async with in_a_namespace() as venues:
            await venues.serve()
            await venues.client.delete(RESOURCES[(API_VERSION, "Venue")], NAME, namespace=venues.namespace)

            async def gone():
                return not await venues.all("apps/v1", "StatefulSet")

            for _ in range(200):
                if await gone():
                    break
                await asyncio.sleep(0.1)
            assert await gone()
            claims = [
                each["metadata"] async for each in venues.client.list(CLAIM, namespace=venues.namespace)
            ]
            # With an owner they would go a moment later.
            assert [each.get("ownerReferences") for each in claims] == [None, None]

    run(story())
