"""New orders without the framework: most requests of a venue, and the ones that can't wait.

Falcon's request, response, routing and middleware are a quarter of what an order costs, so the server asks
here first (`Server`, `Listener.direct`). An order that is accepted is answered at once. Everything else, a
token that does not hold, a body that is no order, a refusal, goes on to the framework with what was found
until then: nothing is judged or applied twice, and there is one place that words an error. Both ways share
`Desk.new_order`, and a test holds their answers to each other.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter_ns
from typing import Any

from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.edge import HANDED, Edge, Handed, caller_id_of
from tradsys.codec.errors import Problem
from tradsys.venue.ports import TRADE, Identity


class DirectOrders:
    """Answers `POST` at one path; see `prepare`."""

    def __init__(self, path: str, edge: Edge, desk: Desk):
        self._path = path
        self._edge = edge
        self._desk = desk

    def prepare(self, environ: dict[str, Any]) -> partial[tuple[str, bytes] | dict[str, Any]] | None:
        """How to answer requests with this head, called with the body of each; None: the framework does.

        The call returns (head, body) of the answer, or what the framework's environ has to be told.
        """
        if (
            environ["REQUEST_METHOD"] != "POST"
            or environ["PATH_INFO"] != self._path
            or environ["QUERY_STRING"]
            or "HTTP_ORIGIN" in environ
        ):
            return None
        return partial(self._answer, environ.get("HTTP_AUTHORIZATION"), caller_id_of(environ))

    def _answer(
        self, authorization: str | None, caller_id: str, body: bytes
    ) -> tuple[str, bytes] | dict[str, Any]:
        edge, desk = self._edge, self._desk
        answered = desk.answered
        came = answered.came
        timed = len(came) == answered.timed_at
        if edge.draining:
            return {}
        started = perf_counter_ns()
        now = edge.clock()
        identity = edge.verify(authorization, now)
        if identity.__class__ is not Identity or not identity.scopes & TRADE:
            return {HANDED: Handed(started, now, identity)}
        verdict = None
        if edge.rate_limiter is not None:
            verdict = edge.rate_limiter.take(identity.account, started)
            if verdict.retry_after_s:
                return {HANDED: Handed(started, now, identity, verdict)}
        if timed:  # Each reading of the clock is up to a tenth of a microsecond.
            let_in = perf_counter_ns()
        try:
            command = desk.new_order(body, identity.account, now, caller_id)
            if timed:
                decoded = perf_counter_ns()
            outcome = desk.venue.process_one(command, now)
            if timed:
                applied = perf_counter_ns()
            data = None if isinstance(outcome, Problem) else desk.write_order(outcome, desk.shard_name)
        except Exception as failure:
            return {HANDED: Handed(started, now, identity, verdict, failure)}
        if data is None or isinstance(outcome, Problem):
            if not isinstance(outcome, Problem):
                came.append(started)
            return {HANDED: Handed(started, now, identity, verdict, outcome)}
        more = ""
        if outcome.replayed:
            more = "idempotent-replay: true\r\n"
        if verdict is not None:
            more += "".join(f"{name}: {value}\r\n" for name, value in edge.limit_headers(verdict))
        _, durable_seq, epoch = edge.position_texts()
        made = perf_counter_ns()
        head = (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            f"x-durable-seq: {durable_seq}\r\nx-epoch: {epoch}\r\nx-seq: {outcome.seq}\r\n"
            f"x-request-id: {caller_id or edge.new_id()}\r\n"
            f"x-engine-us: {(made - started) // 1000}\r\n{more}content-length: {len(data)}\r\n"
        )
        came.append(started)
        if timed:
            answered.stages.append((started, let_in, decoded, applied, made))
        edge.tally.ok += 1
        return head, data
