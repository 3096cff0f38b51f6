"""`tradsys`: the command line. Each group of commands is a module; this one puts them together."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tradsys import __version__
from tradsys.cli import admin, bench, flow, journal, orders, processes, reading, show, watch
from tradsys.cli.failures import CONFIGURATION, ERROR, JOURNAL, Failure
from tradsys.client.rest import Refused, Unreachable
from tradsys.flow.exchange import Diverged
from tradsys.flow.lobster import LobsterError
from tradsys.settings import CONFIG_ENV, SettingsError
from tradsys.venue.ports import JournalError

HINTS = {
    1001: "ask what became of it: tradsys order get CLIENT_ORDER_ID --client",
    1003: "tradsys symbols lists what there is; tradsys admin symbol define adds one",
    1004: "tradsys symbols shows tick and lot",
    1010: "tradsys symbols shows the status; tradsys admin resume ends a halt",
    1020: "the venue starts or ends; try again in a moment",
    2001: "pass --token, or make one with tradsys token --account NAME",
    2002: "make a new one with tradsys token --account NAME",
    2003: "another scope, or an account that exists: tradsys admin account create NAME",
    3005: "an admin lifts it: tradsys admin kill NAME off",
}
"""What to do about a refusal, where it is not said by the refusal itself."""

app = typer.Typer(
    name="tradsys",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tradsys {__version__}")
        raise typer.Exit


@app.callback()
def root(
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file (YAML).", envvar=CONFIG_ENV, dir_okay=False)
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Data directory of the venue. [default: ./data]")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A trading venue: order entry, matching, pre-trade risk and market data.

    Start one with `tradsys run`, look at it with `tradsys book BTC-USD`.
    Exit codes: 0 done, 1 refused or failed, 2 usage, 70 journal, 75 locked, 78 configuration.
    """
    if config:
        os.environ[CONFIG_ENV] = str(config)
    if data_dir:
        os.environ["TRADSYS_DATA_DIR"] = str(data_dir)


processes.register(app)
reading.register(app)
watch.register(app)
orders.register(app)
app.add_typer(admin.app, name="admin", rich_help_panel="Administration")
journal.register(app)
flow.register(app)
bench.register(app)


command = typer.main.get_command(app)


def main() -> None:
    """The console script; see failures.py for the exit codes."""
    try:
        command(prog_name="tradsys")
    except Failure as failure:
        _end(failure.exit_code, failure.message, failure.hint)
    except Refused as refusal:
        _end(ERROR, _refused(refusal), HINTS.get(refusal.code, ""))
    except Unreachable as failure:
        unknown = (
            "whether it was done is unknown: look before you repeat it" if failure.outcome_unknown else ""
        )
        _end(
            ERROR,
            str(failure),
            unknown or "is the venue running? `tradsys run` starts one; --url names another",
        )
    except SettingsError as failure:
        _end(CONFIGURATION, str(failure), "tradsys config lists every setting")
    except JournalError as failure:
        _end(JOURNAL, str(failure), "restore a backup, or ask for help with the exact place named above")
    except LobsterError as failure:
        _end(ERROR, str(failure), "")
    except Diverged as failure:
        _end(ERROR, str(failure), "does anybody else trade in this symbol?")
    except OSError as failure:
        _end(ERROR, str(failure), "")


def _refused(refusal: Refused) -> str:
    text = f"refused with {refusal.code}: {refusal.message}"
    return f"{text} (request {refusal.request_id})" if refusal.request_id else text


def _end(exit_code: int, message: str, hint: str) -> NoReturn:
    show.err.print(f"tradsys: {message}", style="red", markup=False, soft_wrap=True)
    if hint:
        show.err.print(f"  {hint}", markup=False, soft_wrap=True)
    sys.exit(exit_code)
