"""JSON objects that mean one thing only, for token headers, claims and key sets."""

from __future__ import annotations

import json
from typing import NoReturn

BRACKETS_MAX = 256


def parse_object(raw: bytes) -> dict[str, object]:
    """Read one JSON object from UTF-8 bytes.

    Raises ValueError for anything else: another encoding, a byte order mark, NaN and Infinity, an
    integer of thousands of digits, more than 256 brackets, and a member that occurs twice at any depth,
    because two readers may differ in which of the two they believe.
    """
    # Bounds the depth too: the interpreter's own limit differs between its versions.
    if raw.count(b"[") + raw.count(b"{") > BRACKETS_MAX:
        raise ValueError("too many brackets")
    value = _DECODER.decode(raw.decode())
    if type(value) is not dict:
        raise ValueError("not an object")
    return value


def _without_duplicates(members: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(members)
    if len(value) != len(members):
        raise ValueError("a member occurs twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError("not a number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
