"""Hands commands to the engine: what comes while a batch is under way is the next batch.

One batch at a time, in the order in which the commands came. So load makes batches, not queues, and two
commands of one client can't overtake each other. Nothing is sent twice: what is lost is unknown, and
only its sender can know whether a repeat is safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable
from itertools import count
from time import perf_counter_ns
from typing import Any

import msgspec

from tradsys.adapters.handover.connection import Connection, Lost, Unreachable
from tradsys.codec.binary_v1 import MEDIA_TYPE, RESULT, SENDER
from tradsys.codec.errors import NOT_LEADER, PROCESSING_FAILED, Problem
from tradsys.venue.calling import CALL, Call

PATH = "/internal/commands"
BATCH_MAX = 1_000
WAITING_MAX = 50_000
"""Commands that wait; more are refused, because the first of them would wait for seconds."""
ANSWER_S = 10.0
"""A disk may stall; after that the outcome is unknown."""

Result = tuple[int, ...]
"""The fields of a result record; see codec/README.md."""

Waiting = tuple[bytes, int, asyncio.Future[list[Result]], Call | None]
"""(records, how many, who waits for them, the call that brought them)"""
Observe = Callable[[int, int, str], None]
"""(commands of a batch, ns there and back, "answered", "refused" or "unknown")"""

_log = logging.getLogger("tradsys.handover")


class Handover:
    """The way to one engine's internal listener. Made and used in one loop."""

    def __init__(
        self, host: str, port: int, secret: bytes, *, observe: Observe = lambda commands, ns, outcome: None
    ) -> None:
        """`observe` hears of each batch."""
        self._connection = Connection(host, port, ANSWER_S)
        self._head = (
            f"POST {PATH} HTTP/1.1\r\n{self._connection.host_line}X-Internal-Secret: {secret.decode()}\r\n"
            f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: "
        )
        self._observe = observe
        self._ids = count(1)
        self._waiting: deque[Waiting] = deque()
        self._waiting_commands = 0
        self._sending: asyncio.Task[None] | None = None

    async def process(self, account: str, scope: int, record: bytes) -> Result:
        """What became of one command (a record of codec/README.md).

        Raises Problem: 1001 the outcome is unknown, 1020 the engine did not take it.
        """
        (result,) = await self.submit(sender_of(account, scope) + record, 1)
        return result

    def submit(self, records: bytes, count: int) -> asyncio.Future[list[Result]]:
        """Results of at most 1,000 commands, each with its sender in front, which stay together.

        One that is cancelled before its batch was sent is not sent. Raises Problem 1020: too many wait; the
        future raises what `process` raises.
        """
        assert 0 < count <= BATCH_MAX
        if self._waiting_commands + count > WAITING_MAX:
            raise Problem(NOT_LEADER, "too many commands wait for the engine", retry_after_s=1)
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[list[Result]] = loop.create_future()
        self._waiting.append((records, count, outcome, CALL.get()))
        self._waiting_commands += count
        if self._sending is None:
            self._sending = loop.create_task(self._send_all())
        return outcome

    @property
    def waiting(self) -> int:
        """Commands that wait for the batch under way."""
        return self._waiting_commands

    @property
    def is_open(self) -> bool:
        """There is a connection to the engine."""
        return self._connection.is_open

    def abandon(self) -> None:
        """Close the connection; what is under way is unknown."""
        self._connection.close()

    async def _send_all(self) -> None:
        try:
            while batch := self._gathered():
                try:
                    results = await self._send(batch)
                except Exception as fault:
                    if not isinstance(fault, Problem):
                        _log.exception("a batch failed")
                        fault = Problem(PROCESSING_FAILED)
                    for _, _, outcome, _ in batch:
                        if not outcome.done():
                            outcome.set_exception(fault)
                    continue
                at = 0
                for _, count, outcome, _ in batch:
                    if not outcome.done():
                        outcome.set_result(results[at : at + count])
                    at += count
        finally:
            self._sending = None

    def _gathered(self) -> list[Waiting]:
        batch = []
        room = BATCH_MAX
        while self._waiting and self._waiting[0][1] <= room:
            one = self._waiting.popleft()
            self._waiting_commands -= one[1]
            if not one[2].cancelled():
                batch.append(one)
                room -= one[1]
        return batch

    async def _send(self, batch: list[Waiting]) -> list[Result]:
        """Raises Problem: for all of the batch."""
        count = sum(count for _, count, _, _ in batch)
        began = perf_counter_ns()
        outcome = "unknown"
        try:
            body = b"".join([records for records, _, _, _ in batch])
            results = await self._exchange(self._named(batch), body, count)
            outcome = "answered"
        except Problem as problem:
            if problem.code != PROCESSING_FAILED:
                outcome = "refused"
            raise
        finally:
            self._observe(count, perf_counter_ns() - began, outcome)
        return results

    def _named(self, batch: list[Waiting]) -> str:
        """The headers that name a batch: it is the one call in it, or it has an id that its calls note.

        The engine's part of a trace can hang below one call only: the first that is traced.
        """
        calls = [call for _, _, _, call in batch if call is not None]
        batch_id = f"b{os.getpid():x}-{next(self._ids):x}"
        if len(batch) == 1 and calls and calls[0].request_id:
            batch_id = calls[0].request_id
        for call in calls:
            call.batch_id = batch_id
        traceparent = next((call.traceparent for call in calls if call.traceparent), "")
        return f"X-Request-Id: {batch_id}\r\n" + (f"traceparent: {traceparent}\r\n" if traceparent else "")

    async def _exchange(self, names: str, body: bytes, count: int) -> list[Result]:
        try:
            response = await self._connection.request(f"{self._head}{len(body)}\r\n{names}", body)
        except Unreachable:
            raise Problem(NOT_LEADER, "the engine can't be reached; try again", retry_after_s=1) from None
        except Lost:
            raise Problem(PROCESSING_FAILED) from None
        if response.status != 200:
            raise _refusal_of_all(response.status, response.body)
        if len(response.body) != count * RESULT.size:
            raise Problem(PROCESSING_FAILED)
        return list(RESULT.iter_unpack(response.body))


def sender_of(account: str, scope: int) -> bytes:
    """What stands in front of a command; `scope` is what the sender's token may do."""
    return SENDER.pack(account.encode(), scope)


def _refusal_of_all(status: int, body: bytes) -> Problem:
    """A batch is refused as a whole only before any of it was done, unless the engine says that it failed."""
    said: Any = None
    with contextlib.suppress(msgspec.DecodeError):
        said = msgspec.json.decode(body)
    code = said.get("code") if isinstance(said, dict) else PROCESSING_FAILED
    if code == PROCESSING_FAILED:
        return Problem(PROCESSING_FAILED)
    if code != NOT_LEADER:
        _log.error("the engine refuses what it is handed: status %d, code %s", status, code)
    return Problem(NOT_LEADER, "the engine does not take commands now; try again", retry_after_s=1)
