"""Commands that trade: `order place|get|list|replace|test` and `cancel`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from tradsys.cli import session, show
from tradsys.cli.failures import USAGE, Failure
from tradsys.client.rest import RestClient, path_of

PANEL = "Trading"
LIST_COLUMNS = (
    "order_id",
    "symbol",
    "side",
    "type",
    "price",
    "quantity",
    "filled_quantity",
    "remaining_quantity",
    "status",
    "client_order_id",
    "created_ts",
)

order_app = typer.Typer(no_args_is_help=True, help="Place orders, look at them, change them.")


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class TimeInForce(StrEnum):
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    GTD = "gtd"
    DAY = "day"


class Stp(StrEnum):
    NONE = "none"
    CANCEL_TAKER = "cancel_taker"
    CANCEL_MAKER = "cancel_maker"
    CANCEL_BOTH = "cancel_both"


class OrderStatus(StrEnum):
    OPEN = "open"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"


OrderRef = Annotated[
    str, typer.Argument(metavar="ORDER", help="An order id, or with --client a client_order_id.")
]
ByClient = Annotated[bool, typer.Option("--client", help="ORDER is a client_order_id.")]


def register(app: typer.Typer) -> None:
    app.add_typer(order_app, name="order", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(cancel)


def _show_order(answer: Any) -> None:
    show.facts({name: value for name, value in answer.items() if name != "fills" and value is not None})
    if answer.get("fills"):
        columns = ("trade_id", "ts", "liquidity", "price", "quantity", "fee")
        show.table(answer["fills"], columns, "Fills")


def _show_orders(answer: Any) -> None:
    show.table(answer["items"], LIST_COLUMNS, empty="no such orders")


def _sends(path: str, doc: str) -> Callable[..., Any]:
    """A function that sends an order to `path`: placing and testing take the same words."""

    def send(
        client: RestClient,
        symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="For example BTC-USD.")],
        side: Annotated[Side, typer.Argument(metavar="SIDE", help="buy or sell.")],
        quantity: Annotated[str, typer.Argument(metavar="QUANTITY", help="In base units, for example 0.5.")],
        price: Annotated[str, typer.Option("--price", "-p", help="Limit price; without one: market.")] = "",
        stop_price: Annotated[
            str, typer.Option("--stop", help="Sleep until the last price is there; a stop order.")
        ] = "",
        time_in_force: Annotated[
            TimeInForce | None, typer.Option("--tif", help="[default: gtc, a market order ioc]")
        ] = None,
        expires_in: Annotated[str, typer.Option("--expires-in", help="gtd order: 90s, 15m, 8h.")] = "",
        post_only: Annotated[bool, typer.Option("--post-only", help="Refuse it if it would trade.")] = False,
        display_quantity: Annotated[
            str, typer.Option("--display", help="Iceberg: show no more than this.")
        ] = "",
        stp: Annotated[
            Stp | None, typer.Option("--stp", help="Self-trade prevention. [default: none]")
        ] = None,
        valid_for: Annotated[
            str, typer.Option("--valid-for", help="Refuse it if it arrives later than this.")
        ] = "",
        client_order_id: Annotated[
            str, typer.Option("--client-order-id", help="Makes a repeat safe. [default: a new one]")
        ] = "",
    ) -> Any:
        stop_word = "stop_limit" if price else "stop"
        body: dict[str, Any] = {
            "symbol": symbol,
            "side": side.value,
            "type": stop_word if stop_price else "limit" if price else "market",
            "quantity": quantity,
            "client_order_id": client_order_id or f"cli-{secrets.token_hex(8)}",
        }
        if expires_in:
            if time_in_force not in (None, TimeInForce.GTD):
                raise Failure("--expires-in makes a gtd order", "leave --tif out, or say gtd", USAGE)
            body |= {"time_in_force": "gtd", "expire_at": _moment(expires_in)}
        elif time_in_force:
            body["time_in_force"] = time_in_force.value
        optional = {
            "price": price,
            "stop_price": stop_price,
            "display_quantity": display_quantity,
            "stp": stp and stp.value,
            "valid_until": valid_for and _moment(valid_for),
            "post_only": post_only,
        }
        body |= {name: value for name, value in optional.items() if value}
        return client.post(path, body, repeatable=True)

    send.__doc__ = doc
    return send


def _moment(duration: str) -> str:
    return str(time.time_ns() + session.seconds_of(duration) * 1_000_000_000)


place = session.asks(session.Access.ACCOUNT, _show_order)(
    _sends("/orders", "Place an order. It is limit with --price, market without, a stop with --stop.")
)
order_app.command("place")(place)


@order_app.command("get")
@session.asks(session.Access.ACCOUNT, _show_order)
def get(client: RestClient, order: OrderRef, by_client: ByClient = False) -> Any:
    """Show an order with its fills."""
    return client.get(_path(order, by_client))


@order_app.command("list")
@session.asks(session.Access.ACCOUNT, _show_orders)
def list_orders(
    client: RestClient,
    symbol: Annotated[str, typer.Option("--symbol", help="Only of this symbol.")] = "",
    status: Annotated[OrderStatus, typer.Option("--status", help="Which ones.")] = OrderStatus.OPEN,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many, newest first.")] = 100,
) -> Any:
    """List the account's orders."""
    return client.get("/orders", {"symbol": symbol, "status": status.value, "limit": limit})


@order_app.command("replace")
@session.asks(session.Access.ACCOUNT, _show_order)
def replace(
    client: RestClient,
    order: OrderRef,
    quantity: Annotated[str, typer.Option("--quantity", "-q", help="The new total.")] = "",
    price: Annotated[str, typer.Option("--price", "-p", help="The new price.")] = "",
    version: Annotated[
        int | None, typer.Option("--version", min=0, help="Only if it was replaced as often.")
    ] = None,
    by_client: ByClient = False,
) -> Any:
    """Change quantity or price of an order; less at the same price keeps its place in the queue."""
    if not quantity and not price:
        raise Failure("nothing to change", "give --quantity, --price, or both", USAGE)
    body: dict[str, Any] = {
        name: value for name, value in (("quantity", quantity), ("price", price)) if value
    }
    if version is not None:
        body["version"] = version
    return client.put("/orders" + path_of(_order_id(client, order, by_client)), body)


order_app.command("test")(
    session.asks(session.Access.ACCOUNT, show.facts)(
        _sends("/orders/test", "Check an order against every rule, and do not place it.")
    )
)


def _path(order: str, by_client: bool) -> str:
    return ("/orders/by-client" if by_client else "/orders") + path_of(order)


def _order_id(client: RestClient, order: str, by_client: bool) -> str:
    return str(client.get(_path(order, True))["order_id"]) if by_client else order


def _show_canceled(answer: Any) -> None:
    if "order_id" in answer:
        _show_order(answer)
    else:
        rest = "; the venue goes on with the rest" if answer["pending"] else ""
        show.out.print(f"{answer['canceled']} orders canceled{rest}")


@session.asks(session.Access.ACCOUNT, _show_canceled)
def cancel(
    client: RestClient,
    order: Annotated[str, typer.Argument(metavar="ORDER", help="An order id; not with --all.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Cancel all of the account's orders.")] = False,
    symbol: Annotated[str, typer.Option("--symbol", help="With --all: only in this symbol.")] = "",
    side: Annotated[Side | None, typer.Option("--side", help="With --all: only of this side.")] = None,
    by_client: ByClient = False,
) -> Any:
    """Cancel one order, or all orders of the account."""
    if everything == bool(order):
        raise Failure("say what to cancel", "give an order id, or --all", USAGE)
    if not everything and (symbol or side):
        raise Failure("--symbol and --side narrow --all down", "an order id needs neither", USAGE)
    if not everything:
        return client.delete("/orders" + path_of(_order_id(client, order, by_client)))
    return client.delete("/orders", {"symbol": symbol, "side": side.value if side else ""})
