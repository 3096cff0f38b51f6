"""When a request is sent again, and when it is given up: the same for every protocol and client."""

from __future__ import annotations

import random
import time
from typing import Any

import msgspec

from tradsys.client.errors import Unreachable

PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Before the second, third, … attempt; the last one again and again."""
JITTER = 0.25
"""Pauses differ by up to this part, so that those who were cut off together don't all come back together."""


class Patience:
    """How long one request may still be tried."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._attempts = 0
        self.unknown = False
        """Of an attempt nobody knows whether it was served: what refuses a later one says nothing of that."""

    def pause_s(self, retry_after_s: float = 0.0) -> float | None:
        """How long to wait before the next attempt; None: it is given up.

        What the venue asks for (Retry-After) is kept, as far as the time goes.
        """
        left = self._ends - time.monotonic()
        if left <= 0:
            return None
        pause = PAUSES_S[min(self._attempts, len(PAUSES_S) - 1)]
        self._attempts += 1
        pause *= 1 + JITTER * (2 * random.random() - 1)
        return min(max(pause, retry_after_s), left)

    def after_answer(self, url: str, method: str, status: int, body: bytes, retry_after: str) -> float | None:
        """How long to wait before the next attempt of a REST call; None: this answer is the last.

        Raises Unreachable if it tells nothing of an attempt before that may have been served.
        """
        code = code_of(body) if status >= 400 else LOST
        if status < 500 or (method == "GET" and status != UNAVAILABLE):
            if self.unknown and code in NOT_LOOKED_UP:
                raise Unreachable(url, f"the last answer was {code}", outcome_unknown=True)
            return None
        self.unknown |= code != NOT_SERVING and method != "GET"
        pause_s = self.pause_s(retry_after_of(retry_after))
        if pause_s is None and self.unknown and code != UNKNOWN:
            raise Unreachable(url, f"HTTP status {status}", outcome_unknown=True)
        return pause_s


UNAVAILABLE = 503
LOST, UNKNOWN, NOT_SERVING = 0, 1001, 1020
NOT_LOOKED_UP = frozenset((NOT_SERVING, 2001, 2002, 3029))
"""Refused like this before the venue looks whether it has done the same already."""


def code_of(body: bytes) -> int:
    """The venue's code in the body of an error; LOST: something between us and the venue says it."""
    try:
        said: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return LOST
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, int) else LOST


def retry_after_of(text: str) -> float:
    """Seconds of a Retry-After header; 0 for none, or one that is no number."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0.0
