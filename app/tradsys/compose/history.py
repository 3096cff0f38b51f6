"""History: the follower that syncs, compares, and writes the read model."""

from __future__ import annotations

import time
from collections.abc import MutableSequence
from pathlib import Path
from typing import cast

from tradsys.adapters.history.process import History
from tradsys.adapters.history.sqlite import PragmaNotInForce, SchemaTooNew, SqliteTooOld
from tradsys.adapters.http.app import (
    create_app,
    ops_routes,
)
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.segments import prepare_next_segment, segment_indexes, segment_path
from tradsys.adapters.log.sync import LogSync
from tradsys.compose.pieces import (
    Nobody,
    Stop,
    close_header,
    end,
    internal_secret,
    pinning,
    pragmas,
    wait_for_page,
)
from tradsys.settings import EXIT_CONFIGURATION, Settings


def serve_history(settings: Settings) -> int:
    """Follow the journal until told to stop; returns the exit code."""
    stop = Stop()
    page = wait_for_page(settings, stop)
    if page is None:
        return 0
    directory, files = settings.data_dir, OsFiles()
    words = cast(MutableSequence[int], page.metrics)
    try:
        history = History(
            directory=Path(directory),
            shard_name=settings.shard,
            progress=page,
            words=words,
            open_sync=lambda: LogSync(directory, files, page),
            prepare=lambda: prepare_next_segment(directory, files, page, settings.segment_bytes),
            open_reader=lambda seq, chain: LogReader(directory, files, seq, chain),
            segments=lambda: [
                Path(segment_path(directory, index)) for index in segment_indexes(directory, files)
            ],
            sync_interval_ms=settings.sync_interval_ms,
            snapshot_every=settings.snapshot_every,
            pragmas=pragmas(settings),
        )
        edge = Edge(
            Nobody(),
            time.time_ns,
            lambda: (page.published_seq, page.durable_seq, page.epoch),
            close_after=close_header,
        )
        routes = ops_routes(
            not_ready=history.not_ready,
            status=history.status,
            pinning=pinning,
            rendered_metrics=history.rendered,
        )
        app = create_app(edge, [*routes, *history.routes(internal_secret(settings))])
        history.listen(app, settings.host, settings.history_port)
        stop.then(history.stop)
        return history.run()
    except (SqliteTooOld, PragmaNotInForce, SchemaTooNew) as error:
        return end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return end(1, str(error))
