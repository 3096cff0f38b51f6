"""D3: the n-th system call fails. The engine ends at once, says "unknown", and nothing answered is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue
from tests.reliability.load import Load, verify_journal

EXIT_JOURNAL = 70
FAULTS = [
    ("engine", "pwrite64:error=EIO:when=1"),
    ("engine", "pwrite64:error=ENOSPC:when=2"),
    ("engine", "pwrite64:retval=10:when=3"),
    ("history", "fdatasync:error=EIO:when=1"),
    ("engine", "pwrite64:error=EIO:when=17"),
    ("engine", "pwrite64:retval=0:when=29"),
    ("engine", "pwrite64:error=EROFS:when=41"),
    ("history", "fdatasync:error=ENOSPC:when=4"),
    ("history", "fdatasync:error=EIO:when=9"),
    ("engine", "pwrite64:retval=97:when=60"),
]
CHOSEN = FAULTS[: int(os.environ.get("COUNT_D3", "4"))]


def who_syncs(history: int) -> int:
    """The process that history has for it."""
    for pid in map(int, Path(f"/proc/{history}/task/{history}/children").read_text().split()):
        if b"tradsys.compose.syncing" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("nobody syncs")


@contextlib.contextmanager
def failing(pid: int, injection: str) -> Iterator[None]:
    """strace attached to a process, failing one of its system calls; gone with the process or this block."""
    name = injection.partition(":")[0]
    faults = ("-e", f"trace={name}", "-e", f"inject={injection}")
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), *faults])
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait(timeout=10)


@pytest.mark.timeout(300)
def test_a_failed_system_call_ends_the_engine_at_once_and_loses_nothing(tmp_path):
    venue = RunningVenue(tmp_path, ("engine", "history"), segment_bytes=1 << 20)
    venue.start()
    load = Load(venue, clients=3)
    load.start()
    try:
        for process, injection in CHOSEN:
            wanted = load.acknowledged + 50
            while load.acknowledged < wanted:
                time.sleep(0.01)
            engine = venue.processes["engine"]
            pid = venue.processes[process].pid
            with failing(pid if process == "engine" else who_syncs(pid), injection):
                assert engine.wait(timeout=20) == EXIT_JOURNAL, f"{injection}: {venue.log()[-1000:]!r}"
            del venue.processes["engine"]
            venue.start()
        answers = load.finish()
    finally:
        try:
            load.finish()
        finally:
            venue.end()

    verify_journal(str(venue.data), answers)
    assert load.unknown >= len(CHOSEN), "no request was under way when a call failed"


@pytest.mark.timeout(120)
def test_no_descriptor_left_for_a_connection_costs_nobody_else_anything(tmp_path):
    venue = RunningVenue(tmp_path, ("engine", "history"))
    venue.start()
    load = Load(venue, clients=2)
    load.start()
    try:
        with failing(venue.processes["engine"].pid, "accept4:error=EMFILE:when=1+2"):
            wanted = load.acknowledged + 200
            while load.acknowledged < wanted:
                time.sleep(0.01)
            assert venue.processes["engine"].poll() is None
        answers = load.finish()
    finally:
        try:
            load.finish()
        finally:
            venue.end()

    verify_journal(str(venue.data), answers)
