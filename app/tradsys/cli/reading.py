"""Commands that look: `symbols book trades account`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from tradsys.cli import session, show
from tradsys.client.rest import RestClient, path_of

PANEL = "Trading"
BAR_COLUMNS = 24
SYMBOL_COLUMNS = (
    "symbol",
    "status",
    "tick_size",
    "lot_size",
    "min_quantity",
    "max_quantity",
    "min_notional",
    "band_bps",
    "maker_fee_bps",
    "taker_fee_bps",
)

Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="For example BTC-USD.")]


class Level(StrEnum):
    PRICES = "2"
    ORDERS = "3"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(symbols)
    app.command(rich_help_panel=PANEL)(book)
    app.command(rich_help_panel=PANEL)(trades)
    app.command(rich_help_panel=PANEL)(account)


def _show_symbols(answer: Any) -> None:
    rows = answer.get("items", [answer])
    show.table(rows, SYMBOL_COLUMNS, empty="no symbols yet: tradsys admin symbol define")


@session.asks(session.Access.OPEN, _show_symbols)
def symbols(
    client: RestClient,
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Only this one.")] = "",
) -> Any:
    """List what may be traded, with tick, lot, band and fees."""
    return client.get("/symbols" + (path_of(symbol) if symbol else ""))


def show_book(answer: Any) -> None:
    """Asks above bids, the touch in the middle, as a trader reads it; bars show the quantity."""
    title = f"{answer['symbol']} at seq {answer['seq']}"
    if not answer["bids"] and not answer["asks"]:
        show.out.print(f"{title}: the book is empty", markup=False)
        return
    largest = max(float(row[1]) for side in ("asks", "bids") for row in answer[side])
    rows = [_book_row("sell", row, largest) for row in reversed(answer["asks"])]
    if answer["bids"] and answer["asks"]:
        rows.append({"side": "", "price": "", "quantity": "", "order_id": "", "depth": ""})
    rows += [_book_row("buy", row, largest) for row in answer["bids"]]
    by_order = any("order_id" in row and row["order_id"] for row in rows)
    show.table(rows, ("side", "price", "quantity", "order_id" if by_order else "depth"), title=title)


def _book_row(side: str, row: list[str], largest: float) -> dict[str, str]:
    bar = "█" * max(round(float(row[1]) / largest * BAR_COLUMNS), 1)
    return {
        "side": side,
        "price": row[0],
        "quantity": row[1],
        "order_id": row[2] if len(row) > 2 else "",
        "depth": bar,
    }


@session.asks(session.Access.OPEN, show_book)
def book(
    client: RestClient,
    symbol: Symbol,
    depth: Annotated[int, typer.Option("--depth", min=1, max=1_000, help="Price levels of each side.")] = 10,
    level: Annotated[Level, typer.Option("--level", help="2: by price; 3: each order.")] = Level.PRICES,
) -> Any:
    """Show the order book of a symbol."""
    return client.get("/market" + path_of(symbol) + "/book", {"depth": depth, "level": level.value})


def _show_trades(answer: Any) -> None:
    columns = ("trade_id", "ts", "taker_side", "price", "quantity", "seq")
    show.table(answer["items"], columns, empty="no trades yet")


@session.asks(session.Access.OPEN, _show_trades)
def trades(
    client: RestClient,
    symbol: Symbol,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many, newest first.")] = 20,
) -> Any:
    """Show the last trades of a symbol."""
    return client.get("/market" + path_of(symbol) + "/trades", {"limit": limit})


def _show_account(answer: Any) -> None:
    me, limits = answer["account"], answer["limits"]
    facts = {name: me[name] for name in ("account", "mode", "killed", "open_orders")}
    if me["mode"] == "limits":
        facts |= {name: limits[name] for name in limits if name != "mode" and limits[name] not in ("0", 0)}
    show.facts(facts)
    show.table(answer["balances"], ("asset", "free", "reserved", "total"), "Balances", "no balances")
    columns = ("symbol", "quantity", "open_buys", "open_sells")
    show.table(answer["positions"], columns, "Positions", "no positions")


@session.asks(session.Access.ACCOUNT, _show_account)
def account(client: RestClient) -> Any:
    """Show the account's balances, positions and limits."""
    return {
        "account": client.get("/accounts/me"),
        "limits": client.get("/risk/limits"),
        "balances": client.get("/balances")["items"],
        "positions": client.get("/positions")["items"],
    }
