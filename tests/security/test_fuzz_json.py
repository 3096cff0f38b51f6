"""JSON that is nasty: refused with 1002, every time, and never half understood."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.api.venue_process import RunningVenue, Trader, running_venue

ORDER = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "1", "price": "1"}
TEXT = json.dumps(ORDER).encode()


def with_member(member: bytes) -> bytes:
    return TEXT[:-1] + b"," + member + b"}"


def with_price(value: bytes) -> bytes:
    return TEXT.replace(b'"price": "1"', b'"price": ' + value)


def with_quantity(text: str) -> bytes:
    return json.dumps(ORDER | {"quantity": text}).encode()


DEEP = 100_000
NASTY: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n\t",
    "null": b"null",
    "a number": b"1",
    "a text": b'"order"',
    "a list": b"[" + TEXT + b"]",
    "half of it": TEXT[:-5],
    "something behind it": TEXT + b"x",
    "another behind it": TEXT + TEXT,
    "a byte order mark": b"\xef\xbb\xbf" + TEXT,
    "UTF-16": TEXT.decode().encode("utf-16"),
    "UTF-16 without a mark": TEXT.decode().encode("utf-16-le"),
    "UTF-32": TEXT.decode().encode("utf-32"),
    "Latin-1": with_member('"client_order_id":"é"'.encode("latin-1")),
    "bytes that are no UTF-8": with_member(b'"client_order_id":"\xff\xfe"'),
    "overlong UTF-8": with_member(b'"client_order_id":"\xc0\xaf"'),
    "a surrogate in UTF-8": with_member(b'"client_order_id":"\xed\xa0\x80"'),
    "a lone high surrogate": with_member(b'"client_order_id":"\\ud800"'),
    "a lone low surrogate": with_member(b'"client_order_id":"\\udc00"'),
    "surrogates in the wrong order": with_member(b'"client_order_id":"\\udc00\\ud800"'),
    "half an escape": with_member(b'"client_order_id":"\\u12"'),
    "an unknown escape": with_member(b'"client_order_id":"\\x41"'),
    "a raw line break in a text": with_member(b'"client_order_id":"a\nb"'),
    "a raw NUL in a text": with_member(b'"client_order_id":"a\0b"'),
    "an escaped NUL": with_member(b'"client_order_id":"a\\u0000b"'),
    "a NUL behind it": TEXT + b"\0",
    "a comma too many": TEXT[:-1] + b",}",
    "a comment": TEXT[:-1] + b"/* no */}",
    "single quotes": TEXT.replace(b'"', b"'"),
    "names without quotes": TEXT.replace(b'"symbol"', b"symbol"),
    "a member twice": with_member(b'"side":"sell"'),
    "a member twice, equal": with_member(b'"side":"buy"'),
    "a member twice, escaped": with_member(b'"\\u0073ide":"sell"'),
    "a member twice, a value escaped": with_member(b'"side":"\\u0062uy"'),
    "a member twice, a colon escaped to even the count": with_member(
        b'"side":"sell","client_order_id":"a\\u003ab"'
    ),
    "an unknown member": with_member(b'"x":1'),
    "an unknown member with the name of an attribute": with_member(b'"__class__":"x"'),
    "a member in other letters": with_member(b'"Side":"buy"'),
    "an empty name": with_member(b'"":""'),
    "NaN": with_price(b"NaN"),
    "Infinity": with_price(b"Infinity"),
    "minus Infinity": with_price(b"-Infinity"),
    "1e400": with_price(b"1e400"),
    "2^64": with_price(b"18446744073709551616"),
    "a number of 10,000 digits": with_price(b"9" * 10_000),
    "a float": with_price(b"1.5"),
    "true": with_price(b"true"),
    "null for a text": with_price(b"null"),
    "an object for a text": with_price(b"{}"),
    "a list for a text": with_price(b'["1"]'),
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep lists in a member": with_price(b"[" * 30_000 + b"]" * 30_000),
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep and never closed": b"[" * 60_000,
    "a deep unknown member": with_member(b'"x":' + b"[" * 20_000 + b"]" * 20_000),
}

NO_DECIMALS = (
    "", " ", "0", "0.0", "-0", "-1", "+1", "1.", ".5", "1e3", "1E3", "0x10", "0b1", "1_000", "1,000", "1,5",
    "01", "00.1", "Infinity", "inf", "NaN", "nan", "1 ", " 1", "\t1", "1\n", "1\0", "1.0.0", "--1", "1-",
    "1/2", "1%", "$1", "9" * 19, "9" * 40, "1." + "1" * 19, "1" * 41, "0" * 40,
    # Digits of other scripts, a half, a square, and spaces that are not seen.
    "\u0661", "1\u0661", "1.\u0661", "1\uff11", "\u0be7", "1\u066b5", "\u00bd", "\u00b2", "1\u00a0",
    "1\u200b",
)  # fmt: skip


@pytest.fixture(scope="module")
def trader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trader]:
    with running_venue(tmp_path_factory.mktemp("venue")) as venue:
        yield venue.account("limits")


@pytest.mark.parametrize("path", ["/orders", "/orders/test"])
@pytest.mark.parametrize("name", NASTY)
def test_nasty_json_is_invalid(trader: Trader, name: str, path: str) -> None:
    body = NASTY[name]
    before = trader.venue.call("GET", "/time").seq

    reply = trader.post(path, body)

    assert (reply.status, reply.code) == (413 if len(body) > 65_536 else 400, 1002)
    assert len(reply.body) < 1_000
    assert trader.venue.call("GET", "/time").seq == before


@pytest.mark.parametrize("name", NASTY)
def test_nasty_json_in_a_batch_is_invalid_alone_or_spoils_the_batch(trader: Trader, name: str) -> None:
    reply = trader.post("/orders/batch", b'{"orders":[%s,%s]}' % (TEXT, NASTY[name]))

    if reply.status == 200:
        good, *bad = reply.json["results"]
        assert good["ok"] and [one["error"]["code"] for one in bad] == [1002]
    else:
        assert (reply.status, reply.code) == (400, 1002)


def test_a_batch_with_its_orders_twice_is_invalid(trader: Trader) -> None:
    reply = trader.post("/orders/batch", b'{"orders":[%s],"orders":[%s]}' % (TEXT, TEXT))

    assert (reply.status, reply.code) == (400, 1002)
    assert "twice" in reply.json["message"]


def test_a_batch_says_of_each_order_what_is_said_of_it_alone(trader: Trader) -> None:
    bodies = [
        TEXT,
        with_member(b'"side":"sell"'),
        with_member(b'"client_order_id":"a:b"'),
        with_member(b'"time_in_force":"ioc"'),
        with_member(b'"time_in_force":"ioc","post_only":true'),
        with_quantity("0"),
    ]
    batch = trader.venue.ok(trader.post("/orders/batch", b'{"orders":[' + b",".join(bodies) + b"]}"))[
        "results"
    ]

    alone = [trader.post("/orders/test", body).json for body in bodies]

    assert [one["ok"] for one in batch] == [True, False, False, True, False, False]
    assert [reply.get("valid", False) for reply in alone] == [one["ok"] for one in batch]
    assert [(one["error"]["code"], one["error"]["message"]) for one in batch if not one["ok"]] == [
        (reply["code"], reply["message"]) for reply in alone if "code" in reply
    ]


@pytest.mark.parametrize("text", NO_DECIMALS, ids=repr)
@pytest.mark.parametrize("field", ["quantity", "price"])
def test_a_decimal_has_one_plain_spelling(trader: Trader, field: str, text: str) -> None:
    reply = trader.post("/orders", ORDER | {field: text})

    assert reply.code in (1002, 1004)
    assert (reply.status, reply.code) == (400, 1002) or "." in text


@pytest.mark.parametrize(("text", "said"), [("1.000000000000", "1"), ("1.50", "1.5"), ("0.00001", "0.00001")])
def test_zeros_at_the_end_change_nothing(trader: Trader, text: str, said: str) -> None:
    assert trader.venue.ok(trader.post("/orders", ORDER | {"quantity": text}))["quantity"] == said


@pytest.mark.parametrize("name", ["a member twice", "a member twice, escaped", "NaN", "deep lists", "2^64"])
def test_nasty_json_of_admins_is_invalid_too(trader: Trader, name: str) -> None:
    venue = trader.venue
    nasty = {
        "a member twice": b'{"account":"x","mode":"cash","mode":"limits"}',
        "a member twice, escaped": b'{"account":"x","mode":"cash","m\\u006fde":"limits"}',
        "NaN": b'{"account":NaN}',
        "deep lists": b"[" * 30_000,
        "2^64": b'{"account":18446744073709551616}',
    }[name]

    reply = venue.admin("POST", "/accounts", nasty)

    assert (reply.status, reply.code) == (400, 1002)
    assert venue.admin("GET", "/accounts/x").status == 404


def test_a_good_order_passes_however_it_is_spaced_and_escaped(trader: Trader) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in "BTC-USD")
    spaced = TEXT.replace(b'"', b' "').replace(b'" ', b'"\r\n\t').replace(b"BTC-USD", escaped.encode())

    for body in (TEXT, b" \t\r\n" + TEXT + b"\n", spaced.replace(b' "', b'"')):
        assert trader.venue.ok(trader.post("/orders", body))["symbol"] == "BTC-USD"


def test_the_venue_is_as_it_was(trader: Trader) -> None:
    venue: RunningVenue = trader.venue

    venue.ok(trader.delete("/orders"))

    assert venue.processes["engine"].poll() is None
    assert venue.ok(trader.get("/orders"))["items"] == []
