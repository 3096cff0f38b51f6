"""The ops port of a process that counts in a row of its own: feed, gateway, query."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from typing import Any

import apsw

from tradsys import __version__
from tradsys.adapters.http.app import create_app, ops_routes
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.ops.evidence import Evidence
from tradsys.adapters.ops.server import OpsServer
from tradsys.compose.pieces import Nobody, close_header, pinning
from tradsys.exposition import Exposition, Samples
from tradsys.metrics import ProcessMetrics, Row
from tradsys.settings import Settings

SHOWN_SETTINGS = (
    *(
        "gc_percent",
        "memory_limit",
        "max_connections",
        "sync_interval_ms",
        "snapshot_every",
        "rate_limit_per_s",
    ),
    *("order_latency_target_us", "ws_latency_target_us", "db_latency_target_us"),
)
"""Those that are numbers."""


def ops_server(
    settings: Settings,
    port: int,
    *,
    row: Row,
    process_metrics: ProcessMetrics,
    words: MutableSequence[int],
    derive: Callable[[], Mapping[str, Samples]],
    not_ready: Callable[[], list[str]],
    status: Callable[[], dict[str, Any]],
    position: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0),
    shown_words: Callable[[], Sequence[int]] | None = None,
) -> OpsServer:
    """A server of /healthz, /readyz, /metrics and /internal/{status,pinning} on `port`, not yet started.

    `words` is this process's own row; `shown_words` gives what is shown, if it is a sum over several
    processes. `derive` gives the samples of the row's derived gauges. All are called from the server's
    threads, so they must only read. `position` is (seq, durable_seq, epoch) for the reply headers.
    Raises OSError if the port can't be had.
    """
    evidence = Evidence(process_metrics, row.name, words, cpu_exclusive=settings.cpu_exclusive)
    evidence.watch_gc()

    def derived() -> Mapping[str, Samples]:
        evidence.look()
        evidence.ready(not not_ready())
        return {**derive(), "tradsys_build_info": build_info(row.name, settings.shard)}

    exposition = Exposition(row, shown_words or (lambda: words), derived)
    edge = Edge(Nobody(), time.time_ns, position, close_after=close_header)
    routes = ops_routes(
        not_ready=not_ready, status=status, pinning=pinning, rendered_metrics=exposition.render
    )
    return OpsServer(create_app(edge, routes), settings.host, port)


def build_info(process: str, shard: str) -> Samples:
    versions = __version__, apsw.sqlite_lib_version(), platform.python_version()
    return [((process, shard, *versions), 1)]


def settings_info(settings: Settings) -> dict[str, Samples]:
    """The settings that a person who looks at a graph wants to know of."""
    words = (
        settings.profile,
        settings.durability,
        settings.spin,
        str(settings.ws_binary_protocol).lower(),
        str(settings.sqlite_wal).lower(),
    )
    return {
        "tradsys_settings_info": [(words, 1)],
        "tradsys_setting": [((name,), getattr(settings, name)) for name in SHOWN_SETTINGS],
    }
