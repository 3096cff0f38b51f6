"""What the engine counts: on the order path plain integers and a few times, here their way into the page.

An order costs two readings of a clock and a few additions before its reply leaves, a turn one reading more;
then the order has its place in the histogram of orders, and one in 32 tells its stages. The rest happens ten
times a second, so a kill -9 may take the counts of the last tenth.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableSequence
from functools import partial
from time import perf_counter_ns
from typing import cast

from tradsys import metrics
from tradsys.adapters.http.accesslog import AccessLog
from tradsys.adapters.http.edge import AnsweredOrders, Tally
from tradsys.adapters.http.server import Turns
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.ops.evidence import Evidence
from tradsys.core import messages as m
from tradsys.counting import Gathered, counter_of
from tradsys.settings import Settings
from tradsys.venue.venue import Venue

GATHERED = metrics.STAGES_SAMPLED
"""So many orders are counted at once, and one of them by its stages: in a row each takes a third of what it
takes alone, where the rest of an order has pushed code and counts out of the caches."""
PLACES = 13
"""The order that is counted by its stages moves on by so many, so that each place in a turn has its share:
the first order after a wait is not like the others."""

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


class EngineCounters:
    """Everything of `metrics.SHARD` that the engine writes, but for what the tokens count by themselves."""

    def __init__(
        self,
        words: MutableSequence[int],
        settings: Settings,
        venue: Venue,
        journal: LogWriter,
        access_log: AccessLog,
        spinning: bool,
        gc_threshold: int,
    ):
        self.tally = Tally()
        self.turns = Turns()
        self.answered = AnsweredOrders()
        self._words = words
        self._venue, self._journal, self._access_log = venue, journal, access_log
        orders = self._orders_gathered = Gathered(metrics.ORDER_DURATION.series())
        stages = [
            Gathered(metrics.STAGE_DURATION.series(name)) for name in ("auth", "decode", "apply", "reply")
        ]
        writes = Gathered(metrics.STAGE_DURATION.series("journal"))
        self._batches = Gathered(metrics.BATCH_COMMANDS.series())
        self._gathered = (orders, *stages, writes, self._batches)
        self._count_write = writes.count
        self._count_stages = [stage.count for stage in stages]
        self.count_gc = counter_of(cast("memoryview[int]", words), metrics.GC_PAUSE.series())
        self._writes_of: defaultdict[int, int] = defaultdict(int)
        """How many writes had so many commands, until they go into their histogram."""
        self._came = self.answered.came
        self._bounds, self._orders_within = orders.bounds, orders.counts
        self._writes: list[tuple[int, int, int]] = []
        """Not counted yet: when each ended, what the journal then had, and how many of `answered.came`."""
        self.times_write = True
        """The next write is one whose time is taken."""
        self._orders = 0
        """Of `answered.came`, so many are journalled."""
        self._seq = self._counted_seq = journal.seq
        self._evidence = Evidence(
            metrics.SHARD_PROCESSES, metrics.ENGINE, words, cpu_exclusive=settings.cpu_exclusive
        )
        self._next_look_ns = 0
        self._blocks = sys.getallocatedblocks()
        words[metrics.SPINNING.word()] = spinning
        words[metrics.SHARD_PROCESSES.gc_threshold.word(metrics.ENGINE)] = gc_threshold
        words[metrics.POOL_SIZE.word("order")] = settings.order_pool_size
        # The words go on over restarts, what is counted here begins at zero.
        self._copied = [(word, words[word], count) for word, count in self._counts()]

    def committed(self, started_ns: int) -> None:
        """What was answered is journalled, by a write that began at `started_ns` (0 unless `times_write`).

        Replies wait for this, so it only takes note. It is counted when it is called with nothing new, and
        enough has gathered: at the end of a turn, when replies are on their way.
        """
        seq, orders = self._journal.seq, len(self._came)
        if orders != self._orders or seq != self._seq:
            ended_ns = perf_counter_ns()
            self._writes.append((ended_ns, seq, orders))
            if started_ns and seq != self._seq:
                self.times_write = False
                self._count_write(ended_ns - started_ns)
            self._orders, self._seq = orders, seq
        elif orders >= GATHERED or len(self._writes) >= GATHERED:
            self._count()

    def _count(self) -> None:
        """Put what has gathered into the histograms."""
        writes = self._writes
        if not writes:
            return
        answered, came, bounds, within = self.answered, self._came, self._bounds, self._orders_within
        counted, writes_of = self._counted_seq, self._writes_of
        first, sum_ns = 0, 0
        for ended_ns, seq, orders in writes:
            writes_of[seq - counted] += 1
            counted = seq
            for came_ns in came[first:orders]:
                # `Gathered.count`, written out: this is for every order.
                took = ended_ns - came_ns
                within[bisect_left(bounds, took)] += 1
                sum_ns += took
            first = orders
        self._orders_gathered.sum += sum_ns
        self._counted_seq = counted
        writes.clear()
        self.times_write = True
        for times in answered.stages:
            for i, count in enumerate(self._count_stages):
                count(times[i + 1] - times[i])
        answered.stages.clear()
        if first:
            # Some of `came` may be of a turn that is not journalled yet.
            del came[:first]
            answered.timed_at = (answered.timed_at + PLACES) % first
        self._orders = len(came)

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
        return counts

    def keep_house(self, now_ns: int, connections: int, ready: bool) -> None:
        """Ten times a second: what is counted elsewhere, and once a second what the kernel says."""
        words, shard = self._words, self._venue.shard
        self._count()
        for commands, writes in self._writes_of.items():
            if commands:
                self._batches.count(commands, writes)
        self._writes_of.clear()
        for gathered in self._gathered:
            gathered.pour(words)
        for word, before, count in self._copied:
            words[word] = before + count()
        words[metrics.CONNECTIONS.word()] = connections
        words[metrics.OPEN_ORDERS.word()] = shard.orders.open_count
        words[metrics.IDEMPOTENCY_KEYS.word()] = shard.keys.count
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + 1_000_000_000
            blocks = sys.getallocatedblocks()
            words[metrics.MEMORY_ALLOCATIONS.word()] += max(0, blocks - self._blocks)
            self._blocks = blocks
            self._evidence.look()
            self._evidence.ready(ready)
