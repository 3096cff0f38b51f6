"""Requests leave no garbage in circles, and what looks for some rests while there is none."""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tradsys import settings
from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.mint import mint
from tradsys.adapters.http.message import Refused, read_head, refuse_early
from tradsys.codec import binary_v1
from tradsys.compose.engine import Engine
from tradsys.compose.garbage import CLEAN_MIN, UNSEEN_MAX, Garbage

ORDER = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "1", "price": "1"}
API = "/api/v1"
CONSTANTS = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "x",
    "SERVER_PORT": "1",
    "wsgi.errors": sys.stderr,
    "wsgi.url_scheme": "http",
}


class Asked:
    """An engine that is asked without a socket."""

    stopping = False

    def __init__(self, directory: Path):
        chosen = settings.load({"TRADSYS_DATA_DIR": str(directory)})
        self.engine = Engine(chosen)
        self.engine.server = self
        self._app = self.engine.apps[chosen.port]
        key = HmacKey.load(f"{directory}/hs256.key")
        now = int(time.time())
        self._token = mint(key, "demo", "trade read", 3600, chosen.token_issuer, chosen.token_audience, now)

    def connections(self) -> int:
        return 0

    def stop(self) -> None:
        self.stopping = True

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> int:
        """The status of the answer."""
        raw = (
            f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._token}\r\n"
            f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode()
        head = read_head(raw, CONSTANTS, 64)
        environ: dict[str, Any] = {**head.environ, "wsgi.input": io.BytesIO(body), "REMOTE_ADDR": "x:1"}
        direct = self.engine.direct(environ) if self.engine.direct is not None else None
        if direct is not None:
            found = direct(body)
            if isinstance(found, tuple):
                return int(found[0].split()[1])
            environ |= found
        statuses: list[str] = []
        b"".join(self._app(environ, lambda status, headers, exc=None: statuses.append(status)))  # type: ignore[arg-type, return-value]
        return int(statuses[0].split()[0])


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("TRADSYS_")}
    engine = Asked(tmp_path_factory.mktemp("venue"))
    yield engine
    engine.engine.close()
    os.environ.update(before)
    gc.enable()


def body(*orders: Any) -> bytes:
    return json.dumps({"orders": orders} if len(orders) != 1 else orders[0]).encode()


def binary(symbol: bytes) -> bytes:
    record = (
        binary_v1.PLACE, 1, 1, 1, 0, 0, 0, symbol, 0, 10**8, 10**8, 0, 0, 0, 0, b"", -1
    )  # fmt: skip
    return binary_v1.COMMAND.pack(*record) * 2


@pytest.mark.parametrize(
    ("status", "method", "path", "sent", "kind"),
    [
        (200, "POST", "/orders", body(ORDER), ""),
        (200, "POST", "/orders", body(ORDER | {"price": "3", "side": "sell"}), ""),
        (400, "POST", "/orders", b"{x", ""),
        (422, "POST", "/orders", body(ORDER | {"price": "0.001"}), ""),
        (422, "POST", "/orders", body(ORDER | {"quantity": "1000000000"}), ""),
        (404, "POST", "/orders", body(ORDER | {"symbol": "NO-ONE"}), ""),
        (400, "POST", "/orders", b'{"quantity":"1",' + body(ORDER)[1:], ""),
        (404, "DELETE", "/orders/a-1", b"", ""),
        (404, "PUT", "/orders/a-1", b'{"quantity":"1"}', ""),
        (200, "DELETE", "/orders", b"", ""),
        (200, "GET", "/orders", b"", ""),
        (200, "GET", "/market/BTC-USD/book", b"", ""),
        (404, "GET", "/nowhere", b"", ""),
        (200, "POST", "/orders/batch", body(ORDER, {}, ORDER | {"symbol": "NO-ONE"}), ""),
        (200, "POST", "/orders/batch", binary(b"BTC-USD"), binary_v1.MEDIA_TYPE),
        (200, "POST", "/orders/batch", binary(b"NO-ONE"), binary_v1.MEDIA_TYPE),
    ],
)
def test_a_request_leaves_no_garbage_in_circles(
    asked: Asked, status: int, method: str, path: str, sent: bytes, kind: str
) -> None:
    def ask() -> int:
        return asked.ask(method, API + path, sent, kind or "application/json")

    ask()
    gc.collect()
    gc.disable()

    answers = [ask() for _ in range(5)]

    assert (answers, gc.collect()) == ([status] * 5, 0)


@pytest.mark.parametrize("raw", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"])
def test_a_head_that_is_refused_leaves_no_garbage_in_circles(raw: bytes) -> None:
    def refuse() -> None:
        with pytest.raises(Refused):
            refuse_early(raw)
            read_head(raw, {}, 64)

    refuse()
    gc.collect()
    gc.disable()
    try:
        refuse()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_nobody_looks_for_garbage_while_there_is_none_and_everybody_when_there_is_some() -> None:
    pauses: list[int] = []
    garbage = Garbage(threshold=10, count_pause=pauses.append)
    kept: list[Any] = []

    def turn(circles: int = 0) -> int:
        """How often it looks in a turn that left circles, the last still held, and much that is alive."""
        for _ in range(circles):
            circle: list[Any] = []
            circle.append(circle)
        kept.extend([] for _ in range(20))
        before = len(pauses)
        garbage.turn(0)
        return len(pauses) - before

    gc.collect()
    gc.disable()
    try:
        garbage.turn(0)
        clean = [turn() for _ in range(CLEAN_MIN + 2 * (UNSEEN_MAX + 1))]
        dirty = [turn(circles=2) for _ in range(3 * (UNSEEN_MAX + 1))]
    finally:
        gc.unfreeze()
        gc.enable()

    assert sum(clean[:CLEAN_MIN]) >= CLEAN_MIN - 1
    assert sum(clean[CLEAN_MIN:]) <= 3
    assert sum(dirty) >= 2 * (UNSEEN_MAX + 1), "once some is found, it is looked for each time"


def test_what_is_young_is_looked_through_after_some_commands_however_many_old_objects_were_freed() -> None:
    pauses: list[int] = []
    garbage = Garbage(threshold=80, count_pause=pauses.append)
    kept: list[list[Any]] = [[] for _ in range(1_000)]
    gc.collect()
    gc.disable()
    try:
        garbage.turn(0)
        pauses.clear()
        looks = []
        for seq in range(1, 31):
            kept[seq] = []
            garbage.turn(seq)
            looks.append(len(pauses))
    finally:
        gc.unfreeze()
        gc.enable()

    assert looks[8] == 0
    assert looks[-1] == 3
