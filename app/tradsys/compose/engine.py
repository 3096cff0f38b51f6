"""The engine: recovery, then one thread that serves four listeners and journals."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, MutableSequence
from functools import partial
from typing import Any, Protocol, cast
from wsgiref.types import WSGIApplication

from tradsys import metrics
from tradsys.adapters.auth.keys import KeyFileError
from tradsys.adapters.auth.revocation import TOKEN_LIFE_MAX_S, Revocations
from tradsys.adapters.http.accesslog import AccessLog
from tradsys.adapters.http.app import (
    PREFIX,
    ByPort,
    admin_routes,
    below,
    create_app,
    internal_routes,
    ops_routes,
    public_routes,
)
from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.direct import DirectOrders
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.http.limits import RateLimiter
from tradsys.adapters.http.server import Direct, Limits, Listener, Server, close_after_answer
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import ENGINE_TIME_NS, Page, boot_id
from tradsys.adapters.page.waking import Bells
from tradsys.codec.json_order import reply_bytes_of
from tradsys.codec.json_v1 import NewOrder, decode_new_order
from tradsys.compose.addresses import HOST, addresses, browser_origins
from tradsys.compose.counting import EngineCounters
from tradsys.compose.garbage import Garbage
from tradsys.compose.logs import access_log_out
from tradsys.compose.pieces import (
    EXIT_JOURNAL,
    PAGE_FILE,
    end,
    internal_secret,
    pinning,
    token_verifier,
    venue_keys,
)
from tradsys.compose.replay import progress_bar, recover_shard
from tradsys.compose.tracing import TracedEdge, TurnTraces, exporter_of, spans_of
from tradsys.core.messages import RevokeToken
from tradsys.settings import EXIT_CONFIGURATION, Settings, SettingsError
from tradsys.venue.clock import EngineClock, TurnClock
from tradsys.venue.outcome import Done
from tradsys.venue.ports import JournalError
from tradsys.venue.venue import Venue

METRICS_FILE = "metrics.prom"

HOUSEKEEPING_NS = 100_000_000
DURABLE_LAG_NS_MAX = 250_000_000
"""A journal that nobody has synced for so long is synced by the engine itself, which is not ready then."""
GC_THRESHOLD = 700
"""CPython's own first threshold; `gc_percent` scales it."""


def serve_engine(settings: Settings) -> int:
    """Run the engine until it is told to stop; returns its exit code. The directory is this process's own."""
    if settings.profile == "baseline":
        return serve_baseline(settings)
    return _code_of(lambda: Engine(settings).run())


def _code_of(run: Callable[[], int]) -> int:
    """The exit code that `run` gives, or that its fault has; the fault is told."""
    try:
        return run()
    except JournalError as error:
        return end(EXIT_JOURNAL, f"journal: {error}")
    except (SettingsError, KeyFileError) as error:
        return end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return end(1, str(error))


def serve_baseline(settings: Settings) -> int:
    """The same engine under gunicorn with one meinheld worker and ujson, to be measured against."""
    # Not at the top: meinheld is there for tests only.
    from tradsys.adapters.http import baseline

    def start() -> baseline.Started | int:
        engines: list[Engine] = []

        def make() -> int:
            engines.append(
                Engine(settings, baseline.close_after_answer, baseline.read_order, baseline.write_order)
            )
            return 0

        def close() -> int:
            engine.close()
            return 0

        code = _code_of(make)
        if code:
            return code
        engine = engines[0]
        engine.server = baseline.Worker()
        return baseline.Started(
            below(f"/s/{settings.shard}", ByPort(engine.apps)), engine.each_turn, lambda: _code_of(close)
        )

    listeners = [(settings.host, port) for port in ports_of(settings)]
    return baseline.serve(start, listeners, body_bytes_max=settings.batch_body_bytes_max * 4 // 3)


def ports_of(settings: Settings) -> tuple[int, int, int, int]:
    """Public, admin, ops, internal."""
    return settings.port, settings.admin_port, settings.ops_port, settings.internal_port


CloseAfter = Callable[[dict[str, Any], Callable[[str, str], None]], None]


class Serving(Protocol):
    """What the engine asks its server."""

    @property
    def stopping(self) -> bool: ...
    def connections(self) -> int: ...
    def stop(self) -> None: ...


class Engine:
    """The writer of a shard: recovery, then one thread that serves and journals."""

    server: Serving

    def __init__(
        self,
        settings: Settings,
        close_after: CloseAfter = close_after_answer,
        read_order: Callable[[bytes], NewOrder] = decode_new_order,
        write_order: Callable[[Done, str], bytes | None] = reply_bytes_of,
    ):
        self.settings = settings
        self._close_after = close_after
        self._read_order, self._write_order = read_order, write_order
        files = OsFiles()
        # Before recovery: nobody else may be told that this port takes orders, and a wrong key stops here.
        keys = venue_keys(settings)
        boot = boot_id()
        self.page = Page.create(f"{settings.data_dir}/{PAGE_FILE}", boot)
        published = self.page.published_seq if self.page.current else None
        # Nothing that recovery makes is garbage; looking for some would take a third of its time.
        gc.disable()
        shard, recovered = recover_shard(settings, files, published, progress_bar())
        # Time has passed without commands, too: the page says how far, as of the last housekeeping.
        seen = self.page.words[ENGINE_TIME_NS] + HOUSEKEEPING_NS if self.page.current else 0
        self.clock = EngineClock(max(recovered.time_ns, seen), time.time_ns, time.monotonic_ns)
        # meinheld sends an answer as soon as it is made.
        grouped = settings.profile != "baseline"
        self._turn_clock = TurnClock(self.clock)
        self.journal = LogWriter.begin(
            settings.data_dir,
            files,
            recovered,
            self.page,
            durable=settings.durability == "durable",
            segment_bytes=settings.segment_bytes,
            time_ns=self.clock(),
            grouped=grouped,
        )
        self.recovered = recovered
        clock = self._turn_clock if grouped else self.clock
        self.venue = Venue(shard, self.journal, clock, recovered.seq)
        if not recovered.seq:
            self.venue.process(settings.seed.commands())
            self.journal.commit()
            self._turn_clock.end_turn()
        revocations = Revocations()
        for (jti, account), (until, expires) in shard.revocations.items():
            revocations.revoke(RevokeToken(jti, account, until, expires), 0)
        self.verifier = token_verifier(
            settings, keys, revocations, cast(MutableSequence[int], self.page.metrics)
        )
        self._revocations = revocations
        self._words = self.page.metrics
        self._bells = Bells(self.page.words, settings.data_dir)
        self._shown_durable_seq = recovered.seq
        self._failure = ""
        self._durable = settings.durability == "durable"
        self._durable_seq = recovered.seq
        self._durable_since_ns = time.monotonic_ns()
        self._durable_late = False
        self._next_housekeeping_ns = 0
        self._spins = settings.spin == "always" or (settings.spin == "auto" and settings.cpu_exclusive)
        self._metrics_path = f"{settings.data_dir}/{METRICS_FILE}"
        self.access_log = AccessLog(
            access_log_out(settings.log_format), "engine", settings.access_log == "errors"
        )
        gc_threshold = GC_THRESHOLD * settings.gc_percent // 100
        self._counters = EngineCounters(
            cast(MutableSequence[int], self._words),
            settings,
            self.venue,
            self.journal,
            self.verifier,
            self.access_log,
            self._spins,
            gc_threshold,
        )
        self._answered = self._counters.answered
        self._committed = self._answered.committed
        self._garbage = Garbage(gc_threshold, self._counters.count_gc)
        spans = spans_of(
            settings,
            exporter_of(settings, "engine"),
            cast(MutableSequence[int], self._words),
            metrics.ENGINE_SPANS,
        )
        self._spans = spans
        self._traces = TurnTraces(spans) if spans is not None else None
        self._commit_turn = self._commit if self._traces is None else self._traces.around(self._commit)
        self.apps = self._apps()

    def _apps(self) -> dict[int, WSGIApplication]:
        """By port, the public one first."""
        settings = self.settings
        desk = Desk(
            self.venue,
            query_url=addresses(settings).query,
            # A symbol that is this shard's own is never looked up here: every shard may get the same list.
            other_symbols=dict(symbol.split("=", 1) for symbol in settings.other_symbols),
            body_max=settings.body_bytes_max,
            answered=self._counters.answered,
            tally=self._counters.tally,
            read_order=self._read_order,
            write_order=self._write_order,
        )
        limiter = RateLimiter(settings.rate_limit_per_s) if settings.rate_limit_per_s else None

        def edge(traced: bool = False, **more: Any) -> Edge:
            make: Callable[..., Edge] = Edge
            if traced and self._spans is not None and self._traces is not None:
                make = partial(TracedEdge, spans=self._spans, ended=self._traces.ended)
            return make(
                self.verifier,
                self.venue.clock,
                self._position,
                tally=self._counters.tally,
                access_log=self.access_log,
                id_prefix=f"{settings.shard}{self.journal.epoch:x}-",
                failed=self._fail,
                close_after=self._close_after,
                **more,
            )

        self._edges = [
            edge(traced=True, origins=browser_origins(settings), rate_limiter=limiter),
            edge(),
            edge(),
            edge(traced=True),
        ]
        public, admin, ops, internal = self._edges
        # A log that has a line for every request gets it from the framework.
        self.direct: Direct | None = (
            DirectOrders(f"{PREFIX}/orders", public, desk).prepare
            if settings.access_log == "errors"
            else None
        )
        if self.direct is not None and self._traces is not None:
            self.direct = self._traces.direct(self.direct)
        batch_max = settings.batch_body_bytes_max
        # A client that can ask for it has the host already.
        engine_url = addresses(settings).engine.replace(HOST, settings.host)
        endpoint = f"{engine_url}/s/{settings.shard}/api/v1"
        secret = internal_secret(settings)
        return {
            settings.port: create_app(
                public, public_routes(desk, endpoint=endpoint, batch_body_max=batch_max), describe=True
            ),
            settings.admin_port: create_app(
                admin,
                admin_routes(
                    desk,
                    revoked=lambda command: self._revocations.revoke(command, self.clock() // 1_000_000_000),
                    token_life_max_s=TOKEN_LIFE_MAX_S,
                    drain=self._drain,
                ),
            ),
            settings.ops_port: create_app(
                ops,
                ops_routes(
                    not_ready=self._not_ready,
                    status=self._status,
                    pinning=pinning,
                    rendered_metrics=self._rendered_metrics,
                ),
            ),
            settings.internal_port: create_app(
                internal, internal_routes(desk, secret=secret, batch_body_max=batch_max)
            ),
        }

    def run(self) -> int:
        """Serve until told to stop. Raises JournalError, OSError."""
        settings = self.settings
        server = self.server = Server(
            [
                Listener(settings.host, port, app, self.direct if port == settings.port else None)
                for port, app in self.apps.items()
            ],
            prefix=f"/s/{settings.shard}",
            turns=self._counters.turns,
            each_turn=self.each_turn,
            commit=self._commit_turn,
            spin=self._spins,
            limits=Limits(
                header_bytes_max=settings.header_bytes_max,
                body_bytes_max=settings.batch_body_bytes_max * 4 // 3,
                request_ms_max=settings.request_timeout_s * 1000,
                connections_max=settings.max_connections,
            ),
        )
        server.listen()
        # Cycles are rare here (a fault's traceback), and all that lives long is the state, which has none.
        # So nothing is collected inside a request; see `Garbage`.
        gc.collect()
        gc.freeze()
        gc.disable()
        server.run()
        self.close()
        return 0

    def close(self) -> None:
        """The end of a drain. Raises JournalError if a fault was why."""
        self.access_log.flush()
        if self._failure:
            raise JournalError(self._failure)
        self.journal.close(self.clock())

    def each_turn(self) -> None:
        """What is due between requests."""
        if not self._failure:
            try:
                self.venue.turn()
            except JournalError as error:
                self._fail(error)
            self._commit_turn()
        self._shown_durable_seq = self.page.durable_seq
        # Here, not where a frame is appended: the replies of the turn are on their way before a follower is.
        self._bells.ring()
        self._garbage.turn(self.venue.seq)
        now = time.monotonic_ns()
        if now >= self._next_housekeeping_ns:
            self._next_housekeeping_ns = now + HOUSEKEEPING_NS
            self._keep_house(now)

    def _commit(self) -> list[tuple[str, str]] | None:
        """Journal what the answers of this turn say; or, if that is unknown, the headers to say so with."""
        started = time.perf_counter_ns() if self._answered.times_write else 0
        try:
            self.journal.commit()
        except JournalError as error:
            self.access_log.fault("", error)
            self._fail(error)
            page = self.page
            position = page.published_seq, page.durable_seq, self.journal.epoch
            names = "X-Seq", "X-Durable-Seq", "X-Epoch"
            return [("X-Engine-Us", "0"), *zip(names, map(str, position), strict=True)]
        self._turn_clock.end_turn()
        self._committed(self.journal.seq, started)
        return None

    def _keep_house(self, now: int) -> None:
        """What is due ten times a second."""
        page = self.page
        if page.poisoned and not self._failure:
            self._fail(JournalError("the journal is poisoned: a sync failed in another process"))
            return
        self.verifier.refresh(self.clock())
        self._watch_durability(now)
        if self.server.stopping:
            for edge in self._edges:
                edge.draining = True
        page.words[ENGINE_TIME_NS] = self.clock()
        self._counters.keep_house(now, self.server.connections(), not self._not_ready())
        self.access_log.flush()
        if self._spans is not None:
            self._spans.flush()

    def _watch_durability(self, now: int) -> None:
        """If history does not sync, the engine does, and says that it is not well."""
        durable = self.page.durable_seq
        if durable >= self.venue.seq or durable > self._durable_seq:
            self._durable_seq, self._durable_since_ns = durable, now
            self._durable_late = False
        elif now - self._durable_since_ns > DURABLE_LAG_NS_MAX and not self._failure:
            self._durable_late = True
            self._words[metrics.ENGINE_SYNCS.word()] += 1
            try:
                self.journal.sync()
            except JournalError as error:
                self._fail(error)

    # --- what others ask of it ----------------------------------------------------------------------

    def _position(self) -> tuple[int, int, int]:
        # In a durable venue an answer waits until what it says is on the disk.
        seq = self.venue.seq
        return seq, seq if self._durable else self._shown_durable_seq, self.journal.epoch

    def _not_ready(self) -> list[str]:
        reasons = []
        if self._failure:
            reasons.append("journal")
        if self.server.stopping:
            reasons.append("draining")
        if self._durable_late:
            reasons.append("history_is_late")
        return reasons

    def _status(self) -> dict[str, Any]:
        return {
            "shard": self.settings.shard,
            "seq": self.venue.seq,
            "durable_seq": self.page.durable_seq,
            "epoch": self.journal.epoch,
            "durability": self.settings.durability,
            "profile": self.settings.profile,
            "tuning": self._tuning(),
            "recovered": {
                "seq": self.recovered.seq,
                "closed": self.recovered.closed,
                "cut": bool(self.recovered.stale),
            },
        }

    def _tuning(self) -> dict[str, Any]:
        """The knobs as they are in force, read back from where they work."""
        settings = self.settings
        return {
            "profile": settings.profile,
            "durability": settings.durability,
            "gc_percent": self._garbage.threshold * 100 // GC_THRESHOLD,
            "gc_threshold": self._garbage.threshold,
            "gc_frozen": gc.get_freeze_count() > 0,
            "spin": self._spins,
            "cpu_exclusive": settings.cpu_exclusive,
            "order_pool_size": self.venue.shard.orders.pool_size,
            "message_pool_size": settings.message_pool_size,
            "memory_limit": settings.memory_limit,
            "malloc_arena_max": int(os.environ.get("MALLOC_ARENA_MAX", "0")),
            "max_connections": settings.max_connections,
        }

    def _rendered_metrics(self) -> bytes | None:
        try:
            with open(self._metrics_path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _fail(self, fault: BaseException) -> None:
        """A fault that ends the process: what was under way is unknown, recovery will find out."""
        self._failure = self._failure or f"{type(fault).__name__}: {fault}"
        for edge in self._edges:
            edge.draining = True
        self.server.stop()

    def _drain(self) -> None:
        for edge in self._edges:
            edge.draining = True
        self.server.stop()
