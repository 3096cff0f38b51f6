"""Message files in LOBSTER format: what one exchange did to the book of one stock on one day.

A line is `time,type,order id,size,price,direction`, optionally with further columns; the file may be gzipped.
Time is in seconds after midnight, price in dollars × 10000, direction 1 for a buy and −1 for a sell
order; for an execution that is the side of the order that rested.

    type  what                                          price of type 7
    1     new limit order                               −1  trading halt
    2     part of an order is canceled                   0  quoting resumes
    3     an order is canceled                           1  trading resumes
    4     a visible order is executed
    5     a hidden order is executed
    6     a cross (auction), told in sum
    7     the trading state changes

Format: lobsterdata.com, "Data structure".
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from msgspec import Struct

from tradsys.flow.book import BUY, SELL

NEW, REDUCED, DELETED, EXECUTED, HIDDEN_EXECUTED, CROSS, STATE = 1, 2, 3, 4, 5, 6, 7
TYPE_WORDS = {
    NEW: "new order",
    REDUCED: "partial cancel",
    DELETED: "delete",
    EXECUTED: "visible execution",
    HIDDEN_EXECUTED: "hidden execution",
    CROSS: "cross",
    STATE: "trading state",
}
HALTED, QUOTING, TRADING = -1, 0, 1

PRICE_SCALE = 10_000
EMPTY_ASK = 9_999_999_999
EMPTY_BID = -9_999_999_999
"""How LOBSTER writes the price of a side without orders; the size is 0."""


class LobsterError(Exception):
    """The file is not in LOBSTER format; names the line."""


class Message(NamedTuple):
    line: int
    time_ns: int
    """After midnight, exchange time."""
    type: int
    order_id: int
    size: int
    price: int
    direction: int


class Survey(Struct):
    """What must be known of a file before it is replayed."""

    messages: int = 0
    on_cents: bool = True
    """Every price is a whole number of cents."""
    size_max: int = 0
    price_max: int = 0


def open_lines(path: Path) -> IO[str]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="ascii") if zipped else path.open(encoding="ascii")


def read_messages(path: Path) -> Iterator[Message]:
    """The messages in order. Raises LobsterError, and OSError if the file can't be read."""
    number = 0
    with open_lines(path) as lines:
        try:
            for line in lines:
                number += 1
                if line.isspace():
                    continue
                time, kind, order_id, size, price, direction = line.split(",", 6)[:6]
                seconds, _, fraction = time.partition(".")
                yield Message(
                    number,
                    int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0")),
                    int(kind),
                    int(order_id),
                    int(size),
                    int(price),
                    int(direction),
                )
        except ValueError as fault:
            raise LobsterError(f"{path}: line {number}: {fault}") from None
        except (EOFError, gzip.BadGzipFile) as fault:
            raise LobsterError(f"{path}: after line {number}: {fault}") from None


def survey(path: Path) -> Survey:
    found = Survey()
    for message in read_messages(path):
        found.messages += 1
        if message.type not in TYPE_WORDS:
            raise LobsterError(f"{path}: line {message.line}: unknown message type {message.type}")
        if message.type <= EXECUTED:
            if message.price <= 0 or message.size <= 0 or message.direction not in (BUY, SELL):
                raise LobsterError(f"{path}: line {message.line}: not an order: {message[1:]}")
            found.on_cents = found.on_cents and message.price % 100 == 0
            found.size_max = max(found.size_max, message.size)
            found.price_max = max(found.price_max, message.price)
    return found
