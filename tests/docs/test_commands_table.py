"""app/COMMANDS.md and the command line are the same, both ways."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from tradsys.cli import failures, main
from tradsys.settings import CLIENT_VARIABLES, CONFIG_ENV

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "app" / "COMMANDS.md").read_text()
PAGES = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()


def commands(
    command: click.Command | None = None, path: str = "tradsys"
) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its whole name, in the order of `--help`."""
    command = command or typer.main.get_command(main.app)
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, below in inner.items():
        yield from commands(below, f"{path} {name}")


def first_sentence(command: click.Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def test_the_table_has_exactly_one_row_for_each_command_in_the_same_order():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `tradsys ")]

    assert rows == [f"| `{path}` | {first_sentence(command)} |" for path, command in commands()]


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda value: str(value))
def test_each_command_and_each_of_its_parameters_has_help(path, command):
    without = [
        parameter.name
        for parameter in command.params
        if not getattr(parameter, "help", None) and parameter.name != "help"
    ]

    assert first_sentence(command).endswith((".", ")")), path
    assert without == []


def test_the_variables_of_the_commands_are_no_settings_but_known_to_them():
    root = typer.main.get_command(main.app)
    used: set[str] = set()
    for command in (root, *(command for _, command in commands())):
        for parameter in command.params:
            named = parameter.envvar or ()
            used.update([named] if isinstance(named, str) else named)

    assert used == CLIENT_VARIABLES | {CONFIG_ENV}
    assert [variable for variable in sorted(used) if f"`{variable}`" not in PAGE] == []


def test_the_exit_codes_are_on_the_page():
    codes = [failures.ERROR, failures.USAGE, failures.JOURNAL, failures.LOCKED, failures.CONFIGURATION]

    assert [code for code in codes if f"| {int(code)} |" not in PAGE] == []


def written_commands(text: str) -> list[str]:
    """What a page says to type, in code marks or on an indented line; not `kubectl tradsys …`."""
    marked = re.findall(r"`([^`]+)`", re.sub("^```.*?^```", "", text, flags=re.M | re.S))
    lines = re.findall(r"^(?: {4,}|\t)(.*?)(?: {2,}#.*)?$", text, re.M)
    typed = (" ".join(each.split()) for each in (*marked, *lines))
    return [
        found[1]
        for each in typed
        if (found := re.search(r"(?:^|-- |\.venv/bin/)(tradsys(?: [^|;&]+)?)$", each)) and " " in found[1]
    ]


def wrong_in(written: str) -> str:
    """What of a written command the command line does not know; "" if it knows all of it."""
    here: click.Command = typer.main.get_command(main.app)
    known = {option for parameter in here.params for option in parameter.opts}
    for word in shlex.split(written)[1:]:
        inner = getattr(here, "commands", {})
        if word.startswith("--") and word != "--":
            if word.partition("=")[0] not in known | {"--help", "--install-completion"}:
                return word
        elif word in inner:
            here = inner[word]
            known |= {option for parameter in here.params for option in parameter.opts}
        elif inner and not word.isupper() and word != "…":
            return word
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_a_command_that_a_page_says_to_type_exists_with_its_options(page):
    written = written_commands((ROOT / page).read_text())

    assert {each: wrong for each in written if (wrong := wrong_in(each))} == {}


def test_a_command_that_does_not_exist_would_be_noticed():
    page = """Type `tradsys journal verify`, `tradsys replay --till 5` and `tradsys --data-dir COPY verify`:

        .venv/bin/tradsys serv   # not serve
    """

    assert [wrong_in(each) for each in written_commands(page)] == ["journal", "--till", "", "serv"]
