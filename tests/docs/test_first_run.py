"""What the README promises a newcomer: one command, the printed orders, kill -9, all is still there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.server_process import free_ports

ROOT = Path(__file__).parents[2]
PORTS = (
    *("PORT", "ADMIN_PORT", "INTERNAL_PORT", "QUERY_PORT", "WS_PORT", "GRPC_PORT"),
    *("OPS_PORT", "FEED_OPS_PORT", "HISTORY_PORT", "GATEWAY_OPS_PORT", "QUERY_OPS_PORT"),
)


def group_members(group: int) -> list[int]:
    """Pids of a process group that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


class MakeRun:
    """`make run` in a process group of its own, as a shell starts it."""

    def __init__(self, environ: dict[str, str], log: Path, *, on_a_terminal: bool = False) -> None:
        self._log = log
        log.touch()
        terminal, output = os.openpty() if on_a_terminal else (-1, os.open(log, os.O_WRONLY))
        self.process = subprocess.Popen(
            ["make", "run"], cwd=ROOT, env=environ, stdout=output, stderr=output, start_new_session=True
        )
        os.close(output)
        if on_a_terminal:
            threading.Thread(target=self._keep, args=(terminal,), daemon=True).start()

    def _keep(self, terminal: int) -> None:
        """What comes out of the terminal, until nobody writes to it any more."""
        with self._log.open("wb", buffering=0) as log, contextlib.suppress(OSError):
            while said := os.read(terminal, 65_536):
                log.write(said)
        os.close(terminal)

    def greeting(self) -> str:
        """What it has printed once it is ready."""
        return self.until("Ctrl-C ends the venue")

    def until(self, words: str) -> str:
        """What it has printed, with the line that has these words."""
        while words not in (said := self.said()) or not said.endswith("\n"):
            assert self.process.poll() is None, said
            time.sleep(0.05)
        return said

    def said(self) -> str:
        return self._log.read_text()

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def wait_until_nobody_is_left(self) -> None:
        self.process.wait()
        while group_members(self.process.pid):
            time.sleep(0.01)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    ports = zip(PORTS, free_ports(len(PORTS)), strict=True)
    return {
        **os.environ,
        "DATA_DIR": str(tmp_path / "data"),
        **{f"TRADSYS_{name}": str(port) for name, port in ports},
    }


@pytest.fixture
def runs(environ: dict[str, str], tmp_path: Path) -> Iterator[Any]:
    started: list[MakeRun] = []

    def start(*, on_a_terminal: bool = False) -> MakeRun:
        log = tmp_path / f"run-{len(started)}.log"
        started.append(MakeRun(environ, log, on_a_terminal=on_a_terminal))
        return started[-1]

    yield start
    for run in started:
        if group_members(run.process.pid):
            run.send(signal.SIGKILL)
        run.wait_until_nobody_is_left()


def answer(command: str, environ: dict[str, str], token: str) -> dict[str, Any]:
    """The JSON that a command line prints, run by a shell as a person would."""
    ran = subprocess.run(
        ["bash", "-c", command], env={**environ, "TOKEN": token}, capture_output=True, text=True, check=True
    )
    reply: dict[str, Any] = json.loads(ran.stdout)
    return reply


def test_a_newcomer_runs_trades_kills_and_finds_everything_again(runs, environ):
    first = runs()
    greeting = first.greeting()
    (token,) = re.findall("^TOKEN=(.*)$", greeting, re.M)
    resting, trading = (
        answer(command, environ, token) for command in re.findall("^curl .*$", greeting, re.M)
    )
    assert (resting["status"], trading["status"]) == ("new", "filled")
    assert [fill["liquidity"] for fill in trading["fills"]] == ["taker"]
    ((book, account),) = re.findall("^Then look: (.*), (.*)$", greeting, re.M)
    bare = {name: value for name, value in environ.items() if name != "PATH"} | {"PATH": "/usr/bin:/bin"}
    for command in (book, account):
        subprocess.run(["bash", "-c", command], cwd=ROOT, env=bare, capture_output=True, check=True)
    key = Path(environ["DATA_DIR"]) / "hs256.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600

    first.send(signal.SIGKILL)
    first.wait_until_nobody_is_left()
    again = runs()
    again.greeting()

    orders = f"http://127.0.0.1:{environ['TRADSYS_PORT']}/api/v1/orders"
    bearer = '-H "Authorization: Bearer $TOKEN"'
    maker = answer(f"curl -s {orders}/{resting['order_id']} {bearer}", environ, token)
    taker = answer(f"curl -s {orders}/{trading['order_id']} {bearer}", environ, token)
    assert taker == trading
    assert (maker["status"], maker["filled_quantity"]) == ("filled", "0.5")

    again.send(signal.SIGINT)
    again.wait_until_nobody_is_left()


def test_on_a_terminal_the_logs_are_text_and_in_a_file_json(runs):
    def logged(**how: bool) -> str:
        run = runs(**how)
        (line,) = (one for one in run.until("serving from seq").splitlines() if "serving from seq" in one)
        run.send(signal.SIGTERM)
        run.wait_until_nobody_is_left()
        return line

    assert re.fullmatch(r"[0-9:.]{12} INFO  feed     serving from seq [0-9]+", logged(on_a_terminal=True))
    assert json.loads(logged())["process"] == "feed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_venue_ends_with_make(runs, number):
    run = runs()
    run.greeting()

    run.process.send_signal(number)

    run.wait_until_nobody_is_left()
