"""Metrics: declared once, counted as words, shown under the plan's names and in base units."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tradsys import metrics
from tradsys.adapters.page.page import METRIC_WORDS
from tradsys.codec.errors import ERRORS
from tradsys.exposition import Exposition
from tradsys.metrics import Counter, Gauge, Histogram, Row, label_values

SHARD = metrics.SHARD
PLAN = {
    "hft_order_latency_microseconds": "histogram",
    "hft_websocket_latency_microseconds": "histogram",
    "hft_database_latency_microseconds": "histogram",
    "hft_orders_per_second": "gauge",
    "hft_messages_per_second": "gauge",
    "hft_memory_allocations": "counter",
    "hft_gc_pause_microseconds": "histogram",
    "hft_active_connections": "gauge",
    "hft_errors": "counter",
    "hft_timeouts": "counter",
}


def render(words: dict[str, list[int]] | None = None, derived: dict | None = None) -> dict:
    """All that the processes of a venue show, by the name of the family."""
    families = {}
    for row in metrics.ROWS:
        counted = (words or {}).get(row.name, [0] * row.used)
        text = Exposition(row, lambda counted=counted: counted, lambda: derived or {}).render().decode()
        families |= {family.name: family for family in text_string_to_metric_families(text)}
    return families


def sample(families: dict, name: str, **labels: str) -> float:
    family = next(f for f in families.values() if name.startswith(f.name))
    return next(s.value for s in family.samples if s.name == name and s.labels == labels)


def test_all_ten_metrics_of_the_plan_are_shown():
    shown = render()

    assert {name: shown[name].type for name in PLAN} == PLAN


@pytest.mark.parametrize("name", [name for name, kind in PLAN.items() if kind == "histogram"])
def test_the_plans_histograms_have_the_plans_buckets(name):
    shown = render()[name]

    bounds = list(dict.fromkeys(s.labels["le"] for s in shown.samples if s.name.endswith("_bucket")))
    assert bounds == ["10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "+Inf"]


def test_one_observation_is_in_microseconds_and_in_seconds():
    words = [0] * metrics.WORDS_USED

    for ns in (9_999, 10_000, 10_001, 80_000, 6_000_000):
        metrics.ORDER_DURATION.series().observe(words, ns)

    shown = render({"shard": words})
    us, seconds = "hft_order_latency_microseconds", "tradsys_order_duration_seconds"
    assert [sample(shown, f"{us}_bucket", le=le) for le in ("10", "25", "100", "5000", "+Inf")] == [
        2, 3, 4, 4, 5,
    ]  # fmt: skip
    assert [sample(shown, f"{seconds}_bucket", le=le) for le in ("0.000005", "0.00001", "0.025")] == [0, 2, 5]
    assert sample(shown, f"{us}_sum") == 6110.0
    assert sample(shown, f"{seconds}_sum") == 0.00611


def test_the_journals_time_is_the_databases_too():
    words = [0] * metrics.WORDS_USED
    metrics.STAGE_DURATION.series("journal").observe(words, 7_000)
    metrics.READMODEL_STATEMENT_DURATION.series("get").observe(words, 70_000)

    shown = render({"shard": words})

    name = "hft_database_latency_microseconds"
    assert [sample(shown, f"{name}_count", operation=o) for o in ("journal", "get", "insert", "update")] == [
        1, 1, 0, 0,
    ]  # fmt: skip
    assert sample(shown, "tradsys_stage_duration_seconds_count", stage="journal") == 1


def test_counters_and_gauges_show_their_words():
    words = [0] * metrics.WORDS_USED
    words[metrics.COMMANDS.word("replace", "refused")] += 3
    words[metrics.CONNECTIONS.word()] = 17
    words[metrics.DURABLE_LAG.word()] = 2_500_000

    shown = render({"shard": words})

    assert sample(shown, "tradsys_commands_total", type="replace", outcome="refused") == 3
    assert sample(shown, "hft_active_connections") == sample(shown, "tradsys_active_connections") == 17
    assert sample(shown, "tradsys_durable_lag_seconds") == 0.0025


def test_what_is_derived_is_shown_as_it_is_given():
    shown = render({}, {"tradsys_sqlite_pragma": [(("cache_size",), 10_000)]})

    assert sample(shown, "tradsys_sqlite_pragma", pragma="cache_size") == 10_000


@pytest.mark.parametrize("row", metrics.ROWS, ids=lambda row: row.name)
def test_no_word_is_counted_twice(row):
    taken: list[int] = []
    for metric in row.metrics:
        for values in label_values(metric.labels):
            if isinstance(metric, Histogram):
                series = metric.series(*values)
                taken += [*series.counts, series.sum]
            else:
                taken.append(metric.word(*values))

    assert sorted(taken) == list(range(row.used))


def test_the_shards_words_find_room_in_the_page():
    assert metrics.SHARD.used == metrics.WORDS_USED <= METRIC_WORDS


def names_of(row: Row) -> list[str]:
    names = [name for m in row.metrics for name in (m.names if not isinstance(m, Histogram) else ())]
    names += [shown.name for m in row.metrics if isinstance(m, Histogram) for shown in m.shown]
    names += [combined.shown.name for combined in row.combined]
    return names + [derived.name for derived in row.derived]


def test_only_what_every_process_has_is_in_several_rows():
    rows_of = {name: [row.name for row in metrics.ROWS if name in names_of(row)] for name in names_of(SHARD)}

    shared = {name for name, rows in rows_of.items() if len(rows) > 1}
    assert {name for name in shared if not name.startswith("tradsys_process_")} == {"tradsys_build_info"}
    assert all(rows_of[name] == [row.name for row in metrics.ROWS] for name in shared)


@pytest.mark.parametrize("row", metrics.ROWS, ids=lambda row: row.name)
def test_names_follow_the_rules_and_none_is_shown_twice(row):
    names = names_of(row)

    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"(tradsys|hft)_[a-z0-9_]+", name)] == []
    for metric in row.metrics:
        if isinstance(metric, Counter):
            assert all(name.endswith("_total") for name in metric.names)
        elif isinstance(metric, Gauge):
            assert not any(name.endswith("_total") for name in metric.names)
        else:
            for shown in metric.shown:
                assert set(shown.bounds) <= set(metric.bounds)
        assert metric.help.endswith(".")


def test_labels_are_closed_sets():
    with pytest.raises(ValueError, match="not in tuple"):
        metrics.COMMANDS.word("place", "account demo")
    with pytest.raises(ValueError, match="2 label values are needed, 1 given"):
        metrics.COMMANDS.word("place")


def test_every_error_code_of_the_api_has_its_word():
    assert sorted(metrics.ERROR_CODES) == sorted(str(code) for code in ERRORS)
