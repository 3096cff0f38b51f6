"""The journal for gateways elsewhere: one of several shards has no volume, and each shard's feed tells it.

A gateway begins with the orders that are open now, so that it knows whose they are, and gets every frame
from there on. The orders are taken note of at once and sent in pieces; frames that come meanwhile wait.
Nothing waits for a gateway: one that does not read is cut off, and begins anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from hmac import compare_digest

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, WSUpgradeResponse
from picows import WSUpgradeResponseWithListener as Welcome

from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.codec.followed_v1 import PATH, SECRET_HEADER, Begin, Commands, OpenOrders, Position, encode
from tradsys.core.messages import RevokeToken
from tradsys.core.order import Order

ORDERS_A_PIECE = 500
AHEAD_BYTES_MAX = 1 << 20
"""With so much unread no further piece is sent."""
UNREAD_BYTES_MAX = 64 << 20
"""With so much unread a gateway is cut off."""
PIECE_WAIT_S = 0.005


class Audience:
    """The gateways that follow."""

    def __init__(self, follower: Follower, secret: bytes) -> None:
        self._follower = follower
        self._secret = secret
        self.members: dict[Gateway, None] = {}

    def welcome(self, request: WSUpgradeRequest) -> Welcome:
        shown = (request.headers.get(SECRET_HEADER) or "").encode()
        if request.path != PATH.encode() or not compare_digest(shown, self._secret):
            return Welcome(WSUpgradeResponse.create_error_response(404, b""), None)
        return Welcome(WSUpgradeResponse.create_101_response({}), Gateway(self))

    def begin(self) -> tuple[bytes, deque[Order]]:
        """What holds now, and the open orders that belong to it."""
        follower, shard = self._follower, self._follower.shard
        orders = deque(order for account in shard.accounts.values() for order in account.open.values())
        begin = Begin(
            shard=shard.name,
            epoch=follower.epoch,
            seq=follower.seq,
            durable_seq=follower.progress.durable_seq,
            orders=len(orders),
            instruments=[market.instrument for market in shard.markets.values()],
            accounts=list(shard.accounts),
            revocations=[
                RevokeToken(jti, account, until, expires)
                for (jti, account), (until, expires) in shard.revocations.items()
            ],
        )
        return encode(begin), orders

    def turned(self, turn: Turn) -> None:
        """Tell everybody what was published."""
        if not self.members:
            return
        frames = [encode(Commands(frame.first_seq, frame.time_ns, frame.entries)) for frame in turn.frames]
        for member in list(self.members):
            member.tell(frames)

    def beat(self) -> None:
        """Say where the journal stands, also when nothing happens."""
        for member in list(self.members):
            member.tell([])

    def position(self, asked: int) -> bytes:
        follower = self._follower
        return encode(Position(follower.epoch, follower.seq, follower.progress.durable_seq, asked))

    @property
    def seq(self) -> int:
        return self._follower.seq

    @property
    def published_seq(self) -> int:
        return self._follower.progress.published_seq

    def close(self) -> None:
        for member in list(self.members):
            member.close()


class Gateway(WSListener):
    """One gateway's connection. It asks by a number, and is answered when it has what is published then."""

    def __init__(self, audience: Audience) -> None:
        super().__init__()
        self._audience = audience
        self._transport: WSTransport
        self._orders: deque[Order] = deque()
        """Open ones that are not sent yet. Their commands and grids stay, whatever becomes of them."""
        self._frames: list[bytes] = []
        """That wait behind the orders."""
        self._questions: deque[tuple[int, int]] = deque()
        """(number, what was published when it was asked)"""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        begin, self._orders = self._audience.begin()
        self._audience.members[self] = None
        self._send(begin)
        self._send_orders()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._audience.members.pop(self, None)
        self._orders.clear()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            text = frame.get_payload_as_bytes()
            if not text.isdigit() or len(text) > 18:
                transport.disconnect()
                return
            self._questions.append((int(text), self._audience.published_seq))
            self.tell([])

    def tell(self, frames: list[bytes]) -> None:
        if self._unread > UNREAD_BYTES_MAX:
            self.close()
            return
        if self._orders:
            self._frames += frames
            return
        for frame in frames:
            self._send(frame)
        asked = 0
        while self._questions and self._questions[0][1] <= self._audience.seq:
            asked = self._questions.popleft()[0]
        self._send(self._audience.position(asked))

    def _send_orders(self) -> None:
        orders = self._orders
        if not orders:
            return  # The connection has ended, or there were none.
        if self._unread < AHEAD_BYTES_MAX:
            piece = [orders.popleft() for _ in range(min(len(orders), ORDERS_A_PIECE))]
            self._send(encode(OpenOrders([(one.id, one.command, one.instrument) for one in piece])))
        if orders:
            asyncio.get_running_loop().call_later(PIECE_WAIT_S, self._send_orders)
        else:
            waiting, self._frames = self._frames, []
            self.tell(waiting)

    @property
    def _unread(self) -> int:
        return self._transport.underlying_transport.get_write_buffer_size()

    def _send(self, message: bytes) -> None:
        self._transport.send(WSMsgType.BINARY, message)

    def close(self) -> None:
        self._transport.disconnect(graceful=False)
        self._audience.members.pop(self, None)
