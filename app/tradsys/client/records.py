"""The binary form of a batch, from the client's side: 120-byte commands, 56-byte results.

Amounts are integers of 1e-8, whatever the symbol's grid. Commands of all kinds may stand in one batch
and are processed in their order. The layouts are those of `tradsys.codec`.
"""

from __future__ import annotations

from typing import NamedTuple

from tradsys.codec.binary_v1 import CANCEL, COMMAND, MEDIA_TYPE, PLACE, POST_ONLY, REPLACE, REPLAYED, RESULT
from tradsys.core.messages import GTC, IOC, MARKET, SIDE_WORDS, STATUS_WORDS, TIME_IN_FORCE_WORDS, TYPE_WORDS

RECORDS_TYPE = MEDIA_TYPE

_SIDES: dict[str, int] = {word: value for value, word in SIDE_WORDS.items()}
_TYPES: dict[str, int] = {word: value for value, word in TYPE_WORDS.items()}
_TIMES_IN_FORCE: dict[str, int] = {word: value for value, word in TIME_IN_FORCE_WORDS.items()}


class Result(NamedTuple):
    """What became of one command of a batch."""

    code: int
    """0, or the code of the refusal."""
    status: str
    """Of the order."""
    replayed: bool
    fills: int
    seq: int
    order_id: int
    filled: int
    remaining: int
    avg_price: int
    ts: int


def place_record(
    *,
    symbol: str,
    side: str,
    quantity: int,
    price: int = 0,
    type: str = "limit",
    time_in_force: str = "",
    stop_price: int = 0,
    display_quantity: int = 0,
    post_only: bool = False,
    client_order_id: str = "",
) -> bytes:
    """An order in the words of `POST /orders`; without a time in force it is gtc, of a market order ioc."""
    kind = _TYPES[type]
    lasting = _TIMES_IN_FORCE[time_in_force] if time_in_force else IOC if kind == MARKET else GTC
    return COMMAND.pack(
        PLACE, _SIDES[side], kind, lasting, POST_ONLY if post_only else 0, 0, 0, symbol.encode(), 0,
        quantity, price, stop_price, display_quantity, 0, 0, client_order_id.encode(), -1,
    )  # fmt: skip


def cancel_record(order: int) -> bytes:
    """`order` is the number in the order's id."""
    return COMMAND.pack(CANCEL, 0, 0, 0, 0, 0, 0, b"", order, 0, 0, 0, 0, 0, 0, b"", -1)


def replace_record(symbol: str, order: int, quantity: int, price: int = 0) -> bytes:
    """`quantity` is the new total; 0 leaves quantity or price as it is."""
    return COMMAND.pack(
        REPLACE, 0, 0, 0, 0, 0, 0, symbol.encode(), order, quantity, price, 0, 0, 0, 0, b"", -1
    )


def results(body: bytes) -> list[Result]:
    """A result for each command, in their order."""
    return [
        Result(code, STATUS_WORDS[status], bool(flags & REPLAYED), *facts)
        for code, status, flags, *facts in RESULT.iter_unpack(body)
    ]
