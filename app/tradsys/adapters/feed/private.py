"""Private streams: an account's orders and balances."""

from __future__ import annotations

from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.adapters.feed.messages import Buffers, Encoded
from tradsys.adapters.feed.stream import Key, Stream
from tradsys.codec import stream_v1 as s
from tradsys.codec.applied import OrderState
from tradsys.codec.json_v1 import OrderReply, rejected_reply_of, reply_of_order
from tradsys.core.order import Order

ORDERS_PER_MESSAGE = 200
ORDERS_SHOWN_MAX = 1_000
"""Open orders in a snapshot, the latest ones."""


class OrdersStream(Stream):
    """An account's orders."""

    private = True

    def turned(self, turn: Turn) -> None:
        shard = self.follower.shard.name
        items = [
            _reply_with_fills_since(order, turn.first_seq, shard)
            for order in turn.orders.values()
            if order.account.name == self.subject
        ]
        items += [rejected_reply_of(record, shard) for record in turn.refused.get(self.subject, ())]
        if not items:
            return
        prev_seq, self.seq = self.seq, self.follower.seq
        message = self._message("delta", items)
        message.prev_seq = prev_seq
        self.publish(prev_seq, lambda form: Encoded(False, [self.buffers.text(message)]))

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
        return self._snapshot(None, gap)

    def resumed(self, from_seq: int) -> Encoded:
        """The open orders, and what has closed after `from_seq`; `gap` is set if not all of it is known."""
        return self._snapshot(from_seq, False)

    def _snapshot(self, from_seq: int | None, gap: bool) -> Encoded:
        shard = self.follower.shard
        account = shard.accounts[self.subject]
        orders: list[Order] = []
        if from_seq is not None:
            closed = shard.orders.closed
            whole = len(closed) < shard.rules.closed_orders_max or closed[0].updated_seq <= from_seq
            gap = gap or not whole
            orders = [one for one in closed if one.account is account and one.updated_seq > from_seq]
        truncated = len(account.open) > ORDERS_SHOWN_MAX
        orders += list(account.open.values())[-ORDERS_SHOWN_MAX:]
        messages = []
        for start in range(0, max(1, len(orders)), ORDERS_PER_MESSAGE):
            end = start + ORDERS_PER_MESSAGE
            message = self._message(
                "snapshot", [reply_of_order(one, shard.name) for one in orders[start:end]]
            )
            message.more = end < len(orders)
            message.gap, message.truncated = gap, truncated
            messages.append(self.buffers.text(message))
        return Encoded(False, messages)

    def _message(self, type: s.Kind, items: list[OrderReply]) -> s.OrdersMessage:
        return s.OrdersMessage(
            type=type, account=self.subject, epoch=self.follower.epoch, seq=self.seq, ts=self.ts, items=items
        )


def _reply_with_fills_since(order: Order, first_seq: int, shard: str) -> OrderReply:
    fills = [fill for fill in order.fills or () if fill[1] >= first_seq]
    return reply_of_order(OrderState(order, fills), shard)


class BalancesStream(Stream):
    """An account's balances."""

    private = True

    def __init__(self, key: Key, number: int, follower: Follower, buffers: Buffers) -> None:
        super().__init__(key, number, follower, buffers)
        self._rows = self._rows_now()

    def _rows_now(self) -> list[s.BalanceRow]:
        return s.balance_rows_of(self.follower.shard.accounts[self.subject])

    def turned(self, turn: Turn) -> None:
        before, self._rows = {row.asset: row for row in self._rows}, self._rows_now()
        changed = [row for row in self._rows if before.get(row.asset) != row]
        if not changed:
            return
        prev_seq, self.seq = self.seq, self.follower.seq
        message = self._message("delta", changed, False)
        message.prev_seq = prev_seq
        self.publish(prev_seq, lambda form: Encoded(False, [self.buffers.text(message)]))

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
        return Encoded(False, [self.buffers.text(self._message("snapshot", self._rows, gap))])

    def _message(self, type: s.Kind, items: list[s.BalanceRow], gap: bool) -> s.BalancesMessage:
        return s.BalancesMessage(
            type=type, account=self.subject, epoch=self.follower.epoch, seq=self.seq, ts=self.ts,
            items=items, gap=gap,
        )  # fmt: skip
