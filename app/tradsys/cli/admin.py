"""`tradsys admin`: what operators change. Each call is journalled and becomes part of the venue's state."""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Annotated, Any

import typer

from tradsys.cli import session, show
from tradsys.cli.failures import USAGE, Failure
from tradsys.client.rest import RestClient, path_of

app = typer.Typer(
    no_args_is_help=True,
    help="Accounts, symbols, fees, limits, halts, the kill switch. Needs a token with the scope admin.",
)
account_app = typer.Typer(no_args_is_help=True, help="Create accounts and look at them.")
symbol_app = typer.Typer(no_args_is_help=True, help="Define what may be traded.")
rules_app = typer.Typer(no_args_is_help=True, help="Bounds of the shard as a whole.")
app.add_typer(account_app, name="account")
app.add_typer(symbol_app, name="symbol")
app.add_typer(rules_app, name="rules")

Name = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Name of the account.")]
NameOrAll = Annotated[str, typer.Argument(metavar="ACCOUNT", help='Name of the account, "*" for all.')]
Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="For example BTC-USD.")]
SymbolOrAll = Annotated[str, typer.Argument(metavar="SYMBOL", help='For example BTC-USD, "*" for all.')]


class Mode(StrEnum):
    CASH = "cash"
    LIMITS = "limits"


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


def _given(**values: Any) -> dict[str, Any]:
    """What was given on the command line; the venue keeps its own value of the rest."""
    return {name: value for name, value in values.items() if value is not None}


def _show(answer: Any) -> None:
    tables = {name: value for name, value in answer.items() if isinstance(value, list)}
    facts = {name: value for name, value in answer.items() if name not in tables}
    for name, value in list(facts.items()):
        if isinstance(value, dict):  # The limits of an account.
            del facts[name]
            facts |= {bound: "none" if of in ("0", 0) else of for bound, of in value.items()}
    if facts:
        show.facts(facts)
    for name, rows in tables.items():
        if rows and isinstance(rows[0], str):
            rows = [{"name": row} for row in rows]
        show.table(rows, list(rows[0]) if rows else (), "" if name == "items" else name, f"no {name}")


admin_call = session.asks(session.Access.ADMIN, _show)


@account_app.command("create")
@admin_call
def account_create(
    client: RestClient,
    name: Name,
    mode: Annotated[
        Mode,
        typer.Option("--mode", help="cash: orders reserve balances; limits: orders are held against limits."),
    ] = Mode.LIMITS,
) -> Any:
    """Create an account. A repeat with the same mode changes nothing."""
    body = {"account": name, "mode": mode.value}
    return client.post("/admin/accounts", body, repeatable=True)


@account_app.command("list")
@admin_call
def account_list(client: RestClient) -> Any:
    """List the accounts."""
    return client.get("/admin/accounts")


@account_app.command("show")
@admin_call
def account_show(
    client: RestClient,
    name: Name,
) -> Any:
    """Show an account with its limits, balances and positions."""
    return client.get("/admin/accounts" + path_of(name))


@app.command()
@admin_call
def limits(
    client: RestClient,
    name: Name,
    position_max: Annotated[
        str,
        typer.Option("--position", help="Net position per symbol with open orders filled, in base units."),
    ] = "0",
    order_notional_max: Annotated[
        str, typer.Option("--order-notional", help="Notional of one order, in quote units.")
    ] = "0",
    order_quantity_max: Annotated[
        str, typer.Option("--order-quantity", help="Quantity of one order, in base units.")
    ] = "0",
    open_orders_max: Annotated[int, typer.Option("--open-orders", min=0, help="Open orders at once.")] = 0,
) -> Any:
    """Set all limits of an account in mode limits; 0, and what is not given, means no limit."""
    body = {
        "position_max": position_max,
        "order_notional_max": order_notional_max,
        "order_quantity_max": order_quantity_max,
        "open_orders_max": open_orders_max,
    }
    path = "/admin/accounts" + path_of(name) + "/limits"
    return client.put(path, body, repeatable=True)


@app.command()
@admin_call
def adjust(
    client: RestClient,
    name: Name,
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="For example USD.")],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="What is added; to take away write `-- -5`.")
    ],
    txn_id: Annotated[
        str, typer.Option("--txn-id", help="A repeat with the same id changes nothing. [default: a new one]")
    ] = "",
) -> Any:
    """Deposit to or withdraw from a balance."""
    body = {"asset": asset, "amount": amount, "txn_id": txn_id or f"cli-{secrets.token_hex(8)}"}
    path = "/admin/accounts" + path_of(name) + "/adjustments"
    return client.post(path, body, repeatable=True)


@symbol_app.command("define")
@admin_call
def symbol_define(
    client: RestClient,
    symbol: Symbol,
    tick_size: Annotated[str, typer.Option("--tick", help="Smallest step of a price, in quote units.")],
    lot_size: Annotated[str, typer.Option("--lot", help="Smallest step of a quantity, in base units.")],
    min_quantity: Annotated[str | None, typer.Option("--min-quantity", help="[default: one lot]")] = None,
    max_quantity: Annotated[str | None, typer.Option("--max-quantity", help="[default: the venue's]")] = None,
    min_notional: Annotated[str, typer.Option("--min-notional", help="Of an order with a price.")] = "0",
    band_bps: Annotated[
        str, typer.Option("--band", help="How far from the reference, in basis points; 0: any.")
    ] = "0",
    maker_fee_bps: Annotated[str, typer.Option("--maker-fee", help="Basis points.")] = "0",
    taker_fee_bps: Annotated[str, typer.Option("--taker-fee", help="Basis points.")] = "0",
    base: Annotated[str | None, typer.Option("--base", help="[default: what stands before the dash]")] = None,
    quote: Annotated[str | None, typer.Option("--quote", help="[default: what stands behind it]")] = None,
) -> Any:
    """Add a symbol or change it; tick and lot change only while its book is empty."""
    body = _given(
        symbol=symbol,
        base=base,
        quote=quote,
        tick_size=tick_size,
        lot_size=lot_size,
        min_quantity=min_quantity,
        max_quantity=max_quantity,
        min_notional=min_notional,
        band_bps=band_bps,
        maker_fee_bps=maker_fee_bps,
        taker_fee_bps=taker_fee_bps,
    )
    return client.post("/admin/symbols", body, repeatable=True)


@app.command()
@admin_call
def fees(
    client: RestClient,
    symbol: Symbol,
    maker: Annotated[str, typer.Option("--maker", help="Basis points.")],
    taker: Annotated[str, typer.Option("--taker", help="Basis points; at least the maker's.")],
) -> Any:
    """Set the fees of orders that come from now on."""
    body = {"maker_fee_bps": maker, "taker_fee_bps": taker}
    path = "/admin/symbols" + path_of(symbol) + "/fees"
    return client.put(path, body, repeatable=True)


@app.command()
@admin_call
def band(
    client: RestClient,
    symbol: Symbol,
    bps: Annotated[
        str,
        typer.Argument(
            metavar="BPS", help="How far a price may lie from the reference, basis points; 0: any."
        ),
    ],
) -> Any:
    """Set the price band."""
    path = "/admin/symbols" + path_of(symbol) + "/band"
    return client.put(path, {"band_bps": bps}, repeatable=True)


@app.command()
@admin_call
def reference(
    client: RestClient,
    symbol: Symbol,
    price: Annotated[str, typer.Argument(metavar="PRICE", help="The next trade replaces it.")],
) -> Any:
    """Set the reference price of the band."""
    path = "/admin/symbols" + path_of(symbol) + "/reference"
    return client.put(path, {"price": price}, repeatable=True)


@app.command()
@admin_call
def halt(
    client: RestClient,
    symbol: SymbolOrAll,
    cancel_only: Annotated[
        bool, typer.Option("--cancel-only", help="Say that the venue is open for cancels only.")
    ] = False,
) -> Any:
    """Refuse new orders in a symbol or in all; cancels stay possible."""
    return _set_status(client, symbol, "cancel_only" if cancel_only else "halted")


@app.command()
@admin_call
def resume(client: RestClient, symbol: SymbolOrAll) -> Any:
    """Let a symbol, or all, trade again."""
    return _set_status(client, symbol, "trading")


def _set_status(client: RestClient, symbol: str, status: str) -> Any:
    return client.put("/admin/symbols" + path_of(symbol) + "/status", {"status": status}, repeatable=True)


@app.command()
@admin_call
def kill(
    client: RestClient,
    name: NameOrAll,
    switch: Annotated[
        Switch,
        typer.Argument(metavar="SWITCH", help="on cancels everything and refuses new orders; off lifts it."),
    ] = Switch.ON,
) -> Any:
    """The kill switch of an account or of the whole venue."""
    body = {"account": name, "on": switch is Switch.ON}
    return client.post("/admin/kill", body, repeatable=True)


@app.command("cancel-all")
@admin_call
def cancel_all(
    client: RestClient,
    name: NameOrAll,
    symbol: Annotated[str, typer.Option("--symbol", help="Only in this symbol.")] = "",
) -> Any:
    """Cancel the open orders of an account or of all, and go on trading."""
    body = _given(account=name, symbol=symbol or None)
    return client.post("/admin/cancel-all", body, repeatable=True)


@app.command()
@admin_call
def revoke(
    client: RestClient,
    jti: Annotated[str, typer.Option("--jti", help="Revoke the one token with this id.")] = "",
    of_account: Annotated[
        str, typer.Option("--of", metavar="ACCOUNT", help="Revoke every token of an account.")
    ] = "",
    issued_until: Annotated[
        int | None,
        typer.Option(
            "--issued-until", help="With --of: those issued up to these unix seconds. [default: now]"
        ),
    ] = None,
) -> Any:
    """Refuse tokens from now on, also those in use."""
    if bool(jti) == bool(of_account):
        raise Failure("say which tokens", "give either --jti ID or --of ACCOUNT", USAGE)
    body = {"jti": jti} if jti else _given(account=of_account, issued_until=issued_until)
    return client.post("/admin/tokens/revoke", body, repeatable=True)


@rules_app.command("show")
@admin_call
def rules_show(
    client: RestClient,
) -> Any:
    """Show the bounds of the shard."""
    return client.get("/admin/rules")


@rules_app.command("set")
@admin_call
def rules_set(
    client: RestClient,
    changes: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE…", help="For example closed_orders_max=20000.")
    ],
) -> Any:
    """Change bounds of the shard; the others stay as they are."""
    wanted: dict[str, int] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not value.isdecimal():
            raise Failure(f"{change!r} changes no rule", "write NAME=NUMBER; tradsys admin rules show", USAGE)
        wanted[name] = int(value)
    return client.put("/admin/rules", wanted, repeatable=True)


@app.command()
@admin_call
def drain(
    client: RestClient,
) -> Any:
    """Let the engine finish what it has, close its journal and end; a supervisor starts it again."""
    return client.post("/admin/drain", {})
