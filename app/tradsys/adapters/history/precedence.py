"""Who goes first on a CPU that others want: everybody, until the replay is late.

At idle priority (SCHED_IDLE) whoever wakes on the same CPU goes first, at once. Niceness only shares out
time, in pieces of milliseconds, and those made the slowest hundredth of all answers where client and history
share a CPU.

The price is that a thread of idle priority may not run at all where the CPUs are busy, so that the read model
would fall behind without end. Who watches the replay gives it back its ordinary place then. Leaving idle
priority needs CAP_SYS_NICE or RLIMIT_NICE: without them the replay is nice, and never idle.
"""

from __future__ import annotations

import os
import threading
from time import monotonic

NICE = 5
LATE_S = 0.5
"""A round of the replay that takes longer waits for a CPU, or has much to do."""
CALM_S = 5.0
"""For how long the replay then keeps its ordinary place at least."""
LOOK_S = 0.1

_ANY = os.sched_param(0)


class Precedence:
    """Of one thread, which calls `begin` and then `round_done` after each of its rounds."""

    def __init__(self, *, stands_back: bool) -> None:
        """Without `stands_back` the thread is nice and no more: what it holds, somebody waits for."""
        self._stands_back = stands_back
        self._thread = 0
        self._round_done_s = 0.0
        self._claimed_s = -CALM_S
        self._stop = threading.Event()
        self.idle = False
        """The thread goes last at the moment."""

    def begin(self) -> None:
        """Of this thread alone, and of what it starts from now on: be nice."""
        os.nice(NICE)
        self._thread = threading.get_native_id()
        if self._stands_back and _may_come_back():
            threading.Thread(target=self._watch, name="precedence", daemon=True).start()
        else:
            self._stands_back = False

    def round_done(self) -> None:
        """The thread has done all there was to do; it goes last from now on, if it was not late lately."""
        self._round_done_s = now = monotonic()
        if self._stands_back and not self.idle and now - self._claimed_s > CALM_S:
            self.idle = True
            os.sched_setscheduler(self._thread, os.SCHED_IDLE, _ANY)

    def claim(self) -> None:
        """Somebody waits for the thread: it takes its ordinary place."""
        self._claimed_s = monotonic()
        if self.idle:
            os.sched_setscheduler(self._thread, os.SCHED_OTHER, _ANY)
            self.idle = False

    def bring_forward(self, child: int) -> None:
        """Somebody waits for this child, by its id; it may have been begun when the thread went last."""
        if self._stands_back:
            os.sched_setscheduler(child, os.SCHED_OTHER, _ANY)

    def end(self) -> None:
        """As `claim`, for good: there are no more rounds."""
        self._stop.set()
        self.claim()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            if self.idle and monotonic() - self._round_done_s > LATE_S:
                self.claim()


def _may_come_back() -> bool:
    """Tried by a thread that has nothing else to do, since it would stay where it is."""
    allowed = []

    def go_and_return() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, _ANY)
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, _ANY)
        except PermissionError:
            return
        allowed.append(True)

    thread = threading.Thread(target=go_and_return)
    thread.start()
    thread.join()
    return bool(allowed)
