"""Bearer tokens (RFC 6750) that are signed JWTs (RFC 7519), judged strictly, after RFC 8725.

What a token must be, in the order of checking; anything else is refused:

| part | rule |
|---|---|
| text | at most 8 KiB; three parts of canonical base64url |
| header, claims | JSON objects in UTF-8, no member twice |
| header `typ` | `JWT`, `at+jwt` or `application/at+jwt`, in any case |
| header | none of `crit`, `jku`, `jwk`, `x5u`, `x5c`, `b64`, `cty`, `enc`, `zip`; other members are ignored |
| header `kid` | names a key of the key set; absent for the shared secret |
| header `alg` | the algorithm that the key is pinned to |
| signature | of that key over header and claims as they were sent |
| `iss` | the issuer, exactly |
| `aud` | the audience, or a list that holds it |
| `sub` | 1 to 255 printable characters |
| `exp` | required; later than now, at most 10 years; exact, clients renew before it |
| `iat` | required; before `exp`, at most `leeway_s` ahead of now |
| `nbf` | optional; before `exp`, at most `leeway_s` ahead of now |
| `typ` | optional; `Bearer`, `JWT` or `at+jwt`: an ID or refresh token is none |
| `acct` | the account, `[A-Za-z0-9_-]{1,36}` |
| `scope` | words with one space between; `trade`, `read`, `admin` give that right, other words nothing |
| `jti` | optional; 1 to 128 printable characters; without it only all tokens of the account can be revoked |

Times are integers of unix seconds, 0 ≤ t < 2^53. A revoked token is refused like an expired one.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import MutableSequence

from tradsys.adapters.auth import base64url
from tradsys.adapters.auth.keys import KID_CHARS_MAX, NO_KID, Keys
from tradsys.adapters.auth.revocation import TOKEN_LIFE_MAX_S, Revocations
from tradsys.adapters.auth.strict_json import parse_object
from tradsys.metrics import TOKENS
from tradsys.venue.ports import ADMIN, READ, TRADE, Busy, Identity, Unauthorized

SCOPES = {"trade": TRADE, "read": READ, "admin": ADMIN}

TOKEN_CHARS_MAX = 8 * 1024
SUBJECT_CHARS_MAX = 255
JTI_CHARS_MAX = 128
AUDIENCES_MAX = 32

_SECOND_NS = 1_000_000_000
_SCHEME = "Bearer "
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,36}")
_HEADER_TYPES = frozenset(("jwt", "at+jwt", "application/at+jwt"))
_CLAIM_TYPES = frozenset(("bearer", "jwt", "at+jwt"))
# Members that bring a key along, change how the rest is to be read, or must be understood to be obeyed.
_HEADER_REFUSED = frozenset(("crit", "jku", "jwk", "x5u", "x5c", "b64", "cty", "enc", "zip"))

_NO_TOKEN = Unauthorized(2001, "no bearer token")

_VERIFIED, _REFUSED, _REVOKED, _LIMITED = [
    TOKENS.word(outcome) for outcome in ("verified", "refused", "revoked", "limited")
]


class TokenVerifier:
    """Says who sends a request; remembers the tokens whose signature it has verified."""

    def __init__(
        self,
        keys: Keys,
        issuer: str,
        audience: str,
        revocations: Revocations,
        words: MutableSequence[int],
        *,
        leeway_s: int = 5,
        cache_max: int = 10_000,
        verifications_per_s: int = 200,
    ) -> None:
        """`words`: the row of metrics to count in, but for `uses`. `cache_max`: tokens remembered, about
        1 KiB each; more live tokens than that contend for the `verifications_per_s`. `leeway_s`: how far
        the issuer's clock may be ahead of the venue's."""
        assert cache_max >= 1 and verifications_per_s >= 1 and leeway_s >= 0
        self._keys = keys
        self._current = keys.current
        self._looked_ns = self._look_due_ns = 0
        self._issuer = issuer
        self._audience = audience
        self._leeway_s = leeway_s
        self._words = words
        self.uses = 0
        """Of remembered tokens, which nearly every request is: the owner of `words` copies it there."""
        self._revocations = revocations
        self._revoked_jtis = revocations.jtis
        self._revoked_until = revocations.issued_until
        # By the whole header value: cutting the token out of it would cost another copy and hash.
        # OrderedDict, because taking the first of a dict walks over the slots of those taken before.
        self._verified: OrderedDict[str | None, Identity] = OrderedDict()
        self._cache_max = cache_max
        self._recent: deque[int] = deque(maxlen=verifications_per_s)

    @property
    def cached(self) -> int:
        """Tokens remembered now, at most `cache_max`."""
        return len(self._verified)

    def verify(self, header_value: str | None, now_ns: int) -> Identity | Unauthorized | Busy:
        """Judge the value of an Authorization header at an engine time.

        A token seen before costs about 0.5 µs, half of it the hash and look-up of 300 characters. The
        check for revocation is that of `Revocations.is_revoked`, written out to save the call.
        """
        if not self._looked_ns <= now_ns < self._look_due_ns:
            self.refresh(now_ns)
        identity = self._verified.get(header_value)
        if identity is None:
            return self._verify_new(header_value, now_ns)
        if not identity.not_before_ns <= now_ns < identity.expires_ns:
            return self._refused("expired")
        if identity.jti in self._revoked_jtis or identity.issued_s <= self._revoked_until.get(
            identity.account, -1
        ):
            return self._revoked()
        self.uses += 1
        return identity

    def refresh(self, now_ns: int) -> None:
        """Look for changed keys, at most once a second, and forget the tokens of keys that are gone.

        `verify` does so too; an engine that calls this between requests keeps the look out of them.
        """
        # A caller's clock that went back must not put the next look off.
        if not self._looked_ns <= now_ns < self._look_due_ns:
            self._looked_ns = now_ns
            self._look_due_ns = now_ns + _SECOND_NS
            self._look()

    def _look(self) -> None:
        """Look for changed keys; forget what was signed by a key that is gone or has another content."""
        self._keys.look()
        current, before = self._keys.current, self._current
        if current is before:
            return
        self._current = current
        kept = {kid for kid, key in current.items() if before.get(kid) is key}
        for header_value in [text for text, who in self._verified.items() if who.kid not in kept]:
            del self._verified[header_value]

    def _verify_new(self, header_value: str | None, now_ns: int) -> Identity | Unauthorized | Busy:
        if header_value is None or header_value[: len(_SCHEME)].lower() != _SCHEME.lower():
            return _NO_TOKEN
        if len(header_value) > len(_SCHEME) + TOKEN_CHARS_MAX:
            return self._refused("longer than 8 KiB")
        token = header_value[len(_SCHEME) :]
        if not token:
            return _NO_TOKEN
        if not _SHAPE.fullmatch(token):
            return self._refused("not three parts of base64url")
        if not header_value.startswith(_SCHEME):
            # Other spellings of "Bearer" share one entry, or one token could fill the cache.
            return self.verify(_SCHEME + token, now_ns)

        # From here on it costs something, whatever comes of it: forged tokens must not starve matching.
        if not self._may_verify(now_ns):
            return self._busy()
        try:
            identity = self._judge(token, now_ns)
        except _InvalidToken as refusal:
            return self._refused(refusal.detail)
        if identity is None:
            return self._busy()
        if len(self._verified) >= self._cache_max:
            self._verified.popitem(last=False)
        self._verified[header_value] = identity
        if self._revocations.is_revoked(identity):
            return self._revoked()
        self._words[_VERIFIED] += 1
        return identity

    def _refused(self, detail: str) -> Unauthorized:
        self._words[_REFUSED] += 1
        return Unauthorized(2002, detail)

    def _revoked(self) -> Unauthorized:
        self._words[_REVOKED] += 1
        return Unauthorized(2002, "revoked")

    def _busy(self) -> Busy:
        self._words[_LIMITED] += 1
        return Busy(retry_after_s=1)

    def _may_verify(self, now_ns: int) -> bool:
        """Whether fewer than the allowed number were verified in the second up to now; counts this one.

        The times of the last ones, not a token bucket: that would let through twice as many in the
        second after a quiet one.
        """
        recent = self._recent
        if len(recent) == recent.maxlen and 0 <= now_ns - recent[0] < _SECOND_NS:
            return False
        recent.append(now_ns)
        return True

    # --- one token, from text to identity ---------------------------------------------------------

    def _judge(self, token: str, now_ns: int) -> Identity | None:
        """None if that can't be said now. Raises _InvalidToken."""
        header_text, claims_text, signature_text = token.split(".")
        header = _object(header_text, "the header is not canonical base64url of a strict JSON object")
        kid, alg = _judge_header(header)

        key = self._current.get(kid)
        if key is None:
            # The issuer may sign with a new key before the next look at the key file.
            self._look()
            key = self._current.get(kid)
        if key is None and self._keys.error:
            # Perhaps somebody is writing the file just now: a good token must not be called invalid.
            return None
        if key is None:
            raise _InvalidToken("no key of that kid")
        if alg != key.alg:
            raise _InvalidToken("alg is not the key's")
        try:
            signature = base64url.decode(signature_text)
        except ValueError:
            raise _InvalidToken("the signature is not canonical base64url") from None
        if not key.signed(token[: -len(signature_text) - 1].encode(), signature):
            raise _InvalidToken("the signature is wrong")

        claims = _object(claims_text, "the claims are not canonical base64url of a strict JSON object")
        return self._judge_claims(claims, kid, now_ns)

    def _judge_claims(self, claims: dict[str, object], kid: str, now_ns: int) -> Identity:
        if claims.get("iss") != self._issuer:
            raise _InvalidToken("iss is another issuer")
        audience = claims.get("aud")
        if isinstance(audience, list):
            if len(audience) > AUDIENCES_MAX or not all(isinstance(name, str) for name in audience):
                raise _InvalidToken("aud is not a short list of texts")
        else:
            audience = [audience]
        if self._audience not in audience:
            raise _InvalidToken("aud is another audience")
        subject = _text(claims, "sub", SUBJECT_CHARS_MAX)

        now_s = now_ns // _SECOND_NS
        expires = _seconds(claims, "exp")
        if expires <= now_s:
            raise _InvalidToken("expired")
        if expires > now_s + TOKEN_LIFE_MAX_S:
            raise _InvalidToken("exp is more than 10 years ahead")
        issued = _seconds(claims, "iat")
        not_before = _seconds(claims, "nbf") if "nbf" in claims else issued
        if issued >= expires or not_before >= expires:
            raise _InvalidToken("exp is not after iat and nbf")
        if issued > now_s + self._leeway_s:
            raise _InvalidToken("iat is in the future")
        if not_before > now_s + self._leeway_s:
            raise _InvalidToken("nbf is in the future")
        if "typ" in claims and _text(claims, "typ", JTI_CHARS_MAX).lower() not in _CLAIM_TYPES:
            raise _InvalidToken("typ says that it is no access token")

        account = claims.get("acct")
        if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
            raise _InvalidToken("acct is not an account")
        scope = claims.get("scope")
        if not isinstance(scope, str):
            raise _InvalidToken("scope is not a text")
        scopes = 0
        for word in scope.split(" "):
            scopes |= SCOPES.get(word, 0)
        return Identity(
            account=account,
            subject=subject,
            scopes=scopes,
            issued_s=issued,
            not_before_ns=(max(issued, not_before) - self._leeway_s) * _SECOND_NS,
            expires_ns=expires * _SECOND_NS,
            jti=_text(claims, "jti", JTI_CHARS_MAX) if "jti" in claims else "",
            kid=kid,
        )


class _InvalidToken(Exception):
    """Ends the judging of a token; `detail` is a fixed sentence, no part of the token."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def _judge_header(header: dict[str, object]) -> tuple[str, str]:
    """The `kid` (NO_KID if absent) and `alg`. Raises _InvalidToken."""
    typ = header.get("typ")
    if not isinstance(typ, str) or typ.lower() not in _HEADER_TYPES:
        raise _InvalidToken("the header's typ is not JWT or at+jwt")
    if not _HEADER_REFUSED.isdisjoint(header):
        raise _InvalidToken("the header has a member that is refused")
    kid = _text(header, "kid", KID_CHARS_MAX) if "kid" in header else NO_KID
    alg = header.get("alg")
    if not isinstance(alg, str):
        raise _InvalidToken("alg is missing")
    return kid, alg


def _object(text: str, otherwise: str) -> dict[str, object]:
    try:
        return parse_object(base64url.decode(text))
    except ValueError:
        raise _InvalidToken(otherwise) from None


def _text(members: dict[str, object], name: str, chars_max: int) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= chars_max or not value.isprintable():
        raise _InvalidToken(f"{name} is not a text of 1 to {chars_max} printable characters")
    return value


def _seconds(members: dict[str, object], name: str) -> int:
    value = members.get(name)
    # The exact type: a bool is an int too, and 1e9 is a float.
    if type(value) is not int or not 0 <= value < 2**53:
        raise _InvalidToken(f"{name} is not a time in whole seconds")
    return value
