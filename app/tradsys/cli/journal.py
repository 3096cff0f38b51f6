"""Commands on a venue's data: `replay verify rebuild snapshot backup restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tradsys.cli import session, show
from tradsys.cli.failures import Failure
from tradsys.client.rest import RestClient

PANEL = "Data"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(replay)
    app.command(rich_help_panel=PANEL)(verify)
    app.command(rich_help_panel=PANEL)(rebuild)
    app.command(rich_help_panel=PANEL)(snapshot)
    app.command(rich_help_panel=PANEL)(backup)
    app.command(rich_help_panel=PANEL)(restore)


def replay(
    until: Annotated[
        int | None,
        typer.Option("--until", min=0, metavar="SEQ", help="The last command. [default: all there are]"),
    ] = None,
    symbol: Annotated[str, typer.Option("--symbol", help="Only this symbol's book.")] = "",
    depth: Annotated[int, typer.Option("--depth", min=1, max=1_000, help="Levels of each side.")] = 10,
    as_json: session.Json = False,
) -> None:
    """Show the books as they were after a command, from the journal alone.

    Works on the data directory, also while the venue runs, and changes nothing.
    """
    from tradsys.cli import datadir
    from tradsys.cli.reading import show_book
    from tradsys.codec.market_v1 import book_of

    chosen = session.settings()
    with show.Progress("commands") as progress:
        moment = datadir.replay(chosen, until, progress.move)
    shard = moment.shard
    if symbol and symbol not in shard.markets:
        raise Failure(
            f"there was no symbol {symbol} at seq {moment.seq}", f"there were: {', '.join(shard.markets)}"
        )
    markets = [shard.markets[symbol]] if symbol else list(shard.markets.values())
    books = [
        book_of(market, depth, 2, shard.name, moment.seq, moment.epoch, moment.time_ns) for market in markets
    ]
    facts = {
        "seq": moment.seq,
        "ts": str(moment.time_ns),
        "state_hash": shard.state_hash(),
        "open_orders": shard.orders.open_count,
        "accounts": len(shard.accounts),
    }
    if as_json:
        show.json(facts | {"books": books})
        return
    show.facts(facts)
    for book in books:
        show_book(msgspec.to_builtins(book))


def verify(as_json: session.Json = False) -> None:
    """Check the journal and the snapshots: chain, replay, events, states, money.

    Every frame must verify, replay must give the journalled events byte for byte and the state of each
    snapshot, and no money may be created or lost. Beside a running engine the part that it has published
    is checked. Exit code 70, and the exact place, if anything is wrong.
    """
    from tradsys.cli import datadir

    chosen = session.settings()
    with show.Progress("commands") as progress:
        found = datadir.verify(chosen, progress.move)
    if as_json:
        show.json(found)
        return
    facts: dict[str, Any] = msgspec.to_builtins(found)
    facts["snapshots"] = ", ".join(str(seq) for seq in found.snapshots) or "none"
    show.facts(facts)
    show.out.print("[green]the journal is whole, replays to itself, and money is conserved[/green]")


def rebuild(as_json: session.Json = False) -> None:
    """Make the read model anew from the journal, also while the venue runs.

    Queries are answered from the old tables until the new ones are complete; history goes on behind them.
    """
    from tradsys.cli import datadir

    chosen = session.settings()
    with show.Progress("commands") as progress:
        found = datadir.rebuild(chosen, progress.move)
    if as_json:
        show.json(found)
        return
    show.facts(msgspec.to_builtins(found))


def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory, or a new one.")],
    as_json: session.Json = False,
) -> None:
    """Copy the venue's data, also while it runs; the copy is replayed and proves itself.

    It reaches up to what is on the disk when it begins. Keys are not copied.
    """
    from tradsys.cli import backup as copying

    chosen = session.settings()
    with show.Progress("bytes copied") as copied, show.Progress("commands replayed") as replayed:
        _show_manifest(copying.backup(chosen, target, copied.move, replayed.move), as_json)


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="What `tradsys backup` has made.")],
    as_json: session.Json = False,
) -> None:
    """Make an empty data directory from a backup, and prove that it is what was backed up."""
    from tradsys.cli import backup as copying

    chosen = session.settings()
    with show.Progress("bytes copied") as copied, show.Progress("commands replayed") as replayed:
        _show_manifest(copying.restore(chosen, source, copied.move, replayed.move), as_json)


def _show_manifest(manifest: Any, as_json: bool) -> None:
    facts = msgspec.to_builtins(manifest)
    if as_json:
        show.json(facts)
        return
    facts["files"] = len(manifest.files)
    show.facts(facts)


@session.asks(session.Access.HISTORY, show.facts)
def snapshot(client: RestClient) -> Any:
    """Ask history to write a snapshot now, and to prove that it can be loaded.

    The engine goes on undisturbed; the next start replays only what comes after it.
    """
    return client.call("POST", "/internal/snapshot", repeatable=True).body
