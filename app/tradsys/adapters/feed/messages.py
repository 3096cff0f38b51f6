"""Messages as they go out: encoded once into a buffer, compressed once, sent to any number of clients.

A buffer has room in front, where the transport writes the frame's header; so what is sent to a thousand
clients lies in memory once and is copied for none of them. (Only bytes that a socket does not take at once
are copied, by the transport.) Buffers are used again when their message is no longer kept: an encoder begins
behind the room in front and cuts the buffer where it ends, so nothing of an earlier message is left.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import msgspec

HEADROOM = 14
"""Bytes in front of a message; picows asks for so many."""
POOLED_BYTES_MAX = 64 << 10
"""A buffer that once held more is not kept: a few snapshots would hold memory for ever."""
COMPRESSED_FROM = 200
"""Bytes of a message; below, compression costs more than it saves."""

# A window of 4 KiB and little memory: a context that is made for each message costs 25 µs like this, and
# 107 µs with zlib's defaults, for the same size.
WINDOW_BITS, MEMORY_LEVEL = 12, 5
_SYNC_TAIL = b"\x00\x00\xff\xff"


class Encoded:
    """One change or snapshot in one form: the messages that are sent, in order."""

    __slots__ = ("_deflated", "binary", "messages", "size")

    def __init__(self, binary: bool, messages: list[bytearray]) -> None:
        self.binary = binary
        self.messages = messages
        self.size = sum(map(len, messages)) - HEADROOM * len(messages)
        """Payload bytes."""
        self._deflated: list[tuple[bytearray, bool]] | None = None

    def deflated(self, level: int) -> list[tuple[bytearray, bool]]:
        """The same for those who take compressed messages: (message, is compressed)."""
        if self._deflated is None:
            self._deflated = [
                (deflate(message, level), True)
                if len(message) >= COMPRESSED_FROM + HEADROOM
                else (message, False)
                for message in self.messages
            ]
        return self._deflated

    def forget(self) -> None:
        """Its buffers belong to others now."""
        self.messages = []
        self._deflated = None


class Buffers:
    """Encodes messages into buffers, and keeps up to `size` of them for reuse."""

    def __init__(self, size: int, count: Callable[[bool], None] = lambda hit: None) -> None:
        """`count` hears of each taken buffer whether it was a kept one."""
        self._size = size
        self._free: list[bytearray] = []
        self._count = count
        self._encode_into = msgspec.json.Encoder().encode_into

    def take(self) -> bytearray:
        hit = bool(self._free)
        self._count(hit)
        return self._free.pop() if hit else bytearray(HEADROOM)

    def text(self, message: Any) -> bytearray:
        """A message as JSON."""
        buffer = self.take()
        self._encode_into(message, buffer, HEADROOM)
        return buffer

    def frame(self, frame: bytes) -> bytearray:
        """A binary message."""
        buffer = self.take()
        buffer[HEADROOM:] = frame
        return buffer

    def give_back(self, encoded: Encoded) -> None:
        """Nobody will send this any more."""
        for buffer in encoded.messages:
            if len(self._free) < self._size and len(buffer) <= POOLED_BYTES_MAX:
                self._free.append(buffer)
        encoded.forget()

    def __len__(self) -> int:
        return len(self._free)


def deflate(message: bytearray, level: int) -> bytearray:
    """A message compressed by itself (RFC 7692 without context takeover), so that all clients share it."""
    press = zlib.compressobj(level, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
    packed = bytearray(HEADROOM)
    packed += press.compress(memoryview(message)[HEADROOM:])
    packed += press.flush(zlib.Z_SYNC_FLUSH)
    del packed[-len(_SYNC_TAIL) :]
    return packed


class Bomb(Exception):
    """A compressed message is larger than allowed, or not compressed at all."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code
        """Of the close: 1009 too big, 1007 not what it says to be."""


def inflate(payload: bytes, bytes_max: int) -> bytes:
    """A client's compressed message. Raises Bomb."""
    press = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        message = press.decompress(payload + _SYNC_TAIL, bytes_max + 1)
    except zlib.error:
        raise Bomb(1007) from None
    if len(message) > bytes_max:
        raise Bomb(1009)
    return message


def agreed_compression(offers: list[str]) -> str:
    """What the venue answers to the extensions that a client offers; "" none of them."""
    for offer in (part.strip() for line in offers for part in line.split(",")):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name != "permessage-deflate":
            continue
        window = ""
        for parameter in parameters:
            word, _, value = parameter.partition("=")
            if word == "server_max_window_bits":
                bits = value.strip('"')
                if not bits.isdigit() or not WINDOW_BITS <= int(bits) <= 15:
                    break
                window = f"; server_max_window_bits={WINDOW_BITS}"
            elif word not in (
                "client_max_window_bits",
                "server_no_context_takeover",
                "client_no_context_takeover",
            ):
                break
        else:
            return f"permessage-deflate; server_no_context_takeover; client_no_context_takeover{window}"
    return ""
