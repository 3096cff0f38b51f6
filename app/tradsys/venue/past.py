"""What can be asked of the past: orders no longer in memory, fills, trades, candles, whole books. `history`
writes the answers down, `query` asks.

Lists are newest first. A list that does not end with its page says where the next one begins: hand that
in as `before`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct

from tradsys.core.candles import Candle
from tradsys.core.messages import Event, Instrument, RevokeToken
from tradsys.core.order import Order

NEWEST = (1 << 63) - 1
"""Before this id: from the newest on."""
OPEN = -1
"""As a status: every order that may still trade."""


class HistoryNotReady(Exception):
    """There is nothing to read from yet."""


class PastOrder(Struct, frozen=True):
    order: Order
    """Its command has what an order's text needs, and no more."""
    refusal: int = 0
    """The code with which a rejected order was refused."""


class PastFill(Struct, frozen=True):
    """One order's side of a trade."""

    symbol: str
    side: int
    instrument: Instrument
    order_id: int
    seq: int
    time_ns: int
    trade: Event


class PastTrade(Struct, frozen=True):
    trade_id: int
    instrument: Instrument
    price: int
    qty: int
    taker_side: int
    seq: int
    time_ns: int


class PastBook(Struct, frozen=True):
    """A symbol's book after the view's command."""

    instrument: Instrument
    epoch: int
    time_ns: int
    """Engine time of that command."""
    bids: list[tuple[int, ...]]
    """Best first: (ticks, shown lots) of levels, or (ticks, shown lots, order id) of orders."""
    asks: list[tuple[int, ...]]


class OrdersPage(Struct, frozen=True):
    items: list[PastOrder]
    before: int | None
    """Order id with which the next page begins; None: there is none."""


class FillsPage(Struct, frozen=True):
    items: list[PastFill]
    before: tuple[int, int] | None
    """(trade id, order id)"""


class TradesPage(Struct, frozen=True):
    items: list[PastTrade]
    before: int | None
    """Trade id."""


class CandlesPage(Struct, frozen=True):
    items: list[Candle]
    before: int | None
    """Start of the last one, in ns."""


class PastView(Protocol):
    """Everything that was so as of `seq`."""

    seq: int

    def order(self, account: str, order_id: int, /) -> PastOrder | None:
        """None also for another account's."""

    def order_by_client(self, account: str, client_order_id: str, /) -> PastOrder | None:
        """The latest one, where the id was used again."""

    def orders(
        self, account: str, /, *, symbol: str = "", status: int = 0, before: int = NEWEST, limit: int
    ) -> OrdersPage:
        """`symbol` "" and `status` 0 mean any."""

    def fills(
        self, account: str, /, *, symbol: str = "", before: tuple[int, int] = (NEWEST, 0), limit: int
    ) -> FillsPage: ...

    def trades(self, symbol: str, /, *, before: int = NEWEST, limit: int) -> TradesPage: ...

    def candles(
        self, symbol: str, interval_ns: int, /, *, start_ns: int = 0, before_ns: int = NEWEST, limit: int
    ) -> CandlesPage:
        """Those that begin at `start_ns` or later, and before `before_ns`."""

    def book(self, symbol: str, levels_max: int, /, *, orders: bool = False) -> PastBook:
        """The best levels of a symbol, or all orders in them. Raises HistoryNotReady: a new release does
        not know yet what an older one has left in the book."""

    def has_symbol(self, symbol: str, /) -> bool: ...

    def revocations(self, after_seq: int, /) -> list[tuple[int, RevokeToken]]:
        """(seq, command) of what was revoked after a sequence number, in order."""


class Past(Protocol):
    def view(self) -> AbstractContextManager[PastView]:
        """One consistent view. Raises HistoryNotReady."""
