"""A small language for dashboards: what a board says, without what Grafana wants to have around it.

A board is rows of panels; a panel has a title, a description, a unit, thresholds and queries. `as_json`
gives the document that Grafana imports: one variable for the data source, two to choose what is shown.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from msgspec import Struct

GREEN, AMBER, RED, BLUE = "green", "orange", "red", "blue"
SCHEMA_VERSION = 39
WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
HERE = 'job=~"$job", instance=~"$instance"'
"""What every query selects by."""


class Query(Struct, frozen=True):
    expr: str
    """PromQL; `HERE` within braces becomes the selection of the variables."""
    legend: str = ""


class Panel(Struct, frozen=True):
    title: str
    description: str
    unit: str
    """A unit of Grafana's: µs, s, ops, percentunit, bytes, short, …"""
    queries: tuple[Query, ...]
    width: int = 12
    """24 is a whole line."""
    kind: Literal["timeseries", "stat", "gauge", "table", "bargauge"] = "timeseries"
    thresholds: tuple[tuple[float, str], ...] = ()
    """(from here on, colour); what is below the first is green, or blue where nothing is good or bad."""
    stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    decimals: int | None = None
    words: tuple[tuple[float, str, str], ...] = ()
    """(value, text, colour) for values that mean something else than their number."""


class Row(Struct, frozen=True):
    title: str
    panels: tuple[Panel, ...]
    """A line is filled before the next begins."""
    height: int = 8


class Board(Struct, frozen=True):
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    source: str = "tradsys_build_info"
    """The metric whose labels the variables offer."""


def q(expr: str, legend: str = "") -> Query:
    return Query(expr, legend)


def as_json(board: Board, links: list[tuple[str, str]]) -> str:
    """The document; `links` are (uid, title) of the boards to go to from here."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in board.rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
                "panels": [],
            }
        )
        y, x = y + 1, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + row.height
            place = {"h": row.height, "w": panel.width, "x": x, "y": y}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            x += panel.width
        y += row.height
    document = {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["tradsys"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "links": [
            {"title": title, "type": "link", "url": f"/d/{uid}", "keepTime": True, "includeVars": True}
            for uid, title in links
            if uid != board.uid
        ],
        "annotations": {"list": []},
        "templating": {"list": _variables(board.source)},
        "panels": panels,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _variables(source: str) -> list[dict[str, Any]]:
    def of_label(label: str, title: str, query: str) -> dict[str, Any]:
        return {
            "name": label,
            "label": title,
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": query, "refId": label},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "hide": 0,
        }

    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
        },
        of_label("job", "Job", f"label_values({source}, job)"),
        of_label("instance", "Instance", f'label_values({source}{{job=~"$job"}}, instance)'),
    ]


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": DATASOURCE,
                "expr": query.expr.replace("HERE", HERE),
                "legendFormat": query.legend or "__auto",
                **(
                    {"instant": True, "range": False, "format": "table"}
                    if panel.kind == "table"
                    else {"instant": True, "range": False}
                    if panel.kind == "bargauge"
                    else {"instant": False, "range": True}
                ),
            }
            for i, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
        **({"transformations": _table_columns(panel)} if panel.kind == "table" else {}),
    }


def _field(panel: Panel) -> dict[str, Any]:
    base = GREEN if panel.thresholds or panel.words else BLUE
    field: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "mappings": [
            {"type": "value", "options": {f"{value:g}": {"text": text, "color": colour}}}
            for value, text, colour in panel.words
        ],
        "thresholds": {
            "mode": "absolute",
            "steps": [
                {"color": base, "value": None},
                *({"color": colour, "value": value} for value, colour in panel.thresholds),
            ],
        },
    }
    for name, value in (("min", panel.minimum), ("max", panel.maximum), ("decimals", panel.decimals)):
        if value is not None:
            field[name] = value
    if panel.kind == "timeseries":
        field["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
        }
    return field


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    reduced: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    if panel.kind == "stat":
        return {**reduced, "colorMode": "value", "graphMode": "area", "textMode": "auto"}
    return {**reduced, "orientation": "horizontal", "displayMode": "basic"}


def _table_columns(panel: Panel) -> list[dict[str, Any]]:
    hidden = {name: True for name in ("Time", "__name__")}
    return [{"id": "organize", "options": {"excludeByName": hidden, "renameByName": {"Value": "value"}}}]
