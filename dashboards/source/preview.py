"""Every panel as a chart in one HTML page: the dashboards without a Grafana.

    python -m dashboards.source.preview [--seconds 60] [--pythonpath DIR] [--out build/dashboards/index.html]

Starts a venue, load of every kind and a Prometheus, waits, and draws what the queries of dashboards/*.json
gave. `--pythonpath` shows another build than the installed one.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards.source.boards import BOARDS, OF_THE_OPERATOR
from dashboards.source.live import ROOT, LiveVenue, Load, Prometheus, as_asked

STEP_S = 1
ROW_PX = 36
COLOURS = {"green": "#2f855a", "orange": "#c05621", "red": "#c53030", "blue": "#2b6cb0"}
LINES = (
    *("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b7791f", "#c53030", "#319795", "#d53f8c"),
    *("#4a5568", "#68d391", "#63b3ed", "#f6ad55"),
)
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>tradsys dashboards</title>
<style>
body{{font:14px/1.4 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1a202c}}
header{{background:#fff;border-bottom:1px solid #d8dce2;padding:12px 24px;position:sticky;top:0;z-index:5}}
header b{{font-size:16px;margin-right:18px}} header a{{margin-right:14px;color:#2b6cb0;text-decoration:none}}
section{{padding:8px 24px 28px;scroll-margin-top:56px}}
h1{{font-size:20px;margin:18px 0 2px}} h2{{font-size:15px;margin:18px 0 6px}}
p.about{{margin:0;color:#4a5568}}
.grid{{display:grid;grid-template-columns:repeat(24,1fr);gap:10px}}
.panel{{background:#fff;border:1px solid #d8dce2;border-radius:6px;padding:8px 10px;min-width:0;display:flex;
  flex-direction:column;overflow:hidden}}
.panel h3{{font-size:13px;margin:0}} .panel .why{{font-size:12px;color:#5a6473;margin:0 0 4px}}
.values{{display:flex;flex-wrap:wrap;gap:4px 22px;align-items:center;flex:1;align-content:center}}
.value b{{font-size:24px;font-weight:600;display:block;line-height:1.15}}
.value span{{font-size:12px;color:#5a6473}}
.empty{{color:#8a94a3;margin:auto}} .bar{{height:8px;border-radius:4px;background:#e6e9ee;margin:2px 0 8px}}
.bar i{{display:block;height:8px;border-radius:4px}}
table{{border-collapse:collapse;font-size:12px}} td,th{{text-align:left;padding:2px 14px 2px 0}}
.scroll{{overflow:auto;flex:1}} .chart{{flex:1;min-height:0}}
</style><script>{plotly}</script></head><body>
<header><b>tradsys dashboards</b>{links}</header>{sections}<script>
const near = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => {{
  near.unobserve(e.target);
  const figure = JSON.parse(e.target.dataset.figure);
  Plotly.newPlot(e.target, figure.data, figure.layout, {{displayModeBar: false, responsive: true}});
}}), {{rootMargin: "800px"}});
document.querySelectorAll(".chart").forEach((chart) => near.observe(chart));
</script></body></html>
"""


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--seconds", type=int, default=60)
    asked.add_argument("--pythonpath", type=Path, default=None)
    asked.add_argument("--out", type=Path, default=ROOT / "build" / "dashboards" / "index.html")
    chosen = asked.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="preview-"))
    try:
        venue = LiveVenue(directory, chosen.pythonpath)
        with (
            venue,
            Prometheus(directory / "prometheus", venue.targets) as prometheus,
            Load(venue, prometheus),
        ):
            print(f"A venue under load for {chosen.seconds} s …", flush=True)
            time.sleep(chosen.seconds)
            end = time.time()
            page = page_of(prometheus, end - chosen.seconds, end)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(page)
    print(chosen.out)
    return 0


def page_of(prometheus: Prometheus, start: float, end: float) -> str:
    """The whole page, from the files that Grafana would take."""
    links, sections = [], []
    # No operator runs here.
    for name in (each for each in BOARDS if each not in OF_THE_OPERATOR):
        board = json.loads((ROOT / "dashboards" / f"{name}.json").read_text())
        title = html.escape(board["title"].removeprefix("tradsys · "))
        links.append(f'<a href="#{name}">{title}</a>')
        parts = [
            f'<section id="{name}"><h1>{title}</h1><p class="about">{html.escape(board["description"])}</p>'
        ]
        is_open = False
        for panel in board["panels"]:
            if panel["type"] == "row":
                parts.append(("</div>" if is_open else "") + f"<h2>{html.escape(panel['title'])}</h2>")
                parts.append('<div class="grid">')
                is_open = True
            else:
                parts.append(_panel(panel, prometheus, start, end))
        sections.append("".join([*parts, "</div></section>"]))
    return PAGE.format(plotly=get_plotlyjs(), links="".join(links), sections="".join(sections))


def _panel(panel: dict[str, Any], prometheus: Prometheus, start: float, end: float) -> str:
    place = panel["gridPos"]
    height = place["h"] * ROW_PX
    draw = {"timeseries": _lines, "table": _table, "bargauge": _bars}.get(panel["type"], _values)
    return (
        f'<div class="panel" style="grid-column:span {place["w"]};height:{height}px">'
        f"<h3>{html.escape(panel['title'])}</h3>"
        f'<p class="why">{html.escape(panel["description"])}</p>'
        f"{draw(panel, prometheus, start, end)}</div>"
    )


def _lines(panel: dict[str, Any], prometheus: Prometheus, start: float, end: float) -> str:
    lines = []
    for target in panel["targets"]:
        for series in prometheus.query_range(as_asked(target["expr"]), start, end, STEP_S):
            points = [(at, float(text)) for at, text in series["values"]]
            if any(not math.isnan(value) for _, value in points):
                lines.append((_legend(target, series["metric"]), points))
    if not lines:
        return '<p class="empty">no data</p>'
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    largest = max(
        (abs(value) for _, points in lines for _, value in points if math.isfinite(value)), default=0.0
    )
    scale, unit = _unit(defaults["unit"], largest)
    figure = go.Figure()
    for number, (name, points) in enumerate(sorted(lines)):
        figure.add_scatter(
            x=[at - end for at, _ in points],
            y=[None if math.isnan(value) else value * scale for _, value in points],
            name=name,
            mode="lines",
            line={"width": 1.5, "color": LINES[number % len(LINES)]},
            stackgroup="all" if stacked else None,
            hovertemplate=f"{html.escape(name)}: %{{y:.4~g}} {unit}<extra></extra>",
        )
    for step in defaults["thresholds"]["steps"][1:]:
        # Drawn where it would be seen; far above everything it would flatten the lines.
        if step["value"] <= 3 * largest:
            figure.add_hline(
                y=step["value"] * scale, line={"dash": "dash", "width": 1, "color": COLOURS[step["color"]]}
            )
    figure.update_layout(
        template="plotly_white",
        margin={"l": 52, "r": 8, "t": 4, "b": 4},
        font={"size": 11},
        hovermode="x unified",
        showlegend=len(lines) > 1 or lines[0][0] != "",
        legend={"orientation": "h", "y": -0.16, "yanchor": "top", "font": {"size": 10}},
        yaxis={
            "rangemode": "tozero",
            "ticksuffix": f" {unit}" if unit else "",
            "nticks": 5,
            # Only large numbers without a unit are shortened: 20k, but half a CPU is 0.5.
            "tickformat": ",.4~g" if unit or largest < 10_000 else "~s",
        },
        xaxis={"ticksuffix": " s", "nticks": 7},
    )
    return _div(figure)


def _div(figure: go.Figure) -> str:
    """A place that the page's script draws into when somebody comes near: all at once would take seconds."""
    return f'<div class="chart" data-figure="{html.escape(figure.to_json())}"></div>'


def _now(
    panel: dict[str, Any], prometheus: Prometheus, end: float
) -> list[tuple[str, dict[str, str], float]]:
    """(name, labels, value) as of the end."""
    return [
        (_legend(target, sample["metric"]), sample["metric"], float(sample["value"][1]))
        for target in panel["targets"]
        for sample in prometheus.query(as_asked(target["expr"]), end)
    ]


def _values(panel: dict[str, Any], prometheus: Prometheus, start: float, end: float) -> str:
    samples = _now(panel, prometheus, end)
    if not samples:
        return '<p class="empty">no data</p>'
    text_of, colour_of = _reading(panel)
    shown = (
        f'<div class="value"><b style="color:{colour_of(value)}">{html.escape(text_of(value))}</b>'
        f"<span>{html.escape(name)}</span></div>"
        for name, _, value in samples
    )
    return f'<div class="values">{"".join(shown)}</div>'


def _bars(panel: dict[str, Any], prometheus: Prometheus, start: float, end: float) -> str:
    samples = _now(panel, prometheus, end)
    if not samples:
        return '<p class="empty">no data</p>'
    text_of, colour_of = _reading(panel)
    shown = (
        f"<div><span>{html.escape(name)}: <b>{html.escape(text_of(value))}</b></span>"
        f'<div class="bar"><i style="width:{max(0.0, min(1.0, value)) * 100:.0f}%;'
        f'background:{colour_of(value)}"></i></div></div>'
        for name, _, value in samples
    )
    return f'<div class="scroll">{"".join(shown)}</div>'


def _table(panel: dict[str, Any], prometheus: Prometheus, start: float, end: float) -> str:
    samples = _now(panel, prometheus, end)
    if not samples:
        return '<p class="empty">no data</p>'
    labels = list(samples[0][1])
    only_info = all(value == 1 for _, _, value in samples)
    heads = labels if only_info else [*labels, "value"]
    rows = [
        [metric.get(label, "") for label in labels] + ([] if only_info else [f"{value:,.10g}"])
        for _, metric, value in samples
    ]
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in sorted(rows)
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _reading(panel: dict[str, Any]) -> tuple[Callable[[float], str], Callable[[float], str]]:
    """How the panel writes a value, and in which colour."""
    defaults = panel["fieldConfig"]["defaults"]
    words = {key: told for mapping in defaults["mappings"] for key, told in mapping["options"].items()}
    steps = defaults["thresholds"]["steps"]

    def text_of(value: float) -> str:
        if f"{value:g}" in words:
            return str(words[f"{value:g}"]["text"])
        if math.isnan(value):
            return "–"
        scale, unit = _unit(defaults["unit"], abs(value))
        number = value * scale
        # Four digits, and never an exponent.
        text = f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:.4g}"
        return f"{text} {unit}".rstrip()

    def colour_of(value: float) -> str:
        if f"{value:g}" in words:
            return COLOURS[words[f"{value:g}"]["color"]]
        reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
        return COLOURS[reached[-1]]

    return text_of, colour_of


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    text = target["legendFormat"]
    if text == "__auto":
        return ", ".join(f"{name}={value}" for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), text)


def _unit(unit: str, largest: float) -> tuple[float, str]:
    """(factor, suffix) that make numbers of this size short."""
    if unit == "s":
        for factor, suffix in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if largest * factor >= 1:
                return factor, suffix
        return 1e6, "µs"
    if unit in ("bytes", "Bps"):
        tail = "/s" if unit == "Bps" else ""
        for factor, suffix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if largest >= factor:
                return 1 / factor, suffix + tail
        return 1, "B" + tail
    return {"percentunit": (100.0, "%"), "ops": (1.0, "/s"), "µs": (1.0, "µs")}.get(unit, (1.0, ""))


if __name__ == "__main__":
    sys.exit(main())
