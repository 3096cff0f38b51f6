"""The supervisor behind `tradsys run`: starts the venue's processes, keeps them up, and ends them in order.

It owns no state of the venue and no thread: it sleeps until a child has ended, a signal has come or a
restart is due. Signals are blocked and waited for, so nothing can come between a look and the sleep after it.

A child that ends is started again after a pause that doubles with each quick end. Some exit codes say that a
restart can't help (the journal can't be trusted, the data directory is locked, a setting is wrong): these end
everything. Children stay in the supervisor's process group and can't outlive it, even if it is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
STABLE_S = 10.0
"""A child that has run so long starts over with the first pause."""
FORCE_AFTER_S = 0.5
"""A second Ctrl-C counts from here on: `timeout` and some shells deliver the first one twice."""

EXIT_FORCED = 130
"""Ended without waiting for the children: 128 + SIGINT, as shells have it."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Child(Struct, frozen=True, kw_only=True):
    """A process to keep up."""

    name: str
    argv: Sequence[str]
    final_codes: frozenset[int] = frozenset()
    """Exit codes after which a restart can't help; the supervisor ends with the same code."""


class Report(Struct, frozen=True, kw_only=True):
    """Something a person who watches wants to know."""

    child: str
    what: str
    """started, exited, killed or stopped."""
    pid: int
    code: int | None = None
    """Exit code; below 0 the signal that ended it."""
    restart_in_s: float | None = None


class _Running:
    """A child together with its process, if it has one now."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_due = 0.0
        self.pause_s = FIRST_PAUSE_S


class Supervisor:
    """Runs the children until a signal, or until one of them ends with one of its final codes.

    `children` are in the order in which they are stopped: the first one is asked alone, so that those who
    follow it see all it wrote; then the rest at once. Each step waits at most `stop_timeout_s`, then kills.
    `meanwhile` is called about every 0.1 s until it returns True: a place to wait for readiness and say so.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        report: Callable[[Report], None],
        meanwhile: Callable[[], bool] | None = None,
        stop_timeout_s: float = 15.0,
    ) -> None:
        self._running = [_Running(child) for child in children]
        self._report = report
        self._meanwhile = meanwhile
        self._stop_timeout_s = stop_timeout_s
        self._interrupted_at: float | None = None
        self._forced = False
        self._signals = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}
        if (
            signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        ):  # Under nohup a closed terminal is no reason to end.
            self._signals.add(signal.SIGHUP)

    def run(self) -> int:
        """Exit code: 0 after a signal and a clean end, a final code of a child, or EXIT_FORCED."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            code = self._keep_up()
            self._stop()
        finally:
            self._kill(self._running)
            while signal.sigtimedwait(self._signals, 0.0):
                pass  # A repeat that came too late must not end us differently now.
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return EXIT_FORCED if self._forced else code

    def _keep_up(self) -> int:
        """Start and restart until a signal (0) or a final code."""
        while True:
            now = time.monotonic()
            for running in self._running:
                if running.process is None and running.start_due <= now:
                    self._start(running)
            if self._meanwhile and self._meanwhile():
                self._meanwhile = None
            due = [running.start_due - now for running in self._running if running.process is None]
            if self._meanwhile:
                due.append(0.1)
            if self._wait_for_signal(min(due, default=None)):
                return 0
            for running in self._running:
                code = self._reap(running)
                if code is not None and code in running.child.final_codes:
                    return code

    def _start(self, running: _Running) -> None:
        parent = os.getpid()

        def prepare() -> None:
            # In the child. It must not outlive us, and Ctrl-C, which a terminal sends to the whole group, is
            # for us alone: we pass the end on in order. SIGINT stays blocked, the rest of the mask is undone.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT})

        running.process = subprocess.Popen(running.child.argv, stdin=subprocess.DEVNULL, preexec_fn=prepare)
        running.started_at = time.monotonic()
        self._report(Report(child=running.child.name, what="started", pid=running.process.pid))

    def _reap(self, running: _Running) -> int | None:
        """The exit code if the child has ended by itself, with its restart planned."""
        if running.process is None or (code := running.process.poll()) is None:
            return None
        now = time.monotonic()
        if now - running.started_at >= STABLE_S:
            running.pause_s = FIRST_PAUSE_S
        final = code in running.child.final_codes
        self._report(
            Report(
                child=running.child.name,
                what="exited",
                pid=running.process.pid,
                code=code,
                restart_in_s=None if final else running.pause_s,
            )
        )
        running.process = None
        running.start_due = now + running.pause_s
        running.pause_s = min(running.pause_s * 2, LONGEST_PAUSE_S)
        return code

    def _stop(self) -> None:
        """Ask the first child to end, then the others, and kill those that don't in time."""
        for group in (self._running[:1], self._running[1:]):
            for running in group:
                if running.process is not None:
                    running.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + self._stop_timeout_s
            while not self._forced and any(running.process is not None for running in group):
                for running in group:
                    self._see_off(running)
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    self._kill(group)
                elif any(running.process is not None for running in group):
                    self._wait_for_signal(left_s)

    def _see_off(self, running: _Running) -> None:
        if running.process is not None and (code := running.process.poll()) is not None:
            pid, running.process = running.process.pid, None
            self._report(Report(child=running.child.name, what="stopped", pid=pid, code=code))

    def _kill(self, group: Sequence[_Running]) -> None:
        for running in group:
            if running.process is not None:
                running.process.kill()
                pid, code, running.process = running.process.pid, running.process.wait(), None
                self._report(Report(child=running.child.name, what="killed", pid=pid, code=code))

    def _wait_for_signal(self, timeout_s: float | None) -> bool:
        """Sleep until a child has ended, a signal has come or the time is up; True: we are asked to end."""
        info = signal.sigtimedwait(self._signals, 3600.0 if timeout_s is None else max(timeout_s, 0.0))
        if info is None or info.si_signo == signal.SIGCHLD:
            return False
        if info.si_signo == signal.SIGINT:
            now = time.monotonic()
            if self._interrupted_at is None:
                self._interrupted_at = now
            elif now - self._interrupted_at >= FORCE_AFTER_S:
                self._forced = True
        return True


def serve_argv(name: str) -> list[str]:
    """The command line of one of the venue's processes; settings travel in the environment."""
    return [sys.executable, "-m", "tradsys", "serve", name]
