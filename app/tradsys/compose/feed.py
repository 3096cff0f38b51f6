"""Feed: streams over WebSockets, from a replay of its own."""

from __future__ import annotations

import time
from collections.abc import MutableSequence
from pathlib import Path
from typing import cast

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
from tradsys.compose.pieces import Stop, end, venue_keys, wait_for_page
from tradsys.core.shard import Shard
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

    words = cast(MutableSequence[int], page.metrics)
    revocations = Revocations()
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
            follower=Follower(page, restore, lambda seq, chain: LogReader(directory, files, seq, chain)),
            authenticator=verifier,
            is_revoked=revocations.is_revoked,
            revoke=revocations.revoke,
            clock=lambda: max(time.time_ns(), page.words[ENGINE_TIME_NS]),
            words=words,
            origins=settings.cors_origins,
            binary=settings.ws_binary_protocol,
            connections_max=settings.max_connections,
            read_buffer_bytes=settings.ws_buffer_size,
        )
        return uvloop.run(feed.run())
    except (SettingsError, KeyFileError) as error:
        return end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return end(1, str(error))
