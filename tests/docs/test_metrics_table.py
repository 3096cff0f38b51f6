"""app/METRICS.md and the metrics are the same, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tradsys.metrics import ROWS, Combined, Counter, Derived, Gauge, Histogram, Labels, Metric, Row

PAGE = Path(__file__).parents[2] / "app" / "METRICS.md"
TITLES = {"shard": "Shard", "feed": "Feed", "gateway": "Gateway", "query": "Query"}


def test_the_page_has_exactly_one_row_for_each_metric_in_the_same_order():
    written: dict[str, list[str]] = {}
    title = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
        elif line.startswith("| `"):
            written.setdefault(title, []).append(line)

    assert written == {"Every process": list(of_every_process())} | {
        TITLES[row.name]: list(of_row(row)) for row in ROWS
    }


def of_every_process() -> Iterator[str]:
    """What all rows show of the process itself."""
    for metric in ROWS[1].metrics:
        if is_shared(metric):
            yield line_of(metric)
    for derived in ROWS[1].derived:
        if is_shared(derived):
            yield line_of(derived)


def of_row(row: Row) -> Iterator[str]:
    for metric in (*row.metrics, *row.combined, *row.derived):
        if not is_shared(metric):
            yield line_of(metric)


def is_shared(metric: Metric | Combined | Derived) -> bool:
    name = names_of(metric)[0]
    return name.startswith("tradsys_process_") or name == "tradsys_build_info"


def names_of(metric: Metric | Combined | Derived) -> tuple[str, ...]:
    if isinstance(metric, Histogram):
        return tuple(shown.name for shown in metric.shown)
    if isinstance(metric, Combined):
        return (metric.shown.name,)
    return (metric.name,) if isinstance(metric, Derived) else metric.names


def line_of(metric: Metric | Combined | Derived) -> str:
    kind = {Counter: "counter", Gauge: "gauge", Histogram: "histogram", Combined: "histogram"}.get(
        type(metric), "gauge"
    )
    names = "<br>".join(f"`{name}`" for name in names_of(metric))
    return f"| {names} | {kind} | {labels_of(metric)} | {metric.help} |"


def labels_of(metric: Metric | Combined | Derived) -> str:
    if isinstance(metric, Combined):
        return f"`{metric.label}`: {', '.join(value for value, _ in metric.parts)}"
    if isinstance(metric, Derived):
        return ", ".join(f"`{label}`" for label in metric.labels)
    labels: Labels = metric.labels
    return "<br>".join(
        f"`{name}`" if name == "process" else f"`{name}`: {', '.join(values)}" for name, values in labels
    )
