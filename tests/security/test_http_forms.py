"""F4 once more: whole, mutated and cut requests, thousands of them, and no two answers to the same bytes.

The engine's server is compiled in a release, and a compiler's slices are not quite Python's. So the same
bytes, cut at the same places, go to the compiled server and to its source, and what comes back has to be the
same but for dates. Cut in another way they may be refused for another reason, but what reaches the
application is the same. COUNT_FORMS cases each (400), from SEED.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import socket
import struct
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.adapters.server_process import HOST, free_ports
from tradsys.adapters.http import server as imported

COUNT = int(os.environ.get("COUNT_FORMS", "400"))
SEED = int(os.environ.get("SEED", "1"))

POST = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
CHUNKED = b"POST /post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = [
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /s/a/b?c=%20 HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-1\r\n\r\n",
    b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /none HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /close HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n\r\n",
    POST % (b"/post", 7, b'{"n":1}'),
    POST % (b"/post", 0, b""),
    POST % (b"/direct", 7, b'{"n":1}'),
    POST % (b"/direct", 7, b'{"n":2}'),
    POST % (b"/direct", 9, b"framework"),
    POST % (b"/direct", 0, b""),
    b"POST /post HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 700 + b"\r\n\r\n",
    POST % (b"/post", 4000, b"z" * 4000),
]
PIECES = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"0",
    b"-1",
    b"\x00",
    b"\xff",
    b":",
    b"HTTP/1.1",
    b"chunked",
    b"%",
]


def sent_by(luck: random.Random) -> bytes:
    """A few requests, often the same, and in two of three something wrong with them."""
    requests = luck.choices(WHOLE, k=luck.randint(1, 2))
    sent = bytearray(b"".join(luck.choices(requests, k=luck.randint(1, 5))))
    for _ in range(luck.choice((0, 1, 3))):
        start = luck.randrange(len(sent) + 1)
        end = min(len(sent), start + luck.choice((0, 1, 2, 8, 60)))
        change = luck.randrange(4)
        if change == 0:
            del sent[start:end]
        elif change == 1:
            sent[start:start] = luck.choice(PIECES)
        elif change == 2:
            sent[start:end] = luck.randbytes(end - start)
        else:
            sent[start:start] = sent[start:end] * luck.randint(1, 3)
    return bytes(sent) or b"x"


def cut(sent: bytes, luck: random.Random) -> list[bytes]:
    if len(sent) < 80 and luck.random() < 0.2:
        return [sent[at : at + 1] for at in range(len(sent))]
    places = sorted(luck.choices(range(len(sent) + 1), k=luck.choice((0, 1, 2, 5))))
    return [
        sent[start:end] for start, end in zip([0, *places], [*places, len(sent)], strict=True) if start < end
    ]


class Played:
    """A server in this process, to which each case is a client: one piece a turn, then a few turns more."""

    SETTLED_TURNS = 6

    def __init__(self, module: Any, cases: list[list[bytes]]):
        self._module = module
        self._waiting: Iterator[list[bytes]] = iter(cases)
        self._client: socket.socket | None = None
        self._pieces: list[bytes] = []
        self._quiet = 0
        self._handled: list[str] = []
        self.outcomes: list[tuple[bytes, bool, list[str]]] = []
        """Of each case: what came back without dates, whether it ended, what the application saw."""
        self._port = free_ports(1)[0]
        self._server = module.Server(
            [module.Listener(HOST, self._port, self._application, self._direct)],
            each_turn=self._turn,
            spin=True,
            prefix="/s/a",
            limits=module.Limits(header_bytes_max=600, body_bytes_max=3_000, headers_max=8),
        )
        self._server.listen()
        self._server.run()

    def _application(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
        said = f"{environ['REQUEST_METHOD']} {path} {environ.get('told', '')} {body!r}"
        self._handled.append(said)
        if path == "/close":
            self._module.close_after_answer(environ, lambda name, value: None)
        start("204 No Content" if path == "/none" else "200 OK", [("x-request-id", "r-1")])
        return [] if path == "/none" else [said.encode()]

    def _direct(
        self, environ: dict[str, Any]
    ) -> Callable[[bytes], tuple[str, bytes] | dict[str, Any]] | None:
        return self._answer if environ["PATH_INFO"] == "/direct" else None

    def _answer(self, body: bytes) -> tuple[str, bytes] | dict[str, Any]:
        if body == b"framework":
            return {"told": "directly"}
        self._handled.append(f"direct {body!r}")
        return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n", body

    def _turn(self) -> None:
        if self._pieces:
            self._send(self._pieces.pop(0))
            return
        self._quiet += 1
        if self._quiet < self.SETTLED_TURNS and self._client is not None:
            return
        if self._client is not None:
            self._end(self._client)
            self._client = None
        pieces = next(self._waiting, None)
        if pieces is None:
            self._server.stop()
            return
        self._client, self._pieces, self._quiet = socket.create_connection((HOST, self._port)), [*pieces], 0
        # Each piece is there in the next turn, whether the one before is acknowledged or not.
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Reset when it is closed: in a minute there are more cases than ports.
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send(self, piece: bytes) -> None:
        assert self._client is not None
        try:
            self._client.sendall(piece)
        except ConnectionError:
            self._pieces.clear()

    def _end(self, client: socket.socket) -> None:
        received, ended = b"", False
        try:
            while more := client.recv(1 << 20, socket.MSG_DONTWAIT):
                received += more
            ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            ended = True
        client.close()
        received = re.sub(rb"\r\ndate: [^\r]+", b"", received)
        self.outcomes.append((received, ended, self._handled))
        self._handled = []


def the_source() -> ModuleType:
    """The server's module made from its source, whatever is imported as it."""
    path = re.sub(r"\.cpython[^/]*\.so$", ".py", str(imported.__file__))
    spec = importlib.util.spec_from_file_location("server_from_source", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(str(imported.__file__).endswith(".py"), reason="nothing is compiled here")
def test_compiled_the_server_answers_every_byte_as_its_source_does() -> None:
    luck = random.Random(SEED)
    cases = [cut(sent_by(luck), luck) for _ in range(COUNT)]

    compiled, source = Played(imported, cases), Played(the_source(), cases)

    different = [
        case
        for case, ours, theirs in zip(cases, compiled.outcomes, source.outcomes, strict=True)
        if ours != theirs
    ]
    assert different == []


def test_what_reaches_the_application_does_not_depend_on_how_the_bytes_are_cut() -> None:
    luck = random.Random(SEED)
    sent = [sent_by(luck) for _ in range(COUNT)]

    whole = Played(imported, [[each] for each in sent])
    pieces = Played(imported, [cut(each, luck) for each in sent])

    different = [
        each
        for each, one, other in zip(sent, whole.outcomes, pieces.outcomes, strict=True)
        if (one[1], one[2]) != (other[1], other[2])
    ]
    assert different == []
