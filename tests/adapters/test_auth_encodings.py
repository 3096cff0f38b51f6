"""Base64url and JSON as tokens and key sets are read: each content has one text, each text one meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradsys.adapters.auth import base64url
from tradsys.adapters.auth.strict_json import BRACKETS_MAX, parse_object


@given(st.binary(max_size=100))
def test_base64url_gives_back_what_was_written(raw: bytes) -> None:
    assert base64url.decode(base64url.encode(raw)) == raw


@given(st.text(alphabet="AQgwBz09-_+/= \n", max_size=8) | st.text(max_size=8))
def test_base64url_has_one_text_for_given_bytes(text: str) -> None:
    try:
        raw = base64url.decode(text)
    except ValueError as refusal:
        assert str(refusal) == "not canonical base64url"
    else:
        assert base64url.encode(raw) == text


@pytest.mark.parametrize(
    "text", ["A", "AB", "AAB", "AA==", "AA=", "+A", "A/", "AAA A", "AAAA\n", "AAAA=", "é"]
)
def test_other_spellings_of_base64url_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not canonical base64url"):
        base64url.decode(text)


VALUES = st.none() | st.integers(-(2**80), 2**80) | st.text(max_size=9) | st.lists(st.booleans(), max_size=3)


@given(
    st.dictionaries(st.text(max_size=9), VALUES | st.dictionaries(st.text(max_size=9), VALUES, max_size=3))
)
def test_an_object_of_json_is_read_as_it_is(value: dict[str, Any]) -> None:
    assert parse_object(json.dumps(value).encode()) == value


@given(st.binary(max_size=50) | st.text(alphabet='{}[]":,0e.-aN\\u', max_size=30).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        value = parse_object(raw)
    except ValueError:
        return
    assert json.loads(raw) == value


def test_brackets_are_counted() -> None:
    most = b'{"a": ' + b"[" * (BRACKETS_MAX - 1) + b"]" * (BRACKETS_MAX - 1) + b"}"

    assert list(parse_object(most)) == ["a"]
    with pytest.raises(ValueError, match="too many brackets"):
        parse_object(most.replace(b"[", b"[[", 1).replace(b"]", b"]]", 1))
