"""`tradsys flow`: send a made-up order flow, or replay what happened at a real exchange."""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice, takewhile
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec
import typer

from tradsys.cli import session, show
from tradsys.cli.failures import INTERRUPTED, USAGE, Failure
from tradsys.client.rest import Refused, RestClient, path_of
from tradsys.flow import exchange, lobster, send
from tradsys.flow.commands import FlowCommand, line_of
from tradsys.flow.latency import Latency
from tradsys.flow.model import Model, commands, decimal_text, units_of

PANEL = "Trading"
TOKEN_TTL_S = 86_400
PATIENCE_S = 30.0
"""How long the venue may be away during a replay."""
DURATION_S = 10
"""How long a flow goes on if nothing else is said."""
DRY_TICK, DRY_LOT = "0.01", "0.00001"
"""The grid of BTC-USD in a new venue: a dry run asks nobody."""
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
MAKER, TAKER = "lobster-maker", "lobster-taker"
NO_SYMBOL = 1003
SHARE = {"min": 0.0, "max": 1.0}


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(flow)


def flow(
    symbol: Annotated[
        str, typer.Option("--symbol", help="[default: BTC-USD; with --lobster named after the file]")
    ] = "",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Same seed, same commands. [default: a new one]")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", min=0.0, help="Commands per second; 0: as fast as the venue answers.")
    ] = 100.0,
    count: Annotated[int | None, typer.Option("--count", min=1, help="How many commands.")] = None,
    duration: Annotated[
        str, typer.Option("--duration", help="How long: 30s, 5m. [default: 10s without --count]")
    ] = "",
    connections: Annotated[
        int, typer.Option("--connections", min=1, max=256, help="Orders take them in turn.")
    ] = 1,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            max=send.BATCH_MAX,
            help="Commands of a request, above 1 in binary. [default: 1; with --lobster 1000]",
        ),
    ] = None,
    account: Annotated[
        list[str] | None,
        typer.Option("--account", help="Who sends, several in turn. [default: demo]"),
    ] = None,
    price: Annotated[str, typer.Option("--price", help="Where the first orders are placed.")] = "50000",
    quantity: Annotated[str, typer.Option("--quantity", help="Of a typical order.")] = "0.01",
    open_orders: Annotated[int, typer.Option("--open-orders", min=1, help="Where the book settles.")] = 1_000,
    distance: Annotated[
        float, typer.Option("--distance", min=0.1, help="Mean distance from the touch, in ticks.")
    ] = 10.0,
    replaces: Annotated[
        float, typer.Option("--replaces", **SHARE, help="Weight beside limit orders.")
    ] = 0.05,
    icebergs: Annotated[float, typer.Option("--icebergs", **SHARE, help="Share of limit orders.")] = 0.02,
    post_only: Annotated[float, typer.Option("--post-only", **SHARE, help="Share of limit orders.")] = 0.05,
    stops: Annotated[float, typer.Option("--stops", **SHARE, help="Share of limit orders.")] = 0.005,
    id_prefix: Annotated[
        str,
        typer.Option("--id-prefix", help="Of client_order_ids; the same ones are answered as repeats."),
    ] = "",
    tick: Annotated[str, typer.Option("--tick", help="[default: the symbol's; dry run 0.01]")] = "",
    lot: Annotated[str, typer.Option("--lot", help="[default: the symbol's; dry run 0.00001]")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands as JSON lines.")] = False,
    record: Annotated[
        Path | None, typer.Option("--record", help="Write each command with its outcome, as JSON lines.")
    ] = None,
    lobster_file: Annotated[
        Path | None,
        typer.Option("--lobster", help="Replay this message file (LOBSTER format, also gzipped)."),
    ] = None,
    tops: Annotated[
        Path | None,
        typer.Option("--tops", help="With --lobster: write each top of book as ask,size,bid,size."),
    ] = None,
    check_every: Annotated[
        int, typer.Option("--check-every", min=1, help="With --lobster: messages between looks at the book.")
    ] = 100_000,
    url: session.Url = "",
    admin_url: session.AdminUrl = "",
    token: session.Token = "",
    taker_token: Annotated[
        str, typer.Option("--taker-token", help="With --lobster: of the second account.")
    ] = "",
    admin_token: Annotated[
        str, typer.Option("--admin-token", help="With --lobster. [default: minted here]")
    ] = "",
    as_json: session.Json = False,
) -> None:
    """Send order flow to a venue: made up by a model, or as it happened at an exchange.

    The model is zero intelligence (Smith, Farmer and others, 2003): limit orders near the touch, orders
    that take, cancels; open loop, so latencies count from when a command was due. The same --seed gives
    the same commands, byte for byte; a venue answers client_order_ids that it knows as repeats, so a
    second run at the same venue needs another seed or --id-prefix.

    With --lobster the messages of a real exchange are replayed in order by two accounts, on a symbol of
    its own that is created if there is an admin token. What can't be mapped is counted.
    """
    if lobster_file is not None:
        report = _replay(
            lobster_file,
            symbol=symbol,
            accounts=account or [MAKER, TAKER],
            batch=batch or exchange.BATCH_MAX,
            tops=tops,
            check_every=check_every,
            clients=_Clients(url, admin_url, token, taker_token, admin_token),
        )
        _show_replay(report, as_json)
        return
    if tops:
        raise Failure("--tops goes with --lobster", exit_code=USAGE)
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    symbol = symbol or "BTC-USD"
    if not dry_run and not (tick and lot):
        known = RestClient(session.public_url(url)).get("/symbols" + path_of(symbol))
        tick, lot = tick or known["tick_size"], lot or known["lot_size"]
    accounts = tuple(account or [session.DEMO])
    model = Model(
        seed=seed,
        symbol=symbol,
        accounts=accounts,
        tick_size=_units("--tick", tick or DRY_TICK),
        lot_size=_units("--lot", lot or DRY_LOT),
        start_price=_on_grid("--price", price, tick or DRY_TICK),
        typical_lots=_on_grid("--quantity", quantity, lot or DRY_LOT),
        rate=rate,
        open_orders=open_orders,
        distance_ticks=distance,
        replaces=replaces,
        icebergs=icebergs,
        post_only=post_only,
        stops=stops,
        id_prefix=id_prefix or f"flow{seed:x}",
    )
    chosen = _chosen(model, count, duration, dry_run)
    if dry_run:
        for command in chosen:
            sys.stdout.buffer.write(line_of(command))
        return
    if token and len(accounts) > 1:
        raise Failure("one --token is of one account", "leave --token out to mint one for each", USAGE)
    tokens = {name: token or session.mint_token(name, "trade", TOKEN_TTL_S) for name in accounts}
    sender = send.Sender(session.public_url(url), tokens, connections=connections, batch=batch or 1)
    interrupted = _send(sender, chosen, count, record)
    _show_flow(sender.report, seed, as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


# --- the made-up flow -------------------------------------------------------------------------------


def _chosen(model: Model, count: int | None, duration: str, dry_run: bool) -> Iterator[FlowCommand]:
    """The part of the flow that was asked for."""
    chosen = commands(model)
    if duration or count is None:
        limit_ns = (session.seconds_of(duration) if duration else DURATION_S) * 1_000_000_000
        if model.rate:
            chosen = takewhile(lambda command: command.at_ns <= limit_ns, chosen)
        elif dry_run:
            raise Failure("without a rate a dry run has no duration", "give --count", USAGE)
        else:
            chosen = _until(time.monotonic_ns() + limit_ns, chosen)
    return islice(chosen, count)


def _until(end_ns: int, chosen: Iterator[FlowCommand]) -> Iterator[FlowCommand]:
    for command in chosen:
        if time.monotonic_ns() > end_ns:
            return
        yield command


def _units(option: str, text: str) -> int:
    try:
        return units_of(text)
    except ValueError as fault:
        raise Failure(f"{option}: {fault}", exit_code=USAGE) from None


def _on_grid(option: str, text: str, step: str) -> int:
    """A decimal in steps of the grid."""
    steps, rest = divmod(_units(option, text), _units(option, step))
    if rest or not steps:
        raise Failure(f"{option} {text} is not on the symbol's grid of {step}", exit_code=USAGE)
    return steps


def _send(sender: send.Sender, chosen: Iterator[FlowCommand], count: int | None, record: Path | None) -> bool:
    """Send it all, with a progress line; True: the user has interrupted it."""
    with ExitStack() as stack:
        progress = stack.enter_context(show.Progress("commands", count))
        lines = stack.enter_context(record.open("wb")) if record else None

        def recorded(command: FlowCommand, outcome: send.Outcome) -> None:
            if lines:
                lines.write(
                    line_of(command)[:-2] + b',"outcome":' + msgspec.json.encode(outcome._asdict()) + b"}\n"
                )

        def moved(report: send.Report) -> None:
            progress.move(report.sent + report.skipped)

        try:
            sender.run(chosen, moved, recorded) if lines else sender.run(chosen, moved)
        except KeyboardInterrupt:
            return True
        return False


def _latency_facts(latency: Latency) -> dict[str, float]:
    """Percentiles in microseconds."""
    found = zip(PERCENTILES, latency.percentiles_ns(PERCENTILES), strict=True)
    facts = {f"p{percent:g}": ns / 1_000 for percent, ns in found}
    return facts | {"max": latency.max_ns / 1_000}


def _show_flow(report: send.Report, seed: int, as_json: bool) -> None:
    seconds = report.seconds or 1e-9
    facts: dict[str, Any] = {
        "seed": seed,
        "sent": report.sent,
        "accepted": report.accepted,
        "refused": sum(report.refusals.values()),
        "skipped": report.skipped,
        "replayed": report.replayed,
        "requests": report.requests,
        "retries": report.retries,
        "seconds": round(report.seconds, 3),
        "commands_per_s": round(report.sent / seconds, 1),
    }
    latency, service = _latency_facts(report.latency), _latency_facts(report.service)
    if as_json:
        counts = {"statuses": report.statuses, "refusals": report.refusals}
        show.json(facts | counts | {"latency_us": latency, "request_us": service})
        return
    show.facts(facts)
    show.table(
        [{"microseconds": "from due to answered"} | latency, {"microseconds": "of a request"} | service],
        ("microseconds", *latency),
    )
    show.table(
        [{"accepted_as": status, "count": n} for status, n in report.statuses.most_common()],
        ("accepted_as", "count"),
        empty="nothing was accepted",
    )
    if report.refusals:
        show.table(
            [{"refused_with": code, "count": n} for code, n in report.refusals.most_common()],
            ("refused_with", "count"),
        )


# --- the replay of a real exchange -------------------------------------------------------------------


class _Clients:
    """Who replays: clients of the two accounts and of an admin, by tokens given or minted here."""

    def __init__(self, url: str, admin_url: str, token: str, taker_token: str, admin_token: str) -> None:
        self._url = session.public_url(url)
        self._admin_url = session.admin_url(admin_url)
        self._given = (token, taker_token)
        self._admin_token = admin_token

    def trader(self, number: int, account: str) -> RestClient:
        token = self._given[number] or session.mint_token(account, "trade read", TOKEN_TTL_S)
        return RestClient(self._url, token, patience_s=PATIENCE_S)

    def admin(self) -> RestClient | None:
        """None where no admin token was given and none can be made."""
        token = self._admin_token
        if not token:
            try:
                token = session.mint_token(session.DEMO, "admin", TOKEN_TTL_S)
            except Failure:
                return None
        return RestClient(self._admin_url, token, patience_s=PATIENCE_S)

    def public(self) -> RestClient:
        return RestClient(self._url)


def _replay(
    path: Path,
    *,
    symbol: str,
    accounts: list[str],
    batch: int,
    tops: Path | None,
    check_every: int,
    clients: _Clients,
) -> dict[str, Any]:
    if len(accounts) != 2:
        raise Failure("a replay needs two accounts", "give --account twice: who rests, who takes", USAGE)
    try:
        survey = lobster.survey(path)
    except OSError as fault:
        raise Failure(f"{path} can't be read: {fault.strerror}", exit_code=USAGE) from None
    symbol = symbol or _symbol_of(path)
    admin = clients.admin()
    _prepare(symbol, accounts, survey, admin, clients.public())
    with ExitStack() as stack:
        progress = stack.enter_context(show.Progress("messages", survey.messages))
        lines = stack.enter_context(tops.open("w", encoding="ascii")) if tops else None
        place = exchange.Exchange(
            symbol,
            clients.trader(0, accounts[0]),
            clients.trader(1, accounts[1]),
            admin,
            run_id=secrets.token_hex(6),
            batch=batch,
            check_every=check_every,
            saw_top=_top_writer(lines),
        )
        started = time.monotonic()
        report = place.run(lobster.read_messages(path), lambda report: progress.move(report.messages))
        seconds = time.monotonic() - started
    return {
        "file": str(path),
        "symbol": symbol,
        "messages": report.messages,
        "seconds": round(seconds, 3),
        "messages_per_s": round(report.messages / seconds, 1),
        "commands": report.commands,
        "requests": report.batches,
        "tops": report.tops,
        "book_checks": report.checks,
        "top": dict(zip(("ask", "ask_size", "bid", "bid_size"), place.top, strict=True)),
        "mapped": _by_type(report.mapped),
        "unmapped": _by_type(report.unmapped),
        "unknown_orders": _by_type(report.unknown),
        "refusals": {str(code): n for code, n in report.refusals.items()},
        "other_maker": report.other_maker,
        "traded_on_arrival": report.traded_on_arrival,
        "corrections": report.corrections,
    }


def _by_type(counts: Mapping[int, int]) -> dict[str, int]:
    return {lobster.TYPE_WORDS[kind]: counts[kind] for kind in sorted(counts)}


def _symbol_of(path: Path) -> str:
    """LOBSTER names its files TICKER_date_…; without such a name the symbol is LOBSTER-USD."""
    match = re.match(r"([A-Z][A-Z0-9]{0,7})_[0-9]{4}-[0-9]{2}-[0-9]{2}_", path.name)
    return f"{match[1] if match else 'LOBSTER'}-USD"


def _top_writer(lines: TextIO | None) -> Any:
    if lines is None:
        return lambda top: None
    write = lines.write
    return lambda top: write(f"{top[0]},{top[1]},{top[2]},{top[3]}\n")


def _prepare(
    symbol: str, accounts: list[str], survey: lobster.Survey, admin: RestClient | None, public: RestClient
) -> None:
    """See to it that the symbol has the file's grid and an empty book, and that the accounts are there."""
    if admin is not None:
        for name in accounts:
            admin.post("/admin/accounts", {"account": name, "mode": "limits"}, repeatable=True)
    tick = units_of("0.01" if survey.on_cents else "0.0001")
    try:
        known = public.get("/symbols" + path_of(symbol))
    except Refused as refusal:
        if refusal.code != NO_SYMBOL:
            raise
        if admin is None:
            raise Failure(
                f"there is no symbol {symbol}, and no admin token to define it",
                "pass --admin-token, or name an existing symbol with --symbol",
            ) from None
        body = {
            "symbol": symbol,
            "tick_size": decimal_text(tick),
            "lot_size": "1",
            "max_quantity": str(max(survey.size_max, 1_000_000_000)),
        }
        admin.post("/admin/symbols", body, repeatable=True)
        return
    if tick % units_of(known["tick_size"]) or units_of("1") % units_of(known["lot_size"]):
        raise Failure(
            f"{symbol} has tick {known['tick_size']} and lot {known['lot_size']}; the file needs tick "
            f"{decimal_text(tick)} and lot 1",
            "name another symbol with --symbol; a new one is defined as needed",
        )
    book = public.get("/market" + path_of(symbol) + "/book", {"depth": 1})
    if book["bids"] or book["asks"]:
        raise Failure(
            f"orders rest in {symbol} already, so the replay could not be exact",
            "name another symbol with --symbol, or cancel them: tradsys admin cancel-all '*' "
            f"--symbol {symbol}",
        )


def _show_replay(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.json(report)
        return
    counted = ("mapped", "unmapped", "unknown_orders")
    top = report["top"]
    touch = f"ask {top['ask']} × {top['ask_size']}, bid {top['bid']} × {top['bid_size']}"
    facts = {name: value for name, value in report.items() if name not in (*counted, "refusals", "top")}
    show.facts(facts | {"final_top": f"{touch} (price × 10000)"})
    kinds = dict.fromkeys(kind for name in counted for kind in report[name])
    rows = [{"message": kind} | {name: report[name].get(kind, 0) for name in counted} for kind in kinds]
    show.table(rows, ("message", *counted), empty="no messages")
    if report["refusals"]:
        rows = [{"refused_with": code, "count": n} for code, n in report["refusals"].items()]
        show.table(rows, ("refused_with", "count"))
