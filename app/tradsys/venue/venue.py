"""The venue: one writer that gives commands their number and time, judges retries, applies and journals.

    process(commands) -> outcomes

Nothing is visible before it is journalled: a batch is applied, written as one frame, and only then are
its outcomes returned. What is refused here (unknown account or symbol, stale, a key that was used for
something else) takes no sequence number; what the shard refuses is a journalled outcome like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw
from msgspec.structs import replace

from tradsys.codec.applied import Done, OrderState
from tradsys.codec.contradictions import ICEBERG_SLICES_MAX, too_late
from tradsys.codec.decimals import AMOUNT_MAX, SMALL_MAX, text_of
from tradsys.codec.errors import (
    FORBIDDEN,
    INVALID_REQUEST,
    KEY_REUSED,
    NOT_LEADER,
    STALE,
    UNKNOWN_SYMBOL,
    Problem,
)
from tradsys.core.messages import (
    NOT_TRADING,
    CancelOrder,
    CancelOrders,
    Command,
    ContinueWork,
    Event,
    ExpireOrders,
    PlaceOrder,
    ReplaceOrder,
    SetJournalSpace,
)
from tradsys.core.order import Order
from tradsys.core.outcome import is_refusal
from tradsys.core.shard import Shard
from tradsys.venue.outcome import Outcome
from tradsys.venue.ports import Clock, Entry, Journal, JournalError

BATCH_MAX = 1_000
BATCH_EVENTS_MAX: Final = 100_000
"""Of a batch that has caused so many, a tenth of a second of work, only cancels are taken further: one
command is bounded by the shard's rules, but a thousand of them would hold up everybody for many seconds."""
_NO_ACCOUNT: Final = "the token's account does not exist here"
_UNCOUNTABLE = f"quantity × price is larger than {text_of(AMOUNT_MAX)}, the most that is counted"


def _whose(command: Any) -> tuple[str, int]:
    """(account, order id) of a cancel or a replace."""
    return command.account, command.order_id


def _is_uncountable(qty: int, price: int, unit: int) -> bool:
    worth = price * unit
    # The product of all three is no machine word to compiled code, and hardly ever needed.
    return worth > 0 and qty > SMALL_MAX // worth and worth * qty > AMOUNT_MAX


def _full() -> Problem:
    return Problem(NOT_LEADER, "the journal is full; try again", retry_after_s=1)


def _too_much() -> Problem:
    return Problem(
        NOT_LEADER, "the batch has done as much as one may; send the rest of it again", retry_after_s=1
    )


def _no_space() -> Problem:
    """Not journalled, unlike other refusals of code 1010: they would use up what is kept for cancels."""
    return Problem(
        NOT_TRADING, "only cancels are accepted: the journal waits for space", {"status": "cancel_only"}
    )


class Venue:
    """One shard, its journal and its clock. Not reentrant: one thread calls it."""

    def __init__(self, shard: Shard, journal: Journal, clock: Clock, last_seq: int):
        self.shard = shard
        self.journal = journal
        self.clock = clock
        self.seq = last_seq
        """The last sequence number that was given out, and journalled."""
        self.time_ns = 0
        """Engine time of the last command."""
        self.done: defaultdict[type, int] = defaultdict(int)
        self.refused: defaultdict[type, int] = defaultdict(int)
        """Commands that were applied, by type and by what the shard said; `repeated`: retries of orders."""
        self.repeated = 0

    def process(self, commands: Sequence[Command]) -> list[Outcome]:
        """Outcomes of at most 1,000 commands, in their order, with consecutive sequence numbers.

        After BATCH_EVENTS_MAX events only cancels are taken, the others are Problem 1020.
        Raises JournalError: what happened to the batch is unknown, and the process must end.
        """
        if not self.shard.has_space and self.journal.exhausted():
            return [_full() for _ in commands]
        now = self.clock()
        seq = self.seq + 1
        entries: list[Entry | Raw] = []
        outcomes: list[Outcome] = []
        events = 0
        try:
            if self._expiry_is_due(now):
                # Due expiries come first, so that no command meets an order whose time was up before.
                expire = ExpireOrders()
                entries.append(Entry(expire, self.shard.apply(expire, seq, now)))
                self.done[ExpireOrders] += 1
            for command in commands:
                if events > BATCH_EVENTS_MAX and type(command) is not CancelOrder:
                    # A retry has its answer already.
                    known = self._judge(command, now) if isinstance(command, PlaceOrder) else None
                    outcomes.append(known or _too_much())
                    continue
                outcome = self._outcome(command, seq + len(entries), now)
                outcomes.append(outcome)
                if isinstance(outcome, Done) and not outcome.replayed:
                    entries.append(self._entry(command, outcome.events))
                    events += len(outcome.events)
        except Exception as fault:
            # Whatever was applied is not journalled, and can't be taken back.
            raise JournalError(f"seq {seq + len(entries)} was not applied to its end") from fault
        if entries:
            self.journal.append(seq, now, entries)
            self.seq = seq + len(entries) - 1
            self.time_ns = now
        return outcomes

    def process_one(self, command: Command, now: int) -> Outcome:
        """`process([command])[0]`, at two thirds of its cost: the path of a single order.

        `now` is what the clock said since the last command. Raises JournalError.
        """
        shard = self.shard
        if not shard.has_space or (shard.expiries.times and self._expiry_is_due(now)):
            return self.process((command,))[0]
        seq = self.seq + 1
        try:
            outcome = self._outcome(command, seq, now)
        except Exception as fault:
            raise JournalError(f"seq {seq} was not applied to its end") from fault
        if isinstance(outcome, Done) and not outcome.replayed:
            self.journal.append(seq, now, (self._entry(command, outcome.events),))
            self.seq = seq
            self.time_ns = now
        return outcome

    def _entry(self, command: Command, events: list[Event]) -> Entry | Raw:
        """What the journal gets of the command that was applied last."""
        entry = self.shard.entry
        return Raw(entry) if entry else Entry(command, events)

    def _expiry_is_due(self, now: int) -> bool:
        shard = self.shard
        return bool(shard.expiries.times) and 0 < shard.next_expiry <= now

    def _outcome(self, command: Command, seq: int, now: int) -> Outcome:
        """Judge a command and, unless that settles it, apply it as number `seq`."""
        shard = self.shard
        kind = type(command)
        if kind is PlaceOrder:
            refused: Outcome | None = self._judge(command, now)  # type: ignore[arg-type]
            if refused is not None:
                return refused
            events = shard.apply(command, seq, now)
            (self.refused if is_refusal(events) else self.done)[kind] += 1
            instrument = shard.markets[command.symbol].instrument  # type: ignore[union-attr]
            return Done(command, seq, now, events, instrument)
        order = None
        if kind is CancelOrder or kind is ReplaceOrder:
            account, order_id = _whose(command)
            if account not in shard.accounts:
                return Problem(FORBIDDEN, _NO_ACCOUNT)
            if not shard.has_space and kind is ReplaceOrder:
                return _no_space()
            order = shard.order(order_id)
            if order is not None and order.account.name != account:
                order = None
            if order is not None and kind is ReplaceOrder:
                refused = self._judge_replacement(command, order)  # type: ignore[arg-type]
                if refused is not None:
                    return refused
        elif isinstance(command, CancelOrders) and command.account not in shard.accounts:
            return Problem(FORBIDDEN, _NO_ACCOUNT)
        events = shard.apply(command, seq, now)
        (self.refused if is_refusal(events) else self.done)[kind] += 1
        # Read here: later commands change the order, and it may have left memory with this one.
        state = OrderState(order, order.fills) if order is not None else None
        return Done(command, seq, now, events, None, False, state)

    def _judge_replacement(self, command: ReplaceOrder, order: Order) -> Problem | None:
        market = self.shard.markets[order.command.symbol]
        if command.qty > order.display_qty * ICEBERG_SLICES_MAX > 0:
            return Problem(INVALID_REQUEST, "quantity has more than 1000 slices")
        if _is_uncountable(command.qty or order.qty, command.price or order.price, market.unit):
            return Problem(INVALID_REQUEST, _UNCOUNTABLE)
        return None

    def _judge(self, command: PlaceOrder, now: int) -> Outcome | None:
        """A retry's first outcome, or why the order may not be taken; None: it is new and may."""
        account = command.account
        if command.client_order_id:
            record = self.shard.original(account, command.client_order_id)
            if record is not None:
                first = record.command
                if command == first or replace(command, request_id=first.request_id) == first:
                    self.repeated += 1
                    return Done(first, record.seq, record.time_ns, record.events, record.instrument, True)
                return Problem(KEY_REUSED, details={"client_order_id": command.client_order_id})
            if command.expire_at:
                late = too_late(command, now)
                if late is not None:
                    return late
        if command.valid_until:
            if command.valid_until < now:
                return Problem(STALE, details={"valid_until": str(command.valid_until), "now": str(now)})
            window = self.shard.rules.idempotency_window_ns
            if command.valid_until > now + window:
                # The key must outlive valid_until, or a late retry could be taken as new.
                return Problem(
                    STALE,
                    "valid_until is further away than the idempotency window",
                    {"valid_until": str(command.valid_until), "latest": str(now + window)},
                )
        if account not in self.shard.accounts:
            return Problem(FORBIDDEN, _NO_ACCOUNT)
        market = self.shard.markets.get(command.symbol)
        if market is None:
            return Problem(UNKNOWN_SYMBOL, f"no symbol {command.symbol!r}; GET /api/v1/symbols lists them")
        if not self.shard.has_space:
            return _no_space()
        price = command.price or 2 * (
            # Less than twice of these is what the protection of a stop or market order allows.
            command.stop_price or market.reference or market.book.best_price(-command.side)
        )
        if _is_uncountable(command.qty, price, market.unit):
            return Problem(INVALID_REQUEST, _UNCOUNTABLE)
        return None

    def turn(self) -> bool:
        """What is due by itself: one step of expiry or long work, or a change of journal space.

        True: there may be more at once.
        """
        shard = self.shard
        has_space = self.journal.space()
        if has_space != shard.has_space:
            self.process([SetJournalSpace(has_space)])
            return True
        if not has_space and self.journal.exhausted():
            return False
        if shard.work and shard.work_due:
            self.process([ContinueWork()])
            return True
        expiry = shard.next_expiry
        if expiry and expiry <= self.clock():
            self.process([])
            return True
        return False
