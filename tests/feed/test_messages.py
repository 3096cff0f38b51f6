"""Messages as bytes: reused buffers carry nothing over, compression is what both sides agreed on."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.feed.feed_venue import FeedVenue, same_book, until
from tradsys.adapters.feed.messages import (
    HEADROOM,
    POOLED_BYTES_MAX,
    Bomb,
    Buffers,
    Encoded,
    agreed_compression,
    deflate,
    inflate,
)


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=300), st.text(max_size=300)), max_size=30))
def test_a_buffer_that_is_used_again_holds_its_new_message_and_nothing_else(messages) -> None:
    buffers = Buffers(3)
    for message in messages:
        is_frame = isinstance(message, bytes)
        buffer = buffers.frame(message) if is_frame else buffers.text(message)
        fresh = Buffers(0).frame(message) if is_frame else Buffers(0).text(message)
        assert buffer[HEADROOM:] == fresh[HEADROOM:]
        # A transport writes its header there.
        buffer[:HEADROOM] = b"\xff" * HEADROOM
        buffers.give_back(Encoded(is_frame, [buffer]))


def test_a_pool_keeps_so_many_buffers_and_counts_hits_and_misses() -> None:
    taken: list[bool] = []
    buffers = Buffers(2, taken.append)
    three = Encoded(False, [buffers.text(n) for n in range(3)])
    buffers.give_back(three)
    assert (len(buffers), three.messages) == (2, [])
    assert buffers.take() is not buffers.take()
    assert buffers.take() == bytearray(HEADROOM)
    assert taken == [False, False, False, True, True, False]


def test_a_buffer_that_grew_too_large_is_not_kept() -> None:
    buffers = Buffers(2)
    buffers.give_back(Encoded(True, [buffers.frame(b"x" * POOLED_BYTES_MAX)]))
    assert len(buffers) == 0


@pytest.mark.parametrize(
    ("offers", "agreed"),
    [
        ([], ""),
        (["x-webkit-deflate-frame"], ""),
        (
            ["permessage-deflate; client_max_window_bits"],
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            ["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            ['permessage-deflate; server_max_window_bits="15"'],
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=12",
        ),
        (["permessage-deflate; server_max_window_bits=8"], ""),
        (["permessage-deflate; server_max_window_bits=fifteen"], ""),
        (["permessage-deflate; go_faster"], ""),
    ],
)
def test_what_is_answered_to_an_offer(offers: list[str], agreed: str) -> None:
    assert agreed_compression(offers) == agreed


def test_a_compressed_message_is_the_message() -> None:
    message = bytearray(HEADROOM) + b'{"a":"' + b"long " * 100 + b'"}'
    packed = deflate(message, 1)[HEADROOM:]
    assert len(packed) < len(message) // 5
    assert inflate(bytes(packed), 1000) == message[HEADROOM:]


def test_small_messages_go_as_they_are() -> None:
    small, large = Buffers(0).text("x"), Buffers(0).text("x" * 500)
    (one, packed), (other, also) = Encoded(False, [small, large]).deflated(1)
    assert (one is small, packed, other is large, also) == (True, False, False, True)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\xff\xff\xff", 1007), (zlib.compress(b"0" * 100_000, wbits=-15), 1009)],
    ids=["no deflate", "bomb"],
)
def test_a_bomb_is_not_unpacked(payload: bytes, code: int) -> None:
    with pytest.raises(Bomb) as met:
        inflate(payload, 65_536)
    assert met.value.code == code


def test_a_client_that_asks_for_it_gets_compressed_messages_and_may_send_some(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed(compression="deflate") as packed, venue.feed() as plain:
        for client in (packed, plain):
            client.subscribe("book", symbol, depth=100)
        orders = [
            {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1", "price": f"{price}"}
            for price in range(100, 160)
        ]
        venue.ok(trader.post("/orders/batch", {"orders": orders}))
        until(lambda: same_book(venue, packed, symbol, 100) and same_book(venue, plain, symbol, 100))

        assert packed.connection.protocol.extensions
        assert not plain.connection.protocol.extensions
        assert packed.of("book")[-1] == plain.of("book")[-1]
