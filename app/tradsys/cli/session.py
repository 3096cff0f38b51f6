"""What most commands share: the settings, where the venue is, and who asks.

Options of the root command (`--config`, `--data-dir`) are put into the environment, because that is how
settings reach the processes that `run` starts, too.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from enum import Enum
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from tradsys.cli import show
from tradsys.cli.failures import CONFIGURATION, USAGE, Failure
from tradsys.client.rest import RestClient
from tradsys.settings import Settings, load

KEY_FILE = "hs256.key"
DEMO = "demo"
SHORT_TTL_S = 600
"""Life of a token that a command mints for itself."""
SNAPSHOT_TIMEOUT_S = 180.0
"""A snapshot of a million orders takes a few seconds, and as many again to be verified."""

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="TRADSYS_URL",
        help="REST address of the venue. [default: loopback, the port of the settings]",
    ),
]
AdminUrl = Annotated[
    str,
    typer.Option(
        "--admin-url",
        envvar="TRADSYS_ADMIN_URL",
        help="Admin address of the venue. [default: loopback, the admin port of the settings]",
    ),
]
HistoryUrl = Annotated[
    str,
    typer.Option(
        "--history-url",
        help="Ops address of history. [default: loopback, the history port of the settings]",
    ),
]
Token = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="TRADSYS_TOKEN",
        help="Bearer token. [default: minted with the key of the data directory, for --account]",
        show_envvar=True,
    ),
]
Account = Annotated[
    str, typer.Option("--account", envvar="TRADSYS_ACCOUNT", help="Account of a minted token.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Access(Enum):
    """What a command needs to ask the venue."""

    OPEN = "nothing"
    ACCOUNT = "a token of an account"
    ADMIN = "a token with the scope admin, and the admin listener"
    HISTORY = "history's ops port, from the same machine"


def asks(access: Access, shown: Callable[[Any], None]) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Make a command of a function that takes a client and returns what the venue answered.

    The command has the function's own parameters, and --json and those that say where the venue is and who
    asks. The answer is printed as JSON, or by `shown` for a person.
    """
    where = {Access.ADMIN: AdminUrl, Access.HISTORY: HistoryUrl}.get(access, Url)
    options: dict[str, Any] = {"url": where}
    if access in (Access.ACCOUNT, Access.ADMIN):
        options |= {"token": Token, "account": Account}
    options["as_json"] = Json
    defaults = {"url": "", "token": "", "account": DEMO, "as_json": False}

    def command_of(ask: Callable[..., Any]) -> Callable[..., None]:
        def command(as_json: bool, url: str, token: str = "", account: str = "", **given: Any) -> None:
            if access is Access.OPEN:
                client = RestClient(public_url(url))
            elif access is Access.ACCOUNT:
                client = connect(url, token, account)
            elif access is Access.ADMIN:
                client = connect_admin(url, token, account)
            else:
                client = RestClient(history_url(url), prefix="", timeout_s=SNAPSHOT_TIMEOUT_S)
            answer = ask(client, **given)
            if as_json:
                show.json(answer)
            else:
                shown(answer)

        # Typer reads a command's parameters from its signature.
        _, *own = signature(ask, eval_str=True).parameters.values()
        added = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=defaults[name], annotation=option)
            for name, option in options.items()
        ]
        whole = Signature([*own, *added])
        command.__signature__ = whole  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
        command.__name__, command.__doc__ = ask.__name__, ask.__doc__
        return command

    return command_of


def settings() -> Settings:
    """The settings in force. Raises SettingsError, which ends the command with 78."""
    return load(os.environ)


def public_url(url: str) -> str:
    return _given(url, "http") or f"http://{_reachable(settings().host)}:{settings().port}"


def admin_url(url: str) -> str:
    return _given(url, "http") or f"http://{_reachable(settings().host)}:{settings().admin_port}"


def history_url(url: str) -> str:
    return _given(url, "http") or f"http://{_reachable(settings().host)}:{settings().history_port}"


def stream_url(url: str) -> str:
    return _given(url, "ws") or f"ws://{_reachable(settings().host)}:{settings().ws_port}"


def _given(url: str, scheme: str) -> str:
    """The address that was given, if one was. Failure if nothing could be reached by it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in (scheme, scheme + "s") and parts.hostname and parts.port != 0
    except ValueError:  # A port that is no number.
        usable = False
    if url and not usable:
        raise Failure(
            f"{url!r} is no address of a venue", f"write {scheme}://HOST:PORT, or {scheme}s://HOST", USAGE
        )
    return url


def _reachable(host: str) -> str:
    """An address to connect to for one that was bound to."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def key_path(settings: Settings) -> Path:
    return Path(settings.hs256_key_file or Path(settings.data_dir) / KEY_FILE)


def mint_token(account: str, scope: str, ttl_s: int) -> str:
    """A token signed with the venue's own key. Failure if this process can't read the key."""
    # Not at the top: PyJWT and cryptography take longer to import than most commands to run.
    from tradsys.adapters.auth.keys import HmacKey, KeyFileError
    from tradsys.adapters.auth.mint import mint

    chosen = settings()
    path = key_path(chosen)
    if chosen.jwks_file and not path.exists():
        raise Failure(
            "this venue takes the tokens of another issuer, and none was given",
            "pass --token or set TRADSYS_TOKEN",
        )
    try:
        key = HmacKey.load(path)
    except KeyFileError as fault:
        raise Failure(
            f"no token was given, and none can be made here: {fault}",
            "pass --token or set TRADSYS_TOKEN; or name the venue's directory with --data-dir "
            "(`tradsys run` makes the key at its first start)",
            CONFIGURATION,
        ) from None
    try:
        return mint(key, account, scope, ttl_s, chosen.token_issuer, chosen.token_audience, int(time.time()))
    except ValueError as fault:
        raise Failure(str(fault), exit_code=USAGE) from None


def connect(url: str, token: str, account: str, scope: str = "trade read") -> RestClient:
    """A client of the public listener, as the given token or as the account."""
    return RestClient(public_url(url), token or mint_token(account, scope, SHORT_TTL_S))


def connect_admin(url: str, token: str, account: str) -> RestClient:
    return RestClient(admin_url(url), token or mint_token(account, "admin", SHORT_TTL_S))


_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds_of(text: str) -> int:
    """`90`, `90s`, `15m`, `1h` or `7d` as seconds. Failure for anything else."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if not match or not int(match[1]):
        raise Failure(f"{text!r} is no duration", "write 90s, 15m, 1h or 7d", USAGE)
    return int(match[1]) * _UNITS_S[match[2] or "s"]


def settings_of_a_new_venue() -> Settings:
    """What a venue begins with that nobody has configured."""
    return load({})
