"""Tokens that are refused although their time is not up.

The shard's state holds what was revoked, as journalled `RevokeToken` commands. This is the same in the
shape that a verifier can ask on every request, of a token seen a thousand times or of an open stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush

from tradsys.core.messages import RevokeToken
from tradsys.venue.ports import Identity

TOKEN_LIFE_MAX_S = 3653 * 86_400
"""No token is accepted that expires later than this from now, so no revocation is needed for longer."""

FOR_EVER = 2**63
FORGET_STEP = 4
"""Entries that one command may forget, so that none of them is long work."""


class Revocations:
    """Revoked tokens by `jti`, and per account the time up to which its tokens were revoked."""

    def __init__(self) -> None:
        self._jtis: dict[str, int] = {}
        self._issued_until: dict[str, int] = {}
        self._kept_until: dict[tuple[str, str], int] = {}
        self._forgettable: list[tuple[int, tuple[str, str]]] = []
        self.jtis: Mapping[str, int] = self._jtis
        """Revoked `jti`; the value says nothing."""
        self.issued_until: Mapping[str, int] = self._issued_until
        """Account → unix seconds: its tokens issued at or before them are revoked."""

    def revoke(self, command: RevokeToken, now_s: int) -> None:
        """Take over a command that the shard accepted, from now on or after a restart.

        Several for one account add up to the strictest. An entry is kept at least until `expires` (unix
        seconds; 0: for ever, as in the shard's state, whose `revocations_max` bounds this too). At most 4
        are forgotten here, those first that were due first.
        """
        expires = command.expires or FOR_EVER
        if command.jti:
            self._jtis[command.jti] = 1
            self._keep(("jti", command.jti), expires)
        if command.account:
            known = self._issued_until.get(command.account, -1)
            self._issued_until[command.account] = max(known, command.issued_until)
            self._keep(("account", command.account), expires)
        self._forget(now_s)

    def is_revoked(self, identity: Identity) -> bool:
        return identity.jti in self._jtis or identity.issued_s <= self._issued_until.get(identity.account, -1)

    def _keep(self, entry: tuple[str, str], expires: int) -> None:
        if expires > self._kept_until.get(entry, -1):
            self._kept_until[entry] = expires
            heappush(self._forgettable, (expires, entry))

    def _forget(self, now_s: int) -> None:
        for _ in range(FORGET_STEP):
            if not self._forgettable or self._forgettable[0][0] > now_s:
                return
            expires, entry = heappop(self._forgettable)
            if self._kept_until[entry] > expires:
                continue  # it was revoked again, for longer
            del self._kept_until[entry]
            kind, name = entry
            del (self._jtis if kind == "jti" else self._issued_until)[name]
