"""What the venue needs from the outside, as small protocols. Adapters provide them, `compose` wires them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Raw, Struct

# Part of the journal's format, and so of the codec; it is everybody's word for a command with its events.
from tradsys.codec.frame import Entry as Entry


class JournalError(Exception):
    """The journal can't be written or trusted. The process must stop; what was under way is unknown."""


class Frame(Struct, frozen=True, gc=False):
    """What one write of the journal holds: a batch of entries of one engine time."""

    first_seq: int
    time_ns: int
    epoch: int
    entries: list[Entry]
    payload: bytes = b""
    """The entries as they stand in the journal: what a replay's own entries, encoded, must equal."""


class Journal(Protocol):
    """Where `Venue.process` writes. Nothing is visible before `append` has returned."""

    epoch: int

    def append(self, first_seq: int, time_ns: int, entries: Sequence[Entry | Raw]) -> None:
        """Write one frame; in a `durable` venue it is on the disk when this returns.

        `Raw`: an entry that is encoded already.

        Raises JournalError: whether the frame will be found after a restart is unknown.
        """

    def space(self) -> bool:
        """False: the current segment runs low and the next one is not there."""

    def exhausted(self) -> bool:
        """True: it is all but full and the next one is not there; nothing more can be taken now."""


class Clock(Protocol):
    def __call__(self) -> int:
        """Engine time in ns: never goes back, slewed towards wall time."""


# What a token may do; the scopes of a token are a sum of these, and none includes another.
TRADE, READ, ADMIN = 1, 2, 4


class Identity(Struct, frozen=True, gc=False):
    """Who sends a request, as a verified token says."""

    account: str
    subject: str
    scopes: int
    issued_s: int
    """Unix seconds, the token's `iat`."""
    not_before_ns: int
    """Engine time from which the token holds; the allowance for clocks that differ is taken off."""
    expires_ns: int
    """Engine time from which the token is refused."""
    jti: str = ""
    kid: str = ""
    """Which key signed it; "" where keys have no names."""


class Unauthorized(Struct, frozen=True, gc=False):
    """There is no identity. `detail` is one of a few fixed sentences for the log, never for a body."""

    code: int
    """2001: no bearer token was sent; 2002: it is not valid."""
    detail: str


class Busy(Struct, frozen=True, gc=False):
    """The token is not known yet, and as many new ones as allowed were verified within the last second."""

    retry_after_s: int


class Authenticator(Protocol):
    """Tells who sends a request; costs well under a microsecond for a token seen before."""

    def verify(self, header_value: str | None, now_ns: int) -> Identity | Unauthorized | Busy:
        """Judge the value of an Authorization header, None if there was none, at an engine time."""
