"""`tradsys watch`, as a program reads it and as a person sees it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable

from tests.cli.command import tradsys


def test_json_is_a_line_for_each_change(venue):
    market, trader = venue.market(), venue.account("limits")
    for price in ("9", "8", "7"):
        trader.placed(market, "buy", "1", price)

    ended = tradsys("watch", market, "--depth", 2, "--count", 1, "--json", env=venue_env(venue))

    (line,) = ended.out.splitlines()
    told = json.loads(line)
    assert (told["symbol"], told["bids"], told["asks"]) == (market, [["9", "1"], ["8", "1"]], [])


def test_a_picture_ends_after_as_many_changes_as_were_asked_for(venue):
    market, trader = venue.market(), venue.account("limits")
    trader.placed(market, "buy", "2", "9")
    trader.placed(market, "sell", "1", "11")

    ended = tradsys("watch", market, "--count", 1, env=venue_env(venue))

    assert ended.code == 0
    assert [part for part in (market, "in step", "spread 2", "11", "9", "█") if part not in ended.out] == []


def test_an_unknown_symbol_is_refused_in_one_sentence(venue):
    ended = tradsys("watch", "NO-USD", env=venue_env(venue))

    assert (ended.code, "1003" in ended.err, "Traceback" in ended.err) == (1, True, False)


def test_q_ends_it_and_the_terminal_is_as_it_was(venue):
    market, trader = venue.market(), venue.account("limits")
    trader.placed(market, "buy", "2", "9")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tradsys", "watch", market],
        env=venue_env(venue) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = b""

    def hear_until(over: Callable[[], bool]) -> None:
        nonlocal said
        deadline = time.monotonic() + 60
        # When the other end is closed the terminal says so by an error.
        with contextlib.suppress(OSError):
            while not over() and time.monotonic() < deadline:
                if select.select([ours], [], [], 0.1)[0]:
                    said += os.read(ours, 65536)

    hear_until(lambda: b"in step" in said)
    os.write(ours, b"xq")
    hear_until(lambda: process.poll() is not None)
    os.close(ours)

    assert process.wait(60) == 0, said
    assert b"\x1b[?1049l" in said, "the other screen was not left"


def venue_env(venue) -> dict[str, str]:
    return {**venue.env, "PATH": os.environ["PATH"]}
