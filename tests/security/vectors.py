"""Hostile and borderline HTTP, as raw bytes, with what any server of ours must do with each.

`vectors(target)` builds the table for a server that answers `target.get` and `target.post`; `play` sends one
and reports. The rules that hold for all of them are in `faults`: the first answer is among the expected,
no request is answered that was not meant (a smuggled one above all), and the connection ends where the
framing can no longer be trusted.

To tell an open connection from a closed one without waiting, `play` sends one good request afterwards, the
probe: whoever still serves answers it and echoes its X-Request-Id.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

PROBE = "probe"


@dataclass(frozen=True)
class Target:
    """What the server under test answers with 200, and what it must never be tricked into."""

    get: str = "/get"
    post: str = "/post"
    hidden: str = "/hidden"
    host: str = "venue"
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every POST: token, content type."""
    body: bytes = b'{"n":1}'


@dataclass(frozen=True)
class Vector:
    name: str
    sends: Sequence[bytes]
    """Pieces, sent with a short pause between them."""
    expected: frozenset[int]
    """The first answer's status; CUT: none at all."""
    ends: bool | None = None
    """The server closes the connection (True), keeps it (False), or may do either (None)."""
    requests: int = 1
    """How many requests were meant: never more answers than that with another status than a refusal."""
    then: str = "probe"
    """What the client does after its last piece: `probe`, `close` its side, `reset`, or `wait`."""
    head: bool = False
    """Answers carry no body."""


@dataclass(frozen=True)
class Outcome:
    statuses: list[int]
    """Of the answers to the vector, in order; 100 included, the probe's left out."""
    ended: bool
    seconds: float


CUT = 0
ACCEPTED = frozenset({200})
BAD = frozenset({400})
NOT_FOUND = frozenset({400, 404})
EITHER = frozenset({200, 400})
FRAMING_REFUSED = frozenset({400, 501})
TOO_LARGE = frozenset({400, 413})
HEADER_TOO_LARGE = frozenset({400, 414, 431})


def faults(vector: Vector, outcome: Outcome) -> list[str]:
    """What is wrong with this outcome; empty: nothing."""
    found = []
    first = next((status for status in outcome.statuses if status != 100), CUT)
    if first not in vector.expected:
        found.append(f"answered {first or 'nothing'}, expected {sorted(vector.expected)}")
    served = [status for status in outcome.statuses if status < 400 and status != 100]
    if len(served) > vector.requests:
        found.append(f"{len(served)} answers to {vector.requests} request(s)")
    if any(status >= 500 and status not in (501, 505) for status in outcome.statuses):
        found.append(f"a server error: {outcome.statuses}")
    if vector.ends is not None and vector.ends != outcome.ended:
        found.append("the connection stayed open" if vector.ends else "the connection was closed")
    return found


def play(vector: Vector, host: str, port: int, target: Target | None = None) -> Outcome:
    """Send the vector to a server and read until it closes the connection, or for the 10 s of PROMISES."""
    started = time.monotonic()
    deadline = started + 10
    received = b""
    ended = False
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for i, piece in enumerate(vector.sends):
                if i:
                    time.sleep(0.005)
                connection.sendall(piece)
            if vector.then == "close":
                connection.shutdown(socket.SHUT_WR)
            elif vector.then == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return Outcome([], True, 0.0)
        except OSError:
            pass  # Refused early: what it said is still to be read.
        probed = vector.then != "probe"
        while time.monotonic() < deadline:
            if not probed and len(_answers(received, vector.head)) >= vector.requests:
                probed = True
                try:
                    connection.sendall(_probe(target or Target()))
                except OSError:
                    ended = True
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                more = connection.recv(65536)
            except TimeoutError:
                break
            except OSError:
                more = b""
            if not more:
                ended = True
                break
            received += more
    answers = _answers(received, vector.head)
    probe_answered = any(request_id == PROBE for _, request_id in answers)
    statuses = [status for status, request_id in answers if request_id != PROBE]
    return Outcome(statuses, ended and not probe_answered, time.monotonic() - started)


def _probe(target: Target) -> bytes:
    lines = (
        f"GET {target.get} HTTP/1.1",
        f"Host: {target.host}",
        f"X-Request-Id: {PROBE}",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _answers(received: bytes, head: bool) -> list[tuple[int, str]]:
    """(status, X-Request-Id) of every complete answer."""
    answers = []
    rest = received.lstrip(b"\r\n")
    while rest.startswith(b"HTTP/") and b"\r\n\r\n" in rest:
        top, _, after = rest.partition(b"\r\n\r\n")
        lines = top.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        request_id = headers.get("x-request-id", "")
        bodiless = status < 200 or status == 204 or (head and request_id != PROBE)
        length = 0 if bodiless else int(headers.get("content-length", "0"))
        if len(after) < length:
            break
        answers.append((status, request_id))
        rest = after[length:].lstrip(b"\r\n")
    return answers


def vectors(t: Target) -> list[Vector]:
    hidden = f"GET {t.hidden} HTTP/1.1\r\nHost: {t.host}\r\n\r\n".encode()
    body = t.body
    size = len(body)
    host = f"Host: {t.host}"
    posted = "".join(f"{name}: {value}\r\n" for name, value in t.headers.items())

    def get(*lines: str, path: str = t.get, version: str = "HTTP/1.1", method: str = "GET") -> bytes:
        head = f"{method} {path} {version}\r\n{host}\r\n" + "".join(f"{line}\r\n" for line in lines)
        return head.encode("latin-1") + b"\r\n"

    def post(*lines: str, data: bytes = body, version: str = "HTTP/1.1") -> bytes:
        head = f"POST {t.post} {version}\r\n{host}\r\n{posted}" + "".join(f"{line}\r\n" for line in lines)
        return head.encode("latin-1") + b"\r\n" + data

    def chunk(data: bytes, size: str | None = None) -> bytes:
        return (size or f"{len(data):x}").encode("latin-1") + b"\r\n" + data + b"\r\n"

    def chunked(*lines: str, data: bytes, version: str = "HTTP/1.1") -> bytes:
        return post("Transfer-Encoding: chunked", *lines, data=data, version=version)

    whole = chunk(body) + b"0\r\n\r\n"
    smuggling = b"0\r\n\r\n" + hidden

    return [
        # --- plain ---------------------------------------------------------------------------------
        Vector("get", [get()], ACCEPTED, ends=False),
        Vector("post", [post(f"Content-Length: {size}")], ACCEPTED, ends=False),
        Vector("head", [get(method="HEAD")], ACCEPTED, ends=False, head=True),
        Vector("connection close", [get("Connection: close")], ACCEPTED, ends=True),
        Vector("http 1.0", [get(version="HTTP/1.0")], ACCEPTED, ends=True),
        Vector(
            "http 1.0 keep-alive", [get("Connection: keep-alive", version="HTTP/1.0")], ACCEPTED, ends=False
        ),
        Vector("byte by byte", [bytes([b]) for b in get()], ACCEPTED, ends=False),
        Vector("empty lines first", [b"\r\n\r\n" + get()], EITHER),
        Vector("get with a body", [get("Content-Length: 2") + b"{}"], EITHER | {413}),
        Vector(
            "body that is a request", [post(f"Content-Length: {len(hidden)}", data=hidden)], EITHER | {422}
        ),
        Vector("expect 100", [post(f"Content-Length: {size}", "Expect: 100-continue")], ACCEPTED, ends=False),
        Vector(
            "expect 100, and wait for it",
            [post(f"Content-Length: {size}", "Expect: 100-continue", data=b""), body],
            ACCEPTED,
            ends=False,
        ),
        Vector("expect the unexpected", [post(f"Content-Length: {size}", "Expect: miracles")], BAD | {417}),
        Vector("upgrade to h2c", [get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")], EITHER),
        Vector("upgrade to websocket", [get("Connection: Upgrade", "Upgrade: websocket")], EITHER),
        Vector(
            "upgrade hides a request",
            [post("Connection: Upgrade", "Upgrade: x", f"Content-Length: {size}") + hidden],
            EITHER,
            requests=2,
        ),
        # --- pipelining ----------------------------------------------------------------------------
        Vector("pipelined", [get() + get()], ACCEPTED, requests=2, ends=False),
        Vector("pipelined, twenty", [get() * 20], ACCEPTED, requests=20, ends=False),
        Vector("post, then get", [post(f"Content-Length: {size}") + get()], ACCEPTED, requests=2, ends=False),
        Vector("nothing after close", [get("Connection: close") + hidden], ACCEPTED, ends=True),
        Vector("garbage after a request", [get() + b"\x00\x01\x02"], ACCEPTED, ends=True),
        Vector("bad request after a good one", [get() + b"GET / HTTP/1.1\r\n\r\n"], ACCEPTED, ends=True),
        # --- Content-Length ------------------------------------------------------------------------
        Vector(
            "lengths differ", [post(f"Content-Length: {size}", "Content-Length: 0") + hidden], BAD, ends=True
        ),
        Vector(
            "lengths differ, long first",
            [post("Content-Length: 0", f"Content-Length: {size}")],
            BAD,
            ends=True,
        ),
        Vector("length twice", [post(f"Content-Length: {size}", f"Content-Length: {size}")], BAD, ends=True),
        Vector("length as a list", [post(f"Content-Length: {size}, {size}")], BAD, ends=True),
        Vector("length with plus", [post(f"Content-Length: +{size}")], BAD, ends=True),
        Vector("length negative", [post("Content-Length: -1")], BAD, ends=True),
        Vector("length in hex", [post("Content-Length: 0x7")], BAD, ends=True),
        Vector("length with letters", [post(f"Content-Length: {size}abc")], BAD, ends=True),
        Vector("length in two words", [post(f"Content-Length: {size} {size}")], BAD, ends=True),
        Vector("length with a point", [post(f"Content-Length: {size}.0")], BAD, ends=True),
        Vector("length empty", [post("Content-Length:")], BAD, ends=True),
        Vector("length of 2^64", [post(f"Content-Length: {2**64 + size}")], BAD | TOO_LARGE, ends=True),
        Vector("length of 2^63", [post(f"Content-Length: {2**63}", data=b"")], BAD | TOO_LARGE, ends=True),
        Vector("length in Arabic digits", [post("Content-Length: \xd9\xa7")], BAD, ends=True),
        Vector("length over the cap", [post("Content-Length: 2000000", data=b"")], TOO_LARGE, ends=True),
        Vector("length after space and tab", [post(f"Content-Length:  \t{size}")], EITHER),
        Vector("length then NUL", [post(f"Content-Length: {size}\x00")], BAD, ends=True),
        Vector(
            "length too short",
            [post("Content-Length: 1", data=b"1" + hidden[:-2])],
            frozenset({200, 400, 422}),
        ),
        # --- Transfer-Encoding against Content-Length -----------------------------------------------
        Vector("CL.TE", [chunked(f"Content-Length: {len(smuggling)}", data=smuggling)], BAD, ends=True),
        Vector(
            "TE.CL",
            [post("Content-Length: 4", "Transfer-Encoding: chunked", data=chunk(hidden) + b"0\r\n\r\n")],
            BAD,
            ends=True,
        ),
        Vector("TE.0", [chunked("Content-Length: 0", data=smuggling)], BAD, ends=True),
        Vector(
            "TE twice, identity last",
            [chunked("Transfer-Encoding: identity", data=whole)],
            FRAMING_REFUSED,
            ends=True,
        ),
        Vector(
            "TE twice, chunked",
            [chunked("Transfer-Encoding: chunked", data=whole)],
            FRAMING_REFUSED,
            ends=True,
        ),
        *(
            Vector(
                f"TE {value!r}",
                [post(f"Transfer-Encoding:{value}", data=smuggling)],
                FRAMING_REFUSED,
                ends=True,
            )
            for value in (
                " xchunked",
                " identity",
                " gzip, chunked",
                " chunked, gzip",
                " chunked, chunked",
                ' "chunked"',
                " \x0bchunked",
                " \x0cchunked",
                " chunked\x00",
                " chunked;q=1",
                " chun\tked",
                "",
            )
        ),
        Vector("TE after a tab", [post("Transfer-Encoding:\tchunked", data=whole)], EITHER),
        Vector("TE in capitals", [post("TRANSFER-ENCODING: CHUNKED", data=whole)], EITHER),
        Vector(
            "TE with a space before colon",
            [post("Transfer-Encoding : chunked", data=smuggling)],
            BAD,
            ends=True,
        ),
        Vector(
            "TE folded", [post("Transfer-Encoding:", " chunked", data=smuggling)], FRAMING_REFUSED, ends=True
        ),
        Vector(
            "TE behind a fold", [post("X: x", " Transfer-Encoding: chunked", data=smuggling)], BAD, ends=True
        ),
        Vector(
            "TE behind a bare LF", [post("X: x\nTransfer-Encoding: chunked", data=smuggling)], BAD, ends=True
        ),
        Vector(
            "TE behind a bare CR", [post("X: x\rTransfer-Encoding: chunked", data=smuggling)], BAD, ends=True
        ),
        Vector(
            "TE behind a NUL", [post("X: x\x00Transfer-Encoding: chunked", data=smuggling)], BAD, ends=True
        ),
        Vector(
            "TE with an underscore",
            [post("Transfer_Encoding: chunked", f"Content-Length: {size}")],
            EITHER,
        ),
        Vector(
            "TE in 1.0, kept alive",
            [chunked("Connection: keep-alive", data=whole, version="HTTP/1.0")],
            EITHER,
            ends=True,
        ),
        Vector("TE in 1.0", [chunked(data=whole, version="HTTP/1.0")], EITHER, ends=True),
        Vector(
            "TE in 1.0 hides a request",
            [chunked("Connection: keep-alive", data=whole + hidden, version="HTTP/1.0")],
            EITHER,
            ends=True,
        ),
        Vector(
            "TE in 1.0 with a length",
            [chunked(f"Content-Length: {len(whole)}", data=whole, version="HTTP/1.0")],
            BAD,
            ends=True,
        ),
        # --- chunks --------------------------------------------------------------------------------
        Vector("chunked", [chunked(data=whole)], ACCEPTED),
        Vector(
            "chunked in pieces", [chunked(data=b""), chunk(body[:3]), chunk(body[3:]), b"0\r\n\r\n"], ACCEPTED
        ),
        Vector(
            "chunk of one byte each",
            [chunked(data=b"".join(chunk(bytes([b])) for b in body) + b"0\r\n\r\n")],
            ACCEPTED,
        ),
        Vector("chunk extension", [chunked(data=chunk(body, f"{size:x};a=b") + b"0\r\n\r\n")], EITHER),
        Vector(
            "chunk extension, bare LF",
            [chunked(data=chunk(body, f"{size:x};\n") + b"0\r\n\r\n")],
            BAD,
            ends=True,
        ),
        Vector(
            "chunk size overflows",
            [chunked(data=chunk(body, f"1{'0' * 16}{size:x}") + smuggling)],
            TOO_LARGE,
            ends=True,
        ),
        Vector(
            "chunk size of 2^32",
            [chunked(data=chunk(body, "100000000") + smuggling)],
            TOO_LARGE | {CUT},
            ends=True,
        ),
        *(
            Vector(f"chunk size {shown!r}", [chunked(data=chunk(body, shown) + smuggling)], BAD, ends=True)
            for shown in (
                f"0x{size:x}",
                f"+{size:x}",
                "-1",
                f" {size:x}",
                f"{size:x} ",
                f"{size:x}\x00",
                "g",
                f"{size:x}_0",
            )
        ),
        Vector("chunk size empty", [chunked(data=b"\r\n" + body + b"\r\n0\r\n\r\n")], BAD, ends=True),
        Vector(
            "chunk size ends in LF",
            [chunked(data=f"{size:x}\n".encode() + body + b"\r\n0\r\n\r\n")],
            BAD,
            ends=True,
        ),
        Vector(
            "chunk without its CRLF",
            [chunked(data=f"{size:x}\r\n".encode() + body + b"0\r\n\r\n")],
            BAD,
            ends=True,
        ),
        Vector("chunk longer than said", [chunked(data=chunk(body, "1") + b"0\r\n\r\n")], BAD, ends=True),
        Vector("chunks over the cap", [chunked(data=chunk(b"x" * 65536) * 20)], TOO_LARGE | {CUT}, ends=True),
        Vector("trailer", [chunked(data=chunk(body) + b"0\r\nX-Trailer: 1\r\n\r\n")], EITHER),
        Vector(
            "trailer changes the length",
            [chunked(data=chunk(body) + b"0\r\nContent-Length: 50\r\n\r\n")],
            EITHER,
        ),
        Vector(
            "trailer changes the coding",
            [chunked(data=chunk(body) + b"0\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggling)],
            EITHER,
            requests=2,
        ),
        Vector("trailer folded", [chunked(data=chunk(body) + b"0\r\nX: a\r\n b\r\n\r\n")], BAD, ends=True),
        # --- header fields --------------------------------------------------------------------------
        Vector("no host", [f"GET {t.get} HTTP/1.1\r\n\r\n".encode()], BAD, ends=True),
        Vector("two hosts", [get(host)], BAD, ends=True),
        *(
            Vector(
                f"host {value!r}", [f"GET {t.get} HTTP/1.1\r\nHost: {value}\r\n\r\n".encode()], BAD, ends=True
            )
            for value in ("", "a, b", "user@venue", "venue/path")
        ),
        Vector("bare LF", [get().replace(b"\r\n", b"\n")], BAD, ends=True),
        Vector("bare CR", [get().replace(b"\r\n", b"\r")], BAD, ends=True),
        Vector("bare CR in a value", [get("X: a\rb")], BAD, ends=True),
        Vector("folded", [get("X: a", " b")], BAD, ends=True),
        Vector("folded at once", [get().replace(b"\r\nHost", b"\r\n X: a\r\nHost")], BAD, ends=True),
        Vector("no colon", [get("nonsense")], BAD, ends=True),
        Vector("no name", [get(": x")], BAD, ends=True),
        Vector("space in the name", [get("X Y: z")], BAD, ends=True),
        Vector("space before the colon", [get("X : z")], BAD, ends=True),
        Vector("NUL in the name", [get("X\x00: z")], BAD, ends=True),
        Vector("NUL in a value", [get("X: a\x00b")], BAD, ends=True),
        Vector("control character in a value", [get("X: a\x01b")], BAD, ends=True),
        Vector("eight bits in the name", [get("X\xe9: z")], BAD, ends=True),
        Vector("eight bits in a value", [get("X: \xff\xfe")], EITHER),
        Vector("one header of 20 KiB", [get("X: " + "a" * 20_000)], HEADER_TOO_LARGE),
        Vector("name of 40 KiB", [get("X" * 40_000 + ": a")], HEADER_TOO_LARGE, ends=True),
        Vector(
            "twenty headers of 1 KiB", [get(*(f"X-{i}: " + "a" * 1_000 for i in range(20)))], HEADER_TOO_LARGE
        ),
        Vector("a hundred headers", [get(*(f"X-{i}: a" for i in range(100)))], HEADER_TOO_LARGE, ends=True),
        Vector(
            "endless headers", [get(*("X: a" for _ in range(200_000)))], HEADER_TOO_LARGE | {CUT}, ends=True
        ),
        # --- the request line -----------------------------------------------------------------------
        Vector("absolute form", [get(path=f"http://{t.host}{t.get}")], EITHER | {404}),
        Vector("absolute form, other host", [get(path=f"http://elsewhere{t.get}")], EITHER | {404, 421}),
        Vector("authority form", [get(path=f"{t.host}:80")], NOT_FOUND, ends=True),
        Vector("asterisk form", [get(path="*", method="OPTIONS")], frozenset({200, 204, 400, 404, 405})),
        Vector("asterisk form of get", [get(path="*")], NOT_FOUND),
        Vector(
            "connect", [get(path=f"{t.host}:80", method="CONNECT")], frozenset({400, 405, 501}), ends=True
        ),
        Vector("trace", [get(method="TRACE")], frozenset({400, 405, 501})),
        Vector("http 0.9", [f"GET {t.get}\r\n\r\n".encode()], BAD, ends=True),
        Vector("http 0.9, one line", [f"GET {t.get}\r\n".encode()], BAD | {CUT}, ends=True),
        Vector("http 1.2", [get(version="HTTP/1.2")], frozenset({200, 400, 505})),
        Vector("http 2.0", [get(version="HTTP/2.0")], frozenset({400, 505}), ends=True),
        Vector("http 2 preface", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], frozenset({400, 505}), ends=True),
        Vector("http 1.10", [get(version="HTTP/1.10")], frozenset({400, 505}), ends=True),
        Vector("lower case http", [get(version="http/1.1")], BAD, ends=True),
        Vector("other protocol", [get(version="ICY/1.1")], BAD, ends=True),
        Vector("no version", [get(version="")], BAD, ends=True),
        Vector("two spaces", [get(path=f" {t.get}")], EITHER),
        Vector("tabs", [get().replace(b" ", b"\t", 2)], BAD, ends=True),
        Vector("space in the path", [get(path=f"{t.get} x")], BAD, ends=True),
        Vector("lower case method", [get(method="get")], frozenset({400, 405, 501})),
        Vector("unknown method", [get(method="FROBNICATE")], frozenset({400, 405, 501})),
        Vector("method of 20 KiB", [get(method="G" * 20_000)], HEADER_TOO_LARGE | {501}, ends=True),
        Vector("NUL in the method", [get(method="G\x00T")], BAD, ends=True),
        Vector("path of 20 KiB", [get(path="/" + "a" * 20_000)], HEADER_TOO_LARGE, ends=True),
        Vector("query of 20 KiB", [get(path=f"{t.get}?" + "a" * 20_000)], HEADER_TOO_LARGE, ends=True),
        Vector("fragment", [get(path=f"{t.get}#x")], EITHER),
        Vector("NUL in the path", [get(path="/\x00")], BAD, ends=True),
        Vector("eight bits in the path", [get(path="/\xff\xfe")], NOT_FOUND),
        *(
            Vector(f"path {path}", [get(path=path)], NOT_FOUND)
            for path in (
                "/%00",
                "/%zz",
                "/%",
                "/%0d%0aX-Injected:1",
                "/%ff%fe",
                "/%c0%ae%c0%ae/",
                "/%E2%82%AC",
                "/\\get",
                f"/..{t.get}",
                f"/%2e%2e{t.get}",
                f"/x%2f..%2f{t.get[1:]}",
                f"{t.get}/",
                f"{t.get}%20",
                f"{t.get};x=y",
            )
        ),
        Vector("two slashes", [get(path=f"/{t.get}")], EITHER | {404}),
        Vector("line break in the query", [get(path=f"{t.get}?a=%0d%0aX-Injected:%201")], EITHER),
        Vector("TLS hello", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64], BAD, ends=True),
        # --- clients that stop ----------------------------------------------------------------------
        Vector("nothing", [], frozenset({CUT}), ends=True, then="wait"),
        Vector("half a request line", [b"GET /"], frozenset({CUT}), ends=True, then="wait"),
        Vector("half a header", [get()[:-2]], frozenset({CUT}), ends=True, then="wait"),
        Vector(
            "half a body", [post(f"Content-Length: {size + 1}")], frozenset({CUT}), ends=True, then="wait"
        ),
        Vector("half a chunk", [chunked(data=chunk(body)[:-3])], frozenset({CUT}), ends=True, then="wait"),
        Vector("no last chunk", [chunked(data=chunk(body))], frozenset({CUT}), ends=True, then="wait"),
        Vector(
            "slow header",
            [get()[:-2], *(f"X-{i}: a\r\n".encode() for i in range(40))],
            frozenset({CUT}),
            ends=True,
            then="wait",
        ),
        Vector(
            "slow body",
            [post("Content-Length: 100000", data=b""), *([b"x"] * 40)],
            frozenset({CUT}),
            ends=True,
            then="wait",
        ),
        Vector(
            "slow chunks",
            [chunked(data=b""), *([chunk(b"x")] * 40)],
            frozenset({CUT}),
            ends=True,
            then="wait",
        ),
        Vector("close in a header", [get()[:-10]], frozenset({CUT, 400}), ends=True, then="close"),
        Vector(
            "close in a body",
            [post(f"Content-Length: {size + 1}")],
            frozenset({CUT, 400}),
            ends=True,
            then="close",
        ),
        Vector("close after a request", [get()], ACCEPTED | {CUT}, ends=True, then="close"),
        Vector("reset after a request", [get()], frozenset({CUT}), then="reset"),
        Vector("reset in a body", [post("Content-Length: 1000")], frozenset({CUT}), then="reset"),
    ]
