"""Every query of every panel and rule, asked of a real Prometheus that looks at real processes under load."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.source.boards import BOARDS, OF_THE_OPERATOR
from dashboards.source.live import ROOT, RULES, LiveVenue, Load, Prometheus, as_asked, panels_of
from dashboards.source.write import DASHBOARDS

pytestmark = pytest.mark.timeout(400)

LOAD_S = 15
PATIENCE_S = 60
"""How long a query may stay empty; a machine that runs other tests too is slow."""

EMPTY = {
    ("k6", "Iterations", "dropped"): "k6 sends this only once it has dropped one, which must not be",
}
"""Queries of panels that may be empty, (board, panel, legend), each with its reason."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("live")
    venue = LiveVenue(directory)
    with venue, Prometheus(directory / "prometheus", venue.targets) as server, Load(venue, server):
        time.sleep(LOAD_S)
        yield server


def panel_queries() -> list[tuple[str, str, str, str]]:
    found = []
    # Those of the operator are asked where one runs: tests/kube/control.
    for name in sorted(BOARDS.keys() - set(OF_THE_OPERATOR)):
        document: dict[str, Any] = json.loads((DASHBOARDS / f"{name}.json").read_text())
        for panel in panels_of(document):
            for target in panel["targets"]:
                found.append((name, panel["title"], target["legendFormat"], target["expr"]))
    return found


def recorded() -> list[str]:
    groups = [
        g for path in sorted(Path(RULES).glob("*.yaml")) for g in yaml.safe_load(path.read_text())["groups"]
    ]
    return sorted({rule["record"] for group in groups for rule in group["rules"] if "record" in rule})


def values(prometheus: Prometheus, expr: str) -> list[float]:
    """Finite values, as soon as there are some; none after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = [float(sample["value"][1]) for sample in prometheus.query(expr)]
        finite = [value for value in found if math.isfinite(value)]
        if finite or time.monotonic() > deadline:
            return finite
        time.sleep(1)


def test_every_panel_shows_something(prometheus):
    empty = [
        f"{name}: {title}: {legend}: {expr}"
        for name, title, legend, expr in panel_queries()
        if (name, title, legend) not in EMPTY and not values(prometheus, as_asked(expr))
    ]

    assert empty == []


def test_every_recorded_series_is_there(prometheus):
    assert [name for name in recorded() if not values(prometheus, name)] == []


def test_no_rule_fails(prometheus):
    with_errors = [
        (rule["name"], rule["lastError"])
        for group in prometheus.rule_groups()
        for rule in group["rules"]
        if rule["health"] == "err"
    ]

    assert with_errors == []


def test_all_that_alerts_look_at_is_there(prometheus):
    series = set()
    for group in prometheus.rule_groups():
        for rule in group["rules"]:
            if rule["type"] == "alerting":
                series |= prometheus.selectors(rule["query"])

    assert [selector for selector in sorted(series) if not prometheus.query(selector)] == []


SLEEP = "    __import__('time').sleep(0.002)\n"
DECODING = "def decode_new_order("


def test_a_slow_build_is_named_by_its_alert(tmp_path):
    """A copy of the app that sleeps for 2 ms before it decodes an order."""
    shutil.copytree(ROOT / "app" / "tradsys", tmp_path / "slow" / "tradsys")
    codec = tmp_path / "slow" / "tradsys" / "codec" / "json_v1.py"
    before, signature, after = codec.read_text().partition(DECODING)
    first_line = after.index(":\n") + 2
    codec.write_text(before + signature + after[:first_line] + SLEEP + after[first_line:])
    venue = LiveVenue(tmp_path, pythonpath=tmp_path / "slow")

    with venue, Prometheus(tmp_path / "prometheus", venue.targets) as server:
        flow = venue.flow(LOAD_S, "--rate", "100")
        assert flow.wait(120) == 0
        named = values(
            server, 'ALERTS{alertname="TradsysOrderLatencyBurn", objective="order-p99", severity="page"}'
        )
        slowest = values(server, "histogram_quantile(0.1, rate(hft_order_latency_microseconds_bucket[1m]))")

    assert named == [1.0]
    assert slowest[0] > 1_000
