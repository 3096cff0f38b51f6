"""The resources Venue and GateRun as types: what may be asked for, and what is reported back.

This file is the one source. `crd.py` turns it into the CustomResourceDefinitions (schema, defaults, CEL
rules) and into the field reference; the operator decodes objects into it. A default in v1alpha1 never
changes: revisions are hashes of what differs from the defaults, and a changed default would restart every
venue at an upgrade.

Every string, list and map has a maximum, because the API server prices CEL rules by it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

GROUP = "tradsys.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

SHARDS_MAX = 16
SYMBOLS_MAX = 32
INSTRUMENTS_MAX = SHARDS_MAX * SYMBOLS_MAX


class Rule(Struct, frozen=True):
    """A CEL rule: what must be true, and a message that says what to do."""

    rule: str
    message: str


class Api(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What all parts of a resource share: camelCase on the wire, defaults left out."""

    rules: ClassVar[tuple[Rule, ...]] = ()


def map_of(*keys: str) -> dict[str, Any]:
    """Items of a list are told apart by these fields, so that several writers can share it."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


SET = {"x-kubernetes-list-type": "set"}
TIME = {"format": "date-time"}

Name = Annotated[str, Meta(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
ObjectName = Annotated[str, Meta(min_length=1, max_length=253)]
Symbol = Annotated[str, Meta(min_length=3, max_length=16, pattern="^[A-Z0-9]+-[A-Z0-9]+$")]
Decimal = Annotated[str, Meta(min_length=1, max_length=24, pattern=r"^[0-9]+(\.[0-9]+)?$")]
BasisPoints = Annotated[str, Meta(min_length=1, max_length=8, pattern=r"^[0-9]+(\.[0-9]{1,2})?$")]
Memory = Annotated[str, Meta(min_length=2, max_length=12, pattern="^[1-9][0-9]*(Ki|Mi|Gi)$")]
SharedCpu = Annotated[str, Meta(min_length=1, max_length=6, pattern="^([1-9][0-9]*m|[1-9][0-9]*)$")]
Image = Annotated[str, Meta(min_length=3, max_length=512)]
Url = Annotated[str, Meta(min_length=8, max_length=512, pattern="^https?://")]
Label = Annotated[str, Meta(max_length=63)]
Time = Annotated[str, Meta(max_length=32, extra_json_schema=TIME)]
Word = Annotated[str, Meta(max_length=64)]
Reason = Annotated[str, Meta(max_length=128)]
Text = Annotated[str, Meta(max_length=4096)]
Percent = Annotated[str, Meta(min_length=1, max_length=8, pattern=r"^(100|[0-9]{1,2})(\.[0-9]{1,4})?$")]

# --- Venue: what is asked for -----------------------------------------------------------------------


class Shard(Api, frozen=True, kw_only=True):
    """One writer with its own journal and volume."""

    rules = (
        Rule("self.name != 'gateway'", "a shard can't be named gateway: the gateway's Service has that name"),
    )

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=8,
            pattern="^[a-z0-9]+$",
            description="Part of order ids and of object names.",
        ),
    ]
    symbols: Annotated[
        list[Symbol],
        Meta(
            min_length=1,
            max_length=SYMBOLS_MAX,
            description="Symbols that this shard matches; each belongs to one shard.",
            extra_json_schema=SET,
        ),
    ]


class Instrument(Api, frozen=True, kw_only=True):
    """A symbol and its rules. Applied by journalled commands."""

    symbol: Annotated[Symbol, Meta(description="BASE-QUOTE.")]
    tick_size: Annotated[Decimal, Meta(description="Increment of prices, in the quote asset.")]
    lot_size: Annotated[Decimal, Meta(description="Increment of quantities, in the base asset.")]
    min_notional: Annotated[Decimal, Meta(description="Least price × quantity, in the quote asset.")] = "0"
    maker_fee_bps: Annotated[BasisPoints, Meta(description="Fee of the resting side, in basis points.")] = "0"
    taker_fee_bps: Annotated[BasisPoints, Meta(description="Fee of the incoming side, in basis points.")] = (
        "0"
    )
    band_percent: Annotated[
        Percent, Meta(description="How far a price may lie from the reference, in percent; 0: no band.")
    ] = "0"


class Gateway(Api, frozen=True, kw_only=True):
    """gRPC, stateless, in front of all shards."""

    replicas: Annotated[int, Meta(ge=0, le=50, description="Pods; 0: no gateway.")] = 2


class EngineResources(Api, frozen=True, kw_only=True):
    """The engine gets whole CPUs: only those can be exclusive."""

    cpu: Annotated[int, Meta(ge=1, le=64, description="Whole CPUs; requests equal limits.")] = 1
    memory: Annotated[Memory, Meta(description="Requests equal limits.")] = "1Gi"


class FeedResources(Api, frozen=True, kw_only=True):
    """Of the container that serves WebSocket streams."""

    cpu: Annotated[SharedCpu, Meta(description="Shared CPU, such as 200m.")] = "200m"
    memory: Annotated[Memory, Meta(description="Requests equal limits.")] = "256Mi"


class HistoryResources(Api, frozen=True, kw_only=True):
    """Of the container that syncs, replays and keeps the read model."""

    cpu: Annotated[SharedCpu, Meta(description="Shared CPU, such as 200m.")] = "200m"
    memory: Annotated[Memory, Meta(description="Requests equal limits.")] = "1Gi"


class QueryResources(Api, frozen=True, kw_only=True):
    """Of the container that answers from the read model."""

    cpu: Annotated[SharedCpu, Meta(description="Shared CPU, such as 100m.")] = "100m"
    memory: Annotated[Memory, Meta(description="Requests equal limits.")] = "256Mi"


class GatewayResources(Api, frozen=True, kw_only=True):
    """Of a gateway pod."""

    cpu: Annotated[SharedCpu, Meta(description="Shared CPU, such as 200m.")] = "200m"
    memory: Annotated[Memory, Meta(description="Requests equal limits.")] = "256Mi"


class Resources(Api, frozen=True, kw_only=True):
    """Requests equal limits on every container, so that the pod is Guaranteed."""

    engine: Annotated[EngineResources, Meta(description="The matching engine.")] = EngineResources()
    feed: Annotated[FeedResources, Meta(description="WebSocket streams.")] = FeedResources()
    history: Annotated[HistoryResources, Meta(description="Journal follower.")] = HistoryResources()
    query: Annotated[QueryResources, Meta(description="Read model.")] = QueryResources()
    gateway: Annotated[GatewayResources, Meta(description="gRPC gateway.")] = GatewayResources()


class Storage(Api, frozen=True, kw_only=True):
    """The volume of each shard. It outlives the pods, the shard and the Venue."""

    rules = (Rule("self == oldSelf", "storage can't be changed: make a new Venue from a backup"),)

    size: Annotated[Memory, Meta(description="Size of each shard's volume.")] = "20Gi"
    class_name: Annotated[
        str, Meta(max_length=253, description="StorageClass; empty: the cluster's default.")
    ] = ""


class SecretKey(Api, frozen=True, kw_only=True):
    """One key of a Secret in the same namespace, mounted as a file and read again when it changes."""

    secret_name: Annotated[ObjectName, Meta(description="Name of the Secret.")]
    key: Annotated[ObjectName, Meta(description="Key in the Secret.")]


class Auth(Api, frozen=True, kw_only=True):
    """What tokens are verified with; exactly one."""

    rules = (
        Rule(
            "has(self.jwks) != has(self.hs256)",
            "give exactly one of auth.jwks and auth.hs256, not both or none",
        ),
    )

    jwks: Annotated[SecretKey | None, Meta(description="Public keys (RS256, ES256, EdDSA).")] = None
    hs256: Annotated[SecretKey | None, Meta(description="A secret of at least 32 bytes (HS256).")] = None


class Gc(Api, frozen=True, kw_only=True):
    """Python's garbage collector."""

    percent: Annotated[int, Meta(ge=10, le=10000, description="Scales the threshold; 100 leaves it.")] = 200
    freeze_after_warmup: Annotated[
        bool, Meta(description="What lives after recovery is never looked at again.")
    ] = True


class MemoryTuning(Api, frozen=True, kw_only=True):
    """Memory of the engine's process."""

    soft_limit_percent: Annotated[
        int, Meta(ge=10, le=99, description="Of the container's limit: what the process may plan with.")
    ] = 85
    malloc_arena_max: Annotated[int, Meta(ge=1, le=64, description="Arenas of glibc's malloc.")] = 2


class Pools(Api, frozen=True, kw_only=True):
    """Preallocated objects."""

    order: Annotated[int, Meta(ge=0, le=1_000_000, description="Order objects.")] = 1000
    message: Annotated[int, Meta(ge=0, le=1_000_000, description="Message buffers.")] = 5000
    response: Annotated[int, Meta(ge=0, le=1_000_000, description="Response buffers.")] = 2000


class Sqlite(Api, frozen=True, kw_only=True):
    """The read model's database."""

    wal: Annotated[bool, Meta(description="Write-ahead log.")] = True
    cache_size_pages: Annotated[
        int, Meta(ge=100, le=10_000_000, description="Page cache of a connection.")
    ] = 10000
    mmap_size_bytes: Annotated[int, Meta(ge=0, le=1 << 40, description="Mapped part of the file.")] = (
        268435456
    )


class WebSocket(Api, frozen=True, kw_only=True):
    """Streams."""

    buffer_size_bytes: Annotated[int, Meta(ge=512, le=1 << 20, description="Buffer of a connection.")] = 4096
    binary_protocol: Annotated[bool, Meta(description="Offer the binary subprotocols.")] = True
    compression_level: Annotated[int, Meta(ge=0, le=9, description="Of JSON streams; 0: none.")] = 1


class Runtime(Api, frozen=True, kw_only=True):
    """Tuning of the processes. Each knob is read back from the running process and reported."""

    profile: Annotated[
        Literal["hft", "baseline"],
        Meta(description="Server and codec; `baseline` is there to be measured against."),
    ] = "hft"
    max_connections: Annotated[
        int, Meta(ge=16, le=1_000_000, description="Open connections of the engine.")
    ] = 10000
    gc: Annotated[Gc, Meta(description="Garbage collector.")] = Gc()
    memory: Annotated[MemoryTuning, Meta(description="Memory.")] = MemoryTuning()
    pools: Annotated[Pools, Meta(description="Object pools.")] = Pools()
    sqlite: Annotated[Sqlite, Meta(description="Read model.")] = Sqlite()
    websocket: Annotated[WebSocket, Meta(description="Streams.")] = WebSocket()


class Tracing(Api, frozen=True, kw_only=True):
    """Traces of requests, by OTLP over HTTP; without an endpoint there are none, at no cost."""

    endpoint: Annotated[
        str,
        Meta(
            max_length=512,
            pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?)?$",
            description="Receiver, such as http://collector.monitoring:4318/v1/traces; its port is opened "
            "for the pods, so it must be the port of the receiver's pods, too.",
        ),
    ] = ""
    one_in: Annotated[int, Meta(ge=1, le=1_000_000, description="One of so many requests is traced.")] = 100


class Pinning(Api, frozen=True, kw_only=True):
    """Exclusive CPUs: asked for by the operator, decided by the node, verified from inside the pod."""

    rules = (
        Rule(
            "self.provider != 'CRIOHighPerformance' || self.runtimeClassName != ''",
            "pinning.provider CRIOHighPerformance needs pinning.runtimeClassName",
        ),
    )

    mode: Annotated[
        Literal["None", "Preferred", "Required"],
        Meta(description="`Required`: a shard is not ready until it is pinned. `Preferred`: reported only."),
    ] = "Preferred"
    spin: Annotated[
        Literal["auto", "always", "never"],
        Meta(description="Busy-polling: `auto` where the CPU is exclusive."),
    ] = "auto"
    provider: Annotated[
        Literal["KubeletStatic", "NRIBalloons", "CRIOHighPerformance"],
        Meta(description="Who gives out CPUs."),
    ] = "KubeletStatic"
    full_physical_cores: Annotated[bool, Meta(description="The node's policy is full-pcpus-only.")] = False
    threads_per_core: Annotated[int, Meta(ge=1, le=8, description="Of the node; with fullPhysicalCores.")] = 2
    runtime_class_name: Annotated[
        str, Meta(max_length=253, description="With provider CRIOHighPerformance.")
    ] = ""
    node_selector: Annotated[
        dict[Annotated[str, Meta(max_length=253)], Label],
        Meta(max_length=32, description="Nodes whose kubelet pins."),
    ] = {}


class ParentRef(Api, frozen=True, kw_only=True):
    """A Gateway that routes attach to."""

    name: Annotated[ObjectName, Meta(description="Name of the Gateway.")]
    namespace: Annotated[str, Meta(max_length=63, description="Its namespace; empty: the Venue's.")] = ""
    section_name: Annotated[str, Meta(max_length=253, description="Its listener; empty: all.")] = ""


class Ingress(Api, frozen=True, kw_only=True):
    """How clients come in."""

    rules = (
        Rule(
            "self.provider != 'Gateway' || (self.host != '' && self.parentRefs.size() > 0)",
            "ingress.provider Gateway needs ingress.host and at least one of ingress.parentRefs",
        ),
        Rule("self.provider != 'Ingress' || self.host != ''", "ingress.provider Ingress needs ingress.host"),
    )

    provider: Annotated[
        Literal["Gateway", "Ingress", "None"],
        Meta(description="`Gateway`: HTTPRoute and GRPCRoute. `Ingress`: paths. `None`: Services only."),
    ] = "None"
    host: Annotated[str, Meta(max_length=253, description="Host name of the venue.")] = ""
    scheme: Annotated[
        Literal["https", "http"], Meta(description="What clients speak; the venue names itself by it.")
    ] = "https"
    parent_refs: Annotated[
        list[ParentRef], Meta(max_length=8, description="Gateways.", extra_json_schema=map_of("name"))
    ] = []
    class_name: Annotated[str, Meta(max_length=253, description="IngressClass; with provider Ingress.")] = ""
    tls_secret_name: Annotated[
        str, Meta(max_length=253, description="Certificate; with provider Ingress.")
    ] = ""


class Monitoring(Api, frozen=True, kw_only=True):
    """Objects for a Prometheus operator, if the cluster has its CRDs."""

    enabled: Annotated[bool, Meta(description="Make PodMonitor and PrometheusRule.")] = False
    labels: Annotated[
        dict[Annotated[str, Meta(max_length=253)], Label],
        Meta(max_length=16, description="Labels that the Prometheus selects by."),
    ] = {}
    namespace: Annotated[
        str,
        Meta(
            max_length=63, description="Where Prometheus runs; it may reach the ops ports. Empty: anywhere."
        ),
    ] = ""


class Objective(Api, frozen=True, kw_only=True):
    """A service level objective."""

    rules = (
        Rule(
            "self.indicator == 'availability' || has(self.thresholdMicroseconds)",
            "a latency objective needs thresholdMicroseconds",
        ),
        Rule(
            "double(self.target) > 0.0 && double(self.target) < 100.0",
            "target is a percentage between 0 and 100",
        ),
    )

    name: Annotated[Name, Meta(description="Name in metrics, rules and status.")]
    indicator: Annotated[
        Literal["order_latency", "ws_latency", "db_latency", "availability"],
        Meta(description="What is measured."),
    ]
    threshold_microseconds: Annotated[
        Annotated[int, Meta(ge=1, le=60_000_000)] | None, Meta(description="Latency that still is good.")
    ] = None
    target: Annotated[Percent, Meta(description="Percentage that must be good.")]


DEFAULT_OBJECTIVES = [
    Objective(name="order-p99", indicator="order_latency", threshold_microseconds=100, target="99"),
    Objective(name="ws-p99", indicator="ws_latency", threshold_microseconds=50, target="99"),
    Objective(name="db-p95", indicator="db_latency", threshold_microseconds=1000, target="95"),
    Objective(name="availability", indicator="availability", target="99.9"),
]


class Slo(Api, frozen=True, kw_only=True):
    """What the venue promises. Rules and alerts are made from it, and a release must keep it."""

    window_days: Annotated[int, Meta(ge=1, le=90, description="Window of the error budget.")] = 28
    objectives: Annotated[
        list[Objective], Meta(max_length=16, description="Objectives.", extra_json_schema=map_of("name"))
    ] = field(default_factory=lambda: list(DEFAULT_OBJECTIVES))


class Compare(Api, frozen=True, kw_only=True):
    """When a candidate is as good as the stable revision."""

    percentile: Annotated[Literal[50, 90, 95, 99], Meta(description="Of the latency that is compared.")] = 99
    max_latency_ratio_percent: Annotated[int, Meta(ge=100, le=1000, description="Candidate over stable.")] = (
        110
    )
    min_throughput_ratio_percent: Annotated[int, Meta(ge=1, le=100, description="Candidate over stable.")] = (
        90
    )
    min_samples: Annotated[int, Meta(ge=1, le=10_000_000, description="Fewer in a round: no verdict.")] = (
        10000
    )
    rounds: Annotated[int, Meta(ge=1, le=10, description="Of each side, in the order A B B A.")] = 3


class K6(Api, frozen=True, kw_only=True):
    """The load of the gate."""

    image: Annotated[Image, Meta(description="Image of k6.")] = "grafana/k6:1.8.1"
    profile: Annotated[Word, Meta(description="Profile of the script: gate or ci.")] = "gate"
    script_config_map: Annotated[
        str, Meta(max_length=253, description="ConfigMap with gate.js; empty: the Venue's name with -k6.")
    ] = ""


class Prometheus(Api, frozen=True, kw_only=True):
    """Where objectives are asked."""

    url: Annotated[Url, Meta(description="Base URL.")]


class Gate(Api, frozen=True, kw_only=True):
    """How a release is judged before it takes traffic."""

    compare: Annotated[Compare, Meta(description="Bounds.")] = Compare()
    pinning: Annotated[
        Literal["None", "Preferred", "Required"],
        Meta(
            description="Of the gate pod. `Preferred` and `Required` need as many spare CPUs as one engine; "
            "`None` needs no spare one: both revisions are compared on shared CPUs."
        ),
    ] = "Preferred"
    timeout_seconds: Annotated[int, Meta(ge=30, le=86400, description="Of one round.")] = 600
    k6: Annotated[K6, Meta(description="Load.")] = K6()
    prometheus: Annotated[
        Prometheus | None, Meta(description="Objectives on the live venue while it bakes.")
    ] = None


class Rollout(Api, frozen=True, kw_only=True):
    """How a new revision gets to the shards."""

    progress_deadline_seconds: Annotated[
        int, Meta(ge=30, le=86400, description="A shard not ready by then: back to the stable revision.")
    ] = 1800
    bake_seconds: Annotated[int, Meta(ge=0, le=86400, description="How long objectives are watched.")] = 300
    rollback_window: Annotated[
        int, Meta(ge=0, le=10, description="Back to one of so many last revisions: no gate.")
    ] = 3
    on_inconclusive: Annotated[
        Literal["Pause", "Rollback"],
        Meta(description="When there is no verdict. Promotion without one is not offered."),
    ] = "Pause"
    gate: Annotated[Gate, Meta(description="The gate.")] = Gate()


class VenueSpec(Api, frozen=True, kw_only=True):
    """A trading venue."""

    rules = (
        Rule(
            "self.shards.all(s, s.symbols.all(x, self.shards.exists_one(t, x in t.symbols)))",
            "a symbol belongs to one shard: remove it from the others",
        ),
        Rule(
            "self.shards.all(s, s.symbols.all(x, self.instruments.exists(i, i.symbol == x)))",
            "every symbol of a shard needs its line in instruments",
        ),
        Rule(
            "oldSelf.shards.all(o, o.symbols.all(x, "
            "!self.shards.exists(s, s.name != o.name && x in s.symbols)))",
            "a symbol can't move to another shard: its orders and history live in the journal of the first",
        ),
        Rule(
            "quantity(self.resources.history.memory).asApproximateFloat() > "
            "67108864.0 + double(self.runtime.sqlite.mmapSizeBytes)",
            "resources.history.memory must exceed runtime.sqlite.mmapSizeBytes by more than 64Mi",
        ),
        Rule(
            "!self.pinning.fullPhysicalCores || self.pinning.mode == 'None' || "
            "self.resources.engine.cpu % self.pinning.threadsPerCore == 0",
            "resources.engine.cpu must be a multiple of pinning.threadsPerCore, or the kubelet refuses "
            "the pod with SMTAlignmentError",
        ),
    )

    image: Annotated[Image, Meta(description="Image of the app, with its tag or digest.")]
    image_pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], Meta(description="Of every container.")
    ] = "IfNotPresent"
    paused: Annotated[bool, Meta(description="Touch nothing.")] = False
    hibernated: Annotated[bool, Meta(description="Scale to zero and keep the journals.")] = False
    shards: Annotated[
        list[Shard],
        Meta(min_length=1, max_length=SHARDS_MAX, description="Writers.", extra_json_schema=map_of("name")),
    ]
    instruments: Annotated[
        list[Instrument],
        Meta(
            min_length=1,
            max_length=INSTRUMENTS_MAX,
            description="What may be traded, defined only here.",
            extra_json_schema=map_of("symbol"),
        ),
    ]
    gateway: Annotated[Gateway, Meta(description="gRPC gateway.")] = Gateway()
    resources: Annotated[Resources, Meta(description="CPU and memory.")] = Resources()
    storage: Annotated[Storage, Meta(description="Volumes.")] = Storage()
    durability: Annotated[
        Literal["process", "durable"],
        Meta(
            description="When a reply is sent: after the write (survives kill -9), or when the disk has it."
        ),
    ] = "process"
    auth: Annotated[Auth, Meta(description="Tokens.")]
    runtime: Annotated[Runtime, Meta(description="Tuning.")] = Runtime()
    tracing: Annotated[Tracing, Meta(description="Traces.")] = Tracing()
    pinning: Annotated[Pinning, Meta(description="Exclusive CPUs.")] = Pinning()
    ingress: Annotated[Ingress, Meta(description="Routes.")] = Ingress()
    monitoring: Annotated[Monitoring, Meta(description="Prometheus.")] = Monitoring()
    slo: Annotated[Slo, Meta(description="Objectives.")] = Slo()
    rollout: Annotated[Rollout, Meta(description="Releases.")] = Rollout()


# --- Venue: what is reported ------------------------------------------------------------------------

Phase = Literal[
    "Pending",
    "Deploying",
    "Gating",
    "Switching",
    "Baking",
    "Stable",
    "Paused",
    "RollingBack",
    "Failed",
    "Hibernated",
]
Verdict = Literal["Pinned", "Shared", "Overlap", "Unpinned", "Throttled", "Unknown"]
Tristate = Literal["True", "False", "Unknown"]


class Condition(Api, frozen=True, kw_only=True, omit_defaults=False):
    """One fact about the Venue, as `kubectl wait` reads it."""

    type: Annotated[Word, Meta(description="Its name.")]
    status: Annotated[Tristate, Meta(description="Whether it holds.")]
    observed_generation: Annotated[int, Meta(description="Of the spec that it speaks about.")] = 0
    last_transition_time: Annotated[Time, Meta(description="When the status changed.")]
    reason: Annotated[Reason, Meta(description="One word for programs.")]
    message: Annotated[Text, Meta(description="A sentence for people.")] = ""


class RevisionStatus(Api, frozen=True, kw_only=True, omit_defaults=False):
    """A revision: what, and since when."""

    revision: Annotated[Word, Meta(description="Hash; the name of its ControllerRevision ends with it.")]
    image: Annotated[Image, Meta(description="Image.")]
    since: Annotated[Time, Meta(description="Since when.")]


class RolloutStatus(Api, frozen=True, kw_only=True, omit_defaults=False):
    """Where a rollout is. All deadlines are absolute, so that a new leader continues at the same point."""

    id: Annotated[Word, Meta(description="Of this attempt.")]
    started_at: Annotated[Time, Meta(description="When it began.")]
    phase_since: Annotated[Time, Meta(description="When the present phase began.")]
    deadline: Annotated[Time | None, Meta(description="When the present phase has failed.")] = None
    attempt: Annotated[int, Meta(ge=0, description="Gate runs that were inconclusive before.")] = 0
    gate_run: Annotated[str, Meta(max_length=253, description="Its GateRun.")] = ""
    gated: Annotated[bool, Meta(description="It has passed a gate, or needed none.")] = False
    switched: Annotated[
        list[Name], Meta(max_length=SHARDS_MAX, description="Shards that were given the candidate.")
    ] = []
    paused_in: Annotated[Word, Meta(description="The phase in which it paused.")] = ""
    reason: Annotated[Reason, Meta(description="Why it is where it is.")] = ""


class ShardStatus(Api, frozen=True, kw_only=True, omit_defaults=False):
    """A shard as it is."""

    name: Annotated[Word, Meta(description="Its name.")]
    revision: Annotated[Word, Meta(description="Of its running pod.")] = ""
    ready: Annotated[bool, Meta(description="Orders may come.")] = False
    pod: Annotated[str, Meta(max_length=253, description="Its pod.")] = ""
    node: Annotated[str, Meta(max_length=253, description="The pod's node.")] = ""
    epoch: Annotated[int, Meta(description="Of its journal.")] = 0
    closed_cleanly: Annotated[
        bool, Meta(description="The journal ended with its `closed` frame before the present start.")
    ] = False


class PodPinning(Api, frozen=True, kw_only=True, omit_defaults=False):
    """What a pod's CPUs are, from inside."""

    pod: Annotated[str, Meta(max_length=253, description="The pod.")]
    node: Annotated[str, Meta(max_length=253, description="Its node.")] = ""
    cpus: Annotated[str, Meta(max_length=1024, description="Its CPU mask.")] = ""
    requested: Annotated[int, Meta(description="CPUs that were asked for.")] = 0
    verdict: Annotated[Verdict, Meta(description="Unknown is not Pinned.")]
    reason: Annotated[str, Meta(max_length=512, description="Why.")] = ""
    observed_at: Annotated[Time, Meta(description="When it was read.")]


class PinningStatus(Api, frozen=True, kw_only=True, omit_defaults=False):
    """Exclusive CPUs, over all shards."""

    pods_pinned: Annotated[int, Meta(description="Pods with verdict Pinned.")] = 0
    pods_total: Annotated[int, Meta(description="Pods of shards.")] = 0
    pods: Annotated[
        list[PodPinning],
        Meta(max_length=SHARDS_MAX, description="Each pod.", extra_json_schema=map_of("pod")),
    ] = []


class Knob(Api, frozen=True, kw_only=True, omit_defaults=False):
    """A knob that is not in force."""

    pod: Annotated[str, Meta(max_length=253, description="The pod.")]
    knob: Annotated[Word, Meta(description="The knob.")]
    expected: Annotated[str, Meta(max_length=128, description="As asked.")]
    actual: Annotated[str, Meta(max_length=128, description="As the process says.")]


class ObjectiveStatus(Api, frozen=True, kw_only=True, omit_defaults=False):
    """An objective on the live venue."""

    name: Annotated[Word, Meta(description="Its name.")]
    met: Annotated[Tristate, Meta(description="Whether it is kept.")]
    current: Annotated[Word, Meta(description="Percentage that was good, over the bake window.")] = ""
    burn_rate: Annotated[Word, Meta(description="1 uses up the budget in exactly the window.")] = ""


class VenueStatus(Api, frozen=True, kw_only=True, omit_defaults=False):
    """What the operator has seen and done."""

    observed_generation: Annotated[int, Meta(description="Of the spec that this speaks about.")] = 0
    phase: Annotated[Phase, Meta(description="Of the rollout.")] = "Pending"
    stable: Annotated[RevisionStatus | None, Meta(description="The revision that serves.")] = None
    candidate: Annotated[RevisionStatus | None, Meta(description="The revision on its way.")] = None
    failed: Annotated[RevisionStatus | None, Meta(description="The last revision that was refused.")] = None
    history: Annotated[
        list[Word], Meta(max_length=16, description="Revisions that have passed, the newest first.")
    ] = []
    rollout: Annotated[RolloutStatus | None, Meta(description="The rollout under way.")] = None
    handled_nonces: Annotated[
        dict[Annotated[str, Meta(max_length=63)], Word],
        Meta(max_length=8, description="The last promote, abort and retry that were obeyed."),
    ] = {}
    shards_total: Annotated[int, Meta(description="Shards.")] = 0
    shards_ready: Annotated[int, Meta(description="Shards that take orders.")] = 0
    shards: Annotated[
        list[ShardStatus],
        Meta(max_length=SHARDS_MAX, description="Each shard.", extra_json_schema=map_of("name")),
    ] = []
    pinning: Annotated[PinningStatus, Meta(description="CPUs.")] = PinningStatus()
    tuning: Annotated[list[Knob], Meta(max_length=64, description="Knobs that are not in force.")] = []
    slo: Annotated[
        list[ObjectiveStatus],
        Meta(max_length=16, description="Objectives.", extra_json_schema=map_of("name")),
    ] = []
    conditions: Annotated[
        list[Condition], Meta(max_length=16, description="Conditions.", extra_json_schema=map_of("type"))
    ] = []


# --- GateRun ----------------------------------------------------------------------------------------


class GateRunSpec(Api, frozen=True, kw_only=True, omit_defaults=False):
    """One comparison of a candidate with the stable revision. Written once by the operator."""

    rules = (Rule("self == oldSelf", "a GateRun is evidence and can't be changed: make another one"),)

    venue: Annotated[Name, Meta(description="The Venue.")]
    stable: Annotated[Word, Meta(description="Revision A.")]
    candidate: Annotated[Word, Meta(description="Revision B.")]
    stable_image: Annotated[Image, Meta(description="Image of A.")]
    candidate_image: Annotated[Image, Meta(description="Image of B.")]
    gate: Annotated[Gate, Meta(description="As the Venue said.")] = Gate()


class Round(Api, frozen=True, kw_only=True, omit_defaults=False):
    """One run of one revision under load."""

    index: Annotated[int, Meta(ge=0, le=64, description="Its place in A B B A.")]
    side: Annotated[Literal["stable", "candidate"], Meta(description="Whose round.")]
    state: Annotated[
        Literal["Starting", "Loading", "Done"], Meta(description="Pod on its way, under load, or finished.")
    ] = "Starting"
    started_at: Annotated[Time, Meta(description="When its pod was made.")]
    pod: Annotated[str, Meta(max_length=253, description="The gate pod.")] = ""
    job: Annotated[str, Meta(max_length=253, description="The k6 Job.")] = ""
    job_uid: Annotated[Word, Meta(description="Once seen; a Job that is gone after that was deleted.")] = ""
    exit_code: Annotated[int | None, Meta(description="Of k6.")] = None
    samples: Annotated[int, Meta(description="Requests.")] = 0
    latency_microseconds: Annotated[int, Meta(description="At the compared percentile.")] = 0
    throughput_per_second: Annotated[int, Meta(description="Requests that were answered.")] = 0
    summary: Annotated[Text, Meta(description="The verdict of the k6 script, as it wrote it.")] = ""
    cpus: Annotated[str, Meta(max_length=1024, description="CPU mask of the engine in this round.")] = ""
    pinning: Annotated[Verdict, Meta(description="Of the gate pod.")] = "Unknown"
    node: Annotated[str, Meta(max_length=253, description="Where it ran.")] = ""


class GateRunStatus(Api, frozen=True, kw_only=True, omit_defaults=False):
    """The evidence."""

    phase: Annotated[Literal["Pending", "Running", "Complete"], Meta(description="Where it is.")] = "Pending"
    verdict: Annotated[
        Literal["", "Pass", "Fail", "Inconclusive"], Meta(description="Empty until complete.")
    ] = ""
    reason: Annotated[Reason, Meta(description="One word.")] = ""
    message: Annotated[Text, Meta(description="A sentence with the figures.")] = ""
    started_at: Annotated[Time | None, Meta(description="When.")] = None
    completed_at: Annotated[Time | None, Meta(description="When.")] = None
    latency_ratio_percent: Annotated[int, Meta(description="Medians: candidate over stable.")] = 0
    throughput_ratio_percent: Annotated[int, Meta(description="Medians: candidate over stable.")] = 0
    rounds: Annotated[
        list[Round], Meta(max_length=64, description="Every round.", extra_json_schema=map_of("index"))
    ] = []
