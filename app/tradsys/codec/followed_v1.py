"""What a feed tells a gateway elsewhere of its shard: MessagePack, a message in each WebSocket frame.

`Begin`, any number of `OpenOrders`, then `Commands` and `Position` as they come, in the order of the journal.
README.md beside this file has the exchange. Both ends are of one release: fields are added at the end only.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from tradsys.codec.frame import Entry
from tradsys.core.messages import Instrument, PlaceOrder, RevokeToken

PATH = "/internal/journal"
SECRET_HEADER = "X-Internal-Secret"


class Begin(Struct, frozen=True, gc=False, array_like=True, tag=1):
    """What holds at `seq`. So many open orders follow; commands go on from there."""

    shard: str
    epoch: int
    seq: int
    durable_seq: int
    orders: int
    instruments: list[Instrument]
    accounts: list[str]
    revocations: list[RevokeToken]


class OpenOrders(Struct, frozen=True, gc=False, array_like=True, tag=2):
    """Some of the orders that were open at the begin: number, the command that placed it, its grid."""

    orders: list[tuple[int, PlaceOrder, Instrument]]


class Commands(Struct, frozen=True, gc=False, array_like=True, tag=3):
    """One frame of the journal."""

    first_seq: int
    time_ns: int
    entries: list[Entry]


class Position(Struct, frozen=True, gc=False, array_like=True, tag=4):
    """Everything up to `seq` has been sent; a new epoch begins with one."""

    epoch: int
    seq: int
    durable_seq: int
    asked: int = 0
    """The number of the latest question whose answer this is; 0: nobody has asked."""


Message = Begin | OpenOrders | Commands | Position

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(data)
