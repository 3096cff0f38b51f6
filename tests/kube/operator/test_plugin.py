"""What `kubectl tradsys` shows and orders; kubectl itself is a script that writes down how it was called."""

from __future__ import annotations

import json
import stat

import msgspec
import pytest
from tradsys_operator import plugin
from tradsys_operator.work import without_nothing

from tests.kube.operator.world import a_round, served


def a_venue():
    world = served()
    world.release("registry.example/tradsys:2")
    return {"metadata": {"name": "crypto"}, "status": without_nothing(msgspec.to_builtins(world.status))}


def a_run():
    rounds = [msgspec.to_builtins(a_round(0, "stable")), msgspec.to_builtins(a_round(1, "candidate", 300))]
    return {
        "metadata": {"name": "crypto-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"stable": "aa", "candidate": "bb", "stableImage": "i:1", "candidateImage": "i:2"},
        "status": {
            "phase": "Complete",
            "verdict": "Fail",
            "reason": "Slower",
            "message": "300 %",
            "rounds": rounds,
        },
    }


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """Answers with what `answers` holds by kind, and keeps the calls."""
    calls, answers = tmp_path / "calls", tmp_path / "answers.json"
    answers.write_text(json.dumps({"venue": a_venue(), "gaterun": {"items": [a_run()]}}))
    script = tmp_path / "kubectl"
    script.write_text(
        "#!/usr/bin/env python3\n"
        "import json, sys\n"
        f"open({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        f"answers = json.load(open({str(answers)!r}))\n"
        "words = [word for word in sys.argv[1:] if not word.startswith('-')]\n"
        "print(json.dumps(answers[words[1]]) if words[0] == 'get' else 'venue/crypto changed')\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return lambda: [json.loads(line) for line in calls.read_text().splitlines()]


def test_status_is_a_page(kubectl, capsys):
    assert plugin.main(["-n", "trading", "status", "crypto"]) == 0

    said = capsys.readouterr().out.splitlines()
    assert said[0] == "crypto: Gating"
    assert [line.split()[:2] for line in said if line.startswith(("a ", "b "))] == [
        ["a", "ready"],
        ["b", "ready"],
    ]
    assert "last gate  crypto-1: Fail (Slower): 300 %" in said
    assert kubectl()[0][0] == "--namespace=trading"


def test_pin_check_fails_while_an_engine_is_not_pinned(kubectl, capsys):
    assert plugin.main(["pin-check", "crypto"]) == 1

    said = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in said] == [
        ["POD", "VERDICT"],
        ["crypto-a-0", "Unknown"],
        ["crypto-b-0", "Unknown"],
    ]


def test_a_report_shows_every_round(kubectl, capsys):
    plugin.main(["report", "crypto"])

    rows = [line.split()[:6] for line in capsys.readouterr().out.splitlines()[-2:]]
    assert rows == [["0", "stable", "0", "20000", "100", "µs"], ["1", "candidate", "0", "20000", "300", "µs"]]


@pytest.mark.parametrize("verb", ["promote", "abort", "retry"])
def test_an_order_is_an_annotation_with_a_new_nonce(kubectl, verb):
    plugin.main([verb, "crypto"])
    plugin.main([verb, "crypto"])

    first, second = (call[-1] for call in kubectl())
    assert first.startswith(f"tradsys.dev/{verb}=") and first != second


def test_pause_is_the_only_order_that_is_a_field(kubectl):
    plugin.main(["pause", "crypto"])
    plugin.main(["pause", "crypto", "--off"])

    assert [json.loads(call[-1]) for call in kubectl()] == [
        {"spec": {"paused": True}},
        {"spec": {"paused": False}},
    ]


def test_what_kubectl_says_is_told(tmp_path, monkeypatch, capsys):
    script = tmp_path / "kubectl"
    script.write_text("#!/bin/sh\necho 'no such venue' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    assert plugin.main(["status", "crypto"]) == 1
    assert capsys.readouterr().err == "no such venue\n"
