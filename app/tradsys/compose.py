"""The composition root: what the processes are made of, and in which order they come to life.

Everything is built here and passed on; nothing else reads settings or knows two adapters.
"""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, MutableSequence
from pathlib import Path
from threading import Thread
from typing import Any, cast
from wsgiref.types import WSGIApplication

import uvloop

from tradsys import metrics
from tradsys.adapters.auth.keys import HmacKey, JwksFile, KeyFileError, Keys, create_key
from tradsys.adapters.auth.revocation import TOKEN_LIFE_MAX_S, Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.adapters.feed.follower import Follower, Restored
from tradsys.adapters.feed.process import Feed
from tradsys.adapters.history.process import READMODEL_NAME, History
from tradsys.adapters.history.reader import ReadModelReader
from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.history.sqlite import PragmaNotInForce, Pragmas, SchemaTooNew, SqliteTooOld
from tradsys.adapters.http.accesslog import AccessLog
from tradsys.adapters.http.app import (
    ByPort,
    admin_routes,
    create_app,
    internal_routes,
    ops_routes,
    public_routes,
)
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.http.limits import RateLimiter
from tradsys.adapters.http.orders import Desk
from tradsys.adapters.http.server import Limits, Server, close_after_answer
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.lock import DirectoryLocked, lock_directory
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.recovery import Recovered, recover
from tradsys.adapters.log.segments import prepare_next_segment, segment_indexes, segment_path
from tradsys.adapters.log.sync import LogSync
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import ENGINE_TIME_NS, Page, PageError, boot_id
from tradsys.adapters.query.app import RevocationsFollowed, query_routes
from tradsys.adapters.query.server import QueryServer
from tradsys.codec.errors import UNAUTHORIZED
from tradsys.codec.frame import encode_payload
from tradsys.core.messages import RevokeToken
from tradsys.core.shard import Shard
from tradsys.counting import counter_of
from tradsys.settings import EXIT_CONFIGURATION, Settings, SettingsError
from tradsys.venue.clock import EngineClock
from tradsys.venue.ports import Entry, Frame, JournalError, Unauthorized
from tradsys.venue.venue import Venue

EXIT_JOURNAL = 70
EXIT_LOCKED = 75

KEY_FILE = "hs256.key"
PAGE_FILE = "page"
SECRET_FILE = "internal.secret"
METRICS_FILE = "metrics.prom"

PAGE_RETRY_S = 0.05
HOUSEKEEPING_NS = 100_000_000
DURABLE_LAG_NS_MAX = 250_000_000
"""A journal that nobody has synced for so long is synced by the engine itself, which is not ready then."""
GC_THRESHOLD = 700
"""CPython's own first threshold; `gc_percent` scales it."""

Progress = Callable[[int, int], None]
"""(last command replayed, last command known of)"""


def serve_engine(settings: Settings) -> int:
    """Run the engine until it is told to stop; returns its exit code."""
    directory = settings.data_dir
    os.makedirs(directory, mode=0o700, exist_ok=True)
    try:
        lock = lock_directory(directory)
    except DirectoryLocked as locked:
        return _end(EXIT_LOCKED, str(locked))
    try:
        engine = Engine(settings)
        return engine.run()
    except JournalError as error:
        return _end(EXIT_JOURNAL, f"journal: {error}")
    except (SettingsError, KeyFileError) as error:
        return _end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return _end(1, str(error))
    finally:
        os.close(lock)


def _end(code: int, message: str) -> int:
    print(f"tradsys: {message}", file=sys.stderr, flush=True)
    return code


# --- from the journal to a shard --------------------------------------------------------------------


def recover_shard(
    settings: Settings, files: OsFiles, published_seq: int | None, progress: Progress
) -> tuple[Shard, Recovered]:
    """The newest snapshot that is whole, and everything after it replayed and compared."""

    def restore(chunks: Iterable[Any]) -> Shard:
        return Shard.restore(chunks, settings.order_pool_size)

    loaded, damaged = SnapshotStore(Path(settings.data_dir)).newest(restore)
    for one in damaged:
        print(f"tradsys: {one.path.name} is not used: {one.problem}", file=sys.stderr)
    if loaded is not None:
        shard, after_seq, chain = loaded.shard, loaded.header.seq, loaded.header.chain
        if shard.name != settings.shard:
            raise SettingsError("shard", f"the data directory holds shard {shard.name!r}")
    else:
        shard, after_seq, chain = Shard(settings.shard, order_pool_size=settings.order_pool_size), 0, None
    recovered = recover(
        settings.data_dir,
        files,
        replayer(shard),
        after_seq=after_seq,
        chain=chain,
        published_seq=published_seq,
        progress=progress,
    )
    return shard, recovered


def replayer(shard: Shard) -> Callable[[Frame], bytes]:
    """Applies a frame's commands and gives the payload that they make now."""

    def apply(frame: Frame) -> bytes:
        entries = []
        for seq, entry in enumerate(frame.entries, frame.first_seq):
            entries.append(Entry(entry.command, shard.apply(entry.command, seq, frame.time_ns)))
        return encode_payload(entries)

    return apply


def progress_bar() -> Progress:
    """A line that counts on a terminal; elsewhere a log line now and then."""
    started = said = time.monotonic()
    on_terminal = sys.stderr.isatty()

    def say(seq: int, last: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < (0.1 if on_terminal else 5) and seq != last:
            return
        said = now
        rate = seq / max(now - started, 1e-6)
        end = "\r" if on_terminal and seq != last else "\n"
        print(f"recovering: {seq:,} of {max(seq, last):,} commands, {rate:,.0f}/s", end=end, file=sys.stderr)

    return say


# --- the engine -------------------------------------------------------------------------------------


class Engine:
    """The writer of a shard: recovery, then one thread that serves and journals."""

    def __init__(self, settings: Settings):
        self.settings = settings
        files = OsFiles()
        # Before recovery: nobody else may be told that this port takes orders, and a wrong key stops here.
        keys = venue_keys(settings)
        boot = boot_id()
        self.page = Page.create(f"{settings.data_dir}/{PAGE_FILE}", boot)
        published = self.page.published_seq if self.page.current else None
        shard, recovered = recover_shard(settings, files, published, progress_bar())
        self.clock = EngineClock(recovered.time_ns, time.time_ns, time.monotonic_ns)
        self.journal = LogWriter.begin(
            settings.data_dir,
            files,
            recovered,
            self.page,
            durable=settings.durability == "durable",
            segment_bytes=settings.segment_bytes,
            time_ns=self.clock(),
        )
        self.recovered = recovered
        self.venue = Venue(shard, self.journal, self.clock, recovered.seq)
        if not recovered.seq:
            self.venue.process(settings.seed.commands())
        revocations = Revocations()
        for (jti, account), (until, expires) in shard.revocations.items():
            revocations.revoke(RevokeToken(jti, account, until, expires), 0)
        self.verifier = TokenVerifier(
            keys,
            settings.token_issuer,
            settings.token_audience,
            revocations,
            cast(MutableSequence[int], self.page.metrics),
            verifications_per_s=settings.token_verifications_per_s,
        )
        self._revocations = revocations
        self._words = self.page.metrics
        self._failure = ""
        self._durable_seq = recovered.seq
        self._durable_since_ns = time.monotonic_ns()
        self._durable_late = False
        self._next_housekeeping_ns = 0
        self._gc_threshold = GC_THRESHOLD * settings.gc_percent // 100
        self._count_gc = counter_of(self._words, metrics.GC_PAUSE.series())
        self._metrics_path = f"{settings.data_dir}/{METRICS_FILE}"
        self.access_log = AccessLog(sys.stdout.buffer, "engine", settings.access_log == "errors")
        self.app = self._app()

    def _app(self) -> ByPort:
        settings = self.settings
        desk = Desk(
            self.venue,
            query_url=f"http://{settings.host}:{settings.query_port}",
            other_symbols={},
            count_order=counter_of(self._words, metrics.ORDER_DURATION.series()),
        )
        limiter = RateLimiter(settings.rate_limit_per_s) if settings.rate_limit_per_s else None

        def edge(**more: Any) -> Edge:
            return Edge(
                self.verifier,
                self.clock,
                self._position,
                self.journal.epoch,
                access_log=self.access_log,
                id_prefix=f"{settings.shard}{self.journal.epoch:x}-",
                failed=self._fail,
                close_after=close_after_answer,
                **more,
            )

        self._edges = [edge(origins=settings.cors_origins, rate_limiter=limiter), edge(), edge(), edge()]
        public, admin, ops, internal = self._edges
        batch_max = settings.batch_body_bytes_max
        endpoint = f"http://{settings.host}:{settings.port}/s/{settings.shard}/api/v1"
        secret = internal_secret(settings)
        return ByPort(
            {
                settings.port: create_app(
                    public, public_routes(desk, endpoint=endpoint, batch_body_max=batch_max), describe=True
                ),
                settings.admin_port: create_app(
                    admin,
                    admin_routes(
                        desk,
                        revoked=lambda command: self._revocations.revoke(
                            command, self.clock() // 1_000_000_000
                        ),
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
            },
            settings.shard,
        )

    def run(self) -> int:
        """Serve until told to stop. Raises JournalError, OSError."""
        settings = self.settings
        ports = (settings.port, settings.admin_port, settings.ops_port, settings.internal_port)
        self.server = Server(
            self.app,
            [(settings.host, port) for port in ports],
            each_turn=self._each_turn,
            spin=settings.spin == "always" or (settings.spin == "auto" and settings.cpu_exclusive),
            limits=Limits(
                header_bytes_max=settings.header_bytes_max,
                body_bytes_max=settings.batch_body_bytes_max * 4 // 3,
                request_ms_max=settings.request_timeout_s * 1000,
                connections_max=settings.max_connections,
            ),
        )
        self.server.listen()
        # Cycles are rare here (a fault's traceback), and all that lives long is the state, which has none.
        # So nothing is collected inside a request: between two of them the youngest objects are looked
        # through, and what survived is set aside for ever. The pause is bounded by the threshold.
        gc.collect()
        gc.freeze()
        gc.disable()
        self.server.run()
        self.access_log.flush()
        if self._failure:
            raise JournalError(self._failure)
        self.journal.close(self.clock())
        return 0

    def _each_turn(self) -> None:
        if not self._failure:
            try:
                self.venue.turn()
            except JournalError as error:
                self._fail(error)
        if gc.get_count()[0] > self._gc_threshold:
            started = time.perf_counter_ns()
            gc.collect(0)
            gc.freeze()
            self._count_gc(time.perf_counter_ns() - started)
        now = time.monotonic_ns()
        if now >= self._next_housekeeping_ns:
            self._next_housekeeping_ns = now + HOUSEKEEPING_NS
            self._keep_house(now)

    def _keep_house(self, now: int) -> None:
        """What is due ten times a second."""
        page, words = self.page, self._words
        if page.poisoned and not self._failure:
            self._fail(JournalError("the journal is poisoned: a sync failed in another process"))
            return
        self.verifier.refresh(self.clock())
        self._watch_durability(now)
        if self.server.stopping:
            for edge in self._edges:
                edge.draining = True
        page.words[ENGINE_TIME_NS] = self.clock()
        words[metrics.CONNECTIONS.word()] = self.server.connections()
        words[metrics.OPEN_ORDERS.word()] = self.venue.shard.orders.open_count
        words[metrics.IDEMPOTENCY_KEYS.word()] = self.venue.shard.keys.count
        self.access_log.flush()

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

    def _position(self) -> tuple[int, int]:
        return self.venue.seq, self.page.durable_seq

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
            "recovered": {
                "seq": self.recovered.seq,
                "closed": self.recovered.closed,
                "cut": bool(self.recovered.stale),
            },
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


# --- history ----------------------------------------------------------------------------------------


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
            _Nobody(),
            time.time_ns,
            lambda: (page.published_seq, page.durable_seq),
            page.epoch,
            close_after=_close_header,
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
        return _end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return _end(1, str(error))


class _Nobody:
    """There are no tokens on the ops port of a follower."""

    def verify(self, header_value: str | None, now_ns: int) -> Unauthorized:
        return Unauthorized(UNAUTHORIZED, "no tokens here")


def _close_header(environ: dict[str, Any], set_header: Callable[[str, str], None]) -> None:
    set_header("Connection", "close")


class Stop:
    """SIGTERM and SIGINT, from now on."""

    def __init__(self) -> None:
        self.asked = False
        self._act: Callable[[], None] = lambda: None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def then(self, act: Callable[[], None]) -> None:
        """Call `act` when asked to stop, at once if that was before."""
        self._act = act
        if self.asked:
            act()

    def _on_signal(self, number: int, frame: object) -> None:
        self.asked = True
        # A handler interrupts this thread anywhere, also where it holds a lock that `act` needs.
        Thread(target=self._act, daemon=True).start()


def wait_for_page(settings: Settings, stop: Stop) -> Page | None:
    """The shared page, as soon as an engine has made one; None if told to stop before that."""
    boot = boot_id()
    while not stop.asked:
        time.sleep(PAGE_RETRY_S)
        with contextlib.suppress(FileNotFoundError, PageError):
            return Page.open(f"{settings.data_dir}/{PAGE_FILE}", boot)
    return None


# --- query ------------------------------------------------------------------------------------------


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
            lambda: (page.published_seq, page.durable_seq),
            page.epoch,
            origins=settings.cors_origins,
            id_prefix=f"q{os.getpid():x}-",
            close_after=_close_header,
        )
        return create_app(edge, query_routes(settings.shard, past))

    return QueryServer(make_app, settings.host, settings.query_port).serve()


# --- feed -------------------------------------------------------------------------------------------


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
        return _end(EXIT_CONFIGURATION, str(error))
    except OSError as error:
        return _end(1, str(error))


# --- pieces of more than one process ----------------------------------------------------------------


def venue_keys(settings: Settings) -> Keys:
    """The keys that tokens are verified with; a venue that has none makes a secret of its own.

    Raises KeyFileError, SettingsError.
    """
    if settings.jwks_file and settings.hs256_key_file:
        raise SettingsError("jwks_file", "and hs256_key_file are both set: give one of them")
    if settings.jwks_file:
        return JwksFile(settings.jwks_file)
    path = settings.hs256_key_file or f"{settings.data_dir}/{KEY_FILE}"
    if not settings.hs256_key_file:
        with contextlib.suppress(FileExistsError):
            create_key(path)
    return HmacKey.load(path)


def pragmas(settings: Settings) -> Pragmas:
    return Pragmas(settings.sqlite_cache_size, settings.sqlite_mmap_size, settings.sqlite_wal)


def internal_secret(settings: Settings) -> bytes:
    """What gateway and feed prove themselves with on the internal listener; made once, mode 0600."""
    path = f"{settings.data_dir}/{SECRET_FILE}"
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(handle, secrets.token_hex(32).encode())
        os.close(handle)
    with open(path, "rb") as file:
        return file.read()


def pinning() -> dict[str, Any]:
    """Evidence of this process's CPUs, as the kernel gives it."""
    with open("/proc/self/status") as file:
        facts = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {
        "pid": os.getpid(),
        "cpus_allowed_list": facts["Cpus_allowed_list"].strip(),
        "threads": int(facts["Threads"]),
        "voluntary_ctxt_switches": int(facts["voluntary_ctxt_switches"]),
        "nonvoluntary_ctxt_switches": int(facts["nonvoluntary_ctxt_switches"]),
        "cpu_exclusive": os.environ.get("TRADSYS_CPU_EXCLUSIVE") == "1",
    }
