"""Orders over REST: decode, hand to the venue, answer with what the journal now holds."""

from __future__ import annotations

from itertools import islice
from time import perf_counter_ns
from typing import ClassVar

from msgspec import Struct

from tradsys.adapters.http.desk import Desk, within
from tradsys.adapters.http.edge import (
    HANDED,
    EdgeRequest,
    EdgeResponse,
)
from tradsys.codec import binary_v1
from tradsys.codec.contradictions import too_late
from tradsys.codec.decimals import text_of
from tradsys.codec.errors import FORBIDDEN, INVALID_REQUEST, Problem, explain
from tradsys.codec.json_order import place_command
from tradsys.codec.json_v1 import (
    OrderIds,
    OrderReply,
    Replacement,
    Result,
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
from tradsys.core.outcome import is_refusal
from tradsys.venue.ports import READ, TRADE
from tradsys.venue.venue import BATCH_MAX

PAGE_MAX = 1_000


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


def body_of(req: EdgeRequest, limit: int) -> bytes:
    """The whole body. Raises Problem 1002 (413) above `limit` bytes."""
    # The server has read all of it, within its own limit, before the application is called.
    return within(req.env["wsgi.input"].read(), limit)


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
        elif record is not None and is_refusal(record.events):
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
            items = self.desk.some_orders(body, req.account, now, req.caller_id)
            outcomes = self.desk.process_some(items)
            resp.data = encode(Results([self.desk.result(outcome) for outcome in outcomes]))
        resp.set_header("X-Seq", str(venue.seq))


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
