"""How long an engine's recovery takes, with and without a snapshot.

    python tests/bench/recovery.py [COMMANDS]

Makes a journal of so many commands (1,000,000) of the model's flow, in batches of 50 through the venue, and
a snapshot `SNAPSHOT_AGE` commands before its end: half of what is between two snapshots by default, so an
average start. Then `recover_shard` is timed in a process of its own for each row, because what an earlier one
has left in memory would count. The result is JSON; it goes into ledger.md with its conditions.
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.promise import Bench
from tradsys.adapters.history.snapshots import Loaded, SnapshotStore, load
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.segments import prepare_next_segment
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page, boot_id
from tradsys.cli.stages import Work
from tradsys.compose.pieces import PAGE_FILE
from tradsys.compose.replay import recover_shard
from tradsys.core.shard import Shard
from tradsys.settings import Settings
from tradsys.settings import load as load_settings
from tradsys.venue.clock import EngineClock
from tradsys.venue.venue import Venue

BATCH = 50
SEGMENT_BYTES = 64 << 20
SNAPSHOT_AGE = 25_000


def settings_of(directory: Path) -> Settings:
    return load_settings({"TRADSYS_DATA_DIR": str(directory)})


def make(directory: Path, count: int) -> dict[str, object]:
    gc.disable()
    files = OsFiles()
    work = Work(seed=1, count=count)
    page = Page.create(str(directory / PAGE_FILE), boot_id())
    shard, recovered = recover_shard(settings_of(directory), files, None, lambda seq, last: None)
    journal = LogWriter.begin(
        str(directory), files, recovered, page, durable=False, segment_bytes=SEGMENT_BYTES, time_ns=1
    )
    venue = Venue(shard, journal, EngineClock(0, time.time_ns, time.monotonic_ns), 0)
    venue.process(work.setup)
    snapshot_at = max(BATCH, (count - SNAPSHOT_AGE) // BATCH * BATCH)
    made: dict[str, object] = {"commands": count}
    began = time.perf_counter()
    for start in range(0, count, BATCH):
        if start == snapshot_at:
            paused = time.perf_counter()
            store = SnapshotStore(directory)
            written, _ = store.write(shard, 1, venue.seq, venue.time_ns, journal.chain)
            # Not a snapshot's name yet: the first row is of a start without one.
            made |= {
                "snapshot": str(written.relative_to(directory)),
                "snapshot_write_s": round(time.perf_counter() - paused, 3),
                "snapshot_bytes": written.stat().st_size,
                "snapshot_open_orders": shard.orders.open_count,
                "snapshot_keys": shard.keys.count,
            }
            began += time.perf_counter() - paused
        assert prepare_next_segment(str(directory), files, page, SEGMENT_BYTES)
        venue.process(work.commands[start : start + BATCH])
    made["apply_and_journal_per_s"] = round(count / (time.perf_counter() - began))
    journal.close(venue.time_ns)
    made["journal_bytes"] = (journal.segment - 1) * SEGMENT_BYTES + journal.offset
    return made


def recover(directory: Path) -> dict[str, object]:
    published = Page.open(str(directory / PAGE_FILE), boot_id()).published_seq
    began, began_cpu = time.perf_counter(), time.process_time()
    shard, recovered = recover_shard(settings_of(directory), OsFiles(), published, lambda seq, last: None)
    return {
        "recover_s": round(time.perf_counter() - began, 2),
        "recover_cpu_s": round(time.process_time() - began_cpu, 2),
        "seq": recovered.seq,
        "state_hash": shard.state_hash(),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def restore(directory: Path) -> dict[str, object]:
    (path,) = SnapshotStore(directory).paths()
    began, began_cpu = time.perf_counter(), time.process_time()
    assert isinstance(load(path, Shard.restore), Loaded)
    return {
        "snapshot_load_s": round(time.perf_counter() - began, 2),
        "snapshot_load_cpu_s": round(time.process_time() - began_cpu, 2),
    }


def in_its_own_process(what: str, directory: Path, *arguments: object) -> dict[str, object]:
    argv = [sys.executable, __file__, what, str(directory), *map(str, arguments)]
    return json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)


def rows_of(count: int) -> dict[str, dict[str, object]]:
    """Each start in a process of its own. AssertionError if two of them do not agree on the state."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        rows = {"made": in_its_own_process("make", directory, count)}
        rows["without a snapshot"] = in_its_own_process("recover", directory)
        written = directory / str(rows["made"]["snapshot"])
        written.rename(written.with_suffix(""))
        rows["with a snapshot"] = in_its_own_process("recover", directory)
        rows["the snapshot alone"] = in_its_own_process("restore", directory)
    same = {rows[name]["state_hash"] for name in ("without a snapshot", "with a snapshot")}
    assert len(same) == 1, "the two starts do not agree"
    return rows


def measure(bench: Bench) -> None:
    """The part `recovery`."""
    count = bench.sized(1_000_000, 5_000, "COMMANDS")
    bench.tell(f"a journal of {count:,} commands, written and recovered from")
    rows = rows_of(count)
    start = rows["with a snapshot"]
    bench.at_most(
        f"recovery at {count:,} commands", 2, "s", [float(str(start["recover_s"]))],
        f"`process`, snapshot {min(count, SNAPSHOT_AGE):,} commands old, loaded and replayed, without "
        f"imports and ports; {start['recover_cpu_s']} s of CPU; without a snapshot "
        f"{rows['without a snapshot']['recover_s']} s; the hash of the state is equal",
    )  # fmt: skip
    bench.found.figures |= rows


def main() -> None:
    print(json.dumps(rows_of(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000), indent=1))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", directory, count]:
            print(json.dumps(make(Path(directory), int(count))))
        case ["recover", directory]:
            print(json.dumps(recover(Path(directory))))
        case ["restore", directory]:
            print(json.dumps(restore(Path(directory))))
        case _:
            main()
