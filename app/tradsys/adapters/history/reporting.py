"""The shard's metrics, rendered once a second, as bytes that anyone can hand out.

The engine's ops port sends the file, this process's ops port the same bytes from memory: a scrape renders
nothing, and neither does the engine, ever.
"""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Mapping, MutableSequence
from pathlib import Path
from time import monotonic

import apsw

from tradsys import __version__, metrics
from tradsys.adapters.history.exposition import Exposition, Samples
from tradsys.adapters.history.syncing import Progress

EVERY_S = 1.0
FILE_NAME = "metrics.prom"

_log = logging.getLogger("tradsys.history")


class Reporter:
    """A thread that renders the words of the page."""

    def __init__(self, directory: Path, progress: Progress, words: MutableSequence[int]) -> None:
        self._path = directory / FILE_NAME
        self._progress = progress
        self._words = words
        self._exposition = Exposition(words, self._derive)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._pragmas: Samples = ()
        self.rendered: bytes | None = None
        """The text as of the last second; None before the first."""
        self._orders = _Rate(metrics.ORDER_DURATION.series().counts)
        self._messages = _Rate((metrics.FEED_MESSAGES.word(),))

    def pragmas_are(self, pragmas: Mapping[str, int | str]) -> None:
        """What the read model's connection reported; only numbers can be shown."""
        self._pragmas = [((name,), value) for name, value in pragmas.items() if isinstance(value, int)]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Render once more, then end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        told = ""
        while True:
            last = self._stop.wait(EVERY_S if self.rendered is not None else 0)
            self.rendered = self._exposition.render()
            problem = ""
            try:
                unfinished = self._path.with_suffix(".tmp")
                unfinished.write_bytes(self.rendered)
                unfinished.rename(self._path)
            except OSError as error:
                problem = str(error)
            if problem != told:
                told = problem
                _log.error("%s can't be written: %s", FILE_NAME, problem or "it can again")
            if last:
                return

    def _derive(self) -> Mapping[str, Samples]:
        progress, words = self._progress, self._words
        now = monotonic()
        published, durable = progress.published_seq, progress.durable_seq
        replayed = words[metrics.REPLAY_SEQ.word()]
        shown = words[metrics.READMODEL_SEQ.word()]
        return {
            "hft_orders_per_second": _one(self._orders.per_second(words, now)),
            "hft_messages_per_second": _one(self._messages.per_second(words, now)),
            "tradsys_published_seq": _one(published),
            "tradsys_durable_seq": _one(durable),
            "tradsys_unsynced_commands": _one(max(0, published - durable)),
            "tradsys_replay_lag_commands": _one(max(0, durable - replayed)),
            "tradsys_readmodel_lag_commands": _one(max(0, durable - shown)),
            "tradsys_poisoned": _one(int(progress.poisoned)),
            "tradsys_sqlite_pragma": self._pragmas,
            "tradsys_build_info": [((__version__, apsw.sqlite_lib_version(), platform.python_version()), 1)],
        }


class _Rate:
    """How much a sum of words grew per second since it was asked last."""

    def __init__(self, words: tuple[int, ...] | range) -> None:
        self._indexes = words
        self._before: tuple[float, int] | None = None

    def per_second(self, words: MutableSequence[int], now: float) -> float:
        total = sum(words[index] for index in self._indexes)
        before, self._before = self._before, (now, total)
        if before is None or now <= before[0]:
            return 0.0
        return (total - before[1]) / (now - before[0])


def _one(value: float) -> Samples:
    return (((), value),)
