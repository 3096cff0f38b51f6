"""Make tokens for the venue itself, for `tradsys token` and first steps. Other issuers sign their own."""

from __future__ import annotations

import secrets

import jwt

from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.tokens import SCOPES


def mint(
    key: HmacKey,
    account: str,
    scopes: str,
    ttl_s: int,
    issuer: str,
    audience: str,
    now_s: int,
    jti: str = "",
) -> str:
    """A token for an account, signed with HS256, valid from `now_s` (unix seconds) for `ttl_s`.

    `scopes`: words of `trade read admin` with a space between. Without a `jti` a random one is made.
    Raises ValueError: an unknown scope, or a life that is not positive. The account isn't checked here.
    """
    unknown = [word for word in scopes.split(" ") if word not in SCOPES]
    if unknown:
        raise ValueError(f"unknown scope {' '.join(unknown)!r}, there are: {' '.join(SCOPES)}")
    if ttl_s <= 0:
        raise ValueError(f"a token can't live for {ttl_s} s")
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": account,
        "acct": account,
        "scope": scopes,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + ttl_s,
        "jti": jti or secrets.token_urlsafe(16),
    }
    return jwt.encode(claims, key.secret, algorithm="HS256")
