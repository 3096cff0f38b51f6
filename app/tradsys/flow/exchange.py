"""Replay a message file in LOBSTER format at a venue, through the public API and in the file's order.

What happened at the exchange is made to happen here:

    1 new order          a limit order, gtc, of the account `maker`
    2 partial cancel     a replace to the smaller quantity, which keeps its place
    3 delete             a cancel
    4 visible execution  an IOC limit order of the account `taker` from the other side, at that price and
                         of that size; it must hit the named order, which is first at the best price
    7 trading state      −1 halts the symbol, 0 and 1 let it trade again; needs an admin token

What can't be made to happen is counted: hidden executions and crosses, because the orders that traded are
not in the file, and whatever names an order that was resting before the file begins.

The replay keeps a book of its own from the venue's answers, and so knows the top of book after each
message although messages travel in batches. Every answer must fit that book, and at intervals and at
the end the venue's book is read, order by order, and must equal it: `Diverged` otherwise.

A file that tells only the best levels leaves orders out when they leave these levels, so that some stay
behind here and are hit in place of others. Such an execution is counted as one of another order, and the
named order is then reduced by what it lost at the exchange.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from msgspec import Struct, field

from tradsys.client.records import Result, cancel_record, place_record, replace_record
from tradsys.client.rest import RestClient, path_of
from tradsys.flow.book import BUY, SELL, FlowBook, Hit
from tradsys.flow.lobster import (
    CROSS,
    DELETED,
    EMPTY_ASK,
    EMPTY_BID,
    EXECUTED,
    HALTED,
    HIDDEN_EXECUTED,
    NEW,
    PRICE_SCALE,
    STATE,
    TYPE_WORDS,
    Message,
)
from tradsys.flow.model import UNITS, decimal_text, units_of

BATCH_MAX = 1_000
BOOK_DEPTH = 100
"""Levels of each side that the venue shows in one answer."""
NOT_CANCELABLE, NOT_TRADING = 1009, 1010
PRICE_UNITS = UNITS // PRICE_SCALE
SIDE_WORDS = {BUY: "buy", SELL: "sell"}

Top = tuple[int, int, int, int]
"""ask price, ask size, bid price, bid size, as LOBSTER writes them."""
EMPTY_TOP: Top = (EMPTY_ASK, 0, EMPTY_BID, 0)


class Diverged(Exception):
    """The venue did not do what price-time priority demands, or somebody else trades in the symbol."""


class Report(Struct):
    messages: int = 0
    commands: int = 0
    batches: int = 0
    tops: int = 0
    """Changes of the top of book."""
    checks: int = 0
    """How often the venue's book was read and found equal."""
    mapped: Counter[int] = field(default_factory=Counter)
    """Messages by type that were made to happen."""
    unmapped: Counter[int] = field(default_factory=Counter)
    """Messages by type that can't be: hidden executions, crosses, trading states without an admin token."""
    unknown: Counter[int] = field(default_factory=Counter)
    """Messages by type that name an order from before the file, or one that was refused here."""
    refusals: Counter[int] = field(default_factory=Counter)
    """Commands that the venue refused, by code."""
    other_maker: int = 0
    """Executions that hit another order than the one that the file names."""
    traded_on_arrival: int = 0
    """New orders that traded here and did not at the exchange."""
    corrections: int = 0


class _Order:
    """An order of the file, as it is at the venue."""

    __slots__ = ("filled", "last_line", "left", "venue_id")

    def __init__(self, size: int) -> None:
        self.venue_id = 0
        """0 until the venue has accepted it."""
        self.left = size
        """What the file has left of it, or the venue if that is less."""
        self.filled = 0
        """What the venue has filled of it."""
        self.last_line = 0
        """Of the last message that was planned for it."""


class _Step(Struct):
    """A command that waits for its answer, with the message it stands for."""

    message: Message
    order: _Order
    quantity: int = 0
    """The new total of a replace."""


class Exchange:
    """Plays messages at one symbol of a venue, which nobody else may trade.

    `maker` and `taker` are clients with tokens of two accounts, `admin` one for halts, if there is any.
    `run_id` makes the client_order_ids of this replay its own. `saw_top` hears of each change of the top.
    """

    def __init__(
        self,
        symbol: str,
        maker: RestClient,
        taker: RestClient,
        admin: RestClient | None,
        *,
        run_id: str,
        batch: int = BATCH_MAX,
        check_every: int = 100_000,
        saw_top: Callable[[Top], None] = lambda top: None,
    ) -> None:
        self.report = Report()
        self.top: Top = EMPTY_TOP
        self._symbol = symbol
        self._maker = maker
        self._taker = taker
        self._admin = admin
        self._run_id = run_id
        self._batch = batch
        self._check_every = check_every
        self._saw_top = saw_top
        self._book: FlowBook[int] = FlowBook()
        self._orders: dict[int, _Order] = {}
        self._by_venue_id: dict[int, _Order] = {}
        self._steps: list[_Step] = []
        self._records: list[bytes] = []
        self._sender = maker
        self._to_correct: list[_Order] = []
        self._is_trading = True

    def run(
        self, messages: Iterable[Message], progress: Callable[[Report], None] = lambda report: None
    ) -> Report:
        """Play all messages and check the final book. Raises Diverged, Refused and Unreachable."""
        report = self.report
        for message in messages:
            report.messages += 1
            self._play(message)
            if report.messages % 1_000 == 0:
                progress(report)
            if report.messages % self._check_every == 0:
                self._flush()
                self.check()
        self._flush()
        self.check()
        progress(report)
        return report

    def check(self) -> None:
        """Read the venue's book and compare it with this one, order by order, as deep as it shows."""
        path = "/market" + path_of(self._symbol) + "/book"
        book = self._maker.get(path, {"depth": BOOK_DEPTH, "level": 3})
        for side, name in ((BUY, "bids"), (SELL, "asks")):
            there = [
                (units_of(price) // PRICE_UNITS, units_of(qty) // UNITS, int(order_id.rpartition("-")[2]))
                for price, qty, order_id in book[name]
            ]
            here = self._book.orders(side, BOOK_DEPTH)
            if here != there:
                differ = next(
                    (i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
                    min(len(here), len(there)),
                )
                raise Diverged(
                    f"after message {self.report.messages} the venue's {name} differ from what its answers "
                    f"told, first in row {differ + 1}: expected {here[differ : differ + 1]}, "
                    f"found {there[differ : differ + 1]} (price ×10000, quantity, order)"
                )
        self.report.checks += 1

    # --- from messages to commands --------------------------------------------------------------------

    def _play(self, message: Message) -> None:
        kind = message.type
        if kind in (HIDDEN_EXECUTED, CROSS):
            self.report.unmapped[kind] += 1
        elif kind == STATE:
            self._change_state(message)
        elif kind == NEW:
            self._enter(message)
        else:
            order = self._orders.get(message.order_id)
            if order is None:
                self.report.unknown[kind] += 1
                return
            if not order.venue_id:
                # Its id is in the answer to the batch that waits to be sent.
                self._flush()
                if message.order_id not in self._orders:
                    self.report.unknown[kind] += 1
                    return
            if kind == EXECUTED:
                self._execute(message, order)
            else:
                self._reduce(message, order)

    def _enter(self, message: Message) -> None:
        self._turn_to(self._maker)
        order = self._orders[message.order_id] = _Order(message.size)
        record = place_record(
            symbol=self._symbol,
            side=SIDE_WORDS[message.direction],
            price=message.price * PRICE_UNITS,
            quantity=message.size * UNITS,
            client_order_id=f"{self._run_id}-{message.line}",
        )
        self._add(record, message, order)

    def _reduce(self, message: Message, order: _Order) -> None:
        self._turn_to(self._maker)
        order.left = 0 if message.type == DELETED else max(order.left - message.size, 0)
        if order.left:
            quantity = order.filled + order.left
            record = replace_record(self._symbol, order.venue_id, quantity * UNITS)
            self._add(record, message, order, quantity)
        else:
            del self._orders[message.order_id]
            self._add(cancel_record(order.venue_id), message, order)

    def _execute(self, message: Message, order: _Order) -> None:
        self._turn_to(self._taker)
        order.left = max(order.left - message.size, 0)
        if not order.left:
            del self._orders[message.order_id]
        record = place_record(
            symbol=self._symbol,
            side=SIDE_WORDS[-message.direction],
            time_in_force="ioc",
            price=message.price * PRICE_UNITS,
            quantity=message.size * UNITS,
            client_order_id=f"{self._run_id}-{message.line}",
        )
        self._add(record, message, order)

    def _change_state(self, message: Message) -> None:
        if self._admin is None:
            self.report.unmapped[STATE] += 1
            return
        self._flush()
        # The venue has no state in which orders come in and don't match, so quoting is trading here.
        self._is_trading = message.price != HALTED
        status = "trading" if self._is_trading else "halted"
        path = "/admin/symbols" + path_of(self._symbol) + "/status"
        self._admin.put(path, {"status": status}, repeatable=True)
        self.report.mapped[STATE] += 1

    def _turn_to(self, sender: RestClient) -> None:
        """The next command is of this account; what was planned for it must know all answers before."""
        if sender is not self._sender or len(self._steps) == self._batch:
            self._flush()
            self._sender = sender

    def _add(self, record: bytes, message: Message, order: _Order, quantity: int = 0) -> None:
        order.last_line = message.line
        self._steps.append(_Step(message, order, quantity))
        self._records.append(record)

    # --- from answers to the book ---------------------------------------------------------------------

    def _flush(self) -> None:
        """Send what waits, and take the answers into the book."""
        if not self._steps:
            return
        steps, body = self._steps, b"".join(self._records)
        self._steps, self._records = [], []
        answers = self._sender.batch(body)
        self.report.batches += 1
        self.report.commands += len(steps)
        for step, result in zip(steps, answers, strict=True):
            if step.message.type == NEW:
                self._entered(step, result)
            elif step.message.type == EXECUTED:
                self._executed(step, result)
            else:
                self._reduced(step, result)
            self._note_top()
        if self._to_correct and self._is_trading:
            self._correct()

    def _entered(self, step: _Step, result: Result) -> None:
        message, order = step.message, step.order
        if result.code:
            self.report.refusals[result.code] += 1
            del self._orders[message.order_id]
            return
        hits = self._trade(message, message.direction, result)
        order.venue_id = result.order_id
        self._by_venue_id[result.order_id] = order
        order.filled = sum(hit.qty for hit in hits)
        order.left -= order.filled
        if hits:
            self.report.traded_on_arrival += 1
        if order.left:
            self._book.rest(result.order_id, message.direction, message.price, order.left)
        self.report.mapped[NEW] += 1

    def _executed(self, step: _Step, result: Result) -> None:
        message, order = step.message, step.order
        if result.code:
            self.report.refusals[result.code] += 1
            self._to_correct.append(order)
            return
        hits = self._trade(message, -message.direction, result)
        if hits == [Hit(order.venue_id, message.price, message.size)]:
            self.report.mapped[EXECUTED] += 1
        else:
            self.report.other_maker += 1
            self._to_correct.append(order)

    def _trade(self, message: Message, side: int, result: Result) -> list[Hit[int]]:
        """What an order of this message hits in the book; the venue must have told the same quantity."""
        hits = self._book.take(side, message.price, message.size)
        filled = sum(hit.qty for hit in hits)
        self._expect(message, result, filled, message.size - filled)
        for hit in hits:
            maker = self._by_venue_id[hit.order_id]
            maker.filled += hit.qty
            maker.left = min(maker.left, self._book.qty_of(hit.order_id))
        return hits

    def _reduced(self, step: _Step, result: Result) -> None:
        """A replace to a smaller total or a cancel; refused only if there is nothing left to reduce."""
        message, order = step.message, step.order
        resting = self._book.qty_of(order.venue_id)
        left = max(step.quantity - order.filled, 0)
        if result.code:
            is_gone = not resting or (step.quantity and not left)
            if result.code == NOT_TRADING or (result.code == NOT_CANCELABLE and is_gone):
                self.report.refusals[result.code] += 1
                self._to_correct.append(order)
                return
            raise Diverged(f"{_told(message)}: the venue refused it with code {result.code}")
        if not resting or left > resting:
            raise Diverged(f"{_told(message)}: the venue reduced an order of which {resting} should be left")
        self._book.reduce(order.venue_id, left)
        # The answer tells the order as the whole batch left it.
        if step.quantity and order.last_line == message.line:
            self._expect(message, result, order.filled, left)
        self.report.mapped[message.type] += 1

    def _expect(self, message: Message, result: Result, filled: int, remaining: int) -> None:
        if (result.filled, result.remaining) != (filled * UNITS, remaining * UNITS):
            raise Diverged(
                f"{_told(message)}: expected filled {filled}, remaining {remaining}; the venue told "
                f"{decimal_text(result.filled)} and {decimal_text(result.remaining)}"
            )

    def _correct(self) -> None:
        """Take from orders what they lost at the exchange and did not lose here."""
        orders, self._to_correct = self._to_correct, []
        wrong = [order for order in orders if self._book.qty_of(order.venue_id) > order.left]
        for start in range(0, len(wrong), BATCH_MAX):
            some = wrong[start : start + BATCH_MAX]
            records = [
                replace_record(self._symbol, order.venue_id, (order.filled + order.left) * UNITS)
                if order.left
                else cancel_record(order.venue_id)
                for order in some
            ]
            for order, result in zip(some, self._maker.batch(b"".join(records)), strict=True):
                if result.code:
                    raise Diverged(f"order {order.venue_id} can't be reduced: code {result.code}")
                self._book.reduce(order.venue_id, order.left)
                self.report.corrections += 1
        self._note_top()

    def _note_top(self) -> None:
        ask, bid = self._book.best(SELL), self._book.best(BUY)
        top = (*(ask or (EMPTY_ASK, 0)), *(bid or (EMPTY_BID, 0)))
        if top != self.top:
            self.top = top
            self.report.tops += 1
            self._saw_top(top)


def _told(message: Message) -> str:
    return f"line {message.line} ({TYPE_WORDS[message.type]} of order {message.order_id})"
