"""Key files: what is taken, what is refused with which words, and how a file may change."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from tests.security.forged import eddsa, es256, rs256
from tradsys.adapters.auth.keys import HmacKey, JwksFile, KeyFileError, create_key

# --- the shared secret ------------------------------------------------------------------------------


def test_a_created_key_is_random_long_enough_and_for_its_owner_only(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    umask = os.umask(0)
    try:
        for path in paths:
            create_key(path)
    finally:
        os.umask(umask)

    keys = [HmacKey.load(path) for path in paths]

    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o600]
    assert keys[0].secret != keys[1].secret
    assert len(keys[0].secret) >= 32
    assert sorted(os.listdir(tmp_path)) == ["one", "two"], "a draft was left behind"


def test_a_created_key_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_key(path)
    before = path.read_bytes()

    with pytest.raises(FileExistsError):
        create_key(path)

    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["key"]


def test_a_key_is_not_created_through_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FileExistsError):
        create_key(tmp_path / "key")

    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"s" * 32, b"s" * 32),
        (b"s" * 32 + b"\n", b"s" * 32),
        (b"s" * 32 + b"\r\n", b"s" * 32),
        (b" " + b"s" * 32 + b" \n", b" " + b"s" * 32 + b" "),
        (b"\xff" * 31 + b"\n", b"\xff" * 31 + b"\n"),
        (bytes(range(32)), bytes(range(32))),
    ],
)
def test_the_secret_is_the_file_without_the_line_end_of_a_text(
    content: bytes, secret: bytes, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(content)

    assert HmacKey.load(tmp_path / "key").secret == secret


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "the secret has 0 bytes, at least 32 are needed"),
        (b"s" * 31, "the secret has 31 bytes, at least 32 are needed"),
        (b"s" * 31 + b"\n", "the secret has 31 bytes, at least 32 are needed"),
        (rs256("a").public_pem(), "the secret is a key or certificate of another algorithm"),
        (
            json.dumps(eddsa("a").public_jwk()).encode(),
            "the secret is a key or certificate of another algorithm",
        ),
        (b"s" * 70_000, "larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_good_secret_is_refused(content: bytes, detail: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(KeyFileError) as refusal:
        HmacKey.load(tmp_path / "key")

    assert str(refusal.value) == f"{tmp_path / 'key'}: {detail}"


@pytest.mark.parametrize("load", [HmacKey.load, JwksFile])
def test_what_is_no_regular_file_is_refused_without_waiting(load: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    reasons = {}

    for name in ("fifo", "folder", "missing"):
        with pytest.raises(KeyFileError) as refusal:
            load(tmp_path / name)
        reasons[name] = refusal.value.detail

    assert reasons == {
        "fifo": "not a regular file",
        "folder": "not a regular file",
        "missing": "No such file or directory",
    }


def test_no_text_shows_a_secret(tmp_path: Path) -> None:
    secret = "canary-9d2e-canary-9d2e-canary-9d2e"
    key = HmacKey(secret.encode())
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": secret, "kid": "a"}]}))

    with pytest.raises(KeyFileError) as refusal:
        JwksFile(tmp_path / "jwks.json")

    shown = [repr(key), repr(key.current), str(refusal.value), repr(refusal.value)]
    assert [text for text in shown if "canary" in text] == []


# --- public keys ------------------------------------------------------------------------------------


def write(path: Path, *entries: Any) -> None:
    path.write_text(json.dumps({"keys": entries}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jwks.json"


RSA = rs256("rsa").public_jwk()
EC = es256("ec").public_jwk()
ED = eddsa("ed").public_jwk()


def of_another_algorithm() -> list[dict[str, Any]]:
    """Public keys that the venue has no use for, as an issuer may publish them beside others."""
    p384 = jwt.get_algorithm_by_name("ES384").to_jwk(
        ec.generate_private_key(ec.SECP384R1()).public_key(), True
    )
    ed448_key = jwt.get_algorithm_by_name("EdDSA").to_jwk(ed448.Ed448PrivateKey.generate().public_key(), True)
    return [
        p384 | {"kid": "p384"},
        ed448_key | {"kid": "ed448"},
        RSA | {"kid": "encrypts", "use": "enc"},
        RSA | {"kid": "wraps", "key_ops": ["wrapKey"]},
        RSA | {"kid": "rs512", "alg": "RS512"},
        EC | {"kid": "ecdh", "alg": "ECDH-ES"},
        ED | {"kid": "x25519", "crv": "X25519"},
        {"kty": "new", "kid": "future"},
        {"kty": ["RSA"], "kid": "odd"},
        {},
    ]


def test_each_key_is_pinned_to_one_algorithm(path: Path) -> None:
    write(path, RSA, EC, ED)

    keys = JwksFile(path)

    assert {kid: key.alg for kid, key in keys.current.items()} == {
        "rsa": "RS256",
        "ec": "ES256",
        "ed": "EdDSA",
    }
    assert keys.error == ""


def test_keys_for_something_else_are_passed_over(path: Path) -> None:
    write(path, *of_another_algorithm(), ED, RSA | {"kid": "named", "alg": "RS256", "key_ops": ["verify"]})

    assert sorted(JwksFile(path).current) == ["ed", "named"]


def test_one_key_may_go_without_a_name(path: Path) -> None:
    write(path, {name: value for name, value in ED.items() if name != "kid"}, RSA)

    assert {kid: key.alg for kid, key in JwksFile(path).current.items()} == {"": "EdDSA", "rsa": "RS256"}


def without(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return {member: value for member, value in entry.items() if member != name}


NO_KEY = "no key that verifies RS256, ES256 or EdDSA signatures"
SECRET_INSIDE = "it holds a secret; publish the public part only"
DAMAGED = "it is damaged"


@pytest.mark.parametrize(
    ("entries", "detail"),
    [
        ([], NO_KEY),
        (of_another_algorithm(), NO_KEY),
        ([ED, "text"], "key 1: not an object"),
        ([ED, {"kty": "oct", "kid": "s", "k": "c2VjcmV0"}], f"key 1: {SECRET_INSIDE}"),
        ([{"kty": "oct", "kid": "s"}], f"key 0: {SECRET_INSIDE}"),
        ([RSA | {"d": "AQAB"}], f"key 0: {SECRET_INSIDE}"),
        ([EC | {"d": "AQAB", "use": "enc"}], f"key 0: {SECRET_INSIDE}"),
        ([{"kty": "new", "k": "AQAB"}], f"key 0: {SECRET_INSIDE}"),
        ([ED, RSA, ED], "key 2: its kid occurs twice"),
        ([without(ED, "kid"), without(EC, "kid")], "key 1: its kid occurs twice"),
        ([ED | {"kid": ""}], "key 0: its kid is not a text of 1 to 256 characters"),
        ([ED | {"kid": None}], "key 0: its kid is not a text of 1 to 256 characters"),
        ([ED | {"kid": 7}], "key 0: its kid is not a text of 1 to 256 characters"),
        ([ED | {"kid": "k" * 257}], "key 0: its kid is not a text of 1 to 256 characters"),
        ([rs256("weak", bits=1024).public_jwk()], "key 0: an RSA key has 2048 to 8192 bits, not 1024"),
        ([RSA | {"e": "AQ"}], f"key 0: {DAMAGED}"),
        ([RSA | {"e": "Ag"}], f"key 0: {DAMAGED}"),
        ([RSA | {"n": ""}], f"key 0: {DAMAGED}"),
        ([without(RSA, "n")], "key 0: n is missing or not a text"),
        ([RSA | {"e": 65537}], "key 0: e is missing or not a text"),
        ([RSA | {"e": "AQAB="}], "key 0: e is not canonical base64url"),
        ([RSA | {"e": "AQ!B"}], "key 0: e is not canonical base64url"),
        ([EC | {"x": EC["y"]}], f"key 0: {DAMAGED}"),
        ([EC | {"x": "AAAA"}], f"key 0: {DAMAGED}"),
        ([without(EC, "y")], "key 0: y is missing or not a text"),
        ([ED | {"x": "AAAA"}], f"key 0: {DAMAGED}"),
        ([ED | {"kid": str(number)} for number in range(33)], '"keys" is not a list of at most 32 keys'),
    ],
)
def test_a_file_with_a_mistake_is_refused_as_a_whole(entries: list[Any], detail: str, path: Path) -> None:
    write(path, *entries)

    with pytest.raises(KeyFileError) as refusal:
        JwksFile(path)

    assert str(refusal.value) == f"{path}: {detail}"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "not a JSON object without duplicate members"),
        (b"[]", "not a JSON object without duplicate members"),
        (b'{"keys": [], "keys": []}', "not a JSON object without duplicate members"),
        (b'{"keys": [{"kty": "OKP", "kty": "RSA"}]}', "not a JSON object without duplicate members"),
        (b"{}", '"keys" is not a list of at most 32 keys'),
        (b'{"keys": {}}', '"keys" is not a list of at most 32 keys'),
        (b"\xff", "not a JSON object without duplicate members"),
        (b'{"a": ' + b"[" * 30_000, "not a JSON object without duplicate members"),
        (b" " * 70_000, "larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_key_set_is_refused(content: bytes, detail: str, path: Path) -> None:
    path.write_bytes(content)

    with pytest.raises(KeyFileError) as refusal:
        JwksFile(path)

    assert str(refusal.value) == f"{path}: {detail}"


# --- a file that changes ----------------------------------------------------------------------------


def test_a_change_is_seen_at_the_next_look(path: Path) -> None:
    write(path, ED)
    keys = JwksFile(path)
    write(path, ED, RSA)
    before = sorted(keys.current)

    keys.look()

    assert (before, sorted(keys.current)) == (["ed"], ["ed", "rsa"])


def test_a_change_that_keeps_size_time_and_inode_is_seen(path: Path) -> None:
    write(path, ED)
    keys = JwksFile(path)
    before = path.stat()
    write(path, eddsa("ed").public_jwk())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    first = keys.current

    keys.look()

    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )
    assert keys.current["ed"] is not first["ed"]


def test_a_key_that_stays_is_the_same_object_and_an_unchanged_file_the_same_mapping(path: Path) -> None:
    write(path, ED, EC)
    keys = JwksFile(path)
    first = keys.current

    keys.look()
    unchanged = keys.current
    write(path, RSA, ED | {"use": "sig", "note": "moved"}, es256("ec").public_jwk())
    keys.look()

    assert unchanged is first
    assert keys.current["ed"] is first["ed"]
    assert keys.current["ec"] is not first["ec"]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: path.write_text("{"), "not a JSON object without duplicate members"),
        (lambda path: write(path), NO_KEY),
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
        (lambda path: write(path, RSA, ED | {"d": "AQAB"}), f"key 1: {SECRET_INSIDE}"),
    ],
)
def test_a_broken_file_keeps_the_keys_and_says_why_until_it_is_whole(
    spoil: Callable[[Path], object], error: str, path: Path
) -> None:
    write(path, ED)
    keys = JwksFile(path)
    first = keys.current
    spoil(path)

    errors = []
    for _ in range(2):
        keys.look()
        errors.append(keys.error)
    kept = keys.current
    if path.is_dir():
        path.rmdir()
    write(path, ED)
    keys.look()

    assert errors == [error, error]
    assert kept is first
    assert keys.error == ""
    assert keys.current["ed"] is first["ed"]


def test_looking_leaves_no_file_open(path: Path) -> None:
    write(path, ED)
    keys = JwksFile(path)
    before = len(os.listdir("/proc/self/fd"))

    for look in range(60):
        if look == 20:
            path.unlink()
        if look == 40:
            path.mkdir()
        keys.look()

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_shared_secret_never_changes() -> None:
    keys = HmacKey(b"s" * 32)
    first = keys.current

    keys.look()

    assert keys.current is first
    assert keys.error == ""
