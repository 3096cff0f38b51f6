"""The dashboards as files: their form, their source, and that they only ask for what exists."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import yaml
from tradsys_operator.metrics import REGISTRY

from dashboards.source import boards, slo, write
from dashboards.source.boards import BOARDS
from dashboards.source.live import RULES, panels_of, tool
from tests.docs.test_metrics_table import names_of
from tradsys.metrics import ROWS, Combined, Histogram

NAMES = sorted(BOARDS)
K6 = {
    *("k6_http_reqs_total", "k6_http_req_duration_p50", "k6_http_req_duration_p95"),
    *("k6_http_req_duration_p99", "k6_http_req_failed_rate", "k6_checks_rate", "k6_iterations_total"),
    *("k6_dropped_iterations_total", "k6_vus", "k6_vus_max", "k6_data_sent_total"),
    "k6_data_received_total",
}
"""What k6's remote write sends."""


def board(name: str) -> dict[str, Any]:
    return json.loads((write.DASHBOARDS / f"{name}.json").read_text())


def expressions() -> list[str]:
    panels = [target["expr"] for name in NAMES for p in panels_of(board(name)) for target in p["targets"]]
    return panels + [rule["expr"] for rule in rules()]


def rules() -> list[dict[str, Any]]:
    groups = [g for path in sorted(RULES.glob("*.yaml")) for g in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def shown_names() -> set[str]:
    """Every name that a query may use."""
    names = set(K6) | {"ALERTS"} | {rule["record"] for rule in rules() if "record" in rule}
    for row in ROWS:
        for metric in (*row.metrics, *row.combined, *row.derived):
            for name in names_of(metric):
                if isinstance(metric, Histogram | Combined):
                    names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")}
                else:
                    names.add(name)
    for family in REGISTRY.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
        names |= {family.name + ending for ending in endings.get(family.type, ("",))}
    return names


def test_the_files_are_those_that_their_sources_write():
    differing = [
        path.name
        for path, text in write.documents().items()
        if not path.is_file() or path.read_text() != text
    ]

    assert differing == [], "make dashboards"
    assert sorted(path.stem for path in write.DASHBOARDS.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_linter_has_nothing_to_say(name):
    path = write.DASHBOARDS / f"{name}.json"
    config = write.DASHBOARDS / ".lint"

    done = subprocess.run(
        [tool("dashboard-linter"), "lint", "--strict", "-c", str(config), str(path)],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_board_can_be_imported_anywhere(name):
    document = board(name)

    assert "__inputs" not in document
    assert document["schemaVersion"] == 39
    assert document["uid"] == f"tradsys-{name}"
    variables = document["templating"]["list"]
    assert [v["name"] for v in variables if v["type"] == "datasource"] == ["datasource"]
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_can_be_read_without_its_author(name):
    for panel in panels_of(board(name)):
        said = panel["title"]
        assert panel["description"].endswith("."), said
        assert panel["fieldConfig"]["defaults"]["unit"], said
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, said
        if len(panel["targets"]) > 1:
            assert all(target["legendFormat"] != "__auto" for target in panel["targets"]), said
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        if panel["type"] == "timeseries":
            style = panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"]
            assert style == ("dashed" if len(steps) > 1 else "off"), said
        for target in panel["targets"]:
            windows = re.findall(r"\[([^]]+)\]", target["expr"])
            assert set(windows) <= {"$__rate_interval"}, said


def test_queries_only_use_what_some_process_shows():
    words = {
        name
        for expr in expressions()
        for name in re.findall(r"\b(?:tradsys|hft|k6)[a-z0-9_:]*", re.sub(r'"[^"]*"', "", expr))
        if name != "tradsys_dev_role"
    }

    assert words - shown_names() == set()


def test_the_lines_that_are_drawn_are_the_objectives():
    objectives = slo.profile_of(write.OBJECTIVES.read_bytes()).objectives

    assert {o.indicator: o.threshold_us for o in objectives if o.threshold_us} == {
        "order_latency": boards.ORDER_TARGET_US,
        "ws_latency": boards.WS_TARGET_US,
        "db_latency": boards.DB_TARGET_US,
    }


def test_an_objective_between_two_buckets_is_refused():
    objective = {"name": "x", "indicator": "order_latency", "target": 99, "threshold_us": 120}
    document = {"profiles": {"target": {"objectives": [objective]}}}

    with pytest.raises(ValueError, match="x: no bucket ends at 120 µs"):
        slo.rules_of(json.dumps(document).encode())


def test_promtool_accepts_all_rules():
    files = [str(path) for path in sorted(RULES.glob("*.yaml"))]

    done = subprocess.run([tool("promtool"), "check", "rules", *files], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_tool_fails_loudly(monkeypatch, tmp_path):
    monkeypatch.setattr("dashboards.source.live.TOOLS", tmp_path)

    with pytest.raises(Exception, match="build/tools/promtool is missing: make tools GROUP=promtool"):
        tool("promtool")
