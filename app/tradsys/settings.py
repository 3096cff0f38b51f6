"""Settings: one documented struct, filled from defaults, a YAML file and the environment, in this order.

A name means the same everywhere: `port` in the file is TRADSYS_PORT in the environment and `port` in what
`tradsys config` prints. A name that does not exist or a value out of its limits stops the start: a typing
error in the durability of a venue must never fall back to a default in silence.

What can change the outcome of matching is not a setting but state, changed by journalled admin commands;
the section `seed` only says what an empty data directory begins with.

Only the composition root and the command line read this module; all others get plain arguments.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

import msgspec
import yaml
from msgspec import Meta, Struct

from tradsys.codec.decimals import DecimalError, amount_of, text_of
from tradsys.core.messages import (
    AMOUNT_SCALE,
    CASH,
    LIMITS,
    AdminCommand,
    DefineAccount,
    DefineInstrument,
    Instrument,
    Limits,
    Rules,
    SetLimits,
    SetRules,
)

ENV_PREFIX = "TRADSYS_"
CONFIG_ENV = "TRADSYS_CONFIG"
"""Names the YAML file, for those who can't pass `--config`."""
DATA_DIR_ENV = "DATA_DIR"
"""Accepted beside TRADSYS_DATA_DIR, which wins."""

CLIENT_VARIABLES = frozenset({"TRADSYS_URL", "TRADSYS_ADMIN_URL", "TRADSYS_TOKEN", "TRADSYS_ACCOUNT"})
"""Variables of the commands that ask a venue; no settings of one."""

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h."""


class SettingsError(Exception):
    """A setting that can't be used: its key, what is wrong with it, and the nearest name that exists.

    The process ends with EXIT_CONFIGURATION; a restart can't help.
    """

    exit_code = EXIT_CONFIGURATION

    def __init__(self, key: str, problem: str, nearest: str | None = None) -> None:
        self.key, self.problem, self.nearest = key, problem, nearest
        super().__init__(f"{key}: {problem}" + (f"; did you mean {nearest}?" if nearest else ""))


# --- what an empty data directory begins with -------------------------------------------------------

Amount = str | int
"""A decimal in quotes or a whole number, never a float: 0.01 has no exact binary form."""


class SeedSymbol(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A symbol BASE-QUOTE with its grid; quantities in units of its base, notionals of its quote."""

    symbol: Annotated[str, Meta(pattern="^[A-Z0-9]{1,15}-[A-Z0-9]{1,15}$")]
    tick_size: Amount
    lot_size: Amount
    qty_min: Amount = 0
    """0: one lot."""
    qty_max: Amount = 0
    """0: as many as the venue can count."""
    notional_min: Amount = 0
    band_ppm: Annotated[int, Meta(ge=0, lt=1_000_000)] = 0
    maker_fee_ppm: Annotated[int, Meta(ge=0, le=100_000)] = 0
    taker_fee_ppm: Annotated[int, Meta(ge=0, le=100_000)] = 0

    def instrument(self, key: str) -> Instrument:
        """The core's form of it. Raises SettingsError for a grid that the venue can't count on exactly."""
        base, quote = self.symbol.split("-")
        tick, lot = _units(f"{key}.tick_size", self.tick_size), _units(f"{key}.lot_size", self.lot_size)
        if tick < 1 or lot < 1:
            raise SettingsError(key, "tick_size and lot_size must be above 0")
        if tick * lot % AMOUNT_SCALE:
            raise SettingsError(key, "tick_size × lot_size must be a multiple of 0.00000001")
        if self.maker_fee_ppm > self.taker_fee_ppm:
            raise SettingsError(f"{key}.maker_fee_ppm", "is above taker_fee_ppm")
        lots = {}
        for name, amount in (("qty_min", self.qty_min), ("qty_max", self.qty_max)):
            units = _units(f"{key}.{name}", amount)
            if units % lot:
                raise SettingsError(f"{key}.{name}", f"is not a multiple of the lot size {text_of(lot)}")
            if units:
                lots[name] = units // lot
        if lots.get("qty_max", lots.get("qty_min", 1)) < lots.get("qty_min", 1):
            raise SettingsError(f"{key}.qty_max", "is below qty_min")
        return Instrument(
            symbol=self.symbol,
            base=base,
            quote=quote,
            tick_size=tick,
            lot_size=lot,
            notional_min=_units(f"{key}.notional_min", self.notional_min),
            band_ppm=self.band_ppm,
            maker_fee_ppm=self.maker_fee_ppm,
            taker_fee_ppm=self.taker_fee_ppm,
            **lots,
        )


class SeedAccount(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An account; the limits count only in mode `limits`, and 0 means none."""

    account: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,36}$")]
    mode: Literal["limits", "cash"] = "limits"
    position_max: Amount = 0
    order_notional_max: Amount = 0
    order_qty_max: Amount = 0
    open_orders_max: Annotated[int, Meta(ge=0)] = 0

    def limits(self, key: str) -> Limits:
        return Limits(
            position_max=_units(f"{key}.position_max", self.position_max),
            order_notional_max=_units(f"{key}.order_notional_max", self.order_notional_max),
            order_qty_max=_units(f"{key}.order_qty_max", self.order_qty_max),
            open_orders_max=self.open_orders_max,
        )


NEW_VENUE_RULES: Final = {"step_orders_max": 250, "match_makers_max": 1_000}
"""Where a new venue's rules are not the defaults of `Rules`, which stay what they are: a journal in which
nobody ever set any means those. With these no command of a new venue takes longer than a few milliseconds."""


class Seed(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an empty data directory begins with; read once, then it is the venue's state."""

    symbols: tuple[SeedSymbol, ...] = (
        SeedSymbol(symbol="BTC-USD", tick_size="0.01", lot_size="0.00001"),
        SeedSymbol(symbol="ETH-USD", tick_size="0.01", lot_size="0.0001"),
    )
    accounts: tuple[SeedAccount, ...] = (SeedAccount(account="demo"),)
    rules: dict[str, Annotated[int, Meta(ge=1)]] = {}
    """Fields of `core.messages.Rules` that differ from its defaults and from `NEW_VENUE_RULES`."""

    def commands(self) -> list[AdminCommand]:
        """The admin commands that make this state, in the order in which they must be applied."""
        for name in self.rules:
            if name not in Rules.__struct_fields__:
                raise _unknown(name, Rules.__struct_fields__, prefix="seed.rules.")
        commands: list[AdminCommand] = [SetRules(Rules(**(NEW_VENUE_RULES | self.rules)))]
        for i, symbol in enumerate(self.symbols):
            commands.append(DefineInstrument(symbol.instrument(f"seed.symbols[{i}]")))
        for i, account in enumerate(self.accounts):
            commands.append(DefineAccount(account.account, CASH if account.mode == "cash" else LIMITS))
            limits = account.limits(f"seed.accounts[{i}]")
            if limits != Limits():
                commands.append(SetLimits(account.account, limits))
        return commands


def _units(key: str, amount: Amount) -> int:
    """An amount in units of 1e-8, exactly."""
    try:
        return amount_of(str(amount))
    except DecimalError as error:
        raise SettingsError(key, f"{amount!r} {error.problem}") from None


# --- the settings -----------------------------------------------------------------------------------

Port = Annotated[int, Meta(ge=1, le=65535)]
Bytes = Annotated[int, Meta(extra={"unit": "bytes"})]
"""In the file and the environment also with a unit: 64MiB."""
PerSecond = Annotated[int, Meta(extra={"unit": "1/s"})]
Microseconds = Annotated[int, Meta(ge=1, extra={"unit": "µs"})]
PoolSize = Annotated[int, Meta(ge=0, le=1_000_000)]
Text = Annotated[str, Meta(min_length=1)]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of a venue. app/SETTINGS.md is the same as a table."""

    data_dir: Text = "./data"
    """Journal, snapshots, read model and key of one venue."""
    shard: Annotated[str, Meta(pattern="^[a-z0-9]{1,8}$")] = "a"
    """Name of the shard, the first part of its order ids."""
    host: Text = "127.0.0.1"
    """Address that all listeners bind to."""
    port: Port = 8000
    """Public REST, served by the engine."""
    admin_port: Port = 8081
    """Admin REST, served by the engine."""
    internal_port: Port = 8090
    """Batches of commands from gateway and feed, served by the engine."""
    feed_internal_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """The journal for a gateway of several shards, served by feed; 0: not served."""
    ops_port: Port = 9100
    """/healthz, /readyz, /metrics and /internal of the shard, served by the engine."""
    history_port: Port = 9102
    """/healthz, /readyz and /metrics of the shard, served by history."""
    query_port: Port = 8002
    """Public REST of the read model, served by query."""
    ws_port: Port = 8001
    """WebSocket streams at /ws, served by feed."""
    grpc_port: Port = 50051
    """gRPC, served by gateway."""
    feed_ops_port: Port = 9101
    """/healthz, /readyz and /metrics of feed."""
    gateway_ops_port: Port = 9103
    """/healthz, /readyz and /metrics of gateway."""
    query_ops_port: Port = 9104
    """/healthz, /readyz and /metrics of query."""

    durability: Literal["process", "durable"] = "process"
    """When a reply is sent: `process` after the write (survives kill -9), `durable` when the disk has it."""
    sync_interval_ms: Annotated[int, Meta(ge=1, le=250, extra={"unit": "ms"})] = 5
    """How often history syncs the journal: with `process`, about what a power cut may take back."""
    segment_bytes: Annotated[Bytes, Meta(ge=1 << 20, le=4 << 30)] = 64 << 20
    """Size of a journal segment; the next one is prepared ahead."""
    snapshot_every: Annotated[int, Meta(ge=1, extra={"unit": "commands"})] = 50_000
    """How often history makes a snapshot; twice as rarely if they are expensive. A start replays the rest."""

    profile: Literal["hft", "baseline"] = "hft"
    """`hft` is our own loop with msgspec; `baseline` is gunicorn, meinheld and ujson, to compare with."""
    spin: Literal["auto", "always", "never"] = "auto"
    """Busy-polling: `auto` only where cpu_exclusive says so, `always` for benchmarks."""
    cpu_exclusive: bool = False
    """The engine's CPUs are its own; set by whoever pinned them, since an affinity mask can't show it."""
    gc_percent: Annotated[int, Meta(ge=10, le=10_000, extra={"unit": "%"})] = 200
    """Scales the threshold of Python's garbage collector; 100 leaves it."""
    memory_limit: Annotated[Bytes, Meta(ge=64 << 20)] = 2 << 30
    """Memory of engine and history together: above it history gives back what it can, and says so."""
    max_connections: Annotated[int, Meta(ge=16, le=1_000_000)] = 10_000
    """Open connections of the engine; feed has as many of its own."""
    order_pool_size: PoolSize = 1_000
    """Order objects kept for reuse once they have left memory."""
    message_pool_size: PoolSize = 5_000
    """Message buffers kept for reuse."""
    response_pool_size: PoolSize = 2_000
    """Response buffers kept for reuse."""

    header_bytes_max: Annotated[Bytes, Meta(ge=1 << 10, le=1 << 20)] = 16 << 10
    """Request line and headers of one request."""
    body_bytes_max: Annotated[Bytes, Meta(ge=1 << 10, le=64 << 20)] = 64 << 10
    """Body of one request."""
    batch_body_bytes_max: Annotated[Bytes, Meta(ge=1 << 10, le=64 << 20)] = 1 << 20
    """Body of one batch."""
    request_timeout_s: Annotated[int, Meta(ge=1, le=60, extra={"unit": "s"})] = 5
    """How long headers and body of a request may take to arrive."""
    rate_limit_per_s: Annotated[PerSecond, Meta(ge=0)] = 0
    """Requests of one account; 0: no limit."""
    public_url: str = ""
    """REST of the engine as clients reach it, where that is not host and port: https://venue.example."""
    public_query_url: str = ""
    """REST of query and the console as clients reach them; the engine's redirects lead there."""
    public_ws_url: str = ""
    """Streams as clients reach them, without /ws: wss://venue.example."""
    other_symbols: tuple[str, ...] = ()
    """SYMBOL=ENDPOINT of other shards, told with code 1021: SOL-USD=https://venue.example/s/b/api/v1."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call from a browser, beside the console's own (by public_query_url or host)."""
    internal_secret_file: str = ""
    """Secret of the internal listener; without it one is made in the data directory."""
    gateway_shards: tuple[str, ...] = ()
    """NAME=HOST[:PORT:INTERNAL_PORT[:FEED_INTERNAL_PORT]] of each shard; none: the one of data_dir."""
    grpc_certificate_file: str = ""
    """Certificate chain of gateway (PEM); without it gRPC is not encrypted."""
    grpc_key_file: str = ""
    """Key of grpc_certificate_file (PEM)."""
    grpc_client_ca_file: str = ""
    """Who signs client certificates (PEM); with it every gRPC client must show one."""
    grpc_client_names: tuple[str, ...] = ()
    """Subject alternative names that client certificates may have; none: any."""

    token_issuer: Text = "tradsys"
    """`iss` of a valid token."""
    token_audience: Text = "tradsys"
    """`aud` of a valid token."""
    hs256_key_file: str = ""
    """Key of HS256 tokens, at least 32 bytes; without it and jwks_file one is made in the data directory."""
    jwks_file: str = ""
    """Public keys of RS256, ES256 and EdDSA tokens (JWKS); read again when it changes."""
    token_verifications_per_s: Annotated[PerSecond, Meta(ge=1)] = 200
    """New tokens verified at most, then 503: forged tokens must not starve matching."""

    sqlite_wal: bool = True
    """Write-ahead log of the read model: readers and history don't wait for each other."""
    sqlite_cache_size: Annotated[int, Meta(ge=100, extra={"unit": "pages"})] = 10_000
    """Page cache of a connection to the read model."""
    sqlite_mmap_size: Annotated[Bytes, Meta(ge=0)] = 256 << 20
    """How much of the read model is mapped into memory."""

    ws_buffer_size: Annotated[Bytes, Meta(ge=512, le=1 << 20)] = 4 << 10
    """Buffer of a WebSocket connection."""
    ws_binary_protocol: bool = True
    """Offer the binary subprotocols."""
    ws_compression_level: Annotated[int, Meta(ge=0, le=9)] = 1
    """Compression of JSON streams; 0: none."""

    order_latency_target_us: Microseconds = 100
    """Target for the p99 of an order inside the engine."""
    ws_latency_target_us: Microseconds = 50
    """Target for the p99 from an event to its client."""
    db_latency_target_us: Microseconds = 1_000
    """Target for the p95 of the read model's statements."""

    access_log: Literal["errors", "all"] = "errors"
    """Requests that are logged: those not answered with 200, or every one."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""
    tracing_endpoint: str = ""
    """Receiver of traces by OTLP over HTTP: http://collector:4318/v1/traces; none: no traces, at no cost."""
    tracing_one_in: Annotated[int, Meta(ge=1, le=1_000_000, extra={"unit": "requests"})] = 100
    """One of so many requests is traced; a `traceparent` decides for its own."""
    seed: Seed = Seed()
    """Symbols, accounts and rules of an empty data directory; only in the file."""


class Described(Struct, frozen=True, kw_only=True):
    """One setting as `tradsys config` shows it."""

    name: str
    env: str
    """"" where the environment can't give it."""
    value: Any
    default: Any
    source: str
    """"default", the file's name, or the variable's."""
    unit: str
    limits: str
    doc: str


def load(environ: Mapping[str, str], config: str | None = None) -> Settings:
    """The settings in force; `config` is the YAML file, or TRADSYS_CONFIG names it, or there is none.

    Raises SettingsError for an unknown name, a bad value, or a file that can't be read.
    """
    settings, _ = _gather(environ, config)
    return settings


def describe(environ: Mapping[str, str], config: str | None = None) -> list[Described]:
    """Every setting with its value and its source, in the order of the struct. Raises SettingsError."""
    settings, sources = _gather(environ, config)
    docs = _docs()
    return [
        Described(
            name=field.name,
            env="" if field.name == "seed" else _env_name(field.name),
            value=getattr(settings, field.name),
            default=field.default,
            source=sources.get(field.name, "default"),
            unit=_unit(field.name),
            limits=_limits(field.name),
            doc=docs[field.name],
        )
        for field in _FIELDS.values()
    ]


# --- reading ----------------------------------------------------------------------------------------


def _gather(environ: Mapping[str, str], config: str | None) -> tuple[Settings, dict[str, str]]:
    """What defaults, file and environment say together, and where the values that differ came from."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    path = config or environ.get(CONFIG_ENV)
    if path:
        for name, given in _read_file(Path(path)).items():
            if name not in _FIELDS:
                raise _unknown(str(name), _FIELDS)
            values[name], sources[name] = _value(name, given, key=name), path
    # An empty variable counts as unset: that is how shells and compose files say "nothing".
    given_by_env = {
        name: text
        for name, text in environ.items()
        if name.startswith(ENV_PREFIX) and name != CONFIG_ENV and name not in CLIENT_VARIABLES and text
    }
    if environ.get(DATA_DIR_ENV) and "TRADSYS_DATA_DIR" not in given_by_env:
        values["data_dir"], sources["data_dir"] = environ[DATA_DIR_ENV], DATA_DIR_ENV
    for variable, text in given_by_env.items():
        name = variable.removeprefix(ENV_PREFIX).lower()
        if name == "seed":
            raise SettingsError(variable, "can only be given in the file")
        if name not in _FIELDS or variable != _env_name(name):
            error = _unknown(name, ["config", *_FIELDS])
            nearest = _env_name(error.nearest) if error.nearest else None
            raise SettingsError(variable, error.problem, nearest)
        values[name], sources[name] = _value(name, text, key=variable, from_env=True), variable
    settings = Settings(**values)
    _check_together(settings)
    return settings, sources


class _Loader(yaml.SafeLoader):
    """YAML in which only true, false, null and whole numbers are not text.

    YAML 1.1 would read `off` as false, `12:30` as 750 and 0.01 as a float; and of two equal keys the last
    would win in silence.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise SettingsError(str(key), "a key must be text")
            if key in mapping:
                raise SettingsError(key, f"is given twice (line {key_node.start_mark.line + 1})")
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^(null|~|)$"), ["n", "~", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile("^(0|-?[1-9][0-9_]*)$"), list("-0123456789")
)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise SettingsError(str(path), f"can't be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(str(path), f"is not YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(str(path), "must be a mapping of settings")
    return document


def _value(name: str, given: Any, *, key: str, from_env: bool = False) -> Any:
    """What the file or the environment gives, as the field's type. Raises SettingsError under `key`."""
    hint = _HINTS[name]
    if _unit(name) == "bytes" and isinstance(given, str):
        given = _bytes(given)
    if name in _LISTS and from_env:
        given = [origin.strip() for origin in given.split(",")]
    try:
        value = msgspec.convert(given, hint, strict=not from_env)
    except msgspec.ValidationError as error:
        if name == "seed":
            raise _seed_error(str(error)) from None
        hint_text = "; it looks like a Kubernetes service link" if str(given).startswith("tcp://") else ""
        raise SettingsError(key, f"{given!r} is not {_limits(name)}{hint_text}") from None
    if isinstance(value, Seed):
        value.commands()
    return value


def _bytes(text: str) -> str | int:
    """64MiB as a number; anything else as it is, for the field's type to judge."""
    match = re.fullmatch("([0-9]{1,12}) ?(KiB|MiB|GiB)", text, re.ASCII)
    return int(match[1]) << {"KiB": 10, "MiB": 20, "GiB": 30}[match[2]] if match else text


def size_text(size: int) -> str:
    """A size with the largest unit that it is a multiple of."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def _seed_error(message: str) -> SettingsError:
    """What msgspec says of the seed ("… - at `$.symbols[0].tick`") as our own error."""
    problem, _, path = message.partition(" - at `$")
    key = "seed" + path.rstrip("`")
    unknown = re.fullmatch("Object contains unknown field `(.*)`", problem)
    if unknown:
        struct = SeedSymbol if "symbols" in path else SeedAccount if "accounts" in path else Seed
        return _unknown(unknown[1], struct.__struct_fields__, prefix=f"{key}.")
    return SettingsError(key, problem)


def _unknown(name: str, names: Iterable[str], prefix: str = "") -> SettingsError:
    nearest = difflib.get_close_matches(name, names, n=1)
    return SettingsError(f"{prefix}{name}", "there is no such setting", nearest[0] if nearest else None)


def _check_together(settings: Settings) -> None:
    """What no field can tell alone."""
    taken: dict[int, str] = {}
    for name in _FIELDS:
        if _HINTS[name] is Port:
            port = getattr(settings, name)
            if port in taken:
                raise SettingsError(name, f"{port} is taken by {taken[port]} already")
            taken[port] = name
    for name, scheme in (("public_url", "http"), ("public_query_url", "http"), ("public_ws_url", "ws")):
        url = getattr(settings, name)
        # Only the read model's may have a path: a way in that tells it from the engine by a prefix.
        path = r"(/[A-Za-z0-9._-]+)*" if name == "public_query_url" else ""
        if url and not re.fullmatch(rf"{scheme}s?://[A-Za-z0-9.:\[\]-]+{path}", url):
            raise SettingsError(name, f"{url!r} is not a URL without a path, like {scheme}s://venue.example")
    endpoint = settings.tracing_endpoint
    if endpoint and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?", endpoint):
        raise SettingsError(
            "tracing_endpoint", f"{endpoint!r} is not a URL, like http://collector:4318/v1/traces"
        )
    for text in settings.other_symbols:
        if not re.fullmatch(r"[A-Z0-9]{1,15}-[A-Z0-9]{1,15}=https?://[^\s=]+", text):
            raise SettingsError("other_symbols", f"{text!r} is not SYMBOL=ENDPOINT, like SOL-USD=https://…")
    if bool(settings.grpc_certificate_file) != bool(settings.grpc_key_file):
        raise SettingsError("grpc_certificate_file", "and grpc_key_file need each other")
    if settings.grpc_client_ca_file and not settings.grpc_certificate_file:
        raise SettingsError("grpc_client_ca_file", "needs grpc_certificate_file")
    if settings.grpc_client_names and not settings.grpc_client_ca_file:
        raise SettingsError("grpc_client_names", "needs grpc_client_ca_file")
    if settings.batch_body_bytes_max < settings.body_bytes_max:
        raise SettingsError("batch_body_bytes_max", "is below body_bytes_max")


# --- describing -------------------------------------------------------------------------------------

_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
_HINTS = get_type_hints(Settings, include_extras=True)
_LISTS = {
    "cors_origins": "a list of origins",
    "gateway_shards": "a list of shards",
    "other_symbols": "a list of symbols",
    "grpc_client_names": "a list of names",
}


def _env_name(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _metas(name: str) -> list[Meta]:
    return [meta for meta in getattr(_HINTS[name], "__metadata__", ()) if isinstance(meta, Meta)]


def _unit(name: str) -> str:
    return next((meta.extra["unit"] for meta in _metas(name) if meta.extra), "")


def _limits(name: str) -> str:
    """What a value may be, in words that fit behind "is not"."""
    hint = _HINTS[name]
    choices = getattr(hint, "__args__", ())
    if getattr(hint, "__origin__", None) is Literal:
        return " or ".join(choices)
    if hint is bool:
        return "true or false"
    if name in _LISTS:
        return _LISTS[name]
    if name == "seed":
        return "a mapping of symbols, accounts and rules"
    pattern = next((meta.pattern for meta in _metas(name) if meta.pattern), None)
    if pattern:
        return f"text like {pattern}"
    bounds = [
        next((getattr(meta, bound) for meta in _metas(name) if getattr(meta, bound) is not None), None)
        for bound in ("ge", "le")
    ]
    if bounds == [None, None]:
        return "text that is not empty" if _metas(name) else "text"
    kind, shown = ("a size", size_text) if _unit(name) == "bytes" else ("a whole number", str)
    low, high = ("" if bound is None else shown(bound) for bound in bounds)
    return f"{kind} from {low} to {high}" if high else f"{kind} from {low}"


def _docs() -> dict[str, str]:
    """The sentence below each field of Settings, from the source: so there is one place to write it."""
    (cls,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(cls, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(cls.body, cls.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            docs[field.target.id] = str(below.value.value)
    return docs
