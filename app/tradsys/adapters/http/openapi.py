"""The OpenAPI 3.1 document of one listener, made from its routes and from the types that are served.

Paths come from the routes, scopes from `needs`, schemas from the structs that decode and encode. What no
type says (which errors, which parameters, what a route is for) stands in OPERATIONS, one entry for each
resource class and method; a test holds it to the routes both ways. Errors that every route may answer
with, because the edge does, are added here and not repeated there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, ClassVar, get_args

import msgspec
from falcon import Response
from msgspec import Struct

import tradsys
from tradsys.adapters.http import accounts, admin, market, orders
from tradsys.adapters.http.edge import PUBLIC, EdgeRequest
from tradsys.codec import binary_v1, errors, json_v1, market_v1
from tradsys.core import messages as m
from tradsys.venue.ports import ADMIN, READ, TRADE

PATH = "/api/v1/openapi.json"
_SCOPES = {TRADE: "trade", READ: "read", ADMIN: "admin"}
_VERBS = ("GET", "POST", "PUT", "DELETE")
_REF = "#/components/schemas/{name}"

Json = dict[str, Any]


class Parameter(Struct, frozen=True):
    name: str
    schema: Json
    description: str = ""


class Operation(Struct, frozen=True):
    """What a route does with one method."""

    summary: str
    reply: Any = None
    """Type of the body of a 200; None: the answer is always elsewhere."""
    body: type | None = None
    errors: tuple[int | tuple[int, int], ...] = ()
    """Codes, or (code, status) where the status is not the code's own."""
    query: tuple[Parameter, ...] = ()
    elsewhere: bool = False
    """May answer 307 to `query`, which has what this process no longer remembers."""
    binary: bool = False
    """Takes and gives binary records too."""
    repeats: bool = False
    """A repeat of the same order is answered with the first answer, and marked."""
    reads: bool = False
    """Answered from the read model, which may be behind, or not there yet."""


def number(name: str, most: int, default: int, description: str = "", least: int = 1) -> Parameter:
    schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return Parameter(name, schema, description)


SYMBOL = Parameter("symbol", {"type": "string", "maxLength": 32}, "only this symbol")
CURSOR = Parameter("cursor", {"type": "string"}, "next_cursor of the page before")
_SYMBOL_ERRORS = (errors.UNKNOWN_SYMBOL, errors.OTHER_SHARD)
_NO_ACCOUNT = (errors.INVALID_REQUEST, 404)

# What the venue may refuse in an order, in the order of checking; all of these also in a replace.
_REFUSED = (
    m.KILL_SWITCH,
    m.NOT_TRADING,
    m.PRICE_BAND,
    m.SIZE_LIMIT,
    m.WOULD_CROSS,
    m.POSITION_LIMIT,
    m.INSUFFICIENT_BALANCE,
)
_JOURNALLED = (*_REFUSED, m.TOO_MANY_ORDERS)
_NEW_ORDER_ERRORS = (*_SYMBOL_ERRORS, errors.OFF_GRID, errors.STALE, *_JOURNALLED)

Operations = Mapping[tuple[type, str], Operation]

OPERATIONS: dict[tuple[type, str], Operation] = {
    (orders.OrdersResource, "POST"): Operation(
        "Place an order",
        json_v1.OrderReply,
        json_v1.NewOrder,
        (*_NEW_ORDER_ERRORS, errors.KEY_REUSED),
        repeats=True,
    ),
    (orders.OrdersResource, "GET"): Operation(
        "Open orders of the account, newest first; other states are answered elsewhere",
        orders.OrderPage,
        errors=_SYMBOL_ERRORS,
        query=(
            SYMBOL,
            Parameter("status", {"type": "string", "default": "open"}),
            number("limit", orders.PAGE_MAX, 100),
            CURSOR,
        ),
        elsewhere=True,
    ),
    (orders.OrdersResource, "DELETE"): Operation(
        "Cancel the account's open orders, in steps",
        orders.Canceled,
        errors=_SYMBOL_ERRORS,
        query=(SYMBOL, Parameter("side", {"enum": ["buy", "sell"]}, "only this side")),
    ),
    (orders.BatchResource, "POST"): Operation(
        "Place up to 1,000 orders in one journal write; not atomic, a result for each in order",
        orders.Results,
        json_v1.NewOrders,
        binary=True,
    ),
    (orders.CancelBatchResource, "POST"): Operation(
        "Cancel up to 1,000 orders in one journal write; a result for each in order",
        orders.Results,
        json_v1.OrderIds,
    ),
    (orders.TestResource, "POST"): Operation(
        "Check an order as if it were placed now, and change nothing",
        orders.TestResult,
        json_v1.NewOrder,
        _NEW_ORDER_ERRORS,
    ),
    (orders.ByClientResource, "GET"): Operation(
        "An order by the id that the client gave it", json_v1.OrderReply, elsewhere=True
    ),
    (orders.OrderResource, "GET"): Operation(
        "One order of the account", json_v1.OrderReply, errors=(m.NO_SUCH_ORDER,), elsewhere=True
    ),
    (orders.OrderResource, "PUT"): Operation(
        "Replace quantity (the new total) or price; less quantity at the same price keeps the priority",
        json_v1.OrderReply,
        json_v1.Replacement,
        (errors.OFF_GRID, m.NO_SUCH_ORDER, m.NOT_CANCELABLE, m.VERSION_CONFLICT, *_REFUSED),
    ),
    (orders.OrderResource, "DELETE"): Operation(
        "Cancel an order; a canceled one answers with itself again",
        json_v1.OrderReply,
        errors=(m.NO_SUCH_ORDER, m.NOT_CANCELABLE),
    ),
    (orders.ElsewhereResource, "GET"): Operation("The account's fills; answered elsewhere", elsewhere=True),
    (market.SymbolsResource, "GET"): Operation("All symbols of this shard", market_v1.Symbols),
    (market.SymbolResource, "GET"): Operation("One symbol", market_v1.Symbol, errors=_SYMBOL_ERRORS),
    (market.BookResource, "GET"): Operation(
        "The order book, best first: price levels (level 2) or orders (level 3; more than 1,000 are "
        "answered elsewhere, with the best 10,000 of a side)",
        market_v1.Book | market_v1.OrderBook,
        errors=_SYMBOL_ERRORS,
        query=(
            number("depth", market.QUERY_DEPTH_MAX, 50, "price levels; above 100 answered elsewhere"),
            number("level", 3, 2, least=2),
        ),
        elsewhere=True,
    ),
    (market.TickerResource, "GET"): Operation(
        "Last trade, reference price and top of book", market_v1.Ticker, errors=_SYMBOL_ERRORS
    ),
    (market.TradesResource, "GET"): Operation(
        "The last trades, newest first; older ones are answered elsewhere",
        market_v1.Trades,
        errors=_SYMBOL_ERRORS,
        query=(number("limit", 1_000, 50), CURSOR),
        elsewhere=True,
    ),
    (market.CandlesResource, "GET"): Operation(
        "Candles; answered elsewhere", errors=_SYMBOL_ERRORS, elsewhere=True
    ),
    (market.TimeResource, "GET"): Operation("Engine time, unix nanoseconds", market.Time),
    (accounts.MeResource, "GET"): Operation("The token's account", accounts.AccountReply),
    (accounts.BalancesResource, "GET"): Operation("Balances, on this shard", accounts.Balances),
    (accounts.PositionsResource, "GET"): Operation("Positions, on this shard", accounts.Positions),
    (accounts.RiskLimitsResource, "GET"): Operation("The account's limits", accounts.LimitsReply),
    (accounts.RiskStateResource, "GET"): Operation("What counts against the limits", accounts.RiskState),
    (accounts.FeesResource, "GET"): Operation("Fee rates, in basis points", accounts.Fees),
    (admin.AccountsResource, "GET"): Operation("Names of all accounts", admin.Accounts),
    (admin.AccountsResource, "POST"): Operation(
        "Create an account; a repeat changes nothing", admin.AdminAccount, admin.NewAccount
    ),
    (admin.OneAccountResource, "GET"): Operation("An account", admin.AdminAccount, errors=(_NO_ACCOUNT,)),
    (admin.LimitsResource, "PUT"): Operation(
        "Set an account's limits", admin.AdminAccount, admin.NewLimits, (_NO_ACCOUNT,)
    ),
    (admin.AdjustmentsResource, "POST"): Operation(
        "Deposit or withdraw; a repeat of txn_id changes nothing",
        admin.AdminAccount,
        admin.Adjustment,
        (_NO_ACCOUNT, m.INSUFFICIENT_BALANCE),
    ),
    (admin.AdminSymbolsResource, "POST"): Operation(
        "Add a symbol or change it; tick and lot change only while its book is empty",
        market_v1.Symbol,
        admin.NewSymbol,
    ),
    (admin.SymbolStatusResource, "PUT"): Operation(
        "Halt or resume a symbol, or all of them (*, sent as %2A)",
        admin.StatusReply,
        admin.NewStatus,
        (errors.UNKNOWN_SYMBOL,),
    ),
    (admin.ReferenceResource, "PUT"): Operation(
        "Set the reference price of the band",
        admin.ReferenceReply,
        admin.NewReference,
        (errors.UNKNOWN_SYMBOL,),
    ),
    (admin.SymbolFeesResource, "PUT"): Operation(
        "Set a symbol's fees", market_v1.Symbol, admin.NewFees, (errors.UNKNOWN_SYMBOL,)
    ),
    (admin.SymbolBandResource, "PUT"): Operation(
        "Set a symbol's price band", market_v1.Symbol, admin.NewBand, (errors.UNKNOWN_SYMBOL,)
    ),
    (admin.KillResource, "POST"): Operation(
        "Kill switch of an account, or of all (*): cancel everything and refuse new orders",
        admin.KillReply,
        admin.Kill,
        (_NO_ACCOUNT,),
    ),
    (admin.CancelAllResource, "POST"): Operation(
        "Cancel the open orders of an account, or of all (*)",
        orders.Canceled,
        admin.CancelAllOrders,
        (_NO_ACCOUNT, errors.UNKNOWN_SYMBOL),
    ),
    (admin.RevokeResource, "POST"): Operation(
        "Refuse a token, or all of an account up to now", admin.Revoked, admin.Revocation, (_NO_ACCOUNT,)
    ),
    (admin.RulesResource, "GET"): Operation("What bounds the shard", m.Rules),
    (admin.RulesResource, "PUT"): Operation("Change what bounds the shard", m.Rules, admin.NewRules),
    (admin.DrainResource, "POST"): Operation("Take no more orders and end cleanly", admin.Draining),
}

_IN_PATH = {
    "order_id": {"type": "string", "examples": ["a-1042"]},
    "client_order_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,36}$"},
    "symbol": {"type": "string", "examples": ["BTC-USD"]},
    "account": {"type": "string"},
}

_ALWAYS_SENT = {
    "X-Request-Id": "the request's id: the caller's own if it sent an acceptable one",
    "X-Engine-Us": "microseconds from the request's arrival at the application to its answer",
    "X-Seq": "sequence number of this command, or of the state that was read",
    "X-Durable-Seq": "everything up to this sequence number is on the disk",
    "X-Epoch": "counts starts of the engine; sequence numbers are compared within one epoch only",
}
_SENT_AT_TIMES = {
    "Retry-After": "seconds to wait before the next try",
    "Idempotent-Replay": "true: this is the answer that the same order got before",
    "X-RateLimit-Limit": "requests per second and account, where there is a limit",
    "X-RateLimit-Remaining": "requests left",
    "Location": "where the answer is; send the token there too",
    "X-Read-Seq": "the read model's last command; how far it is behind X-Durable-Seq is its lag",
}

_ABOUT = """\
Decimals and times are text; times are unix nanoseconds. On a venue with several shards every path also
answers below /s/{shard}. A path or method that is not listed answers 404 or 405 with code 1002. Headers
above 16 KiB are answered 431, a body above the limit of its route 413; neither reached the venue.
"""


class OpenApiResource:
    """GET /openapi.json"""

    needs: ClassVar = {"GET": PUBLIC}
    answers_while_draining = True

    def __init__(self, routes: Iterable[tuple[str, Any]], operations: Operations | None = None):
        """The document never changes while the process lives, so it is built and encoded once."""
        self._document = json_v1.encode(document([*routes, (PATH, self)], operations))

    def on_get(self, req: EdgeRequest, resp: Response) -> None:
        resp.data = self._document


OPERATIONS[OpenApiResource, "GET"] = Operation("This document", dict[str, Any])


def document(routes: Iterable[tuple[str, Any]], operations: Operations | None = None) -> Json:
    """The OpenAPI document of some routes; `operations` describes those that OPERATIONS does not.

    Raises KeyError for a route that neither knows.
    """
    known = {**OPERATIONS, **(operations or {})}
    paths: dict[str, Json] = {}
    kinds: dict[Any, None] = {errors.ErrorBody: None, json_v1.NewOrder: None}
    for path, resource in routes:
        item = paths[path] = {}
        for method in methods_of(resource):
            operation = known[type(resource), method]
            kinds |= dict.fromkeys(kind for kind in (operation.reply, operation.body) if kind is not None)
            item[method.lower()] = _operation(path, method, resource, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tradsys", "version": tradsys.__version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": _schemas(kinds),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "headers": {
                name: {"description": description, "schema": {"type": "string"}}
                for name, description in (_ALWAYS_SENT | _SENT_AT_TIMES).items()
            },
            "parameters": {
                "RequestId": {
                    "name": "X-Request-Id",
                    "in": "header",
                    "description": "an id to find this request by; another is given if it looks different",
                    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
                }
            },
        },
    }


def methods_of(resource: Any) -> list[str]:
    return [verb for verb in _VERBS if hasattr(resource, f"on_{verb.lower()}")]


def _operation(path: str, method: str, resource: Any, operation: Operation) -> Json:
    needed = resource.needs.get(method, PUBLIC)
    described: Json = {
        "summary": operation.summary,
        "operationId": "_".join(re.findall(r"[a-z0-9]+", f"{method}{path.removeprefix('/api/v1')}".lower())),
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": _IN_PATH[name]}
                for name in re.findall(r"{(\w+)}", path)
            ),
            *(
                {"name": each.name, "in": "query", "description": each.description, "schema": each.schema}
                for each in operation.query
            ),
            {"$ref": "#/components/parameters/RequestId"},
        ],
        "responses": _responses(needed, resource.answers_while_draining, operation),
        # OpenAPI 3.1 lets any scheme name the roles it asks for; these are the token's scopes.
        "security": [{"token": [_SCOPES[needed]]}] if needed else [],
    }
    if operation.body is not None:
        content: Json = {"application/json": {"schema": _schema_of(operation.body)}}
        if operation.binary:
            content[binary_v1.MEDIA_TYPE] = {
                "schema": _records(f"{binary_v1.COMMAND.size}-byte commands, at most 1,000")
            }
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(needed: int, answers_while_draining: bool, operation: Operation) -> Json:
    responses: Json = {}
    if operation.reply is not None:
        content: Json = {"application/json": {"schema": _schema_of(operation.reply)}}
        if operation.binary:
            content[binary_v1.MEDIA_TYPE] = {
                "schema": _records(f"a {binary_v1.RESULT.size}-byte result for each command")
            }
        headers = ["X-RateLimit-Limit", "X-RateLimit-Remaining"] if needed else []
        if operation.repeats:
            headers.append("Idempotent-Replay")
        if operation.reads:
            headers.append("X-Read-Seq")
        responses["200"] = {"description": "done", "headers": _headers(*headers), "content": content}
    if operation.elsewhere:
        responses["307"] = {
            "description": "not in this process's memory; ask there",
            "headers": _headers("Location"),
        }
    by_status: dict[int, list[int]] = {}
    for code, status in sorted(_errors(needed, answers_while_draining, operation)):
        by_status.setdefault(status, []).append(code)
    for status, codes in sorted(by_status.items()):
        headers = ["Retry-After"] if status in (429, 503) else []
        if operation.repeats and not set(codes).isdisjoint(_JOURNALLED):
            headers.append("Idempotent-Replay")
        responses[str(status)] = {
            "description": "; ".join(f"{code} {errors.ERRORS[code].name}" for code in codes),
            "headers": _headers(*headers),
            "content": {
                "application/json": {
                    "schema": {
                        "allOf": [
                            {"$ref": _REF.format(name="ErrorBody")},
                            {"properties": {"code": {"enum": codes}}},
                        ]
                    }
                }
            },
        }
    return responses


def _errors(needed: int, answers_while_draining: bool, operation: Operation) -> set[tuple[int, int]]:
    """(code, status) of everything that may go wrong, the edge's own part included."""
    codes: set[int | tuple[int, int]] = {errors.PROCESSING_FAILED, errors.INVALID_REQUEST, *operation.errors}
    if operation.body is not None:
        codes.add((errors.INVALID_REQUEST, 413))
    if needed:
        codes |= {errors.UNAUTHORIZED, errors.INVALID_TOKEN, errors.FORBIDDEN, errors.RATE_LIMITED}
    if needed or operation.reads or not answers_while_draining:
        codes.add(errors.NOT_LEADER)
    return {code if isinstance(code, tuple) else (code, errors.ERRORS[code].status) for code in codes}


def _headers(*at_times: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_ALWAYS_SENT, *at_times)}


def _records(description: str) -> Json:
    return {"type": "string", "contentMediaType": binary_v1.MEDIA_TYPE, "description": description}


def _schema_of(kind: Any) -> Json:
    if kind is m.Rules:
        return {"$ref": _REF.format(name="Rules")}
    if isinstance(kind, UnionType):
        return {"anyOf": [_schema_of(one) for one in get_args(kind)]}
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema


def _schemas(kinds: Iterable[Any]) -> Json:
    """Schemas of the structs, with what the types leave to the code that reads them."""
    structs = [one for kind in kinds for one in (get_args(kind) if isinstance(kind, UnionType) else (kind,))]
    _, schemas = msgspec.json.schema_components(
        [one for one in structs if one is not m.Rules], ref_template=_REF
    )
    if "NewOrders" in schemas:
        # Each order is decoded for itself, so that a bad one spoils only its own result.
        schemas["NewOrders"]["properties"]["orders"]["items"] = {"$ref": _REF.format(name="NewOrder")}
    if "Result" in schemas:
        schemas["Result"]["properties"]["error"] = {
            "type": "object",
            "description": "the error that this one alone would have got",
            "properties": {
                name: schemas["ErrorBody"]["properties"][name] for name in ("code", "message", "details")
            },
            "required": ["code", "message", "details"],
        }
    if "NewRules" in schemas:
        # In the journal rules are an array; over REST they have names, those of the change.
        names = schemas["NewRules"]["properties"]
        schemas["Rules"] = {"title": "Rules", "type": "object", "properties": names, "required": [*names]}
    return schemas
