"""What orders pass on their way through the engine's listeners, however they came.

A module of its own because it is compiled in a release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Raw

from tradsys.adapters.http.answered import AnsweredOrders
from tradsys.adapters.http.edge import EdgeRequest, EdgeResponse, Tally, answer_problem
from tradsys.codec.applied import Done
from tradsys.codec.decimals import Grid, grid_of
from tradsys.codec.errors import INVALID_REQUEST, OTHER_SHARD, UNKNOWN_SYMBOL, Problem, explain
from tradsys.codec.json_order import place_command, reply_bytes_of
from tradsys.codec.json_v1 import NewOrder, Result, decode_new_order, decode_new_orders, order_number
from tradsys.core import messages as m
from tradsys.core.order import Order
from tradsys.venue.outcome import Outcome
from tradsys.venue.venue import Venue


def within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise Problem(INVALID_REQUEST, f"the body is larger than {limit} bytes", status=413, close=True)
    return body


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
        resp.status = 307
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

    def some_orders(self, body: bytes, account: str, now: int, request_id: str) -> list[m.Command | Problem]:
        """What each order of a batch asks for, or why it can't be read. Raises Problem if the batch can't."""
        items: list[m.Command | Problem] = []
        for order in decode_new_orders(body):
            if isinstance(order, Problem):
                items.append(order)
                continue
            try:
                items.append(place_command(order, account, self.grid(order.symbol), now, request_id))
            except Problem as problem:
                items.append(problem.kept())
        return items

    def process_some(self, items: Sequence[m.Command | Problem]) -> list[Outcome]:
        """Outcomes in the order of the items; problems stay what they are and take no number."""
        commands = [item for item in items if not isinstance(item, Problem)]
        outcomes = self.venue.process(commands)
        if len(commands) == len(items):
            return outcomes
        rest = iter(outcomes)
        return [item if isinstance(item, Problem) else next(rest) for item in items]
