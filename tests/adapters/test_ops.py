"""The ops port of a process: what it answers, and what the process can tell of itself."""

from __future__ import annotations

import gc
import http.client
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tradsys import __version__, metrics
from tradsys.adapters.ops.evidence import Evidence
from tradsys.adapters.ops.server import OpsServer
from tradsys.compose.history import Silence
from tradsys.compose.ops import ops_server, settings_info
from tradsys.counting import SharedRows
from tradsys.exposition import Rate
from tradsys.metrics import FEED, FEED_PROCESS
from tradsys.settings import Settings

# Captured from a container on cgroup v2, and from one on v1.
CPU_STAT_V2 = (
    "usage_usec 912\nuser_usec 500\nsystem_usec 412\nnr_periods 40\nnr_throttled 7\nthrottled_usec 812345\n"
)
CPU_STAT_V1 = "nr_periods 40\nnr_throttled 3\nthrottled_time 91000000\n"


def evidence(words: list[int], *, cpu_stat: Path = Path("/nowhere"), exclusive: bool = False) -> Evidence:
    return Evidence(FEED_PROCESS, "feed", words, cpu_exclusive=exclusive, cpu_stats=(str(cpu_stat),))


def test_a_process_tells_what_it_uses():
    words = [0] * FEED.used

    evidence(words, exclusive=True).look()

    m = FEED_PROCESS
    assert words[m.memory.word("feed")] > 1 << 20
    assert words[m.threads.word("feed")] >= 1
    assert words[m.files.word("feed")] >= 3
    assert words[m.cpu.word("feed", "user")] > 0
    assert words[m.cpus_allowed.word("feed")] == len(os.sched_getaffinity(0))
    assert words[m.cpus_online.word("feed")] == os.cpu_count()
    assert words[m.cpu_exclusive.word("feed")] == 1
    assert words[m.gc_threshold.word("feed")] == gc.get_threshold()[0]


@pytest.mark.parametrize(
    ("text", "periods", "ns"), [(CPU_STAT_V2, 7, 812_345_000), (CPU_STAT_V1, 3, 91_000_000)]
)
def test_throttling_is_read_from_either_version_of_cgroups(tmp_path, text, periods, ns):
    words = [0] * FEED.used
    (tmp_path / "cpu.stat").write_text(text)

    evidence(words, cpu_stat=tmp_path / "cpu.stat").look()

    throttled = FEED_PROCESS.throttled_periods.word("feed"), FEED_PROCESS.throttled.word("feed")
    assert [words[word] for word in throttled] == [periods, ns]


def test_a_pause_of_the_collector_is_counted():
    words = [0] * FEED.used
    end = evidence(words).watch_gc()

    gc.collect()
    end()
    gc.collect()

    series = FEED_PROCESS.gc_pause.series("feed")
    assert sum(words[word] for word in series.counts) == 1
    assert words[series.sum] > 0


def test_the_rows_of_forked_processes_are_added_up():
    rows = SharedRows(3, 4)
    rows.row(0)[1] += 2

    child = os.fork()
    if not child:
        rows.row(2)[1] += 40
        rows.row(2)[3] += 1
        os._exit(0)
    os.waitpid(child, 0)

    assert rows.sums() == [0, 42, 0, 1]


def test_a_rate_is_the_same_for_everybody_who_asks_within_a_second():
    rate = Rate()

    assert [rate.per_second(100, 10.0), rate.per_second(300, 12.0)] == [0.0, 100.0]
    assert rate.per_second(301, 12.1) == 100.0
    assert rate.per_second(400, 13.0) == 100.0


def test_an_engine_that_does_not_move_is_silent(monkeypatch):
    now, word = [5.0], [1]
    monkeypatch.setattr("tradsys.compose.history.time.monotonic", lambda: now[0])
    silence = Silence(lambda: word[0])

    now[0] = 8.0
    heard = [silence()]
    word[0] = 2
    heard.append(silence())

    assert heard == [3.0, 0.0]


def asked(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    reply = connection.getresponse()
    answer = reply.status, reply.read()
    connection.close()
    return answer


def test_the_port_answers_probes_prometheus_and_the_operator():
    words, reasons = [0] * FEED.used, ["replaying"]
    server = ops_server(
        Settings(),
        0,
        row=FEED,
        process_metrics=FEED_PROCESS,
        words=words,
        derive=dict,
        not_ready=lambda: reasons,
        status=lambda: {"process": "feed"},
    )
    server.start()
    try:
        assert asked(server.port, "/healthz") == (200, b'{"status":"ok"}')
        assert asked(server.port, "/readyz") == (503, b'{"ready":false,"reasons":["replaying"]}')
        reasons.clear()
        assert asked(server.port, "/readyz")[0] == 200
        assert json.loads(asked(server.port, "/internal/status")[1]) == {"process": "feed"}
        assert json.loads(asked(server.port, "/internal/pinning")[1])["pid"] == os.getpid()
        assert asked(server.port, "/internal/snapshot")[0] == 404
        words[metrics.FEED_MESSAGES.word("bin_v2")] = 7
        shown = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(asked(server.port, "/metrics")[1].decode())
            for sample in family.samples
        }
        assert shown["tradsys_feed_messages_total", "bin_v2"] == 7
        assert shown["tradsys_process_ready", "feed"] == 1
        assert any(key[0] == "tradsys_build_info" and __version__ in key for key in shown)
    finally:
        server.stop()


def test_a_port_that_stops_hangs_up_on_who_keeps_a_connection():
    def nothing(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Length", "0")])
        return []

    server = OpsServer(nothing, "127.0.0.1", 0)
    server.start()
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    kept.request("GET", "/")
    kept.getresponse().read()

    server.stop()

    assert kept.sock.recv(1) == b""
    assert [one.name for one in threading.enumerate() if one.name == "ops"] == []
    kept.close()


def test_the_settings_that_are_shown_exist_and_have_values():
    shown = settings_info(Settings())

    ((words, one),) = shown["tradsys_settings_info"]
    assert (words, one) == (("hft", "process", "auto", "true", "true"), 1)
    assert dict(shown["tradsys_setting"])[("gc_percent",)] == 200
