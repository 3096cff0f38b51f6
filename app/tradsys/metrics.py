"""Every metric of a shard, declared once: its names, its labels, and the words that count it.

A shard counts in a row of plain 64-bit words in the shared page. The engine adds to a word and does
nothing else; `history` reads the words and renders the text that Prometheus collects. So a metric costs
the order path two additions, and a scrape costs it nothing.

    words[COMMANDS.word("place", "done")] += 1          # look the index up once, keep it
    series = ORDER_DURATION.series()
    words[series.first + bisect_left(series.bounds, ns)] += 1
    words[series.sum] += ns

Rules that a test holds: labels are closed sets, never an account or an order id; each word has one
writing process; durations are counted in nanoseconds, and their bounds begin at microseconds. Where
the plan asked for a metric in microseconds (`hft_…`), the same words are shown under both names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, MutableSequence
from itertools import product

from msgspec import Struct

ENGINE, HISTORY, FEED = "engine", "history", "feed"
"""The processes that write words, each its own."""

US = 1_000
"""Nanoseconds in a microsecond."""
SECOND = 1_000_000_000

PLAN_BOUNDS_NS = tuple(us * US for us in (10, 25, 50, 100, 250, 500, 1000, 2500, 5000))
"""The buckets of the plan's histograms."""
STAGE_BOUNDS_NS = (1 * US, 2 * US, 5 * US, *PLAN_BOUNDS_NS, 25_000 * US, 100_000 * US)
"""One order's stages: from a microsecond up; contains the plan's bounds, so that both are exact."""
DISK_BOUNDS_NS = (*STAGE_BOUNDS_NS, 250_000 * US, 1 * SECOND, 5 * SECOND)
"""Work that waits for a disk or for a thousand rows."""
BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

Labels = tuple[tuple[str, tuple[str, ...]], ...]


class Counter(Struct, frozen=True):
    """Only grows; starts at zero with the page."""

    names: tuple[str, ...]
    """All names it is shown under; counters end in `_total`."""
    help: str
    writer: str
    labels: Labels
    first: int

    def word(self, *values: str) -> int:
        """Index of the word for these label values, in the order of `labels`.

        Raises ValueError for a value outside the closed set.
        """
        return self.first + _position(self.labels, values)


class Gauge(Struct, frozen=True):
    """A value as it is now; shown divided by `scale`."""

    names: tuple[str, ...]
    help: str
    writer: str
    labels: Labels
    first: int
    scale: int

    def word(self, *values: str) -> int:
        """Index of the word for these label values; ValueError for one outside the closed set."""
        return self.first + _position(self.labels, values)


class Derived(Struct, frozen=True):
    """A gauge without words: `history` works it out when it renders."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


class Series(Struct, frozen=True):
    """Where one labelled histogram counts: a word for each bound, one above them all, one for the sum."""

    first: int
    sum: int
    bounds: tuple[int, ...]

    @property
    def counts(self) -> range:
        """The words whose sum is the number of observations."""
        return range(self.first, self.sum)

    def observe(self, words: MutableSequence[int], value: int) -> None:
        """Count one value, in the unit of the bounds. A value equal to a bound is within it."""
        words[self.first + bisect_left(self.bounds, value)] += 1
        words[self.sum] += value


class Shown(Struct, frozen=True):
    """One name of a histogram: its unit, and those of the bounds that appear."""

    name: str
    scale: int
    """How many of the counted units make one shown unit."""
    bounds: tuple[int, ...]


class Histogram(Struct, frozen=True):
    shown: tuple[Shown, ...]
    help: str
    writer: str
    labels: Labels
    bounds: tuple[int, ...]
    first: int

    @property
    def stride(self) -> int:
        return len(self.bounds) + 2

    def series(self, *values: str) -> Series:
        """The words for these label values; ValueError for one outside the closed set."""
        first = self.first + _position(self.labels, values) * self.stride
        return Series(first, first + len(self.bounds) + 1, self.bounds)


class Combined(Struct, frozen=True):
    """A histogram without words of its own: series of others under one name, told apart by one label."""

    shown: Shown
    help: str
    label: str
    parts: tuple[tuple[str, Series], ...]


Metric = Counter | Gauge | Histogram


def _position(labels: Labels, values: tuple[str, ...]) -> int:
    if len(values) != len(labels):
        raise ValueError(f"{len(labels)} label values are needed, {len(values)} given")
    position = 0
    for (_, allowed), value in zip(labels, values, strict=True):
        position = position * len(allowed) + allowed.index(value)
    return position


def label_values(labels: Labels) -> Iterator[tuple[str, ...]]:
    """All combinations, in the order in which their words lie."""
    return product(*(allowed for _, allowed in labels))


class _Row:
    """Hands out words in the order of declaration, so that the layout is this file."""

    def __init__(self) -> None:
        self.metrics: list[Metric] = []
        self.used = 0

    def _take(self, labels: Labels, each: int) -> int:
        first = self.used
        for _ in label_values(labels):
            self.used += each
        return first

    def counter(self, *names: str, help: str, writer: str = ENGINE, labels: Labels = ()) -> Counter:
        metric = Counter(names, help, writer, labels, self._take(labels, 1))
        self.metrics.append(metric)
        return metric

    def gauge(
        self, *names: str, help: str, writer: str = ENGINE, labels: Labels = (), scale: int = 1
    ) -> Gauge:
        metric = Gauge(names, help, writer, labels, self._take(labels, 1), scale)
        self.metrics.append(metric)
        return metric

    def histogram(
        self,
        *shown: Shown,
        help: str,
        bounds: tuple[int, ...],
        writer: str = ENGINE,
        labels: Labels = (),
    ) -> Histogram:
        metric = Histogram(shown, help, writer, labels, bounds, self._take(labels, len(bounds) + 2))
        self.metrics.append(metric)
        return metric


def _seconds(name: str, bounds: tuple[int, ...]) -> Shown:
    return Shown(name, SECOND, bounds)


def _microseconds(name: str) -> Shown:
    return Shown(name, US, PLAN_BOUNDS_NS)


_row = _Row()

# --- orders, in the engine --------------------------------------------------------------------------

COMMANDS = _row.counter(
    "tradsys_commands_total",
    help="Commands by type and what became of them; `repeated` are retries answered from memory.",
    labels=(
        ("type", ("place", "replace", "cancel", "mass_cancel", "test", "engine", "admin")),
        ("outcome", ("done", "refused", "repeated")),
    ),
)
ORDER_DURATION = _row.histogram(
    _seconds("tradsys_order_duration_seconds", STAGE_BOUNDS_NS),
    _microseconds("hft_order_latency_microseconds"),
    help="One order from the start of its handler until the reply is handed to the server.",
    bounds=STAGE_BOUNDS_NS,
)
STAGES = ("decode", "auth", "apply", "journal", "reply")
STAGE_DURATION = _row.histogram(
    _seconds("tradsys_stage_duration_seconds", STAGE_BOUNDS_NS),
    help="The stages of one order; `apply` is idempotency, risk and matching.",
    bounds=STAGE_BOUNDS_NS,
    labels=(("stage", STAGES),),
)
BATCH_COMMANDS = _row.histogram(
    Shown("tradsys_batch_commands", 1, BATCH_BOUNDS),
    help="Commands in one write of the journal.",
    bounds=BATCH_BOUNDS,
)
ERROR_CODES = (
    *("1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012"),
    *("1020", "1021", "2001", "2002", "2003", "3001", "3002", "3003", "3005", "3006", "3029"),
)
"""The codes of API.md; a test holds the list against it."""
ERRORS = _row.counter(
    "tradsys_errors_total",
    "hft_errors_total",
    help="Answers with an error, by its code; 1001 and 1020 are the venue's own failures.",
    labels=(("code", ERROR_CODES),),
)
TIMEOUTS = _row.counter(
    "tradsys_timeouts_total",
    "hft_timeouts_total",
    help="Requests cut off while they arrived, and commands that came after their valid_until.",
    labels=(("kind", ("request", "stale_command")),),
)
REQUESTS = _row.counter(
    "tradsys_http_requests_total",
    help="Requests by the class of their status.",
    labels=(("status", ("2xx", "3xx", "4xx", "5xx")),),
)
CONNECTIONS = _row.gauge(
    "tradsys_active_connections",
    "hft_active_connections",
    help="Open connections to the engine.",
)
OPEN_ORDERS = _row.gauge("tradsys_open_orders", help="Orders that rest or wait.")
IDEMPOTENCY_KEYS = _row.gauge("tradsys_idempotency_keys", help="Client order ids remembered.")
IDEMPOTENCY_EVICTED = _row.counter(
    "tradsys_idempotency_evicted_total",
    help="Client order ids forgotten before their window, because the cap was reached.",
)

# --- what the engine stands on ----------------------------------------------------------------------

JOURNAL_FRAMES = _row.counter("tradsys_journal_frames_total", help="Writes to the journal.")
JOURNAL_BYTES = _row.counter("tradsys_journal_bytes_total", help="Bytes written to the journal.")
ENGINE_SYNCS = _row.counter(
    "tradsys_engine_syncs_total",
    help="Syncs that the engine made itself: in a durable venue, or because history was late.",
)
TOKENS = _row.counter(
    "tradsys_tokens_total",
    help="Bearer tokens by how they were judged; `limited` were new ones over the allowed rate.",
    labels=(("outcome", ("cached", "verified", "refused", "revoked", "limited")),),
)
POOLS = _row.counter(
    "tradsys_pool_takes_total",
    help="Takes from a pool; a miss made a new object.",
    labels=(("pool", ("order", "message", "response")), ("outcome", ("hit", "miss"))),
)
LOOP_TURNS = _row.counter(
    "tradsys_loop_turns_total",
    help="Turns of the engine's loop; `waited` slept until the kernel had something.",
    labels=(("kind", ("busy", "empty", "waited")),),
)
MEMORY_ALLOCATIONS = _row.counter(
    "tradsys_memory_allocations_total",
    "hft_memory_allocations_total",
    help="Memory blocks newly taken and kept: the rises of sys.getallocatedblocks(), sampled each second.",
)
GC_PAUSE = _row.histogram(
    _seconds("tradsys_gc_pause_seconds", STAGE_BOUNDS_NS),
    _microseconds("hft_gc_pause_microseconds"),
    help="Pauses of the engine's garbage collector.",
    bounds=STAGE_BOUNDS_NS,
)

# --- history ----------------------------------------------------------------------------------------

SYNC_DURATION = _row.histogram(
    _seconds("tradsys_sync_duration_seconds", DISK_BOUNDS_NS),
    help="One fdatasync of the journal by history.",
    bounds=DISK_BOUNDS_NS,
    writer=HISTORY,
)
REPLAYED = _row.counter(
    "tradsys_replayed_commands_total",
    help="Commands that history applied again; each gave the journal's own events.",
    writer=HISTORY,
)
REPLAY_MISMATCHES = _row.counter(
    "tradsys_replay_mismatches_total",
    help="Replays whose events were not the journal's. History stops at the first.",
    writer=HISTORY,
)
READMODEL_COMMANDS = _row.counter(
    "tradsys_readmodel_commands_total", help="Commands written to the read model.", writer=HISTORY
)
READMODEL_DURATION = _row.histogram(
    _seconds("tradsys_readmodel_transaction_seconds", DISK_BOUNDS_NS),
    help="One transaction of the read model, up to 1,000 commands.",
    bounds=DISK_BOUNDS_NS,
    writer=HISTORY,
)
READMODEL_STATEMENT_DURATION = _row.histogram(
    _seconds("tradsys_readmodel_statement_seconds", STAGE_BOUNDS_NS),
    help="Statements of the read model: one get; one inserted or updated row, as the mean of its batch.",
    bounds=STAGE_BOUNDS_NS,
    writer=HISTORY,
    labels=(("statement", ("get", "insert", "update")),),
)
SNAPSHOTS = _row.counter(
    "tradsys_snapshots_total",
    help="Snapshots by outcome; `verified` were loaded again and had the same state hash.",
    writer=HISTORY,
    labels=(("outcome", ("verified", "failed")),),
)
SNAPSHOT_SEQ = _row.gauge(
    "tradsys_snapshot_seq", help="Sequence number of the newest verified snapshot.", writer=HISTORY
)
SNAPSHOT_DURATION = _row.gauge(
    "tradsys_snapshot_seconds",
    help="How long the newest snapshot took to write.",
    writer=HISTORY,
    scale=SECOND,
)
SEGMENTS_RETIRED = _row.counter(
    "tradsys_journal_segments_retired_total",
    help="Journal segments removed because nothing needs them any more.",
    writer=HISTORY,
)
REPLAY_SEQ = _row.gauge("tradsys_replay_seq", help="Last command that history applied.", writer=HISTORY)
READMODEL_SEQ = _row.gauge("tradsys_readmodel_seq", help="Last command in the read model.", writer=HISTORY)
DURABLE_LAG = _row.gauge(
    "tradsys_durable_lag_seconds",
    help="Age of the oldest command not yet known to be on the disk, as of the last sync.",
    writer=HISTORY,
    scale=SECOND,
)

# --- feed -------------------------------------------------------------------------------------------

FEED_MESSAGES = _row.counter(
    "tradsys_feed_messages_total", help="Messages sent to WebSocket clients.", writer=FEED
)
FEED_DURATION = _row.histogram(
    _seconds("tradsys_feed_delay_seconds", STAGE_BOUNDS_NS),
    _microseconds("hft_websocket_latency_microseconds"),
    help="From the journalled event until its message is handed to the first client's socket.",
    bounds=STAGE_BOUNDS_NS,
    writer=FEED,
)

DATABASE_DURATION = Combined(
    _microseconds("hft_database_latency_microseconds"),
    help="The venue's stores: an append to the journal, and the read model's statements.",
    label="operation",
    parts=(
        ("journal", STAGE_DURATION.series("journal")),
        ("get", READMODEL_STATEMENT_DURATION.series("get")),
        ("insert", READMODEL_STATEMENT_DURATION.series("insert")),
        ("update", READMODEL_STATEMENT_DURATION.series("update")),
    ),
)

METRICS: tuple[Metric, ...] = tuple(_row.metrics)
COMBINED = (DATABASE_DURATION,)
WORDS_USED = _row.used
"""How many words of the page are taken; the page has room for more."""

# --- worked out when rendered -----------------------------------------------------------------------

DERIVED = (
    Derived("hft_orders_per_second", "Orders answered in the last second."),
    Derived("hft_messages_per_second", "WebSocket messages sent in the last second."),
    Derived("tradsys_published_seq", "Last command that the engine has journalled."),
    Derived("tradsys_durable_seq", "Last command known to be on the disk."),
    Derived("tradsys_unsynced_commands", "Commands journalled but not yet known to be on the disk."),
    Derived("tradsys_replay_lag_commands", "Durable commands that history has not applied yet."),
    Derived("tradsys_readmodel_lag_commands", "Durable commands that the read model does not show yet."),
    Derived("tradsys_poisoned", "1 if a sync has failed: the engine must stop."),
    Derived("tradsys_sqlite_pragma", "Settings of the read model as SQLite reports them.", ("pragma",)),
    Derived("tradsys_build_info", "Always 1.", ("version", "sqlite", "python")),
)
