"""Holds replies to the OpenAPI document: path, method, status, code, headers and the whole body."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import jsonschema_rs

from tradsys.adapters.http.answered import AnsweredOrders
from tradsys.adapters.http.app import Route, admin_routes, public_routes
from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.edge import Tally
from tradsys.adapters.http.openapi import document
from tradsys.core.shard import Shard
from tradsys.venue.venue import Venue


class Answered(Protocol):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any: ...


class Described:
    """A document that is stricter than what is published: a reply has no member that it does not list."""

    def __init__(self, document: dict[str, Any]):
        self.document = document
        self.answers: set[tuple[str, str, int]] = set()
        """(method, path template, status) of everything that was held."""
        self._components = copy.deepcopy(document["components"])
        for schema in self._components["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False
        self._templates = [
            (re.compile(re.sub(r"\\{\w+\\}", "[^/]*", re.escape(path))), path) for path in document["paths"]
        ]

    def template(self, path: str) -> str | None:
        """The most literal template of a path, as a router takes it."""
        found = [template for shape, template in self._templates if shape.fullmatch(path)]
        return min(found, key=lambda template: template.count("{")) if found else None

    def hold(self, method: str, target: str, reply: Answered) -> None:
        path = re.sub(r"^/s/a/", "/", unquote(urlsplit(target).path))
        template = self.template(path)
        operation = self.document["paths"].get(template, {}).get(method.lower())
        what = f"{method} {target} -> {reply.status} {reply.body[:500]!r}"
        if template is None or operation is None:
            self._hold_body({"$ref": "#/components/schemas/ErrorBody"}, reply, what)
            assert (reply.status, reply.json["code"]) == (404 if template is None else 405, 1002), what
            return
        self.answers.add((method, template, reply.status))
        described = operation["responses"].get(str(reply.status))
        assert described is not None, f"a status that is not described: {what}"
        for name in described["headers"]:
            optional = name in ("Retry-After", "Idempotent-Replay") or name.startswith("X-RateLimit")
            assert optional or name.lower() in reply.headers, f"{name} is missing: {what}"
        media_type = reply.headers.get("content-type", "").partition(";")[0]
        if "content" not in described:
            assert reply.body == b"", what
        elif media_type == "application/json":
            self._hold_body(described["content"][media_type]["schema"], reply, what)
        else:
            assert media_type in described["content"], what

    def _hold_body(self, schema: dict[str, Any], reply: Answered, what: str) -> None:
        key = repr(schema)
        validators = self.__dict__.setdefault("_validators", {})
        if key not in validators:
            validators[key] = jsonschema_rs.Draft202012Validator(schema | {"components": self._components})
        try:
            validators[key].validate(reply.json)
        except jsonschema_rs.ValidationError as error:
            raise AssertionError(f"{error.message} at {list(error.instance_path)}: {what}") from None


def routes() -> tuple[list[Route], list[Route]]:
    """The public and the admin listener's routes, of a venue that does not run."""
    nothing: Any = None
    desk = Desk(
        Venue(Shard("a"), nothing, nothing, 0),
        query_url="",
        other_symbols={},
        body_max=65536,
        answered=AnsweredOrders(0, (), [0]),
        tally=Tally(),
    )
    public = public_routes(desk, endpoint="", batch_body_max=1)
    return public, admin_routes(desk, revoked=print, token_life_max_s=1, drain=print)


@functools.cache
def admin_document() -> Described:
    """The document of the admin listener, which serves none: described from its routes alone."""
    return Described(document(routes()[1]))
