"""Feed: streams over WebSockets, from a replay of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from tradsys import metrics
from tradsys.adapters.auth.keys import KeyFileError
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.adapters.feed.follower import Follower, Restored
from tradsys.adapters.feed.process import Feed
from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.page.page import ENGINE_TIME_NS
from tradsys.compose.addresses import browser_origins
from tradsys.compose.ops import ops_server
from tradsys.compose.pieces import Stop, end, venue_keys, wait_for_page
from tradsys.core.shard import Shard
from tradsys.exposition import Rate, Samples, one
from tradsys.settings import EXIT_CONFIGURATION, Settings, SettingsError


def serve_feed(settings: Settings) -> int:
    """Serve the streams until told to stop; returns the exit code."""
    stop = Stop()
    page = wait_for_page(settings, stop)
    if page is None:
        return 0
    directory, files = settings.data_dir, OsFiles()

    def restore() -> Restored:
        # No pool: what a turn has changed is read after the turn, and must still be the same orders.
        loaded, _ = SnapshotStore(Path(directory)).newest(Shard.restore)
        if loaded is None:
            return Restored(Shard(settings.shard), 0, None)
        return Restored(loaded.shard, loaded.header.seq, loaded.header.chain)

    words = [0] * metrics.FEED.used
    revocations = Revocations()
    follower = Follower(page, restore, lambda seq, chain: LogReader(directory, files, seq, chain))
    try:
        verifier = TokenVerifier(
            venue_keys(settings),
            settings.token_issuer,
            settings.token_audience,
            revocations,
            [0] * metrics.WORDS_USED,
            verifications_per_s=settings.token_verifications_per_s,
        )
        feed = Feed(
            host=settings.host,
            port=settings.ws_port,
            follower=follower,
            authenticator=verifier,
            is_revoked=revocations.is_revoked,
            revoke=revocations.revoke,
            clock=lambda: max(time.time_ns(), page.words[ENGINE_TIME_NS]),
            words=words,
            origins=browser_origins(settings),
            binary=settings.ws_binary_protocol,
            connections_max=settings.max_connections,
            read_buffer_bytes=settings.ws_buffer_size,
        )
        sent, messages = [metrics.FEED_MESSAGES.word(name) for name in metrics.PROTOCOLS], Rate()

        def derive() -> Mapping[str, Samples]:
            words[metrics.FEED_SEQ.word()] = follower.seq
            return {
                "tradsys_feed_lag_commands": one(max(0, page.published_seq - follower.seq)),
                "hft_messages_per_second": one(
                    messages.per_second(sum(words[word] for word in sent), time.monotonic())
                ),
            }

        def not_ready() -> list[str]:
            return [] if feed.serving else ["replaying"]

        def status() -> dict[str, Any]:
            return {"process": "feed", "published_seq": page.published_seq, "seq": follower.seq}

        ops = ops_server(
            settings,
            settings.feed_ops_port,
            row=metrics.FEED,
            process_metrics=metrics.FEED_PROCESS,
            words=words,
            derive=derive,
            not_ready=not_ready,
            status=status,
            position=lambda: (page.published_seq, page.durable_seq, page.epoch),
        )
        ops.start()
        try:
            return uvloop.run(feed.run())
        finally:
            ops.stop()
    except (SettingsError, KeyFileError) as error:
        return end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return end(1, str(error))
