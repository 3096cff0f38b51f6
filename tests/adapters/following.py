"""A real journal with a real follower: the log is written here, history runs in a process of its own.

`python -m tests.adapters.following DIRECTORY SNAPSHOT_EVERY` is that process; it prints its port and ends at
SIGTERM.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

from tests.adapters.journalled import Recording
from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.adapters.history.process import History, Syncer
from tradsys.adapters.history.sqlite import Pragmas
from tradsys.adapters.history.syncing import Syncing, SyncingProcess
from tradsys.adapters.http.app import create_app, ops_routes
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.log.files import Files, OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.recovery import recover
from tradsys.adapters.log.segments import prepare_next_segment, segment_indexes, segment_path
from tradsys.adapters.log.sync import LogSync
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.ops.server import OpsServer
from tradsys.adapters.page.page import Page, boot_id
from tradsys.codec.frame import encode_payload
from tradsys.core.shard import Shard
from tradsys.venue.ports import Entry, Frame

SEGMENT_BYTES = 1 << 20
ROOT = Path(__file__).parents[2]


class Engine:
    """What an engine does to the data directory, without its HTTP: generated flow goes into the log."""

    def __init__(self, directory: Path, seed: int = 1, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.directory = directory
        self.files = OsFiles()
        self.page = Page.create(f"{directory}/page", boot_id())
        self.recording = Recording(seed)
        self.segment_bytes = segment_bytes
        self.begin()

    def begin(self) -> None:
        """Recover, and take the log over in a new epoch."""
        published = self.page.published_seq if self.page.current else None
        self.replayed = Shard("a")
        recovered = recover(str(self.directory), self.files, self._apply, published_seq=published)
        self.log = LogWriter.begin(
            str(self.directory),
            self.files,
            recovered,
            self.page,
            durable=False,
            segment_bytes=self.segment_bytes,
            time_ns=self.recording.flow.time_ns,
        )

    def _apply(self, frame: Frame) -> bytes:
        return encode_payload(
            [
                Entry(entry.command, self.replayed.apply(entry.command, seq, frame.time_ns))
                for seq, entry in enumerate(frame.entries, frame.first_seq)
            ]
        )

    def trade(self, commands: int) -> None:
        """Journal at least so many commands more."""
        for frame in self.recording.record(commands):
            until("a next segment", lambda: self.log.space())
            self.log.append(frame.first_seq, frame.time_ns, frame.entries)

    @property
    def seq(self) -> int:
        return self.log.seq


class HistoryProcess:
    """History in a process of its own."""

    started: ClassVar[list[HistoryProcess]] = []
    """All of them, so that a failed test leaves none behind."""

    def __init__(
        self, directory: Path, *, snapshot_every: int = 1_000_000, sync_interval_ms: int = 5
    ) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.adapters.following",
                str(directory),
                str(snapshot_every),
                str(sync_interval_ms),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=(directory / "history.err").open("ab"),
            text=True,
        )
        assert self.process.stdout is not None
        self.started.append(self)
        port = self.process.stdout.readline().strip()
        assert port, (directory / "history.err").read_text()
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def status(self) -> dict:
        return json.loads(self.get("/internal/status")[1])

    def wait_for(self, seq: int) -> None:
        """Until the read model shows the command."""

        def shown() -> bool:
            status = self.status()
            return status["replay_seq"] >= seq and status["readmodel_lag"] == 0

        until(f"the read model is at {seq}", shown)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


class SyncingHere:
    """What the process that syncs does, in threads of this one: for faults that have to be put in between."""

    def __init__(self, directory: Path, page: Page, files: Files) -> None:
        at = str(directory)
        self._syncing = Syncing(
            page,
            lambda: LogSync(at, files, page),
            lambda: prepare_next_segment(at, files, page, SEGMENT_BYTES),
            page.metrics,
            5,
        )

    def start(self, gone: Callable[[], None]) -> None:
        self._syncing.start()

    def stop(self) -> None:
        self._syncing.stop()


class HistoryThread:
    """History in a thread of the test, for faults that have to be put in between."""

    def __init__(
        self,
        directory: Path,
        page: Page,
        *,
        files: Files | None = None,
        snapshot_every: int = 10**9,
        collect: Callable[[int], None] = lambda seq: None,
    ) -> None:
        syncer = SyncingHere(directory, page, files or OsFiles())
        self.history = make_history(
            directory, page, syncer, files=files, snapshot_every=snapshot_every, collect=collect
        )
        self.exit_code: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.exit_code = self.history.run()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def wait_for(self, seq: int) -> None:
        """Until the read model shows the command."""

        def shown() -> bool:
            status = self.history.status()
            return status["replay_seq"] >= seq and status["readmodel_lag"] == 0

        until(f"the read model is at {seq}", shown)

    def snapshot(self) -> None:
        """One of what has been followed, verified when this returns."""
        self.history.follower.snapshot().result(30)

    def __exit__(self, *_: object) -> None:
        self.history.stop()
        self._thread.join(30)
        gc.unfreeze()
        assert self.exit_code == 0


def until(what: str, condition: Callable[[], bool], within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {within_s} s"
        time.sleep(0.002)


def make_history(
    directory: Path,
    page: Page,
    syncer: Syncer,
    *,
    snapshot_every: int,
    files: Files | None = None,
    collect: Callable[[int], None] = lambda seq: None,
) -> History:
    files, at = files or OsFiles(), str(directory)
    return History(
        directory=directory,
        shard_name="a",
        progress=page,
        words=page.metrics,
        syncer=syncer,
        open_reader=lambda seq, chain: LogReader(at, files, seq, chain),
        segments=lambda: [Path(segment_path(at, index)) for index in segment_indexes(at, files)],
        snapshot_every=snapshot_every,
        pragmas=Pragmas(),
        derive=dict,
        collect=collect,
    )


def main(directory: Path, snapshot_every: int, sync_interval_ms: int) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    page = Page.open(f"{directory}/page", boot_id())
    syncer = SyncingProcess(
        [
            *(sys.executable, "-m", "tradsys.compose.syncing", f"{directory}/page", str(directory)),
            *(str(SEGMENT_BYTES), str(sync_interval_ms), "json"),
        ]
    )
    history = make_history(directory, page, syncer, snapshot_every=snapshot_every)
    signal.signal(signal.SIGTERM, lambda *_: history.stop())
    verifier = TokenVerifier(HmacKey(b"k" * 32), "tradsys", "tradsys", Revocations(), page.metrics)
    edge = Edge(
        verifier,
        time.time_ns,
        lambda: (page.published_seq, page.durable_seq, page.epoch),
        close_after=lambda environ, set_header: set_header("Connection", "close"),
    )
    routes = ops_routes(
        not_ready=history.not_ready,
        status=history.status,
        pinning=lambda: {},
        rendered_metrics=history.rendered,
    )
    app = create_app(edge, [*routes, *history.routes(b"the internal secret")])
    ops = OpsServer(app, "127.0.0.1", 0)
    ops.start()
    os.write(1, f"{ops.port}\n".encode())
    try:
        return history.run()
    finally:
        ops.stop()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
