"""Where clients reach the processes: the settings say it, or it follows from the address they bind to."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec import Struct

from tradsys.settings import Settings

HOST = "{host}"
"""In a URL: the host that the request names, because the processes listen on every address."""


class Addresses(Struct, frozen=True):
    """URLs without a path; they may have HOST for their host."""

    engine: str
    query: str
    streams: str


def addresses(settings: Settings) -> Addresses:
    host = HOST if _is(settings.host, "is_unspecified") else settings.host
    host = f"[{host}]" if ":" in host else host
    return Addresses(
        settings.public_url or f"http://{host}:{settings.port}",
        settings.public_query_url or f"http://{host}:{settings.query_port}",
        settings.public_ws_url or f"ws://{host}:{settings.ws_port}",
    )


def browser_origins(settings: Settings) -> tuple[str, ...]:
    """Whose pages may call from a browser: those of the setting, and the console."""
    own: tuple[str, ...]
    if settings.public_query_url:
        # An origin has no path.
        own = ("/".join(settings.public_query_url.split("/")[:3]),)
    elif _is(settings.host, "is_unspecified"):
        own = ()
    elif _is(settings.host, "is_loopback"):
        own = tuple(f"http://{host}:{settings.query_port}" for host in ("127.0.0.1", "localhost", "[::1]"))
    else:
        own = (addresses(settings).query,)
    return tuple(dict.fromkeys((*settings.cors_origins, *own)))


def _is(host: str, what: str) -> bool:
    try:
        return bool(getattr(ip_address(host), what))
    except ValueError:
        return what == "is_loopback" and host == "localhost"
