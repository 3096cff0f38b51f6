"""The replay goes last on its CPU, unless it is late or somebody waits for it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tradsys.adapters.history import precedence
from tradsys.adapters.history.precedence import Precedence

CAN_COME_BACK = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20 - precedence.NICE
LAST = os.SCHED_IDLE if CAN_COME_BACK else os.SCHED_OTHER


class Replay:
    """A thread that does a round whenever it is told to."""

    def __init__(self, *, stands_back: bool) -> None:
        self.precedence = Precedence(stands_back=stands_back)
        self._rounds = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.round()

    def round(self) -> None:
        self._rounds.release()
        self._done.acquire()

    def goes_last(self) -> bool:
        """After one more round."""
        self.round()
        return self.policy == LAST

    @property
    def policy(self) -> int:
        assert self._thread.native_id is not None
        return os.sched_getscheduler(self._thread.native_id)

    def _run(self) -> None:
        self.precedence.begin()
        while True:
            self._rounds.acquire()
            self.precedence.round_done()
            self._done.release()


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    monkeypatch.setattr(precedence, "CALM_S", 0.2)
    replay = Replay(stands_back=True)
    yield replay
    replay.precedence.end()


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.01)
    return False


def test_after_a_round_it_goes_last(replay: Replay) -> None:
    assert eventually(replay.goes_last)


def test_late_it_takes_its_ordinary_place_and_goes_last_again_after_a_calm_while(replay: Replay) -> None:
    # No round ends, as if there were no CPU for it.
    assert eventually(lambda: replay.policy == os.SCHED_OTHER)
    assert not replay.precedence.idle
    assert eventually(replay.goes_last)


def test_asked_for_something_it_takes_its_ordinary_place_at_once(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precedence, "CALM_S", 60.0)
    replay.precedence.claim()
    assert replay.policy == os.SCHED_OTHER
    replay.round()
    assert replay.policy == os.SCHED_OTHER


def test_a_child_that_is_waited_for_is_brought_forward(replay: Replay) -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        os.sched_setscheduler(child.pid, LAST, os.sched_param(0))
        replay.precedence.bring_forward(child.pid)
        assert os.sched_getscheduler(child.pid) == os.SCHED_OTHER
    finally:
        child.kill()
        child.wait()


def test_where_answers_wait_for_its_process_it_never_goes_last() -> None:
    replay = Replay(stands_back=False)
    replay.round()
    assert replay.policy == os.SCHED_OTHER
    replay.precedence.end()


def test_without_the_right_to_come_back_it_never_goes_last() -> None:
    """In a process of its own: it gives its rights away."""
    code = """
import os
from tradsys.adapters.history.precedence import Precedence
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
one = Precedence(stands_back=True)
one.begin()
one.round_done()
assert os.sched_getscheduler(0) == os.SCHED_OTHER and not one.idle, os.sched_getscheduler(0)
one.bring_forward(os.getpid())
one.end()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr
