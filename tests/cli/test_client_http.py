"""The client's HTTP against a real socket that answers what the test says, byte for byte."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tradsys.client.http import Connection, ConnectionLost, Response
from tradsys.client.rest import Refused, RestClient, Unreachable, path_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers each request of each connection with the next of `answers`; b"" closes the connection."""

    def __init__(self, *answers: bytes, tls: Path | None = None) -> None:
        self.requests: list[bytes] = []
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if tls else None
        if self._tls:
            self._tls.load_cert_chain(tls)
        self.connections = 0
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            if self._tls:
                try:
                    peer = self._tls.wrap_socket(peer, server_side=True)
                except ssl.SSLError:
                    continue
            self.connections += 1
            with peer:
                while self._answers and (request := self._read(peer)):
                    self.requests.append(request)
                    answer = self._answers.pop(0)
                    if not answer:
                        break
                    step = 7 if len(answer) < 1_000 else 50_000  # In pieces, as a network may deliver it.
                    for i in range(0, len(answer), step):
                        peer.sendall(answer[i : i + step])

    def _read(self, peer: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            more = peer.recv(4096)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        size = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        while len(body) < size:
            body += peer.recv(4096)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listener.close()


@contextmanager
def served(*answers: bytes, tls: Path | None = None) -> Iterator[Server]:
    server = Server(*answers, tls=tls)
    try:
        yield server
    finally:
        server.close()


def refusing_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_each_way_to_end_a_body_is_read_whole_and_the_connection_stays(answer: bytes, body: bytes):
    with served(answer, OK) as server:
        connection = Connection(server.url)

        assert connection.request("GET", "/a").body == body
        assert connection.request("GET", "/b") == Response(200, {"content-length": "2"}, b"{}")
        assert server.connections == 1


def test_a_body_larger_than_one_read_is_whole():
    body = b"0123456789" * 20_000
    with served(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), OK) as server:
        connection = Connection(server.url)

        assert connection.request("GET", "/").body == body
        assert connection.request("GET", "/").body == b"{}"


def test_a_body_that_ends_too_early_is_a_lost_connection():
    with served(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", b"") as server:
        connection = Connection(server.url, timeout_s=0.5)

        with pytest.raises((ConnectionLost, TimeoutError)):
            connection.request("GET", "/")
        assert not connection.is_open


def test_https_is_spoken_with_those_whose_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trusted = certificate(tmp_path)
    with served(OK, OK, tls=trusted) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            Connection(server.url).request("GET", "/")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

        assert Connection(server.url).request("GET", "/").body == b"{}"


def certificate(directory: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "venue")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "venue.pem"
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_an_answer_without_a_length_ends_with_the_connection():
    with served(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhel") as server:
        connection = Connection(server.url)

        assert connection.request("GET", "/").body == b"hel"
        assert not connection.is_open


def test_a_request_is_written_as_http_wants_it():
    with served(OK) as server:
        Connection(server.url + "/s/a").request("POST", "/api/v1/orders", "X-Test: 1\r\n", b"{}")

    host = server.url.removeprefix("http://").encode()
    assert server.requests == [
        b"POST /s/a/api/v1/orders HTTP/1.1\r\nHost: " + host + b"\r\nX-Test: 1\r\nContent-Length: 2\r\n\r\n{}"
    ]


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 two\r\n\r\n", b"HTTP/1.1 200 OK\r\n"]
)
def test_what_is_no_http_answer_is_a_lost_connection(answer: bytes):
    with served(answer + b"", b"") as server:
        connection = Connection(server.url, timeout_s=0.5)

        with pytest.raises((ConnectionLost, TimeoutError)):
            connection.request("GET", "/")
        assert not connection.is_open


def test_a_refusal_carries_what_the_venue_said():
    body = b'{"code":1004,"message":"off the grid","details":{"field":"price"},"request_id":"r1"}'
    answer = b"HTTP/1.1 422 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with served(answer) as server, pytest.raises(Refused) as refusal:
        RestClient(server.url).post("/orders", {})

    assert (refusal.value.status, refusal.value.code, refusal.value.message) == (422, 1004, "off the grid")
    assert (refusal.value.details, refusal.value.request_id) == ({"field": "price"}, "r1")


def test_an_error_page_of_something_else_is_a_refusal_with_its_status():
    page = b"<html>Bad Gateway</html>"
    answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page)
    with served(answer) as server, pytest.raises(Refused, match="HTTP status 502"):
        RestClient(server.url).get("/time")


def test_an_unknown_outcome_is_asked_again_where_a_repeat_is_safe():
    unknown = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
    with served(unknown, b"", OK) as server:
        assert RestClient(server.url).post("/orders", {"client_order_id": "a"}, repeatable=True) == {}

    assert len(server.requests) == 3
    assert len(set(server.requests)) == 1


def test_a_lost_answer_is_not_asked_again_where_a_repeat_is_not_safe():
    with served(b"", OK) as server:
        with pytest.raises(Unreachable) as failure:
            RestClient(server.url).post("/orders", {})

        assert failure.value.outcome_unknown
        assert len(server.requests) == 1


def test_a_connection_that_was_closed_while_idle_is_opened_again():
    with served(OK, b"", OK) as server:
        client = RestClient(server.url)
        client.get("/time")

        assert client.get("/time") == {}
        assert server.connections == 2


def test_nobody_listening_is_unreachable_and_nothing_was_sent():
    with pytest.raises(Unreachable) as failure:
        RestClient(refusing_url()).post("/orders", {})

    assert not failure.value.outcome_unknown


def test_a_redirect_is_followed_with_the_token_only_on_the_same_host():
    with served(OK) as query, served(OK) as stranger:
        there = query.url.encode() + b"/api/v1/orders/a-1"
        away = stranger.url.replace("127.0.0.1", "localhost").encode() + b"/api/v1/orders/a-1"
        redirect = b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"
        with served(redirect % there, redirect % away) as engine:
            client = RestClient(engine.url, token="secret")
            client.get("/orders/a-1")
            client.get("/orders/a-1")

        assert b"Authorization: Bearer secret" in query.requests[0]
        assert b"Authorization" not in stranger.requests[0]


def test_a_redirect_to_something_else_is_not_followed():
    redirect = b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:1/etc\r\n\r\n"
    with served(redirect) as engine, pytest.raises(Unreachable, match="no API of a venue"):
        RestClient(engine.url).get("/orders/a-1")


def test_a_path_holds_any_name():
    assert path_of("a/b c", "*", "BTC-USD") == "/a%2Fb%20c/%2A/BTC-USD"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ValueError, match="not an http URL"):
        Connection(url)
