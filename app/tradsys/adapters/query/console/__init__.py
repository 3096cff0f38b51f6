"""The console: a page for people who want to look, and to trade by hand.

The files in this folder are served as they are; there is no build step. The page loads nothing from anywhere
else, and the policy that goes with it allows no more than it needs: its own files, and calls to the engine
and the streams. `inter.woff2` is the typeface Inter (its licence lies beside it); everything else is ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import falcon
from falcon import Response
from msgspec import Struct

from tradsys.codec.json_v1 import encode

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9a-f:]{2,45}")


class ConsoleSettings(Struct):
    """What the page has to know before it can ask anybody."""

    engine: str
    streams: str


class _File(Struct, frozen=True):
    type: str
    etag: str
    content: bytes


def console_routes(engine: str, streams: str) -> list[tuple[str, Any]]:
    """(path, resource); the URLs may have "{host}" for the host that the request names."""
    files = {
        path.name: _File(
            _TYPES[path.suffix], f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"', content
        )
        for path in Path(__file__).parent.iterdir()
        if path.suffix in _TYPES
        for content in [path.read_bytes()]
    }
    found = ConsoleResource(files, engine, streams)
    return [("/", found), ("/console/{name}", found)]


class ConsoleResource:
    """GET / and the files that it needs."""

    needs: Mapping[str, int] = MappingProxyType({})
    answers_while_draining = True

    def __init__(self, files: Mapping[str, _File], engine: str, streams: str) -> None:
        self._files = files
        self._engine = engine
        self._streams = streams

    def on_get(self, req: falcon.Request, resp: Response, name: str = "index.html") -> None:
        settings = self._settings_for(req)
        if name == "settings.json":
            file = _File(falcon.MEDIA_JSON, "", encode(settings))
        elif name in self._files:
            file = self._files[name]
        else:
            raise falcon.HTTPNotFound()
        resp.set_header("Content-Security-Policy", _policy(settings))
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "no-referrer")
        # A new release must be seen at once; asking whether it is new costs a request without a body.
        resp.set_header("Cache-Control", "no-cache")
        if file.etag:
            resp.etag = file.etag
            if req.get_header("If-None-Match") == file.etag:
                resp.status = falcon.HTTP_304
                return
        resp.content_type = file.type
        resp.data = file.content

    def _settings_for(self, req: falcon.Request) -> ConsoleSettings:
        host = req.host if _HOST.fullmatch(req.host) else "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        return ConsoleSettings(self._engine.replace("{host}", host), self._streams.replace("{host}", host))


def _policy(settings: ConsoleSettings) -> str:
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
        f"connect-src 'self' {_origin(settings.engine)} {_origin(settings.streams)}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
