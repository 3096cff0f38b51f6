"""What every request passes: a request id, the sender, allowed origins, an error body, reply headers.

One middleware object, in the order of a request's life. Which scope a route needs is written beside the
route (`needs`), and checked here for all of them, so that no handler can forget it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from time import perf_counter_ns
from typing import Any

import falcon
from falcon import Request, Response

from tradsys.adapters.http.accesslog import AccessLog
from tradsys.adapters.http.limits import RateLimiter
from tradsys.codec.errors import (
    ERRORS,
    FORBIDDEN,
    INVALID_REQUEST,
    INVALID_TOKEN,
    NOT_LEADER,
    PROCESSING_FAILED,
    RATE_LIMITED,
    UNAUTHORIZED,
    ErrorBody,
    Problem,
)
from tradsys.codec.json_v1 import encode
from tradsys.venue.ports import Authenticator, Busy, Clock, Identity, JournalError, Unauthorized

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
PUBLIC = 0
"""A route that needs no token."""
EXPOSED_HEADERS = (
    "X-Request-Id, X-Engine-Us, X-Seq, X-Durable-Seq, X-Epoch, X-Read-Seq, Retry-After, Idempotent-Replay, "
    "X-RateLimit-Limit, X-RateLimit-Remaining"
)


class Tally:
    """Plain counts of what the edge answered, for whoever looks."""

    def __init__(self) -> None:
        self.ok = 0
        """Answers with 200."""
        self.statuses: defaultdict[int, int] = defaultdict(int)
        """Other answers, by status."""
        self.errors: defaultdict[int, int] = defaultdict(int)
        """Errors by code, also those of one order in a batch."""
        self.tests = 0
        """Orders that were only tried."""


class EdgeRequest(Request):
    """A request with what the edge knows of it."""

    __slots__ = ("caller_id", "id", "identity", "now_ns", "started_ns")

    # Falcon makes a context object for each request; all that ours would hold is in the slots.
    context_type = type(None)

    id: str

    caller_id: str
    """The caller's X-Request-Id, "" if it sent none that is acceptable."""
    identity: Identity
    now_ns: int
    """Engine time at which it came."""
    started_ns: int
    """perf_counter at which it came."""

    @property
    def account(self) -> str:
        return self.identity.account


class EdgeResponse(Response):
    """A response whose own headers skip Falcon's conversions: they are known to be clean."""

    __slots__ = ()
    context_type = type(None)

    def put(self, name: str, value: str) -> None:
        """Set one header; the name in lower case."""
        self._headers[name] = value


class Edge:
    """Middleware: `process_request`, `process_resource`, `process_response`, and the error handlers."""

    cors_max_age_s = "600"
    _ids = count(1)
    """One count for all listeners of the process, so that no two requests share an id."""

    def __init__(
        self,
        authenticator: Authenticator,
        clock: Clock,
        position: Callable[[], tuple[int, int, int]],
        *,
        tally: Tally | None = None,
        origins: Sequence[str] = (),
        access_log: AccessLog | None = None,
        rate_limiter: RateLimiter | None = None,
        id_prefix: str = "",
        failed: Callable[[BaseException], None] | None = None,
        close_after: Callable[[dict[str, Any], Callable[[str, str], None]], None],
    ):
        """`position` gives (seq, durable_seq, epoch) for the reply headers; `failed` hears of faults
        that must end the process (the journal), after the caller has been told that it is unknown.
        `close_after` is the server's way of ending a connection with its answer."""
        self._authenticator = authenticator
        self._clock = clock
        self._position = position
        self.tally = tally or Tally()
        self._shown = 0, 0
        self._shown_texts = "0", "0"
        """Durable seq and epoch of the last reply, and their texts: they rarely change."""
        self._origins = frozenset(origins)
        self._access_log = access_log
        self._rate_limiter = rate_limiter
        self._id_prefix = id_prefix
        self._failed = failed
        self._close_after = close_after
        self.draining = False

    def process_request(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        req.started_ns = perf_counter_ns()
        req.now_ns = self._clock()
        sent = req.env.get("HTTP_X_REQUEST_ID")
        if sent is not None and _REQUEST_ID.fullmatch(sent):
            req.caller_id = req.id = sent
        else:
            req.caller_id = ""
            req.id = f"{self._id_prefix}{next(self._ids):x}"
        if self._origins:
            origin = req.env.get("HTTP_ORIGIN")
            if origin is not None:
                self._allow_origin(req, resp, origin)

    def _allow_origin(self, req: EdgeRequest, resp: EdgeResponse, origin: str) -> None:
        resp.set_header("Vary", "Origin")
        if origin not in self._origins:
            return
        resp.set_header("Access-Control-Allow-Origin", origin)
        resp.set_header("Access-Control-Expose-Headers", EXPOSED_HEADERS)
        if req.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in req.env:
            resp.set_header("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
            resp.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id")
            resp.set_header("Access-Control-Max-Age", self.cors_max_age_s)
            resp.complete = True

    def process_resource(
        self, req: EdgeRequest, resp: EdgeResponse, resource: Any, params: dict[str, Any]
    ) -> None:
        needed = resource.needs.get(req.method, PUBLIC)
        if self.draining and not resource.answers_while_draining:
            raise Problem(NOT_LEADER, "shutting down", retry_after_s=1, close=True)
        if not needed:
            return
        identity = self._authenticator.verify(req.env.get("HTTP_AUTHORIZATION"), req.now_ns)
        if identity.__class__ is Identity:
            req.identity = identity
            if not identity.scopes & needed:
                raise Problem(FORBIDDEN, "the token's scope does not allow this")
            if self._rate_limiter is not None:
                self._limit(req, resp)
        elif isinstance(identity, Unauthorized):
            # The connection goes with the token: a guesser pays a handshake for each guess.
            raise Problem(UNAUTHORIZED if identity.code == UNAUTHORIZED else INVALID_TOKEN, close=True)
        elif isinstance(identity, Busy):
            raise Problem(
                NOT_LEADER, "too many new tokens at once; try again", retry_after_s=identity.retry_after_s
            )

    def _limit(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        assert self._rate_limiter is not None
        verdict = self._rate_limiter.take(req.account, req.started_ns)
        resp.set_header("X-RateLimit-Limit", str(self._rate_limiter.per_second))
        resp.set_header("X-RateLimit-Remaining", str(verdict.remaining))
        if verdict.retry_after_s:
            raise Problem(RATE_LIMITED, retry_after_s=verdict.retry_after_s)

    def process_response(self, req: EdgeRequest, resp: EdgeResponse, resource: Any, ok: bool) -> None:
        headers = resp._headers
        seq, durable_seq, epoch = self._position()
        if (durable_seq, epoch) != self._shown:
            self._shown = durable_seq, epoch
            self._shown_texts = str(durable_seq), str(epoch)
        headers["x-durable-seq"], headers["x-epoch"] = self._shown_texts
        headers["x-request-id"] = req.id
        if "x-seq" not in headers:
            headers["x-seq"] = str(seq)
        engine_us = (perf_counter_ns() - req.started_ns) // 1000
        headers["x-engine-us"] = str(engine_us)
        if resp.status == falcon.HTTP_200:
            self.tally.ok += 1
        else:
            self.tally.statuses[resp.status_code] += 1
        if self._access_log is not None:
            self._access_log.add(req, resp, engine_us)

    # --- errors -------------------------------------------------------------------------------------

    def install(self, app: falcon.App[Any, Any]) -> None:
        """Every failure becomes one error body; exception text never does."""
        app.add_error_handler(Exception, self._on_fault)
        app.add_error_handler(falcon.HTTPError, self._on_http_error)
        app.add_error_handler(Problem, self._on_problem)

    def answer(self, req: EdgeRequest, resp: EdgeResponse, problem: Problem) -> None:
        """Put the error into the response, and let the connection go if it says so."""
        self.tally.errors[problem.code] += 1
        answer_problem(req, resp, problem)
        if problem.close:
            self._close_after(req.env, resp.set_header)

    def _on_problem(
        self, req: EdgeRequest, resp: EdgeResponse, problem: Problem, params: dict[str, Any]
    ) -> None:
        self.answer(req, resp, problem)

    def _on_http_error(
        self, req: EdgeRequest, resp: EdgeResponse, error: falcon.HTTPError, params: dict[str, Any]
    ) -> None:
        status = error.status_code
        message = {404: "no such path", 405: "this path does not have that method"}.get(
            status, ERRORS[INVALID_REQUEST].message
        )
        for name, value in (error.headers or {}).items() if isinstance(error.headers, dict) else ():
            resp.set_header(name, value)
        self.answer(req, resp, Problem(INVALID_REQUEST, message, status=status))

    def _on_fault(
        self, req: EdgeRequest, resp: EdgeResponse, fault: Exception, params: dict[str, Any]
    ) -> None:
        if self._failed is not None and isinstance(fault, JournalError | AssertionError):
            self._failed(fault)
        self.answer(req, resp, Problem(PROCESSING_FAILED, close=True))
        if self._access_log is not None:
            self._access_log.fault(req.id, fault)


def answer_problem(req: EdgeRequest, resp: EdgeResponse, problem: Problem, request_id: str = "") -> None:
    """Put the error body and its headers into the response."""
    resp.status = problem.status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = encode(ErrorBody(problem.code, problem.message, problem.details, request_id or req.id))
    if problem.retry_after_s:
        resp.set_header("Retry-After", str(problem.retry_after_s))
