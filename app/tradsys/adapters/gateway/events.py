"""What happens to an account's orders, read from the journal up to `published_seq`.

Events name orders by number only, so whose order it is has to be remembered: for each open order the command
that placed it, taken from the newest snapshot and kept up by the journal. Nothing is matched again here. The
latest events are kept, so that a client that comes back gets what it missed; one that was away for longer is
told so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct

from tradsys.codec.grpc_v1 import event_of
from tradsys.core import messages as m
from tradsys.v1 import orders_pb2 as pb
from tradsys.venue.ports import Frame, JournalError

KEPT_MAX = 100_000
"""Events of all accounts that are kept for those who come back."""
UNREAD_MAX = 10_000
"""Events that a stream may be behind; then it ends, and resumes from where it was."""

LOOK_S = 0.002

Happened = tuple[int, int, str, m.Event, int, m.PlaceOrder | None, m.Instrument | None]
"""(seq, ts, account, event, order number, the command that placed it, its instrument)"""


class Progress(Protocol):
    """How far the journal is; the shared page."""

    @property
    def epoch(self) -> int: ...
    @property
    def published_seq(self) -> int: ...
    @property
    def durable_seq(self) -> int: ...


class Reader(Protocol):
    def frames(self, until_seq: int, /) -> Iterator[Frame]: ...
    def close(self) -> None: ...


class Restored(Struct):
    """What a snapshot knows: the open orders with their instruments, and where the journal goes on."""

    seq: int
    chain: bytes | None
    """None: from the start of the journal."""
    orders: dict[int, tuple[m.PlaceOrder, m.Instrument]]
    instruments: dict[str, m.Instrument]
    accounts: set[str]
    revocations: list[m.RevokeToken]


class Listener:
    """One client's unread events; filled by `Events`, emptied by the call that serves it."""

    def __init__(self, account: str, after_seq: int) -> None:
        self.account = account
        self.after_seq = after_seq
        self.unread: deque[Happened] = deque()
        self.news = asyncio.Event()
        self.gap = False
        """Something may be missing, or may have been taken back, before what is read next."""
        self.too_slow = False

    def take(self, one: Happened) -> None:
        if one[0] <= self.after_seq or self.too_slow:
            return
        if len(self.unread) >= UNREAD_MAX:
            self.too_slow = True
            self.unread.clear()
        else:
            self.unread.append(one)
        self.news.set()


class Events:
    """Follows one journal; `turn` is called again and again by the gateway's loop."""

    def __init__(
        self,
        shard: str,
        progress: Progress,
        restore: Callable[[], Restored],
        open_reader: Callable[[int, bytes | None], Reader],
        revoke: Callable[[m.RevokeToken], None],
    ) -> None:
        """`revoke` hears of every revoked token."""
        self.shard = shard
        self.progress = progress
        self.known = True
        """What was revoked is known."""
        self._restore = restore
        self._open_reader = open_reader
        self._revoke = revoke
        self.seq = 0
        """The last command that was read."""
        self.epoch = 0
        self.accounts: set[str] = set()
        self._orders: dict[int, tuple[m.PlaceOrder, m.Instrument]] = {}
        self._instruments: dict[str, m.Instrument] = {}
        self._kept: dict[str, deque[Happened]] = {}
        self._kept_order: deque[str] = deque()
        self._forgotten_seq = 0
        """Events up to here may be missing from what is kept."""
        self._listeners: dict[str, dict[Listener, None]] = {}
        self._reader: Reader

    def start(self) -> None:
        """Load the newest snapshot; call it when an engine has begun.

        Again, it goes on from another place: streams are told what they may have missed.
        """
        restored = self._restore()
        if (restored.seq, self.progress.epoch) != (self.seq, self.epoch):
            self._kept.clear()
            self._kept_order.clear()
            self._forgotten_seq = restored.seq
            for listeners in self._listeners.values():
                for listener in listeners:
                    listener.after_seq = min(listener.after_seq, restored.seq)
                    listener.gap = True
            self.wake()
        self.seq = restored.seq
        self._orders, self._instruments = restored.orders, restored.instruments
        self.accounts = restored.accounts
        for command in restored.revocations:
            self._revoke(command)
        self.epoch = self.progress.epoch
        self._reader = self._open_reader(restored.seq, restored.chain)

    def close(self) -> None:
        self._reader.close()

    # --- reading the journal ------------------------------------------------------------------------

    def turn(self, commands_max: int) -> bool:
        """Read what was published, whole frames, until there are so many commands; False: nothing is new.

        Raises JournalError if the journal can't be followed from here.
        """
        # In this order: the engine writes the epoch first, so what is published of a new one is never
        # taken for the old one's.
        published = self.progress.published_seq
        epoch = self.progress.epoch
        if epoch != self.epoch:
            self.epoch = epoch
            for listeners in self._listeners.values():
                for listener in listeners:
                    listener.gap = True
            self.wake()
            return True
        if published == self.seq:
            return False
        if published < self.seq:
            raise JournalError(f"the journal ends with seq {published}, and {self.seq} was seen")
        first = self.seq
        for frame in self._reader.frames(published):
            seq = frame.first_seq
            for entry in frame.entries:
                self._read(entry.command, entry.events, seq, frame.time_ns)
                seq += 1
            self.seq = seq - 1
            if self.seq - first >= commands_max:
                break
        return True

    def _read(self, command: m.Command, events: list[m.Event], seq: int, now: int) -> None:
        orders = self._orders
        gone: list[int] = []
        for event in events:
            kind = event[0]
            if kind == m.SET_EVENT:
                self._set(command)
            elif kind == m.REFUSED_EVENT:
                self._refused(command, event, seq, now)
            elif kind == m.TRADE_EVENT:
                maker, taker = event[2], event[3]
                self._happened(seq, now, event, maker)
                if taker != maker:
                    self._happened(seq, now, event, taker)
                if not event[8]:
                    gone.append(maker)
                if not event[9]:
                    gone.append(taker)
            elif kind != m.WORK_EVENT:
                if kind == m.ACCEPTED_EVENT:
                    assert isinstance(command, m.PlaceOrder)
                    orders[event[1]] = command, self._instruments[command.symbol]
                self._happened(seq, now, event, event[1])
                if kind == m.CLOSED_EVENT:
                    gone.append(event[1])
        for number in gone:
            orders.pop(number, None)

    def _set(self, command: m.Command) -> None:
        if isinstance(command, m.RevokeToken):
            self._revoke(command)
        elif isinstance(command, m.DefineInstrument):
            self._instruments[command.instrument.symbol] = command.instrument
        elif isinstance(command, m.DefineAccount):
            self.accounts.add(command.account)

    def _refused(self, command: m.Command, event: m.Event, seq: int, now: int) -> None:
        if isinstance(command, m.PlaceOrder):
            instrument = self._instruments[command.symbol]
            self._keep((seq, now, command.account, event, seq, command, instrument))
        elif isinstance(command, m.CancelOrder | m.ReplaceOrder):
            order = self._orders.get(command.order_id)
            placed, grid = (
                order if order is not None and order[0].account == command.account else (None, None)
            )
            self._keep((seq, now, command.account, event, command.order_id, placed, grid))

    def _happened(self, seq: int, now: int, event: m.Event, number: int) -> None:
        order = self._orders.get(number)
        if order is None:
            raise JournalError(f"seq {seq} has an event of order {number}, which is not open")
        command, instrument = order
        self._keep((seq, now, command.account, event, number, command, instrument))

    def _keep(self, one: Happened) -> None:
        account = one[2]
        if len(self._kept_order) >= KEPT_MAX:
            oldest = self._kept_order.popleft()
            rows = self._kept[oldest]
            self._forgotten_seq = rows.popleft()[0]
            if not rows:
                del self._kept[oldest]
        self._kept_order.append(account)
        self._kept.setdefault(account, deque()).append(one)
        for listener in self._listeners.get(account, ()):
            listener.take(one)

    # --- those who listen ---------------------------------------------------------------------------

    async def caught_up(self) -> None:
        """Wait until everything has been read that is published now."""
        published = self.progress.published_seq
        while self.seq < published:
            await asyncio.sleep(LOOK_S)

    def listen(self, account: str, from_seq: int | None, epoch: int) -> tuple[Listener, bool]:
        """A listener for what comes after `from_seq` of `epoch`, and whether something may be missing."""
        listener = Listener(account, self.seq if from_seq is None else from_seq)
        gap = False
        if from_seq is not None:
            gap = epoch != self.epoch or from_seq < self._forgotten_seq
            if gap:
                listener.after_seq = self.seq
            for one in self._kept.get(account, ()):
                listener.take(one)
        self._listeners.setdefault(account, {})[listener] = None
        return listener, gap

    def leave(self, listener: Listener) -> None:
        listeners = self._listeners[listener.account]
        del listeners[listener]
        if not listeners:
            del self._listeners[listener.account]

    def wake(self) -> None:
        """Let every listener look around."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.news.set()

    @property
    def is_heard(self) -> bool:
        return bool(self._listeners)

    def position(self, *, gap: bool = False) -> pb.Position:
        return pb.Position(
            epoch=self.epoch, seq=self.seq, durable_seq=min(self.progress.durable_seq, self.seq), gap=gap
        )

    def message_of(self, one: Happened) -> pb.OrderEvent:
        seq, ts, _, event, number, command, instrument = one
        return event_of(seq, ts, event, f"{self.shard}-{number}", number, command, instrument)
