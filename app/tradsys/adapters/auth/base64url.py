"""Base64url as tokens use it (RFC 7515, section 2): without padding, and only one text for given bytes."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from binascii import a2b_base64

_TO_STANDARD = str.maketrans("-_", "+/", "+/=")


def decode(text: str) -> bytes:
    """Read canonical base64url.

    Raises ValueError for padding, foreign characters, and unused bits that are not zero: with those
    the last character of a signature has several spellings, each a token of its own to a cache.
    """
    raw = a2b_base64(text.translate(_TO_STANDARD) + "=" * (-len(text) % 4), strict_mode=True)
    if encode(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
