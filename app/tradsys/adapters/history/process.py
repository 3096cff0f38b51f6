"""The history process: its parts, in the order in which they start and end.

start   syncing, in a process of its own, as soon as an engine has begun; metrics at once; then the replay
end     the replay stops, the last sync is made, the replay follows to it; a last snapshot if it saves
        the next start much

Should the process that syncs end by itself, so does this one, and both are started anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from pathlib import Path
from time import monotonic_ns
from typing import Any, Protocol

from tradsys.adapters.history.follower import Follower, Reader
from tradsys.adapters.history.ops import history_routes
from tradsys.adapters.history.readmodel import ReadModel
from tradsys.adapters.history.reporting import Reporter
from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.history.sqlite import Pragmas
from tradsys.adapters.history.syncing import Progress
from tradsys.exposition import Samples
from tradsys.venue.ports import JournalError

READMODEL_NAME = "readmodel.db"
EXIT_ALONE = 1
"""Nobody syncs any more; whoever started the process starts it again."""
EXIT_JOURNAL = 70
"""EX_SOFTWARE of sysexits.h: the journal can't be trusted, or this release does not reproduce it."""
LATE_NS = 1_000_000_000
"""A sync that has not ended for so long makes the process unready."""
LAG_COMMANDS_MAX = 100_000
"""Commands that the read model may be behind in a ready process."""

_log = logging.getLogger("tradsys.history")


class Syncer(Protocol):
    """Syncs the journal beside this process, and prepares its segments."""

    def start(self, gone: Callable[[], None], /) -> None:
        """`gone` is called, by another thread, should it end by itself."""

    def stop(self) -> None:
        """Sync once more what was published, then end."""


class History:
    """Follows the journal of one data directory."""

    def __init__(
        self,
        *,
        directory: Path,
        shard_name: str,
        progress: Progress,
        words: MutableSequence[int],
        syncer: Syncer,
        open_reader: Callable[[int, bytes | None], Reader],
        segments: Callable[[], Sequence[Path]],
        snapshot_every: int,
        pragmas: Pragmas,
        derive: Callable[[], Mapping[str, Samples]],
        collect: Callable[[int], None],
    ) -> None:
        """`words` are the page's metrics; `derive` gives what is shown beside them; the others belong to
        the journal, see `Follower`."""
        self._progress = progress
        self._reporter = Reporter(directory, progress, words, derive)

        def open_readmodel(path: Path) -> ReadModel:
            readmodel = ReadModel(path, pragmas, words)
            self._reporter.pragmas_are(readmodel.pragmas)
            return readmodel

        self.follower = Follower(
            shard_name=shard_name,
            progress=progress,
            open_reader=open_reader,
            readmodel_path=directory / READMODEL_NAME,
            open_readmodel=open_readmodel,
            snapshots=SnapshotStore(directory),
            segments=segments,
            snapshot_every=snapshot_every,
            words=words,
            collect=collect,
        )
        self._syncer = syncer
        self._is_alone = False

    def run(self) -> int:
        """Follow until `stop`; returns the process's exit code."""
        self._reporter.start()
        self._syncer.start(self._sync_is_gone)
        code = 0
        try:
            self.follower.run()
        except JournalError as error:
            _log.critical("%s", error)
            code = EXIT_JOURNAL
        self._syncer.stop()
        if not code and self._is_alone:
            code = EXIT_ALONE
        if not code:
            try:
                self.follower.finish()
            except JournalError as error:
                _log.critical("%s", error)
                code = EXIT_JOURNAL
        self._reporter.stop()
        return code

    def stop(self) -> None:
        """End `run` cleanly; for a signal handler."""
        self.follower.stop()

    def _sync_is_gone(self) -> None:
        self._is_alone = True
        self.follower.stop()

    # --- what the ops port asks ---------------------------------------------------------------------

    def rendered(self) -> bytes | None:
        """The metrics as of the last second; None before the first."""
        return self._reporter.rendered

    def not_ready(self) -> list[str]:
        """Why followers of this process should wait; none: it follows closely."""
        reasons = []
        if not self._progress.current:
            reasons.append("no engine has begun")
        if self._progress.poisoned:
            reasons.append("a sync of the journal has failed")
        if monotonic_ns() - self._progress.sync_ended_ns > LATE_NS:
            reasons.append("the sync of the journal is late")
        if not self.follower.caught_up:
            reasons.append("replaying")
        elif max(self.follower.lag) > LAG_COMMANDS_MAX:
            reasons.append("the read model is behind")
        return reasons

    def status(self) -> dict[str, Any]:
        """Facts for `tradsys` and the operator."""
        replay_lag, readmodel_lag = self.follower.lag
        return {
            "process": "history",
            "published_seq": self._progress.published_seq,
            "durable_seq": self._progress.durable_seq,
            "replay_seq": self.follower.position.seq,
            "replay_lag": replay_lag,
            "readmodel_lag": readmodel_lag,
        }

    def routes(self, secret: bytes) -> list[tuple[str, Any]]:
        """The routes that only history has; `secret` lets callers of other machines in."""
        return history_routes(self.follower.snapshot, self.follower.state_hash, secret)
