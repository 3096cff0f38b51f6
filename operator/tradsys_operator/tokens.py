"""A key and a token for one GateRun: made at random, used by its pods only, gone with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets

LIFE_S = 6 * 3600


def key_and_token(account: str, now: int) -> tuple[str, str]:
    """An HS256 key of 64 characters and a token that it signs, as the app's default issuer would."""
    key = secrets.token_hex(32)
    claims = {
        "iss": "tradsys",
        "aud": "tradsys",
        "sub": account,
        "acct": account,
        "scope": "trade read",
        "iat": now,
        # Clocks of two nodes differ a little.
        "nbf": now - 60,
        "exp": now + LIFE_S,
        "jti": secrets.token_urlsafe(16),
    }
    signed = f"{_text({'alg': 'HS256', 'typ': 'JWT'})}.{_text(claims)}"
    signature = hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest()
    return key, f"{signed}.{_base64(signature)}"


def _text(part: dict[str, object]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
