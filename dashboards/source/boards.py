"""The dashboards: which questions each one answers, and with which queries."""

from __future__ import annotations

from dashboards.source.grafana import AMBER, BLUE, GREEN, RED, Board, Panel, Query, Row, q

ORDER_TARGET_US, WS_TARGET_US, DB_TARGET_US = 100, 50, 1000
"""The targets drawn as lines; those of loadtests/slo.json, which a test compares."""

LEFT_OK, LEFT_LOW = 0.5, 0.2
"""Parts of an error budget that are left."""


def rate(metric: str, by: str = "", more: str = "") -> str:
    summed = f"sum by ({by}) " if by else "sum"
    return f"{summed}(rate({metric}{{HERE{more}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str = "", more: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    buckets = f"rate({histogram}_bucket{{HERE{more}}}[$__rate_interval])"
    return f"histogram_quantile({share:g}, sum by ({labels}) ({buckets}))"


def quantiles(histogram: str, more: str = "") -> tuple[Query, ...]:
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9"))
    return tuple(q(quantile(share, histogram, more=more), name) for share, name in shares)


def mean(histogram: str, by: str, more: str = "") -> str:
    return f"{rate(histogram + '_sum', by, more)} / {rate(histogram + '_count', by, more)}"


# --- overview ---------------------------------------------------------------------------------------

READY = Panel(
    "Processes ready",
    "Whether each process says that work may come. An engine counts as not ready while it recovers, drains, "
    "or when its journal has failed.",
    "short",
    (q("min by (process) (tradsys_process_ready{HERE})", "{{process}}"),),
    kind="stat",
    words=((0, "not ready", RED), (1, "ready", GREEN)),
    width=8,
)

OVERVIEW = Board(
    "tradsys-overview",
    "tradsys · overview",
    "Is the venue well: rate, errors and duration of orders, of the streams and of the stores.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Orders",
                    "Orders answered per second, as history counted them in the last second.",
                    "ops",
                    (q("sum(hft_orders_per_second{HERE})", "orders"),),
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Order p99",
                    "99 of 100 orders took no longer inside the engine, from the start of their handler "
                    "until the reply was handed over. The objective is 100 µs.",
                    "µs",
                    (q(quantile(0.99, "hft_order_latency_microseconds"), "p99"),),
                    kind="stat",
                    thresholds=((ORDER_TARGET_US, AMBER), (2.5 * ORDER_TARGET_US, RED)),
                    width=4,
                ),
                Panel(
                    "Failed requests",
                    "Part of the engine's requests that were answered with 5xx: the venue's own failures.",
                    "percentunit",
                    (
                        q(
                            rate("tradsys_http_requests_total", more=', status="5xx"')
                            + " / "
                            + rate("tradsys_http_requests_total"),
                            "5xx",
                        ),
                    ),
                    kind="stat",
                    thresholds=((0.0001, AMBER), (0.001, RED)),
                    decimals=3,
                    width=4,
                ),
                Panel(
                    "Not yet on the disk",
                    "Age of the oldest command that a power cut would take back.",
                    "s",
                    (q("max(tradsys_durable_lag_seconds{HERE})", "lag"),),
                    kind="stat",
                    thresholds=((0.05, AMBER), (0.25, RED)),
                    width=4,
                ),
                READY,
            ),
            height=5,
        ),
        Row(
            "Orders",
            (
                Panel(
                    "Order latency",
                    "Inside the engine. The dashed line is the objective for p99: 100 µs.",
                    "µs",
                    quantiles("hft_order_latency_microseconds"),
                    thresholds=((ORDER_TARGET_US, RED),),
                    width=12,
                ),
                Panel(
                    "Commands",
                    "What clients asked for and what became of it. A refused command is normal business, "
                    "a repeated one is a retry that was answered from memory.",
                    "ops",
                    (
                        q(
                            rate("tradsys_commands_total", "type, outcome") + " > 0",
                            "{{type}} {{outcome}}",
                        ),
                    ),
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Where an order's time goes",
                    "Mean time of each stage; together they are about the mean order.",
                    "s",
                    (q(mean("tradsys_stage_duration_seconds", "stage"), "{{stage}}"),),
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Errors and timeouts",
                    "Answers with an error, by its code, and requests cut off or too late. 1001 and 1020 "
                    "are the venue's own, all others are told to the client that caused them.",
                    "ops",
                    (
                        q(rate("hft_errors_total", "code") + " > 0", "{{code}}"),
                        q(rate("hft_timeouts_total", "kind"), "timeout: {{kind}}"),
                    ),
                    width=12,
                ),
            ),
        ),
        Row(
            "Streams and stores",
            (
                Panel(
                    "Event to WebSocket client",
                    "From the journalled event until its message is handed to the first client's socket. The "
                    "dashed line is the objective for p99: 50 µs.",
                    "µs",
                    quantiles("hft_websocket_latency_microseconds"),
                    thresholds=((WS_TARGET_US, RED),),
                    width=8,
                ),
                Panel(
                    "WebSocket messages",
                    "Messages sent to clients per second.",
                    "ops",
                    (q("sum(hft_messages_per_second{HERE})", "messages"),),
                    width=8,
                ),
                Panel(
                    "Stores, p95",
                    "An append to the journal, and the read model's statements. The dashed line is the "
                    "objective for p95: 1 ms.",
                    "µs",
                    (
                        q(
                            quantile(0.95, "hft_database_latency_microseconds", "operation"),
                            "{{operation}}",
                        ),
                    ),
                    thresholds=((DB_TARGET_US, RED),),
                    width=8,
                ),
                Panel(
                    "How far the followers are behind",
                    "Commands that a follower has not taken in yet. Some thousands under load are normal; "
                    "growing without end is not.",
                    "short",
                    (
                        q("max(tradsys_replay_lag_commands{HERE})", "history"),
                        q("max(tradsys_readmodel_lag_commands{HERE})", "read model"),
                        q("max(tradsys_feed_lag_commands{HERE})", "feed"),
                    ),
                    thresholds=((100_000, RED),),
                    width=12,
                ),
                Panel(
                    "Connections",
                    "Open connections: REST at the engine, WebSockets at feed, gRPC at the gateway.",
                    "short",
                    (
                        q("sum(hft_active_connections{HERE})", "REST"),
                        q("sum(tradsys_feed_clients{HERE})", "WebSocket"),
                        q('sum(tradsys_gateway_connections{HERE, peer="client"})', "gRPC"),
                    ),
                    stacked=True,
                    width=12,
                ),
            ),
        ),
    ),
)

# --- objectives -------------------------------------------------------------------------------------

JOB = 'job=~"$job"'
"""The recorded series are of a job, not of an instance: an objective outlives the pods that serve it."""


def burn(window: str) -> str:
    return (
        f"max by (objective) (tradsys:slo_errors:ratio_rate{window}{{{JOB}}})"
        " / on (objective) max by (objective) (1 - tradsys:slo_target:ratio)"
    )


SLO = Board(
    "tradsys-slo",
    "tradsys · objectives",
    "Are the promises kept, and how fast is what may fail used up.",
    (
        Row(
            "Objectives of loadtests/slo.json",
            (
                Panel(
                    "Good events, last hour",
                    "Part of orders, messages, statements and requests that kept their objective; no "
                    "traffic gives no value.",
                    "percentunit",
                    (
                        q(
                            f"1 - max by (objective) (tradsys:slo_errors:ratio_rate1h{{{JOB}}})",
                            "{{objective}}",
                        ),
                    ),
                    kind="stat",
                    maximum=1,
                    decimals=3,
                    width=12,
                ),
                Panel(
                    "Error budget left",
                    "Of what may fail in the window of the objectives (28 days); below 0 the objective "
                    "is missed.",
                    "percentunit",
                    (q(f"min by (objective) (tradsys:slo_budget_left:ratio{{{JOB}}})", "{{objective}}"),),
                    kind="bargauge",
                    thresholds=((LEFT_LOW, AMBER), (LEFT_OK, GREEN)),
                    minimum=-1,
                    maximum=1,
                    decimals=1,
                    width=12,
                ),
            ),
        ),
        Row(
            "How fast the budget burns",
            (
                Panel(
                    "Burn rate over an hour",
                    "1 uses up exactly the budget by the end of the window. Above 14.4 for an hour and for "
                    "5 minutes somebody is woken.",
                    "none",
                    (q(burn("1h"), "{{objective}}"),),
                    thresholds=((1, AMBER), (14.4, RED)),
                    decimals=1,
                    width=12,
                ),
                Panel(
                    "Burn rate over six hours",
                    "Above 6 for six hours and for 30 minutes somebody is woken.",
                    "none",
                    (q(burn("6h"), "{{objective}}"),),
                    thresholds=((1, AMBER), (6, RED)),
                    decimals=1,
                    width=12,
                ),
                Panel(
                    "Burn rate over three days",
                    "Above 1 for three days and for six hours there is a ticket: the objective will "
                    "be missed.",
                    "none",
                    (q(burn("3d"), "{{objective}}"),),
                    thresholds=((1, RED),),
                    decimals=1,
                    width=12,
                ),
                Panel(
                    "Bad events, five minutes",
                    "Part of the events that did not keep their objective.",
                    "percentunit",
                    (
                        q(
                            f"max by (objective) (tradsys:slo_errors:ratio_rate5m{{{JOB}}})",
                            "{{objective}}",
                        ),
                    ),
                    maximum=1,
                    width=12,
                ),
            ),
        ),
    ),
)

# --- engine and journal -----------------------------------------------------------------------------

ENGINE = Board(
    "tradsys-engine-journal",
    "tradsys · engine and journal",
    "What the engine does with each command, and how safe the journal is.",
    (
        Row(
            "Engine",
            (
                Panel(
                    "Stages, p99",
                    "`apply` is idempotency, risk and matching; `journal` is one write.",
                    "s",
                    (q(quantile(0.99, "tradsys_stage_duration_seconds", "stage"), "{{stage}}"),),
                    width=8,
                ),
                Panel(
                    "Commands in one write",
                    "Single orders are batches of one. Large batches are how many orders a second are "
                    "reached.",
                    "short",
                    (
                        q(quantile(0.5, "tradsys_batch_commands"), "p50"),
                        q(quantile(0.99, "tradsys_batch_commands"), "p99"),
                        q(
                            rate("tradsys_batch_commands_sum") + " / " + rate("tradsys_batch_commands_count"),
                            "mean",
                        ),
                    ),
                    width=8,
                ),
                Panel(
                    "Turns of the loop",
                    "`busy` turns found work, `waited` ones slept until there was some. Many empty turns are "
                    "normal only where the engine busy-polls.",
                    "ops",
                    (q(rate("tradsys_loop_turns_total", "kind"), "{{kind}}"),),
                    width=8,
                ),
                Panel(
                    "Requests",
                    "Answers of the engine by class of status; 3xx send a client to query.",
                    "ops",
                    (q(rate("tradsys_http_requests_total", "status"), "{{status}}"),),
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Tokens",
                    "How bearer tokens were judged. `limited` ones were new and too many at once: a client "
                    "that makes a token for each request, or somebody who guesses.",
                    "ops",
                    (q(rate("tradsys_tokens_total", "outcome"), "{{outcome}}"),),
                    width=8,
                ),
                Panel(
                    "What the engine remembers",
                    "Orders that rest or wait, and client order ids that make a retry safe.",
                    "short",
                    (
                        q("sum(tradsys_open_orders{HERE})", "open orders"),
                        q("sum(tradsys_idempotency_keys{HERE})", "client order ids"),
                    ),
                    width=8,
                ),
                Panel(
                    "Forgotten too early",
                    "Client order ids that were forgotten before their hour was over, because the cap was "
                    "reached: a late retry of theirs would be a new order.",
                    "ops",
                    (q(rate("tradsys_idempotency_evicted_total"), "evicted"),),
                    thresholds=((0.1, RED),),
                    width=8,
                ),
                Panel(
                    "Silence of the engine",
                    "How long ago its loop was last seen to turn. It should stay below a second.",
                    "s",
                    (q("max(tradsys_engine_silence_seconds{HERE})", "silence"),),
                    thresholds=((5, RED),),
                    width=8,
                ),
                Panel(
                    "Starts of the engine",
                    "Each start begins an epoch; streams resynchronize then.",
                    "short",
                    (q("max(tradsys_epoch{HERE})", "epoch"),),
                    kind="stat",
                    width=8,
                ),
            ),
        ),
        Row(
            "Journal",
            (
                Panel(
                    "Writes",
                    "Frames appended to the journal, one for each batch.",
                    "ops",
                    (q(rate("tradsys_journal_frames_total"), "frames"),),
                    width=8,
                ),
                Panel(
                    "Bytes",
                    "Bytes appended to the journal.",
                    "Bps",
                    (q(rate("tradsys_journal_bytes_total"), "bytes"),),
                    width=8,
                ),
                Panel(
                    "Syncs",
                    "One fdatasync by history. The engine waits for none of them unless the venue is "
                    "durable.",
                    "s",
                    quantiles("tradsys_sync_duration_seconds"),
                    thresholds=((0.25, RED),),
                    width=8,
                ),
                Panel(
                    "Not yet on the disk",
                    "Age of the oldest command that a power cut would take back, and how many there are.",
                    "s",
                    (q("max(tradsys_durable_lag_seconds{HERE})", "age"),),
                    thresholds=((0.25, RED),),
                    width=8,
                ),
                Panel(
                    "Commands not yet on the disk",
                    "Published minus durable sequence number.",
                    "short",
                    (q("max(tradsys_unsynced_commands{HERE})", "commands"),),
                    width=8,
                ),
                Panel(
                    "Syncs by the engine itself",
                    "Normal in a durable venue. In others it means that history was more than 250 ms late.",
                    "ops",
                    (q(rate("tradsys_engine_syncs_total"), "syncs"),),
                    width=8,
                ),
                Panel(
                    "Journal trusted",
                    "Whether a write or sync has failed: then the engine ends and recovers.",
                    "short",
                    (q("max(tradsys_poisoned{HERE})", "journal"),),
                    kind="stat",
                    words=((0, "trusted", GREEN), (1, "failed", RED)),
                    width=4,
                ),
                Panel(
                    "Replay mismatches",
                    "History applies each command again and compares the events. Anything but 0 says "
                    "that this "
                    "release does not reproduce the journal.",
                    "short",
                    (q("max(tradsys_replay_mismatches_total{HERE})", "mismatches"),),
                    kind="stat",
                    thresholds=((1, RED),),
                    width=4,
                ),
                Panel(
                    "Free disk",
                    "Part of the data directory's file system that is free.",
                    "percentunit",
                    (
                        q(
                            "min(tradsys_disk_free_bytes{HERE} / tradsys_disk_size_bytes{HERE})",
                            "free",
                        ),
                    ),
                    kind="stat",
                    thresholds=((0.1, AMBER), (0.2, GREEN)),
                    maximum=1,
                    width=4,
                ),
                Panel(
                    "Snapshots",
                    "Snapshots made and verified, or failed; a start replays what came after the newest.",
                    "short",
                    (q("sum by (outcome) (tradsys_snapshots_total{HERE})", "{{outcome}}"),),
                    kind="stat",
                    width=6,
                ),
                Panel(
                    "To replay at a start",
                    "Commands behind the newest verified snapshot.",
                    "short",
                    (q("max(tradsys_published_seq{HERE} - tradsys_snapshot_seq{HERE})", "commands"),),
                    kind="stat",
                    thresholds=((1_000_000, AMBER), (2_000_000, RED)),
                    width=6,
                ),
                Panel(
                    "Snapshot time",
                    "How long the newest snapshot took to write; history makes it, nobody waits for it.",
                    "s",
                    (q("max(tradsys_snapshot_seconds{HERE})", "snapshot"),),
                    width=12,
                ),
                Panel(
                    "Segments removed",
                    "Journal segments that nothing needs any more.",
                    "short",
                    (q("sum(tradsys_journal_segments_retired_total{HERE})", "segments"),),
                    width=12,
                ),
            ),
        ),
        Row(
            "Read model",
            (
                Panel(
                    "Commands taken in",
                    "Per second: applied again by history, and written to the read model.",
                    "ops",
                    (
                        q(rate("tradsys_replayed_commands_total"), "replayed"),
                        q(rate("tradsys_readmodel_commands_total"), "read model"),
                    ),
                    width=8,
                ),
                Panel(
                    "Transactions",
                    "One holds up to 1,000 commands.",
                    "s",
                    quantiles("tradsys_readmodel_transaction_seconds"),
                    width=8,
                ),
                Panel(
                    "Statements, p95",
                    "One get; one inserted or updated row, as the mean of its batch. The dashed line is "
                    "the objective: 1 ms.",
                    "s",
                    (
                        q(
                            quantile(0.95, "tradsys_readmodel_statement_seconds", "statement"),
                            "{{statement}}",
                        ),
                    ),
                    thresholds=((DB_TARGET_US / 1e6, RED),),
                    width=8,
                ),
            ),
        ),
    ),
)

# --- streams ----------------------------------------------------------------------------------------

STREAMS = Board(
    "tradsys-streams",
    "tradsys · streams and reads",
    "WebSocket clients of feed, gRPC clients of the gateway, readers of query.",
    (
        Row(
            "Feed",
            (
                Panel(
                    "Clients",
                    "Open WebSockets by what they speak.",
                    "short",
                    (q("sum by (protocol) (tradsys_feed_clients{HERE})", "{{protocol}}"),),
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Subscriptions",
                    "By channel, of all clients.",
                    "short",
                    (q("sum by (channel) (tradsys_feed_subscriptions{HERE})", "{{channel}}"),),
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Event to client",
                    "Until the message is handed to the first client's socket. The dashed line is the "
                    "objective for p99: 50 µs.",
                    "s",
                    quantiles("tradsys_feed_delay_seconds"),
                    thresholds=((WS_TARGET_US / 1e6, RED),),
                    width=8,
                ),
                Panel(
                    "Messages",
                    "Sent to clients, by protocol.",
                    "ops",
                    (q(rate("tradsys_feed_messages_total", "protocol"), "{{protocol}}"),),
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Bytes",
                    "Payload sent to clients, by protocol.",
                    "Bps",
                    (q(rate("tradsys_feed_bytes_total", "protocol"), "{{protocol}}"),),
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Behind the engine",
                    "Published commands that the streams do not show yet.",
                    "short",
                    (q("max(tradsys_feed_lag_commands{HERE})", "commands"),),
                    thresholds=((10_000, RED),),
                    width=8,
                ),
                Panel(
                    "Slow clients",
                    "Updates merged or left out because somebody did not read; the client learns of it by "
                    "the sequence numbers.",
                    "ops",
                    (
                        q(rate("tradsys_feed_conflated_total", "channel"), "merged: {{channel}}"),
                        q(rate("tradsys_feed_dropped_total", "channel"), "left out: {{channel}}"),
                    ),
                    width=8,
                ),
                Panel(
                    "Gaps healed",
                    "Clients that asked for what they had missed.",
                    "ops",
                    (q(rate("tradsys_feed_resyncs_total", "outcome"), "{{outcome}}"),),
                    width=8,
                ),
                Panel(
                    "Comings and goings",
                    "Connections per second, and why they ended; `slow` ones were closed with 4008.",
                    "ops",
                    (
                        q(rate("tradsys_feed_connects_total", "outcome"), "connect: {{outcome}}"),
                        q(rate("tradsys_feed_disconnects_total", "reason"), "end: {{reason}}"),
                    ),
                    width=8,
                ),
                Panel(
                    "Requests over WebSockets",
                    "What clients asked for, by answer.",
                    "ops",
                    (
                        q(
                            rate("tradsys_feed_requests_total", "op, outcome") + " > 0",
                            "{{op}} {{outcome}}",
                        ),
                    ),
                    width=12,
                ),
                Panel(
                    "Commands in one turn",
                    "Commands whose changes went out together; more under load.",
                    "short",
                    (
                        q(quantile(0.5, "tradsys_feed_turn_commands"), "p50"),
                        q(quantile(0.99, "tradsys_feed_turn_commands"), "p99"),
                    ),
                    width=12,
                ),
            ),
        ),
        Row(
            "Gateway",
            (
                Panel(
                    "Calls",
                    "Ended gRPC calls by method and status.",
                    "ops",
                    (
                        q(
                            rate("tradsys_gateway_calls_total", "method, code") + " > 0",
                            "{{method}} {{code}}",
                        ),
                    ),
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Calls, p99",
                    "Unary calls, from the first byte to the answer.",
                    "s",
                    (q(quantile(0.99, "tradsys_gateway_call_duration_seconds", "method"), "{{method}}"),),
                    width=8,
                ),
                Panel(
                    "Commands gathered",
                    "In one request to the engine.",
                    "short",
                    (
                        q(quantile(0.5, "tradsys_gateway_batch_commands"), "p50"),
                        q(quantile(0.99, "tradsys_gateway_batch_commands"), "p99"),
                    ),
                    width=8,
                ),
                Panel(
                    "To the engine and back",
                    "One request with what was gathered.",
                    "s",
                    quantiles("tradsys_gateway_batch_duration_seconds"),
                    width=8,
                ),
                Panel(
                    "Requests to the engine",
                    "`unknown` ones ended without an answer; their commands may have been done.",
                    "ops",
                    (q(rate("tradsys_gateway_batches_total", "outcome"), "{{outcome}}"),),
                    width=8,
                ),
                Panel(
                    "Waiting and open",
                    "Commands that wait to be sent, open streams, and connections.",
                    "short",
                    (
                        q("sum(tradsys_gateway_waiting_commands{HERE})", "waiting commands"),
                        q("sum by (method) (tradsys_gateway_streams{HERE})", "stream {{method}}"),
                        q("sum by (peer) (tradsys_gateway_connections{HERE})", "connections: {{peer}}"),
                    ),
                    width=8,
                ),
                Panel(
                    "Messages of streams",
                    "`in` are commands of clients, `out` what they were told.",
                    "ops",
                    (
                        q(
                            rate("tradsys_gateway_stream_messages_total", "method, direction"),
                            "{{method}} {{direction}}",
                        ),
                    ),
                    width=24,
                ),
            ),
        ),
        Row(
            "Query",
            (
                Panel(
                    "Requests",
                    "By route and class of status.",
                    "ops",
                    (
                        q(
                            rate("tradsys_query_requests_total", "route, status") + " > 0",
                            "{{route}} {{status}}",
                        ),
                    ),
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Requests, p99",
                    "From the start of the handler to the answer.",
                    "s",
                    (q(quantile(0.99, "tradsys_query_duration_seconds", "route"), "{{route}}"),),
                    width=8,
                ),
                Panel(
                    "Behind the journal",
                    "Durable commands that an answer does not show yet.",
                    "short",
                    (q("max(tradsys_query_lag_commands{HERE})", "commands"),),
                    thresholds=((100_000, RED),),
                    width=8,
                ),
            ),
        ),
    ),
)

# --- runtime ----------------------------------------------------------------------------------------

RUNTIME = Board(
    "tradsys-runtime",
    "tradsys · runtime",
    "Use, saturation and errors of what the processes stand on: CPU, memory, files, garbage collection.",
    (
        Row(
            "CPU and memory",
            (
                Panel(
                    "CPU",
                    "CPUs in use by each process. An engine that busy-polls always uses one.",
                    "short",
                    (q(rate("tradsys_process_cpu_seconds_total", "process"), "{{process}}"),),
                    stacked=True,
                    decimals=2,
                    width=8,
                ),
                Panel(
                    "Memory",
                    "In RAM. History holds a second copy of the engine's state.",
                    "bytes",
                    (
                        q(
                            "sum by (process) (tradsys_process_resident_memory_bytes{HERE})",
                            "{{process}}",
                        ),
                    ),
                    stacked=True,
                    width=8,
                ),
                Panel(
                    "Memory of its limit",
                    "Engine and history together, of `memory_limit`.",
                    "percentunit",
                    (
                        q(
                            "sum(tradsys_process_resident_memory_bytes{HERE, "
                            'process=~"engine|history"}) / '
                            'max(tradsys_setting{HERE, name="memory_limit"})',
                            "used",
                        ),
                    ),
                    thresholds=((0.85, AMBER), (0.95, RED)),
                    width=8,
                ),
                Panel(
                    "Lost the CPU",
                    "Involuntary context switches: somebody else wanted the CPU. Close to 0 where an engine "
                    "has its own.",
                    "ops",
                    (
                        q(
                            rate(
                                "tradsys_process_context_switches_total",
                                "process",
                                ', kind="involuntary"',
                            ),
                            "{{process}}",
                        ),
                    ),
                    width=8,
                ),
                Panel(
                    "Page faults",
                    "`major` ones wait for a disk.",
                    "ops",
                    (
                        q(
                            rate("tradsys_process_page_faults_total", "process, kind"),
                            "{{process}} {{kind}}",
                        ),
                    ),
                    width=8,
                ),
                Panel(
                    "Open files",
                    "File descriptors: connections, journal segments, databases.",
                    "short",
                    (q("sum by (process) (tradsys_process_open_files{HERE})", "{{process}}"),),
                    width=8,
                ),
            ),
        ),
        Row(
            "Python",
            (
                Panel(
                    "Pauses of the engine's collector",
                    "It looks only through young objects, between two requests. The dashed line is the "
                    "promise for p99: 1 ms.",
                    "µs",
                    quantiles("hft_gc_pause_microseconds"),
                    thresholds=((1000, RED),),
                    width=8,
                ),
                Panel(
                    "Time in garbage collection",
                    "Part of the time that each process spends collecting.",
                    "percentunit",
                    (
                        q(rate("tradsys_gc_pause_seconds_sum"), "engine"),
                        q(
                            rate("tradsys_process_gc_pause_seconds_sum", "process", ', process!="engine"'),
                            "{{process}}",
                        ),
                    ),
                    decimals=2,
                    width=8,
                ),
                Panel(
                    "Memory blocks taken",
                    "New blocks that the engine kept, per second; those given back within a second "
                    "are not seen.",
                    "ops",
                    (q(rate("hft_memory_allocations_total"), "blocks"),),
                    width=8,
                ),
                Panel(
                    "Pools: found something",
                    "Part of the takes that got a pooled object; the others made a new one.",
                    "percentunit",
                    (
                        q(
                            rate("tradsys_pool_takes_total", "pool", ', outcome="hit"')
                            + " / "
                            + rate("tradsys_pool_takes_total", "pool"),
                            "{{pool}}",
                        ),
                        q(
                            rate("tradsys_feed_pool_takes_total", "", ', outcome="hit"')
                            + " / "
                            + rate("tradsys_feed_pool_takes_total"),
                            "message",
                        ),
                    ),
                    maximum=1,
                    width=8,
                ),
                Panel(
                    "Log lines given up",
                    "Lines of the engine's access log that were dropped because the log was slow.",
                    "ops",
                    (q(rate("tradsys_log_lines_dropped_total"), "lines"),),
                    thresholds=((1, AMBER),),
                    width=8,
                ),
                Panel(
                    "Threads",
                    "The engine has exactly one.",
                    "short",
                    (q("max by (process) (tradsys_process_threads{HERE})", "{{process}}"),),
                    width=8,
                ),
            ),
        ),
        Row(
            "Disk and versions",
            (
                Panel(
                    "Disk",
                    "Free space where the journal is. Without space for a segment the venue goes "
                    "cancel-only.",
                    "bytes",
                    (
                        q("min(tradsys_disk_free_bytes{HERE})", "free"),
                        q("min(tradsys_disk_size_bytes{HERE})", "size"),
                    ),
                    width=8,
                ),
                Panel(
                    "Up for",
                    "Since each process began.",
                    "s",
                    (
                        q(
                            "time() - max by (process) (tradsys_process_start_time_seconds{HERE} > 0)",
                            "{{process}}",
                        ),
                    ),
                    kind="stat",
                    width=8,
                ),
                Panel(
                    "Versions",
                    "What runs.",
                    "short",
                    (
                        q(
                            "max by (process, shard, version, python, sqlite) (tradsys_build_info{HERE})",
                        ),
                    ),
                    kind="table",
                    minimum=None,
                    width=8,
                ),
            ),
        ),
    ),
)

# --- tuning and pinning -----------------------------------------------------------------------------

TUNING = Board(
    "tradsys-tuning-pinning",
    "tradsys · tuning and pinning",
    "Is the tuning in force, and does the engine have its CPU for itself.",
    (
        Row(
            "CPUs",
            (
                Panel(
                    "CPUs a process may use",
                    "Its affinity mask. A pinned engine has one, but one alone proves nothing: a "
                    "process in the "
                    "rest of a pinned node may have one, too.",
                    "short",
                    (q("max by (process) (tradsys_process_cpus_allowed{HERE})", "{{process}}"),),
                    kind="stat",
                    width=8,
                ),
                Panel(
                    "CPUs of the machine",
                    "Online, as the processes see it.",
                    "short",
                    (q("max(tradsys_process_cpus_online{HERE})", "online"),),
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Its own CPUs",
                    "Whether whoever started a process said that its CPUs are nobody else's.",
                    "short",
                    (
                        q(
                            'max(tradsys_process_cpu_exclusive{HERE, process="engine"})',
                            "engine",
                        ),
                    ),
                    kind="stat",
                    words=((0, "shared", AMBER), (1, "exclusive", GREEN)),
                    width=6,
                ),
                Panel(
                    "Busy-polling",
                    "An engine with its own CPU turns its loop without pause; it answers sooner.",
                    "short",
                    (q("max(tradsys_engine_spinning{HERE})", "engine"),),
                    kind="stat",
                    words=((0, "waits", BLUE), (1, "busy-polls", GREEN)),
                    width=6,
                ),
                Panel(
                    "Engine lost the CPU",
                    "Involuntary context switches of the engine. A pinned one should have next to none.",
                    "ops",
                    (
                        q(
                            rate(
                                "tradsys_process_context_switches_total",
                                more=', process="engine", kind="involuntary"',
                            ),
                            "engine",
                        ),
                    ),
                    thresholds=((50, AMBER),),
                    width=8,
                ),
                Panel(
                    "Throttled",
                    "Part of the time that a process's group waited for its next CPU quota. An engine "
                    "must have "
                    "no quota (whole CPUs, requests equal to limits).",
                    "percentunit",
                    (q(rate("tradsys_process_throttled_seconds_total", "process"), "{{process}}"),),
                    thresholds=((0.01, RED),),
                    width=8,
                ),
                Panel(
                    "Throttled periods",
                    "Periods in which the quota was used up.",
                    "ops",
                    (q(rate("tradsys_process_throttled_periods_total", "process"), "{{process}}"),),
                    width=8,
                ),
                Panel(
                    "Turns without work",
                    "Part of the loop's turns that found nothing: near 1 where the engine busy-polls "
                    "and is idle.",
                    "percentunit",
                    (
                        q(
                            rate("tradsys_loop_turns_total", more=', kind="empty"')
                            + " / "
                            + rate("tradsys_loop_turns_total"),
                            "empty",
                        ),
                    ),
                    maximum=1,
                    width=8,
                ),
                Panel(
                    "CPU of the engine",
                    "In user mode and in the kernel.",
                    "short",
                    (
                        q(
                            rate("tradsys_process_cpu_seconds_total", "mode", ', process="engine"'),
                            "{{mode}}",
                        ),
                    ),
                    stacked=True,
                    thresholds=((1, AMBER),),
                    decimals=2,
                    width=16,
                ),
            ),
        ),
        Row(
            "Tuning in force",
            (
                Panel(
                    "Settings that are words",
                    "As history read them at its start.",
                    "short",
                    (
                        q(
                            "max by (profile, durability, spin, sqlite_wal, ws_binary_protocol) "
                            "(tradsys_settings_info{HERE})",
                        ),
                    ),
                    kind="table",
                    minimum=None,
                    width=12,
                ),
                Panel(
                    "Settings that are numbers",
                    "In the unit of their names (app/SETTINGS.md).",
                    "short",
                    (q("max by (name) (tradsys_setting{HERE})", "{{name}}"),),
                    kind="table",
                    minimum=None,
                    width=6,
                ),
                Panel(
                    "Read model's pragmas",
                    "As SQLite reports them.",
                    "short",
                    (q("max by (pragma) (tradsys_sqlite_pragma{HERE})", "{{pragma}}"),),
                    kind="table",
                    minimum=None,
                    width=6,
                ),
                Panel(
                    "Collector's threshold",
                    "New objects after which a process looks for garbage; `gc_percent` scales the engine's.",
                    "short",
                    (q("max by (process) (tradsys_process_gc_threshold_objects{HERE})", "{{process}}"),),
                    kind="stat",
                    width=12,
                ),
                Panel(
                    "Sizes of the pools",
                    "Objects that a pool of the engine may keep.",
                    "short",
                    (q("max by (pool) (tradsys_pool_size{HERE}) > 0", "{{pool}}"),),
                    kind="stat",
                    width=12,
                ),
                Panel(
                    "Takes from the pools",
                    "Orders in the engine, messages in feed. A miss made a new object.",
                    "ops",
                    (
                        q(rate("tradsys_pool_takes_total", "outcome", ', pool="order"'), "order {{outcome}}"),
                        q(rate("tradsys_feed_pool_takes_total", "outcome"), "message {{outcome}}"),
                    ),
                    width=24,
                ),
            ),
        ),
    ),
)

# --- k6 ---------------------------------------------------------------------------------------------

K6 = Board(
    "tradsys-k6",
    "tradsys · load tests",
    "What k6 sees from outside: run it with `-o experimental-prometheus-rw` and "
    "K6_PROMETHEUS_RW_TREND_STATS=p(50),p(95),p(99),max.",
    (
        Row(
            "Requests",
            (
                Panel(
                    "Requests",
                    "Per second, by answer.",
                    "ops",
                    (q("sum by (status) (rate(k6_http_reqs_total[$__rate_interval]))", "{{status}}"),),
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Latency at the socket",
                    "From the first byte sent to the last one received, worst of all requests' groups.",
                    "s",
                    (
                        q("max(k6_http_req_duration_p50)", "p50"),
                        q("max(k6_http_req_duration_p95)", "p95"),
                        q("max(k6_http_req_duration_p99)", "p99"),
                    ),
                    thresholds=((0.00015, RED),),
                    width=12,
                ),
                Panel(
                    "Failed requests",
                    "Part of the requests that failed; a gate allows next to none.",
                    "percentunit",
                    (q("max(k6_http_req_failed_rate)", "failed"),),
                    thresholds=((0.001, RED),),
                    maximum=1,
                    width=8,
                ),
                Panel(
                    "Checks",
                    "Part of the answers that said what they should.",
                    "percentunit",
                    (q("min by (check) (k6_checks_rate)", "{{check}}"),),
                    maximum=1,
                    width=8,
                ),
                Panel(
                    "Iterations",
                    "Per second: done, and dropped because no virtual user was free. Dropped ones make a run "
                    "void: the load was not the one that was asked for.",
                    "ops",
                    (
                        q("sum(rate(k6_iterations_total[$__rate_interval]))", "done"),
                        q("sum(rate(k6_dropped_iterations_total[$__rate_interval]))", "dropped"),
                    ),
                    width=8,
                ),
                Panel(
                    "Virtual users",
                    "Busy and allowed.",
                    "short",
                    (q("sum(k6_vus)", "busy"), q("sum(k6_vus_max)", "allowed")),
                    width=12,
                ),
                Panel(
                    "Traffic",
                    "Bytes per second between k6 and the venue.",
                    "Bps",
                    (
                        q("sum(rate(k6_data_sent_total[$__rate_interval]))", "sent"),
                        q("sum(rate(k6_data_received_total[$__rate_interval]))", "received"),
                    ),
                    width=12,
                ),
            ),
        ),
        Row(
            "Seen from inside",
            (
                Panel(
                    "Order latency in the engine",
                    "Beside what k6 sees; the difference is network, kernel and HTTP parsing.",
                    "µs",
                    quantiles("hft_order_latency_microseconds"),
                    thresholds=((ORDER_TARGET_US, RED),),
                    width=12,
                ),
                Panel(
                    "Orders answered",
                    "Per second, by the engine's own count.",
                    "ops",
                    (q("sum(hft_orders_per_second{HERE})", "orders"),),
                    width=12,
                ),
            ),
        ),
    ),
)

# --- releases and the operator ------------------------------------------------------------------------

VENUES = "max by (namespace, venue) "

ROLLOUT = Board(
    "tradsys-rollout",
    "tradsys · releases",
    "Where each venue's release is, what its gate said, and how long releases take.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Phase",
                    "Where each venue is. Paused and Failed wait for somebody, while the stable revision "
                    "serves.",
                    "short",
                    (
                        q(
                            "max by (namespace, venue, phase) (tradsys_operator_rollout_phase{HERE} == 1)",
                            "{{venue}}: {{phase}}",
                        ),
                    ),
                    kind="bargauge",
                    width=10,
                ),
                Panel(
                    "Waiting for somebody",
                    "Venues whose release is Paused (no verdict) or Failed (refused or taken back).",
                    "short",
                    (
                        q(
                            "sum(max by (namespace, venue, phase) (tradsys_operator_rollout_phase{HERE, "
                            'phase=~"Paused|Failed"}))',
                            "venues",
                        ),
                    ),
                    kind="stat",
                    thresholds=((1, AMBER),),
                    width=4,
                ),
                Panel(
                    "Engines",
                    "Engines that there should be, in all venues.",
                    "short",
                    (q(f"sum({VENUES}(tradsys_operator_pods{{HERE}}))", "engines"),),
                    kind="stat",
                    width=5,
                ),
                Panel(
                    "With CPUs of their own",
                    "Engines whose exclusive CPUs were seen from inside.",
                    "short",
                    (q(f"sum({VENUES}(tradsys_operator_pods_pinned{{HERE}}))", "pinned"),),
                    kind="stat",
                    width=5,
                ),
            ),
            height=6,
        ),
        Row(
            "Releases",
            (
                Panel(
                    "Phases",
                    "1 while a venue is in a phase; all but Stable pass.",
                    "short",
                    (
                        q(
                            "max by (namespace, venue, phase) (tradsys_operator_rollout_phase{HERE})",
                            "{{venue}}: {{phase}}",
                        ),
                    ),
                    maximum=1,
                    width=12,
                ),
                Panel(
                    "Ended",
                    "Releases that have ended, per second, by how: promoted, refused or taken back.",
                    "ops",
                    (q(rate("tradsys_operator_rollout_duration_seconds_count", "outcome"), "{{outcome}}"),),
                    stacked=True,
                    width=6,
                ),
                Panel(
                    "How long they take",
                    "Mean time from the change of the spec to the end of its release, by how it ended.",
                    "s",
                    (
                        q(
                            mean("tradsys_operator_rollout_duration_seconds", "outcome"),
                            "{{outcome}}",
                        ),
                    ),
                    width=6,
                ),
            ),
        ),
        Row(
            "Gates",
            (
                Panel(
                    "Latency of the candidate",
                    "Of the last gate of each venue, as a part of the stable one's, and what is allowed.",
                    "percentunit",
                    (
                        q(f"{VENUES}(tradsys_operator_gate_latency_ratio{{HERE}})", "{{venue}}"),
                        q(f"{VENUES}(tradsys_operator_gate_latency_ratio_max{{HERE}})", "{{venue}} allowed"),
                    ),
                    width=12,
                ),
                Panel(
                    "Verdicts",
                    "Gates since the operator started, by verdict and reason; Inconclusive is no verdict.",
                    "short",
                    (
                        q(
                            "sum by (verdict, reason) (tradsys_operator_gate_results_total{HERE})",
                            "{{verdict}}: {{reason}}",
                        ),
                    ),
                    width=12,
                ),
            ),
        ),
    ),
    source="tradsys_operator_leader",
)

OPERATOR = Board(
    "tradsys-operator",
    "tradsys · operator",
    "Does the operator do its work: who leads, what it hears, how passes end, what it says of venues.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Leaders",
                    "Operators that hold the lease. None: venues trade on, and nothing puts them right.",
                    "short",
                    (q("sum(tradsys_operator_leader{HERE})", "leaders"),),
                    kind="stat",
                    words=((0, "nobody", RED),),
                    width=6,
                ),
                Panel(
                    "Last heard",
                    "How long ago the leader heard of a watch or ended a pass; it looks at each venue every "
                    "two minutes, and is started again after ten without a word.",
                    "s",
                    (
                        q(
                            "max(tradsys_operator_last_event_age_seconds{HERE} "
                            "and on (job, instance) tradsys_operator_leader{HERE} == 1)",
                            "leader",
                        ),
                    ),
                    kind="stat",
                    thresholds=((240, AMBER), (600, RED)),
                    width=6,
                ),
                Panel(
                    "Due",
                    "Objects that wait for a pass.",
                    "short",
                    (q("sum(tradsys_operator_queue_depth{HERE})", "due"),),
                    kind="stat",
                    width=6,
                ),
                Panel(
                    "Failing passes",
                    "Part of the passes that ended with an error; a conflict is none, it is decided anew.",
                    "percentunit",
                    (
                        q(
                            rate("tradsys_operator_reconciles_total", more=', outcome=~"failed|fault"')
                            + " / "
                            + rate("tradsys_operator_reconciles_total"),
                            "failed",
                        ),
                    ),
                    kind="stat",
                    thresholds=((0.01, AMBER), (0.1, RED)),
                    decimals=1,
                    width=6,
                ),
            ),
            height=5,
        ),
        Row(
            "Passes",
            (
                Panel(
                    "Passes",
                    "Per second, by how they ended. Somebody else's write makes a conflict; failed is the "
                    "API server's answer or none; a fault is the operator's own.",
                    "ops",
                    (q(rate("tradsys_operator_reconciles_total", "kind, outcome"), "{{kind}} {{outcome}}"),),
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "How long a pass takes",
                    "Reading everything, deciding, and writing what differs.",
                    "s",
                    (
                        q(
                            quantile(0.5, "tradsys_operator_reconcile_duration_seconds", "kind"),
                            "{{kind}} p50",
                        ),
                        q(
                            quantile(0.99, "tradsys_operator_reconcile_duration_seconds", "kind"),
                            "{{kind}} p99",
                        ),
                    ),
                    width=12,
                ),
                Panel(
                    "Queue",
                    "Objects that are due, by operator.",
                    "short",
                    (q("sum by (instance) (tradsys_operator_queue_depth{HERE})", "{{instance}}"),),
                    width=8,
                ),
                Panel(
                    "Memory",
                    "Resident, by operator. The chart allows 256 MiB.",
                    "bytes",
                    (q("max by (instance) (process_resident_memory_bytes{HERE})", "{{instance}}"),),
                    width=8,
                ),
                Panel(
                    "CPU",
                    "CPUs that an operator uses.",
                    "short",
                    (
                        q(
                            "sum by (instance) (rate(process_cpu_seconds_total{HERE}[$__rate_interval]))",
                            "{{instance}}",
                        ),
                    ),
                    width=8,
                ),
            ),
        ),
        Row(
            "What it says of venues",
            (
                Panel(
                    "Conditions that do not hold",
                    "Venues by condition that is False; Paused and Progressing are better so.",
                    "short",
                    (
                        q(
                            "sum by (condition) (max by (namespace, venue, condition) "
                            '(tradsys_operator_condition{HERE, status="False"}))',
                            "{{condition}}",
                        ),
                    ),
                    width=12,
                ),
                Panel(
                    "Knobs that are not in force",
                    "Settings that a process reports otherwise than its Venue asks for.",
                    "short",
                    (q(f"{VENUES}(tradsys_operator_tuning_mismatches{{HERE}})", "{{venue}}"),),
                    thresholds=((1, RED),),
                    width=12,
                ),
            ),
        ),
    ),
    source="tradsys_operator_leader",
)

BOARDS = {
    "overview": OVERVIEW,
    "slo": SLO,
    "engine-journal": ENGINE,
    "streams": STREAMS,
    "runtime": RUNTIME,
    "tuning-pinning": TUNING,
    "k6": K6,
    "rollout": ROLLOUT,
    "operator": OPERATOR,
}
"""By the name of the file in dashboards/."""
OF_THE_OPERATOR = ("rollout", "operator")
"""Those that show the operator's metrics, not a venue's."""
