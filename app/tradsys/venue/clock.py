"""Engine time: starts at the later of wall time and the last journalled time, then follows the monotonic
clock, slewed by at most 500 ppm towards wall time. It never goes back and never jumps, whatever the wall
clock does; expiry, idempotency windows and tokens are judged by it."""

from __future__ import annotations

from collections.abc import Callable

from tradsys.venue.ports import Clock

SLEW_PPM_MAX = 500
ANCHOR_NS = 1_000_000_000
"""How often the rate is corrected."""


class EngineClock:
    def __init__(self, last_ns: int, wall_ns: Callable[[], int], monotonic_ns: Callable[[], int]):
        self._wall = wall_ns
        self._monotonic = monotonic_ns
        self._start = max(wall_ns(), last_ns)
        self._anchor = monotonic_ns()
        self._slew_ppm = 0

    def __call__(self) -> int:
        elapsed = self._monotonic() - self._anchor
        now = self._start + elapsed + elapsed * self._slew_ppm // 1_000_000
        if elapsed > ANCHOR_NS:
            # Anchoring at `now` keeps time continuous: only its rate changes.
            self._start = now
            self._anchor += elapsed
            error_ppm = (self._wall() - now) * 1_000_000 // ANCHOR_NS
            self._slew_ppm = max(-SLEW_PPM_MAX, min(SLEW_PPM_MAX, error_ppm))
        return now


class TurnClock:
    """One time for everything that is committed together: what arrives in one turn came at one moment.

    So a turn's commands are one frame of the journal; a turn ends after a millisecond at the latest.
    """

    def __init__(self, clock: Clock):
        self._clock = clock
        self._now = 0

    def __call__(self) -> int:
        if not self._now:
            self._now = self._clock()
        return self._now

    def end_turn(self) -> None:
        self._now = 0
