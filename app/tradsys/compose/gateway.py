"""Gateway: order entry over gRPC, handed to the engine in batches; private events from the journal."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, MutableSequence
from pathlib import Path
from typing import Any

from tradsys import metrics
from tradsys.adapters.auth.keys import KeyFileError
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.gateway.calls import Calls
from tradsys.adapters.gateway.elsewhere import EventsElsewhere
from tradsys.adapters.gateway.events import Events, Restored
from tradsys.adapters.gateway.process import Gateway, Tls
from tradsys.adapters.gateway.routes import Routes, Shard
from tradsys.adapters.gateway.service import OrderService
from tradsys.adapters.handover.handover import Handover
from tradsys.adapters.handover.reading import Reader
from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.http.limits import RateLimiter
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.page.page import ENGINE_TIME_NS, Page
from tradsys.compose.logs import CallLog
from tradsys.compose.ops import ops_server
from tradsys.compose.pieces import Stop, end, internal_secret, token_verifier, venue_keys, wait_for_page
from tradsys.compose.tracing import exporter_of, flush_always, spans_of
from tradsys.core import shard as core
from tradsys.core.messages import RevokeToken
from tradsys.exposition import Samples
from tradsys.settings import EXIT_CONFIGURATION, Settings, SettingsError

FEEDS_S = 30.0
"""So long a gateway that begins is not ready while a shard's feed is not heard: it takes nothing for that."""
ESTABLISHED = "01"
"""State of a connection in /proc/net/tcp."""


def serve_gateway(settings: Settings) -> int:
    """Serve gRPC until told to stop; returns the exit code."""
    page: Page | None = None
    if not settings.gateway_shards:
        page = wait_for_page(settings, Stop())
        if page is None:
            return 0
    try:
        return _serve(settings, page)
    except (SettingsError, KeyFileError) as error:
        return end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return end(1, str(error))


def _serve(settings: Settings, page: Page | None) -> int:
    words = [0] * metrics.GATEWAY.used
    revocations = Revocations()
    verifier = token_verifier(settings, venue_keys(settings), revocations)

    def clock() -> int:
        return time.time_ns() if page is None else max(time.time_ns(), page.words[ENGINE_TIME_NS])

    def revoke(command: RevokeToken) -> None:
        revocations.revoke(command, clock() // 1_000_000_000)

    ways = _ways(settings, words)
    events = _events(settings, page, revoke) if page is not None else None
    secret = internal_secret(settings)
    elsewhere = [
        EventsElsewhere(shard.name, shard.feed, secret, revoke) for shard in ways if shard.feed is not None
    ]

    def close() -> None:
        for shard in ways:
            shard.reads.close()
            shard.commands.abandon()

    service = OrderService(
        Routes([Shard(shard.name, shard.commands, shard.reads) for shard in ways]),
        verifier,
        clock,
        words,
        events={one.shard: one for one in ([events] if events is not None else elsewhere)},
        limiter=RateLimiter(settings.rate_limit_per_s) if settings.rate_limit_per_s else None,
        client_names=frozenset(settings.grpc_client_names),
    )
    spans = spans_of(settings, exporter_of(settings, "gateway"), words, metrics.GATEWAY_SPANS)
    if spans is not None:
        flush_always(spans)
    gateway = Gateway(
        host=settings.host,
        port=settings.grpc_port,
        service=service,
        events=events,
        page=page,
        connections_max=settings.max_connections,
        calls=Calls(
            CallLog("gateway", settings.log_format).add,
            settings.access_log == "errors",
            f"g{os.getpid():x}-",
            spans,
        ),
        elsewhere=elsewhere,
        close=close,
        tls=_tls(settings),
    )

    ready_by_s = time.monotonic() + FEEDS_S

    def not_ready() -> list[str]:
        if not gateway.serving:
            return ["starting or stopping"]
        if time.monotonic() >= ready_by_s:
            return []  # One shard that is away must not keep the others' clients out.
        return [f"shard {one.shard}'s feed is not heard yet" for one in elsewhere if not one.known]

    def derive() -> Mapping[str, Samples]:
        words[metrics.GATEWAY_WAITING.word()] = sum(shard.commands.waiting for shard in ways)
        words[metrics.GATEWAY_CONNECTIONS.word("engine")] = sum(shard.commands.is_open for shard in ways)
        words[metrics.GATEWAY_CONNECTIONS.word("feed")] = sum(one.connected for one in elsewhere)
        words[metrics.GATEWAY_CONNECTIONS.word("client")] = connections_to(settings.grpc_port)
        return {}

    ops = ops_server(
        settings,
        settings.gateway_ops_port,
        row=metrics.GATEWAY,
        process_metrics=metrics.GATEWAY_PROCESS,
        words=words,
        derive=derive,
        not_ready=not_ready,
        status=lambda: {
            "process": "gateway",
            "shards": [shard.name for shard in ways],
            "followed": [one.shard for one in elsewhere if one.connected],
            "seq": None if events is None else events.seq,
        },
        position=lambda: (0, 0, 0) if page is None else (page.published_seq, page.durable_seq, page.epoch),
    )
    ops.start()
    try:
        return asyncio.run(gateway.run())
    finally:
        ops.stop()


class _Way:
    """To one shard."""

    def __init__(self, name: str, commands: Handover, reads: Reader, feed: tuple[str, int] | None) -> None:
        """`feed` is where the shard's journal is told; None: it is at hand, or nowhere."""
        self.name, self.commands, self.reads, self.feed = name, commands, reads, feed


def _ways(settings: Settings, words: MutableSequence[int]) -> list[_Way]:
    """Raises SettingsError."""
    commands, duration = metrics.GATEWAY_BATCH_COMMANDS.series(), metrics.GATEWAY_BATCH_DURATION.series()
    batches = {name: metrics.GATEWAY_BATCHES.word(name) for name in ("answered", "refused", "unknown")}

    def observe(count: int, ns: int, outcome: str) -> None:
        commands.observe(words, count)
        duration.observe(words, ns)
        words[batches[outcome]] += 1

    secret = internal_secret(settings)
    places = settings.gateway_shards or (f"{settings.shard}={_reachable(settings.host)}",)
    ways = []
    for place in places:
        name, host, port, internal_port, feed_port = shard_place(place, settings.port, settings.internal_port)
        handover = Handover(host, internal_port, secret, observe=observe)
        feed = (host, feed_port) if feed_port else None
        ways.append(_Way(name, handover, Reader((host, port), (host, settings.query_port)), feed))
    if len({way.name for way in ways}) < len(ways):
        raise SettingsError("gateway_shards", "names a shard twice")
    return ways


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def shard_place(text: str, port: int, internal_port: int) -> tuple[str, str, int, int, int]:
    """(name, host, REST port, internal port, internal port of its feed or 0) of
    `NAME=HOST[:PORT:INTERNAL_PORT[:FEED_INTERNAL_PORT]]`. Raises SettingsError.
    """
    name, _, place = text.partition("=")
    host, _, ports = place.rpartition("]") if place.startswith("[") else place.partition(":")
    host, ports = host.removeprefix("["), ports.removeprefix(":")
    given = ports.split(":") if ports else [str(port), str(internal_port)]
    if not name or not host or len(given) not in (2, 3) or not all(one.isdigit() for one in given):
        raise SettingsError(
            "gateway_shards", f"{text!r} is not NAME=HOST[:PORT:INTERNAL_PORT[:FEED_INTERNAL_PORT]]"
        )
    rest, internal, feed = (int(one) for one in (*given, "0")[:3])
    return name, host, rest, internal, feed


def _events(settings: Settings, page: Page, revoke: Any) -> Events:
    directory, files = settings.data_dir, OsFiles()

    def restore() -> Restored:
        loaded, _ = SnapshotStore(Path(directory)).newest(core.Shard.restore)
        if loaded is None:
            return Restored(0, None, {}, {}, set(), [])
        shard = loaded.shard
        return Restored(
            loaded.header.seq,
            loaded.header.chain,
            {
                order.id: (order.command, order.instrument)
                for account in shard.accounts.values()
                for order in account.open.values()
            },
            {symbol: market.instrument for symbol, market in shard.markets.items()},
            set(shard.accounts),
            [
                RevokeToken(jti, account, until, expires)
                for (jti, account), (until, expires) in shard.revocations.items()
            ],
        )

    return Events(
        settings.shard,
        page,
        restore,
        lambda seq, chain: LogReader(directory, files, seq, chain),
        revoke,
    )


def _tls(settings: Settings) -> Tls | None:
    """Raises SettingsError."""
    if not settings.grpc_certificate_file:
        return None

    def read(name: str, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise SettingsError(name, f"{path} can't be read ({error.strerror})") from None

    return Tls(
        certificate=read("grpc_certificate_file", settings.grpc_certificate_file),
        key=read("grpc_key_file", settings.grpc_key_file),
        clients=read("grpc_client_ca_file", settings.grpc_client_ca_file)
        if settings.grpc_client_ca_file
        else None,
    )


def connections_to(port: int) -> int:
    """Open connections to a port of this machine; gRPC's own server does not tell."""
    count = 0
    for path in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(path) as file:
                rows = [line.split()[1:4] for line in file]
        except OSError:
            continue
        count += sum(state == ESTABLISHED and local.endswith(f":{port:04X}") for local, _, state in rows)
    return count
