"""Query: the read model over REST."""

from __future__ import annotations

import os
import time
from pathlib import Path
from wsgiref.types import WSGIApplication

from tradsys import metrics
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.adapters.history.process import READMODEL_NAME
from tradsys.adapters.history.reader import ReadModelReader
from tradsys.adapters.http.app import (
    create_app,
)
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.page.page import ENGINE_TIME_NS
from tradsys.adapters.query.app import RevocationsFollowed, query_routes
from tradsys.adapters.query.server import QueryServer
from tradsys.compose.pieces import Stop, close_header, pragmas, venue_keys, wait_for_page
from tradsys.settings import Settings


def serve_query(settings: Settings) -> int:
    """Answer from the read model until told to stop; returns the exit code."""
    stop = Stop()
    page = wait_for_page(settings, stop)
    if page is None:
        return 0

    def make_app() -> WSGIApplication:
        revocations = Revocations()
        verifier = TokenVerifier(
            venue_keys(settings),
            settings.token_issuer,
            settings.token_audience,
            revocations,
            [0] * metrics.WORDS_USED,
            verifications_per_s=settings.token_verifications_per_s,
        )
        past = ReadModelReader(Path(settings.data_dir) / READMODEL_NAME, pragmas(settings))
        edge = Edge(
            RevocationsFollowed(verifier, past, revocations.revoke),
            # The engine's time as of a moment ago: a token that had expired there is not revived here.
            lambda: max(time.time_ns(), page.words[ENGINE_TIME_NS]),
            lambda: (page.published_seq, page.durable_seq, page.epoch),
            origins=settings.cors_origins,
            id_prefix=f"q{os.getpid():x}-",
            close_after=close_header,
        )
        return create_app(edge, query_routes(settings.shard, past))

    return QueryServer(make_app, settings.host, settings.query_port).serve()
