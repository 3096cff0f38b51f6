"""`tradsys watch`: the command; `ladder.py` is what it shows."""

from __future__ import annotations

from typing import Annotated

import typer

from tradsys.cli import session

PANEL = "Trading"
DEPTH_MAX = 100

WsUrl = Annotated[
    str, typer.Option("--ws-url", help="Streams of the venue. [default: loopback, the port of the settings]")
]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(watch)


def watch(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="For example BTC-USD.")],
    depth: Annotated[int, typer.Option("--depth", min=1, max=DEPTH_MAX, help="Levels of each side.")] = 10,
    count: Annotated[int, typer.Option("--count", min=0, help="End after so many changes; 0: never.")] = 0,
    ws_url: WsUrl = "",
    as_json: session.Json = False,
) -> None:
    """Watch the order book and the trades of a symbol, live; q or Ctrl-C ends it.

    With --json it prints the book on one line for each change.
    """
    # Not at the top: asyncio and the WebSocket take longer to import than most commands to run.
    from tradsys.cli.ladder import follow

    follow(symbol, depth, count, session.stream_url(ws_url), as_json)
