"""The feed process: follows the journal and serves it over WebSockets, in one thread.

start   the state from the newest snapshot and the journal, then the listener: who gets in gets answers
end     everybody is told when to come back, what is under way is answered, and the connections are closed
        with 1012; who reads nothing is cut off

It is driven by callbacks: the engine's waking calls `_step` itself, and no task lies between an event and its
message. As long as there is more, a step is followed by the sockets' turn and then by the next step. What
came meanwhile is one change: the longer the sending took, the more is merged, and nobody falls behind.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from time import monotonic, perf_counter_ns
from typing import Protocol

from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener, ws_create_server

from tradsys import metrics
from tradsys.adapters.feed.candles import KnownCandles
from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.adapters.feed.journal import Audience
from tradsys.adapters.feed.messages import Buffers, agreed_compression
from tradsys.adapters.feed.orders import Handing, OrderEntry
from tradsys.adapters.feed.session import MESSAGE_BYTES_MAX, HearOrder, Hub, Session
from tradsys.adapters.feed.stream import Stream
from tradsys.adapters.feed.streams import Streams
from tradsys.codec import stream_v1 as s
from tradsys.codec.json_v1 import encode
from tradsys.core.messages import RevokeToken
from tradsys.venue.ports import Authenticator, Identity, JournalError

PATH = b"/ws"
READY_PATH = b"/readyz"
EXIT_JOURNAL_LOST = 1
"""Not a final code: the next start begins with a snapshot, and the journal itself is for history to judge."""

TURN_NS = 2_000_000
"""How long commands are merged into one turn, or as long as the turn before took to send."""
TICK_S = 0.05
TICKER_TICKS = 2
"""Tickers are sent every so many ticks."""
HEARTBEAT_TICKS = 20
"""Each client's heartbeat comes every so many ticks, and with each tick some clients have theirs."""
CANDLES_WAIT_S = 10.0
"""How long the read model may take to come to where the replay begins."""
PING_IDLE_S, PING_REPLY_S = 20, 20
SERVICE_RESTART = 1012
RECONNECT_MS, RECONNECT_STEP_MS, RECONNECT_STEPS = 500, 50, 40
"""Clients are asked to come back spread over two seconds."""
ANSWERS_S, HANG_UP_S = 1.0, 0.3
"""At the end: how long answers of the engine are waited for, and a client that has not read everything."""
FILES_BESIDE = 100
"""File descriptors for other things than connections."""
YOUNG_OBJECTS, YOUNG_COLLECTIONS, NEVER = 10_000, 10, 1 << 30

_log = logging.getLogger("tradsys.feed")


class Sleeper(Protocol):
    """How the engine wakes this process; page/waking.py."""

    pipe: int

    def asleep(self, seen_seq: int, /) -> bool: ...
    def awake(self) -> None: ...
    def quiet(self) -> None: ...
    def close(self) -> None: ...


class Feed:
    """Serves one shard's streams until it is told to stop."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        follower: Follower,
        make_sleeper: Callable[[], Sleeper],
        connect_engine: Callable[[], Handing],
        known_candles: Callable[[], KnownCandles | None],
        authenticator: Authenticator,
        is_revoked: Callable[[Identity], bool],
        revoke: Callable[[RevokeToken, int], None],
        admit: Callable[[str], int],
        clock: Callable[[], int],
        words: MutableSequence[int],
        origins: Sequence[str] = (),
        binary: bool = True,
        compression_level: int = 1,
        connections_max: int = 10_000,
        read_buffer_bytes: int = 4096,
        buffers_max: int = 5_000,
        internal_port: int = 0,
        internal_secret: bytes = b"",
        hear_order: HearOrder = lambda op, call: lambda code: None,
    ) -> None:
        """`clock` gives unix nanoseconds, by which tokens end; `revoke` tells the authenticator of a command,
        with the unix time in seconds. `admit` gives the seconds after which an account may send another
        order. `origins` are those whose pages may connect (who sends no Origin is no page); `binary` offers
        the binary subprotocols. `known_candles` is what the read model knows now, None if it can't be read.
        At `internal_port` (0: nowhere) gateways that know the secret follow the journal.
        """
        self._host, self._port = host, port
        self._follower = follower
        self._make_sleeper, self._connect_engine = make_sleeper, connect_engine
        self._known_candles = known_candles
        self._authenticator, self._is_revoked, self._admit = authenticator, is_revoked, admit
        self._revoke = revoke
        self._clock = clock
        self._words = words
        self._origins = frozenset(origins)
        self._formats = s.SUBPROTOCOLS if binary else (s.JSON_V1,)
        self._compression_level = compression_level
        self._connections_max = connections_max
        self._read_buffer_bytes = read_buffer_bytes
        hit, miss = (metrics.FEED_POOL.word(outcome) for outcome in ("hit", "miss"))

        def count(was_hit: bool) -> None:
            words[hit if was_hit else miss] += 1

        self._streams = Streams(follower, Buffers(buffers_max, count))
        self._hear_order = hear_order
        self._internal_port = internal_port
        self._audience = Audience(follower, internal_secret)
        self._hub: Hub
        self._sleeper: Sleeper
        self._delay = metrics.FEED_DURATION.series()
        self._turn_commands = metrics.FEED_TURN_COMMANDS.series()
        self._sending_ns = 0
        """How long the last turn took to send."""
        self._ticks = 0
        self._seen_seq = 0
        """Where the follower stood at the last tick."""
        self._beats: Iterator[Session] = iter(())
        self._beats_a_tick = 0
        self._fault: BaseException | None = None
        self._stop = asyncio.Event()
        self.serving = False
        """The streams stand where the journal stood at the start, and clients may come."""

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit code. Raises OSError if it can't listen."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        follower = self._follower
        while not follower.progress.current:
            if await self._stopped_within(0.05):
                return 0
        allow_files(self._connections_max + FILES_BESIDE)
        try:
            follower.start()
            for (jti, account), (until, expires) in follower.shard.revocations.items():
                self._revoke(RevokeToken(jti, account, until, expires), 0)
            await self._begin_candles()
            while not self._stop.is_set() and (turn := follower.turn(TURN_NS)) is not None:
                self._take_revocations(turn)
                self._streams.take_trades(turn)
                await asyncio.sleep(0)
            if self._stop.is_set():
                return 0
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, NEVER)
            return await self._serve()
        except JournalError as error:
            _log.critical("%s", error)
            return EXIT_JOURNAL_LOST

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _begin_candles(self) -> None:
        """Learn the running candles as of the replay's begin or later; without them, some are not shown."""
        board, seq = self._streams.candles, self._follower.seq
        if not seq:
            return
        board.begin(frozenset(self._follower.shard.markets))
        until = monotonic() + CANDLES_WAIT_S
        while monotonic() < until:
            known = self._known_candles()
            if known is not None and known.seq >= seq:
                board.tell(known)
                return
            if await self._stopped_within(0.1):
                return
        _log.warning("the read model is behind seq %d: candles that run now are not shown", seq)

    async def _serve(self) -> int:
        loop = asyncio.get_running_loop()
        # What a stranger sends wrong is no error of ours; our own faults are logged where they happen.
        logging.getLogger("picows").setLevel(logging.CRITICAL)
        engine = self._connect_engine()
        self._hub = Hub(
            self._follower,
            self._streams,
            OrderEntry(self._follower, engine, self._admit),
            self._authenticator,
            self._is_revoked,
            self._clock,
            self._words,
            self._compression_level,
            self._hear_order,
        )
        server = await ws_create_server(
            self._welcome,
            self._host,
            self._port,
            max_frame_size=MESSAGE_BYTES_MAX,
            read_buffer_init_size=self._read_buffer_bytes,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_IDLE_S,
            auto_ping_reply_timeout=PING_REPLY_S,
            backlog=1024,
        )
        internal = None
        if self._internal_port:
            internal = await ws_create_server(
                self._audience.welcome,
                self._host,
                self._internal_port,
                enable_auto_ping=True,
                auto_ping_idle_timeout=PING_IDLE_S,
                auto_ping_reply_timeout=PING_REPLY_S,
            )
        self._sleeper = self._make_sleeper()
        loop.add_reader(self._sleeper.pipe, self._rung)
        self.serving = True
        _log.info("serving from seq %d", self._follower.seq)
        try:
            self._tick()
            self._step()
            await self._stop.wait()
            self.serving = False
            if self._fault is not None:
                raise self._fault
        finally:
            loop.remove_reader(self._sleeper.pipe)
            self._sleeper.close()
            server.close()
            if internal is not None:
                internal.close()
                self._audience.close()
            await self._say_goodbye()
            self._follower.close()
        return 0

    # --- following ----------------------------------------------------------------------------------

    def _rung(self) -> None:
        self._sleeper.awake()
        self._step()

    def _step(self) -> None:
        """One turn of the journal, and then the next, or sleep."""
        if self._stop.is_set():
            return
        try:
            turn = self._follower.turn(max(TURN_NS, self._sending_ns))
            if turn is not None:
                self._take(turn)
        except Exception as fault:
            # Nobody would hear of it in a callback.
            self._fault = fault
            self._stop.set()
            return
        self._sleeper.quiet()
        if turn is not None or not self._sleeper.asleep(self._follower.seq):
            asyncio.get_running_loop().call_soon(self._step)

    def _take(self, turn: Turn) -> None:
        hub, follower = self._hub, self._follower
        began = perf_counter_ns()
        hub.first_sent_ns = 0
        self._take_revocations(turn)
        self._streams.turned(turn)
        self._audience.turned(turn)
        if hub.first_sent_ns:
            self._delay.observe(self._words, max(0, hub.first_sent_ns - follower.time_ns))
        if not turn.new_epoch:
            self._turn_commands.observe(self._words, follower.seq - turn.first_seq + 1)
        hub.entry.settle()
        self._sending_ns = perf_counter_ns() - began

    def _tick(self) -> None:
        """What is due by time."""
        loop = asyncio.get_running_loop()
        loop.call_later(TICK_S, self._tick)
        self._ticks += 1
        try:
            if not self._ticks % TICKER_TICKS:
                self._streams.flush()
            self._beat()
            if not self._ticks % HEARTBEAT_TICKS:
                self._audience.beat()
        except Exception as fault:
            self._fault = fault
            self._stop.set()
            return
        # An engine that begins anew rings no bell, and a waking may be lost: another feed that is started
        # here by mistake has the same bell.
        follower, progress = self._follower, self._follower.progress
        stands = follower.seq == self._seen_seq != progress.published_seq
        self._seen_seq = follower.seq
        if stands or progress.epoch != follower.epoch:
            self._rung()

    def _take_revocations(self, turn: Turn) -> None:
        if not turn.revoked:
            return
        now = self._clock()
        for command in turn.revoked:
            self._revoke(command, now // 1_000_000_000)
        for session in list(self._hub.sessions) if self.serving else ():
            session.still_allowed(now)

    def _beat(self) -> None:
        """Tell some of the clients where their streams stand; who has the same ones gets the same bytes.

        Not all at once: ten thousand messages in a row would keep everybody waiting.
        """
        sessions = self._hub.sessions
        if self._ticks % HEARTBEAT_TICKS == 1:
            self._beats = iter(list(sessions))
            self._beats_a_tick = -(-len(sessions) // HEARTBEAT_TICKS)
        now = self._clock()
        encoded: dict[tuple[Stream, ...], bytes] = {}
        for _, session in zip(range(self._beats_a_tick), self._beats, strict=False):
            session.still_allowed(now)
            streams = session.subscriptions
            message = encoded.get(streams)
            if message is None:
                message = encoded[streams] = self._heartbeat(streams, now)
            session.heartbeat(message)

    def _heartbeat(self, streams: tuple[Stream, ...], now: int) -> bytes:
        follower = self._follower
        return encode(
            s.Heartbeat(
                epoch=follower.epoch,
                seq=follower.seq,
                durable_seq=follower.progress.durable_seq,
                ts=str(now),
                channels=[
                    s.ChannelPosition(
                        stream.channel,
                        stream.seq,
                        "" if stream.private else stream.subject,
                        stream.depth,
                        stream.interval,
                    )
                    for stream in streams
                ],
            )
        )

    async def _say_goodbye(self) -> None:
        hub = self._hub
        hub.stopping = True
        for count, session in enumerate(list(hub.sessions)):
            wait_ms = RECONNECT_MS + RECONNECT_STEP_MS * (count % RECONNECT_STEPS)
            session.send_text(encode(s.ServerShutdown(reconnect_after_ms=wait_ms)))
        await self._follow_until(lambda: not hub.entry.under_way, ANSWERS_S)
        for session in list(hub.sessions):
            session.close(SERVICE_RESTART, "the server is going down")
        await self._follow_until(lambda: not hub.sessions, HANG_UP_S)
        # Orders that end with their connection have been handed over to be canceled.
        await self._follow_until(lambda: not hub.entry.under_way, ANSWERS_S)

    async def _follow_until(self, done: Callable[[], bool], within_s: float) -> None:
        """Go on with the journal, as long as it can be followed."""
        until = monotonic() + within_s
        while not done() and monotonic() < until:
            await asyncio.sleep(0.005)
            if self._fault is not None:
                continue
            try:
                turn = self._follower.turn(TURN_NS)
                if turn is not None:
                    self._take(turn)
            except Exception as fault:
                _log.error("what is under way is not answered: %s", fault)
                self._fault = fault

    # --- who may come in ----------------------------------------------------------------------------

    def _welcome(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        path = request.path.split(b"?")[0]
        if path == READY_PATH:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(b"ready\n"), None)
        if path != PATH:
            return self._turned_away(404, b"there is only /ws\n")
        if request.headers.get("Sec-WebSocket-Version") != "13":
            return self._turned_away(400, b"WebSocket is spoken in version 13 here\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins:
            return self._turned_away(403, b"pages of this origin may not connect\n")
        if len(self._hub.sessions) >= self._connections_max:
            return self._turned_away(503, b"too many connections\n", "full")
        answer = {}
        format = s.JSON_V1
        offered = request.headers.getall("Sec-WebSocket-Protocol", [])
        if offered:
            named = (part.strip() for line in offered for part in line.split(","))
            known = next((name for name in named if name in self._formats), None)
            if known is None:
                return self._turned_away(400, f"subprotocols: {', '.join(self._formats)}\n".encode())
            answer["Sec-WebSocket-Protocol"] = format = known
        agreed = ""
        if self._compression_level:
            agreed = agreed_compression(request.headers.getall("Sec-WebSocket-Extensions", []))
            if agreed:
                answer["Sec-WebSocket-Extensions"] = agreed
        self._words[metrics.FEED_CONNECTS.word("accepted")] += 1
        return WSUpgradeResponseWithListener(
            WSUpgradeResponse.create_101_response(answer), Session(self._hub, format, bool(agreed))
        )

    def _turned_away(
        self, status: int, body: bytes, outcome: str = "refused"
    ) -> WSUpgradeResponseWithListener:
        self._words[metrics.FEED_CONNECTS.word(outcome)] += 1
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, body), None)


def allow_files(count: int) -> None:
    """Let the process have so many open files, or as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        _log.warning("%d open files are needed for max_connections, and %d are allowed", count, hard)
        count = hard
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
