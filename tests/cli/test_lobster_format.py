"""Reading message files in LOBSTER format."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.cli.lobster_sample import sample
from tradsys.flow.lobster import LobsterError, Message, read_messages, survey

ROWS = "34200.017459617,5,0,1,2238200,-1\n34200.189607670,1,11885113,21,2238100,1\n"


def test_a_message_is_read_exactly(tmp_path: Path):
    path = tmp_path / "messages.csv"
    path.write_text(ROWS)

    assert list(read_messages(path)) == [
        Message(1, 34_200_017_459_617, 5, 0, 1, 2_238_200, -1),
        Message(2, 34_200_189_607_670, 1, 11_885_113, 21, 2_238_100, 1),
    ]


def test_a_gzipped_file_a_further_column_and_short_times_are_read(tmp_path: Path):
    path = tmp_path / "messages.anything"
    path.write_bytes(gzip.compress(b"34200.5,1,7,100,2238100,1,null\r\n\n34201,3,7,100,2238100,1,\n"))

    assert list(read_messages(path)) == [
        Message(1, 34_200_500_000_000, 1, 7, 100, 2_238_100, 1),
        Message(3, 34_201_000_000_000, 3, 7, 100, 2_238_100, 1),
    ]


def test_the_survey_tells_the_grid(tmp_path: Path):
    cents = sample(1, 500).write(tmp_path / "cents.csv")
    path = tmp_path / "fine.csv"
    path.write_text("1.0,1,7,250,2238150,1\n")

    found = survey(cents)
    assert (found.messages, found.on_cents, found.size_max) == (500, True, 700)
    assert survey(path).on_cents is False


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (ROWS + "34200.2,1,7\n", "line 3"),
        (ROWS + "34200.2,one,7,1,1,1\n", "line 3"),
        ("34200.2,9,7,1,1,1\n", "line 1: unknown message type 9"),
        ("34200.2,1,7,0,1,1\n", "line 1: not an order"),
        ("34200.2,1,7,1,1,0\n", "line 1: not an order"),
    ],
)
def test_what_is_no_message_is_refused_with_its_line(tmp_path: Path, text: str, where: str):
    path = tmp_path / "messages.csv"
    path.write_text(text)

    with pytest.raises(LobsterError, match=where):
        survey(path)


def test_a_gzipped_file_that_ends_early_is_refused(tmp_path: Path):
    path = tmp_path / "messages.csv.gz"
    path.write_bytes(gzip.compress((ROWS * 5_000).encode())[:-20])

    with pytest.raises(LobsterError, match="after line"):
        survey(path)
