"""Waking followers that sleep, so that the engine pays for a waking only while somebody sleeps.

A follower that has read everything writes a number into its word of the page and waits for a byte in its
pipe, a FIFO beside the page that any event loop can watch. The engine looks at the words when it has
published something: two reads. It writes a byte only for a number that it has not woken yet; so a sleep
costs one system call, however many commands come before the follower has got up.

The number stays in the follower's hands: it grows with each sleep, and is 0 while the follower is awake.
So each word has one writer, and a waking that comes late or twice is harmless.

A follower that went to sleep looks at `published_seq` once more before it waits. What either side has
written must be visible to the other by then: taking a lock is a full barrier, which plain stores are not.
On the engine's side the system call that sent a reply lies between.
"""

from __future__ import annotations

import contextlib
import os
import time
from threading import Lock

from tradsys.adapters.page.page import ASLEEP, PUBLISHED_SEQ

FOLLOWERS = ("history", "feed")
"""Whose word is which."""


def pipe_path(directory: str, follower: str) -> str:
    return f"{directory}/wake-{follower}"


class Sleeper:
    """A follower's side. `pipe` is readable after a waking, until `quiet`; call `awake` then."""

    def __init__(self, words: memoryview[int], directory: str, follower: str) -> None:
        """Raises OSError if the pipe can't be had."""
        self._words = words
        self._word = ASLEEP + FOLLOWERS.index(follower)
        path = pipe_path(directory, follower)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # For reading and writing: so it has no end when the engine goes.
        self.pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        # Not from 1: an engine may remember a number of this follower's last life.
        self._sleeps = time.time_ns()
        self._barrier = Lock()
        self._rung = False

    def asleep(self, seen_seq: int) -> bool:
        """From here on the engine wakes; False: something was published after `seen_seq`, don't wait."""
        self.quiet()
        self._sleeps += 1
        self._words[self._word] = self._sleeps
        with self._barrier:
            pass
        if self._words[PUBLISHED_SEQ] == seen_seq:
            return True
        self._words[self._word] = 0
        return False

    def awake(self) -> None:
        """The engine need not wake any more."""
        self._words[self._word] = 0
        self._rung = True

    def quiet(self) -> None:
        """Empty the pipe. It takes a system call, which can wait until the news is out."""
        if self._rung:
            self._rung = False
            with contextlib.suppress(BlockingIOError):
                os.read(self.pipe, 64)

    def close(self) -> None:
        self._words[self._word] = 0
        os.close(self.pipe)


class Bells:
    """The engine's side."""

    def __init__(self, words: memoryview[int], directory: str) -> None:
        self._words = words
        self._bells = [
            _Bell(ASLEEP + number, pipe_path(directory, follower))
            for number, follower in enumerate(FOLLOWERS)
        ]
        self._published = 0

    def ring(self) -> None:
        """Wake who sleeps, if anything was published since the last call."""
        words = self._words
        published = words[PUBLISHED_SEQ]
        if published == self._published:
            return
        self._published = published
        for bell in self._bells:
            asleep = words[bell.word]
            if asleep and asleep != bell.rung:
                bell.rung = asleep
                bell.ring()

    def close(self) -> None:
        for bell in self._bells:
            bell.close()


class _Bell:
    def __init__(self, word: int, path: str) -> None:
        self.word = word
        self.rung = 0
        """The sleep that was ended last."""
        self._path = path
        self._pipe = -1

    def ring(self) -> None:
        """Whoever can't be woken looks by itself, a little later: nothing here is an error."""
        with contextlib.suppress(OSError):
            if self._pipe < 0:
                self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(self._pipe, b"\0")
            except BrokenPipeError:
                # The follower has gone; the next one makes itself heard by a number of its own.
                self.close()

    def close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
