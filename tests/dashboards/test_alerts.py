"""Each alert fires when it should, is silent when it should, and no data is never mistaken for health.

The cases are series in promtool's notation (`6x10` ten times 6, `0+60x10` a counter), one value a minute.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.source.live import RULES, tool

RUNBOOKS = RULES.parent / "runbooks"
HERE = 'job="j", instance="i"'
HEALTHY_US, SLOW_US = "100.0", "5000.0"


@dataclass(frozen=True)
class Case:
    alert: str
    fires: dict[str, str]
    silent: dict[str, str]
    minutes: int = 30
    """When to look."""


def build(process: str) -> str:
    return f'tradsys_build_info{{{HERE}, process="{process}"}}'


def one(name: str, more: str = "") -> str:
    return f"{name}{{{HERE}{', ' + more if more else ''}}}"


def histogram(name: str, within: dict[str, str], count: str, more: str = "") -> dict[str, str]:
    return {one(f"{name}_bucket", f'le="{le}"' + more): values for le, values in within.items()} | {
        one(f"{name}_count", more.removeprefix(", ")): count
    }


def latency_of(name: str, slow_per_100: int, bound: str, more: str = "") -> dict[str, str]:
    """6,000 events a minute for an hour, some of them above the bound."""
    good = 60 * (100 - slow_per_100)
    return histogram(name, {bound: f"0+{good}x60", "+Inf": "0+6000x60"}, "0+6000x60", more)


def requests(failed_per_1000: int) -> dict[str, str]:
    name = "tradsys_http_requests_total"
    return {
        one(name, 'status="2xx"'): f"0+{6 * (1000 - failed_per_1000)}x60",
        one(name, 'status="5xx"'): f"0+{6 * failed_per_1000}x60",
    }


ORDER, STREAM = "hft_order_latency_microseconds", "hft_websocket_latency_microseconds"
STORE, PAUSE = "hft_database_latency_microseconds", "hft_gc_pause_microseconds"
JOURNAL = ', operation="journal"'
MEMORY = "tradsys_process_resident_memory_bytes"
SWITCHES = one("tradsys_process_context_switches_total", 'process="engine", kind="involuntary"')
EXCLUSIVE = one("tradsys_process_cpu_exclusive", 'process="engine"')
PROCESS_DURABLE = one("tradsys_settings_info", 'durability="process"')
SYNCS = one("tradsys_engine_syncs_total")
CALLS, QUERIES = "tradsys_gateway_calls_total", "tradsys_query_requests_total"
LIMIT = one("tradsys_setting", 'name="memory_limit"')
CONNECTIONS_MAX = one("tradsys_setting", 'name="max_connections"')
FREE, SIZE = one("tradsys_disk_free_bytes"), one("tradsys_disk_size_bytes")
SNAPSHOT_FAILED = one("tradsys_snapshots_total", 'outcome="failed"')
UP = one("up")
READY = one("tradsys_process_ready", 'process="engine"')

CASES = [
    Case("TradsysMetricsAbsent", {build("feed"): "1x30"}, {build("history"): "1x30"}),
    # A build with a sleep of 2 ms in the engine: every order is above the bound.
    Case("TradsysOrderLatencyBurn", latency_of(ORDER, 100, "100.0"), latency_of(ORDER, 1, "100.0"), 30),
    Case("TradsysOrderLatencyBurn", latency_of(ORDER, 20, "100"), latency_of(ORDER, 0, "100"), 30),
    Case("TradsysStreamLatencyBurn", latency_of(STREAM, 20, "50.0"), latency_of(STREAM, 1, "50.0"), 30),
    Case(
        "TradsysStoreLatencyBurn",
        latency_of(STORE, 80, "1000.0", JOURNAL),
        latency_of(STORE, 4, "1000.0", JOURNAL),
        30,
    ),
    Case("TradsysAvailabilityBurn", requests(20), requests(0), 30),
    Case(
        "TradsysEngineSilent",
        {one("tradsys_engine_silence_seconds"): "0 0 8x10"},
        {one("tradsys_engine_silence_seconds"): "0.1x30"},
        10,
    ),
    Case("TradsysProcessGone", {build("query"): "1x10 _x20"}, {build("query"): "1x30"}, 18),
    # A target that is still to be scraped and does not answer is told for as long as that lasts.
    Case(
        "TradsysProcessGone",
        {build("query"): "1x10 _x50", UP: "1x10 0x50"},
        {build("query"): "1x60", UP: "1x60"},
        50,
    ),
    Case("TradsysNotReady", {READY: "1 1 0x30"}, {READY: "1 0 0 1 0 0 1x30"}),
    Case("TradsysJournalFailed", {one("tradsys_poisoned"): "0 1x30"}, {one("tradsys_poisoned"): "0x30"}),
    Case(
        "TradsysReplayMismatch",
        {one("tradsys_replay_mismatches_total"): "0x10 1x20"},
        {one("tradsys_replay_mismatches_total"): "1x30"},
    ),
    Case(
        "TradsysDurableLate",
        {one("tradsys_durable_lag_seconds"): "0.4x30"},
        {one("tradsys_durable_lag_seconds"): "0.01 0.4 0.01x30"},
    ),
    Case(
        "TradsysEngineSyncsItself",
        {SYNCS: "0+60x30", PROCESS_DURABLE: "1x30"},
        {SYNCS: "0+60x30", one("tradsys_settings_info", 'durability="durable"'): "1x30"},
    ),
    Case(
        "TradsysReadModelBehind",
        {one("tradsys_readmodel_lag_commands"): "200000x30"},
        {one("tradsys_readmodel_lag_commands"): "200000x3 500x30"},
    ),
    Case("TradsysSnapshotFailed", {SNAPSHOT_FAILED: "0x5 1x30"}, {SNAPSHOT_FAILED: "0x30"}),
    Case("TradsysDiskFilling", {FREE: "5x30", SIZE: "100x30"}, {FREE: "50x30", SIZE: "100x30"}),
    Case("TradsysDiskFilling", {FREE: "28-0.1x60", SIZE: "100x60"}, {FREE: "28x60", SIZE: "100x60"}, 60),
    Case(
        "TradsysOutcomeUnknown",
        {one("hft_errors_total", 'code="1001"'): "0x10 1x20"},
        {one("hft_errors_total", 'code="1001"'): "3x30", one("hft_errors_total", 'code="1004"'): "0+9x30"},
        12,
    ),
    Case(
        "TradsysRequestsCutOff",
        {one("hft_timeouts_total", 'kind="request"'): "0+120x30"},
        {one("hft_timeouts_total", 'kind="stale_command"'): "0+120x30"},
    ),
    Case(
        "TradsysConnectionsNearlyAll",
        {one("hft_active_connections"): "950x30", CONNECTIONS_MAX: "1000x30"},
        {one("hft_active_connections"): "500x30", CONNECTIONS_MAX: "1000x30"},
    ),
    Case(
        "TradsysTokensLimited",
        {one("tradsys_tokens_total", 'outcome="limited"'): "0+1200x30"},
        {one("tradsys_tokens_total", 'outcome="cached"'): "0+120000x30"},
    ),
    Case(
        "TradsysRetriesUnsafe",
        {one("tradsys_idempotency_evicted_total"): "0+5x30"},
        {one("tradsys_idempotency_evicted_total"): "7x30"},
    ),
    Case(
        "TradsysPausesTooLong",
        histogram(PAUSE, {"1000.0": "0+90x30", "5000.0": "0+100x30", "+Inf": "0+100x30"}, "0+100x30"),
        histogram(PAUSE, {"1000.0": "0+100x30", "5000.0": "0+100x30", "+Inf": "0+100x30"}, "0+100x30"),
    ),
    Case(
        "TradsysMemoryNearLimit",
        {
            one(MEMORY, 'process="engine"'): "50x30",
            one(MEMORY, 'process="history"'): "40x30",
            LIMIT: "100x30",
        },
        {
            one(MEMORY, 'process="engine"'): "40x30",
            one(MEMORY, 'process="history"'): "40x30",
            LIMIT: "100x30",
        },
    ),
    Case(
        "TradsysEngineThrottled",
        {one("tradsys_process_throttled_seconds_total", 'process="engine"'): "0+6x30"},
        {one("tradsys_process_throttled_seconds_total", 'process="query"'): "0+6x30"},
    ),
    Case(
        "TradsysEngineLosesCpu",
        {SWITCHES: "0+6000x30", EXCLUSIVE: "1x30"},
        {SWITCHES: "0+6000x30", EXCLUSIVE: "0x30"},
    ),
    Case(
        "TradsysFeedBehind",
        {one("tradsys_feed_lag_commands"): "20000x30"},
        {one("tradsys_feed_lag_commands"): "5000x30"},
    ),
    Case(
        "TradsysSlowClients",
        {one("tradsys_feed_disconnects_total", 'reason="slow"'): "0+30x30"},
        {one("tradsys_feed_disconnects_total", 'reason="client"'): "0+30x30"},
    ),
    Case(
        "TradsysGatewayFailing",
        {one(CALLS, 'code="OK"'): "0+90x30", one(CALLS, 'code="UNAVAILABLE"'): "0+10x30"},
        {one(CALLS, 'code="OK"'): "0+90x30", one(CALLS, 'code="NOT_FOUND"'): "0+10x30"},
    ),
    Case(
        "TradsysQueryFailing",
        {one(QUERIES, 'status="2xx"'): "0+90x30", one(QUERIES, 'status="5xx"'): "0+10x30"},
        {one(QUERIES, 'status="2xx"'): "0+90x30", one(QUERIES, 'status="4xx"'): "0+10x30"},
    ),
]


def firing(alert: str, severity: str = "") -> str:
    more = f', severity="{severity}"' if severity else ""
    return f'count(ALERTS{{alertname="{alert}", alertstate="firing"{more}}} > 0) > bool 0'


def world(series: dict[str, str], minutes: int, expr: str, *expected: str, name: str = "") -> dict[str, Any]:
    """What promtool is to play, and the label sets that the expression then gives, each with the value 1."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expr,
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": labels, "value": 1} for labels in expected],
            }
        ],
    }


def promtool_says(tmp_path: Path, rules: tuple[str, ...], worlds: list[dict[str, Any]]) -> str:
    """What promtool found, "" if all hold. Only the rules that matter: each is worked out each minute."""
    path = tmp_path / "worlds.yaml"
    files = [str(RULES / name) for name in rules]
    path.write_text(yaml.safe_dump({"rule_files": files, "evaluation_interval": "1m", "tests": worlds}))
    done = subprocess.run([tool("promtool"), "test", "rules", str(path)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


OBJECTIVES, OTHERS = ("slo.yaml",), ("alerts.yaml", "recording.yaml")


def alert_rules() -> list[dict[str, Any]]:
    groups = [g for path in sorted(RULES.glob("*.yaml")) for g in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


@pytest.mark.parametrize("rules", [OBJECTIVES, OTHERS], ids=["objectives", "others"])
def test_an_alert_fires_when_it_should_and_is_silent_otherwise(rules, tmp_path):
    worlds = []
    for case in CASES:
        if case.alert.endswith("Burn") == (rules == OBJECTIVES):
            asked = case.minutes, firing(case.alert)
            worlds.append(world(case.fires, *asked, "{}", name=f"{case.alert} fires"))
            worlds.append(world(case.silent, *asked, name=f"{case.alert} is silent"))

    assert promtool_says(tmp_path, rules, worlds) == ""


def test_every_alert_has_a_case():
    assert {rule["alert"] for rule in alert_rules()} == {case.alert for case in CASES}


def test_a_slow_build_wakes_somebody_by_the_name_of_what_is_slow(tmp_path):
    slow = latency_of(ORDER, 100, "100.0")
    paging = 'count by (alertname, objective) (ALERTS{alertstate="firing", severity="page"})'
    named = '{alertname="TradsysOrderLatencyBurn", objective="order-p99"}'

    assert promtool_says(tmp_path, OBJECTIVES, [world(slow, 10, paging, named)]) == ""


def test_a_slow_leak_of_the_budget_is_a_ticket_and_wakes_nobody(tmp_path):
    leaking = latency_of(ORDER, 4, "100.0")

    found = promtool_says(
        tmp_path,
        OBJECTIVES,
        [
            world(leaking, 60, firing("TradsysOrderLatencyBurn", "ticket"), "{}"),
            world(leaking, 60, firing("TradsysOrderLatencyBurn", "page")),
        ],
    )

    assert found == ""


@pytest.mark.parametrize(("process", "pages"), [("history", True), ("feed", True), ("query", False)])
def test_one_shard_or_feed_of_many_that_is_down_wakes_somebody(process, pages, tmp_path):
    """The others are still seen, so that nothing is absent."""
    other = f'tradsys_build_info{{job="j", instance="other", process="{process}"}}'
    one_is_down = {build(process): "1x10 _x50", UP: "1x10 0x50", other: "1x60"}
    woken = ("{}",) if pages else ()

    found = promtool_says(
        tmp_path, OTHERS, [world(one_is_down, 50, firing("TradsysProcessGone", "page"), *woken)]
    )

    assert found == ""


def test_the_memory_of_two_shards_is_not_held_against_the_limit_of_one(tmp_path):
    """On Kubernetes all shards of a venue are one job."""
    half = {one(MEMORY, 'process="engine"'): "50x30", LIMIT: "100x30"}
    two = half | {
        series.replace('instance="i"', 'instance="other"'): values for series, values in half.items()
    }

    found = promtool_says(tmp_path, OTHERS, [world(two, 30, firing("TradsysMemoryNearLimit"))])

    assert found == ""


def test_without_data_no_objective_is_judged_and_the_absence_itself_is_told(tmp_path):
    stopped = {series: "0+6000x20 _x40" for series in latency_of(ORDER, 100, "100.0")}
    idle = {series: "600x60" for series in latency_of(ORDER, 100, "100.0")}
    judged = 'tradsys:slo_errors:ratio_rate5m{objective="order-p99"}'

    found = promtool_says(
        tmp_path,
        OBJECTIVES + OTHERS,
        [
            world(stopped, 50, judged, name="stopped"),
            world(stopped, 50, firing("TradsysMetricsAbsent"), "{}", name="told"),
            world(idle, 50, judged, name="idle"),
        ],
    )

    assert found == ""


def test_a_gates_engine_wakes_nobody(tmp_path):
    gate = {
        series.replace("}", ', tradsys_dev_role="gate"}'): values
        for series, values in latency_of(ORDER, 100, "100.0").items()
    }

    assert promtool_says(tmp_path, OBJECTIVES, [world(gate, 30, firing("TradsysOrderLatencyBurn"))]) == ""


@pytest.mark.parametrize(
    "rule", alert_rules(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}"
)
def test_an_alert_says_what_it_is_and_has_a_runbook(rule):
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"].endswith(f"/dashboards/runbooks/{rule['alert']}.md")
    # A bare value is a number of seventeen digits.
    assert "{{ $value }}" not in "".join(rule["annotations"].values())
    text = (RUNBOOKS / f"{rule['alert']}.md").read_text()
    assert re.findall("^#+ .*", text, re.MULTILINE) == [
        f"# {rule['alert']}", "## Meaning", "## Impact", "## Diagnosis", "## Mitigation",
    ]  # fmt: skip
    assert all(part.strip() for part in re.split("^#+ .*", text, flags=re.MULTILINE)[2:])


def test_every_runbook_has_its_alert():
    # Those of the operator belong to alerts that its chart brings.
    ours = {path.stem for path in RUNBOOKS.glob("*.md") if not path.stem.startswith("operator-")}
    assert ours == {rule["alert"] for rule in alert_rules()}


def test_the_readme_lists_exactly_the_alerts():
    severities: dict[str, set[str]] = {}
    for rule in alert_rules():
        severities.setdefault(rule["alert"], set()).add(rule["labels"]["severity"])

    listed = re.findall(
        r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| ([a-z, ]+) \|",
        (RULES.parent / "README.md").read_text(),
        re.M,
    )

    assert listed == [(name, name, ", ".join(sorted(of_it))) for name, of_it in ordered(severities)]


def ordered(severities: dict[str, set[str]]) -> list[tuple[str, set[str]]]:
    """The objectives' alerts come first."""
    return sorted(severities.items(), key=lambda item: not item[0].endswith("Burn"))
