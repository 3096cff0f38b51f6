"""Processes that run beside one another until they are stopped, and the wait for what they do.

A wait fails at once when one of them has died, with the last line that it said. A process is known by its
pid and its start time, written to a file: whoever comes later, in another process, stops exactly these, and
never one that got the same pid since.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

POLL_S = 0.05
STOP_S = 15
"""How long a process may take to end by itself before it is killed."""


class DaemonDied(Exception):
    pass


class TookTooLong(Exception):
    pass


class Daemons:
    def __init__(self, directory: Path, *, prefix: Sequence[str] = ()) -> None:
        """Logs and pid files go to `directory`; `prefix` is a program that runs the others, such as
        nsenter."""
        self.directory = directory
        self._prefix = tuple(prefix)
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start a process in a session of its own; what it says goes to NAME.log."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self._log(name), "wb") as log:
            child = subprocess.Popen(
                [*self._prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children.append(child)
        # The prefix execs the program, so the pid and the start time stay.
        self._pid_file(name).write_text(f"{child.pid} {_start_time(child.pid)} {time.monotonic_ns()}")

    def running(self) -> list[str]:
        """Names of what has been started and not stopped, the oldest first, dead or alive."""
        files = self.directory.glob("*.pid")
        return [file.stem for file in sorted(files, key=lambda file: int(file.read_text().split()[2]))]

    def is_alive(self, name: str) -> bool:
        pid, started = self._identity(name)
        return _start_time(pid) == started

    def pid(self, name: str) -> int:
        return self._identity(name)[0]

    def check(self) -> None:
        """Raise DaemonDied, with its last words, for the first process that is not alive."""
        for name in self.running():
            if not self.is_alive(name):
                raise DaemonDied(f"{name} has died: {self.last_line(name)}")

    def wait_until(self, what: str, ready: Callable[[], bool], *, seconds: float = 180) -> None:
        """Wait until `ready()`; fails when a process dies before, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                last = "; ".join(f"{name}: {self.last_line(name)}" for name in self.running())
                raise TookTooLong(f"{what}: not within {seconds:g} s. {last}")
            time.sleep(POLL_S)
        self.check()

    def stop(self, name: str, *, by: int = signal.SIGTERM) -> None:
        """End a process and wait until it is gone: a port that is still held would fail the next start."""
        pid, started = self._identity(name)
        for number, seconds in ((by, STOP_S), (signal.SIGKILL, 5)):
            if _start_time(pid) != started:
                break
            os.kill(pid, number)
            deadline = time.monotonic() + seconds
            while _start_time(pid) == started and time.monotonic() < deadline:
                time.sleep(0.02)
        for child in self._children:
            child.poll()  # Reaps it.
        assert _start_time(pid) != started, f"{name} (pid {pid}) does not end"
        self._pid_file(name).unlink(missing_ok=True)

    def stop_all(self, *, by: int = signal.SIGTERM) -> None:
        """End everything, the youngest first."""
        for name in reversed(self.running()):
            self.stop(name, by=by)

    def last_line(self, name: str) -> str:
        try:
            lines = self._log(name).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:400] if said else "(it said nothing)"

    def _identity(self, name: str) -> tuple[int, int | None]:
        pid, started, _ = self._pid_file(name).read_text().split()
        return int(pid), None if started == "None" else int(started)

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _pid_file(self, name: str) -> Path:
        return self.directory / f"{name}.pid"


def _start_time(pid: int) -> int | None:
    """Clock ticks since boot at which a process began; None if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
