"""The processes that a part measures: where they run, what they took, and what they take."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.slo.histograms import Scrape
from tests.adapters.server_process import free_ports
from tests.api.venue_process import RunningVenue
from tests.feed.feed_venue import FeedVenue

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SEGMENT_BYTES = 64 << 20


def cpus() -> tuple[set[int], set[int]]:
    """(those of everybody else, the engine's own): the last one, where there are two or more."""
    all_ = sorted(os.sched_getaffinity(0))
    return (set(all_[:-1]), set(all_[-1:])) if len(all_) > 1 else (set(all_), set(all_))


@contextlib.contextmanager
def pinned_venue(folder: Path, processes: Sequence[str], **settings: object) -> Iterator[RunningVenue]:
    """A venue whose engine has the last CPU; this process and everything else of it share the others.

    In its environment `env` is already what its processes are started with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others, engines = cpus()
    whole = os.sched_getaffinity(0)
    environment = settings.pop("env", {})
    make = FeedVenue if "feed" in processes else RunningVenue
    venue = make(folder, processes, **({"segment_bytes": SEGMENT_BYTES} | settings))
    assert isinstance(environment, dict)
    venue.env |= environment
    try:
        # What is started while this process is pinned is pinned, too, with all its threads.
        os.sched_setaffinity(0, engines)
        venue.names = ("engine",)
        venue.start()
        os.sched_setaffinity(0, others)
        venue.names = processes
        venue.start()
        yield venue
    finally:
        for process in venue.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
        venue.end()
        os.sched_setaffinity(0, whole)


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """They take no CPU meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def cpu_s(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:")) * 1024


def scrape(venue: RunningVenue) -> Scrape:
    """What history says of the shard."""
    reply = venue.send("GET", "/metrics", port=venue.ports["history_port"])
    return Scrape.of(reply.body.decode())


@contextlib.contextmanager
def floor_server() -> Iterator[tuple[int, int]]:
    """(port, pid) of an application that does nothing, on the engine's own server and CPU."""
    (port,) = free_ports(1)
    with_us = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    _, engines = cpus()
    process = subprocess.Popen([*with_us, sys.executable, "-m", "tests.bench.floor", str(port)])
    try:
        os.sched_setaffinity(process.pid, engines)
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()
