"""`make tools`: built once, found again, never half there, and a failure that says what to do."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
HELLO = 'package main\n\nfunc main() { println("hello") }\n'
STAND_IN = """#!/bin/sh
# Instead of Go: writes what `-o` names, without compiling anything, and which Go it is.
is=${GO_IS:-go1.24.1}
case $1 in
env) echo "$is"; exit ;;
version) shift; for one; do echo "$one: $(sed -n 's/^# by //p' "$one")"; done; exit ;;
esac
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
echo runtime >&2
printf '#!/bin/sh\\n# by %s\\necho hello >&2\\n' "$is" >"$out"
chmod +x "$out"
"""
FAILS = """#!/bin/sh
echo "greeting/main.go:3: undefined: planted" >&2
exit 1
"""
TAKES_LONG = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
echo half >"$out"
echo runtime >&2
exec sleep 30
"""


class Project:
    """A project whose tools are one small command and one copied folder."""

    def __init__(self, folder: Path) -> None:
        self.tools = folder / "tools"
        self.cache = folder / "cache"
        self.bin = folder / "bin"
        (self.tools / "greeting").mkdir(parents=True)
        for name in ("build.py", "schemas.py"):
            shutil.copy(TOOLS / name, self.tools)
        self.write("go.mod", "module example.test/tools\n\ngo 1.24\n")
        self.write("go.sum", "")
        self.write("greeting/main.go", HELLO)
        self.write("tools.toml", '[first.greeting]\npackage = "example.test/tools/greeting"\n')

    def go_is(self, script: str) -> None:
        """Most tests are about what is done with Go's work, and need none of it."""
        self.bin.mkdir(exist_ok=True)
        (self.bin / "go").write_text(script)
        (self.bin / "go").chmod(0o755)

    def write(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)

    def start(self, *names: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, self.tools / "build.py", *names],
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(self.cache),
                # Go keeps its own cache in the same place, and would compile its library again.
                "GOCACHE": str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "go-build"),
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                **env,
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *names: str, **env: str) -> tuple[int, str]:
        process = self.start(*names, **env)
        said, _ = process.communicate()
        return process.returncode, said

    def built(self) -> list[Path]:
        return sorted(self.cache.glob("tradsys/tools/greeting-*/greeting"))

    def says(self) -> str:
        linked = self.tools.parent / "build" / "tools" / "greeting"
        return subprocess.run([linked], capture_output=True, text=True, check=True).stderr.strip()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.go_is(STAND_IN)
    return project


def test_what_is_missing_is_built_and_linked(tmp_path: Path):
    project = Project(tmp_path)

    code, said = project.run()

    assert (code, project.says()) == (0, "hello"), said
    assert "greeting: built" in said


def test_what_is_there_is_not_built_again_and_needs_no_go(project: Project):
    project.run()
    (before,) = project.built()
    changed = before.stat().st_mtime_ns

    assert project.run(PATH="/nowhere") == (0, "")
    assert before.stat().st_mtime_ns == changed


def test_another_pin_is_another_tool_and_the_old_one_stays(project: Project):
    project.run()
    project.write("go.mod", "module example.test/tools\n\ngo 1.25\n")
    code, said = project.run()

    assert (code, len(project.built())) == (0, 2), said


def test_another_go_builds_it_again_in_its_place(project: Project):
    project.run()
    assert project.run("--check") == (0, "everything is there\n")

    assert project.run("--check", GO_IS="go1.24.2") == (1, "greeting\n")
    code, said = project.run(GO_IS="go1.24.2")

    assert (code, "greeting: built" in said, len(project.built())) == (0, True, 1), said
    assert project.run(GO_IS="go1.24.2") == (0, "")
    assert project.says() == "hello"


def test_other_flags_are_another_tool_and_those_of_the_first_keys_are_not(project: Project):
    project.run()
    pins = [(project.tools / name).read_bytes() for name in ("go.mod", "go.sum")]
    entry = repr(("example.test/tools/greeting", "", "", "")).encode()
    first_key = sha256(b"\0".join([*pins, entry])).hexdigest()[:16]
    assert [one.parent.name for one in project.built()] == [f"greeting-{first_key}"]

    flags = '"-trimpath", "-buildvcs=false"'
    text = (project.tools / "build.py").read_text()
    assert text.count(flags) == 1
    project.write("build.py", text.replace(flags, '"-trimpath", "-race"'))
    code, said = project.run()

    assert (code, len(project.built())) == (0, 2), said


def test_a_failure_says_which_command_failed_with_which_words_and_leaves_nothing(project: Project):
    project.go_is(FAILS)

    code, said = project.run()

    assert code == 1
    assert "greeting: `go build" in said and "undefined: planted" in said and "build.log" in said
    assert project.built() == []


def test_without_go_it_says_so(project: Project):
    code, said = project.run(PATH="/nowhere")

    assert (code, said.splitlines()[-1]) == (1, "Go is needed to build the tools, and none was found on PATH")


def test_an_unknown_name_is_answered_with_those_there_are(project: Project):
    assert project.run("greetings") == (
        1,
        "\nno tool and no group is named greetings; there are first, greeting\n",
    )


def test_check_builds_nothing(project: Project):
    assert project.run("--check") == (1, "greeting\n")
    assert project.built() == []
    project.run()
    assert project.run("--check") == (0, "everything is there\n")


def test_a_second_run_waits_for_the_first_and_finds_its_tool(project: Project):
    key = re.compile(r"greeting-[0-9a-f]{16}")
    project.run(PATH="/nowhere")
    (place,) = (one for one in (project.cache / "tradsys" / "tools").iterdir() if key.fullmatch(one.name))
    with open(place / "lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = project.start(PATH="/nowhere")
        assert waiting.stdout
        said = waiting.stdout.readline() + waiting.stdout.readline()
        shutil.copy("/bin/true", place / "greeting")

    assert "waiting for process" in said
    assert waiting.wait(30) == 0


def test_a_run_that_is_killed_leaves_nothing_that_looks_finished(project: Project):
    project.go_is(TAKES_LONG)
    running = project.start()
    until(lambda: list(project.cache.glob("tradsys/tools/greeting-*/*.unfinished")))
    running.terminate()
    running.wait()

    assert project.built() == []
    project.go_is(STAND_IN)
    assert project.run()[0] == 0
    assert project.says() == "hello"


def until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def described() -> list[tuple[str, str, str]]:
    """(name, module, what Go is asked for) of each tool."""
    groups = tomllib.loads((TOOLS / "tools.toml").read_text()).values()
    return [
        (name, tool.get("module", "."), tool.get("package") or tool["from"])
        for tools in groups
        for name, tool in tools.items()
    ]


@pytest.mark.parametrize(("name", "module", "package"), described())
def test_every_tool_is_pinned_by_its_module(name: str, module: str, package: str):
    pins = (TOOLS / module / "go.mod").read_text()
    sums = (TOOLS / module / "go.sum").read_text()

    required = [line.split()[0] for line in re.findall(r"^(?:require )?\t?(\S+/\S+ v\S+)", pins, re.M)]
    assert any(package == path or package.startswith(f"{path}/") for path in required)
    assert sums


def test_every_tool_line_is_built_by_someone():
    named = {(module, package) for _, module, package in described()}
    lines = {
        (str(path.parent.relative_to(TOOLS)), package)
        for path in TOOLS.rglob("go.mod")
        for block in re.findall(r"^tool (?:\((.*?)^\)|(\S+))", path.read_text(), re.M | re.S)
        for package in "".join(block).split()
    }

    assert lines <= named
