"""Where history's priority is: idle while it keeps up, its own as soon as it is late or gets no CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tradsys.adapters.history import priority
from tradsys.adapters.history.priority import LOOK_S, Priority, may_come_back

MAY = pytest.mark.skipif(not may_come_back(), reason="nobody comes back from SCHED_IDLE here")
FAMILY = """
import subprocess, sys, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
BUSY = "import time\nprint(flush=True)\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"


@contextmanager
def running(script: str) -> Iterator[tuple[int, str]]:
    """A process and its first line."""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline()
        finally:
            process.kill()


def policies(*pids: int) -> set[int]:
    threads = [int(name) for pid in pids for name in os.listdir(f"/proc/{pid}/task")]
    assert len(threads) > len(pids) or len(pids) == 1
    return {os.sched_getscheduler(thread) for thread in threads}


def comes_to(one: Priority, policy: int, *pids: int) -> None:
    """Looking again and again, as the process that syncs does; a busy machine gives nobody a CPU at times."""
    end = time.monotonic() + 30
    while policies(*pids) != {policy}:
        assert time.monotonic() < end, policies(*pids)
        time.sleep(LOOK_S)
        one.look()


@MAY
def test_all_threads_and_children_are_idle_as_long_as_the_journal_is_followed(monkeypatch):
    monkeypatch.setattr(priority, "AFTER_S", 0)
    monkeypatch.setattr(priority, "BEHIND_S", 0)
    durable, shown = 10, 10
    with running(FAMILY) as (pid, said):
        family = pid, int(said)
        one = Priority(pid, lambda: durable, lambda: shown)
        assert policies(*family) == {os.SCHED_OTHER}
        comes_to(one, os.SCHED_IDLE, *family)
        durable = 11
        comes_to(one, os.SCHED_OTHER, *family)
        one.look()
        assert policies(*family) == {os.SCHED_OTHER}, "it is still behind"
        shown = 11
        comes_to(one, os.SCHED_IDLE, *family)
        one.give_back()
        assert policies(*family) == {os.SCHED_OTHER}
        os.kill(family[1], 9)


@MAY
def test_who_waits_for_a_cpu_that_others_keep_has_its_priority_back(monkeypatch):
    monkeypatch.setattr(priority, "AFTER_S", 0)
    cpu = max(os.sched_getaffinity(0))
    with running(BUSY) as (pid, _), running(BUSY) as (other, _):
        os.sched_setaffinity(pid, {cpu})
        one = Priority(pid, lambda: 0, lambda: 0)
        one.look()
        idle = policies(pid)
        os.sched_setaffinity(other, {cpu})
        monkeypatch.setattr(priority, "AFTER_S", 60)
        end = time.monotonic() + 30
        while one.is_idle and time.monotonic() < end:
            time.sleep(LOOK_S)
            one.look()
        assert (idle, policies(pid)) == ({os.SCHED_IDLE}, {os.SCHED_OTHER})


def test_who_may_not_come_back_is_never_idle():
    script = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if not os.getuid():
    os.setuid(65534)
from tradsys.adapters.history import priority
priority.AFTER_S = 0
one = priority.Priority({os.getpid()}, lambda: 0, lambda: 0)
one.look()
print(priority.may_come_back(), one.is_idle)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert said == "False False\n"
    assert os.SCHED_IDLE not in policies(os.getpid())


@MAY
def test_a_process_that_is_gone_needs_no_priority(monkeypatch):
    monkeypatch.setattr(priority, "AFTER_S", 0)
    with running(FAMILY) as (pid, said):
        os.kill(int(said), 9)
    one = Priority(pid, lambda: 0, lambda: 0)
    one.look()
    one.look()
    one.give_back()
