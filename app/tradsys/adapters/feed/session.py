"""One WebSocket connection: its requests, its subscriptions, and what happens when it does not read.

What the client has not read waits in a bounded buffer. When it is full, public streams skip: once there is
room again, each that has missed something is sent as one fresh snapshot. Private streams skip nothing; they
may fill the buffer further, up to a second bound, and then the connection is closed, to be resumed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

from msgspec import UNSET
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from tradsys.adapters.feed.follower import Follower
from tradsys.adapters.feed.streams import Encoded, Key, Stream, Streams
from tradsys.codec import stream_v1 as s
from tradsys.codec.errors import (
    FORBIDDEN,
    INVALID_REQUEST,
    INVALID_TOKEN,
    NOT_LEADER,
    RATE_LIMITED,
    UNAUTHORIZED,
    UNKNOWN_SYMBOL,
    Problem,
)
from tradsys.venue.ports import READ, Authenticator, Busy, Identity, Unauthorized

MESSAGE_BYTES_MAX = 64 << 10
"""Of a client's message."""
SUBSCRIPTIONS_MAX = 200
WORK_PER_S = 400
"""What a connection may ask for in a second: a request counts 1, and so does each snapshot in its answer,"""
PRIVATE_WORK = 20
"""but a private one counts this much."""
SOCKET_BYTES = 128 << 10
"""The kernel's share of the buffer; it keeps twice as much for its own bookkeeping."""
PUBLIC_BYTES_MAX = 256 << 10
"""With so much unread, public streams skip."""
PRIVATE_BYTES_MAX = 4 << 20
"""With so much unread, the connection is closed."""
CLOSE_WAIT_S = 5.0
"""How long a client may take to read what comes before the close."""

NORMAL, PROTOCOL_ERROR, UNSUPPORTED, POLICY, TOO_BIG, INTERNAL_ERROR = 1000, 1002, 1003, 1008, 1009, 1011

_log = logging.getLogger("tradsys.feed")


class Hub:
    """What the connections of a feed share."""

    def __init__(
        self,
        follower: Follower,
        streams: Streams,
        authenticator: Authenticator,
        is_revoked: Callable[[Identity], bool],
        clock: Callable[[], int],
    ) -> None:
        """`clock` gives unix nanoseconds."""
        self.follower = follower
        self.streams = streams
        self.authenticator = authenticator
        self.is_revoked = is_revoked
        self.clock = clock
        self.sessions: dict[Session, None] = {}
        self.sent = 0
        """Messages sent since the start."""


class Session(WSListener):
    def __init__(self, hub: Hub, format: str) -> None:
        super().__init__()
        self._hub = hub
        self.format = format
        self.identity: Identity | None = None
        self.closing = False
        self._transport: WSTransport
        self._subscribed: dict[Key, Stream] = {}
        self._full = False
        """The transport has more unread bytes than PUBLIC_BYTES_MAX."""
        self._missed: dict[Stream, None] = {}
        """Public streams that have skipped something."""
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._work = 0
        self._second = 0
        self._ops: dict[str, Callable[[s.Request], dict[str, Any]]] = {
            "auth": self._auth,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "resync": self._resync,
            "ping": self._ping,
        }
        self._after_reply: list[tuple[Stream, Encoded]] = []

    # --- what picows calls --------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        underlying = transport.underlying_transport
        underlying.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        underlying.set_write_buffer_limits(high=PUBLIC_BYTES_MAX, low=PUBLIC_BYTES_MAX // 4)
        self._hub.sessions[self] = None

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closing = True
        self._hub.sessions.pop(self, None)
        for stream in self._subscribed.values():
            self._hub.streams.leave(stream, self)
        self._subscribed.clear()
        self._missed.clear()

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
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(PROTOCOL_ERROR, "no extension is agreed on")
        elif kind == WSMsgType.BINARY:
            self.close(UNSUPPORTED, "requests are JSON text")
        elif (kind == WSMsgType.CONTINUATION) != bool(self._parts):
            self.close(PROTOCOL_ERROR, "a fragment that continues nothing, or is not continued")
        elif self._parts_bytes + frame.payload_size > MESSAGE_BYTES_MAX:
            self.close(TOO_BIG, f"more than {MESSAGE_BYTES_MAX} bytes")
        elif frame.fin and kind == WSMsgType.TEXT:
            self._receive(frame.get_payload_as_bytes())
        else:
            self._parts.append(frame.get_payload_as_bytes())
            self._parts_bytes += max(1, frame.payload_size)
            if frame.fin:
                message = b"".join(self._parts)
                self._parts, self._parts_bytes = [], 0
                self._receive(message)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        while self._missed and not self._full and not self.closing:
            stream = next(iter(self._missed))
            del self._missed[stream]
            self._send(stream.snapshot(self.format, gap=True))

    # --- sending ------------------------------------------------------------------------------------

    def deliver(self, stream: Stream, encoded: Encoded) -> None:
        """Take a change of a stream, or fall behind."""
        if self.closing:
            return
        if self._full:
            if not stream.private:
                self._missed[stream] = None
                return
            if self._unread > PRIVATE_BYTES_MAX:
                self.close(s.TOO_SLOW, "the client does not read; resume with from_seq and epoch")
                return
        self._send(encoded)

    @property
    def _unread(self) -> int:
        return self._transport.underlying_transport.get_write_buffer_size()

    def _send(self, encoded: Encoded) -> None:
        send = self._transport.send
        kind = WSMsgType.BINARY if encoded.binary else WSMsgType.TEXT
        for message in encoded.messages:
            send(kind, message)
        self._hub.sent += len(encoded.messages)

    def send_text(self, message: bytes) -> None:
        """What is no stream's; a client that is asked for nothing and reads nothing gets none."""
        if self.closing:
            return
        if self._full and self._unread > PRIVATE_BYTES_MAX:
            self.close(s.TOO_SLOW, "the client does not read")
            return
        self._transport.send(WSMsgType.TEXT, message)
        self._hub.sent += 1

    def heartbeat(self, message: bytes) -> None:
        if not self._full:
            self.send_text(message)

    def close(self, code: int, reason: str) -> None:
        """Close with a code, after what was sent; a client that reads nothing is cut off."""
        if self.closing:
            return
        self.closing = True
        transport = self._transport
        transport.send_close(cast(WSCloseCode, code), reason.encode())
        transport.disconnect()
        asyncio.get_running_loop().call_later(CLOSE_WAIT_S, _cut_off, transport)

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
        try:
            self._spend(1)
            request = s.decode_request(body)
            op = self._ops.get(request.op)
            if op is None:
                raise Problem(INVALID_REQUEST, f"op is one of {', '.join(self._ops)}", {"field": "op"})
            result = op(request)
        except Problem as problem:
            refused = problem
        except Exception:
            _log.exception("a request failed")
            self.close(INTERNAL_ERROR, "")
            return
        id = s.id_of(body) if request is None or request.id is UNSET else request.id
        if refused is None:
            self.send_text(s.reply_ok(id, result))
        else:
            self.send_text(s.reply_error(id, refused))
            if refused.close:
                self.close(POLICY, "the token is not valid")
        after, self._after_reply = self._after_reply, []
        for stream, encoded in after:
            self.deliver(stream, encoded)

    def _spend(self, work: int) -> None:
        """Raises Problem 3029."""
        second = self._hub.clock() // 1_000_000_000
        if second != self._second:
            self._second, self._work = second, 0
        self._work += work
        if self._work > WORK_PER_S:
            raise Problem(RATE_LIMITED, "too many requests in a second")

    def _spend_on(self, asked: list[tuple[Key, s.ChannelRequest]]) -> None:
        self._spend(sum(PRIVATE_WORK if key[0] in s.PRIVATE_CHANNELS else 1 for key, _ in asked))

    def _ping(self, request: s.Request) -> dict[str, Any]:
        return {"ts": str(self._hub.clock())}

    def _auth(self, request: s.Request) -> dict[str, Any]:
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

    def _subscribe(self, request: s.Request) -> dict[str, Any]:
        asked = [(key, channel) for channel in _channels(request) for key in self._keys(channel)]
        wanted = {key for key, _ in asked} | self._subscribed.keys()
        if len(wanted) > SUBSCRIPTIONS_MAX:
            raise Problem(INVALID_REQUEST, f"a connection may have {SUBSCRIPTIONS_MAX} subscriptions")
        self._spend_on(asked)
        for key, channel in asked:
            stream = self._hub.streams.open(key)
            stream.members[self.format][self] = None
            self._subscribed[key] = stream
            self._send_snapshot_later(stream, channel, gap=False)
        return {"channels": [_described(self._subscribed[key]) for key, _ in asked]}

    def _resync(self, request: s.Request) -> dict[str, Any]:
        asked = [(key, channel) for channel in _channels(request) for key in self._keys(channel)]
        for key, _ in asked:
            if key not in self._subscribed:
                raise Problem(INVALID_REQUEST, "not subscribed", {"channel": key[0], "symbol": key[1]})
        self._spend_on(asked)
        for key, channel in asked:
            self._send_snapshot_later(self._subscribed[key], channel, gap=True)
        return {"channels": [_described(self._subscribed[key]) for key, _ in asked]}

    def _send_snapshot_later(self, stream: Stream, channel: s.ChannelRequest, *, gap: bool) -> None:
        from_seq = None if channel.from_seq is UNSET else channel.from_seq
        if from_seq is not None:
            # What was seen of another epoch may have been withdrawn.
            gap = channel.epoch != self._hub.follower.epoch
        self._missed.pop(stream, None)
        encoded = stream.snapshot(self.format, gap=gap, from_seq=None if gap else from_seq)
        self._after_reply.append((stream, encoded))

    def _unsubscribe(self, request: s.Request) -> dict[str, Any]:
        left = []
        for channel in _channels(request):
            subjects = set(channel.symbols) if channel.symbols is not UNSET else None
            for key, stream in list(self._subscribed.items()):
                if key[0] != channel.name or (subjects is not None and key[1] not in subjects):
                    continue
                if channel.depth is not UNSET and channel.depth != key[2]:
                    continue
                del self._subscribed[key]
                self._missed.pop(stream, None)
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
            return [(name, self.identity.account, 0)]
        if name not in s.PUBLIC_CHANNELS:
            known = ", ".join((*s.PUBLIC_CHANNELS, *s.PRIVATE_CHANNELS))
            raise Problem(INVALID_REQUEST, f"there is no such channel; known: {known}", {"channel": name})
        if channel.symbols is UNSET:
            raise Problem(INVALID_REQUEST, f"{name} needs symbols", {"channel": name})
        depth = 0
        if name == s.BOOK:
            depth = s.DEPTH_DEFAULT if channel.depth is UNSET else channel.depth
            if depth not in s.DEPTHS:
                known = ", ".join(map(str, s.DEPTHS))
                raise Problem(INVALID_REQUEST, f"depth is one of {known}", {"field": "depth"})
        for symbol in channel.symbols:
            if symbol not in self._hub.follower.shard.markets:
                raise Problem(UNKNOWN_SYMBOL, details={"symbol": symbol})
            if name == s.PRICE and self.format == s.BIN_V1:
                s.price_symbol_of(symbol)
        return [(name, symbol, depth) for symbol in channel.symbols]


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
    return said


def _cut_off(transport: WSTransport) -> None:
    transport.disconnect(graceful=False)
