"""History: the follower that syncs, compares, and writes the read model."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping, MutableSequence
from pathlib import Path
from typing import cast

from tradsys import metrics
from tradsys.adapters.history.memory import MemoryLimit
from tradsys.adapters.history.process import History
from tradsys.adapters.history.sqlite import PragmaNotInForce, SchemaTooNew, SqliteTooOld
from tradsys.adapters.history.syncing import SyncingProcess
from tradsys.adapters.http.app import (
    create_app,
    ops_routes,
)
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.segments import segment_indexes, segment_path
from tradsys.adapters.ops.evidence import Evidence
from tradsys.adapters.ops.server import OpsServer
from tradsys.adapters.page.page import ENGINE_TIME_NS
from tradsys.compose.garbage import Garbage
from tradsys.compose.ops import build_info, settings_info
from tradsys.compose.pieces import (
    PAGE_FILE,
    Nobody,
    Stop,
    close_header,
    end,
    internal_secret,
    pinning,
    pragmas,
    wait_for_page,
)
from tradsys.exposition import Samples, one
from tradsys.settings import EXIT_CONFIGURATION, Settings

YOUNG_OBJECTS = 10_000
"""So many are worth a look for garbage."""


def serve_history(settings: Settings) -> int:
    """Follow the journal until told to stop; returns the exit code."""
    stop = Stop()
    syncer = SyncingProcess(
        [
            *(sys.executable, "-m", "tradsys.compose.syncing"),
            *(f"{settings.data_dir}/{PAGE_FILE}", str(settings.data_dir)),
            *(str(settings.segment_bytes), str(settings.sync_interval_ms), settings.log_format),
        ]
    )
    try:
        return _follow(settings, stop, syncer)
    finally:
        syncer.stop()


def _follow(settings: Settings, stop: Stop, syncer: SyncingProcess) -> int:
    page = wait_for_page(settings, stop)
    if page is None:
        return 0
    directory, files = settings.data_dir, OsFiles()
    words = cast(MutableSequence[int], page.metrics)
    try:
        evidence = Evidence(
            metrics.SHARD_PROCESSES, metrics.HISTORY, words, cpu_exclusive=settings.cpu_exclusive
        )
        evidence.watch_gc()
        fixed = {
            "tradsys_build_info": build_info(metrics.HISTORY, settings.shard),
            **settings_info(settings),
        }

        def derive() -> Mapping[str, Samples]:
            evidence.look()
            words[resident] += syncer.resident_bytes()
            evidence.ready(not history.not_ready())
            memory.look()
            return {
                **fixed,
                "tradsys_epoch": one(page.epoch),
                "tradsys_engine_silence_seconds": one(silence()),
            }

        resident = metrics.SHARD_PROCESSES.memory.word(metrics.HISTORY)
        memory = MemoryLimit(settings.memory_limit, words)
        silence = Silence(lambda: page.words[ENGINE_TIME_NS])
        history = History(
            directory=Path(directory),
            shard_name=settings.shard,
            progress=page,
            words=words,
            syncer=syncer,
            open_reader=lambda seq, chain: LogReader(directory, files, seq, chain),
            segments=lambda: [
                Path(segment_path(directory, index)) for index in segment_indexes(directory, files)
            ],
            snapshot_every=settings.snapshot_every,
            pragmas=pragmas(settings),
            derive=derive,
            # Who watches the collector counts the pauses.
            collect=Garbage(YOUNG_OBJECTS, count_pause=lambda pause_ns: None).turn,
        )
        # What lives long is never looked through: with a million orders, that is a pause of a second.
        gc.disable()
        words[metrics.SHARD_PROCESSES.gc_threshold.word(metrics.HISTORY)] = YOUNG_OBJECTS
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
        ops = OpsServer(app, settings.host, settings.history_port)
        ops.start()
        stop.then(history.stop)
        try:
            return history.run()
        finally:
            ops.stop()
    except (SqliteTooOld, PragmaNotInForce, SchemaTooNew) as error:
        return end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return end(1, str(error))


class Silence:
    """For how long a word has not changed; that of the engine's time changes ten times a second."""

    def __init__(self, word: Callable[[], int]) -> None:
        self._word = word
        self._seen = word()
        self._since = time.monotonic()

    def __call__(self) -> float:
        """Seconds."""
        seen, now = self._word(), time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since
