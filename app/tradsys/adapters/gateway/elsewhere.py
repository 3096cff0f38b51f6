"""An account's events and revoked tokens of a shard whose journal is elsewhere: its feed tells them.

The line to the feed is made again whenever it ends. What the shard did meanwhile is in the state that a new
line begins with; the events of that time are not known, and streams are told so (`gap`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from time import monotonic

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tradsys.adapters.gateway.events import Events, Restored
from tradsys.codec.errors import NOT_LEADER, Problem
from tradsys.codec.followed_v1 import PATH, SECRET_HEADER, Begin, Commands, OpenOrders, decode
from tradsys.core import messages as m
from tradsys.venue.ports import Frame, JournalError

CONNECT_S = 2.0
RETRY_S = 0.5
SILENCE_S = 5.0
"""A feed says where it is each second."""
ANSWER_S = 5.0
TURN_COMMANDS = 1_000
MESSAGE_BYTES_MAX = 256 << 20
"""A begin has all accounts and all revoked tokens; a frame is smaller than a segment."""

_log = logging.getLogger("tradsys.gateway")


class Told:
    """What a feed has said, as the journal would have it: how far it is, and the frames."""

    def __init__(self) -> None:
        self.epoch = self.published_seq = self.durable_seq = 0
        self.restored: Restored
        self._frames: deque[Frame] = deque()

    def begin(self, begun: Begin) -> None:
        self.epoch, self.published_seq, self.durable_seq = begun.epoch, begun.seq, begun.durable_seq
        self._frames.clear()
        self.restored = Restored(
            begun.seq,
            None,
            {},
            {one.symbol: one for one in begun.instruments},
            set(begun.accounts),
            begun.revocations,
        )

    def take(self, said: Commands) -> None:
        self._frames.append(Frame(said.first_seq, said.time_ns, self.epoch, said.entries))
        self.published_seq = said.first_seq + len(said.entries) - 1

    def frames(self, until_seq: int) -> Iterator[Frame]:
        while self._frames:
            yield self._frames.popleft()

    def close(self) -> None:
        pass


class EventsElsewhere(Events):
    """Events as those of a journal at hand, for `OrderService`; `run` keeps the line to the feed."""

    def __init__(
        self, shard: str, place: tuple[str, int], secret: bytes, revoke: Callable[[m.RevokeToken], None]
    ) -> None:
        """`place` is host and port of the feed's internal listener."""
        self.told = Told()
        super().__init__(shard, self.told, lambda: self.told.restored, lambda seq, chain: self.told, revoke)
        self._url = f"ws://{place[0]}:{place[1]}{PATH}"
        self._secret = secret
        self._line: _Line | None = None
        self._questions = count(1)
        self.known = False

    @property
    def connected(self) -> bool:
        """What the shard does now is told."""
        return self._line is not None and self._line.begun

    async def run(self) -> None:
        """Connect, and again whenever the line ends, until cancelled."""
        said = ""
        while True:
            try:
                await self._follow()
                why = "the line ended"
            except (OSError, WSError, TimeoutError) as fault:
                why = str(fault) or "no answer"
            except Exception:
                # Whatever it is, what a shard revokes must be heard again.
                _log.exception("the line to shard %s failed", self.shard)
                why = "a fault"
            # Said when it changes: a shard may be away for long.
            if why != said:
                _log.warning("what happens at shard %s is not known: %s", self.shard, why)
            said = why
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        line = _Line(self)
        transport, _ = await ws_connect(
            lambda: line,
            self._url,
            websocket_handshake_timeout=CONNECT_S,
            extra_headers={SECRET_HEADER: self._secret.decode()},
            max_frame_size=MESSAGE_BYTES_MAX,
        )
        self._line = line
        ended = asyncio.ensure_future(transport.wait_disconnected())
        try:
            while not ended.done():
                await asyncio.wait((ended,), timeout=1.0)
                if monotonic() - line.last_s > SILENCE_S:
                    transport.disconnect(graceful=False)
            ended.exception()
        finally:
            self._line = None
            line.lost()
            transport.disconnect(graceful=False)

    def began(self) -> None:
        """The state is there; frames follow."""
        self.start()
        self.known = True
        _log.info("shard %s is followed from seq %d", self.shard, self.seq)

    def read(self) -> None:
        """Take what was told. Raises JournalError."""
        while self.turn(TURN_COMMANDS):
            pass

    async def caught_up(self) -> None:
        """Wait until everything is here that is published now. Raises Problem 1020: the feed is away."""
        line = self._line
        if line is None or not line.begun:
            raise Problem(NOT_LEADER, "the shard's feed is away; try again", retry_after_s=1)
        try:
            async with asyncio.timeout(ANSWER_S):
                await line.ask(next(self._questions))
        except (TimeoutError, ConnectionError):
            raise Problem(
                NOT_LEADER, "the shard's feed does not answer; try again", retry_after_s=1
            ) from None


class _Line(WSListener):
    """One connection to a feed."""

    def __init__(self, events: EventsElsewhere) -> None:
        super().__init__()
        self._events = events
        self._transport: WSTransport
        self._orders_to_come = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self.begun = False
        self.last_s = monotonic()

    def ask(self, number: int) -> asyncio.Future[None]:
        """Done when everything is here that is published now. ConnectionError: it won't be known."""
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._transport.send(WSMsgType.TEXT, str(number).encode())
        return answer

    def lost(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionError())
        self._waiting.clear()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.last_s = monotonic()
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == WSMsgType.BINARY:
            try:
                self._take(frame.get_payload_as_bytes())
            except (JournalError, msgspec.DecodeError) as fault:
                # Nothing of ours can be wrong with it but the place where it began: begin anew.
                _log.error("shard %s can't be followed: %s", self._events.shard, fault)
                transport.disconnect(graceful=False)

    def _take(self, message: bytes) -> None:
        said, events = decode(message), self._events
        told = events.told
        if isinstance(said, Begin):
            told.begin(said)
            self._orders_to_come = said.orders
            self._begin_if_whole()
        elif isinstance(said, OpenOrders):
            for number, command, instrument in said.orders:
                told.restored.orders[number] = command, instrument
            self._orders_to_come -= len(said.orders)
            self._begin_if_whole()
        elif isinstance(said, Commands):
            told.take(said)
            events.read()
        else:
            told.epoch, told.durable_seq = said.epoch, said.durable_seq
            events.read()
            for number in [one for one in self._waiting if one <= said.asked]:
                answer = self._waiting.pop(number)
                if not answer.done():
                    answer.set_result(None)

    def _begin_if_whole(self) -> None:
        if not self._orders_to_come:
            self.begun = True
            self._events.began()
