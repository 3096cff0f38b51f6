"""The promise table: in the terminal, as JSON, and as a page with plots that needs no network."""

from __future__ import annotations

import html
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from rich.console import Console
from rich.table import Table

from loadtests.slo.report import BLUE, GREEN, GREY, ORANGE, RED, STYLE
from tests.bench.promise import Found, Plot, Row, Verdict

COLOURS = {
    Verdict.HELD: "green",
    Verdict.MISSED: "red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.UNJUDGED: "dim",
}
CLASSES = {Verdict.HELD: "pass", Verdict.MISSED: "fail", Verdict.INCONCLUSIVE: "inconclusive"}
LINES = (BLUE, ORANGE, GREEN, RED, GREY, "#6b4fa0", "#0f8b8d", "#a8326b")


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def promised(row: Row) -> str:
    return f"{'≥' if row.at_least else '≤'} {number(row.bound)} {row.unit}"


def measured(row: Row) -> str:
    spread = ""
    if len(row.rounds) > 1:
        spread = f" ({number(min(row.rounds))}…{number(max(row.rounds))})"
    return f"{number(row.measured)} {row.unit}{spread}"


def show(found: Sequence[Found], failed: dict[str, str]) -> None:
    """The table, on stdout."""
    table = Table(title="What is promised, and what was measured", title_justify="left", show_lines=True)
    for column, justify in (("promise", "left"), ("promised", "right"), ("measured", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("conditions", ratio=1)
    table.add_column("ratio", justify="right")
    table.add_column("verdict")
    for part in found:
        for row in part.rows:
            verdict = f"[{COLOURS[row.verdict]}]{row.verdict}"
            table.add_row(row.what, promised(row), measured(row), row.conditions, f"{row.ratio:.2f}", verdict)
    for part_name, why in failed.items():
        table.add_row(part_name, "", "", why, "", "[red]failed")
    # Piped into a file it is as wide as it has to be to be read.
    console = Console(width=None if os.isatty(1) else 170)
    console.print(table)
    for part in found:
        told = ", ".join(f"{name} {value}" for name, value in part.conditions.items())
        console.print(f"{part.part}: {part.seconds:.0f} s; {told}", style="dim", highlight=False)


def write(folder: Path, found: Sequence[Found], failed: dict[str, str]) -> Path:
    """bench.json and index.html; the page's path."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    machine = {
        "at": at,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpus": f"{os.cpu_count()} × {_cpu_model()}",
        "folder": "the temporary one of the system",
    }
    whole = {"machine": machine, "failed": failed, "parts": msgspec.to_builtins(list(found))}
    (folder / "bench.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    path = folder / "index.html"
    path.write_text(page(machine, found, failed))
    return path


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def page(machine: dict[str, str], found: Sequence[Found], failed: dict[str, str]) -> str:
    escape = html.escape
    rows = "".join(
        f"<tr><td>{escape(row.what)}<td class=n>{escape(promised(row))}<td class=n>{escape(measured(row))}"
        f"<td class=small>{escape(row.conditions)}{f'; {escape(row.doubt)}' if row.doubt else ''}"
        f"<td class=n>{row.ratio:.2f}<td class={CLASSES.get(row.verdict, 'small')}>{row.verdict}"
        for part in found
        for row in part.rows
    )
    rows += "".join(
        f"<tr><td>{escape(name)}<td><td><td>{escape(why)}<td><td class=fail>failed"
        for name, why in failed.items()
    )
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>The promises and the measurements</title>",
        f"<style>{STYLE} body {{ max-width: 1240px }} pre {{ overflow: auto; font-size: .8rem }}</style>",
        f"<script>{get_plotlyjs()}</script>",
        "<h1>What is promised, and what was measured</h1>",
        f"<p class=small>{escape(', '.join(f'{name} {value}' for name, value in machine.items()))}. "
        "Ratio: measured over promised. On a noisy machine an absolute miss within a factor of two is "
        "inconclusive.</p>",
        "<table><tr><th>promise<th>promised<th>measured (of the rounds)<th>conditions<th>ratio<th>verdict",
        rows,
        "</table>",
    ]
    for part in found:
        told = ", ".join(f"{name} {value}" for name, value in part.conditions.items())
        parts.append(f"<h2>{escape(part.part)}</h2><p class=small>{part.seconds:.0f} s; {escape(told)}</p>")
        parts += [drawn(plot) for plot in part.plots]
        parts += [
            f"<details><summary>{escape(name)}</summary>{_figures(figures)}</details>"
            for name, figures in part.figures.items()
        ]
    return "\n".join([*parts, "</html>"])


def drawn(plot: Plot) -> str:
    figure = go.Figure()
    for line, colour in zip(plot.lines, LINES * len(plot.lines), strict=False):
        figure.add_scatter(x=line.x, y=line.y, name=line.name, mode="lines+markers", line={"color": colour})
    figure.update_layout(
        title=plot.title,
        xaxis_title=plot.x,
        yaxis_title=plot.y,
        height=380,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 40, "b": 45},
        font={"family": "system-ui, sans-serif"},
    )
    if plot.log_y:
        figure.update_yaxes(type="log", dtick=1)
    else:
        figure.update_yaxes(rangemode="tozero")
    if plot.log_x:
        figure.update_xaxes(type="log", dtick=1)
    drawn_: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
    return drawn_ + (f"<p class=small>{html.escape(plot.note)}</p>" if plot.note else "")


def _figures(figures: Any) -> str:
    return f"<pre>{html.escape(json.dumps(figures, indent=1, ensure_ascii=False))}</pre>"
