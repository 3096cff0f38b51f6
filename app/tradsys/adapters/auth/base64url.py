"""Base64url as tokens use it (RFC 7515, section 2): without padding, and only one text for given bytes."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def decode(text: str) -> bytes:
    """Read canonical base64url.

    Raises ValueError for padding, foreign characters, and unused bits that are not zero: with those
    the last character of a signature has several spellings, each a token of its own to a cache.
    """
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raw = b""
    # The library passes over much; what it would have written itself is the one right spelling.
    if encode(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
