"""Frames as bytes: what is encoded comes back, and nothing else is ever taken for a frame."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradsys.codec.frame import (
    CLOSED_FRAME,
    COMMANDS_FRAME,
    EPOCH_FRAME,
    FRAME_OVERHEAD,
    GENESIS,
    HEADER,
    SEGMENT_FRAME,
    Entry,
    FrameError,
    RawFrame,
    UnknownFrame,
    decode_entries,
    decode_frame,
    decode_segment_payload,
    encode_frame,
    encode_payload,
    encode_segment_payload,
    first_difference,
    frame_size,
)
from tradsys.core.messages import (
    BUY,
    GTC,
    LIMIT,
    CancelOrder,
    Instrument,
    Limits,
    PlaceOrder,
    Rules,
    SetLimits,
    SetRules,
)
from tradsys.core.messages import DefineInstrument as Define

PLACED = Entry(
    PlaceOrder("demo", "BTC-USD", BUY, LIMIT, GTC, 5_000, 6_125_050, client_order_id="c-1"),
    [(1, 7), (4, 7, 1, 6_125_050, 5_000, 5_000)],
)
REFUSED = Entry(CancelOrder("demo", 3), [(2, 1007, 0, 0)])


def a_frame(chain=GENESIS, kind=COMMANDS_FRAME, count=2, payload=None, **fields) -> bytes:
    given = {"durable": False, "epoch": 3, "first_seq": 7, "time_ns": 1_700_000_000_000_000_000} | fields
    payload = encode_payload([PLACED, REFUSED]) if payload is None else payload
    return encode_frame(chain, kind, count=count, payload=payload, **given)


def test_a_frame_comes_back_with_all_its_fields():
    frame = a_frame(durable=True)

    raw = decode_frame(GENESIS + frame, 16, 7)

    assert raw == RawFrame(
        kind=COMMANDS_FRAME,
        durable=True,
        epoch=3,
        first_seq=7,
        count=2,
        time_ns=1_700_000_000_000_000_000,
        payload=encode_payload([PLACED, REFUSED]),
        chain=frame[-16:],
    )
    assert decode_entries(raw) == [PLACED, REFUSED]
    assert raw.last_seq == 8
    assert frame_size(frame, 0) == len(frame) == FRAME_OVERHEAD + len(raw.payload)


def test_the_chain_is_blake2b_over_the_chain_before_the_header_and_the_payload():
    chain = bytes(range(16))
    frame = a_frame(chain)

    assert frame[-16:] == blake2b(chain + frame[:-16], digest_size=16).digest()


def test_the_bytes_of_a_frame_are_those_of_the_table():
    frame = a_frame(kind=EPOCH_FRAME, count=0, payload=b"", durable=True)

    assert frame[: HEADER.size].hex(" ", 4) == (
        "f554534a 01020100 00000000 00000000 03000000 00000000 07000000 00000000 00002a36 fe9c9717"
    )


commands = st.one_of(
    st.builds(
        PlaceOrder,
        account=st.text(max_size=36),
        symbol=st.text(max_size=16),
        side=st.sampled_from([1, -1]),
        type=st.integers(1, 4),
        time_in_force=st.integers(1, 5),
        qty=st.integers(0, 2**63 - 1),
        price=st.integers(0, 2**63 - 1),
        client_order_id=st.text(max_size=36),
        post_only=st.booleans(),
    ),
    st.builds(CancelOrder, account=st.text(max_size=36), order_id=st.integers(0, 2**63 - 1)),
    st.builds(SetRules, rules=st.builds(Rules, account_orders_max=st.integers(0, 2**63 - 1))),
    st.builds(SetLimits, account=st.text(max_size=9), limits=st.builds(Limits)),
    st.builds(
        Define,
        instrument=st.builds(
            Instrument,
            symbol=st.just("A-B"),
            base=st.just("A"),
            quote=st.just("B"),
            tick_size=st.integers(1, 2**63 - 1),
            lot_size=st.integers(1, 2**63 - 1),
        ),
    ),
)
events = st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=10).map(tuple)
entries = st.builds(Entry, command=commands, events=st.lists(events, max_size=5))


@given(st.lists(entries, min_size=1, max_size=5), st.binary(min_size=16, max_size=16))
def test_every_batch_comes_back_and_encodes_to_the_same_bytes_again(batch, chain):
    frame = a_frame(chain, count=len(batch), payload=encode_payload(batch))

    raw = decode_frame(chain + frame, 16, 7)

    assert decode_entries(raw) == batch
    assert encode_payload(decode_entries(raw)) == raw.payload


@given(st.integers(0, 8 * (16 + len(a_frame())) - 1))
def test_no_bit_can_turn_unnoticed(bit):
    data = bytearray(GENESIS + a_frame())
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises(FrameError) as refused:
        decode_frame(bytes(data), 16, 7)

    assert type(refused.value) is FrameError
    assert (refused.value.offset, refused.value.seq) == (16, 7)


def test_a_frame_behind_another_frame_than_its_own_is_none():
    first = a_frame(first_seq=7)
    second = a_frame(first[-16:], first_seq=9)
    instead = a_frame(first_seq=7, time_ns=1)

    assert decode_frame(first + second, len(first), 9).first_seq == 9
    with pytest.raises(FrameError, match="hash differs"):
        decode_frame(instead + second, len(instead), 9)


@pytest.mark.parametrize("length", range(0, len(a_frame()), 13))
def test_a_frame_cut_short_is_none(length):
    with pytest.raises(FrameError):
        decode_frame(GENESIS + a_frame()[:length], 16, 7)


@given(st.binary(max_size=200), st.integers(0, 250))
def test_any_bytes_give_a_frame_error_and_nothing_else(data, at):
    assert frame_size(data, at) >= 0
    with pytest.raises(FrameError):
        decode_frame(data, at, 1)


def rehashed(frame: bytes) -> bytes:
    return frame[:-16] + blake2b(GENESIS + frame[:-16], digest_size=16).digest()


@pytest.mark.parametrize(("at", "value"), [(4, 2), (5, 9), (6, 2), (7, 1)])
def test_a_whole_frame_of_a_newer_release_is_told_from_damage(at, value):
    frame = bytearray(a_frame())
    frame[at] = value

    with pytest.raises(UnknownFrame, match="not known to this release"):
        decode_frame(GENESIS + rehashed(bytes(frame)), 16, 7)


@pytest.mark.parametrize(
    ("payload", "count", "detail"),
    [
        (b"", 0, "payload"),
        (b"\xc1", 1, "payload"),
        (encode_payload([PLACED])[:-1], 1, "payload"),
        (b"\x91\x92\x93\x63\x01\x02\x90", 1, "payload"),
        (b"\x91\x92\x94\x03\xa2\xff\xff\x03\xa0\x90", 1, "payload"),
        (encode_payload([PLACED]), 2, "1 commands, 2 announced"),
    ],
    ids=["empty", "no value", "cut", "unknown command", "no UTF-8", "another count"],
)
def test_a_payload_that_is_no_batch_is_refused_with_its_seq(payload, count, detail):
    raw = decode_frame(GENESIS + a_frame(payload=payload, count=count), 16, 7)

    with pytest.raises(FrameError, match=detail) as refused:
        decode_entries(raw)

    assert refused.value.seq == 7


def test_a_segments_first_frame_carries_its_index():
    frame = a_frame(kind=SEGMENT_FRAME, count=0, payload=encode_segment_payload(12))

    assert decode_segment_payload(decode_frame(GENESIS + frame, 16, 7)) == 12


def test_a_segment_payload_without_an_index_is_refused():
    frame = a_frame(kind=CLOSED_FRAME, count=0, payload=b"")

    with pytest.raises(FrameError, match="payload"):
        decode_segment_payload(decode_frame(GENESIS + frame, 16, 7))


def test_the_first_difference_of_two_payloads_is_named_by_its_index():
    ours = encode_payload([PLACED, REFUSED])

    assert first_difference(ours, encode_payload([PLACED, Entry(REFUSED.command, [])])) == 1
    assert first_difference(ours, encode_payload([REFUSED, REFUSED])) == 0
    assert first_difference(ours, encode_payload([PLACED])) == 1


def test_an_integer_beyond_64_bits_can_not_be_journalled():
    with pytest.raises(OverflowError):
        encode_payload([Entry(REFUSED.command, [(2, 3001, 2**64, 0)])])
