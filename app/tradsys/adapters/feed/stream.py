"""A stream: one channel of one symbol or account, with everybody who has subscribed to it.

What a turn changes becomes one message, encoded once for each form and handed to all. A message's
`prev_seq` is the `seq` of the one before, and a snapshot stands at the `seq` of the last message, so that the
next delta fits whichever of the two a client has.

The latest messages are kept, so that who has lost a few gets just these. A client that is further behind
gets a snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

from tradsys.adapters.feed.follower import Follower, Turn
from tradsys.adapters.feed.messages import Buffers, Encoded
from tradsys.codec import stream_v1 as s
from tradsys.core.market import Market
from tradsys.core.messages import Instrument

KEPT_MESSAGES_MAX = 256
KEPT_BYTES_MAX = 64 << 10
"""Of one form of one stream."""


class Key(NamedTuple):
    channel: str
    subject: str
    """Symbol or account."""
    depth: int = 0
    interval: str = ""


class Subscriber(Protocol):
    format: str

    def deliver(self, stream: Stream, encoded: Encoded) -> None:
        """Take a change of a stream, or fall behind."""


class _Form:
    """Those who get the same bytes, and what they got last."""

    __slots__ = ("kept", "kept_bytes", "members", "snapshot", "snapshot_seq")

    def __init__(self) -> None:
        self.members: dict[Subscriber, None] = {}
        self.kept: deque[tuple[int, Encoded]] = deque()
        """(prev_seq, message)"""
        self.kept_bytes = 0
        self.snapshot: tuple[bool, Encoded] | None = None
        """The last one and whether it said gap, as long as it holds: many subscribe at once."""
        self.snapshot_seq = -1


class Stream:
    """What the channels share."""

    private = False
    frames: ClassVar[tuple[str, ...]] = ()
    """Subprotocols that have binary frames for it; all others get JSON."""

    def __init__(self, key: Key, number: int, follower: Follower, buffers: Buffers) -> None:
        self.key = key
        self.channel, self.subject, self.depth, self.interval = key
        self.number = number
        """Its name in binary frames, for the life of the process."""
        self.follower = follower
        self.buffers = buffers
        self.seq = follower.seq
        """Of the last message."""
        self.dense_seq = 0
        """Of the last binary frame."""
        self._forms = {form: _Form() for form in (s.JSON_V1, *self.frames)}

    @property
    def ts(self) -> str:
        return str(self.follower.time_ns)

    def turned(self, turn: Turn) -> None:
        """Something about its subject may have changed: send what has."""
        raise NotImplementedError

    def snapshot(self, form: str, *, gap: bool = False) -> Encoded:
        """Everything there is to know at `seq`."""
        raise NotImplementedError

    # --- members ------------------------------------------------------------------------------------

    def _form_of(self, format: str) -> str:
        return format if format in self.frames else s.JSON_V1

    def join(self, member: Subscriber) -> None:
        self._forms[self._form_of(member.format)].members[member] = None

    def leave(self, member: Subscriber) -> None:
        form = self._forms[self._form_of(member.format)]
        del form.members[member]
        if not form.members:
            self._forget(form)

    @property
    def members(self) -> int:
        return sum(len(form.members) for form in self._forms.values())

    # --- sending ------------------------------------------------------------------------------------

    def publish(self, prev_seq: int, encode: Callable[[str], Encoded]) -> None:
        """Encode a change for each form that somebody reads, keep it, and hand it to all."""
        for name, form in self._forms.items():
            if not form.members:
                continue
            self._forget_snapshot(form)
            encoded = encode(name)
            form.kept.append((prev_seq, encoded))
            form.kept_bytes += encoded.size
            for member in form.members:
                member.deliver(self, encoded)
            while form.kept_bytes > KEPT_BYTES_MAX or len(form.kept) > KEPT_MESSAGES_MAX:
                self._forget_oldest(form)

    def since(self, format: str, seq: int) -> list[Encoded] | None:
        """The messages after the one with this `seq`; None: they are not kept any more."""
        if seq == self.seq:
            return []
        kept = self._forms[self._form_of(format)].kept
        for position, (prev_seq, _) in enumerate(kept):
            if prev_seq == seq:
                return [encoded for _, encoded in list(kept)[position:]]
        return None

    def snapshot_for(self, format: str, *, gap: bool) -> Encoded:
        """A snapshot as of now; the same one for all who ask before something changes."""
        name = self._form_of(format)
        form = self._forms[name]
        known = form.snapshot
        if known is None or known[0] != gap or form.snapshot_seq != self.seq:
            self._forget_snapshot(form)
            form.snapshot = known = gap, self.snapshot(name, gap=gap)
            form.snapshot_seq = self.seq
        return known[1]

    def renew(self) -> None:
        """Send everybody a snapshot: what they have is of the past."""
        for form in self._forms.values():
            self._forget(form)
            for member in form.members:
                member.deliver(self, self.snapshot_for(member.format, gap=False))

    def _forget_snapshot(self, form: _Form) -> None:
        if form.snapshot is not None:
            self.buffers.give_back(form.snapshot[1])
            form.snapshot = None

    def _forget(self, form: _Form) -> None:
        self._forget_snapshot(form)
        while form.kept:
            self._forget_oldest(form)

    def _forget_oldest(self, form: _Form) -> None:
        _, encoded = form.kept.popleft()
        form.kept_bytes -= encoded.size
        self.buffers.give_back(encoded)


class MarketStream(Stream):
    """A public stream: of one symbol."""

    @property
    def market(self) -> Market:
        return self.follower.shard.markets[self.subject]

    @property
    def instrument(self) -> Instrument:
        return self.market.instrument


def flags_of(prev_seq: int | None, gap: bool) -> int:
    """Of a frame of bin.v2."""
    return 0 if prev_seq is not None else s.SNAPSHOT | (s.GAP if gap else 0)
