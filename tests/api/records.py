"""Binary commands and results, as a client in another language would write and read them."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any, NamedTuple

COMMAND = struct.Struct("<BbBBBBH16sQqqqqqq36si")
RESULT = struct.Struct("<HBBIQQqqqq")
SENDER = struct.Struct("<36sB3x")
BINARY = "application/vnd.tradsys.v1+binary"

KINDS = {"place": 1, "cancel": 2, "replace": 3}
SIDES = {"buy": 1, "sell": -1}
TYPES = {"limit": 1, "market": 2, "stop": 3, "stop_limit": 4}
TIFS = {"gtc": 1, "ioc": 2, "fok": 3, "gtd": 4, "day": 5}
STPS = {"none": 0, "cancel_taker": 1, "cancel_maker": 2, "cancel_both": 3}
STATUSES = {1: "new", 2: "partially_filled", 3: "filled", 4: "canceled", 5: "rejected", 6: "expired"}


class Result(NamedTuple):
    code: int
    status: str
    replayed: bool
    fills: int
    seq: int
    order_id: int
    filled: int
    remaining: int
    avg_price: int
    ts: int


def e8(text: str) -> int:
    return int(Decimal(text) * 10**8)


def place(order: dict[str, Any]) -> bytes:
    """The record of an order as JSON has it."""
    tif = order.get("time_in_force", "ioc" if order["type"] == "market" else "gtc")
    return COMMAND.pack(
        KINDS["place"], SIDES[order["side"]], TYPES[order["type"]], TIFS[tif], bool(order.get("post_only")),
        STPS[order.get("stp", "none")], 0, order["symbol"].encode(), 0, e8(order["quantity"]),
        e8(order.get("price", "0")), e8(order.get("stop_price", "0")), e8(order.get("display_quantity", "0")),
        int(order.get("expire_at", "0")), int(order.get("valid_until", "0")),
        order.get("client_order_id", "").encode(), 0,
    )  # fmt: skip


def cancel(number: int) -> bytes:
    return COMMAND.pack(KINDS["cancel"], 0, 0, 0, 0, 0, 0, b"", number, 0, 0, 0, 0, 0, 0, b"", 0)


def replace(symbol: str, number: int, *, quantity: str = "0", price: str = "0", version: int = -1) -> bytes:
    return COMMAND.pack(
        KINDS["replace"], 0, 0, 0, 0, 0, 0, symbol.encode(), number, e8(quantity), e8(price), 0, 0, 0, 0,
        b"", version,
    )  # fmt: skip


def results(body: bytes) -> list[Result]:
    return [
        Result(code, STATUSES[status], bool(flags & 1), *rest)
        for code, status, flags, *rest in RESULT.iter_unpack(body)
    ]
