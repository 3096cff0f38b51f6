"""Reads over the venue's REST, in the name of a caller: with the caller's own token, redirects followed."""

from __future__ import annotations

import asyncio

from tradsys.adapters.handover.connection import Connection, Lost, Response, Unreachable
from tradsys.codec.errors import NOT_LEADER, Problem
from tradsys.venue.calling import CALL

ANSWER_S = 10.0
AT_ONCE_MAX = 8


class Reader:
    """GET requests to the engine of a venue, and to `query` for what the engine does not remember."""

    def __init__(self, engine: tuple[str, int], query: tuple[str, int]) -> None:
        """Host and port of each: what the engine's redirects name is for clients, who may be elsewhere."""
        self._engine, self._query = engine, query
        self._idle: dict[tuple[str, int], list[Connection]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE_MAX)

    async def get(self, target: str, bearer: str = "") -> Response:
        """The answer of whoever has it. Raises Problem 1020: nobody answers; a read may be repeated."""
        async with self._turn:
            response = await self._get(self._engine, target, bearer)
            if response.status == 307:
                response = await self._get(self._query, target, bearer)
        return response

    async def _get(self, place: tuple[str, int], target: str, bearer: str) -> Response:
        idle = self._idle.setdefault(place, [])
        while idle and not idle[-1].is_open:
            idle.pop()
        connection = idle.pop() if idle else Connection(*place, ANSWER_S)
        head = f"GET {target} HTTP/1.1\r\n{connection.host_line}"
        if bearer:
            head += f"Authorization: {bearer}\r\n"
        call = CALL.get()
        if call is not None:
            head += f"X-Request-Id: {call.request_id}\r\n"
            if call.traceparent:
                head += f"traceparent: {call.traceparent}\r\n"
        try:
            response = await connection.request(head)
        except (Unreachable, Lost):
            raise Problem(NOT_LEADER, "no answer from the venue; try again", retry_after_s=1) from None
        idle.append(connection)
        return response

    def close(self) -> None:
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
