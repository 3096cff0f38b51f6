"""Operators as processes, as in a cluster: killed, stopped past their lease, without an API server.

They have the service account of the chart, so a right that they lack shows here."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import aiohttp
import pytest
from tradsys_operator import names, process
from tradsys_operator.api import API_VERSION
from tradsys_operator.cluster import RESOURCES
from tradsys_operator.lease import DURATION_S

from tests.kube.cluster.control_plane import KubectlFailed
from tests.kube.control.process import (
    LEASE,
    free_port,
)
from tests.kube.control.venues import NAME, VENUE, a_namespace, client_of
from tests.kube.operator.world import SPEC

pytestmark = pytest.mark.timeout(300)

KILLS = max(1, int(os.environ.get("COUNT_O1", "10")) // 10)
AWAY_S = float(os.environ.get("COUNT_O2", "15"))
"""How long there is no API server. After 10 s without it a leader ends."""
TWO = "registry.example/tradsys:2"


async def images(venues):
    return {shard: image for shard, (_, image) in (await venues.shard_pods()).items()}


def test_killed_by_the_kernel_a_release_still_ends(run, left):
    """From the first revision on; the same name comes again at once, as a container of the same pod."""

    async def story():
        async with left("operator-0") as (venues, operator):
            chance = random.Random(KILLS)
            await venues.create()
            for kill in range(KILLS):
                await venues.steps(chance.uniform(0.2, 2.0))
                operator.kill()
                operator.start()
                await operator.until_leading()
                if kill == 0:
                    await venues.until_phase("Stable", passes=600)
                    await venues.ask(image=TWO)
            await venues.until_phase("Stable", passes=600)

            async def switched():
                return await images(venues) == {"a": "2", "b": "2"}

            await venues.until(switched, passes=600)
            await venues.until_phase("Stable", passes=600)
            assert operator.starts == KILLS + 1

    run(story())


def test_a_leader_that_was_stopped_past_its_lease_writes_nothing_when_it_goes_on(run, left, plane):
    async def story():
        async with left("operator-0", "operator-1") as (venues, first, second):
            await venues.serve()
            await venues.ask(image=TWO)
            await venues.until_phase("Gating", passes=600)
            first.signal(signal.SIGSTOP)
            while not await asyncio.to_thread(second.leads):
                await venues.step()
            await venues.until_phase("Stable", passes=600)

            # Something to put right, and nobody but the first one to do it.
            second.signal(signal.SIGSTOP)
            service = RESOURCES[("v1", "Service")]
            await venues.client.delete(service, f"{NAME}-a", namespace=venues.namespace)
            first.signal(signal.SIGCONT)
            async with asyncio.timeout(8):
                while first.ended() is None:
                    await asyncio.sleep(0.05)
            with pytest.raises(KubectlFailed, match="not found"):
                plane.get("-n", venues.namespace, "service", f"{NAME}-a")
            assert plane.get(*LEASE)["spec"]["holderIdentity"] == "operator-1"
            assert first.ended() == 1 and "lost the lease" in first.said()

            second.signal(signal.SIGCONT)

            async def back():
                services = await venues.all("v1", "Service")
                return f"{NAME}-a" in {each["metadata"]["name"] for each in services}

            await venues.until(back, passes=300)
            assert second.ended() is None

    run(story())


def test_without_an_api_server_nothing_is_deleted_and_the_release_goes_on_after_it(run, left, plane):
    async def story():
        async with left("operator-0") as (venues, operator):
            await venues.serve()
            kinds = [
                ("apps/v1", "StatefulSet"),
                ("v1", "Service"),
                ("apps/v1", "Deployment"),
                ("v1", "ConfigMap"),
            ]

            async def there():
                return {
                    (kind, each["metadata"]["name"]): each["metadata"]["uid"]
                    for version, kind in kinds
                    for each in await venues.all(version, kind)
                    if "tradsys.dev/gate-run" not in each["metadata"].get("labels", {})
                }

            before, pods, claims = await there(), await venues.shard_pods(), await venues.claims()
            # The hardest moment: a pod of the gate has been made, and nobody gave it a node yet.
            venues.node.full = True
            await venues.ask(image=TWO)

            async def gate_pod_made():
                return any(
                    each["metadata"]["labels"].get(names.PART) == "gate"
                    for each in await venues.all("v1", "Pod")
                )

            await venues.until(gate_pod_made, passes=600)
            kubelet = asyncio.create_task(operator.keep_alive())
            plane.stop_api_server()
            await venues.steps(AWAY_S)
            # In this thread: daemons end with the one that started them, and the loop's end with the test.
            plane.bring_back_api_server()
            after = await venues.shard_pods()
            assert after.keys() == pods.keys()
            assert all(after[shard] in (pods[shard], (after[shard][0], "2")) for shard in pods)
            await operator.until_leading()

            async def looked():
                return 'kind="GateRun",outcome="done"' in await asyncio.to_thread(operator.asked, "/metrics")

            # The gate's pod has no node when the operator looks again, and that is not yet a lack of room.
            await venues.until(looked, passes=300)
            venues.node.full = False
            assert await venues.until_end(passes=600) == "Stable", (await venues.venue())["status"]
            kubelet.cancel()

            assert await images(venues) == {"a": "2", "b": "2"}
            assert (await there(), await venues.claims()) == (before, claims)
            # One that leads and can't renew ends, and another begins with clean hands.
            assert AWAY_S < DURATION_S or operator.starts > 1

    run(story())


def test_a_leader_without_venues_is_alive_and_one_that_does_nothing_for_its_venue_is_not(
    run, plane, monkeypatch
):
    """Right after an install there is nothing to hear of; the kubelet must not take that for deafness."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    monkeypatch.setattr(process, "SILENCE_S_MAX", 3.0)
    monkeypatch.setattr(process, "LOOK_S", 0.5)
    monkeypatch.setattr(process, "work", lambda *_: asyncio.sleep(3600))

    async def story():
        namespace, port = a_namespace(), free_port()
        client = client_of(plane)
        for name in (namespace, f"{namespace}-system"):
            plane.kubectl("create", "namespace", name)
        options = process.Options((namespace,), f"{namespace}-system", "127.0.0.1", port, "quiet")
        leads = asyncio.create_task(process.run(options, client_of(plane)))

        async def health():
            url = f"http://127.0.0.1:{port}/healthz"
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return answer.status, await answer.text()

        try:
            async with asyncio.timeout(30):
                await asyncio.sleep(1)
                while not (await health())[1].startswith("leader"):
                    await asyncio.sleep(0.1)
            await asyncio.sleep(4)
            assert (await health())[0] == 200

            # Its workers sleep: the watch's event is the last that is heard.
            await client.create(
                VENUE(
                    apiVersion=API_VERSION,
                    kind="Venue",
                    metadata={"name": NAME, "namespace": namespace},
                    spec=SPEC,
                )
            )
            await asyncio.sleep(5)
            assert (await health())[0] == 503
        finally:
            leads.cancel()
            await asyncio.gather(leads, return_exceptions=True)
            await client.close()
            for name in (namespace, f"{namespace}-system"):
                plane.kubectl("delete", "namespace", name, "--wait=false")

    run(story())
