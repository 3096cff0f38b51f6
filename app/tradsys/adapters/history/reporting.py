"""The shard's metrics, rendered once a second, as bytes that anyone can hand out.

The engine's ops port sends the file, this process's ops port the same bytes from memory: a scrape renders
nothing, and neither does the engine, ever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, MutableSequence
from pathlib import Path
from shutil import disk_usage
from time import monotonic

from tradsys import metrics
from tradsys.adapters.history.syncing import Progress
from tradsys.exposition import Exposition, Rate, Samples, one

EVERY_S = 1.0
FILE_NAME = "metrics.prom"

_log = logging.getLogger("tradsys.history")


class Reporter:
    """A thread that renders the words of the page."""

    def __init__(
        self,
        directory: Path,
        progress: Progress,
        words: MutableSequence[int],
        derive: Callable[[], Mapping[str, Samples]],
    ) -> None:
        """`derive` gives what the composition root alone knows: settings, versions, other processes."""
        self._directory = directory
        self._path = directory / FILE_NAME
        self._progress = progress
        self._words = words
        self._exposition = Exposition(metrics.SHARD, lambda: words, self._derived)
        self._derive = derive
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._pragmas: Samples = ()
        self.rendered: bytes | None = None
        """The text as of the last second; None before the first."""
        self._order_counts = metrics.ORDER_DURATION.series().counts
        self._orders = Rate()

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

    def _derived(self) -> Mapping[str, Samples]:
        progress, words = self._progress, self._words
        now = monotonic()
        published, durable = progress.published_seq, progress.durable_seq
        replayed = words[metrics.REPLAY_SEQ.word()]
        shown = words[metrics.READMODEL_SEQ.word()]
        disk = disk_usage(self._directory)
        return {
            **self._derive(),
            "hft_orders_per_second": one(
                self._orders.per_second(sum(words[word] for word in self._order_counts), now)
            ),
            "tradsys_published_seq": one(published),
            "tradsys_durable_seq": one(durable),
            "tradsys_unsynced_commands": one(max(0, published - durable)),
            "tradsys_replay_lag_commands": one(max(0, durable - replayed)),
            "tradsys_readmodel_lag_commands": one(max(0, durable - shown)),
            "tradsys_poisoned": one(int(progress.poisoned)),
            "tradsys_sqlite_pragma": self._pragmas,
            "tradsys_disk_free_bytes": one(disk.free),
            "tradsys_disk_size_bytes": one(disk.total),
        }
