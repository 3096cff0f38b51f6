"""L1: an engine that has answered very many requests holds no more than after the first ones.

COUNT_L1 commands (40,000; 1,000,000 in a long run), nine of ten in batches, over connections that come and
go.
The work is the same all the time: orders that trade, that are canceled, with keys and without; what the rules
let the venue remember is full before the first look. Growth is of anonymous memory, so that no file counts.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.api.venue_process import running_venue
from tests.bench.sender import Lane, drive, request
from tradsys.client.records import RECORDS_TYPE, cancel_record, place_record, results

COUNT = int(os.environ.get("COUNT_L1", "40000"))
BYTES_EACH_MAX = 2
UNNOTICED_BYTES = 1 << 20
"""What an allocator takes at a time: a short run can't tell it from a leak."""
WARM_UPS = 3
"""Rounds of a connection a lane before the first look."""
KEYS_MAX = 2_000
PAIRS = 100
BATCH_COMMANDS = 2 * PAIRS + 2
LANES = 4
BATCHES_A_CONNECTION = 25
SINGLES_A_BATCH = 24
"""A tenth of the commands, roughly."""
SECONDS_MAX = 3_000


def lane(symbol: str, token: str, first: int) -> Lane:
    """Batches of one connection, and single requests between them."""
    resting = 0
    for number in range(first, first + BATCHES_A_CONNECTION):
        records = [cancel_record(resting)] if resting else []
        for pair in range(PAIRS):
            key = f"k{number}-{pair}" if pair % 2 else ""
            for side in ("sell", "buy"):
                records.append(
                    place_record(symbol=symbol, side=side, quantity=10**8, price=10**10,
                                 client_order_id=f"{key}{side}" if key else "")
                )  # fmt: skip
        records.append(place_record(symbol=symbol, side="buy", quantity=10**8, price=10**9))
        answer = yield request("POST", "/orders/batch", token, b"".join(records), RECORDS_TYPE)
        outcomes = results(answer)
        assert not any(outcome.code for outcome in outcomes), outcomes
        resting = outcomes[-1].order_id
        body = f'{{"symbol":"{symbol}","side":"buy","type":"limit","quantity":"1","price":"9"}}'.encode()
        for outcome in outcomes[-SINGLES_A_BATCH // 3 :]:
            yield request("POST", "/orders", token, body)
            # Another path each time: the heads that the server keeps are full before the first look, too.
            yield request("GET", f"/orders/a-{outcome.order_id}", token)
            yield request("GET", f"/market/{symbol}/book", token)
    yield request("DELETE", f"/orders?symbol={symbol}", token)


def anonymous_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:"))


def fewest_files_and_tasks(pid: int) -> tuple[int, int]:
    """Over a moment: a busy machine's engine sees late that clients have hung up."""
    files, tasks = set(), set()
    for _ in range(30):
        files.add(len(os.listdir(f"/proc/{pid}/fd")))
        tasks.add(len(os.listdir(f"/proc/{pid}/task")))
        time.sleep(0.1)
    return min(files), min(tasks)


def test_nothing_is_kept_of_requests_that_are_over(tmp_path):
    # One step of a mass cancel is all that is left to do at the end of a connection.
    assert BATCHES_A_CONNECTION * SINGLES_A_BATCH // 3 < 1_000
    with running_venue(tmp_path, ("engine", "history"), segment_bytes=64 << 20) as venue:
        venue.ok(venue.admin("PUT", "/rules", {"idempotency_keys_max": KEYS_MAX}))
        traders = [venue.account("limits") for _ in range(LANES)]
        symbols = [venue.market() for _ in range(LANES)]
        pid = venue.processes["engine"].pid
        sent = batches = 0

        def send(count: int) -> int:
            """So many commands at least; how many requests that were, a batch as many as its commands."""
            nonlocal sent, batches
            before = sent
            while sent - before < count:
                lanes = [
                    _primed(lane(symbol, trader.token, batches))
                    for symbol, trader in zip(symbols, traders, strict=True)
                ]
                batches += BATCHES_A_CONNECTION
                answered, _ = drive(venue.ports["port"], lanes, SECONDS_MAX)
                in_batches = LANES * BATCHES_A_CONNECTION
                sent += answered - in_batches + in_batches * BATCH_COMMANDS
            return sent - before

        at_first = 0
        for _ in range(WARM_UPS):
            send(1)
            at_first = max(at_first, anonymous_bytes(pid))
        venue.hang_up()
        files_at_first, tasks_at_first = fewest_files_and_tasks(pid)
        requests = send(COUNT)
        venue.hang_up()
        grown = anonymous_bytes(pid) - at_first
        print(f"\nL1: {requests:,} requests, {grown:,} bytes more, {grown / requests:.2f} a request")
        assert fewest_files_and_tasks(pid) == (files_at_first, tasks_at_first)
        assert grown <= max(BYTES_EACH_MAX * requests, UNNOTICED_BYTES)


def _primed(made: Lane) -> tuple[bytes, Lane]:
    return next(made), made
