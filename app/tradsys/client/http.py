"""HTTP/1.1 as a venue's client needs it: one kept-alive connection, one request under way at a time.

`http.client` parses headers with the e-mail package, which costs more than everything else a client does
for a small JSON answer. This module reads the status line and the few headers that decide how the body
ends, and keeps the others as they came. Sending and receiving are two calls, so that a caller may
have one request under way on each of many connections and wait for all of them with `select`.
"""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from msgspec import Struct

HEAD_BYTES_MAX = 65_536
"""A head longer than this is not an answer of ours."""


class ConnectionLost(OSError):
    """The connection ended while a request was under way: whether it was served is unknown."""


class Response(Struct, frozen=True):
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Connection:
    """A connection to the host of `url`, opened on first use and again after `close`.

    `timeout_s` bounds connecting, sending and the wait for each part of an answer. OSError tells that
    the host can't be reached, TimeoutError (an OSError too) that it did not answer in time.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http URL: {url!r}")
        self.host = parts.hostname
        self.secure = parts.scheme == "https"
        self.port = parts.port or (443 if self.secure else 80)
        self._base = parts.path.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        self._host_line = f"Host: {host}:{self.port}\r\n" if parts.port else f"Host: {host}\r\n"
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._pending = b""

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def open(self) -> None:
        plain = socket.create_connection((self.host, self.port), timeout=self._timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.secure:
            self._socket = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
        else:
            self._socket = plain
        self._pending = b""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def send(self, method: str, path: str, headers: str = "", body: bytes = b"") -> None:
        """Send one request; `headers` are whole lines, each ending in CR LF."""
        if self._socket is None:
            self.open()
        assert self._socket is not None
        length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT") else ""
        head = f"{method} {self._base}{path} HTTP/1.1\r\n{self._host_line}{headers}{length}\r\n"
        try:
            self._socket.sendall(head.encode("latin-1") + body)
        except OSError:
            self.close()
            raise

    def receive(self) -> Response:
        """The answer to the request under way, whole. ConnectionLost if it ends before."""
        try:
            response, keep = self._read_response()
        except OSError:
            self.close()
            raise
        except ValueError as fault:
            self.close()
            raise ConnectionLost(f"the answer is not HTTP/1.1 ({fault})") from None
        if not keep:
            self.close()
        return response

    def request(self, method: str, path: str, headers: str = "", body: bytes = b"") -> Response:
        self.send(method, path, headers, body)
        return self.receive()

    def _read_response(self) -> tuple[Response, bool]:
        head = self._read_until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        version, status_text, _ = (lines[0] + "  ").split(" ", 2)
        if not version.startswith("HTTP/1."):
            raise ValueError("no status line")
        status = int(status_text)
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if status == 100:
            return self._read_response()
        keep = headers.get("connection", "").lower() != "close" and version != "HTTP/1.0"
        if status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._read_chunks()
        elif "content-length" in headers:
            body = self._read_exactly(int(headers["content-length"]))
        else:
            body, keep = self._read_to_end(), False
        return Response(status, headers, body), keep

    def _read_chunks(self) -> bytes:
        chunks = []
        while size := int(self._read_until(b"\r\n").split(b";")[0], 16):
            chunks.append(self._read_exactly(size))
            self._read_until(b"\r\n")
        while self._read_until(b"\r\n"):
            pass
        return b"".join(chunks)

    def _read_more(self) -> bytes:
        assert self._socket is not None
        return self._socket.recv(65_536)

    def _read_until(self, mark: bytes) -> bytes:
        while (at := self._pending.find(mark)) < 0:
            if len(self._pending) > HEAD_BYTES_MAX:
                raise ValueError("endless head")
            more = self._read_more()
            if not more:
                raise ConnectionLost("the server closed the connection")
            self._pending += more
        found, self._pending = self._pending[:at], self._pending[at + len(mark) :]
        return found

    def _read_exactly(self, size: int) -> bytes:
        if len(self._pending) >= size:
            found, self._pending = self._pending[:size], self._pending[size:]
            return found
        parts, have = [self._pending], len(self._pending)
        while have < size:
            more = self._read_more()
            if not more:
                raise ConnectionLost("the server closed the connection within an answer")
            parts.append(more)
            have += len(more)
        whole = b"".join(parts)
        self._pending = whole[size:]
        return whole[:size]

    def _read_to_end(self) -> bytes:
        parts = [self._pending]
        while more := self._read_more():
            parts.append(more)
        self._pending = b""
        return b"".join(parts)
