"""K6=docker: the command line that Docker would be given.

No Docker daemon takes part: a stand-in for the client writes down its arguments. So this shows what is asked
for, not that the image does it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from loadtests.slo.k6 import IMAGE, K6, SCRIPTS

CLIENT = """#!/usr/bin/env python3
import json, os, signal, sys, time
json.dump({"arguments": sys.argv[1:], "token": os.environ["TOKEN"]}, open(os.environ["SEEN"], "w"))
signal.signal(signal.SIGTERM, lambda *_: (print("the container is told to end"), sys.exit(143)))
while "HANG" in os.environ:
    time.sleep(0.05)
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in writes what it was given."""
    client = tmp_path / "bin" / "docker"
    client.parent.mkdir()
    client.write_text(CLIENT)
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("K6", "docker")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    return tmp_path / "seen.json"


def test_a_script_runs_in_the_image_with_its_folders_the_hosts_network_and_no_secret_in_sight(tmp_path, seen):
    script, verdict = SCRIPTS / "order_flow.js", tmp_path / "found" / "verdict.json"
    verdict.parent.mkdir()
    process = K6().start(script, {"BASE_URL": "http://127.0.0.1:1", "TOKEN": "secret"}, verdict)
    run = K6.finish(process, script, verdict, 30)

    given = json.loads(seen.read_text())
    cpus = sorted(os.sched_getaffinity(0))
    assert given["arguments"] == [
        *("run", "--rm", "--network", "host", "--user", str(os.getuid())),
        *("--cpuset-cpus", ",".join(map(str, cpus[:-1] or cpus))),
        *("-v", f"{SCRIPTS}:{SCRIPTS}:ro", "-v", f"{verdict.parent}:{verdict.parent}"),
        *("-e", "BASE_URL", "-e", "TOKEN", "-e", "VERDICT_FILE", "-e", "NO_PROXY"),
        IMAGE,
        *("run", "--no-usage-report", "--quiet", "--no-color", "--log-format", "raw"),
        *("--address", "127.0.0.1:0", str(script)),
    ]
    assert given["token"] == "secret"
    # It left no findings: whatever its exit code, that is no pass.
    assert run.problems()


def test_a_run_that_does_not_end_is_told_to_by_a_signal_that_reaches_the_container(
    tmp_path, seen, monkeypatch
):
    monkeypatch.setenv("HANG", "1")
    script, verdict = SCRIPTS / "order_flow.js", tmp_path / "verdict.json"
    process = K6().start(script, {"TOKEN": "secret"}, verdict)
    while not seen.exists() or not seen.read_text():
        assert process.poll() is None

    run = K6.finish(process, script, verdict, 0.1)

    assert "the container is told to end" in run.said
    assert run.problems()
