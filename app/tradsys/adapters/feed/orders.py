"""Orders over a stream: handed to the engine in batches, answered from the feed's own copy of the state.

The engine's answer says only which number the command got. What it did is in the journal, which the feed
follows anyway; so the reply is made when the feed has come to that number, and is the one that REST gives.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

from tradsys.adapters.feed.follower import Follower
from tradsys.codec.binary_v1 import REPLAYED, handed_cancel, handed_place
from tradsys.codec.decimals import grid_of
from tradsys.codec.errors import PROCESSING_FAILED, RATE_LIMITED, UNKNOWN_SYMBOL, Problem
from tradsys.codec.json_order import place_command
from tradsys.codec.json_v1 import OrderReply, decode_new_order, order_number, reply_of, reply_of_order
from tradsys.core.messages import PlaceOrder
from tradsys.venue.ports import Identity

Result = tuple[int, ...]
"""The fields of a result record; see codec/README.md."""
Answer = Callable[[OrderReply | Problem], None]


class Handing(Protocol):
    def submit(self, records: bytes, count: int, /) -> asyncio.Future[list[Result]]:
        """Results of commands with their senders in front. Raises Problem; so does the future."""


class OrderEntry:
    """Places and cancels for all connections of a feed."""

    def __init__(
        self, follower: Follower, engine: Handing, admit: Callable[[str], int] = lambda account: 0
    ) -> None:
        """`admit` takes an account, and gives the seconds after which it may send more; 0: now."""
        self._follower = follower
        self._engine = engine
        self._admit = admit
        self.under_way = 0
        """Commands that have no answer yet."""
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        """A heap of (number, count, what to do when the feed has come there)."""
        self._counted = count()

    def place(self, who: Identity, body: bytes, now_ns: int, answer: Answer) -> None:
        """Place the order of a body of `POST /orders`; `answer` hears the order, or why not.

        Raises Problem: it was not handed over.
        """
        order = decode_new_order(body)
        market = self._follower.shard.markets.get(order.symbol)
        if market is None:
            raise Problem(UNKNOWN_SYMBOL, details={"symbol": order.symbol})
        command = place_command(order, who.account, grid_of(market.instrument), now_ns, "")
        record = handed_place(who.scopes, command, market.instrument)
        self._let_in(who)
        self._hand(record, answer, lambda result: self._placed(command, result))

    def cancel(self, who: Identity, order_id: str, answer: Answer) -> None:
        """Cancel an order by its id. Raises Problem."""
        self._let_in(who)
        self.cancel_left(who, order_number(order_id, self._follower.shard.name), answer)

    def cancel_left(self, who: Identity, number: int, answer: Answer) -> None:
        """Cancel an order, however much its account has asked for lately. Raises Problem."""
        record = handed_cancel(who.scopes, who.account, number)
        self._hand(record, answer, self._canceled)

    def _let_in(self, who: Identity) -> None:
        """Raises Problem 3029."""
        wait_s = self._admit(who.account)
        if wait_s:
            raise Problem(RATE_LIMITED, retry_after_s=wait_s)

    def _hand(self, record: bytes, answer: Answer, explain: Callable[[Result], OrderReply | Problem]) -> None:
        outcome = self._engine.submit(record, 1)
        self.under_way += 1
        # From here on the journal may have it at any time, also before the engine's answer is here.
        self._follower.remembers = True

        def handed(outcome: asyncio.Future[list[Result]]) -> None:
            if outcome.cancelled():
                self._done(answer, Problem(PROCESSING_FAILED))
                return
            fault = outcome.exception()
            if fault is not None:
                self._done(answer, fault if isinstance(fault, Problem) else Problem(PROCESSING_FAILED))
                return
            (result,) = outcome.result()
            code, _, _, _, seq, *_ = result
            if not seq:
                self._done(answer, Problem(code))
                return
            self._when_at(seq, lambda: self._done(answer, explain(result)))

        outcome.add_done_callback(handed)

    def _when_at(self, seq: int, act: Callable[[], None]) -> None:
        if seq <= self._follower.seq:
            act()
        else:
            heapq.heappush(self._waiting, (seq, next(self._counted), act))

    def settle(self) -> None:
        """The follower has gone on: answer what has waited for that."""
        waiting, seq = self._waiting, self._follower.seq
        while waiting and waiting[0][0] <= seq:
            heapq.heappop(waiting)[2]()

    def _done(self, answer: Answer, said: OrderReply | Problem) -> None:
        self.under_way -= 1
        if not self.under_way:
            self._follower.remembers = False
            self._follower.placed.clear()
        answer(said)

    def _placed(self, command: PlaceOrder, result: Result) -> OrderReply | Problem:
        code, _, flags, _, seq, *_ = result
        follower = self._follower
        if flags & REPLAYED:
            record = follower.shard.original(command.account, command.client_order_id)
        else:
            record = follower.placed.get(seq)
        if record is None:
            # Forgotten meanwhile, which takes a flood of other orders.
            return Problem(code or PROCESSING_FAILED)
        reply = reply_of(record, follower.shard.name)
        return reply if isinstance(reply, OrderReply) else Problem(*reply)

    def _canceled(self, result: Result) -> OrderReply | Problem:
        code, number = result[0], result[5]
        order = self._follower.shard.order(number)
        if code:
            return Problem(code)
        return (
            reply_of_order(order, self._follower.shard.name)
            if order is not None
            else Problem(PROCESSING_FAILED)
        )
