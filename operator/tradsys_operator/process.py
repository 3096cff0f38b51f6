"""The operator's process: a lease, kopf's watches that feed the queue, workers, and a port for probes and
metrics."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import kopf
from aiohttp import web
from httpx2 import HTTPError
from lightkube import AsyncClient
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tradsys_operator import metrics, names
from tradsys_operator.api import API_VERSION, GROUP, VERSION
from tradsys_operator.cluster import Cluster
from tradsys_operator.evidence import HttpWitnesses
from tradsys_operator.lease import Lease, LeaseLost
from tradsys_operator.work import Key, Operator, Queue, work

WORKERS = 4
SILENCE_S_MAX = 600.0
"""A leader that heard nothing for so long has lost its watches; a resync comes every two minutes."""
LOOK_S = 60.0
"""How often a leader looks whether there is any venue of which it could hear."""
SERVED_S = 1.0
LEASE_NAME = "tradsys-operator"
CHILDREN = (
    ("", "v1", "pods"),
    ("", "v1", "services"),
    ("", "v1", "configmaps"),
    ("apps", "v1", "statefulsets"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "jobs"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "networkpolicies"),
)

log = logging.getLogger("tradsys.operator")


class Options(Struct, frozen=True):
    namespaces: tuple[str, ...] = ()
    """Watched namespaces; none: all."""
    operator_namespace: str = "tradsys-system"
    host: str = "0.0.0.0"
    port: int = 8080
    identity: str = ""


class Pulse:
    """When something was last heard: a watch's event, or a pass that ended well."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._last = clock()
        self.leading = False

    def beat(self) -> None:
        self._last = self._clock()

    def age_s(self) -> float:
        return self._clock() - self._last

    def alive(self) -> bool:
        """A standby is alive; a leader must have heard something."""
        return not self.leading or self.age_s() < SILENCE_S_MAX


async def run(options: Options, client: AsyncClient | None = None) -> int:
    """Lead when it is one's turn; returns the exit code when told to stop or when the lease is lost."""
    client = client or AsyncClient()
    identity = options.identity or f"{socket.gethostname()}-{os.getpid()}"
    pulse, queue = Pulse(), Queue()
    site = await _serve(options, pulse)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    lease = Lease(Cluster(client), options.operator_namespace, LEASE_NAME, identity)
    cluster = Cluster(client, before_write=lease.must_hold)
    stopping = asyncio.create_task(stop.wait())
    try:
        if not await _first(stopping, asyncio.create_task(lease.acquire())):
            return 0
        metrics.LEADER.set(1)
        pulse.leading = True
        pulse.beat()
        log.info("%s leads", identity)
        async with aiohttp.ClientSession() as session:
            operator = Operator(cluster, HttpWitnesses(session), options.operator_namespace, identity)
            tasks = [
                asyncio.create_task(lease.keep()),
                asyncio.create_task(_watch(options, cluster, queue, pulse)),
                asyncio.create_task(_look(options, cluster, pulse)),
                *(asyncio.create_task(work(queue, operator.once, pulse.beat)) for _ in range(WORKERS)),
            ]
            return await _until_the_end(stopping, tasks, lease)
    finally:
        stopping.cancel()
        await site.cleanup()
        await client.close()


async def _first(stopping: asyncio.Task[Any], task: asyncio.Task[Any]) -> bool:
    """Whether the task ended before the stop."""
    await asyncio.wait((stopping, task), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
        return True
    task.cancel()
    return False


async def _until_the_end(stopping: asyncio.Task[Any], tasks: list[asyncio.Task[Any]], lease: Lease) -> int:
    await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    metrics.LEADER.set(0)
    error = ended[0].exception() if ended else None
    if error is None:
        # Told to stop; where kopf has heard the signal in our place, its watches have ended without an error.
        await lease.release()
        return 0
    # Whatever it was, another process begins with clean hands.
    log.error("%s", f"lost the lease: {error}" if isinstance(error, LeaseLost) else f"ended by {error!r}")
    return 1


def keys_of(labels: dict[str, str], namespace: str) -> list[Key]:
    """Whose passes a change of a child concerns."""
    keys = []
    if names.GATE_RUN in labels:
        keys.append(Key("GateRun", namespace, labels[names.GATE_RUN]))
    if names.VENUE in labels:
        keys.append(Key("Venue", namespace, labels[names.VENUE]))
    return keys


async def _served(options: Options, cluster: Cluster) -> None:
    """Wait until the API server knows our kinds: kopf looks once, and would never watch what it did not
    find."""
    told = False
    while True:
        try:
            for kind in ("Venue", "GateRun"):
                for namespace in options.namespaces or ("*",):
                    await cluster.list(API_VERSION, kind, namespace, {})
            return
        except HTTPError as error:
            if not told:
                log.warning("venues can't be listed yet: %s", error)
            told = True
            await asyncio.sleep(SERVED_S)


async def _look(options: Options, cluster: Cluster, pulse: Pulse) -> None:
    """For ever. Without any venue nobody hears of one, which is no deafness: that there is none counts as
    heard. Where there is one, only its own watches and passes count."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            found = [
                await cluster.list(API_VERSION, "Venue", namespace, {})
                for namespace in options.namespaces or ("*",)
            ]
        except HTTPError as error:
            log.warning("venues can't be listed: %s", error)
            continue
        if not any(found):
            pulse.beat()


async def _watch(options: Options, cluster: Cluster, queue: Queue, pulse: Pulse) -> None:
    await _served(options, cluster)
    registry = kopf.OperatorRegistry()
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{GROUP}/never-used"
    # A watch that says nothing for so long is opened again; some proxies drop them silently.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330

    def own(kind: Any) -> Callable[..., None]:
        def seen(name: str, namespace: str | None, **_: Any) -> None:
            pulse.beat()
            queue.add(Key(kind, namespace or "", name))

        return seen

    def child(namespace: str | None, labels: Any, **_: Any) -> None:
        pulse.beat()
        for key in keys_of(dict(labels), namespace or ""):
            queue.add(key)

    def login(**more: Any) -> kopf.ConnectionInfo | None:
        # The same two ways as lightkube, in its order.
        return kopf.login_with_service_account(**more) or kopf.login_with_kubeconfig(**more)

    kopf.on.login(registry=registry, id="login")(login)
    kopf.on.event(GROUP, VERSION, "venues", registry=registry, id="venue")(own("Venue"))
    kopf.on.event(GROUP, VERSION, "gateruns", registry=registry, id="gate-run")(own("GateRun"))
    for group, version, plural in CHILDREN:
        kopf.on.event(
            group, version, plural, registry=registry, id=plural, labels={names.VENUE: kopf.PRESENT}
        )(child)
    await kopf.operator(
        registry=registry,
        settings=settings,
        standalone=True,
        clusterwide=not options.namespaces,
        namespaces=options.namespaces,
    )


async def _serve(options: Options, pulse: Pulse) -> web.AppRunner:
    async def healthz(_: web.Request) -> web.Response:
        alive = pulse.alive()
        text = f"{'leader' if pulse.leading else 'standby'}, heard {pulse.age_s():.0f} s ago\n"
        return web.Response(text=text, status=200 if alive else 503)

    async def shown(_: web.Request) -> web.Response:
        metrics.LAST_EVENT_AGE.set(pulse.age_s())
        return web.Response(
            body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", shown)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, options.host, options.port).start()
    return runner
