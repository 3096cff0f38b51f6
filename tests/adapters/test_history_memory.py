"""The soft limit of memory: said once when it is passed, and memory is given back as long as it is."""

from __future__ import annotations

import logging

from tradsys import metrics
from tradsys.adapters.history.memory import MemoryLimit, give_back

MIB = 1 << 20


def test_above_the_limit_memory_is_given_back_and_both_changes_are_said_once(caplog):
    words = [0] * metrics.SHARD.used
    given_back: list[int] = []
    limit = MemoryLimit(100 * MIB, words, lambda: given_back.append(1))
    caplog.set_level(logging.WARNING, "tradsys.history")

    passed = []
    for engine, history in ((40, 40), (40, 80), (41, 80), (40, 30)):
        words[metrics.SHARD_PROCESSES.memory.word("engine")] = engine * MIB
        words[metrics.SHARD_PROCESSES.memory.word("history")] = history * MIB
        limit.look()
        passed.append(limit.is_passed)

    assert passed == [False, True, True, False]
    assert len(given_back) == 2
    assert caplog.messages == [
        "engine and history have 120 MiB, above memory_limit",
        "engine and history have 70 MiB, below memory_limit",
    ]


def test_giving_memory_back_is_harmless():
    give_back()
