"""The report: one HTML file with everything in it, to be read without a network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from loadtests.slo.measure import Attempt
from loadtests.slo.noise import INVOLUNTARY_PER_S_MAX, OTHERS_MAX, STOLEN_MAX
from loadtests.slo.objectives import Objectives
from loadtests.slo.verdict import Verdict, said

TITLES = {
    "order_latency": "Order, inside the engine",
    "ws_latency": "Event to the first subscriber's socket",
    "db_latency": "Journal appends and read model statements",
}
SIGNS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.INCONCLUSIVE: "?"}
BLUE, ORANGE, GREEN, RED, GREY = "#2463a8", "#c2570c", "#2e7d5b", "#b3261e", "#8a8f98"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; max-width: 1080px; margin: 2rem auto }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .6rem; vertical-align: top }
th { border-bottom: 2px solid #d5d9e0 } td { border-bottom: 1px solid #e7eaef } td.n { text-align: right }
.pass { color: #14713a } .fail { color: #b3261e } .inconclusive { color: #8a5a00 }
.verdict { font-size: 1.15rem; font-weight: 600; margin: .3rem 0 1rem }
.small { color: #596273; font-size: .9rem }
ul { padding-left: 1.2rem } code { background: #f1f3f6; padding: 0 .25em }
"""


def page(objectives: Objectives, profile: str, attempts: Sequence[Attempt]) -> str:
    """The whole file."""
    last = attempts[-1]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>Objectives, profile {html.escape(profile)}: {last.verdict}</title><style>{STYLE}</style>",
        f"<script>{get_plotlyjs()}</script>",
        f"<h1>Objectives, profile {html.escape(profile)}</h1>",
        f"<p class=small>{html.escape(objectives.profiles[profile].meaning)}</p>",
        f"<p class='verdict {last.verdict}'>{SIGNS[last.verdict]} {last.verdict}"
        f"{f' (attempt {len(attempts)})' if len(attempts) > 1 else ''}</p>",
        _rows(last),
        _list("Problems", last.problems),
        _list("Not reached", last.shortfalls),
    ]
    if last.windows:
        parts += [f"<p class=small>{html.escape(noise_told(last))}</p>", "<h2>Latency over the run</h2>"]
        parts += [
            "<p class=small>Percentiles of each second, interpolated within buckets as Prometheus does. "
            "Grey: seconds in which the machine was noisy; they are not held against the build.</p>"
        ]
        parts += [_over_time(objectives, profile, last, name) for name in last.whole]
        parts += ["<h2>Distribution</h2>", _distributions(last)]
        parts += ["<h2>Noise</h2>", _noise(last)]
    parts += ["<h2>Conditions</h2>", _conditions(last), _earlier(attempts), "</html>"]
    return "\n".join(parts)


def noise_told(found: Attempt) -> str:
    """One sentence about how quiet the machine was."""
    spread = ", ".join(f"{one.p50:.0f}/{one.p99:.0f}" for one in found.calibrations)
    others = max(window.quietness.others for window in found.windows)
    return (
        f"{sum(found.quiet)} of {len(found.windows)} windows were quiet; "
        f"others took up to {others:.0%} of the CPUs; calibration p50/p99 before and after: {spread} µs."
    )


def _rows(found: Attempt) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(row.name)}<td>{html.escape(row.target)}<td>{html.escape(row.measured)}"
        f"<td class=n>{f'{row.events:,}' if row.events else ''}"
        f"<td class={row.verdict}>{SIGNS[row.verdict]} {row.verdict}<td>{html.escape(row.why)}"
        for row in found.rows
    )
    head = "<tr><th>objective<th>target<th>measured<th>events<th>verdict<th>why"
    return f"<table>{head}{rows}</table>" if found.rows else ""


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{html.escape(item)}' for item in items)}</ul>"


def _plot(figure: go.Figure, height: int) -> str:
    figure.update_layout(
        height=height,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 40, "b": 45},
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"},
        font={"family": "system-ui, sans-serif"},
    )
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
    return text


def _over_time(objectives: Objectives, profile: str, found: Attempt, name: str) -> str:
    figure = go.Figure()
    seconds = [window.start_s for window in found.windows]
    for percent, colour in ((50, BLUE), (99, ORANGE)):
        values = [_or_none(window.latencies[name].percentile(percent)) for window in found.windows]
        figure.add_scatter(
            x=seconds, y=values, name=f"p{percent}", mode="lines+markers", line={"color": colour}
        )
    for start, end in _noisy(found):
        figure.add_vrect(x0=start, x1=end, fillcolor=GREY, opacity=0.18, line_width=0)
    for objective in objectives.profiles[profile].objectives:
        if objective.indicator == name:
            figure.add_hline(
                y=objective.threshold_us,
                line={"color": RED, "dash": "dash", "width": 1},
                label={
                    "text": f"{objective.name}: {objective.threshold_us} µs",
                    "textposition": "end",
                    "yanchor": "bottom",
                    "font": {"color": RED, "size": 11},
                },
            )
    figure.update_layout(title=TITLES[name], xaxis_title="seconds", yaxis_title="µs")
    figure.update_yaxes(type="log", dtick=1)
    return _plot(figure, 300)


def _distributions(found: Attempt) -> str:
    figure = go.Figure()
    for (name, histogram), colour in zip(found.whole.items(), (BLUE, ORANGE, GREEN), strict=True):
        if histogram.count:
            labels = [_bound(bound) for bound in histogram.bounds]
            shares = [100 * count / histogram.count for count in histogram.counts]
            figure.add_bar(x=labels, y=shares, name=TITLES[name], marker_color=colour)
    figure.update_layout(barmode="group", xaxis_title="up to, µs", yaxis_title="% of the events")
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=_all_bounds(found))
    rows = "".join(
        f"<tr><td>{TITLES[name]}<td class=n>{int(histogram.count):,}"
        + "".join(f"<td class=n>{said(histogram, percent)}" for percent in (50, 90, 95, 99))
        for name, histogram in found.whole.items()
        if histogram.count
    ) + "".join(
        f"<tr><td>{html.escape(op)}, as k6 sees it<td>"
        + "".join(f"<td class=n>{values.get(str(percent), 0):.0f}" for percent in (50, 90, 95, 99))
        for op, values in found.k6.get("order_flow", {}).get("latency_by_us", {}).items()
    )
    head = "<tr><th>µs<th>events<th>p50<th>p90<th>p95<th>p99"
    return _plot(figure, 320) + f"<table>{head}{rows}</table>"


def _noise(found: Attempt) -> str:
    figure = go.Figure()
    seconds = [window.start_s for window in found.windows]
    shares = {
        "others' processes": [100 * window.quietness.others for window in found.windows],
        "taken by the hypervisor": [100 * window.quietness.stolen for window in found.windows],
    }
    for (name, values), colour in zip(shares.items(), (BLUE, ORANGE), strict=True):
        figure.add_scatter(x=seconds, y=values, name=name, mode="lines+markers", line={"color": colour})
    for start, end in _noisy(found):
        figure.add_vrect(x0=start, x1=end, fillcolor=GREY, opacity=0.18, line_width=0)
    figure.update_layout(
        title="CPU time that was not ours", xaxis_title="seconds", yaxis_title="% of all CPUs"
    )
    limits = (
        f"A window is quiet if others take at most {OTHERS_MAX:.0%}, the hypervisor {STOLEN_MAX:.0%}, "
        f"and the engine is put off its CPU at most {INVOLUNTARY_PER_S_MAX} times a second, "
        f"in it and in the one before."
    )
    return _plot(figure, 260) + f"<p class=small>{limits}</p>"


def _conditions(found: Attempt) -> str:
    items = {**found.conditions, "evidence": "the JSON file beside this page holds every window"}
    cells = "".join(f"<tr><td>{html.escape(name)}<td>{html.escape(value)}" for name, value in items.items())
    return f"<table>{cells}</table>"


def _earlier(attempts: Sequence[Attempt]) -> str:
    if len(attempts) < 2:
        return ""
    items = [
        f"{number}: {one.verdict}; "
        + "; ".join(f"{row.name} {row.measured}, {row.verdict}" for row in one.rows)
        + f"; {noise_told(one) if one.windows else ''}"
        for number, one in enumerate(attempts[:-1], start=1)
    ]
    return _list("Earlier attempts", items)


def _noisy(found: Attempt) -> list[tuple[float, float]]:
    """From when to when it was noisy, in seconds."""
    ends = [window.start_s for window in found.windows[1:]] + [found.windows[-1].start_s + 1]
    return [
        (window.start_s, end)
        for window, quiet, end in zip(found.windows, found.quiet, ends, strict=True)
        if not quiet
    ]


def _bound(bound: float) -> str:
    return "more" if math.isinf(bound) else f"{bound:g}"


def _all_bounds(found: Attempt) -> list[str]:
    bounds = {bound for histogram in found.whole.values() for bound in histogram.bounds}
    return [_bound(bound) for bound in sorted(bounds)]


def _or_none(value: float) -> float | None:
    """Plotly leaves a gap for None."""
    return None if math.isnan(value) else value
