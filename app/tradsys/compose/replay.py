"""From the journal to a shard: the newest snapshot, and everything after it replayed and compared."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.recovery import Recovered, recover
from tradsys.codec.frame import encode_payload
from tradsys.core.shard import Shard
from tradsys.settings import Settings, SettingsError
from tradsys.venue.ports import Entry, Frame

Progress = Callable[[int, int], None]
"""(last command replayed, last command known of)"""


def recover_shard(
    settings: Settings, files: OsFiles, published_seq: int | None, progress: Progress
) -> tuple[Shard, Recovered]:
    """The newest snapshot that is whole, and everything after it replayed and compared."""

    def restore(chunks: Iterable[bytes]) -> Shard:
        return Shard.restore(chunks, settings.order_pool_size)

    loaded, damaged = SnapshotStore(Path(settings.data_dir)).newest(restore)
    for one in damaged:
        print(f"tradsys: {one.path.name} is not used: {one.problem}", file=sys.stderr)
    if loaded is not None:
        shard, after_seq, chain = loaded.shard, loaded.header.seq, loaded.header.chain
        if shard.name != settings.shard:
            raise SettingsError("shard", f"the data directory holds shard {shard.name!r}")
    else:
        shard, after_seq, chain = Shard(settings.shard, order_pool_size=settings.order_pool_size), 0, None
    recovered = recover(
        settings.data_dir,
        files,
        replayer(shard),
        after_seq=after_seq,
        chain=chain,
        published_seq=published_seq,
        progress=progress,
    )
    return shard, recovered


def replayer(shard: Shard) -> Callable[[Frame], bytes]:
    """Applies a frame's commands and gives the payload that they make now."""

    def apply(frame: Frame) -> bytes:
        entries = []
        for seq, entry in enumerate(frame.entries, frame.first_seq):
            entries.append(Entry(entry.command, shard.apply(entry.command, seq, frame.time_ns)))
        return encode_payload(entries)

    return apply


def progress_bar() -> Progress:
    """A line that counts on a terminal; elsewhere a log line now and then."""
    started = said = time.monotonic()
    on_terminal = sys.stderr.isatty()

    def say(seq: int, last: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < (0.1 if on_terminal else 5) and seq != last:
            return
        said = now
        rate = seq / max(now - started, 1e-6)
        end = "\r" if on_terminal and seq != last else "\n"
        print(f"recovering: {seq:,} of {max(seq, last):,} commands, {rate:,.0f}/s", end=end, file=sys.stderr)

    return say
