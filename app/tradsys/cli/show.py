"""What commands print: tables for people, JSON for programs, nothing else on stdout.

Colours appear only on a terminal. Where stdout is no terminal a table takes the width it needs, so that
nothing is cut off in a pipe.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich import progress

PIPE_COLUMNS = 200
WHOLE_CHARS_MAX = 16
LINE_EVERY_S = 5.0
"""How often progress is told where there is no terminal."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
err = Console(highlight=False, stderr=True)

_NUMBER = re.compile(r"-?[0-9][0-9,]*(\.[0-9]+)?", re.ASCII)

STATUS_STYLES = {
    "new": "cyan",
    "partially_filled": "yellow",
    "filled": "green",
    "canceled": "dim",
    "expired": "dim",
    "rejected": "red",
    "buy": "green",
    "sell": "red",
    "trading": "green",
    "cancel_only": "yellow",
    "halted": "red",
}


def json(value: Any) -> None:
    """One JSON value, indented."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def json_line(value: Any) -> None:
    """One JSON value on one line, for output that goes on."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "", empty: str = ""
) -> None:
    """A row for each mapping; columns are its keys. `empty` is said instead of a table without rows."""
    if not rows and empty:
        out.print(empty, style="dim", markup=False)
        return
    grid = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    cells = {column: [cell(row.get(column), column) for row in rows] for column in columns}
    for column in columns:
        numbers = all(_NUMBER.fullmatch(text.plain) for text in cells[column] if text.plain)
        longest = max((len(text.plain) for text in cells[column]), default=0)
        grid.add_column(
            column.replace("_", " "),
            justify="right" if numbers else "left",
            overflow="fold",
            # On a narrow terminal headings and long texts are broken, names and numbers are not.
            min_width=longest if longest <= WHOLE_CHARS_MAX else None,
        )
    for row in zip(*cells.values(), strict=True):
        grid.add_row(*row)
    out.print(grid)


def facts(values: Mapping[str, Any], title: str = "") -> None:
    """Names and values below one another."""
    grid = Table(title=title or None, box=None, show_header=False, title_justify="left", pad_edge=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(Text(name.replace("_", " ")), cell(value, name))
    out.print(grid)


def cell(value: Any, column: str = "") -> Text:
    """A value as a person reads it. Never interpreted as markup: names come from clients."""
    if value is None or value == "":
        return Text("")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if column.endswith("_ts") or column == "ts":
        return Text(time_text(value))
    if isinstance(value, (list, dict)):
        return Text(msgspec.json.encode(value).decode())
    text = str(value)
    return Text(text, style=STATUS_STYLES.get(text, ""))


def time_text(ns: str | int) -> str:
    """Unix nanoseconds, given as text or number, as UTC to the microsecond; 0 is no time."""
    if not (value := int(ns)):
        return ""
    moment = datetime.fromtimestamp(value // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{value // 1_000 % 1_000_000:06d}"


class Progress:
    """Tells on stderr how far something long is: a bar on a terminal, else a line now and then."""

    def __init__(self, unit: str, total: int | None = None) -> None:
        self._unit = unit
        self._total = total
        self._started = self._said = time.monotonic()
        self._bar: progress.Progress | None = None

    def __enter__(self) -> Progress:
        if err.is_terminal:
            # Not at the top: a third of the time that most commands take.
            from rich import progress

            self._bar = progress.Progress(
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TextColumn("{task.completed:,.0f} {task.description}"),
                progress.TextColumn("{task.fields[rate]:,.0f}/s"),
                progress.TimeRemainingColumn(),
                console=err,
                transient=True,
            )
            self._task = self._bar.add_task(self._unit, total=self._total, rate=0)
            self._bar.start()
        return self

    def __exit__(self, *fault: object) -> None:
        if self._bar:
            self._bar.stop()

    def move(self, done: int, total: int | None = None) -> None:
        """So many are done, of `total` if that is known only now."""
        now = time.monotonic()
        rate = done / max(now - self._started, 1e-9)
        if self._bar:
            self._bar.update(self._task, completed=done, total=total or self._total, rate=rate)
        elif now - self._said >= LINE_EVERY_S:
            self._said = now
            of = f" of {total or self._total:,}" if total or self._total else ""
            err.print(f"{done:,}{of} {self._unit}, {rate:,.0f}/s", markup=False)
