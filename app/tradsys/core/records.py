"""Idempotency records: what a retry is answered with, as an object, as bytes, and as pages of a snapshot.

Kept are the bytes, the same that a snapshot holds. Hardly any record is ever asked for again, while each is
let go one day: that is one piece of memory to free, cold by then, instead of a dozen. And they begin with the
very bytes that the journal has of the command, so that an order is encoded once for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct as Layout
from typing import Final

import msgspec
from msgspec import Struct

from tradsys.core.messages import Command, Event, Instrument, PlaceOrder


class Record(Struct, frozen=True, gc=False):
    """What a retry is answered with: the reply is a function of these five; its bytes are not kept."""

    command: PlaceOrder
    seq: int
    time_ns: int
    events: list[Event]
    instrument: Instrument


class _Entry(Struct, array_like=True, gc=False):
    command: PlaceOrder
    events: list[Event]


encode_entry: Callable[[tuple[Command, list[Event]]], bytes] = msgspec.msgpack.Encoder().encode
"""A command with the events it caused, as the journal has it: MessagePack of these two."""
_decode_entry = msgspec.msgpack.Decoder(_Entry).decode

_REST: Final = Layout("<Qqq")
"""seq, time ns, version of the instrument: what follows the entry in a record"""
pack_rest: Callable[[int, int, int], bytes] = _REST.pack


def unpack(record: bytes, instruments: Sequence[Instrument]) -> Record:
    """`instruments` are by version. Raises msgspec.DecodeError for bytes that are no record."""
    end = len(record) - _REST.size
    if end < 0:
        raise msgspec.DecodeError(f"a record of {len(record)} bytes")
    entry = _decode_entry(memoryview(record)[:end])
    seq, time_ns, version = _REST.unpack_from(record, end)
    return Record(entry.command, seq, time_ns, entry.events, instruments[version])


class _PackedBefore(Struct, array_like=True, gc=False):
    """A record of snapshots of format 2."""

    command: PlaceOrder
    seq: int
    time_ns: int
    events: list[Event]
    version: int


_decode_before = msgspec.msgpack.Decoder(_PackedBefore).decode


def repack(record: bytes) -> bytes:
    """A record of format 2 as it is now. Raises msgspec.DecodeError."""
    kept = _decode_before(record)
    return encode_entry((kept.command, kept.events)) + pack_rest(kept.seq, kept.time_ns, kept.version)


Row = tuple[int, str, bytes]
"""(when it closed or 0, key, record)"""


class Page(Struct):
    """Neighbours in the order of closing, as a snapshot has them."""

    rows: int
    """So many of them are still kept."""
    chunk: bytes
    rows_in_chunk: int
