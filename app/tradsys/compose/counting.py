"""What the engine counts: on the order path plain integers and a few times, here their way into the page.

An order costs a few additions before its reply leaves (when it came is read for a header of the reply), and
a turn one reading of a clock; then the order has its place in the histogram of orders, and one in 32 tells
its stages. The rest happens ten times a second, so a kill -9 may take the counts of the last tenth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, MutableSequence
from functools import partial
from time import perf_counter_ns
from typing import cast

from tradsys import metrics
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.adapters.http.accesslog import AccessLog
from tradsys.adapters.http.answered import AnsweredOrders
from tradsys.adapters.http.edge import Tally
from tradsys.adapters.http.server import Turns
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.ops.evidence import Evidence
from tradsys.core import messages as m
from tradsys.counting import Gathered, counter_of
from tradsys.settings import Settings
from tradsys.venue.venue import Venue

_TYPES: dict[type, str] = {
    m.PlaceOrder: "place",
    m.ReplaceOrder: "replace",
    m.CancelOrder: "cancel",
    m.CancelOrders: "mass_cancel",
    m.ExpireOrders: "engine",
    m.ContinueWork: "engine",
    m.SetJournalSpace: "engine",
}
"""All others are an administrator's."""


def _of_class(statuses: Mapping[int, int], kind: int) -> int:
    return sum(count for status, count in statuses.items() if status // 100 == kind)


def _of_type(counted: Mapping[type, int], name: str) -> int:
    return sum(count for kind, count in counted.items() if _TYPES.get(kind, "admin") == name)


LOOK_NS = 1_000_000_000
BLOCKS_SHARE = 5_000
"""To count memory blocks takes a walk over the heap, a millisecond of everybody's time for 400 MB of objects:
at most this part of all time, so that it is in nobody's p99.9."""


class EngineCounters:
    """Everything of `metrics.SHARD` that the engine writes, but for what becomes of tokens that are new."""

    def __init__(
        self,
        words: MutableSequence[int],
        settings: Settings,
        venue: Venue,
        journal: LogWriter,
        verifier: TokenVerifier,
        access_log: AccessLog,
        spinning: bool,
        gc_threshold: int,
    ):
        self.tally = Tally()
        self.turns = Turns()
        self._words = words
        self._venue, self._journal, self._access_log = venue, journal, access_log
        self._verifier = verifier
        orders = self._orders = Gathered(metrics.ORDER_DURATION.series())
        self._stages = [
            Gathered(metrics.STAGE_DURATION.series(name)) for name in ("auth", "decode", "apply", "reply")
        ]
        self._writes = Gathered(metrics.STAGE_DURATION.series("journal"))
        self._batches = Gathered(metrics.BATCH_COMMANDS.series())
        self._gathered = (orders, *self._stages, self._writes, self._batches)
        self.answered = AnsweredOrders(journal.seq, orders.bounds, orders.counts)
        self.count_gc = counter_of(cast("memoryview[int]", words), metrics.GC_PAUSE.series())
        self._evidence = Evidence(
            metrics.SHARD_PROCESSES, metrics.ENGINE, words, cpu_exclusive=settings.cpu_exclusive
        )
        self._next_look_ns = self._next_blocks_ns = 0
        self._blocks = sys.getallocatedblocks()
        words[metrics.SPINNING.word()] = spinning
        words[metrics.SHARD_PROCESSES.gc_threshold.word(metrics.ENGINE)] = gc_threshold
        words[metrics.POOL_SIZE.word("order")] = settings.order_pool_size
        # The words go on over restarts, what is counted here begins at zero.
        self._copied = [(word, words[word], count) for word, count in self._counts()]

    def _counts(self) -> list[tuple[int, Callable[[], int]]]:
        """(word, how much has been counted since the start)"""
        venue, journal, tally, turns = self._venue, self._journal, self.tally, self.turns
        orders, keys = venue.shard.orders, venue.shard.keys
        counts: list[tuple[int, Callable[[], int]]] = [
            (metrics.JOURNAL_FRAMES.word(), lambda: journal.writes),
            (metrics.JOURNAL_BYTES.word(), lambda: journal.bytes_written),
            (metrics.POOLS.word("order", "hit"), lambda: orders.pool_hits),
            (metrics.POOLS.word("order", "miss"), lambda: orders.pool_misses),
            (metrics.IDEMPOTENCY_EVICTED.word(), lambda: keys.evicted_early),
            (metrics.LOG_LINES_DROPPED.word(), lambda: self._access_log.dropped),
            (metrics.TIMEOUTS.word("stale_command"), lambda: tally.errors.get(1012, 0)),
            (metrics.TIMEOUTS.word("request"), lambda: turns.cut),
            (metrics.LOOP_TURNS.word("busy"), lambda: turns.busy),
            (metrics.LOOP_TURNS.word("empty"), lambda: turns.empty),
            (metrics.LOOP_TURNS.word("waited"), lambda: turns.waited),
        ]
        for code in metrics.ERROR_CODES:
            counts.append((metrics.ERRORS.word(code), partial(tally.errors.__getitem__, int(code))))
        counts.append((metrics.REQUESTS.word("2xx"), lambda: tally.ok + _of_class(tally.statuses, 2)))
        for kind in (3, 4, 5):
            counts.append((metrics.REQUESTS.word(f"{kind}xx"), partial(_of_class, tally.statuses, kind)))
        for name in ("place", "replace", "cancel", "mass_cancel", "engine", "admin"):
            for outcome, counted in (("done", venue.done), ("refused", venue.refused)):
                counts.append((metrics.COMMANDS.word(name, outcome), partial(_of_type, counted, name)))
        counts.append((metrics.COMMANDS.word("place", "repeated"), lambda: venue.repeated))
        counts.append((metrics.COMMANDS.word("test", "done"), lambda: tally.tests))
        counts.append((metrics.TOKENS.word("cached"), lambda: self._verifier.uses))
        return counts

    def keep_house(self, now_ns: int, connections: int, ready: bool) -> None:
        """Ten times a second: what is counted elsewhere, and once a second what the kernel says."""
        words, shard, answered = self._words, self._venue.shard, self.answered
        answered.count()
        self._orders.sum += answered.took_ns
        answered.took_ns = 0
        for times in answered.stages:
            for i, stage in enumerate(self._stages):
                stage.count(times[i + 1] - times[i])
        answered.stages.clear()
        for took_ns in answered.writes_ns:
            self._writes.count(took_ns)
        answered.writes_ns.clear()
        for commands, writes in answered.writes_of.items():
            self._batches.count(commands, writes)
        answered.writes_of.clear()
        for gathered in self._gathered:
            gathered.pour(words)
        for word, before, count in self._copied:
            words[word] = before + count()
        words[metrics.CONNECTIONS.word()] = connections
        words[metrics.OPEN_ORDERS.word()] = shard.orders.open_count
        words[metrics.IDEMPOTENCY_KEYS.word()] = shard.keys.count
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + LOOK_NS
            self._evidence.look()
            self._evidence.ready(ready)
        if now_ns >= self._next_blocks_ns:
            begun = perf_counter_ns()
            blocks = sys.getallocatedblocks()
            words[metrics.MEMORY_ALLOCATIONS.word()] += max(0, blocks - self._blocks)
            self._blocks = blocks
            self._next_blocks_ns = now_ns + max(LOOK_NS, BLOCKS_SHARE * (perf_counter_ns() - begun))
