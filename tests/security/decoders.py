"""What each decoder promises for any bytes, as one check a decoder; and good inputs to start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from tests.api import records
from tradsys.codec import binary_v1, json_v1
from tradsys.codec.decimals import (
    AMOUNT_MAX,
    UNITS_MAX,
    DecimalError,
    Grid,
    amount_of,
    grid_of,
    signed_amount_of,
    text_of,
)
from tradsys.codec.errors import ERRORS, Problem
from tradsys.codec.frame import (
    COMMANDS_FRAME,
    Entry,
    FrameError,
    decode_entries,
    decode_frame,
    decode_segment_payload,
    encode_frame,
    encode_payload,
)
from tradsys.codec.json_order import place_command
from tradsys.core import messages as m

NOW = 10**18
GRID = grid_of(m.Instrument("BTC-USD", "BTC", "USD", 10**6, 10**3))
GRIDS = {"BTC-USD": GRID}
REPLACEMENT = json_v1.decoder(json_v1.Replacement)
ORDER_IDS = json_v1.decoder(json_v1.OrderIds)

ORDERS = [
    b'{"symbol":"BTC-USD","side":"buy","type":"limit","quantity":"1.5","price":"50000.01"}',
    b'{"symbol":"BTC-USD","side":"sell","type":"market","quantity":"0.00001","client_order_id":"k_1-A"}',
    b'{"symbol":"BTC-USD","side":"buy","type":"stop_limit","quantity":"2","price":"3","stop_price":"2",'
    b'"time_in_force":"gtd","expire_at":"4000000000000000000","stp":"cancel_both","valid_until":"0"}',
    b'{"symbol":"BTC-USD","side":"sell","type":"limit","quantity":"7","price":"1","display_quantity":"3",'
    b'"post_only":true,"time_in_force":"day"}',
]
BATCHES = [b'{"orders":[' + b",".join(ORDERS[: n + 1]) + b"]}" for n in range(len(ORDERS))]
CHANGES = [
    b'{"quantity":"1.5","price":"2.50","version":3}',
    b'{"order_ids":["a-1","a-18"]}',
    b'{"price":"1"}',
]
SPOT = {"symbol": "BTC-USD", "quantity": "1"}
RECORDS = [
    records.place(SPOT | {"side": "buy", "type": "limit", "price": "50000.01"}),
    records.place(SPOT | {"side": "sell", "type": "market", "client_order_id": "k"}),
    records.cancel(7),
    records.replace("BTC-USD", 7, quantity="2", price="3", version=1),
]
SENT = [records.SENDER.pack(b"alice", 1) + record for record in RECORDS]
DECIMALS = [b"0", b"1", b"50000.01", b"0.00000001", b"46116860184.27387904", b"-12.5", b"1.000000000000"]
PLACED = m.PlaceOrder("alice", "BTC-USD", m.BUY, m.LIMIT, m.GTC, 5, 100, client_order_id="k")
ENTRIES = [Entry(PLACED, [(1, 9), (4, 9, 1, 100, 5, 5)]), Entry(m.CancelOrder("alice", 9), [(5, 9, 4, 1, 5)])]
BEFORE = bytes(16)


def framed(payload: bytes) -> bytes:
    return BEFORE + encode_frame(BEFORE, COMMANDS_FRAME, False, 1, 9, len(ENTRIES), NOW, payload)


def with_problems(decode: Callable[[], Iterable[m.Command | Problem]]) -> None:
    """Decode; commands must be such as can be applied and journalled, errors typed and fit to be sent."""
    try:
        found = list(decode())
    except Problem as problem:
        found = [problem]
    for one in found:
        if isinstance(one, Problem):
            assert one.code in ERRORS and one.status in (400, 404, 422), one
            assert "Error" not in one.message and len(one.message) < 300, one.message
            msgspec.json.encode([one.message, one.details])
        else:
            _check_command(one)


def _check_command(command: m.Command) -> None:
    if isinstance(command, m.PlaceOrder):
        assert 0 < command.qty <= UNITS_MAX and 0 <= command.price <= UNITS_MAX
        assert 0 <= command.display_qty <= command.qty and 0 <= command.stop_price <= UNITS_MAX
        assert 0 <= command.expire_at < 2**63 and 0 <= command.valid_until < 2**63
        assert command.side in m.SIDE_WORDS and command.type in m.TYPE_WORDS
        assert command.time_in_force in m.TIME_IN_FORCE_WORDS and command.stp in m.STP_WORDS
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=m.Command) == command


# --- the checks -------------------------------------------------------------------------------------


def json_order(data: bytes) -> None:
    with_problems(lambda: [place_command(json_v1.decode_new_order(data), "alice", GRID, NOW, "id")])


def json_batch(data: bytes) -> None:
    orders: list[json_v1.NewOrder | Problem] = []
    with_problems(lambda: orders.extend(json_v1.decode_new_orders(data)) or [])
    for one in orders:
        if not isinstance(one, Problem):
            with_problems(lambda one=one: [place_command(one, "alice", GRID, NOW, "id")])


def json_changes(data: bytes) -> None:
    with_problems(lambda: [json_v1.replace_command(json_v1.decode(REPLACEMENT, data), "alice", 7, GRID, "")])
    ids: list[str] = []
    with_problems(lambda: ids.extend(json_v1.decode(ORDER_IDS, data).order_ids) or [])
    numbers = [json_v1.order_number(one, "a") for one in ids]
    assert all(0 <= number < 2**63 for number in numbers)


def grid_of_order(account: str, number: int) -> Grid | None:
    return GRID if number % 2 else None


def binary_batch(data: bytes) -> None:
    with_problems(lambda: binary_v1.commands(data, "alice", GRIDS.get, grid_of_order, NOW))


def internal_batch(data: bytes) -> None:
    with_problems(
        lambda: [one for _, one in binary_v1.internal_commands(data, GRIDS.get, grid_of_order, NOW)]
    )


def decimal(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for read in (amount_of, signed_amount_of, GRID.ticks, GRID.lots):
        try:
            units = read(text)
        except DecimalError as error:
            assert len(error.problem) < 100
            continue
        assert abs(units) <= AMOUNT_MAX
        if read is amount_of:
            assert amount_of(text_of(units)) == units
            assert text_of(units) == (text.rstrip("0").rstrip(".") if "." in text else text)


def journal_frame(data: bytes) -> None:
    """Guided by what is compared, a fuzzer writes the right hash: then the rest has to be typed as well."""
    try:
        frame = decode_frame(data, 16, 9)
        entries = decode_entries(frame)
    except FrameError as error:
        assert str(error)
        return
    assert len(entries) == frame.count and frame.last_seq == frame.first_seq + frame.count - 1


def journal_payload(data: bytes) -> None:
    """A frame that is whole, and holds anything: what a newer or a broken writer may leave."""
    frame = decode_frame(framed(data), 16, 9)
    for decode in (decode_entries, decode_segment_payload):
        try:
            decode(frame)
        except FrameError as error:
            assert str(error)


Check = Callable[[bytes], None]
CHECKS: dict[str, tuple[Check, list[bytes]]] = {
    "json_order": (json_order, ORDERS),
    "json_batch": (json_batch, BATCHES),
    "json_changes": (json_changes, CHANGES),
    "binary_batch": (binary_batch, [*RECORDS, b"".join(RECORDS)]),
    "internal_batch": (internal_batch, [*SENT, b"".join(SENT)]),
    "decimal": (decimal, DECIMALS),
    "journal_frame": (journal_frame, [framed(encode_payload(ENTRIES))]),
    "journal_payload": (journal_payload, [encode_payload(ENTRIES), msgspec.msgpack.encode((7,))]),
}
