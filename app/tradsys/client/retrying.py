"""When a request is sent again, and when it is given up: the same for every protocol and client."""

from __future__ import annotations

import random
import time

PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Before the second, third, … attempt; the last one again and again."""
JITTER = 0.25
"""Pauses differ by up to this part, so that those who were cut off together don't all come back together."""


class Patience:
    """How long one request may still be tried."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._attempts = 0

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


def retry_after_of(text: str) -> float:
    """Seconds of a Retry-After header; 0 for none, or one that is no number."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0.0
