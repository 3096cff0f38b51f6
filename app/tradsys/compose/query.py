"""Query: the read model over REST."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import NoReturn
from urllib.parse import urlsplit
from wsgiref.types import WSGIApplication

from tradsys import metrics
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.history.process import READMODEL_NAME
from tradsys.adapters.history.reader import ReadModelReader
from tradsys.adapters.http.accesslog import AccessLog
from tradsys.adapters.http.app import below, create_app
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.ops.evidence import Evidence
from tradsys.adapters.page.page import ENGINE_TIME_NS
from tradsys.adapters.query.app import RevocationsFollowed, query_routes
from tradsys.adapters.query.console import console_routes
from tradsys.adapters.query.counted import Counted
from tradsys.adapters.query.server import PLACES, WORKERS, QueryServer
from tradsys.compose.addresses import addresses, browser_origins
from tradsys.compose.logs import access_log_out
from tradsys.compose.ops import ops_server
from tradsys.compose.pieces import Stop, close_header, pragmas, token_verifier, venue_keys, wait_for_page
from tradsys.compose.query_api import OPERATIONS
from tradsys.compose.tracing import Traced, TracedEdge, exporter_of, flush_always, spans_of
from tradsys.counting import SharedRows
from tradsys.exposition import Samples, one
from tradsys.settings import Settings

LOG_FLUSH_S = 0.2


def serve_query(settings: Settings) -> int:
    """Answer from the read model until told to stop; returns the exit code."""
    stop = Stop()
    page = wait_for_page(settings, stop)
    if page is None:
        return 0

    exporter = exporter_of(settings, "query")
    logs: list[AccessLog] = []  # Each worker fills a list of its own.
    rows = SharedRows(PLACES + 1, metrics.QUERY.used)
    own = rows.row(PLACES)

    def make_app(place: int) -> WSGIApplication:
        revocations = Revocations()
        verifier = token_verifier(settings, venue_keys(settings), revocations)
        past = ReadModelReader(Path(settings.data_dir) / READMODEL_NAME, pragmas(settings))
        log = AccessLog(
            access_log_out(settings.log_format), "query", errors_only=settings.access_log == "errors"
        )
        logs.append(log)
        Thread(target=_flush_always, args=(log,), name="log", daemon=True).start()
        words = rows.row(place)
        spans = spans_of(settings, exporter, words, metrics.QUERY_SPANS)
        make: Callable[..., Edge] = Edge
        if spans is not None:
            flush_always(spans)
            make = partial(TracedEdge, spans=spans, ended=partial(Traced.end, spans=spans))
        edge = make(
            RevocationsFollowed(verifier, past, revocations.revoke),
            # The engine's time as of a moment ago: a token that had expired there is not revived here.
            lambda: max(time.time_ns(), page.words[ENGINE_TIME_NS]),
            lambda: (page.published_seq, page.durable_seq, page.epoch),
            origins=browser_origins(settings),
            id_prefix=f"q{os.getpid():x}-",
            access_log=log,
            close_after=close_header,
        )
        routes = query_routes(settings.shard, past, lambda: page.published_seq)
        app = create_app(edge, routes, describe=True, operations=OPERATIONS)
        reached = addresses(settings)
        for path, resource in console_routes(reached.engine, reached.streams):
            app.add_route(path, resource)
        evidence = Evidence(metrics.QUERY_PROCESS, "query", words)
        evidence.watch_gc()
        app.add_middleware(Counted(words, evidence.look_at_usage))
        return below(urlsplit(settings.public_query_url).path, below(f"/s/{settings.shard}", app))

    def flush_logs() -> None:
        for log in logs:
            log.flush()

    def lag() -> int:
        return max(0, page.durable_seq - page.metrics[metrics.READMODEL_SEQ.word()])

    def derive() -> Mapping[str, Samples]:
        return {"tradsys_query_lag_commands": one(lag()), "tradsys_query_workers": one(WORKERS)}

    def not_ready() -> list[str]:
        return [] if page.current else ["no engine has begun"]

    ops = ops_server(
        settings,
        settings.query_ops_port,
        row=metrics.QUERY,
        process_metrics=metrics.QUERY_PROCESS,
        words=own,
        shown_words=rows.sums,
        derive=derive,
        not_ready=not_ready,
        status=lambda: {"process": "query", "lag": lag()},
        position=lambda: (page.published_seq, page.durable_seq, page.epoch),
    )
    # The parent answers on the ops port: it outlives its workers, and adds up what they count.
    server = QueryServer(
        make_app,
        settings.host,
        settings.query_port,
        started=ops.start,
        forked=ops.forget,
        ended=flush_logs,
    )
    return server.serve()


def _flush_always(log: AccessLog) -> NoReturn:
    """The lines of a worker, a moment after their requests: no request waits for a log."""
    while True:
        time.sleep(LOG_FLUSH_S)
        log.flush()
