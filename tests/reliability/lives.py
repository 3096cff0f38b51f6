"""A data directory that engines open one after the other, without HTTP: recovery and the real journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.segments import prepare_next_segment
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page, boot_id
from tradsys.compose.pieces import PAGE_FILE
from tradsys.compose.replay import recover_shard
from tradsys.core.messages import Command
from tradsys.settings import load
from tradsys.venue.ports import Entry


class Life:
    """One run of an engine: it recovers, and takes commands until it is left alone or drained."""

    def __init__(self, directory: Path, segment_bytes: int = 256 << 10) -> None:
        self.directory = directory
        self.segment_bytes = segment_bytes
        self.files = OsFiles()
        self.page = Page.create(str(directory / PAGE_FILE), boot_id())
        published = self.page.published_seq if self.page.current else None
        self.shard, self.recovered = recover_shard(
            load({"TRADSYS_DATA_DIR": str(directory)}), self.files, published, lambda seq, last: None
        )
        self.log = LogWriter.begin(
            str(directory), self.files, self.recovered, self.page,
            durable=False, segment_bytes=segment_bytes, time_ns=self.recovered.time_ns,
        )  # fmt: skip

    def journal(self, commands: Sequence[Command], time_ns: int) -> list[Entry]:
        """Apply and write one batch."""
        assert prepare_next_segment(str(self.directory), self.files, self.page, self.segment_bytes)
        first = self.log.seq + 1
        entries = [
            Entry(command, self.shard.apply(command, seq, time_ns))
            for seq, command in enumerate(commands, first)
        ]
        self.log.append(first, time_ns, entries)
        return entries

    def snapshot(self, time_ns: int) -> Path:
        store = SnapshotStore(self.directory)
        written, _ = store.write(self.shard, self.log.epoch, self.log.seq, time_ns, self.log.chain)
        return written.rename(written.with_suffix(""))

    def drain(self, time_ns: int) -> None:
        self.log.close(time_ns)
        self.page.close()
