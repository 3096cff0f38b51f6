"""slo.json is of its documented form, and holds what the plan and the promises say."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from loadtests.slo.objectives import FILE, read
from tradsys import metrics

SCHEMA = json.loads(Path(FILE).with_name("slo.schema.json").read_text())
CONTENT = json.loads(Path(FILE).read_text())


def changed(path: str, value: Any) -> Any:
    """The file with one member replaced, or removed by None; `path` is like a.0.b."""
    content = copy.deepcopy(CONTENT)
    *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
    place = content
    for word in way:
        place = place[word]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


def test_the_file_is_of_its_form():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(CONTENT, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("profiles.ci.objectives.0.threshold_us", None),
        ("profiles.ci.objectives.0.threshold_us", 0),
        ("profiles.ci.objectives.0.target", 100),
        ("profiles.ci.objectives.0.target", "99"),
        ("profiles.ci.objectives.0.name", "Order p99"),
        ("profiles.ci.objectives.0.indicator", "latency"),
        ("profiles.ci.objectives.0.treshold_us", 100),
        ("profiles.ci.objectives.4.threshold_us", 100),
        ("profiles.ci.objectives", []),
        ("profiles.ci.gate", None),
        ("profiles.ci.gate.socket.0.percentile", 98),
        ("indicators.availability", None),
        ("indicators.order_latency.histogram", "tradsys_order_duration"),
    ],
)
def test_a_mistake_is_refused(path: str, value: Any):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, value), SCHEMA)


def test_the_program_reads_what_the_schema_allows():
    objectives = read()

    assert list(objectives.profiles) == ["phase1", "phase2", "target", "ci"]
    assert all(len({one.name for one in profile.objectives}) == len(profile.objectives)
               for profile in objectives.profiles.values())  # fmt: skip


def test_the_targets_are_the_plans():
    assert {one.name: (one.threshold_us, one.target) for one in read().profiles["target"].objectives} == {
        "order-p99": (100, 99),
        "ws-p99": (50, 99),
        "db-p95": (1000, 95),
        "availability": (None, 99.9),
    }


def test_the_ci_gate_ends_in_two_minutes():
    assert read().profiles["ci"].gate.within_s <= 120


@pytest.mark.parametrize("name", list(CONTENT["profiles"]))
def test_half_of_the_windows_are_enough_to_judge_by(name: str):
    """Of ten iterations about six are orders: the others cancel, replace, and keep the book from growing."""
    gate = read().profiles[name].gate
    orders = 0.6 * gate.rate_per_s * gate.duration_s

    assert gate.samples_min <= orders / 2


def test_every_indicator_is_a_metric_of_the_venue():
    shown = {
        one.name
        for row in metrics.ROWS
        for metric in (*row.metrics, *row.combined)
        for one in (metric.shown if isinstance(metric, metrics.Histogram) else ())
    }
    shown |= {combined.shown.name for row in metrics.ROWS for combined in row.combined}
    counters = {
        name
        for row in metrics.ROWS
        for metric in row.metrics
        if isinstance(metric, metrics.Counter)
        for name in metric.names
    }
    indicators = read().indicators

    assert {indicators.order_latency.histogram, indicators.ws_latency.histogram} <= shown
    assert indicators.db_latency.histogram in shown
    assert indicators.availability.counter in counters
