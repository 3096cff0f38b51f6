"""W4: what no client should do, over raw sockets. Each is cut off or answered; others go on in flat memory.

COUNT_W4 attempts, each with the next of the vectors (all of them once; several times in a release).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.feed.feed_venue import FeedVenue, feed_venue, same_book, until
from tests.reliability.readers import resident_bytes

CUT_S = 30.0
"""How long the feed may take to cut somebody off, on a machine that does other work."""
GROWN_BYTES_MAX = 24 << 20
"""Over all vectors: caches and arenas fill once."""

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    with feed_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, flags: int = 0, mask: bool = True) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | flags | opcode])
    masked = 0x80 if mask else 0
    if size < 126:
        head += bytes([masked | size])
    elif size < 65536:
        head += bytes([masked | 126]) + struct.pack(">H", size)
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", size)
    return head + (bytes(4) if mask else b"") + payload


def text(body: str) -> bytes:
    return frame(1, body.encode())


def subscribe(symbol: str, name: str = "book", id: int = 1, op: str = "subscribe") -> bytes:
    return text(f'{{"op":"{op}","id":{id},"channels":[{{"name":"{name}","symbols":["{symbol}"]}}]}}')


def packed(body: bytes) -> bytes:
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (press.compress(body) + press.flush(zlib.Z_SYNC_FLUSH))[:-4]


def get(head: bytes, path: bytes = b"/ws") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + head + b"\r\n"


OPEN = get(UPGRADE + KEY)
OPEN_DEFLATED = get(UPGRADE + KEY + DEFLATE)

Sent = bytes | Callable[[str], bytes]

# What is sent, and whether the feed ends the connection for it.
VECTORS: dict[str, tuple[Sent, bool]] = {
    # The way in.
    "plain GET": (get(b"Host: x\r\n"), True),
    "old version": (get(UPGRADE + KEY.replace(b": 13", b": 8")), True),
    "no key": (get(UPGRADE + b"Sec-WebSocket-Version: 13\r\n"), True),
    "POST": (OPEN.replace(b"GET", b"POST", 1), True),
    "other path": (get(UPGRADE + KEY, b"/ws/../admin"), True),
    "page of elsewhere": (get(UPGRADE + KEY + b"Origin: https://evil.example\r\n"), True),
    "null origin": (get(UPGRADE + KEY + b"Origin: null\r\n"), True),
    "unknown subprotocol": (get(UPGRADE + KEY + b"Sec-WebSocket-Protocol: soap\r\n"), True),
    "huge header": (get(UPGRADE + KEY + b"X: " + b"y" * 200_000 + b"\r\n"), True),
    "endless line": (b"GET /ws?" + b"a" * 1_000_000, True),
    "noise": (bytes(range(256)) * 20, True),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n", True),
    "half a handshake": (OPEN[:60], False),
    "nothing at all": (b"", False),
    # Frames.
    "unmasked": (OPEN + frame(1, b'{"op":"ping"}', mask=False), False),
    "rsv1 that was not agreed on": (OPEN + frame(1, b"{}", flags=0x40), True),
    "rsv2": (OPEN + frame(1, b"{}", flags=0x20), True),
    "rsv3": (OPEN + frame(1, b"{}", flags=0x10), True),
    "reserved opcode": (OPEN + frame(3, b"{}"), True),
    "reserved control opcode": (OPEN + frame(0xB, b""), True),
    "long ping": (OPEN + frame(9, b"x" * 200), True),
    "ping in pieces": (OPEN + frame(9, b"x", fin=False), True),
    "continues nothing": (OPEN + frame(0, b"{}"), True),
    "text within text": (OPEN + frame(1, b"{", fin=False) + frame(1, b"{}"), True),
    "2^63 bytes": (OPEN + b"\x81\xff" + b"\xff" * 8 + bytes(4) + b"x" * 100, True),
    "4 GiB announced": (OPEN + b"\x81\xff" + struct.pack(">Q", 1 << 32) + bytes(4), True),
    "above the limit": (OPEN + frame(1, b"x" * 70_000), True),
    "binary": (OPEN + frame(2, b"\0" * 100), True),
    "endless pieces": (OPEN + frame(1, b"", fin=False) + frame(0, b"", fin=False) * 70_000, True),
    "large pieces": (OPEN + frame(1, b"x" * 1000, fin=False) + frame(0, b"x" * 1000, fin=False) * 80, True),
    "close of one byte": (OPEN + frame(8, b"\x03"), True),
    "close and go on": (OPEN + frame(8, b"\x03\xe8") + text('{"op":"ping"}') * 100, True),
    "half a frame": (OPEN + text('{"op":"ping","id":1}')[:-5], False),
    # Compression.
    "bomb": (OPEN_DEFLATED + frame(1, packed(b" " * 30_000_000), flags=0x40), True),
    "no deflate": (OPEN_DEFLATED + frame(1, b"\xff" * 50, flags=0x40), True),
    "compressed ping": (OPEN_DEFLATED + frame(9, b"x", flags=0x40), False),
    # Requests.
    "no UTF-8": (OPEN + frame(1, b'{"op":"\xff\xfe"}'), False),
    "deep": (OPEN + text("[" * 60_000), False),
    "huge number": (OPEN + text('{"op":"ping","id":1e400}'), False),
    "many bad symbols": (OPEN + subscribe('X","' * 900 + "X"), False),
    "forged token": (OPEN + text('{"op":"auth","id":1,"token":"' + "e" * 16_000 + '"}'), True),
    "flood of requests": (OPEN + text('{"op":"ping","id":1}') * 5_000, False),
    "flood of pings": (OPEN + frame(9, b"x" * 100) * 20_000, False),
    "flood of orders without a token": (OPEN + text('{"op":"order.place","id":1,"order":{}}') * 3_000, False),
    "flood of snapshots": (lambda symbol: OPEN + subscribe(symbol) * 2_000, False),
    "flood of resyncs": (
        lambda symbol: OPEN + subscribe(symbol) + subscribe(symbol, op="resync") * 2_000,
        False,
    ),
    "comes and goes": (
        lambda symbol: OPEN + (subscribe(symbol) + subscribe(symbol, op="unsubscribe")) * 1_000,
        False,
    ),
}  # fmt: skip
COUNT = int(os.environ.get("COUNT_W4", str(len(VECTORS))))


def attempt(venue: FeedVenue, symbol: str, sent: Sent) -> socket.socket:
    """Send it all without reading anything; who is cut off meanwhile has got what it wanted."""
    sock = socket.create_connection(("127.0.0.1", venue.ws_port), timeout=10)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    data = sent(symbol) if callable(sent) else sent
    # The feed stops reading from those who don't read; that must not stop the test.
    sock.settimeout(2)
    with contextlib.suppress(OSError):
        sock.sendall(data)
    return sock


def is_ended(sock: socket.socket) -> bool:
    """The other side has hung up, after whatever it had to say."""
    sock.settimeout(CUT_S)
    deadline = time.monotonic() + CUT_S
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < deadline:
            try:
                if not sock.recv(65_536):
                    return True
            except TimeoutError:
                return False
        return False
    return True


def test_abuse_ends_with_the_abuser(venue):
    symbol = venue.market()
    trader = venue.account(mode="limits")
    names = list(VECTORS)
    with venue.feed(ping_interval=None) as healthy:
        healthy.subscribe("book", symbol)
        # Each has been tried once before memory is looked at: what is filled once is no leak.
        held: list[socket.socket] = []
        before = 0
        for number in range(COUNT):
            name = names[number % len(names)]
            sent, ends = VECTORS[name]
            sock = attempt(venue, symbol, sent)
            if ends:
                assert is_ended(sock), f"{name}: was not cut off"
                sock.close()
            else:
                held.append(sock)
            if number % 8 == 7:
                trader.placed(symbol, "buy", "1", f"{100 + number}")
                healthy.asked("ping")
            if number == min(COUNT, len(names)) - 1:
                before = resident_bytes(venue.processes["feed"].pid)
        for sock in held:
            sock.close()
        trader.placed(symbol, "buy", "1", "99")
        until(lambda: same_book(venue, healthy, symbol))
        healthy.asked("ping")

        book = healthy.book(symbol)
        assert (book.snapshots, book.gaps) == (1, 0)
        grown = resident_bytes(venue.processes["feed"].pid) - before
        print(
            f"\nW4: {COUNT} attempts, {len(names)} vectors; {grown / 1024:.0f} KiB after each had been tried"
        )
        assert grown <= GROWN_BYTES_MAX
        until(lambda: clients_of(venue) == 1, "connections of abusers are still there")


def clients_of(venue: FeedVenue) -> int:
    rows = venue.send("GET", "/metrics", port=venue.ports["feed_ops_port"]).body.decode().splitlines()
    return sum(int(float(row.split()[1])) for row in rows if row.startswith("tradsys_feed_clients{"))
