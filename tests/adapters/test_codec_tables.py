"""The tables of codec/README.md are what the code packs: offset, length and type of each field."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

import tradsys.codec
from tests.api import records
from tradsys.codec import binary_v1, frame

README = (Path(tradsys.codec.__file__).parent / "README.md").read_text()
TYPES = {"u8": "B", "i8": "b", "u16": "H", "u32": "I", "i32": "i", "u64": "Q", "i64": "q"}
Field = tuple[int, int, str]
"""offset, length, struct's letter"""


def table_after(words: str) -> list[Field]:
    """The fields of the table that follows these words; texts and zeros as bytes."""
    rows = README[README.index(words) :].split("\n|", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    fields = []
    for row in rows:
        offset, length, _name, kind, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        if offset.isdigit() and length.isdigit():
            fields.append((int(offset), int(length), TYPES.get(kind, "s")))
    return fields


def fields_of(layout: struct.Struct) -> list[Field]:
    assert layout.format.startswith("<")
    fields, offset = [], 0
    for count, letter in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        length = struct.calcsize(f"<{count}{letter}")
        many = int(count or 1) if letter not in "sx" else 1
        for i in range(many):
            fields.append((offset + i * length // many, length // many, "s" if letter == "x" else letter))
        offset += length
    return fields


@pytest.mark.parametrize(
    ("words", "layout"),
    [
        ("A **command**:", binary_v1.COMMAND),
        ("A **sender**,", binary_v1.SENDER),
        ("A **result**:", binary_v1.RESULT),
    ],
)
def test_a_layout_is_its_table(words: str, layout: struct.Struct) -> None:
    assert table_after(words) == fields_of(layout)


def test_the_frames_header_is_its_table() -> None:
    header = [field for field in table_after("A **frame**") if field[0] < frame.HEADER.size]

    assert header == fields_of(frame.HEADER)


def test_the_sizes_that_the_page_names() -> None:
    sizes = [layout.size for layout in (binary_v1.COMMAND, binary_v1.RESULT)]

    assert [f"of {size} bytes" in README.replace("\n", " ") for size in sizes] == [True, True]


def test_what_the_tests_write_and_read_is_what_the_venue_reads_and_writes() -> None:
    mine = (records.COMMAND, records.RESULT, records.SENDER)

    assert [layout.format for layout in mine] == [
        layout.format for layout in (binary_v1.COMMAND, binary_v1.RESULT, binary_v1.SENDER)
    ]
