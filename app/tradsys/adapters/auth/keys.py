"""The keys that tokens are verified with: one shared secret, or a file of public keys that may rotate.

Each key is pinned to one algorithm when it is loaded; what a token's header says is only ever compared
with that. So a public key can't be used as a secret, and `none` is no algorithm of any key.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from typing import Any, Final, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from tradsys.adapters.auth import base64url
from tradsys.adapters.auth.strict_json import parse_object

NO_KID = ""
"""The name of a key without a name, and what a token without `kid` asks for."""

SECRET_BYTES_MIN = 32
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
"""Below: can be factored. Above: one verification takes longer than a hundred orders."""
FILE_BYTES_MAX = 64 * 1024
KEYS_MAX = 32
KID_CHARS_MAX = 256

# kty and crv of RFC 7517/7518/8037 → algorithm, and the members that make the public key.
_PINNED: Final[dict[tuple[str, str | None], tuple[str, tuple[str, ...]]]] = {
    ("RSA", None): ("RS256", ("n", "e")),
    ("EC", "P-256"): ("ES256", ("x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", ("x",)),
}
_SECRET_MEMBERS = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))


class KeyFileError(Exception):
    """A key file can't be used. The text names the file and the reason, never what it holds."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


class VerificationKey:
    """One key with the one algorithm it is for."""

    __slots__ = ("_algorithm", "_key", "alg", "material")

    def __init__(self, alg: str, key: Any, material: str = "") -> None:
        self.alg = alg
        self.material = material
        """What a public key is made of: equal texts are the same key."""
        self._key = key
        self._algorithm = jwt.get_algorithm_by_name(alg)

    def signed(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether the signature over these bytes is of this key."""
        return self._algorithm.verify(signing_input, self._key, signature)

    def __repr__(self) -> str:
        return f"<VerificationKey {self.alg}>"


class Keys(Protocol):
    """Where a verifier finds its keys."""

    @property
    def current(self) -> Mapping[str, VerificationKey]:
        """Keys by `kid`. A change puts another mapping here, in which a kept key is the same object."""

    @property
    def error(self) -> str:
        """Why the keys may be out of date; "" if they are not."""

    def look(self) -> None:
        """Look for changed keys. Never raises."""


# --- one shared secret ------------------------------------------------------------------------------


class HmacKey:
    """A secret for HS256, the same for the issuer and the venue. It is read once."""

    __slots__ = ("current", "secret")
    error = ""

    def __init__(self, secret: bytes) -> None:
        """Raises ValueError: shorter than 32 bytes, or a public key in place of a secret."""
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(f"the secret has {len(secret)} bytes, at least {SECRET_BYTES_MIN} are needed")
        try:
            key = jwt.get_algorithm_by_name("HS256").prepare_key(secret)
        except jwt.InvalidKeyError:
            raise ValueError("the secret is a key or certificate of another algorithm") from None
        self.secret = secret
        self.current: Mapping[str, VerificationKey] = {NO_KID: VerificationKey("HS256", key)}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HmacKey:
        """Read the secret: the bytes of the file, without the line end that closes a text file.

        Raises KeyFileError.
        """
        content = _read(os.fspath(path))
        if content.isascii() and content.rstrip(b"\r\n").decode().isprintable():
            content = content.rstrip(b"\r\n")
        try:
            return cls(content)
        except ValueError as refusal:
            raise KeyFileError(os.fspath(path), str(refusal)) from None

    def look(self) -> None:
        """A secret stays until the process ends: exchanging it makes every token invalid anyway."""

    def __repr__(self) -> str:
        return "<HmacKey>"


def create_key(path: str | os.PathLike[str]) -> None:
    """Write a new secret of 256 random bits as a line of text, readable by its owner only.

    The file appears whole or not at all. Raises FileExistsError rather than replace one.
    """
    target = os.fspath(path)
    folder, name = os.path.split(target)
    draft = os.path.join(folder, f".{name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_urlsafe(SECRET_BYTES_MIN).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: rename would silently replace the key that another process just made.
        os.link(draft, target)
    finally:
        os.unlink(draft)
    folder_fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


# --- a file of public keys --------------------------------------------------------------------------


class JwksFile:
    """Public keys for RS256, ES256 and EdDSA in a JWKS file (RFC 7517), which may be exchanged at any time.

    Keys for other purposes or algorithms are passed over, as the RFC asks. The whole file is refused if
    it holds a secret, a weak or damaged key, or one `kid` twice: those are mistakes that somebody must
    see. A refused or missing file leaves the keys as they were and says why in `error`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises KeyFileError if the file can't be used now."""
        self.path = os.fspath(path)
        self.error = ""
        """Why the file as it is now could not be used; "" if it is in use."""
        self._seen = _read(self.path)
        self._seen_error = ""
        self.current = _public_keys(self.path, self._seen, {})

    def look(self) -> None:
        """Take over a changed file; 15 µs if it has not changed.

        The bytes are compared, not the time stamp: two changes within one tick of the file system's
        clock leave the same stamp, and a mounted secret changes its folder, not the file.
        """
        try:
            content = _read(self.path)
        except KeyFileError as fault:
            self.error = fault.detail
            return
        if content != self._seen:
            self._seen = content
            try:
                self.current = _public_keys(self.path, content, self.current)
                self._seen_error = ""
            except KeyFileError as fault:
                self._seen_error = fault.detail
        self.error = self._seen_error


def _public_keys(
    path: str, content: bytes, known: Mapping[str, VerificationKey]
) -> dict[str, VerificationKey]:
    """Keys by `kid`; a key that is `known` under the same name stays the same object."""
    try:
        entries = parse_object(content).get("keys")
    except ValueError:
        raise KeyFileError(path, "not a JSON object without duplicate members") from None
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise KeyFileError(path, f'"keys" is not a list of at most {KEYS_MAX} keys')
    keys: dict[str, VerificationKey] = {}
    for index, entry in enumerate(entries):
        try:
            named = _public_key(entry)
        except ValueError as refusal:
            raise KeyFileError(path, f"key {index}: {refusal}") from None
        if named is None:
            continue
        kid, key = named
        if kid in keys:
            raise KeyFileError(path, f"key {index}: its kid occurs twice")
        old = known.get(kid)
        keys[kid] = old if old is not None and old.material == key.material else key
    if not keys:
        raise KeyFileError(path, "no key that verifies RS256, ES256 or EdDSA signatures")
    return keys


def _public_key(entry: object) -> tuple[str, VerificationKey] | None:
    """The name and key of one entry; None if it is for something else. Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    # First of all: whoever may read this file could sign with such a key.
    if entry.get("kty") == "oct" or not _SECRET_MEMBERS.isdisjoint(entry):
        raise ValueError("it holds a secret; publish the public part only")
    kty, crv = entry.get("kty"), entry.get("crv")
    pinned = _PINNED.get((str(kty), crv and str(crv)))
    if pinned is None:
        return None
    alg, members = pinned
    if entry.get("use", "sig") != "sig" or entry.get("alg", alg) != alg:
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None

    kid = entry.get("kid", NO_KID)
    if not isinstance(kid, str) or ("kid" in entry and not 1 <= len(kid) <= KID_CHARS_MAX):
        raise ValueError(f"its kid is not a text of 1 to {KID_CHARS_MAX} characters")
    public = {"kty": kty, "crv": crv}
    for member in members:
        text = entry.get(member)
        if not isinstance(text, str):
            raise ValueError(f"{member} is missing or not a text")
        try:
            base64url.decode(text)
        except ValueError as refusal:
            raise ValueError(f"{member} is {refusal}") from None
        public[member] = text
    # The exceptions of the libraries may quote the key, so they are not passed on.
    try:
        key: Any = jwt.get_algorithm_by_name(alg).from_jwk(public)
    except (ValueError, TypeError, jwt.InvalidKeyError, UnsupportedAlgorithm):
        raise ValueError("it is damaged") from None
    if alg == "RS256" and not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        raise ValueError(f"an RSA key has {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, not {key.key_size}")
    return kid, VerificationKey(alg, key, material=alg + "".join(f".{public[member]}" for member in members))


def _read(path: str) -> bytes:
    """The bytes of a regular file of bounded size. Raises KeyFileError."""
    try:
        # Not blocking: a FIFO in this place must not stop the engine.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise KeyFileError(path, "not a regular file")
            with open(fd, "rb", closefd=False) as file:
                content = file.read(FILE_BYTES_MAX + 1)
        finally:
            os.close(fd)
    except OSError as fault:
        raise KeyFileError(path, fault.strerror or "can't be read") from None
    if len(content) > FILE_BYTES_MAX:
        raise KeyFileError(path, f"larger than {FILE_BYTES_MAX} bytes")
    return content
