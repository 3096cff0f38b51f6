#!/usr/bin/env python3
"""Build the tools that tools.toml names, once, into a cache outside the tree.

    tools/build.py                     everything that is not there yet
    tools/build.py measure cluster     these groups
    tools/build.py k6 helm             these tools
    tools/build.py --check k6          only say what is missing (exit code 1)

Each tool lies in `$XDG_CACHE_HOME/tradsys/tools/NAME-KEY`, where the key is made of all that the tree says
about what is built: go.mod and go.sum of its module, its entry in tools.toml, the flags below. So a tool is
built again only when one of these changes, several clones share one cache, and an old branch finds its old
tools. Which Go compiled it, it says itself; by another one than there is now, it is built again in its place.
`build/tools` holds a link to each current one: `build/tools/k6 version`.

Two runs at once: who finds that the other builds a tool just now waits for it. A run that is killed leaves
nothing that looks finished.
Needs Go and nothing else, not even the virtualenv; not even Go where all is there.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from schemas import of_file, write

TOOLS = Path(__file__).resolve().parent
LINKS = TOOLS.parent / "build" / "tools"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tradsys" / "tools"

TOLD_EVERY_S = 15
"""How often a build without a terminal says that it is alive."""
LAST_LINES = 15
"""How much of Go's own words a failure shows; the rest is in the log that it names."""
SCHEMAS = "kubernetes-schemas"
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")
LINKER_FLAGS = "-s -w"
STAMPED = "k8s.io/kubernetes"
"""Its commands say v0.0.0 unless the linker is told their version, and API clients judge by that."""
STAMPS = {
    "gitVersion": "{version}",
    "gitMajor": "{major}",
    "gitMinor": "{minor}",
    "gitTreeState": "clean",
    "gitCommit": "0" * 40,
    "buildDate": "1970-01-01T00:00:00Z",
}
STAMPED_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
FLAGS_DIGEST = sha256(repr((FLAGS, LINKER_FLAGS, STAMPS, STAMPED_PACKAGES)).encode()).hexdigest()[:16]
UNSAID_FLAGS_DIGEST = "f0d74b819921f80b"
"""Keys did not name the flags at first. With those of then they still don't: what was built stays current."""


class BuildError(Exception):
    """A tool can't be had; the text says which, why, and what to do."""


@dataclass(frozen=True)
class Tool:
    name: str
    group: str
    module: Path
    """The folder of the go.mod that pins it."""
    package: str = ""
    """What is compiled; empty for a copied folder."""
    copied: str = ""
    """The module of which `path` is copied."""
    path: str = ""
    tags: str = ""
    static: bool = False
    """Without C, so that it runs in an image of nothing but itself."""

    @property
    def key(self) -> str:
        parts = [
            (self.module / "go.mod").read_bytes(),
            (self.module / "go.sum").read_bytes(),
            repr((self.package, self.copied, self.path, self.tags)).encode(),
        ]
        if self.module != TOOLS:
            # A package that stands in for one that can't be had.
            parts += [source.read_bytes() for source in sorted(self.module.rglob("*.go"))]
        if self.static:
            parts.append(b"static")
        if self.package and FLAGS_DIGEST != UNSAID_FLAGS_DIGEST:
            parts.append(FLAGS_DIGEST.encode())
        if self.name == SCHEMAS:
            parts.append((TOOLS / "schemas.py").read_bytes())
        return sha256(b"\0".join(parts)).hexdigest()[:16]

    @property
    def place(self) -> Path:
        """Where it lies when it is done: a command, or a folder."""
        return CACHE / f"{self.name}-{self.key}" / self.name

    @property
    def link(self) -> Path:
        return LINKS / self.name


def read_tools() -> list[Tool]:
    """All tools, in the order of the file."""
    described = tomllib.loads((TOOLS / "tools.toml").read_text())
    return [
        Tool(
            name=name,
            group=group,
            module=TOOLS / entry.get("module", "."),
            package=entry.get("package", ""),
            copied=entry.get("from", ""),
            path=entry.get("path", ""),
            tags=entry.get("tags", ""),
            static=entry.get("static", False),
        )
        for group, entries in described.items()
        for name, entry in entries.items()
    ]


def chosen(tools: list[Tool], names: list[str]) -> list[Tool]:
    """Those of the groups and names; all for no name. Raises BuildError for an unknown one."""
    known = {tool.group for tool in tools} | {tool.name for tool in tools}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BuildError(
            f"no tool and no group is named {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    return [tool for tool in tools if not names or tool.group in names or tool.name in names]


# --- what is seen while it works -----------------------------------------------------------------------


class Display:
    """One line about what goes on: rewritten on a terminal, repeated now and then in a log."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = self._told = time.monotonic()

    def begin(self, name: str) -> None:
        self._name = name
        self._began = self._told = time.monotonic()
        self._say(f"  {name}: looking what it needs …", passing=True)

    def going_on(self, what: str) -> None:
        now = time.monotonic()
        if self._terminal or now - self._told >= TOLD_EVERY_S:
            self._told = now
            self._say(f"  {self._name}: {what}, {now - self._began:.0f} s", passing=True)

    def done(self, what: str) -> None:
        self._say(f"  {self._name}: {what}, {time.monotonic() - self._began:.0f} s", passing=False)

    def waiting(self, what: str) -> None:
        self._say(f"  {what}", passing=True)

    def _say(self, text: str, passing: bool) -> None:
        if self._terminal:
            print(f"\r\x1b[K{text}", end="" if passing else "\n", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


# --- building --------------------------------------------------------------------------------------------


@contextmanager
def only_one(tool: Tool, display: Display) -> Iterator[None]:
    """Hold the tool's lock; says so when somebody else has it."""
    tool.place.parent.mkdir(parents=True, exist_ok=True)
    with open(tool.place.parent / "lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            display.waiting(
                f"{tool.name}: waiting for process {lock.read().strip() or '?'}, which builds it …"
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def go(tool: Tool, arguments: list[str], log: Path, display: Display) -> str:
    """Run Go in the tool's module and return what it printed; raises BuildError with its last words."""
    environment = {**os.environ, "GOWORK": "off"} | ({"CGO_ENABLED": "0"} if tool.static else {})
    command = ["go", *arguments]
    try:
        process = subprocess.Popen(
            command,
            cwd=tool.module,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError:
        raise BuildError("Go is needed to build the tools, and none was found on PATH") from None
    assert process.stderr and process.stdout
    compiled = downloaded = 0
    words: list[str] = []
    try:
        with open(log, "a") as file:
            for line in process.stderr:
                file.write(line)
                words.append(line)
                if line.startswith("go: downloading"):
                    downloaded += 1
                elif not line.startswith("go: "):
                    compiled += 1
                display.going_on(f"{compiled} packages compiled, {downloaded} modules downloaded")
        printed = process.stdout.read()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if process.wait() != 0:
        last = "".join(words[-LAST_LINES:]).rstrip()
        raise BuildError(
            f"{tool.name}: `{' '.join(command)}` in {tool.module} failed:\n{last}\nAll of it is in {log}"
        )
    return printed


def linker_flags(tool: Tool) -> str:
    flags = LINKER_FLAGS
    if tool.package.startswith(STAMPED):
        version = pinned_version(tool.module, STAMPED)
        major, minor, _ = version.removeprefix("v").split(".")
        for package in STAMPED_PACKAGES:
            for name, value in STAMPS.items():
                flags += f" -X {package}.{name}={value.format(version=version, major=major, minor=minor)}"
    return flags


def pinned_version(module: Path, path: str) -> str:
    """The version of a required module, as go.mod says it."""
    for line in (module / "go.mod").read_text().splitlines():
        words = line.removeprefix("require").split()
        if words[:1] == [path] and "=>" not in words:
            return words[1]
    raise BuildError(f"{module / 'go.mod'} does not require {path}")


def build(tool: Tool, display: Display) -> None:
    """Make one tool; it appears in its place only when it is whole."""
    display.begin(tool.name)
    log = tool.place.parent / "build.log"
    log.unlink(missing_ok=True)
    unfinished = tool.place.with_name(f"{tool.name}.unfinished")
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    if tool.package:
        flags = [*FLAGS, "-v", "-ldflags", linker_flags(tool)]
        if tool.tags:
            flags += ["-tags", tool.tags]
        go(tool, ["build", *flags, "-o", str(unfinished), tool.package], log, display)
    else:
        answer = go(tool, ["mod", "download", "-json", tool.copied], log, display)
        source = Path(json.loads(answer)["Dir"]) / tool.path
        if tool.name == SCHEMAS:
            write(of_file(source), unfinished)
        else:
            # The module cache is read-only, and its modes would come along.
            shutil.copytree(source, unfinished, copy_function=shutil.copyfile)
            for folder in (unfinished, *unfinished.rglob("*/")):
                folder.chmod(0o755)
    unfinished.rename(tool.place)
    display.done("built" if tool.package else "copied")


def link(tool: Tool) -> None:
    """Point build/tools at the current one."""
    if tool.link.is_symlink() and tool.link.readlink() == tool.place:
        return
    LINKS.mkdir(parents=True, exist_ok=True)
    new = LINKS / f".{tool.name}.{os.getpid()}"
    new.symlink_to(tool.place)
    new.replace(tool.link)


def asked(module: Path, *arguments: str) -> list[str]:
    """Lines that Go answers with at once; none where there is no Go."""
    try:
        answer = subprocess.run(
            ["go", *arguments],
            cwd=module,
            env={**os.environ, "GOWORK": "off"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        return []
    return answer.stdout.splitlines()


def lacking(tools: list[Tool]) -> list[Tool]:
    """Those to build: what is not there, and what another Go compiled than would now."""
    compiled = [tool for tool in tools if tool.package and tool.place.exists()]
    by = (
        dict(
            line.rsplit(": ", 1) for line in asked(TOOLS, "version", *(str(tool.place) for tool in compiled))
        )
        if compiled
        else {}
    )
    # A module may ask for a newer Go than the one on PATH.
    now = {module: asked(module, "env", "GOVERSION") for module in {tool.module for tool in compiled}}
    old = {
        tool
        for tool in compiled
        if now[tool.module] and str(tool.place) in by and [by[str(tool.place)]] != now[tool.module]
    }
    return [tool for tool in tools if tool in old or not tool.place.exists()]


def make(tools: list[Tool], display: Display) -> None:
    missing = lacking(tools)
    if missing:
        names = ", ".join(tool.name for tool in missing)
        print(f"Building {names} (minutes when the machine has never done it) …", file=sys.stderr, flush=True)
    for tool in tools:
        if tool in missing:
            with only_one(tool, display):
                # Whoever had the lock may have built it.
                if lacking([tool]):
                    build(tool, display)
        link(tool)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="build nothing; say what is missing")
    parser.add_argument("names", nargs="*", metavar="GROUP|TOOL")
    arguments = parser.parse_args()
    display = Display()
    # Whoever ends this run must not leave Go's work behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        tools = chosen(read_tools(), arguments.names)
        if arguments.check:
            missing = [tool.name for tool in lacking(tools)]
            print("\n".join(missing) or "everything is there")
            return 1 if missing else 0
        make(tools, display)
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
