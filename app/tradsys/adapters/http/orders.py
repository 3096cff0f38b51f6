"""Orders over REST: decode, hand to the venue, answer with what the journal now holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from time import perf_counter_ns
from typing import Any, ClassVar

import falcon
from msgspec import Raw, Struct

from tradsys.adapters.http.answered import AnsweredOrders
from tradsys.adapters.http.edge import (
    HANDED,
    EdgeRequest,
    EdgeResponse,
    Tally,
    answer_problem,
)
from tradsys.codec import binary_v1
from tradsys.codec.contradictions import too_late
from tradsys.codec.decimals import Grid, grid_of, text_of
from tradsys.codec.errors import FORBIDDEN, INVALID_REQUEST, OTHER_SHARD, UNKNOWN_SYMBOL, Problem, explain
from tradsys.codec.json_order import place_command, reply_bytes_of
from tradsys.codec.json_v1 import (
    NewOrder,
    NewOrders,
    OrderIds,
    OrderReply,
    Replacement,
    client_order_id_of,
    decode,
    decode_new_order,
    decoder,
    encode,
    order_number,
    rejected_reply_of,
    replace_command,
    reply_of_order,
)
from tradsys.core import messages as m
from tradsys.core.order import Order
from tradsys.venue.outcome import Done, Outcome
from tradsys.venue.ports import READ, TRADE
from tradsys.venue.venue import BATCH_MAX, Venue

PAGE_MAX = 1_000


class Result(Struct, omit_defaults=True):
    """One of a batch: the order, or the error that this one alone would have got."""

    ok: bool
    order: OrderReply | None = None
    error: dict[str, Any] | None = None


class Results(Struct):
    results: list[Result]


class OrderPage(Struct):
    items: list[OrderReply]
    next_cursor: str | None


class Canceled(Struct):
    """`canceled` are gone now; `pending`: the venue goes on with the rest, in steps, by itself."""

    canceled: int
    pending: bool


class TestResult(Struct):
    """The order would be accepted; `worst_notional` is the most that it could trade for, in quote."""

    valid: bool
    worst_notional: str


class Desk:
    """What the order resources share: the venue, where history is read, the stage counters."""

    def __init__(
        self,
        venue: Venue,
        *,
        query_url: str,
        other_symbols: dict[str, str],
        body_max: int,
        answered: AnsweredOrders,
        tally: Tally,
        read_order: Callable[[bytes], NewOrder] = decode_new_order,
        write_order: Callable[[Done, str], bytes | None] = reply_bytes_of,
    ):
        """`query_url` may have "{host}" for the host that the request names."""
        self.venue = venue
        self.shard_name = venue.shard.name
        self.query_url = query_url
        self.other_symbols = other_symbols
        self.body_max = body_max
        """Bytes of a body with one order or one change."""
        self.answered = answered
        self.tally = tally
        self.read_order = read_order
        self.write_order = write_order

    def new_order(self, body: bytes, account: str, now: int, request_id: str) -> m.PlaceOrder:
        """What a body asks for. Raises Problem if it can't be read."""
        order = self.read_order(within(body, self.body_max))
        return place_command(order, account, self.grid(order.symbol), now, request_id)

    def grid(self, symbol: str) -> Grid:
        """Raises Problem: 1021 another shard's symbol, 1003 nobody's."""
        market = self.venue.shard.markets.get(symbol)
        if market is None:
            endpoint = self.other_symbols.get(symbol)
            if endpoint is not None:
                raise Problem(OTHER_SHARD, f"{symbol} is served at {endpoint}", {"endpoint": endpoint})
            raise Problem(UNKNOWN_SYMBOL, f"no symbol {symbol!r}; GET /api/v1/symbols lists them")
        return grid_of(market.instrument)

    def grid_or_none(self, symbol: str) -> Grid | None:
        market = self.venue.shard.markets.get(symbol)
        return grid_of(market.instrument) if market is not None else None

    def grid_of_order(self, account: str, number: int) -> Grid | None:
        """Of an account's order, if it is in memory."""
        order = self.venue.shard.order(number)
        if order is None or order.account.name != account:
            return None
        return self.grid_or_none(order.command.symbol)

    def own_order(self, account: str, text: str) -> Order | None:
        """The account's order if it is in memory; another account's is as absent as one that never was."""
        order = self.venue.shard.order(order_number(text, self.shard_name))
        return order if order is not None and order.account.name == account else None

    def elsewhere(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        """The engine does not have it: `query` may."""
        resp.status = falcon.HTTP_307
        resp.set_header("Location", self.query_url.replace("{host}", req.host) + req.relative_uri)

    def answer(self, req: EdgeRequest, resp: EdgeResponse, outcome: Outcome) -> None:
        """The reply to one command."""
        if isinstance(outcome, Problem):
            raise outcome
        resp.put("x-seq", str(outcome.seq))
        if outcome.replayed:
            resp.put("idempotent-replay", "true")
        accepted = self.write_order(outcome, self.shard_name)
        if accepted is not None:
            resp.data = accepted
            return
        code, message, details = self.refusal(outcome)
        # A refusal's body is as repeatable as an order's: its request id is the one of the first try.
        first_id = getattr(outcome.command, "request_id", "") or f"{self.shard_name}-{outcome.seq}"
        if not req.caller_id:
            req.id = first_id
        self.tally.errors[code] += 1
        answer_problem(req, resp, Problem(code, message, details), first_id)

    @staticmethod
    def refusal(done: Done) -> tuple[int, str, dict[str, Any]]:
        """(code, message, details)"""
        instrument = done.instrument or (done.order.instrument if done.order is not None else None)
        return explain(done.events[0], done.command, grid_of(instrument) if instrument is not None else None)

    def result(self, outcome: Outcome) -> Result:
        if isinstance(outcome, Done):
            accepted = self.write_order(outcome, self.shard_name)
            if accepted is not None:
                # The very bytes that the order alone would have got.
                order: Any = Raw(accepted)
                return Result(True, order)
            code, message, details = self.refusal(outcome)
        else:
            code, message, details = outcome.code, outcome.message, outcome.details
        self.tally.errors[code] += 1
        return Result(False, None, {"code": code, "message": message, "details": details})

    def process_some(self, items: Sequence[m.Command | Problem]) -> list[Outcome]:
        """Outcomes in the order of the items; problems stay what they are and take no number."""
        outcomes = iter(self.venue.process([item for item in items if not isinstance(item, Problem)]))
        return [item if isinstance(item, Problem) else next(outcomes) for item in items]


def body_of(req: EdgeRequest, limit: int) -> bytes:
    """The whole body. Raises Problem 1002 (413) above `limit` bytes."""
    # The server has read all of it, within its own limit, before the application is called.
    return within(req.env["wsgi.input"].read(), limit)


def within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise Problem(INVALID_REQUEST, f"the body is larger than {limit} bytes", status=413, close=True)
    return body


def refuse_other_parameters(req: EdgeRequest, *names: str) -> None:
    """Raises Problem 1002: a misspelled filter must not give everything, or cancel it."""
    for name, value in req.params.items():
        if name not in names:
            raise Problem(INVALID_REQUEST, f"there is no such parameter; known: {', '.join(names)}")
        if isinstance(value, list):
            raise Problem(INVALID_REQUEST, f"{name} is given twice", {"field": name})


def limit_of(req: EdgeRequest, default: int, most: int, name: str = "limit") -> int:
    """A positive integer parameter. Raises Problem 1002."""
    text = req.get_param(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
        raise Problem(INVALID_REQUEST, f"{name} is 1 to {most}", {"field": name})
    return int(text)


class OrdersResource:
    """POST /orders, GET /orders, DELETE /orders"""

    needs: ClassVar = {"POST": TRADE, "GET": READ, "DELETE": TRADE}
    answers_while_draining = False

    def __init__(self, desk: Desk):
        self.desk = desk
        self.venue = desk.venue

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        let_in = perf_counter_ns()
        desk = self.desk
        handed = req.env.get(HANDED)
        if handed is not None:
            if isinstance(handed.outcome, Exception):
                raise handed.outcome
            desk.answer(req, resp, handed.outcome)
            return
        body = req.env["wsgi.input"].read()
        command = desk.new_order(body, req.account, req.now_ns, req.caller_id)
        decoded = perf_counter_ns()
        outcome = self.venue.process_one(command, req.now_ns)
        applied = perf_counter_ns()
        desk.answer(req, resp, outcome)
        req.times = req.started_ns, let_in, decoded, applied, perf_counter_ns()
        answered = desk.answered
        if len(answered.came) == answered.timed_at:
            answered.stages.append(req.times)
        answered.came.append(req.started_ns)

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        refuse_other_parameters(req, "symbol", "status", "limit", "cursor")
        if req.get_param("status", default="open") != "open":
            self.desk.elsewhere(req, resp)
            return
        symbol = req.get_param("symbol")
        if symbol is not None:
            self.desk.grid(symbol)
        limit = limit_of(req, 100, PAGE_MAX)
        cursor = req.get_param("cursor")
        before = 2**63 if cursor is None else order_number(cursor, self.desk.shard_name)
        if not before:
            raise Problem(
                INVALID_REQUEST, "cursor is a next_cursor of an earlier answer", {"field": "cursor"}
            )
        account = self.venue.shard.accounts.get(req.account)
        found: list[Order] = []
        if account is not None:
            found += islice(account.newest(symbol or "", before), limit + 1)
        items = [reply_of_order(order, self.desk.shard_name) for order in found[:limit]]
        resp.data = encode(OrderPage(items, items[-1].order_id if len(found) > limit else None))

    def on_delete(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        refuse_other_parameters(req, "symbol", "side")
        symbol = req.get_param("symbol")
        if symbol is not None:
            self.desk.grid(symbol)
        side = {None: 0, "buy": m.BUY, "sell": m.SELL}.get(req.get_param("side"))
        if side is None:
            raise Problem(INVALID_REQUEST, "side is buy or sell", {"field": "side"})
        outcome = self.venue.process((m.CancelOrders(req.account, symbol or "", side, req.caller_id),))[0]
        if isinstance(outcome, Problem):
            raise outcome
        _, _, done, more = outcome.events[-1]
        resp.set_header("X-Seq", str(outcome.seq))
        resp.data = encode(Canceled(done, bool(more)))


class OrderResource:
    """GET, PUT, DELETE /orders/{order_id}"""

    needs: ClassVar = {"GET": READ, "PUT": TRADE, "DELETE": TRADE}
    answers_while_draining = False

    def __init__(self, desk: Desk):
        self.desk = desk
        self.venue = desk.venue
        self._replacement = decoder(Replacement)

    def on_get(self, req: EdgeRequest, resp: EdgeResponse, order_id: str) -> None:
        order = self.desk.own_order(req.account, order_id)
        if order is None or (order.fills and len(order.fills) >= self.venue.shard.rules.order_fills_max):
            # Not in memory, or not with all of its fills.
            if not 0 < order_number(order_id, self.desk.shard_name) <= self.venue.seq:
                raise Problem(m.NO_SUCH_ORDER)
            self.desk.elsewhere(req, resp)
            return
        resp.data = encode(reply_of_order(order, self.desk.shard_name))

    def on_put(self, req: EdgeRequest, resp: EdgeResponse, order_id: str) -> None:
        body = decode(self._replacement, body_of(req, self.desk.body_max))
        order = self.desk.own_order(req.account, order_id)
        number = order_number(order_id, self.desk.shard_name)
        # Without the order there is no grid to read the numbers on; the venue then says that it is unknown.
        command = (
            replace_command(body, req.account, number, self.desk.grid(order.command.symbol), req.caller_id)
            if order is not None
            else m.ReplaceOrder(req.account, number, request_id=req.caller_id)
        )
        self.desk.answer(req, resp, self.venue.process_one(command, req.now_ns))

    def on_delete(self, req: EdgeRequest, resp: EdgeResponse, order_id: str) -> None:
        number = order_number(order_id, self.desk.shard_name)
        command = m.CancelOrder(req.account, number, req.caller_id)
        self.desk.answer(req, resp, self.venue.process_one(command, req.now_ns))


class ByClientResource:
    """GET /orders/by-client/{client_order_id}"""

    needs: ClassVar = {"GET": READ}
    answers_while_draining = False

    def __init__(self, desk: Desk):
        self.desk = desk

    def on_get(self, req: EdgeRequest, resp: EdgeResponse, client_order_id: str) -> None:
        shard = self.desk.venue.shard
        record = shard.original(req.account, client_order_id_of(client_order_id))
        order = shard.order(record.seq) if record is not None else None
        if order is not None:
            resp.data = encode(reply_of_order(order, self.desk.shard_name))
        elif record is not None and record.events[0][0] == m.REFUSED_EVENT:
            resp.data = encode(rejected_reply_of(record, self.desk.shard_name))
        else:
            self.desk.elsewhere(req, resp)


class ElsewhereResource:
    """GET /fills: answered by `query`"""

    needs: ClassVar = {"GET": READ}
    answers_while_draining = False

    def __init__(self, desk: Desk):
        self.desk = desk

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        self.desk.elsewhere(req, resp)


class BatchResource:
    """POST /orders/batch, JSON or binary"""

    needs: ClassVar = {"POST": TRADE}
    answers_while_draining = False

    def __init__(self, desk: Desk, body_max: int):
        self.desk = desk
        self.body_max = body_max
        self._orders = decoder(NewOrders)

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        body = body_of(req, self.body_max)
        venue = self.desk.venue
        now = req.now_ns
        if req.content_type == binary_v1.MEDIA_TYPE:
            items = list(
                binary_v1.commands(body, req.account, self.desk.grid_or_none, self.desk.grid_of_order, now)
            )
            if len(items) > BATCH_MAX:
                raise Problem(INVALID_REQUEST, f"a batch has at most {BATCH_MAX} commands")
            resp.content_type = binary_v1.MEDIA_TYPE
            resp.data = binary_v1.results(self.desk.process_some(items), self.desk.tally.errors)
        else:
            raw = decode(self._orders, body).orders
            items = [self._item(bytes(one), req, now) for one in raw]
            outcomes = self.desk.process_some(items)
            resp.data = encode(Results([self.desk.result(outcome) for outcome in outcomes]))
        resp.set_header("X-Seq", str(venue.seq))

    def _item(self, raw: bytes, req: EdgeRequest, now: int) -> m.Command | Problem:
        try:
            order = decode_new_order(raw)
            return place_command(order, req.account, self.desk.grid(order.symbol), now, req.caller_id)
        except Problem as problem:
            return problem.kept()


class CancelBatchResource:
    """POST /orders/cancel-batch"""

    needs: ClassVar = {"POST": TRADE}
    answers_while_draining = False

    def __init__(self, desk: Desk, body_max: int):
        self.desk = desk
        self.body_max = body_max
        self._ids = decoder(OrderIds)

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        ids = decode(self._ids, body_of(req, self.body_max)).order_ids
        items = [
            m.CancelOrder(req.account, order_number(one, self.desk.shard_name), req.caller_id) for one in ids
        ]
        outcomes = self.desk.process_some(items)
        resp.data = encode(Results([self.desk.result(outcome) for outcome in outcomes]))
        resp.set_header("X-Seq", str(self.desk.venue.seq))


class TestResource:
    """POST /orders/test: every check of an order, and nothing else"""

    needs: ClassVar = {"POST": TRADE}
    answers_while_draining = False

    def __init__(self, desk: Desk):
        self.desk = desk

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        venue = self.desk.venue
        order = decode_new_order(body_of(req, self.desk.body_max))
        grid = self.desk.grid(order.symbol)
        command = place_command(order, req.account, grid, req.now_ns, req.caller_id)
        late = too_late(command, req.now_ns)
        if late is not None:
            raise late
        if req.account not in venue.shard.accounts:
            raise Problem(FORBIDDEN, "the token's account does not exist here")
        refusal, worst = venue.shard.judge(command, req.now_ns)
        if refusal is not None:
            raise Problem(*explain(refusal, command, grid))
        notional = worst * command.qty * venue.shard.markets[command.symbol].unit
        self.desk.tally.tests += 1
        resp.data = encode(TestResult(True, text_of(notional)))
