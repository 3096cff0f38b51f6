"""Whose the CPU is where history meets others: theirs, as long as history keeps up.

At a usual priority the kernel lets a replay go on for a millisecond or three while somebody waits for its
CPU: the slowest hundredth of all answers where clients and history share one. At idle priority
(SCHED_IDLE) history is taken off the CPU as soon as anybody else wants it. But then it gets next to nothing
of a CPU that stays busy (4 ms in 1.4 s beside one busy process), can't say so, and would be hours behind.
So another process, the one that syncs, looks five times a second, and gives it back its usual priority when

- a thread has waited for a CPU and had less than a hundredth of a second of it between two looks, or
- the replay or the read model has not come to where the journal was `BEHIND_S` ago,

until it has kept up for `AFTER_S`. What history starts (a verification of a snapshot) is one with it.

Coming back from SCHED_IDLE needs CAP_SYS_NICE, or an RLIMIT_NICE of 20 (systemd: LimitNICE=20). Who has
neither never goes there: history is nice 5 then, and no more. A container is a group of its own to the
kernel, so history has nobody there to give way to, and needs neither.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from time import monotonic

LOOK_S = 0.2
BEHIND_S = 2.0
"""Longer than a large snapshot takes to be written: beside it a replay is late, but not starved."""
AFTER_S = 1.0

_NORMAL, _IDLE = os.SCHED_OTHER, os.SCHED_IDLE
_STATE, _USER_TICKS, _SYSTEM_TICKS = 0, 11, 12
"""Places in /proc/PID/stat behind the name."""

_log = logging.getLogger("tradsys.history")


class Priority:
    """Of a process and its children other than this one. Call `look` every `LOOK_S`."""

    def __init__(self, pid: int, durable: Callable[[], int], shown: Callable[[], int]) -> None:
        """`shown` is how much of what is `durable` the process has worked off, in sequence numbers."""
        self._pid = pid
        self._durable, self._shown = durable, shown
        self.is_idle = False
        self._may_be_idle = may_come_back()
        if not self._may_be_idle:
            _log.info("history keeps its priority: it may not come back from SCHED_IDLE (RLIMIT_NICE)")
        self._goal, self._goal_at = 0, monotonic()
        """Where the journal was when the process had last come to the goal before."""
        self._late_at = monotonic()
        self._waiting: dict[int, int] = {}

    def look(self) -> None:
        """Give priority back, or take it."""
        if not self._may_be_idle:
            return
        now = monotonic()
        if self._is_behind(now) or self._is_starved():
            self._late_at = now
            self.give_back()
        elif not self.is_idle and now - self._late_at > AFTER_S:
            self._set(_IDLE)

    def give_back(self) -> None:
        if self.is_idle:
            self._set(_NORMAL)

    def _is_behind(self, now: float) -> bool:
        if self._shown() >= self._goal:
            self._goal, self._goal_at = self._durable(), now
        return now - self._goal_at > BEHIND_S

    def _is_starved(self) -> bool:
        """A thread that waited for a CPU at the last look waits now, and has not used one in between."""
        before, self._waiting = self._waiting, {}
        for thread in self._threads():
            with contextlib.suppress(OSError):
                with open(f"/proc/{thread}/stat", "rb") as file:
                    facts = file.read().rpartition(b") ")[2].split()
                if facts[_STATE] == b"R":
                    self._waiting[thread] = int(facts[_USER_TICKS]) + int(facts[_SYSTEM_TICKS])
        return any(before.get(thread) == ticks for thread, ticks in self._waiting.items())

    def _set(self, policy: int) -> None:
        for thread in self._threads():
            # One that is gone needs none.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, policy, os.sched_param(0))
        self.is_idle = policy == _IDLE

    def _threads(self) -> list[int]:
        processes = [self._pid]
        with contextlib.suppress(OSError), open(f"/proc/{self._pid}/task/{self._pid}/children") as file:
            processes += [pid for pid in map(int, file.read().split()) if pid != os.getpid()]
        found: list[int] = []
        for pid in processes:
            with contextlib.suppress(OSError):
                found += map(int, os.listdir(f"/proc/{pid}/task"))
        return found


def may_come_back() -> bool:
    """This process may take a thread's idle priority away again: tried with one."""
    found = []

    def there_and_back() -> None:
        with contextlib.suppress(OSError):
            for policy in (_IDLE, _NORMAL):
                os.sched_setscheduler(0, policy, os.sched_param(0))
            found.append(True)

    thread = threading.Thread(target=there_and_back)
    thread.start()
    thread.join()
    return bool(found)
