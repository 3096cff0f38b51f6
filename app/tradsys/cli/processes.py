"""Commands that run the venue's processes, and what one needs to begin: `run serve config token`."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from tradsys.cli import session, show
from tradsys.cli.failures import CONFIGURATION, ERROR, JOURNAL, LOCKED, Failure
from tradsys.cli.serve import PROCESSES, Process, leave
from tradsys.cli.serve import serve as serve_process
from tradsys.cli.supervisor import Child, Report, Supervisor, serve_argv
from tradsys.settings import Seed, Settings, describe

PANEL = "Running a venue"
FINAL_CODES = frozenset((JOURNAL, LOCKED, CONFIGURATION))
"""A process that ends with one of these would end so again."""
RUN_TOKEN_TTL_S = 86_400
LEAVING_S = 2.0
"""How long a venue that was just ended may still have its ports and its directory."""


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(run)
    app.command(rich_help_panel=PANEL)(serve)
    app.command(rich_help_panel=PANEL)(config)
    app.command(rich_help_panel=PANEL)(token)


def run() -> None:
    """Run a whole venue: engine, history, query, feed and gateway, restarted when one ends.

    One Ctrl-C ends it cleanly: nothing that was answered is lost. Prints the addresses, a token for the
    account demo and a first order to send. Settings: `tradsys config`. On a terminal the logs are text,
    unless `log_format` is set.
    """
    if sys.stdout.isatty() and _is_default("log_format"):
        os.environ["TRADSYS_LOG_FORMAT"] = "text"
    chosen = session.settings()
    _wait_until_free(chosen)
    greeting = _Greeting(chosen)
    children = [Child(name=name, argv=serve_argv(name), final_codes=FINAL_CODES) for name in PROCESSES]
    raise typer.Exit(Supervisor(children, report=_say, meanwhile=greeting.said_when_ready).run())


def _wait_until_free(settings: Settings) -> None:
    """Failure if somebody else has the data directory or a port: the processes would end again and again."""
    until = time.monotonic() + LEAVING_S
    while (taken := _taken(settings)) and time.monotonic() < until:
        time.sleep(0.1)
    if taken:
        raise taken


def _taken(settings: Settings) -> Failure | None:
    # Not at the top: most commands need neither.
    from tradsys.adapters.log.lock import DirectoryLocked, lock_directory

    if os.path.isdir(settings.data_dir):
        try:
            os.close(lock_directory(settings.data_dir))
        except DirectoryLocked as locked:
            hint = "a venue runs there; for another one set TRADSYS_DATA_DIR, and ports of its own"
            return Failure(str(locked), hint, LOCKED)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for known in describe(os.environ):
        if known.name.split("_")[-1] == "port" and known.value:
            try:
                socket.create_server((settings.host, known.value), family=family).close()
            except OSError as fault:
                reason = str(fault.strerror or fault).partition(" (")[0].lower()
                return Failure(
                    f"cannot listen on port {known.value} of {settings.host} ({known.name}): {reason}",
                    f"set {known.env} to a free one; `ss -ltnp 'sport = :{known.value}'` says who has it",
                    ERROR,
                )
    return None


def _is_default(setting: str) -> bool:
    return all(known.source == "default" for known in describe(os.environ) if known.name == setting)


def _say(report: Report) -> None:
    text = f"{report.child} {report.what} (pid {report.pid})"
    if report.code is not None:
        text += f", exit code {report.code}" if report.code >= 0 else f", by signal {-report.code}"
    if report.restart_in_s is not None:
        text += f"; again in {report.restart_in_s:g} s"
    show.err.print(text, style="dim" if report.code is None else "", markup=False)


class _Greeting:
    """Waits for the engine to be ready, then says where it is and what to do first."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def said_when_ready(self) -> bool:
        if not _is_ready(self._settings):
            return False
        settings = self._settings
        url = session.public_url("")
        bearer = _minted()  # Takes a moment, in which others' lines would come between ours.
        typer.echo(f"\ntradsys is ready; its data is in {os.path.abspath(settings.data_dir)}\n")
        show.facts(
            {
                "REST": f"{url}/api/v1",
                "streams": f"ws://{settings.host}:{settings.ws_port}/ws",
                "gRPC": f"{settings.host}:{settings.grpc_port}",
                "admin": f"{session.admin_url('')}/api/v1/admin",
                "console": f"http://{settings.host}:{settings.query_port}/",
                "history": f"http://{settings.host}:{settings.query_port}/api/v1",
                "health": f"http://{settings.host}:{settings.ops_port}/readyz",
                "metrics": f"http://{settings.host}:{settings.ops_port}/metrics",
            }
        )
        if bearer:
            self._say_first_order(url, bearer)
        typer.echo("\nCtrl-C ends the venue.\n")
        sys.stdout.flush()
        return True

    def _say_first_order(self, url: str, bearer: str) -> None:
        # Plain writes: a terminal's line breaks inside a command would spoil it for copying.
        typer.echo(f"\nA token for the account {session.DEMO}, valid for a day:\n\nTOKEN={bearer}\n")
        typer.echo("A first order rests, and the next one trades with it:\n")
        for side in ("sell", "buy"):
            order = (
                f'{{"symbol":"BTC-USD","side":"{side}","type":"limit","price":"50000.00","quantity":"0.5"}}'
            )
            typer.echo(
                f"curl -s -w '\\n' {url}/api/v1/orders "
                '-H "Authorization: Bearer $TOKEN" '
                f"-H 'Content-Type: application/json' -d '{order}'"
            )
        called = _as_called()
        typer.echo(f"\nThen look: {called} book BTC-USD, {called} account")


def _minted() -> str:
    """A token of the demo account, or nothing where tokens come from another issuer."""
    try:
        return session.mint_token(session.DEMO, "trade read", RUN_TOKEN_TTL_S)
    except Failure:
        return ""


def _as_called() -> str:
    """What to type for this program: `make run` starts it from .venv, which is seldom on PATH."""
    called = sys.argv[0]
    return called if os.path.basename(called) == "tradsys" and not shutil.which("tradsys") else "tradsys"


def _is_ready(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(settings.host, settings.ops_port, timeout=0.5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def serve(name: Annotated[Process, typer.Argument(help="Which process of the venue.")]) -> None:
    """Run one process of a venue in the foreground: what a container does."""
    leave(serve_process(name.value))


def config(as_json: session.Json = False) -> None:
    """Show every setting with its value and where the value comes from.

    A setting `name` is `name` in the YAML file (--config) and TRADSYS_NAME in the environment, which wins.
    """
    described = describe(os.environ)
    if as_json:
        show.json(described)
        return
    rows = [
        {
            "setting": setting.name,
            "value": _brief(setting.value),
            "unit": setting.unit,
            "source": setting.source,
            "limits": setting.limits,
            "meaning": setting.doc,
        }
        for setting in described
    ]
    show.table(rows, ("setting", "value", "unit", "source", "limits", "meaning"))


def _brief(value: object) -> object:
    if isinstance(value, Seed):
        return f"{_names([s.symbol for s in value.symbols])}; {_names([a.account for a in value.accounts])}"
    return value


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def token(
    account: Annotated[str, typer.Option("--account", help="Account the token is for; admins create it.")],
    scope: Annotated[str, typer.Option("--scope", help='Words of "trade read admin".')] = "trade read",
    ttl: Annotated[str, typer.Option("--ttl", help="How long it is valid: 90s, 15m, 1h, 7d.")] = "1h",
) -> None:
    """Print a token, and nothing else. Works without a running venue, by the key in its data directory."""
    typer.echo(session.mint_token(account, scope, session.seconds_of(ttl)))
