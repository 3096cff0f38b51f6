"""Keys, certificates and kubeconfigs of one throw-away cluster, valid for two days."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = datetime.timedelta(days=2)


class Authority:
    """A certificate authority that writes NAME.key and NAME.crt into one directory, mode 0600."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(f"test cluster {directory.name}", None)
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._write_pair("ca", self._key, self._certificate)

    def certificate(
        self, name: str, common_name: str, group: str | None = None, hosts: Sequence[str] = ()
    ) -> None:
        """Issue a certificate for a user of that name and group, and for a server at these hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        builder = _builder(_subject(common_name, group), self._name, key.public_key())
        builder = builder.add_extension(usage, critical=False)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False
            )
        self._write_pair(name, key, builder.sign(self._key, hashes.SHA256()))

    def signing_key(self, name: str) -> None:
        """Write NAME.key and NAME.pub, for tokens of service accounts."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(f"{name}.key", _pem(key))
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._write(f"{name}.pub", public)

    def kubeconfig(self, name: str, server: str) -> Path:
        """Write NAME.kubeconfig, which uses the certificate NAME at the API server `server`."""

        def text(file: str) -> str:
            return base64.b64encode((self._directory / file).read_bytes()).decode()

        path = self._write(
            f"{name}.kubeconfig",
            f"""apiVersion: v1
kind: Config
clusters:
- name: test
  cluster: {{server: "{server}", certificate-authority-data: {text("ca.crt")}}}
users:
- name: {name}
  user: {{client-certificate-data: {text(f"{name}.crt")}, client-key-data: {text(f"{name}.key")}}}
contexts:
- name: test
  context: {{cluster: test, user: {name}}}
current-context: test
""".encode(),
        )
        return path

    def _write_pair(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._write(f"{name}.key", _pem(key))
        self._write(f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def _write(self, name: str, content: bytes) -> Path:
        path = self._directory / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        return path


def _subject(common_name: str, group: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFE)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
