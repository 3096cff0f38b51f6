"""The feed's copy of the state: it replays the journal up to `published_seq` and tells what has changed.

The engine is asked for nothing and waits for nobody. What `feed` shows may not be durable yet; a power cut
that takes it back ends this process, too, and the next one begins with a new epoch.

Whoever drives it asks for one turn after the other, and sleeps only when there is none (page/waking.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Protocol

import msgspec
from msgspec import Struct

from tradsys.codec.stream_v1 import TradeMade
from tradsys.core import messages as m
from tradsys.core.order import Order
from tradsys.core.records import Record
from tradsys.core.shard import Shard
from tradsys.venue.ports import Frame, JournalError

REMEMBERED_MAX = 20_000
"""Placed orders whose outcome somebody waits for; more than one handover has under way."""


class Progress(Protocol):
    """How far the journal is; the shared page."""

    @property
    def current(self) -> bool: ...
    @property
    def epoch(self) -> int: ...
    @property
    def published_seq(self) -> int: ...
    @property
    def durable_seq(self) -> int: ...


class Reader(Protocol):
    def frames(self, until_seq: int, /) -> Iterator[Frame]:
        """The frames up to a command; call again when there are more.

        Raises JournalError if one can't be trusted.
        """

    def close(self) -> None: ...


class Restored(Struct, frozen=True):
    """Where to begin: the state after `seq`, and the chain of the journal there (None: from the start)."""

    shard: Shard
    seq: int
    chain: bytes | None


class Turn(Struct):
    """What some frames have changed, in the terms of the channels."""

    first_seq: int
    new_epoch: bool = False
    """An engine has begun; alone in its turn."""
    everything: bool = False
    """Every symbol may have changed."""
    symbols: set[str] = msgspec.field(default_factory=set)
    trades: dict[str, list[TradeMade]] = {}
    """By symbol, oldest first."""
    orders: dict[int, Order] = {}
    """The orders that events name, by id."""
    gone: set[int] = msgspec.field(default_factory=set)
    """Orders that events name and nobody remembers any more: they have closed."""
    queued: dict[int, None] = {}
    """Orders that went to the end of their level, those that went there last at the end."""
    refused: dict[str, list[Record]] = {}
    """Orders that were refused, by account."""
    accounts: set[str] = msgspec.field(default_factory=set)
    revoked: list[m.RevokeToken] = []
    frames: list[Frame] = []
    """As the journal has them."""


_ONE_ORDER = frozenset(
    (
        m.ACCEPTED_EVENT,
        m.RESTED_EVENT,
        m.CLOSED_EVENT,
        m.PARKED_EVENT,
        m.TRIGGERED_EVENT,
        m.REPLACED_EVENT,
        m.REPLENISHED_EVENT,
    )
)
"""Events whose second member is an order id."""


class Follower:
    """Follows one journal; `turn` is called again and again by the feed's loop."""

    def __init__(
        self,
        progress: Progress,
        restore: Callable[[], Restored],
        open_reader: Callable[[int, bytes | None], Reader],
    ) -> None:
        self.progress = progress
        self._restore = restore
        self._open_reader = open_reader
        self.shard: Shard
        self.seq = 0
        """The last command that was applied."""
        self.epoch = 0
        self.time_ns = 0
        """Engine time of the last frame; 0: none was read yet."""
        self.placed: dict[int, Record] = {}
        """What became of placed orders, by number; only while `remembers` is set."""
        self.remembers = False
        self.began_ns = 0
        """Engine time of the first frame that was applied."""
        self._held: Frame | None = None
        self._reader: Reader

    def start(self) -> None:
        """Load the newest snapshot; call it when the page is current."""
        restored = self._restore()
        self.shard, self.seq = restored.shard, restored.seq
        self.epoch = self.progress.epoch
        self._reader = self._open_reader(restored.seq, restored.chain)

    def close(self) -> None:
        self._reader.close()

    def turn(self, ns_max: int) -> Turn | None:
        """Apply what was published, whole frames, for about so long; None: nothing is new.

        Raises JournalError if the journal can't be followed from here.
        """
        # In this order: the engine writes the epoch first, so what is published of a new one is never
        # taken for the old one's.
        published = self.progress.published_seq
        epoch = self.progress.epoch
        if epoch != self.epoch:
            self.epoch = epoch
            return Turn(self.seq + 1, new_epoch=True)
        if published == self.seq:
            return None
        if published < self.seq:
            raise JournalError(f"the journal ends with seq {published}, and {self.seq} was seen")
        turn = Turn(self.seq + 1)
        until = perf_counter_ns() + ns_max
        held, self._held = self._held, None
        if held is not None:
            self._apply(held, turn)
        for frame in self._reader.frames(published):
            if self.seq >= turn.first_seq and isinstance(frame.entries[0].command, m.DefineInstrument):
                # A grid may change here, and a turn has one: what was counted so far is in the old one.
                self._held = frame
                break
            self._apply(frame, turn)
            if perf_counter_ns() >= until:
                break
        return turn

    def _apply(self, frame: Frame, turn: Turn) -> None:
        shard, seq, now = self.shard, frame.first_seq, frame.time_ns
        for entry in frame.entries:
            command = entry.command
            events = shard.apply(command, seq, now)
            if events != entry.events:
                raise JournalError(f"replay of seq {seq} gives other events than the journal has")
            self._note(command, events, seq, now, turn)
            if self.remembers and isinstance(command, m.PlaceOrder):
                self._remember(command, events, seq, now)
            seq += 1
        turn.frames.append(frame)
        self.seq = seq - 1
        self.time_ns = now
        self.began_ns = self.began_ns or now

    def _remember(self, command: m.PlaceOrder, events: list[m.Event], seq: int, now: int) -> None:
        market = self.shard.markets.get(command.symbol)
        if market is not None:
            self.placed[seq] = Record(command, seq, now, events, market.instrument)
        if len(self.placed) > REMEMBERED_MAX:
            del self.placed[next(iter(self.placed))]

    def _note(self, command: m.Command, events: list[m.Event], seq: int, now: int, turn: Turn) -> None:
        find = self.shard.orders.get
        for event in events:
            what = event[0]
            if what in _ONE_ORDER:
                ids: tuple[int, ...] = (event[1],)
                if what == m.RESTED_EVENT or what == m.REPLENISHED_EVENT:
                    turn.queued.pop(event[1], None)
                    turn.queued[event[1]] = None
            elif what == m.TRADE_EVENT:
                ids = (event[2], event[3])
            elif what == m.SET_EVENT:
                self._note_setting(command, turn)
                continue
            elif what == m.REFUSED_EVENT and isinstance(command, m.PlaceOrder):
                market = self.shard.markets.get(command.symbol)
                if market is not None:
                    turn.accounts.add(command.account)
                    turn.refused.setdefault(command.account, []).append(
                        Record(command, seq, now, events, market.instrument)
                    )
                continue
            else:
                continue
            for order_id in ids:
                order = find(order_id)
                if order is None:
                    # It closed in this very command, and only a handful of closed orders are remembered.
                    turn.everything = True
                    turn.gone.add(order_id)
                    continue
                turn.orders[order_id] = order
                turn.symbols.add(order.command.symbol)
                turn.accounts.add(order.account.name)
            if what == m.TRADE_EVENT:
                self._note_trade(event, seq, now, turn)

    def _note_trade(self, event: m.Event, seq: int, now: int, turn: Turn) -> None:
        maker, taker = turn.orders.get(event[2]), turn.orders.get(event[3])
        if taker is not None:
            symbol, side = taker.command.symbol, taker.side
        elif maker is not None:
            symbol, side = maker.command.symbol, -maker.side
        else:
            symbol, side = self._forgotten(event)
        turn.trades.setdefault(symbol, []).append((now, seq, side, event))

    def _forgotten(self, event: m.Event) -> tuple[str, int]:
        """(symbol, taker side) of a trade whose orders are not remembered: its market remembers it."""
        for symbol, market in self.shard.markets.items():
            for _, _, side, trade in market.trades:
                if trade[1] == event[1]:
                    return symbol, side
        raise JournalError(f"trade {event[1]} belongs to no market")

    def _note_setting(self, command: m.Command, turn: Turn) -> None:
        if isinstance(command, m.RevokeToken):
            turn.revoked.append(command)
        elif isinstance(command, m.AdjustBalance):
            turn.accounts.add(command.account)
        elif isinstance(command, m.DefineInstrument):
            turn.symbols.add(command.instrument.symbol)
        elif isinstance(command, m.SetReference):
            turn.symbols.add(command.symbol)
        else:
            turn.everything = True
