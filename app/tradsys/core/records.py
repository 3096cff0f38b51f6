"""Idempotency records: what a retry is answered with, as an object, as bytes, and as pages of a snapshot.

Kept are the bytes, the same that a snapshot holds. Hardly any record is ever asked for again, while each is
let go one day: that is one piece of memory to free, cold by then, instead of a dozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from tradsys.core.messages import Event, Instrument, PlaceOrder


class Record(Struct, frozen=True, gc=False):
    """What a retry is answered with: the reply is a function of these five; its bytes are not kept."""

    command: PlaceOrder
    seq: int
    time_ns: int
    events: list[Event]
    instrument: Instrument


class _Packed(Struct, array_like=True, gc=False):
    """A record's bytes: MessagePack of these five."""

    command: PlaceOrder
    seq: int
    time_ns: int
    events: list[Event]
    version: int


encode: Callable[[tuple[PlaceOrder, int, int, list[Event], int]], bytes] = msgspec.msgpack.Encoder().encode
"""Of what `_Packed` has, in its order."""
_decode = msgspec.msgpack.Decoder(_Packed).decode


def unpack(packed: bytes, instruments: Sequence[Instrument]) -> Record:
    """`instruments` are by version. Raises msgspec.DecodeError for bytes that are no record."""
    kept = _decode(packed)
    return Record(kept.command, kept.seq, kept.time_ns, kept.events, instruments[kept.version])


Row = tuple[int, str, bytes]
"""(when it closed or 0, key, record)"""


class Page(Struct):
    """Neighbours in the order of closing, as a snapshot has them."""

    rows: int
    """So many of them are still kept."""
    chunk: bytes
    rows_in_chunk: int
