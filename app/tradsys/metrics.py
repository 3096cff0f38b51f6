"""Every metric of the venue, declared once: its names, its labels, and the words that count it.

Each process counts in a row of plain 64-bit words. The row of a shard, `SHARD`, lies in the shared page:
the engine adds to a word and does nothing else, `history` reads the words and renders the text that
Prometheus collects. So a metric costs the order path two additions, and a scrape costs it nothing. Feed,
gateway and query have rows of their own (`FEED`, `GATEWAY`, `QUERY`), and show them on their ops ports.

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
from typing import Final

from msgspec import Struct

PROCESSES = ("engine", "history", "feed", "gateway", "query")
"""They count. Whoever has its name in a label `process` writes those words."""
ENGINE, HISTORY = "engine", "history"
"""The two that write words of the shard's row, each its own."""

US = 1_000
"""Nanoseconds in a microsecond."""
SECOND = 1_000_000_000

PLAN_BOUNDS_NS = tuple(us * US for us in (10, 25, 50, 100, 250, 500, 1000, 2500, 5000))
"""The buckets of the plan's histograms."""
STAGE_BOUNDS_NS = tuple(sorted((*PLAN_BOUNDS_NS, *(us * US for us in (1, 2, 5, 75, 150, 25_000, 100_000)))))
"""One order's stages: from a microsecond up; contains the plan's bounds, so that both are exact."""
DISK_BOUNDS_NS = (*STAGE_BOUNDS_NS, 250_000 * US, 1 * SECOND, 5 * SECOND)
"""Work that waits for a disk or for a thousand rows."""
BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

Labels = tuple[tuple[str, tuple[str, ...]], ...]


class Counter(Struct, frozen=True):
    """Only grows; starts at zero with its row. Shown divided by `scale`."""

    names: tuple[str, ...]
    """All names it is shown under; counters end in `_total`."""
    help: str
    writer: str
    labels: Labels
    first: int
    scale: int = 1

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


class Row:
    """Hands out words in the order of declaration, so that the layout is this file."""

    def __init__(self, name: str, writer: str) -> None:
        self.name = name
        """Whose row it is: "shard", or the process's name."""
        self.writer = writer
        """Who writes the words that name no other writer."""
        self.metrics: list[Metric] = []
        self.combined: list[Combined] = []
        self.derived: list[Derived] = []
        self.used = 0
        """How many words are taken."""

    def _take(self, labels: Labels, each: int) -> int:
        first = self.used
        for _ in label_values(labels):
            self.used += each
        return first

    def counter(
        self, *names: str, help: str, writer: str = "", labels: Labels = (), scale: int = 1
    ) -> Counter:
        metric = Counter(names, help, writer or self.writer, labels, self._take(labels, 1), scale)
        self.metrics.append(metric)
        return metric

    def gauge(self, *names: str, help: str, writer: str = "", labels: Labels = (), scale: int = 1) -> Gauge:
        metric = Gauge(names, help, writer or self.writer, labels, self._take(labels, 1), scale)
        self.metrics.append(metric)
        return metric

    def histogram(
        self,
        *shown: Shown,
        help: str,
        bounds: tuple[int, ...],
        writer: str = "",
        labels: Labels = (),
    ) -> Histogram:
        first = self._take(labels, len(bounds) + 2)
        metric = Histogram(shown, help, writer or self.writer, labels, bounds, first)
        self.metrics.append(metric)
        return metric

    def derive(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Derived:
        derived = Derived(name, help, labels)
        self.derived.append(derived)
        return derived

    def combine(self, shown: Shown, help: str, label: str, parts: tuple[tuple[str, Series], ...]) -> Combined:
        combined = Combined(shown, help, label, parts)
        self.combined.append(combined)
        return combined


class ProcessMetrics(Struct, frozen=True):
    """What every process tells of itself, under the same names in each row: what it uses, and on which CPUs.

    `adapters.ops.evidence` fills these words.
    """

    cpu: Counter
    memory: Gauge
    files: Gauge
    threads: Gauge
    started: Gauge
    switches: Counter
    faults: Counter
    gc_pause: Histogram
    gc_threshold: Gauge
    cpus_allowed: Gauge
    cpus_online: Gauge
    cpu_exclusive: Gauge
    throttled_periods: Counter
    throttled: Counter
    ready: Gauge


def _process(row: Row, *processes: str) -> ProcessMetrics:
    each: Labels = (("process", processes),)
    return ProcessMetrics(
        cpu=row.counter(
            "tradsys_process_cpu_seconds_total",
            help="CPU time of a process.",
            labels=(*each, ("mode", ("user", "system"))),
            scale=SECOND,
        ),
        memory=row.gauge(
            "tradsys_process_resident_memory_bytes", help="Memory of a process that is in RAM.", labels=each
        ),
        files=row.gauge(
            "tradsys_process_open_files", help="Open file descriptors of a process.", labels=each
        ),
        threads=row.gauge("tradsys_process_threads", help="Threads of a process.", labels=each),
        started=row.gauge(
            "tradsys_process_start_time_seconds", help="When a process began, in unix seconds.", labels=each
        ),
        switches=row.counter(
            "tradsys_process_context_switches_total",
            help="Times that a process left its CPU; `involuntary`: somebody else wanted it.",
            labels=(*each, ("kind", ("voluntary", "involuntary"))),
        ),
        faults=row.counter(
            "tradsys_process_page_faults_total",
            help="Page faults of a process; `major` ones waited for a disk.",
            labels=(*each, ("kind", ("minor", "major"))),
        ),
        gc_pause=row.histogram(
            _seconds("tradsys_process_gc_pause_seconds", STAGE_BOUNDS_NS),
            help="Pauses by Python's garbage collector, where it runs by itself.",
            bounds=STAGE_BOUNDS_NS,
            labels=each,
        ),
        gc_threshold=row.gauge(
            "tradsys_process_gc_threshold_objects",
            help="New objects after which a process looks for garbage.",
            labels=each,
        ),
        cpus_allowed=row.gauge(
            "tradsys_process_cpus_allowed", help="CPUs that a process may run on.", labels=each
        ),
        cpus_online=row.gauge(
            "tradsys_process_cpus_online", help="CPUs of the machine, as a process sees it.", labels=each
        ),
        cpu_exclusive=row.gauge(
            "tradsys_process_cpu_exclusive",
            help="1 if a process was told that its CPUs are its own.",
            labels=each,
        ),
        throttled_periods=row.counter(
            "tradsys_process_throttled_periods_total",
            help="Periods in which the CPU quota of a process's group was used up.",
            labels=each,
        ),
        throttled=row.counter(
            "tradsys_process_throttled_seconds_total",
            help="Time that a process's group waited for its next CPU quota.",
            labels=each,
            scale=SECOND,
        ),
        ready=row.gauge(
            "tradsys_process_ready",
            help="1 if a process would answer its readiness probe with yes.",
            labels=each,
        ),
    )


def _build_info(row: Row) -> Derived:
    return row.derive("tradsys_build_info", "Always 1.", ("process", "shard", "version", "sqlite", "python"))


def _seconds(name: str, bounds: tuple[int, ...]) -> Shown:
    return Shown(name, SECOND, bounds)


def _microseconds(name: str) -> Shown:
    return Shown(name, US, PLAN_BOUNDS_NS)


# ====================================================================================================
# The shard: engine and history, in the shared page
# ====================================================================================================

SHARD = Row("shard", ENGINE)

# --- orders, in the engine --------------------------------------------------------------------------

COMMANDS = SHARD.counter(
    "tradsys_commands_total",
    help="Commands by type and what became of them; `repeated` are retries answered from memory.",
    labels=(
        ("type", ("place", "replace", "cancel", "mass_cancel", "test", "engine", "admin")),
        ("outcome", ("done", "refused", "repeated")),
    ),
)
ORDER_DURATION = SHARD.histogram(
    _seconds("tradsys_order_duration_seconds", STAGE_BOUNDS_NS),
    _microseconds("hft_order_latency_microseconds"),
    help="One order from the start of its handler until the reply is handed to the server.",
    bounds=STAGE_BOUNDS_NS,
)
STAGES = ("decode", "auth", "apply", "journal", "reply")
STAGES_SAMPLED: Final = 32
"""One order of so many is counted by its stages, and meanwhile one write by its time; where fewer come, one
in a tenth of a second. Every order is in the histogram of orders, every write in that of batches."""
STAGE_DURATION = SHARD.histogram(
    _seconds("tradsys_stage_duration_seconds", STAGE_BOUNDS_NS),
    help=f"The stages of one order in {STAGES_SAMPLED}, and of one write meanwhile; `apply` is idempotency, "
    "risk and matching. Means and percentiles stand for all, counts do not.",
    bounds=STAGE_BOUNDS_NS,
    labels=(("stage", STAGES),),
)
BATCH_COMMANDS = SHARD.histogram(
    Shown("tradsys_batch_commands", 1, BATCH_BOUNDS),
    help="Commands in one write of the journal.",
    bounds=BATCH_BOUNDS,
)
ERROR_CODES = (
    *("1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012"),
    *("1020", "1021", "2001", "2002", "2003", "3001", "3002", "3003", "3005", "3006", "3029"),
)
"""The codes of the API; a test holds the list against it."""
ERRORS = SHARD.counter(
    "tradsys_errors_total",
    "hft_errors_total",
    help="Answers with an error, by its code; 1001 and 1020 are the venue's own failures.",
    labels=(("code", ERROR_CODES),),
)
TIMEOUTS = SHARD.counter(
    "tradsys_timeouts_total",
    "hft_timeouts_total",
    help="Requests cut off while they arrived, and commands that came after their valid_until.",
    labels=(("kind", ("request", "stale_command")),),
)
REQUESTS = SHARD.counter(
    "tradsys_http_requests_total",
    help="Requests by the class of their status.",
    labels=(("status", ("2xx", "3xx", "4xx", "5xx")),),
)
CONNECTIONS = SHARD.gauge(
    "tradsys_active_connections",
    "hft_active_connections",
    help="Open connections to the engine.",
)
OPEN_ORDERS = SHARD.gauge("tradsys_open_orders", help="Orders that rest or wait.")
IDEMPOTENCY_KEYS = SHARD.gauge("tradsys_idempotency_keys", help="Client order ids remembered.")
IDEMPOTENCY_EVICTED = SHARD.counter(
    "tradsys_idempotency_evicted_total",
    help="Client order ids forgotten before their window, because the cap was reached.",
)

# --- what the engine stands on ----------------------------------------------------------------------

JOURNAL_FRAMES = SHARD.counter("tradsys_journal_frames_total", help="Writes to the journal.")
JOURNAL_BYTES = SHARD.counter("tradsys_journal_bytes_total", help="Bytes written to the journal.")
ENGINE_SYNCS = SHARD.counter(
    "tradsys_engine_syncs_total",
    help="Syncs that the engine made itself: in a durable venue, or because history was late.",
)
TOKENS = SHARD.counter(
    "tradsys_tokens_total",
    help="Bearer tokens by how they were judged; `limited` were new ones over the allowed rate.",
    labels=(("outcome", ("cached", "verified", "refused", "revoked", "limited")),),
)
POOLS = SHARD.counter(
    "tradsys_pool_takes_total",
    help="Takes from a pool; a miss made a new object.",
    labels=(("pool", ("order", "message", "response")), ("outcome", ("hit", "miss"))),
)
LOOP_TURNS = SHARD.counter(
    "tradsys_loop_turns_total",
    help="Turns of the engine's loop; `waited` slept until the kernel had something.",
    labels=(("kind", ("busy", "empty", "waited")),),
)
MEMORY_ALLOCATIONS = SHARD.counter(
    "tradsys_memory_allocations_total",
    "hft_memory_allocations_total",
    help="Memory blocks newly taken and kept: the rises of sys.getallocatedblocks(), sampled each second, "
    "of a large heap less often.",
)
GC_PAUSE = SHARD.histogram(
    _seconds("tradsys_gc_pause_seconds", STAGE_BOUNDS_NS),
    _microseconds("hft_gc_pause_microseconds"),
    help="Pauses of the engine's garbage collector.",
    bounds=STAGE_BOUNDS_NS,
)

# --- history ----------------------------------------------------------------------------------------

SYNC_DURATION = SHARD.histogram(
    _seconds("tradsys_sync_duration_seconds", DISK_BOUNDS_NS),
    help="One fdatasync of the journal by history.",
    bounds=DISK_BOUNDS_NS,
    writer=HISTORY,
)
REPLAYED = SHARD.counter(
    "tradsys_replayed_commands_total",
    help="Commands that history applied again; each gave the journal's own events.",
    writer=HISTORY,
)
REPLAY_MISMATCHES = SHARD.counter(
    "tradsys_replay_mismatches_total",
    help="Replays whose events were not the journal's. History stops at the first.",
    writer=HISTORY,
)
READMODEL_COMMANDS = SHARD.counter(
    "tradsys_readmodel_commands_total", help="Commands written to the read model.", writer=HISTORY
)
READMODEL_DURATION = SHARD.histogram(
    _seconds("tradsys_readmodel_transaction_seconds", DISK_BOUNDS_NS),
    help="One transaction of the read model, up to 20,000 commands.",
    bounds=DISK_BOUNDS_NS,
    writer=HISTORY,
)
READMODEL_STATEMENT_DURATION = SHARD.histogram(
    _seconds("tradsys_readmodel_statement_seconds", STAGE_BOUNDS_NS),
    help="Statements of the read model: one get; one inserted or updated row, as the mean of its batch.",
    bounds=STAGE_BOUNDS_NS,
    writer=HISTORY,
    labels=(("statement", ("get", "insert", "update")),),
)
SNAPSHOTS = SHARD.counter(
    "tradsys_snapshots_total",
    help="Snapshots by outcome; `verified` were loaded again and had the same state hash.",
    writer=HISTORY,
    labels=(("outcome", ("verified", "failed")),),
)
SNAPSHOT_SEQ = SHARD.gauge(
    "tradsys_snapshot_seq", help="Sequence number of the newest verified snapshot.", writer=HISTORY
)
SNAPSHOT_DURATION = SHARD.gauge(
    "tradsys_snapshot_seconds",
    help="How long the newest snapshot took to write.",
    writer=HISTORY,
    scale=SECOND,
)
SEGMENTS_RETIRED = SHARD.counter(
    "tradsys_journal_segments_retired_total",
    help="Journal segments removed because nothing needs them any more.",
    writer=HISTORY,
)
REPLAY_SEQ = SHARD.gauge("tradsys_replay_seq", help="Last command that history applied.", writer=HISTORY)
READMODEL_SEQ = SHARD.gauge("tradsys_readmodel_seq", help="Last command in the read model.", writer=HISTORY)
DURABLE_LAG = SHARD.gauge(
    "tradsys_durable_lag_seconds",
    help="Age of the oldest command not yet known to be on the disk, as of the last sync.",
    writer=HISTORY,
    scale=SECOND,
)

DATABASE_DURATION = SHARD.combine(
    _microseconds("hft_database_latency_microseconds"),
    help=f"The venue's stores: one append to the journal in {STAGES_SAMPLED} orders, and the read model's "
    "statements.",
    label="operation",
    parts=(
        ("journal", STAGE_DURATION.series("journal")),
        ("get", READMODEL_STATEMENT_DURATION.series("get")),
        ("insert", READMODEL_STATEMENT_DURATION.series("insert")),
        ("update", READMODEL_STATEMENT_DURATION.series("update")),
    ),
)

# --- of the two processes ---------------------------------------------------------------------------

SHARD_PROCESSES = _process(SHARD, ENGINE, HISTORY)
LOG_LINES_DROPPED = SHARD.counter(
    "tradsys_log_lines_dropped_total", help="Lines of the access log given up because the log was slow."
)
POOL_SIZE = SHARD.gauge(
    "tradsys_pool_size",
    help="Objects that a pool may keep.",
    labels=(("pool", ("order", "message", "response")),),
)
SPINNING = SHARD.gauge("tradsys_engine_spinning", help="1 if the engine busy-polls.")

# --- worked out when rendered -----------------------------------------------------------------------

SHARD.derive("hft_orders_per_second", "Orders answered in the last second.")
SHARD.derive("tradsys_engine_silence_seconds", "How long ago the engine's loop was last seen to turn.")
SHARD.derive("tradsys_epoch", "Starts of the engine on this journal.")
SHARD.derive("tradsys_published_seq", "Last command that the engine has journalled.")
SHARD.derive("tradsys_durable_seq", "Last command known to be on the disk.")
SHARD.derive("tradsys_unsynced_commands", "Commands journalled but not yet known to be on the disk.")
SHARD.derive("tradsys_replay_lag_commands", "Durable commands that history has not applied yet.")
SHARD.derive("tradsys_readmodel_lag_commands", "Durable commands that the read model does not show yet.")
SHARD.derive("tradsys_poisoned", "1 if a sync has failed: the engine must stop.")
SHARD.derive("tradsys_disk_free_bytes", "Free space of the data directory's file system.")
SHARD.derive("tradsys_disk_size_bytes", "Size of the data directory's file system.")
SHARD.derive("tradsys_sqlite_pragma", "Settings of the read model as SQLite reports them.", ("pragma",))
SHARD.derive(
    "tradsys_settings_info",
    "Always 1; the settings that are words.",
    ("profile", "durability", "spin", "ws_binary_protocol", "sqlite_wal"),
)
SHARD.derive("tradsys_setting", "The settings that are numbers, in the unit of their names.", ("name",))
ENGINE_SPANS = SHARD.counter(
    "tradsys_trace_spans_total",
    help="Spans of traces by their way to the exporter; `dropped`: it, or its receiver, was slow or away.",
    labels=(("outcome", ("handed", "dropped")),),
)
_build_info(SHARD)

WORDS_USED = SHARD.used
"""How many words of the shared page are taken; the page has room for more."""

# ====================================================================================================
# Feed
# ====================================================================================================

FEED = Row("feed", "feed")

CHANNELS = ("price", "book", "book_l3", "trades", "ticker", "candles", "orders", "balances")
PROTOCOLS = ("json_v1", "bin_v1", "bin_v2")
FEED_CLIENTS = FEED.gauge(
    "tradsys_feed_clients", help="Open WebSocket connections.", labels=(("protocol", PROTOCOLS),)
)
FEED_SUBSCRIPTIONS = FEED.gauge(
    "tradsys_feed_subscriptions", help="Subscriptions of all clients.", labels=(("channel", CHANNELS),)
)
FEED_CONNECTS = FEED.counter(
    "tradsys_feed_connects_total",
    help="Attempts to connect; `full`: there were as many connections as allowed.",
    labels=(("outcome", ("accepted", "refused", "full")),),
)
FEED_DISCONNECTS = FEED.counter(
    "tradsys_feed_disconnects_total",
    help="Connections that ended; `slow`: closed because the client did not read (4008).",
    labels=(("reason", ("client", "slow", "error", "token", "shutdown")),),
)
FEED_MESSAGES = FEED.counter(
    "tradsys_feed_messages_total", help="Messages sent to clients.", labels=(("protocol", PROTOCOLS),)
)
FEED_BYTES = FEED.counter(
    "tradsys_feed_bytes_total", help="Payload bytes sent to clients.", labels=(("protocol", PROTOCOLS),)
)
FEED_DURATION = FEED.histogram(
    _seconds("tradsys_feed_delay_seconds", STAGE_BOUNDS_NS),
    _microseconds("hft_websocket_latency_microseconds"),
    help="From the journalled event until its message is handed to the first client's socket.",
    bounds=STAGE_BOUNDS_NS,
)
FEED_CONFLATED = FEED.counter(
    "tradsys_feed_conflated_total",
    help="Updates that a slow client got merged into a later one.",
    labels=(("channel", CHANNELS),),
)
FEED_DROPPED = FEED.counter(
    "tradsys_feed_dropped_total",
    help="Messages that a client was too slow for; the sequence numbers tell it.",
    labels=(("channel", CHANNELS),),
)
FEED_RESYNCS = FEED.counter(
    "tradsys_feed_resyncs_total",
    help="Gaps that clients asked to have healed: `filled` from memory, or by a `snapshot`.",
    labels=(("outcome", ("filled", "snapshot")),),
)
FEED_REQUESTS = FEED.counter(
    "tradsys_feed_requests_total",
    help="Requests of clients by their answer.",
    labels=(
        (
            "op",
            (
                "auth",
                "subscribe",
                "unsubscribe",
                "resync",
                "ping",
                "place",
                "cancel",
                "cancel_on_disconnect",
                "other",
            ),
        ),
        ("outcome", ("ok", "error")),
    ),
)
FEED_POOL = FEED.counter(
    "tradsys_feed_pool_takes_total",
    help="Message buffers taken; a miss made a new one.",
    labels=(("outcome", ("hit", "miss")),),
)
FEED_TURN_COMMANDS = FEED.histogram(
    Shown("tradsys_feed_turn_commands", 1, BATCH_BOUNDS),
    help="Commands whose changes went out together.",
    bounds=BATCH_BOUNDS,
)
FEED_SEQ = FEED.gauge("tradsys_feed_seq", help="Last command that the streams show.")
FEED_PROCESS = _process(FEED, "feed")
FEED_SPANS = FEED.counter(
    "tradsys_feed_trace_spans_total",
    help="Spans of traces by their way to the exporter; `dropped`: it, or its receiver, was slow or away.",
    labels=(("outcome", ("handed", "dropped")),),
)
FEED.derive("hft_messages_per_second", "Messages sent to WebSocket clients in the last second.")
FEED.derive("tradsys_feed_lag_commands", "Published commands that the streams do not show yet.")
_build_info(FEED)

# ====================================================================================================
# Gateway
# ====================================================================================================

GATEWAY = Row("gateway", "gateway")

GRPC_METHODS = (
    *("PlaceOrder", "CancelOrder", "ReplaceOrder", "GetOrder", "ListOrders", "Trade", "StreamEvents"),
    "other",
)
GRPC_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""The status codes of gRPC, in the order of their numbers."""
GATEWAY_CALLS = GATEWAY.counter(
    "tradsys_gateway_calls_total",
    help="Ended calls by method and gRPC status.",
    labels=(("method", GRPC_METHODS), ("code", GRPC_CODES)),
)
GATEWAY_DURATION = GATEWAY.histogram(
    _seconds("tradsys_gateway_call_duration_seconds", DISK_BOUNDS_NS),
    help="Unary calls from their first byte to their answer.",
    bounds=DISK_BOUNDS_NS,
    labels=(("method", GRPC_METHODS[:5]),),
)
GATEWAY_STREAMS = GATEWAY.gauge(
    "tradsys_gateway_streams", help="Open streams.", labels=(("method", ("Trade", "StreamEvents")),)
)
GATEWAY_STREAM_MESSAGES = GATEWAY.counter(
    "tradsys_gateway_stream_messages_total",
    help="Messages of streams; `in` from clients.",
    labels=(("method", ("Trade", "StreamEvents")), ("direction", ("in", "out"))),
)
GATEWAY_BATCH_COMMANDS = GATEWAY.histogram(
    Shown("tradsys_gateway_batch_commands", 1, BATCH_BOUNDS),
    help="Commands gathered into one request to the engine.",
    bounds=BATCH_BOUNDS,
)
GATEWAY_BATCH_DURATION = GATEWAY.histogram(
    _seconds("tradsys_gateway_batch_duration_seconds", DISK_BOUNDS_NS),
    help="One request to the engine, there and back.",
    bounds=DISK_BOUNDS_NS,
)
GATEWAY_BATCHES = GATEWAY.counter(
    "tradsys_gateway_batches_total",
    help="Requests to the engine; `unknown`: the connection ended before the answer.",
    labels=(("outcome", ("answered", "refused", "unknown")),),
)
GATEWAY_WAITING = GATEWAY.gauge(
    "tradsys_gateway_waiting_commands", help="Commands that wait to be sent to the engine."
)
GATEWAY_CONNECTIONS = GATEWAY.gauge(
    "tradsys_gateway_connections",
    help="Connections: of clients to the gateway, of it to engines, and to feeds that tell it a journal.",
    labels=(("peer", ("client", "engine", "feed")),),
)
GATEWAY_PROCESS = _process(GATEWAY, "gateway")
GATEWAY_SPANS = GATEWAY.counter(
    "tradsys_gateway_trace_spans_total",
    help="Spans of traces by their way to the exporter; `dropped`: it, or its receiver, was slow or away.",
    labels=(("outcome", ("handed", "dropped")),),
)
_build_info(GATEWAY)

# ====================================================================================================
# Query
# ====================================================================================================

QUERY = Row("query", "query")
"""One such row for each worker, added up when shown; the parent process has a row, too."""

QUERY_ROUTES = ("orders", "order", "by_client", "fills", "trades", "candles", "book", "console", "other")
QUERY_REQUESTS = QUERY.counter(
    "tradsys_query_requests_total",
    help="Requests by route and class of status.",
    labels=(("route", QUERY_ROUTES), ("status", ("2xx", "3xx", "4xx", "5xx"))),
)
QUERY_DURATION = QUERY.histogram(
    _seconds("tradsys_query_duration_seconds", DISK_BOUNDS_NS),
    help="Requests from the start of their handler to the answer.",
    bounds=DISK_BOUNDS_NS,
    labels=(("route", QUERY_ROUTES),),
)
QUERY_PROCESS = _process(QUERY, "query")
QUERY.derive("tradsys_query_workers", "Workers that answer.")
QUERY.derive("tradsys_query_lag_commands", "Durable commands that an answer does not show yet.")
QUERY_SPANS = QUERY.counter(
    "tradsys_query_trace_spans_total",
    help="Spans of traces by their way to the exporter; `dropped`: it, or its receiver, was slow or away.",
    labels=(("outcome", ("handed", "dropped")),),
)
_build_info(QUERY)

ROWS = (SHARD, FEED, GATEWAY, QUERY)
