"""Feed: streams over WebSockets, from a replay of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from tradsys import metrics
from tradsys.adapters.auth.keys import KeyFileError
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.feed.candles import KnownCandles
from tradsys.adapters.feed.follower import Follower, Restored
from tradsys.adapters.feed.process import Feed
from tradsys.adapters.feed.session import Ended
from tradsys.adapters.handover.handover import Handover
from tradsys.adapters.history.process import READMODEL_NAME
from tradsys.adapters.history.reader import ReadModelReader
from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.http.limits import RateLimiter
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.page.page import ENGINE_TIME_NS
from tradsys.adapters.page.waking import Sleeper
from tradsys.adapters.tracing.spans import Spans
from tradsys.codec.errors import ERRORS
from tradsys.compose.addresses import browser_origins
from tradsys.compose.logs import CallLog
from tradsys.compose.ops import ops_server
from tradsys.compose.pieces import (
    Stop,
    end,
    internal_secret,
    pragmas,
    token_verifier,
    venue_keys,
    wait_for_page,
)
from tradsys.compose.tracing import exporter_of, flush_always, spans_of
from tradsys.core.candles import INTERVALS
from tradsys.core.shard import Shard
from tradsys.exposition import Rate, Samples, one
from tradsys.settings import EXIT_CONFIGURATION, Settings, SettingsError
from tradsys.venue.calling import Call
from tradsys.venue.past import HistoryNotReady


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

    def admit(account: str) -> int:
        return limiter.take(account, time.monotonic_ns()).retry_after_s if limiter is not None else 0

    log = CallLog("feed", settings.log_format)

    def hear_order(op: str, call: Call) -> Ended:
        begun = spans.begin(None) if spans is not None else None
        began_ns = time.time_ns()
        if begun is not None:
            call.traceparent = begun.traceparent

        def ended(code: int) -> None:
            batch = {"batch_id": call.batch_id} if call.batch_id else {}
            if code or settings.access_log == "all":
                log.add({"event": "request", "request_id": call.request_id, "op": op, "code": code, **batch})
            if begun is not None and spans is not None:
                about: dict[str, str | int] = {"request_id": call.request_id, "code": code, **batch}
                failed = code in ERRORS and ERRORS[code].status >= 500
                spans.end(begun, op, began_ns, time.time_ns(), about, failed)

        return ended

    limiter = RateLimiter(settings.rate_limit_per_s) if settings.rate_limit_per_s else None
    past = ReadModelReader(Path(directory) / READMODEL_NAME, pragmas(settings))
    words = [0] * metrics.FEED.used
    spans: Spans | None = None
    revocations = Revocations()
    follower = Follower(page, restore, lambda seq, chain: LogReader(directory, files, seq, chain))
    try:
        spans = spans_of(settings, exporter_of(settings, "feed"), words, metrics.FEED_SPANS)
        if spans is not None:
            flush_always(spans)
        verifier = token_verifier(settings, venue_keys(settings), revocations)
        feed = Feed(
            host=settings.host,
            port=settings.ws_port,
            follower=follower,
            make_sleeper=lambda: Sleeper(page.words, directory, "feed"),
            connect_engine=lambda: Handover(
                {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host),
                settings.internal_port,
                internal_secret(settings),
            ),
            known_candles=lambda: known_candles(past, follower.shard.markets),
            authenticator=verifier,
            is_revoked=revocations.is_revoked,
            revoke=revocations.revoke,
            admit=admit,
            clock=lambda: max(time.time_ns(), page.words[ENGINE_TIME_NS]),
            words=words,
            origins=browser_origins(settings),
            binary=settings.ws_binary_protocol,
            compression_level=settings.ws_compression_level,
            connections_max=settings.max_connections,
            read_buffer_bytes=settings.ws_buffer_size,
            buffers_max=settings.message_pool_size,
            internal_port=settings.feed_internal_port,
            internal_secret=internal_secret(settings),
            hear_order=hear_order,
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


def known_candles(past: ReadModelReader, symbols: Iterable[str]) -> KnownCandles | None:
    """The latest candle of each symbol and interval in the read model, if it can be read."""
    try:
        with past.view() as view:
            found = {
                (symbol, interval): latest
                for symbol in symbols
                for interval, length in INTERVALS.items()
                for latest in view.candles(symbol, length, limit=1).items
            }
            return KnownCandles(view.seq, found)
    except HistoryNotReady:
        return None
    finally:
        past.close()
