"""The memory that engine and history may have together, and what is done above it.

It is a soft limit: to end a venue because of memory would cost more than memory does. History gives back to
the system what its allocator holds unused (a snapshot of a large state leaves much of that), and says so.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, MutableSequence

from tradsys import metrics

_ENGINE = metrics.SHARD_PROCESSES.memory.word("engine")
_HISTORY = metrics.SHARD_PROCESSES.memory.word("history")

_log = logging.getLogger("tradsys.history")


def give_back() -> None:
    """Return free memory to the system. Only glibc can be asked to."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryLimit:
    """Compares what both processes say of themselves with the limit."""

    def __init__(
        self, limit_bytes: int, words: MutableSequence[int], give_back: Callable[[], None] = give_back
    ) -> None:
        self.limit_bytes = limit_bytes
        self._words = words
        self._give_back = give_back
        self.is_passed = False

    @property
    def used_bytes(self) -> int:
        return self._words[_ENGINE] + self._words[_HISTORY]

    def look(self) -> None:
        """Call it about once a second."""
        used, limit = self.used_bytes, self.limit_bytes
        if used > limit:
            self._give_back()
        if self.is_passed != (used > limit):
            self.is_passed = used > limit
            what = "above" if self.is_passed else "below"
            _log.warning("engine and history have %d MiB, %s memory_limit", used >> 20, what)
