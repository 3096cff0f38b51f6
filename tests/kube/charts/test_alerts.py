"""The alerts about the operator and its releases, as the chart brings them: each fires when it should, is
silent when it should, and an operator that is not there at all is told by exactly one of them."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

import pytest
import yaml
from tradsys_operator import metrics
from tradsys_operator.work import BACKOFF_S_MAX

from tests.kube.charts.test_charts import OPERATOR, ROOT, objects, template, tool

RUNBOOKS = ROOT / "dashboards/runbooks"
HERE = 'job="o", instance="i", pod="o-1"'
VENUE = f'{HERE}, namespace="trading", venue="crypto"'
LEADS = {f"tradsys_operator_leader{{{HERE}}}": "1x180"}


def passes(outcome: str, values: str) -> dict[str, str]:
    return {f'tradsys_operator_reconciles_total{{{HERE}, kind="Venue", outcome="{outcome}"}}': values}


def phase(name: str, values: str = "1x180") -> dict[str, str]:
    return {f'tradsys_operator_rollout_phase{{{VENUE}, phase="{name}"}}': values}


class Case(NamedTuple):
    alert: str
    fires: dict[str, str]
    silent: dict[str, str]
    minutes: int = 20
    """When to look."""


AGE = f"tradsys_operator_last_event_age_seconds{{{HERE}}}"
STANDBY = {f"tradsys_operator_leader{{{HERE}}}": "0x180"}
ANOTHER_LEADS = {'tradsys_operator_leader{job="o", instance="j"}': "1x180"}
PINNED = f'tradsys_operator_condition{{{VENUE}, condition="CPUPinned", status='
TUNING = f"tradsys_operator_tuning_mismatches{{{VENUE}}}"
CASES = [
    Case("TradsysOperatorNoLeader", STANDBY, STANDBY | ANOTHER_LEADS),
    # A conflict is no failure: the pass is decided anew. What always fails is tried once in BACKOFF_S_MAX.
    Case("TradsysOperatorFailing", passes("failed", "0+1x60"), passes("conflict", "0+600x60"), 40),
    Case("TradsysOperatorFailing", passes("fault", "0+1x60"), passes("failed", "0x10 1x5 3x50"), 40),
    # A standby hears nothing, and should not.
    Case("TradsysOperatorDeaf", LEADS | {AGE: "0+60x60"}, STANDBY | {AGE: "0+60x60"}),
    Case("TradsysReleaseStuck", phase("Gating"), phase("Baking") | phase("Stable"), 130),
    Case("TradsysReleaseStopped", phase("Paused"), phase("Paused", "1x3 0x60") | phase("Gating")),
    Case("TradsysNotPinned", {PINNED + '"False"}': "1x180"}, {PINNED + '"Unknown"}': "1x180"}),
    Case("TradsysTuningNotInForce", {TUNING: "2x180"}, {TUNING: "0x180"}),
]


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    made = objects(template(OPERATOR, "--set", "monitoring.enabled=true"))
    (found,) = [each for each in made if each["kind"] == "PrometheusRule"]
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(found["spec"]))
    return path


def alerts(rules) -> list[dict]:
    return [rule for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]]


def world(series: dict[str, str], minutes: int, alert: str, count: int, name: str) -> dict:
    expr = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expr,
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": count}] if count else [],
            }
        ],
    }


def promtool_says(rules, worlds: list[dict]) -> str:
    """What does not hold, "" if all does."""
    path = rules.parent / "worlds.yaml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": worlds})
    )
    argv = [tool("promtool"), "test", "rules", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_an_alert_fires_when_it_should_and_is_silent_otherwise(rules):
    worlds = []
    for case in CASES:
        worlds.append(world(case.fires, case.minutes, case.alert, 1, f"{case.alert} fires"))
        worlds.append(world(case.silent, case.minutes, case.alert, 0, f"{case.alert} is silent"))

    assert promtool_says(rules, worlds) == ""


def test_an_operator_that_is_not_there_is_told_and_nothing_else_is_claimed(rules):
    told = {"TradsysOperatorNoLeader": 1}

    found = promtool_says(
        rules, [world({}, 30, case.alert, told.get(case.alert, 0), f"{case.alert}, absent") for case in CASES]
    )

    assert found == ""


def test_every_alert_has_a_case_and_says_what_it_is(rules):
    assert BACKOFF_S_MAX == 60
    assert [rule["alert"] for rule in alerts(rules)] == list(dict.fromkeys(case.alert for case in CASES))
    for rule in alerts(rules):
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}


def test_every_runbook_has_its_four_parts(rules):
    for rule in alerts(rules):
        text = (RUNBOOKS / rule["annotations"]["runbook_url"].rsplit("/", 1)[-1]).read_text()
        assert re.findall("^#+ .*", text, re.MULTILINE) == [
            f"# {rule['alert']}", "## Meaning", "## Impact", "## Diagnosis", "## Mitigation",
        ]  # fmt: skip


def test_alerts_only_look_at_what_the_operator_shows(rules):
    shown = {family.name for family in metrics.REGISTRY.collect()}
    used = {
        name.removesuffix("_total")
        for rule in alerts(rules)
        for name in re.findall(r"tradsys_operator_\w+", rule["expr"])
    }

    assert used - shown == set()
