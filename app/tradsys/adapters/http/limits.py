"""Requests per second and account; off by default, and not part of the venue's state."""

from __future__ import annotations

from msgspec import Struct

_SECOND_NS = 1_000_000_000


class Verdict(Struct, frozen=True, gc=False):
    remaining: int
    retry_after_s: int
    """0: the request may pass."""


class RateLimiter:
    """A token bucket for each account that has sent something lately; `accounts_max` bounds them."""

    accounts_max = 100_000

    def __init__(self, per_second: int):
        """`per_second` is also the burst."""
        self.per_second = per_second
        self._buckets: dict[str, tuple[int, int]] = {}
        """account -> (monotonic ns, request-nanoseconds left then)"""

    def take(self, account: str, now_ns: int) -> Verdict:
        full = self.per_second * _SECOND_NS
        at, left = self._buckets.get(account, (now_ns, full))
        left = min(full, left + (now_ns - at) * self.per_second)
        passed = left >= _SECOND_NS
        if passed:
            left -= _SECOND_NS
        if account not in self._buckets and len(self._buckets) >= self.accounts_max:
            # The oldest entry; one that sent nothing for a second is full again anyway.
            del self._buckets[next(iter(self._buckets))]
        self._buckets[account] = (now_ns, left)
        return Verdict(left // _SECOND_NS, 0 if passed else 1)
