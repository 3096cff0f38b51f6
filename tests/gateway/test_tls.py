"""TLS, and clients that prove themselves by a certificate with a name on the list."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.feed.feed_venue import FeedVenue, feed_venue
from tests.gateway.over_grpc import limit, target_of
from tradsys.client import OrderPool, Refused, Unreachable
from tradsys.v1 import orders_pb2 as pb


@dataclass
class Signed:
    certificate: bytes
    key: bytes


class Authority:
    """Signs certificates that are valid for an hour."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self._certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = self._certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    def sign(self, name: str) -> Signed:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
        certificate = (
            self._builder(subject, key)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Signed(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def venue(tmp_path_factory, authority):
    place: Path = tmp_path_factory.mktemp("tls")
    server = authority.sign("localhost")
    names = {"certificate": server.certificate, "key": server.key, "client_ca": authority.certificate}
    for name, text in names.items():
        (place / f"{name}.pem").write_bytes(text)
    files = {f"grpc_{name}_file": place / f"{name}.pem" for name in names}
    with feed_venue(
        place, ("engine", "gateway"), grpc_client_names="desk.example,other.example", **files
    ) as running:
        yield running


def pool(venue: FeedVenue, token: str, trusted: bytes, client: Signed | None) -> OrderPool:
    credentials = grpc.ssl_channel_credentials(
        trusted, client.key if client else None, client.certificate if client else None
    )
    target = target_of(venue).replace("127.0.0.1", "localhost")
    return OrderPool(target, token, channels=1, credentials=credentials, patience_s=0.0)


def test_a_client_whose_name_is_on_the_list_trades(venue, authority):
    market, alice = venue.market(), venue.account("limits")

    with pool(venue, alice.token, authority.certificate, authority.sign("desk.example")) as desk:
        placed = desk.place(limit(market, "buy", "1", "9"))

    assert placed.status == pb.ORDER_STATUS_NEW


def test_a_client_with_another_name_is_refused(venue, authority):
    alice = venue.account("limits")

    with (
        pool(venue, alice.token, authority.certificate, authority.sign("eve.example")) as eve,
        pytest.raises(Refused) as caught,
    ):
        eve.cancel("a-1")

    assert caught.value.code == 2003


@pytest.mark.parametrize("who", ["nobody", "of another authority"])
def test_without_a_certificate_of_the_authority_there_is_no_connection(venue, authority, who):
    alice = venue.account("limits")
    client = None if who == "nobody" else Authority().sign("desk.example")
    stranger = pool(venue, alice.token, authority.certificate, client)

    with pytest.raises(Unreachable):
        stranger.cancel("a-1")
    stranger.close()


def test_a_client_without_tls_gets_no_answer(venue):
    alice = venue.account("limits")
    plain = OrderPool(target_of(venue), alice.token, channels=1, patience_s=0.0)

    with pytest.raises(Unreachable):
        plain.cancel("a-1")
    plain.close()


def test_a_server_of_another_authority_is_not_trusted(venue, authority):
    alice = venue.account("limits")
    desk = pool(venue, alice.token, Authority().certificate, authority.sign("desk.example"))

    with pytest.raises(Unreachable):
        desk.cancel("a-1")
    desk.close()
