"""One WebSocket connection: its requests, its subscriptions, and what happens when it does not read.

What the client has not read waits in a bounded buffer. When it is full, public streams skip: once there is
room again, each that has missed something is sent as one fresh snapshot. Private streams skip nothing; they
may fill the buffer further, up to a second bound, and then the connection is closed, to be resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, MutableSequence
from time import time_ns
from typing import Any, ClassVar, cast

from msgspec import UNSET
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from tradsys import metrics
from tradsys.adapters.feed.follower import Follower
from tradsys.adapters.feed.messages import HEADROOM, Bomb, Encoded, inflate
from tradsys.adapters.feed.orders import OrderEntry
from tradsys.adapters.feed.private import OrdersStream
from tradsys.adapters.feed.stream import Key, Stream
from tradsys.adapters.feed.streams import Streams
from tradsys.codec import stream_v1 as s
from tradsys.codec.errors import (
    FORBIDDEN,
    INVALID_REQUEST,
    INVALID_TOKEN,
    NOT_LEADER,
    PROCESSING_FAILED,
    RATE_LIMITED,
    UNAUTHORIZED,
    UNKNOWN_SYMBOL,
    Problem,
)
from tradsys.codec.json_v1 import OrderReply
from tradsys.core.messages import NEW, PARTIALLY_FILLED
from tradsys.venue.calling import CALL, REQUEST_ID, Call
from tradsys.venue.ports import READ, TRADE, Authenticator, Busy, Identity, Unauthorized

MESSAGE_BYTES_MAX = 64 << 10
"""Of a client's message."""
SUBSCRIPTIONS_MAX = 200
WORK_PER_S = 400
"""What a connection may ask for in a second: a request counts 1, and so does each snapshot in its answer,"""
PRIVATE_WORK = 20
"""but a private one counts this much. Orders are bounded otherwise:"""
ORDERS_UNANSWERED_MAX = 256
OWN_ORDERS_MAX = 20_000
"""Orders that a connection may leave to be canceled when it ends."""
CANCEL_AGAIN_S = 0.5
CANCEL_AGAIN_S_MAX = 5.0
"""After this such a cancel that the engine has not taken is tried again; each time after twice as long."""
SOCKET_BYTES = 128 << 10
"""The kernel's share of the buffer; it keeps twice as much for its own bookkeeping."""
PUBLIC_BYTES_MAX = 256 << 10
"""With so much unread, public streams skip."""
PRIVATE_BYTES_MAX = 4 << 20
"""With so much unread, the connection is closed."""
CLOSE_WAIT_S, CLOSE_WAIT_S_MAX = 5.0, 60.0
"""How long a client that is to be closed may read nothing, and how long it may take to read all."""

NORMAL, PROTOCOL_ERROR, UNSUPPORTED, POLICY, TOO_BIG, INTERNAL_ERROR = 1000, 1002, 1003, 1008, 1009, 1011

_log = logging.getLogger("tradsys.feed")


Ended = Callable[[int], None]
"""Takes the code of a refusal, or 0."""
HearOrder = Callable[[str, Call], Ended]
"""Hears (op, the call that it is) of each order and cancel that comes, and gives who hears of its answer; may
put a `traceparent` into the call."""


class Hub:
    """What the connections of a feed share."""

    def __init__(
        self,
        follower: Follower,
        streams: Streams,
        entry: OrderEntry,
        authenticator: Authenticator,
        is_revoked: Callable[[Identity], bool],
        clock: Callable[[], int],
        words: MutableSequence[int],
        compression_level: int,
        hear_order: HearOrder,
    ) -> None:
        """`clock` gives unix nanoseconds; `words` are the feed's metrics."""
        self.follower = follower
        self.streams = streams
        self.entry = entry
        self.authenticator = authenticator
        self.is_revoked = is_revoked
        self.clock = clock
        self.words = words
        self.compression_level = compression_level
        self.hear_order = hear_order
        self.sessions: dict[Session, None] = {}
        self.first_sent_ns = 0
        """When the first message of a turn was handed to a socket; whoever measures a turn sets it to 0."""
        self.stopping = False
        """The feed ends: what is under way is answered, and no more orders are taken."""


_MESSAGES = {
    format: metrics.FEED_MESSAGES.word(name)
    for format, name in zip(s.SUBPROTOCOLS, metrics.PROTOCOLS, strict=True)
}
_BYTES = {
    format: metrics.FEED_BYTES.word(name)
    for format, name in zip(s.SUBPROTOCOLS, metrics.PROTOCOLS, strict=True)
}
_CLIENTS = {
    format: metrics.FEED_CLIENTS.word(name)
    for format, name in zip(s.SUBPROTOCOLS, metrics.PROTOCOLS, strict=True)
}
_SUBSCRIPTIONS = {name: metrics.FEED_SUBSCRIPTIONS.word(name) for name in metrics.CHANNELS}
_SKIPPED = {
    name: (metrics.FEED_DROPPED if name in (s.PRICE, s.TRADES) else metrics.FEED_CONFLATED).word(name)
    for name in metrics.CHANNELS
}
"""What a full client misses of trades is lost to it; of all else, a later message says the same."""
_ENDED = {
    s.TOO_SLOW: "slow",
    s.TOKEN_ENDED: "token",
    1008: "token",
    1012: "shutdown",
    1000: "client",
    1002: "error",
    1003: "error",
    1007: "error",
    1009: "error",
    1011: "error",
}


class Session(WSListener):
    __slots__ = (
        "_close_code",
        "_compressed_part",
        "_full",
        "_hub",
        "_missed",
        "_own_orders",
        "_parts",
        "_parts_bytes",
        "_second",
        "_subscribed",
        "_transport",
        "_unanswered",
        "_work",
        "closing",
        "deflates",
        "format",
        "identity",
    )

    def __init__(self, hub: Hub, format: str, deflates: bool = False) -> None:
        super().__init__()
        self._hub = hub
        self.format = format
        self.deflates = deflates
        """The client takes compressed messages, and may send some."""
        self.identity: Identity | None = None
        self.closing = False
        self._close_code = 0
        self._transport: WSTransport
        self._subscribed: dict[Key, Stream] = {}
        self._full = False
        """The transport has more unread bytes than PUBLIC_BYTES_MAX."""
        self._missed: dict[Stream, None] = {}
        """Public streams that have skipped something."""
        self._parts: list[bytes] | None = None
        self._parts_bytes = 0
        self._compressed_part = False
        self._work = 0
        self._second = 0
        self._unanswered = 0
        self._own_orders: dict[int, None] | None = None
        """Numbers of the orders that end with the connection; None: none do."""

    # --- what picows calls --------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        underlying = transport.underlying_transport
        underlying.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        underlying.set_write_buffer_limits(high=PUBLIC_BYTES_MAX, low=PUBLIC_BYTES_MAX // 4)
        self._hub.sessions[self] = None
        self._hub.words[_CLIENTS[self.format]] += 1

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closing = True
        hub = self._hub
        hub.sessions.pop(self, None)
        for stream in self._subscribed.values():
            hub.words[_SUBSCRIPTIONS[stream.channel]] -= 1
            hub.streams.leave(stream, self)
        self._subscribed.clear()
        self._missed.clear()
        hub.words[_CLIENTS[self.format]] -= 1
        hub.words[metrics.FEED_DISCONNECTS.word(_ENDED.get(self._close_code, "client"))] += 1
        for number in self._own_orders or ():
            self._cancel_left(number)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # After an error of the protocol picows sends a close and may still deliver what it was about.
        if self.closing or transport.is_close_frame_sent:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            return
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self.close(NORMAL, "")
        elif kind == WSMsgType.PONG:
            pass
        elif frame.rsv2 or frame.rsv3 or (frame.rsv1 and not (self.deflates and kind == WSMsgType.TEXT)):
            self.close(PROTOCOL_ERROR, "no such extension is agreed on")
        elif kind == WSMsgType.BINARY:
            self.close(UNSUPPORTED, "requests are JSON text")
        elif (kind == WSMsgType.CONTINUATION) != (self._parts is not None):
            self.close(PROTOCOL_ERROR, "a fragment that continues nothing, or is not continued")
        elif self._parts_bytes + frame.payload_size > MESSAGE_BYTES_MAX:
            self.close(TOO_BIG, f"more than {MESSAGE_BYTES_MAX} bytes")
        elif frame.fin and kind == WSMsgType.TEXT:
            self._receive_maybe_compressed(frame.get_payload_as_bytes(), bool(frame.rsv1))
        else:
            if self._parts is None:
                self._parts, self._compressed_part = [], bool(frame.rsv1)
            self._parts.append(frame.get_payload_as_bytes())
            self._parts_bytes += max(1, frame.payload_size)
            if frame.fin:
                message = b"".join(self._parts)
                self._parts, self._parts_bytes = None, 0
                self._receive_maybe_compressed(message, self._compressed_part)

    def _receive_maybe_compressed(self, message: bytes, compressed: bool) -> None:
        if compressed:
            try:
                message = inflate(message, MESSAGE_BYTES_MAX)
            except Bomb as bomb:
                self.close(bomb.code, "not a compressed message, or a larger one than allowed")
                return
        self._receive(message)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        while self._missed and not self._full and not self.closing:
            stream = next(iter(self._missed))
            del self._missed[stream]
            self._send(stream.snapshot_for(self.format, gap=True))

    # --- sending ------------------------------------------------------------------------------------

    def deliver(self, stream: Stream, encoded: Encoded) -> None:
        """Take a change of a stream, or fall behind."""
        if self.closing:
            return
        if self._full:
            if not stream.private:
                self._missed[stream] = None
                self._hub.words[_SKIPPED[stream.channel]] += 1
                return
            if self._unread > PRIVATE_BYTES_MAX:
                self.close(s.TOO_SLOW, "the client does not read; resume with from_seq and epoch")
                return
        self._send(encoded)

    @property
    def _unread(self) -> int:
        return self._transport.underlying_transport.get_write_buffer_size()

    def _send(self, encoded: Encoded) -> None:
        hub = self._hub
        transport = self._transport
        if encoded.binary:
            for message in encoded.messages:
                transport.send_reuse_external_bytearray(WSMsgType.BINARY, message, HEADROOM)
        elif self.deflates:
            for message, packed in encoded.deflated(hub.compression_level):
                transport.send_reuse_external_bytearray(WSMsgType.TEXT, message, HEADROOM, True, packed)
        else:
            for message in encoded.messages:
                transport.send_reuse_external_bytearray(WSMsgType.TEXT, message, HEADROOM)
        if not hub.first_sent_ns:
            hub.first_sent_ns = time_ns()
        hub.words[_MESSAGES[self.format]] += len(encoded.messages)
        hub.words[_BYTES[self.format]] += encoded.size

    def send_text(self, message: bytes) -> None:
        """What is no stream's; a client that is asked for nothing and reads nothing gets none."""
        if self.closing:
            return
        if self._full and self._unread > PRIVATE_BYTES_MAX:
            self.close(s.TOO_SLOW, "the client does not read")
            return
        self._transport.send(WSMsgType.TEXT, message)
        self._hub.words[_MESSAGES[self.format]] += 1
        self._hub.words[_BYTES[self.format]] += len(message)

    def heartbeat(self, message: bytes) -> None:
        if not self._full:
            self.send_text(message)

    def close(self, code: int, reason: str) -> None:
        """Close with a code, after what was sent: who reads on gets it; who reads nothing is cut off."""
        if self.closing:
            return
        self.closing = True
        self._close_code = code
        transport = self._transport
        transport.send_close(cast(WSCloseCode, code), reason.encode())
        transport.disconnect()
        _cut_off_later(transport, asyncio.get_running_loop().time() + CLOSE_WAIT_S_MAX)

    @property
    def subscriptions(self) -> tuple[Stream, ...]:
        return tuple(self._subscribed.values())

    def still_allowed(self, now_ns: int) -> None:
        """Close if the token has ended meanwhile."""
        identity = self.identity
        if identity is None or self.closing:
            return
        if now_ns >= identity.expires_ns or self._hub.is_revoked(identity):
            self.close(s.TOKEN_ENDED, "the token has expired or was revoked")

    # --- requests -----------------------------------------------------------------------------------

    def _receive(self, body: bytes) -> None:
        request: s.Request | None = None
        refused: Problem | None = None
        after: list[tuple[Stream, Encoded]] = []
        result: dict[str, Any] = {}
        ended: Ended | None = None
        try:
            request = s.decode_request(body)
            enter = self._order_ops.get(request.op)
            if enter is not None:
                call = _call_of(_id_of(request))
                ended = self._hub.hear_order(request.op, call)
                with _calling(call):
                    enter(self, request, ended)
                self._unanswered += 1
                return  # The answer comes from elsewhere.
            op = self._ops.get(request.op)
            self._spend(1)
            if op is None:
                raise Problem(INVALID_REQUEST, f"op is one of {', '.join(_OPS)}", {"field": "op"})
            result = op(self, request, after)
        except Problem as problem:
            refused = problem
        except Exception:
            _log.exception("a request failed")
            self.close(INTERNAL_ERROR, "")
            return
        self._answer(
            "" if request is None else request.op,
            s.id_of(body) if request is None or request.id is UNSET else request.id,
            refused or result,
            ended,
        )
        if refused is not None and refused.close:
            self.close(POLICY, "the token is not valid")
        for stream, encoded in after:
            self.deliver(stream, encoded)

    def _answer(
        self,
        op: str,
        id: int | str | None,
        said: dict[str, Any] | OrderReply | Problem,
        ended: Ended | None = None,
    ) -> None:
        word = _REQUEST_WORDS.get(op, _OTHER_REQUESTS)
        if ended is not None:
            ended(said.code if isinstance(said, Problem) else 0)
        if isinstance(said, Problem):
            self._hub.words[word + 1] += 1
            self.send_text(s.reply_error(id, said))
        else:
            self._hub.words[word] += 1
            self.send_text(s.reply_ok(id, said))

    def _spend(self, work: int) -> None:
        """Raises Problem 3029."""
        second = self._hub.clock() // 1_000_000_000
        if second != self._second:
            self._second, self._work = second, 0
        self._work += work
        if self._work > WORK_PER_S:
            raise Problem(RATE_LIMITED, "too many requests in a second")

    def _spend_on(self, asked: list[tuple[Key, s.ChannelRequest]]) -> None:
        self._spend(sum(PRIVATE_WORK if key.channel in s.PRIVATE_CHANNELS else 1 for key, _ in asked))

    def _ping(self, request: s.Request, after: After) -> dict[str, Any]:
        return {"ts": str(self._hub.clock())}

    def _auth(self, request: s.Request, after: After) -> dict[str, Any]:
        if request.token is UNSET:
            raise Problem(INVALID_REQUEST, "auth needs a token", {"field": "token"})
        who = self._hub.authenticator.verify(f"Bearer {request.token}", self._hub.clock())
        if isinstance(who, Unauthorized):
            # The connection goes with the token: a guesser pays a handshake for each guess.
            raise Problem(INVALID_TOKEN, close=True)
        if isinstance(who, Busy):
            raise Problem(NOT_LEADER, "too many new tokens at once; try again")
        if who.account not in self._hub.follower.shard.accounts:
            raise Problem(FORBIDDEN, "the token's account does not exist here")
        if self.identity is not None and self.identity.account != who.account:
            raise Problem(FORBIDDEN, "the connection belongs to another account")
        self.identity = who
        return {"account": who.account, "expires_at": str(who.expires_ns)}

    def _subscribe(self, request: s.Request, after: After) -> dict[str, Any]:
        asked = [(key, channel) for channel in _channels(request) for key in self._keys(channel)]
        wanted = {key for key, _ in asked} | self._subscribed.keys()
        if len(wanted) > SUBSCRIPTIONS_MAX:
            raise Problem(INVALID_REQUEST, f"a connection may have {SUBSCRIPTIONS_MAX} subscriptions")
        self._spend_on(asked)
        said = []
        for key, channel in asked:
            stream = self._hub.streams.open(key)
            if key not in self._subscribed:
                self._subscribed[key] = stream
                stream.join(self)
                self._hub.words[_SUBSCRIPTIONS[key.channel]] += 1
            said.append(self._bring_up(stream, channel, after, gap=False))
        return {"channels": said}

    def _resync(self, request: s.Request, after: After) -> dict[str, Any]:
        asked = [(key, channel) for channel in _channels(request) for key in self._keys(channel)]
        for key, _ in asked:
            if key not in self._subscribed:
                raise Problem(
                    INVALID_REQUEST, "not subscribed", {"channel": key.channel, "symbol": key.subject}
                )
        self._spend_on(asked)
        return {
            "channels": [
                self._bring_up(self._subscribed[key], channel, after, gap=True) for key, channel in asked
            ]
        }

    def _bring_up(
        self, stream: Stream, channel: s.ChannelRequest, after: After, *, gap: bool
    ) -> dict[str, Any]:
        """What brings a client to where the stream is: the messages that it has not got, or a snapshot."""
        missed = stream in self._missed
        self._missed.pop(stream, None)
        said = _described(stream)
        epoch = self._hub.follower.epoch
        if channel.from_seq is not UNSET:
            # What was seen of another epoch may have been withdrawn.
            known = channel.epoch == epoch
            lost = stream.since(self.format, channel.from_seq) if known and not missed else None
            if lost is not None:
                self._hub.words[metrics.FEED_RESYNCS.word("filled")] += 1
                said["filled"] = sum(len(encoded.messages) for encoded in lost)
                after += [(stream, encoded) for encoded in lost]
                return said
            if known and isinstance(stream, OrdersStream):
                after.append((stream, stream.resumed(channel.from_seq)))
                return said
            gap = True
        if gap:
            self._hub.words[metrics.FEED_RESYNCS.word("snapshot")] += 1
        after.append((stream, stream.snapshot_for(self.format, gap=gap)))
        return said

    def _unsubscribe(self, request: s.Request, after: After) -> dict[str, Any]:
        left = []
        for channel in _channels(request):
            subjects = set(channel.symbols) if channel.symbols is not UNSET else None
            for key, stream in list(self._subscribed.items()):
                if (
                    key.channel == channel.name
                    and (subjects is None or key.subject in subjects)
                    and (channel.depth is UNSET or channel.depth == key.depth)
                    and (channel.interval is UNSET or channel.interval == key.interval)
                ):
                    del self._subscribed[key]
                    self._missed.pop(stream, None)
                    self._hub.words[_SUBSCRIPTIONS[key.channel]] -= 1
                    self._hub.streams.leave(stream, self)
                    left.append(_described(stream))
        return {"channels": left}

    def _keys(self, channel: s.ChannelRequest) -> list[Key]:
        """The streams that are meant. Raises Problem: 1002, 1003, 2001, 2003."""
        name = channel.name
        if name in s.PRIVATE_CHANNELS:
            if channel.symbols is not UNSET or channel.depth is not UNSET:
                raise Problem(INVALID_REQUEST, f"{name} takes neither symbols nor depth", {"channel": name})
            if self.identity is None:
                raise Problem(UNAUTHORIZED, f"{name} is private: send auth first", {"channel": name})
            if not self.identity.scopes & READ:
                raise Problem(FORBIDDEN, "the token's scope does not allow this", {"channel": name})
            return [Key(name, self.identity.account)]
        if name not in s.PUBLIC_CHANNELS:
            known = ", ".join((*s.PUBLIC_CHANNELS, *s.PRIVATE_CHANNELS))
            raise Problem(INVALID_REQUEST, f"there is no such channel; known: {known}", {"channel": name})
        if channel.symbols is UNSET:
            raise Problem(INVALID_REQUEST, f"{name} needs symbols", {"channel": name})
        depth = _depth_of(channel)
        interval = _interval_of(channel)
        for symbol in channel.symbols:
            if symbol not in self._hub.follower.shard.markets:
                raise Problem(UNKNOWN_SYMBOL, details={"symbol": symbol})
            if name == s.PRICE and self.format == s.BIN_V1:
                s.price_symbol_of(symbol)
        return [Key(name, symbol, depth, interval) for symbol in channel.symbols]

    # --- orders -------------------------------------------------------------------------------------

    def _trader(self) -> Identity:
        """Raises Problem: 1020, 2001, 2003, 3029."""
        if self._hub.stopping:
            raise Problem(NOT_LEADER, "the server is going down")
        who = self.identity
        if who is None:
            raise Problem(UNAUTHORIZED, "orders need a token: send auth first")
        if not who.scopes & TRADE:
            raise Problem(FORBIDDEN, "the token's scope does not allow this")
        if self._unanswered >= ORDERS_UNANSWERED_MAX:
            raise Problem(RATE_LIMITED, f"{ORDERS_UNANSWERED_MAX} orders wait for their answer")
        return who

    def _place(self, request: s.Request, ended: Ended) -> None:
        who = self._trader()
        if request.order is UNSET:
            raise Problem(INVALID_REQUEST, "order.place needs order, as POST /orders takes it")
        hub, id = self._hub, _id_of(request)

        def answer(said: OrderReply | Problem) -> None:
            self._unanswered -= 1
            if self._own_orders is not None and isinstance(said, OrderReply):
                self._own(int(said.order_id.rpartition("-")[2]))
            self._answer("order.place", id, said, ended)

        hub.entry.place(who, bytes(request.order), hub.clock(), answer)

    def _cancel(self, request: s.Request, ended: Ended) -> None:
        who = self._trader()
        if request.order_id is UNSET:
            raise Problem(INVALID_REQUEST, "order.cancel needs order_id", {"field": "order_id"})
        id = _id_of(request)

        def answer(said: OrderReply | Problem) -> None:
            self._unanswered -= 1
            self._answer("order.cancel", id, said, ended)

        self._hub.entry.cancel(who, request.order_id, answer)

    def _cancel_on_disconnect(self, request: s.Request, after: After) -> dict[str, Any]:
        self._trader()
        if request.on is UNSET:
            raise Problem(INVALID_REQUEST, "cancel_on_disconnect needs on", {"field": "on"})
        if not request.on:
            self._own_orders = None
        elif self._own_orders is None:
            self._own_orders = {}
        return {"on": request.on}

    def _own(self, number: int) -> None:
        """An order that ends with the connection, at once if that has ended already."""
        own = self._own_orders
        assert own is not None
        if self.closing and self not in self._hub.sessions:
            self._cancel_left(number)
            return
        own[number] = None
        if len(own) > OWN_ORDERS_MAX:
            for known in list(own):
                if not self._is_open(known):
                    del own[known]

    def _is_open(self, number: int) -> bool:
        order = self._hub.follower.shard.order(number)
        return order is not None and order.status in (NEW, PARTIALLY_FILLED)

    def _cancel_left(self, number: int, pause_s: float = CANCEL_AGAIN_S) -> None:
        """Cancel an order that ends with the connection; again while the engine does not take it."""
        hub = self._hub
        if self.identity is None or not self._is_open(number):
            return

        def again(said: OrderReply | Problem) -> None:
            if (
                isinstance(said, Problem)
                and said.code in (NOT_LEADER, PROCESSING_FAILED)
                and not hub.stopping
            ):
                longer_s = min(2 * pause_s, CANCEL_AGAIN_S_MAX)
                asyncio.get_running_loop().call_later(pause_s, self._cancel_left, number, longer_s)

        try:
            hub.entry.cancel_left(self.identity, number, again)
        except Problem as problem:
            again(problem)

    _ops: ClassVar[dict[str, Callable[[Session, s.Request, After], dict[str, Any]]]] = {
        "auth": _auth,
        "subscribe": _subscribe,
        "unsubscribe": _unsubscribe,
        "resync": _resync,
        "ping": _ping,
        "cancel_on_disconnect": _cancel_on_disconnect,
    }
    _order_ops: ClassVar[dict[str, Callable[[Session, s.Request, Ended], None]]] = {
        "order.place": _place,
        "order.cancel": _cancel,
    }


After = list[tuple[Stream, Encoded]]
"""What is sent behind the reply."""
_OPS = (*Session._ops, *Session._order_ops)
_REQUEST_WORDS = {op: metrics.FEED_REQUESTS.word(op.removeprefix("order."), "ok") for op in _OPS}
_OTHER_REQUESTS = metrics.FEED_REQUESTS.word("other", "ok")


def _call_of(id: int | str | None) -> Call:
    """A client's own id of a message is what the engine and the logs call an order, if it can be a name."""
    name = "" if id is None else str(id)
    return Call(name if REQUEST_ID.fullmatch(name) else "")


@contextlib.contextmanager
def _calling(call: Call) -> Iterator[None]:
    token = CALL.set(call)
    try:
        yield
    finally:
        CALL.reset(token)


def _id_of(request: s.Request) -> int | str | None:
    return None if request.id is UNSET else request.id


def _depth_of(channel: s.ChannelRequest) -> int:
    depths = {s.BOOK: s.DEPTHS, s.BOOK_L3: s.DEPTHS_L3}.get(channel.name)
    if depths is None:
        return 0
    depth = s.DEPTH_DEFAULT if channel.depth is UNSET else channel.depth
    if depth not in depths:
        known = ", ".join(map(str, depths))
        raise Problem(INVALID_REQUEST, f"depth is one of {known}", {"field": "depth"})
    return depth


def _interval_of(channel: s.ChannelRequest) -> str:
    if channel.name != s.CANDLES:
        return ""
    interval = s.INTERVAL_DEFAULT if channel.interval is UNSET else channel.interval
    if interval not in s.INTERVALS:
        known = ", ".join(s.INTERVALS)
        raise Problem(INVALID_REQUEST, f"interval is one of {known}", {"field": "interval"})
    return interval


def _channels(request: s.Request) -> list[s.ChannelRequest]:
    if request.channels is UNSET:
        raise Problem(INVALID_REQUEST, f"{request.op} needs channels", {"field": "channels"})
    return request.channels


def _described(stream: Stream) -> dict[str, Any]:
    said: dict[str, Any] = {"name": stream.channel, "stream": stream.number}
    if not stream.private:
        said["symbol"] = stream.subject
    if stream.depth:
        said["depth"] = stream.depth
    if stream.interval:
        said["interval"] = stream.interval
    return said


def _cut_off_later(transport: WSTransport, at_last: float) -> None:
    loop, underlying = asyncio.get_running_loop(), transport.underlying_transport
    unread = underlying.get_write_buffer_size()

    def judge() -> None:
        left = underlying.get_write_buffer_size()
        if 0 < left < unread and loop.time() < at_last:
            _cut_off_later(transport, at_last)
        else:
            transport.disconnect(graceful=False)

    loop.call_later(CLOSE_WAIT_S, judge)
