"""The picture of `tradsys watch`: a symbol's ladder and last trades, live, from the venue's streams.

The book is kept in step by the client and proves its checksum at every change; what is shown is never a
guess. A terminal is drawn at most ten times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tradsys.cli import show
from tradsys.client.book import LocalBook
from tradsys.client.streams import Streams
from tradsys.codec.decimals import amount_of, text_of
from tradsys.codec.market_v1 import Trade
from tradsys.codec.stream_v1 import DEPTHS

DRAWS_PER_S = 10
TRADES_SHOWN = 8
BAR_COLUMNS = 24


def follow(symbol: str, depth: int, count: int, url: str, as_json: bool) -> None:
    """Until `count` changes were shown (0: without end), q or Ctrl-C. Raises Refused, Unreachable."""
    following = Following(symbol, depth, count)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_as_lines(following, url) if as_json else _as_picture(following, url))


class Following:
    """What is known of a symbol now."""

    def __init__(self, symbol: str, depth: int, count: int) -> None:
        self.symbol, self.depth = symbol, depth
        self.left = count
        self.book = LocalBook()
        self.trades: deque[Trade] = deque(maxlen=TRADES_SHOWN)
        self.changed = asyncio.Event()

    async def books(self, streams: Streams) -> AsyncIterator[LocalBook]:
        """The book after each change, as many as were asked for."""
        deep = next(one for one in DEPTHS if one >= self.depth)
        async for book in streams.book(self.symbol, deep):
            self.book = book
            self.changed.set()
            yield book
            if self.left:
                self.left -= 1
                if not self.left:
                    return

    async def follow_book(self, streams: Streams) -> None:
        async for _ in self.books(streams):
            pass

    async def follow_trades(self, streams: Streams) -> None:
        async for message in streams.trades(self.symbol):
            if message.type == "snapshot":
                self.trades.clear()
            self.trades.extend(message.items)
            self.changed.set()


async def _as_lines(following: Following, url: str) -> None:
    async with Streams(url) as streams:
        async for book in following.books(streams):
            bids, asks = book.levels(following.depth)
            show.json_line(
                {
                    "symbol": following.symbol,
                    "seq": book.seq,
                    "epoch": book.epoch,
                    "bids": bids,
                    "asks": asks,
                }
            )


async def _as_picture(following: Following, url: str) -> None:
    async with Streams(url) as streams:
        quit = asyncio.Event()
        with _keys(quit), Live(console=show.out, auto_refresh=False, screen=show.out.is_terminal) as live:

            async def draw() -> None:
                while True:
                    await following.changed.wait()
                    following.changed.clear()
                    live.update(picture(following, streams), refresh=True)
                    await asyncio.sleep(1 / DRAWS_PER_S)

            await _until_first(
                following.follow_book(streams), following.follow_trades(streams), draw(), _wait(quit)
            )
            live.update(picture(following, streams), refresh=True)


async def _wait(quit: asyncio.Event) -> None:
    await quit.wait()


async def _until_first(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run them until one ends; raises what it raises."""
    tasks = [asyncio.create_task(job) for job in jobs]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in done:
        task.result()


@contextlib.contextmanager
def _keys(quit: asyncio.Event) -> Iterator[None]:
    """While it lasts the key q sets `quit`, if there is a keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    loop, handle = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    tty.setcbreak(handle)

    def pressed() -> None:
        # Not sys.stdin.read: what it reads ahead would never be told of again.
        if b"q" in os.read(handle, 64).lower():
            quit.set()

    loop.add_reader(handle, pressed)
    try:
        yield
    finally:
        loop.remove_reader(handle)
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def picture(following: Following, streams: Streams) -> Group:
    """The ladder as a trader reads it, asks above bids, and the last trades below."""
    bids, asks = following.book.levels(following.depth)
    largest = max((amount_of(quantity) for _, quantity in (*bids, *asks)), default=1)
    ladder = Table(box=None, pad_edge=False, show_header=False)
    ladder.add_column(justify="right", min_width=14)
    ladder.add_column(justify="right", min_width=14)
    ladder.add_column(min_width=BAR_COLUMNS)

    def add(price: str, quantity: str, style: str) -> None:
        bar = "█" * max(1, BAR_COLUMNS * amount_of(quantity) // largest)
        ladder.add_row(Text(price, style=style), Text(quantity), Text(bar, style=style))

    for price, quantity in reversed(asks):
        add(price, quantity, "red")
    ladder.add_row(Text(_spread(bids, asks), style="dim"), Text(""), Text(""))
    for price, quantity in bids:
        add(price, quantity, "green")
    trades = Table(box=None, pad_edge=False, show_header=False)
    for trade in reversed(following.trades):
        style = show.STATUS_STYLES.get(trade.taker_side, "")
        trades.add_row(
            Text(show.time_text(trade.ts)[11:], style="dim"),
            Text(trade.taker_side, style=style),
            Text(trade.price, style=style),
            Text(trade.quantity),
        )
    return Group(
        Text(_heading(following, streams), style="bold"), ladder, Text("trades", style="dim"), trades
    )


def _heading(following: Following, streams: Streams) -> str:
    book, position = following.book, streams.position
    durable = f", durable {position.durable_seq}" if position is not None else ""
    state = "in step" if book.in_step else "waiting for a snapshot"
    return f"{following.symbol}  {state} at seq {book.seq}{durable}  q ends"


def _spread(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> str:
    if not bids or not asks:
        return "no bids" if asks else "no asks" if bids else "the book is empty"
    return f"spread {text_of(amount_of(asks[0][0]) - amount_of(bids[0][0]))}"
