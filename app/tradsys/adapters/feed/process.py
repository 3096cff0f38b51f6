"""The feed process: follows the journal and serves it over WebSockets, in one thread.

start   the state from the newest snapshot and the journal, then the listener: who gets in gets answers
end     everybody is told when to come back, then the connections are closed with 1012
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import Callable, MutableSequence, Sequence
from time import monotonic, time_ns

from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener, ws_create_server

from tradsys import metrics
from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.adapters.feed.session import MESSAGE_BYTES_MAX, Hub, Session
from tradsys.adapters.feed.streams import Stream, Streams
from tradsys.codec import stream_v1 as s
from tradsys.codec.json_v1 import encode
from tradsys.core.messages import RevokeToken
from tradsys.venue.ports import Authenticator, Identity, JournalError

PATH = b"/ws"
READY_PATH = b"/readyz"
EXIT_JOURNAL_LOST = 1
"""Not a final code: the next start begins with a snapshot, and the journal itself is for history to judge."""

TURN_COMMANDS_MAX = 200
"""Commands that are merged into one turn; then the sockets have their turn."""
IDLE_S = 0.001
HEARTBEAT_S = 1.0
TICKER_S = 0.1
PING_IDLE_S, PING_REPLY_S = 20, 20
SERVICE_RESTART = 1012
RECONNECT_MS, RECONNECT_STEP_MS, RECONNECT_STEPS = 500, 50, 40
"""Clients are asked to come back spread over two seconds."""
GOODBYE_S = 1.0
FILES_BESIDE = 100
"""File descriptors for other things than connections."""
YOUNG_OBJECTS, YOUNG_COLLECTIONS, NEVER = 10_000, 10, 1 << 30

_log = logging.getLogger("tradsys.feed")


class Feed:
    """Serves one shard's streams until it is told to stop."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        follower: Follower,
        authenticator: Authenticator,
        is_revoked: Callable[[Identity], bool],
        revoke: Callable[[RevokeToken, int], None],
        clock: Callable[[], int],
        words: MutableSequence[int],
        origins: Sequence[str] = (),
        binary: bool = True,
        connections_max: int = 10_000,
        read_buffer_bytes: int = 4096,
    ) -> None:
        """`clock` gives unix nanoseconds, by which tokens end; `revoke` tells the authenticator of a command,
        with the unix time in seconds. `origins` are those whose pages may connect (who sends no Origin is
        no page); `binary` offers the binary subprotocols."""
        self._host, self._port = host, port
        self._follower = follower
        self._revoke = revoke
        self._words = words
        self._origins = frozenset(origins)
        self._formats = s.SUBPROTOCOLS if binary else (s.JSON_V1,)
        self._connections_max = connections_max
        self._read_buffer_bytes = read_buffer_bytes
        self._streams = Streams(follower)
        self._hub = Hub(follower, self._streams, authenticator, is_revoked, clock)
        self._delay = metrics.FEED_DURATION.series()
        self._counted = 0
        """Sent messages that are in the metrics."""
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
        _allow_files(self._connections_max + FILES_BESIDE)
        try:
            follower.start()
            for (jti, account), (until, expires) in follower.shard.revocations.items():
                self._revoke(RevokeToken(jti, account, until, expires), 0)
            while (turn := follower.turn(TURN_COMMANDS_MAX)) is not None:
                self._take_revocations(turn)
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

    async def _serve(self) -> int:
        # What a stranger sends wrong is no error of ours; our own faults are logged where they happen.
        logging.getLogger("picows").setLevel(logging.CRITICAL)
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
        self.serving = True
        _log.info("serving from seq %d", self._follower.seq)
        try:
            await self._follow()
        finally:
            self.serving = False
            server.close()
            await self._say_goodbye()
            self._follower.close()
        return 0

    async def _follow(self) -> None:
        follower, stop = self._follower, self._stop
        beat_due = monotonic() + HEARTBEAT_S
        ticker_due = monotonic() + TICKER_S
        while not stop.is_set():
            turn = follower.turn(TURN_COMMANDS_MAX)
            if turn is not None:
                sent = self._hub.sent
                self._take_revocations(turn)
                self._streams.turned(turn)
                if self._hub.sent > sent:
                    self._delay.observe(self._words, max(0, time_ns() - follower.time_ns))
            now = monotonic()
            if now >= ticker_due:
                ticker_due = now + TICKER_S
                self._streams.flush()
                self._words[metrics.FEED_MESSAGES.word("json_v1")] += self._hub.sent - self._counted
                self._counted = self._hub.sent
            if now >= beat_due:
                beat_due = now + HEARTBEAT_S
                self._beat()
            await asyncio.sleep(IDLE_S if turn is None else 0)

    def _take_revocations(self, turn: Turn) -> None:
        if not turn.revoked:
            return
        now = self._hub.clock()
        for command in turn.revoked:
            self._revoke(command, now // 1_000_000_000)
        for session in self._hub.sessions:
            session.still_allowed(now)

    def _beat(self) -> None:
        """Tell everybody where their streams stand; who has the same ones gets the same bytes."""
        follower, now = self._follower, self._hub.clock()
        encoded: dict[tuple[Stream, ...], bytes] = {}
        for session in self._hub.sessions:
            session.still_allowed(now)
            streams = session.subscriptions
            message = encoded.get(streams)
            if message is None:
                message = encoded[streams] = encode(
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
                            )
                            for stream in streams
                        ],
                    )
                )
            session.heartbeat(message)

    async def _say_goodbye(self) -> None:
        sessions = self._hub.sessions
        for count, session in enumerate(list(sessions)):
            wait_ms = RECONNECT_MS + RECONNECT_STEP_MS * (count % RECONNECT_STEPS)
            session.send_text(encode(s.ServerShutdown(reconnect_after_ms=wait_ms)))
            session.close(SERVICE_RESTART, "the server is going down")
        until = monotonic() + GOODBYE_S
        while sessions and monotonic() < until:
            await asyncio.sleep(0.01)

    # --- who may come in ----------------------------------------------------------------------------

    def _welcome(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        path = request.path.split(b"?")[0]
        if path == READY_PATH:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(b"ready\n"), None)
        if path != PATH:
            return _refused(404, b"there is only /ws\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins:
            return _refused(403, b"pages of this origin may not connect\n")
        if len(self._hub.sessions) >= self._connections_max:
            return _refused(503, b"too many connections\n")
        offered = request.headers.getall("Sec-WebSocket-Protocol", [])
        if not offered:
            return WSUpgradeResponseWithListener(
                WSUpgradeResponse.create_101_response(), Session(self._hub, s.JSON_V1)
            )
        for name in (part.strip() for line in offered for part in line.split(",")):
            if name in self._formats:
                response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": name})
                return WSUpgradeResponseWithListener(response, Session(self._hub, name))
        return _refused(400, f"subprotocols: {', '.join(self._formats)}\n".encode())


def _refused(status: int, body: bytes) -> WSUpgradeResponseWithListener:
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, body), None)


def _allow_files(count: int) -> None:
    """Let the process have so many open files, or as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
