"""HTTP/1.1 requests out of bytes: where one ends, and what its head means to WSGI.

The head is read by llhttp (httptools), which is strict; what is refused on top of that, and why, stands here.
A head is read once: clients of a venue send the same one again and again, so the server keeps what a
head meant under its very bytes, and the next request with those bytes costs a comparison.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

from tradsys.adapters.http.head import Head

_OTHER_METHOD = re.compile(rb"(?!(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) )[A-Z]+ ")
_HOST = re.compile(r"[A-Za-z0-9._~%:\[\]-]+", re.ASCII)


class Refused(Exception):
    """A request whose framing can't be trusted, or that is over a limit: the last of its connection."""

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status
        """As in a status line: `400 Bad Request`."""
        self.reason = reason


def bad_request(reason: str) -> Refused:
    return Refused("400 Bad Request", reason)


class _Collector:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.keep_alive = False
        self._parser: Any = None

    def read(self, data: bytes) -> Any:
        """Let llhttp read the data; the parser. Raises httptools.HttpParserError."""
        self._parser = parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Another protocol is on offer. It is ignored, but what a proxy takes for that protocol's bytes
            # must not be taken for requests here: this one is the last.
            self.keep_alive = False
        finally:
            # The parser holds us: both would be garbage that only the collector finds.
            self._parser = None
        return parser

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True
        # Asked here: where no body follows, the parser has forgotten it when it returns.
        self.keep_alive = self._parser.should_keep_alive()


def read_head(head: bytes, constants: dict[str, Any], headers_max: int) -> Head:
    """The meaning of `head`, which ends with its empty line. `constants` go into the environ as they are.

    Raises Refused.
    """
    collector = _Collector()
    try:
        parser = collector.read(head)
    except httptools.HttpParserError as error:
        raise _refusal(head) from error
    if not collector.complete:
        raise bad_request("the head of the request ends too early")
    if len(collector.headers) > headers_max:
        raise Refused("431 Request Header Fields Too Large", f"more than {headers_max} header fields")
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        if version.startswith("0"):
            raise bad_request("this is not HTTP/1.1")
        raise Refused("505 HTTP Version Not Supported", "HTTP/1.1 or HTTP/1.0, please")
    method = parser.get_method().decode("ascii")
    path, query = _target(collector.url, method)
    environ: dict[str, Any] = {
        **constants,
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": f"HTTP/{version}",
    }
    _put_headers(environ, collector.headers)
    host = environ.get("HTTP_HOST")
    if host is None and version == "1.1":
        raise bad_request("a Host header is needed")
    if host is not None and not _HOST.fullmatch(host):
        raise bad_request("the Host header names no host")
    length = _length(environ, version)
    expected = environ.pop("HTTP_EXPECT", None)
    if expected is not None and (expected.lower() != "100-continue" or version == "1.0"):
        raise Refused("417 Expectation Failed", "only 100-continue can be expected")
    return Head(
        head,
        environ,
        length,
        collector.keep_alive,
        version == "1.1",
        expected is not None,
        method == "HEAD",
    )


def refuse_early(beginning: bytes) -> None:
    """Raises Refused if no head can begin like this: not every client ever sends an empty line."""
    try:
        _Collector().read(beginning)
    except httptools.HttpParserError as error:
        raise _refusal(beginning) from error


def _refusal(head: bytes) -> Refused:
    if _OTHER_METHOD.match(head):
        return Refused("501 Not Implemented", "this method is not known")
    return bad_request("this is not HTTP/1.1")


def _target(url: bytes, method: str) -> tuple[str, str]:
    """(path, query) as WSGI wants them: the path's bytes, unquoted, as Latin-1."""
    if method == "CONNECT":
        raise Refused("501 Not Implemented", "this is no proxy")
    if not url.startswith(b"/") and url != b"*":
        # The absolute form, as to a proxy: the Host header decides nothing here, nor does this.
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError as error:
            raise bad_request("this is not a path") from error
        if not parsed.schema or not parsed.path:
            raise bad_request("this is not a path")
        url = parsed.path + (b"?" + parsed.query if parsed.query else b"")
    path, _, query = url.partition(b"#")[0].partition(b"?")
    return unquote_to_bytes(path).decode("latin-1"), query.decode("latin-1")


_ONCE = ("HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_AUTHORIZATION")
"""What a proxy and we could understand differently if it came twice."""


def _put_headers(environ: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1")
        if "_" in name:
            continue  # In an environ it could pass for another one, with a hyphen.
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            key = "HTTP_" + key
        value = raw_value.decode("latin-1").strip(" \t")
        if key in environ:
            if key in _ONCE:
                raise bad_request(f"{name} is given twice")
            value = f"{environ[key]},{value}"
        environ[key] = value


def _length(environ: dict[str, Any], version: str) -> int:
    """Bytes of the body, -1: in chunks. Raises Refused where two readers could see two different ends."""
    coding = environ.pop("HTTP_TRANSFER_ENCODING", None)
    length: str | None = environ.get("CONTENT_LENGTH")
    if coding is not None:
        if length is not None:
            raise bad_request("Content-Length and Transfer-Encoding exclude one another")
        if version == "1.0":
            raise bad_request("HTTP/1.0 knows no Transfer-Encoding")
        if coding.lower() != "chunked":
            raise Refused("501 Not Implemented", "of transfer codings only chunked is known")
        return -1
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise bad_request("Content-Length is not a number")
    return int(length)


class Chunks:
    """A body that comes in chunks. Extensions and trailers are refused: nobody sends them in earnest."""

    def __init__(self, body_max: int):
        self._body_max = body_max
        self._pieces: list[bytes] = []
        self._size = 0
        self.needed = 1
        """So many bytes, from where `take` stopped, have to be here before it can go on."""
        self.done = False

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)

    def take(self, data: bytes, start: int) -> int:
        """Take the whole chunks that `data` has from `start` on; where it stopped. Raises Refused."""
        while not self.done:
            line = _SIZE_LINE.match(data, start)
            if line is None:
                if not _SIZE_LINE_BEGUN.fullmatch(data, start):
                    raise bad_request("a chunk's size is not a hexadecimal number of up to 8 digits")
                self.needed = len(data) - start + 1
                break
            size = int(line[1], 16)
            self._size += size
            if self._size > self._body_max:
                raise too_large(self._body_max)
            end = line.end() + size
            if len(data) < end + 2:
                if not b"\r\n".startswith(data[end:]):
                    raise bad_request(_NOT_AT_ITS_END)
                self._size -= size
                self.needed = end + 2 - start
                break
            if data[end : end + 2] != b"\r\n":
                raise bad_request(_NOT_AT_ITS_END if size else "trailers are not taken")
            if size:
                self._pieces.append(data[line.end() : end])
            self.done = not size
            start = end + 2
        return start


_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_SIZE_LINE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,8}\r?)?")
_NOT_AT_ITS_END = "a chunk does not end where its size says"


def too_large(body_max: int) -> Refused:
    return Refused("413 Content Too Large", f"the body is larger than {body_max} bytes")


def head_too_large() -> Refused:
    return Refused("431 Request Header Fields Too Large", "the head of the request is too large")
