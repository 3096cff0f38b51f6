"""The supervisor, in a process of its own, with small real children that write down what happens to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DRIVER = """
import json, sys
from tradsys.cli import supervisor
from tradsys.cli.supervisor import Child, Supervisor

spec = json.loads(sys.argv[1])
supervisor.STABLE_S = spec["stable_s"]
children = [Child(name=n, argv=[sys.executable, "-c", code], final_codes=frozenset(final))
            for n, code, final in spec["children"]]

def report(r):
    print(json.dumps([r.child, r.what, r.code, r.restart_in_s, r.pid]), flush=True)

turns = []
def meanwhile():
    turns.append(1)
    if len(turns) == 3:
        print(json.dumps(["-", "ready", None, None, 0]), flush=True)
    return len(turns) == 3

raise SystemExit(Supervisor(children, report=report, meanwhile=meanwhile if spec["meanwhile"] else None,
                            stop_timeout_s=spec["stop_timeout_s"]).run())
"""

SLEEP = "import time; time.sleep(60)"
POLITE = """
import signal, sys, time
def end(signum, frame):
    open({log!r}, "a").write({name!r} + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, lambda *_: open({log!r}, "a").write("interrupted\\n"))
open({log!r} + "." + {name!r}, "w").close()
while True:
    time.sleep(0.01)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({log!r} + "." + {name!r}, "w").close()
time.sleep(60)
"""


class Watched:
    """A supervisor under test, in a process group of its own as under make."""

    def __init__(
        self,
        children: list[tuple[str, str, list[int]]],
        *,
        stop_timeout_s: float = 10,
        meanwhile: bool = False,
        stable_s: float = 10,
    ) -> None:
        spec = {
            "children": children,
            "stop_timeout_s": stop_timeout_s,
            "meanwhile": meanwhile,
            "stable_s": stable_s,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(spec)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def reports(self, count: int) -> list[tuple[str, str, int | None, float | None, int]]:
        """The next `count` reports; blocks until they are there."""
        assert self.process.stdout
        return [tuple(json.loads(self.process.stdout.readline())) for _ in range(count)]  # type: ignore[misc]

    def rest(self) -> list[tuple[str, str, int | None, float | None, int]]:
        assert self.process.stdout
        return [tuple(json.loads(line)) for line in self.process.stdout]  # type: ignore[misc]

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def supervise() -> Iterator[Callable[..., Watched]]:
    started: list[Watched] = []

    def start(*args: object, **kwargs: object) -> Watched:
        started.append(Watched(*args, **kwargs))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for watched in started:
        watched.end()


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """The process has ended; a zombie, which only its parent can remove, has too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def polite(name: str, log: Path) -> tuple[str, str, list[int]]:
    return name, POLITE.format(log=str(log), name=name), []


def deaf(name: str, log: Path) -> tuple[str, str, list[int]]:
    return name, DEAF.format(log=str(log), name=name), []


def are_up(log: Path, *names: str) -> bool:
    return all(Path(f"{log}.{name}").exists() for name in names)


def test_a_child_that_ends_is_started_again_after_a_pause_that_doubles(supervise):
    watched = supervise([("engine", "raise SystemExit(3)", [70])])

    assert [report[:4] for report in watched.reports(6)] == [
        ("engine", "started", None, None),
        ("engine", "exited", 3, 0.2),
        ("engine", "started", None, None),
        ("engine", "exited", 3, 0.4),
        ("engine", "started", None, None),
        ("engine", "exited", 3, 0.8),
    ]


def test_after_a_stable_run_the_pause_is_short_again(supervise):
    watched = supervise([("engine", "raise SystemExit(3)", [70])], stable_s=0)

    exits = [report for report in watched.reports(6) if report[1] == "exited"]

    assert [report[3] for report in exits] == [0.2, 0.2, 0.2]


def test_a_killed_child_is_started_again_and_the_others_stay(supervise):
    watched = supervise([("engine", SLEEP, []), ("history", SLEEP, [])])
    (_, _, _, _, engine), (_, _, _, _, history) = watched.reports(2)

    os.kill(engine, signal.SIGKILL)

    exited, started = watched.reports(2)
    assert exited == ("engine", "exited", -9, 0.2, engine)
    assert started[:2] == ("engine", "started")
    assert not is_gone(history)


@pytest.mark.parametrize("code", [70, 75, 78])
def test_a_final_code_ends_everything_with_that_code(supervise, tmp_path, code):
    log = tmp_path / "log"
    wait_for_other = f"""
import os, time
while not os.path.exists({str(log) + ".history"!r}):
    time.sleep(0.01)
raise SystemExit({code})
"""
    watched = supervise([("engine", wait_for_other, [70, 75, 78]), polite("history", log)])

    assert watched.process.wait() == code
    assert [report[:4] for report in watched.rest()][2:] == [
        ("engine", "exited", code, None),
        ("history", "stopped", 0, None),
    ]


def test_a_final_code_of_one_child_is_an_ordinary_end_of_another(supervise):
    watched = supervise([("engine", SLEEP, [75]), ("history", "raise SystemExit(75)", [70])])

    assert watched.reports(3)[2][:4] == ("history", "exited", 75, 0.2)


@pytest.mark.parametrize("how", ["term", "interrupt the group", "hang up"])
def test_one_signal_ends_the_children_in_order_and_none_is_interrupted(supervise, tmp_path, how):
    log = tmp_path / "log"
    watched = supervise([polite("engine", log), polite("history", log)])
    until(lambda: are_up(log, "engine", "history"))

    if how == "interrupt the group":
        os.killpg(watched.process.pid, signal.SIGINT)
    else:
        os.kill(watched.process.pid, signal.SIGTERM if how == "term" else signal.SIGHUP)

    assert watched.process.wait() == 0
    assert log.read_text() == "engine\nhistory\n"
    assert [report[:3] for report in watched.rest()][2:] == [
        ("engine", "stopped", 0),
        ("history", "stopped", 0),
    ]


def test_a_repeated_term_changes_nothing(supervise, tmp_path):
    log = tmp_path / "log"
    watched = supervise([polite("engine", log), polite("history", log)])
    until(lambda: are_up(log, "engine", "history"))

    for _ in range(5):
        os.kill(watched.process.pid, signal.SIGTERM)

    assert watched.process.wait() == 0
    assert log.read_text() == "engine\nhistory\n"


def test_a_child_that_does_not_end_in_time_is_killed_and_the_next_still_asked(supervise, tmp_path):
    log = tmp_path / "log"
    watched = supervise([deaf("engine", log), polite("history", log)], stop_timeout_s=0.3)
    until(lambda: are_up(log, "engine", "history"))

    os.kill(watched.process.pid, signal.SIGTERM)

    assert watched.process.wait() == 0
    assert [report[:3] for report in watched.rest()][2:] == [
        ("engine", "killed", -9),
        ("history", "stopped", 0),
    ]


def test_a_second_interrupt_forces_the_end_but_a_doubled_first_one_does_not(supervise, tmp_path):
    log = tmp_path / "log"
    watched = supervise([deaf("engine", log), deaf("history", log)], stop_timeout_s=60)
    until(lambda: are_up(log, "engine", "history"))

    os.kill(watched.process.pid, signal.SIGINT)
    os.kill(watched.process.pid, signal.SIGINT)
    time.sleep(0.7)
    assert watched.process.poll() is None
    os.kill(watched.process.pid, signal.SIGINT)

    assert watched.process.wait() == 130
    assert [report[:3] for report in watched.rest()][2:] == [
        ("engine", "killed", -9),
        ("history", "killed", -9),
    ]


def test_children_can_not_outlive_a_killed_supervisor(supervise, tmp_path):
    log = tmp_path / "log"
    watched = supervise([deaf("engine", log), deaf("history", log)])
    pids = [report[4] for report in watched.reports(2)]
    until(lambda: are_up(log, "engine", "history"))

    os.kill(watched.process.pid, signal.SIGKILL)

    until(lambda: all(is_gone(pid) for pid in pids))


def test_children_stay_in_the_process_group_and_have_no_standard_input(supervise, tmp_path):
    log = tmp_path / "log"
    tell = f"import os, sys; open({str(log)!r}, 'w').write(f'{{os.getpgid(0)}} {{sys.stdin.read()!r}}')"
    watched = supervise([("engine", textwrap.dedent(tell), [0])])

    assert watched.process.wait() == 0
    assert log.read_text() == f"{watched.process.pid} ''"


def test_meanwhile_is_called_until_it_says_that_it_is_done(supervise):
    watched = supervise([("engine", SLEEP, [])], meanwhile=True)

    assert [report[1] for report in watched.reports(2)] == ["started", "ready"]
    os.kill(watched.process.pid, signal.SIGTERM)
    assert [report[1] for report in watched.rest()] == ["stopped"]
