"""Tokens that must not be accepted, each with the rule it breaks, and the means to sign good ones.

`forged(key, now)` starts from a token that is good in every respect and spoils one thing at a time, so
that each rule is what refuses it. All of them are printable ASCII: they can be sent in a header.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER = "tradsys"
AUDIENCE = "tradsys"


@dataclass(frozen=True)
class Forged:
    name: str
    token: str
    why: str
    """The rule that refuses it, in the words that the venue logs."""


@dataclass(frozen=True)
class Signer:
    """The private half of a key: what an issuer has."""

    alg: str
    key: Any
    kid: str | None = None

    def header(self, **changes: Any) -> dict[str, Any]:
        header = {"typ": "JWT", "alg": self.alg} | ({"kid": self.kid} if self.kid else {}) | changes
        return {name: value for name, value in header.items() if value is not ABSENT}

    def sign(self, header: dict[str, Any] | bytes, claims: dict[str, Any] | bytes) -> str:
        signing_input = f"{b64(header)}.{b64(claims)}"
        return f"{signing_input}.{b64(self.signature(signing_input))}"

    def signature(self, signing_input: str) -> bytes:
        return jwt.get_algorithm_by_name(self.alg).sign(signing_input.encode(), self.key)

    def public_jwk(self) -> dict[str, Any]:
        jwk = jwt.get_algorithm_by_name(self.alg).to_jwk(self.key.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        return jwk | ({"kid": self.kid} if self.kid else {}) | {"use": "sig"}

    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


ABSENT = object()
"""In changes of a header or of claims: leave this member out."""


def hs256(secret: bytes) -> Signer:
    return Signer("HS256", secret)


def rs256(kid: str | None, bits: int = 2048) -> Signer:
    return Signer("RS256", rsa.generate_private_key(public_exponent=65537, key_size=bits), kid)


def es256(kid: str | None) -> Signer:
    return Signer("ES256", ec.generate_private_key(ec.SECP256R1()), kid)


def eddsa(kid: str | None) -> Signer:
    return Signer("EdDSA", ed25519.Ed25519PrivateKey.generate(), kid)


def good_claims(now: int, issuer: str = ISSUER, audience: str = AUDIENCE, **changes: Any) -> dict[str, Any]:
    """Claims that are valid at `now` (unix seconds)."""
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": "alice@example.com",
        "acct": "demo",
        "scope": "trade read admin",
        "iat": now - 10,
        "nbf": now - 10,
        "exp": now + 3600,
        "jti": "0123456789abcdef",
    } | changes
    return {name: value for name, value in claims.items() if value is not ABSENT}


def b64(part: dict[str, Any] | bytes) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(key: bytes | Signer, now: int, issuer: str = ISSUER, audience: str = AUDIENCE) -> list[Forged]:
    """All forgeries against a venue that accepts tokens of `key` (a shared secret, or the private key
    of one public key in its JWKS file) at `now` (unix seconds)."""
    signer = hs256(key) if isinstance(key, bytes) else key
    table: list[Forged] = []

    def add(name: str, token: str, why: str) -> None:
        table.append(Forged(name, token, why))

    def header(name: str, why: str, **changes: Any) -> None:
        add(name, signer.sign(signer.header(**changes), claims), why)

    def claim(name: str, why: str, **changes: Any) -> None:
        add(name, signer.sign(signer.header(), good_claims(now, issuer, audience, **changes)), why)

    claims = good_claims(now, issuer, audience)
    good = signer.sign(signer.header(), claims)
    head, body, signature = good.split(".")
    header_text, claims_text = json.dumps(signer.header()), json.dumps(claims)
    stranger = rs256(signer.kid, bits=1024)

    # --- the algorithm
    wrong_alg = "alg is not the key's"
    none = b64(signer.header(alg="none"))
    add("alg none, signature of the good token", f"{none}.{body}.{signature}", wrong_alg)
    for spelling in ("none", "None", "NONE", "nOnE"):
        spelled = b64(signer.header(alg=spelling))
        add(f"alg {spelling}, any signature", f"{spelled}.{body}.AAAA", wrong_alg)
    add("alg none, no signature", f"{none}.{body}.", SHAPE)
    for absent, alg in {"absent": ABSENT, "null": None, "a number": 256, "a list": [signer.alg]}.items():
        header(f"alg {absent}", "alg is missing", alg=alg)
    for other in (
        "",
        signer.alg.lower(),
        signer.alg + " ",
        "HS384",
        "HS512",
        "PS256",
        "RS512",
        "ES384",
        "HS2048",
    ):
        header(f"alg {other!r}, signed as {signer.alg}", wrong_alg, alg=other)
    for other in {"HS256", "RS256", "ES256", "EdDSA"} - {signer.alg}:
        header(f"alg {other}, signed as {signer.alg}", wrong_alg, alg=other)
    for digest in ("SHA384", "SHA512"):
        alg = "HS" + digest[3:]
        text = f"{b64(signer.header(alg=alg))}.{body}"
        secret = signer.key if isinstance(signer.key, bytes) else signer.public_pem()
        mac = hmac.digest(secret, text.encode(), digest.lower())
        add(f"a correct {alg} of the same key", f"{text}.{b64(mac)}", wrong_alg)
    confusion = b64(signer.header(alg="HS256"))
    public = (stranger if isinstance(signer.key, bytes) else signer).public_pem()
    for form, secret in {"PEM": public, "PEM without line end": public.strip(), "nothing": b""}.items():
        mac = hmac.digest(secret, f"{confusion}.{body}".encode(), "sha256")
        why = BAD_SIGNATURE if signer.alg == "HS256" else wrong_alg
        add(f"HS256 with a public key as secret: {form}", f"{confusion}.{body}.{b64(mac)}", why)

    # --- the key and the signature
    add("signed by another key", other_key(signer).sign(signer.header(), claims), BAD_SIGNATURE)
    if isinstance(signer.key, bytes):
        for name, secret in {
            "the key without its last byte": signer.key[:-1],
            "the key and a line end": signer.key + b"\n",
            "the hash of the key": hashlib.sha256(signer.key).digest(),
            "zeros": bytes(32),
            "the word secret": b"secret",
        }.items():
            mac = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
            add(f"signed with {name}", f"{head}.{body}.{b64(mac)}", BAD_SIGNATURE)
    mac = base64.urlsafe_b64decode(signature + "==")
    for name, raw in {
        "one bit flipped": bytes([mac[0] ^ 1]) + mac[1:],
        "last bit flipped": mac[:-1] + bytes([mac[-1] ^ 1]),
        "cut by a byte": mac[:-1],
        "longer by a zero byte": mac + b"\0",
        "twice": mac + mac,
        "all zero": bytes(len(mac)),
        "all ones": b"\xff" * len(mac),
        "one byte": b"\0",
        "over the claims alone": signer.signature(body),
        "over the decoded parts": signer.signature(json.dumps(signer.header()) + json.dumps(claims)),
        "in hexadecimal": mac.hex().encode(),
    }.items():
        add(f"signature {name}", f"{head}.{body}.{b64(raw)}", BAD_SIGNATURE)
    add("signature of another token", f"{head}.{body}.{other_token(signer, now)}", BAD_SIGNATURE)
    more = b64(good_claims(now, issuer, audience, acct="treasury"))
    add("another account under the old signature", f"{head}.{more}.{signature}", BAD_SIGNATURE)
    longer = b64(good_claims(now, issuer, audience, exp=now + 7200))
    add("a longer life under the old signature", f"{head}.{longer}.{signature}", BAD_SIGNATURE)

    unknown = "no key of that kid"
    for kid in ("nobody", "../../../../dev/null", "' OR 1=1 --", "/proc/self/environ", "0"):
        header(f"kid {kid}", unknown, kid=kid)
    if signer.kid:
        header("kid absent", unknown, kid=ABSENT)
        header("kid in another case", unknown, kid=signer.kid.swapcase())
    bad_kid = "kid is not a text of 1 to 256 printable characters"
    for name, value in {
        "empty": "",
        "null": None,
        "a number": 0,
        "a list": [signer.kid],
        "an object": {},
        "true": True,
        "too long": "k" * 257,
        "with a NUL": f"{signer.kid}\0",
    }.items():
        header(f"kid {name}", bad_kid, kid=value)

    # --- what a header may hold
    refused = "the header has a member that is refused"
    own_key = stranger.public_jwk()
    header("crit empty", refused, crit=[])
    header("crit names exp", refused, crit=["exp"])
    header("crit names something unknown", refused, crit=["http://example.com/UNDEFINED"])
    header("jku", refused, jku="https://evil.example/jwks.json")
    header("jwk", refused, jwk=own_key)
    add("jwk, signed by that key", stranger.sign(signer.header(alg="RS256", jwk=own_key), claims), refused)
    header("x5u", refused, x5u="https://evil.example/cert.pem")
    header("x5c", refused, x5c=["MIIB"])
    header("b64 false", refused, b64=False, crit=["b64"])
    header("b64 true", refused, b64=True)
    header("zip", refused, zip="DEF")
    header("enc", refused, enc="A128GCM")
    header("cty, a token in a token", refused, cty="JWT")
    bad_typ = "the header's typ is not JWT or at+jwt"
    for name, typ in {
        "absent": ABSENT,
        "null": None,
        "a number": 1,
        "empty": "",
        "JOSE": "JOSE",
        "secevent": "secevent+jwt",
        "ID token": "id+jwt",
        "JWT and a space": "JWT ",
        "a list": ["JWT"],
        "dotless": "\N{LATIN SMALL LETTER DOTLESS J}wt",
    }.items():
        header(f"header typ {name}", bad_typ, typ=typ)

    # --- JSON that could be read in two ways
    bad_header = "the header is not canonical base64url of a strict JSON object"
    for name, text in spoiled(header_text, "alg", signer.alg).items():
        add(f"header {name}", signer.sign(text, claims), bad_header)
    bad_claims = "the claims are not canonical base64url of a strict JSON object"
    for name, text in spoiled(claims_text, "acct", "demo").items():
        add(f"claims {name}", signer.sign(signer.header(), text), bad_claims)
    for member in ("exp", "iss", "aud", "scope"):
        text = claims_text[:-1] + f', "{member}": {json.dumps(claims[member])}}}'
        add(f"claims with {member} twice, the same", signer.sign(signer.header(), text.encode()), bad_claims)

    # --- who and for whom
    bad_issuer = "iss is another issuer"
    for name, value in {
        "absent": ABSENT,
        "null": None,
        "empty": "",
        "another": "https://evil.example",
        "a list": [issuer],
        "in another case": issuer.swapcase(),
        "and a slash": issuer + "/",
        "and a NUL": issuer + "\0",
    }.items():
        claim(f"iss {name}", bad_issuer, iss=value)
    bad_audience = "aud is another audience"
    for name, value in {
        "absent": ABSENT,
        "null": None,
        "empty": "",
        "another": "other",
        "an empty list": [],
        "a number": 1,
        "an object": {audience: audience},
        "a list of others": ["a", "b"],
        "a prefix": audience[:-1],
        "two in one text": f"{audience} other",
    }.items():
        claim(f"aud {name}", bad_audience, aud=value)
    for name, value in {
        "a list with a number": [audience, 1],
        "a nested list": [[audience]],
        "too many": [audience] * 33,
    }.items():
        claim(f"aud {name}", "aud is not a short list of texts", aud=value)
    for name, value in {
        "absent": ABSENT,
        "null": None,
        "empty": "",
        "a number": 7,
        "too long": "s" * 256,
        "with a line end": "alice\n",
        "half a character": "\ud800",
    }.items():
        claim(f"sub {name}", "sub is not a text of 1 to 255 printable characters", sub=value)

    # --- when
    for name in ("exp", "iat", "nbf"):
        bad_time = f"{name} is not a time in whole seconds"
        if name != "nbf":
            claim(f"{name} absent", bad_time, **{name: ABSENT})
        for what, value in {
            "null": None,
            "a text": str(now + 60),
            "a float": now + 60.0,
            "negative": -1,
            "true": True,
            "2^53": 2**53,
            "2^63": 2**63,
            "2^64": 2**64,
            "a list": [now],
            "an object": {},
        }.items():
            claim(f"{name} {what}", bad_time, **{name: value})
        for what, text in {
            "1e9": "1e9",
            "with 400 digits": "9" * 400,
            "minus zero point zero": "-0.0",
        }.items():
            spelled = json.dumps(good_claims(now, issuer, audience, **{name: 0})).replace(
                f'"{name}": 0', f'"{name}": {text}'
            )
            add(f"{name} {what}", signer.sign(signer.header(), spelled.encode()), bad_time)
        for what in ("NaN", "Infinity", "-Infinity", "0123", "+1", "0x10", "1_000", "9" * 5000):
            spelled = json.dumps(good_claims(now, issuer, audience, **{name: 0})).replace(
                f'"{name}": 0', f'"{name}": {what}'
            )
            add(f"{name} {what[:12]}", signer.sign(signer.header(), spelled.encode()), bad_claims)
    claim("expired a minute ago", "expired", exp=now - 60, iat=now - 120, nbf=now - 120)
    claim("expired in 1970", "expired", exp=0, iat=0, nbf=0)
    claim("exp in milliseconds", "exp is more than 10 years ahead", exp=(now + 60) * 1000)
    claim("exp in 11 years", "exp is more than 10 years ahead", exp=now + 11 * 366 * 86_400)
    claim("iat in an hour", "iat is in the future", iat=now + 1800)
    claim("nbf in an hour", "nbf is in the future", nbf=now + 1800)
    claim("iat after exp", "exp is not after iat and nbf", iat=now + 3601)
    claim("nbf at exp", "exp is not after iat and nbf", nbf=now + 3600)

    # --- what for
    for name in ("ID", "Refresh", "Offline", "JWE"):
        claim(f"claim typ {name}", "typ says that it is no access token", typ=name)
    for name, value in {"null": None, "a number": 1, "empty": ""}.items():
        claim(f"claim typ {name}", "typ is not a text of 1 to 128 printable characters", typ=value)
    for name, value in {
        "absent": ABSENT,
        "null": None,
        "empty": "",
        "a number": 1,
        "a list": ["demo"],
        "too long": "a" * 37,
        "with a dot": "de.mo",
        "with a slash": "../demo",
        "with a space": "demo ",
        "with a line end": "demo\n",
        "with a NUL": "demo\0",
        "all accounts": "*",
        "Cyrillic": "d\u0435mo",
        "Arabic digits": "demo\u0661",
        "full width": "\uff44emo",
        "an object": {"acct": "demo"},
        "true": True,
    }.items():
        claim(f"acct {name}", "acct is not an account", acct=value)
    for name, value in {
        "absent": ABSENT,
        "null": None,
        "a list": ["trade"],
        "a number": 7,
        "an object": {},
    }.items():
        claim(f"scope {name}", "scope is not a text", scope=value)
    for name, value in {
        "null": None,
        "empty": "",
        "a number": 1,
        "too long": "j" * 129,
        "with a bell": "\a",
    }.items():
        claim(f"jti {name}", "jti is not a text of 1 to 128 printable characters", jti=value)

    # --- the text itself
    for name, token in {
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "five parts, encrypted": f"{head}.{body}.AAAA.AAAA.{signature}",
        "no header": f".{body}.{signature}",
        "no claims": f"{head}..{signature}",
        "no dots": head,
        "dots only": "..",
        "a dot behind": f"{good}.",
        "a dot in front": f".{good}",
        "padded": f"{head}.{body}.{signature}=",
        "in the standard alphabet": f"{head}.{body}.{signature[:-2]}+/",
        "a space inside": f"{head}. {body}.{signature}",
        "a space behind": f"{good} x",
        "in quotes": f'"{good}"',
        "in angle brackets": f"<{good}>",
        "two, by comma": f"{good},{good}",
        "two, as two headers are joined": f"{good}, Bearer {good}",
        "the scheme twice": f"Bearer {good}",
        "dots in percent": good.replace(".", "%2E"),
        "JSON form": json.dumps({"protected": head, "payload": body, "signature": signature}),
        "basic credentials": base64.b64encode(b"demo:demo").decode(),
        "an opaque word": "letmein",
    }.items():
        add(f"text: {name}", token, SHAPE)
    large = good_claims(now, issuer, audience, note="n" * 8192)
    add("text: longer than 8 KiB", signer.sign(signer.header(), large), "longer than 8 KiB")
    for spelling in other_spellings(signature):
        add(f"signature in other spelling …{spelling[-2:]}", f"{head}.{body}.{spelling}", SPELLING)
    add("signature of 4n+1 characters", f"{head}.{body}.{'A' * 41}", SPELLING)
    # Signed as they stand, so that only the spelling is wrong.
    while len(header_text) % 3 == 0:
        header_text += " "
    while len(claims_text) % 3 == 0:
        claims_text += " "
    for spelling in other_spellings(b64(header_text.encode()))[:2]:
        text = f"{spelling}.{body}"
        add(f"header in other spelling …{spelling[-2:]}", f"{text}.{b64(signer.signature(text))}", bad_header)
    for spelling in other_spellings(b64(claims_text.encode()))[:2]:
        text = f"{head}.{spelling}"
        add(f"claims in other spelling …{spelling[-2:]}", f"{text}.{b64(signer.signature(text))}", bad_claims)
    return table


SHAPE = "not three parts of base64url"
BAD_SIGNATURE = "the signature is wrong"
SPELLING = "the signature is not canonical base64url"

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def other_spellings(text: str) -> list[str]:
    """Base64url texts that a lenient reader takes for the same bytes: other unused bits at the end."""
    unused = {0: 1, 2: 16, 3: 4}[len(text) % 4]
    last = _ALPHABET.index(text[-1])
    return [text[:-1] + _ALPHABET[last + extra] for extra in range(1, unused)]


def spoiled(text: str, member: str, value: str) -> dict[str, bytes]:
    """Ways to spoil a JSON object that holds `member` with the given text."""
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in member)
    return {
        f"with {member} twice, another first": text.replace("{", f'{{"{member}": "none", ', 1).encode(),
        f"with {member} twice, another last": f'{text[:-1]}, "{member}": "none"}}'.encode(),
        f"with {member} twice, the same": f'{text[:-1]}, "{member}": "{value}"}}'.encode(),
        f"with {member} twice, once in escapes": f'{text[:-1]}, "{escaped}": "{value}"}}'.encode(),
        "with a member twice in the depth": f'{text[:-1]}, "a": [{{"b": 1, "b": 2}}]}}'.encode(),
        "with NaN somewhere": f'{text[:-1]}, "a": NaN}}'.encode(),
        "with Infinity in the depth": f'{text[:-1]}, "a": {{"b": [-Infinity]}}}}'.encode(),
        "nested deeply": f'{text[:-1]}, "a": {"[" * 2500}{"]" * 2500}}}'.encode(),
        "with a comma at the end": f"{text[:-1]},}}".encode(),
        "with something behind": f"{text} x".encode(),
        "twice": f"{text}{text}".encode(),
        "with a comment": f"/* */{text}".encode(),
        "with single quotes": text.replace('"', "'").encode(),
        "with a control character": text.replace('": "', '": "\1', 1).encode(),
        "with a byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "in UTF-16": text.encode("utf-16"),
        "in UTF-32": text.encode("utf-32-le"),
        "not in UTF-8": text.encode()[:-1] + b', "a": "\xff"}',
        "with NUL behind": text.encode() + b"\0",
        "cut": text.encode()[:-1],
        "a list": f"[{text}]".encode(),
        "a text": json.dumps(text).encode(),
        "a number": b"1",
        "null": b"null",
    }


def other_key(signer: Signer) -> Signer:
    """Another key of the same kind under the same name."""
    if signer.alg == "HS256":
        return hs256(hashlib.sha256(signer.key).digest())
    return {"RS256": rs256, "ES256": es256, "EdDSA": eddsa}[signer.alg](signer.kid)


def other_token(signer: Signer, now: int) -> str:
    """The signature of a good token of another account."""
    return signer.sign(signer.header(), good_claims(now, acct="other")).rsplit(".", 1)[1]
