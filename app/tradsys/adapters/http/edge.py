"""What every request passes: a request id, the sender, allowed origins, an error body, reply headers.

One middleware object, in the order of a request's life. Which scope a route needs is written beside the
route (`needs`), and checked here for all of them, so that no handler can forget it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from time import perf_counter_ns
from typing import Any

import falcon
from falcon import Request, Response
from msgspec import Struct

from tradsys.adapters.http.accesslog import AccessLog
from tradsys.adapters.http.answered import Times
from tradsys.adapters.http.limits import RateLimiter, Verdict
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
from tradsys.venue.calling import REQUEST_ID
from tradsys.venue.outcome import Outcome
from tradsys.venue.ports import Authenticator, Busy, Clock, Identity, JournalError, Unauthorized

PUBLIC = 0
"""A route that needs no token."""
EXPOSED_HEADERS = (
    "X-Request-Id, X-Engine-Us, X-Seq, X-Durable-Seq, X-Epoch, X-Read-Seq, Retry-After, Idempotent-Replay, "
    "X-RateLimit-Limit, X-RateLimit-Remaining"
)


HANDED = "tradsys.handed"
"""Where an environ has what `DirectOrders` found."""


class Handed(Struct, frozen=True, gc=False):
    """A new order that the framework answers after it was judged without."""

    started_ns: int
    now_ns: int
    identity: Identity | Unauthorized | Busy
    verdict: Verdict | None = None
    """Of the rate limiter, if there is one."""
    outcome: Outcome | Exception | None = None
    """What became of the order; None: it was not let in."""


def caller_id_of(environ: dict[str, Any]) -> str:
    """The caller's X-Request-Id, "" if it sent none that is acceptable."""
    sent = environ.get("HTTP_X_REQUEST_ID")
    return sent if sent is not None and REQUEST_ID.fullmatch(sent) else ""


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

    __slots__ = ("caller_id", "id", "identity", "now_ns", "started_ns", "times")

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
    times: Times
    """Of a new order."""

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
        self.verify = authenticator.verify
        self.clock = clock
        self._position = position
        self.tally = tally or Tally()
        self._shown = 0, 0
        self._shown_texts = "0", "0"
        """Durable seq and epoch of the last reply, and their texts: they rarely change."""
        self._origins = frozenset(origins)
        self._access_log = access_log
        self.rate_limiter = rate_limiter
        self._id_prefix = id_prefix
        self._failed = failed
        self._close_after = close_after
        self.draining = False

    def process_request(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        handed = req.env.get(HANDED)
        if handed is None:
            req.started_ns = perf_counter_ns()
            req.now_ns = self.clock()
        else:
            req.started_ns, req.now_ns = handed.started_ns, handed.now_ns
        req.caller_id = caller_id_of(req.env)
        req.id = req.caller_id or self.new_id()
        if self._origins:
            origin = req.env.get("HTTP_ORIGIN")
            if origin is not None:
                self._allow_origin(req, resp, origin)

    def position_texts(self) -> tuple[int, str, str]:
        """(seq, durable seq, epoch) for the headers of an answer."""
        seq, durable_seq, epoch = self._position()
        if (durable_seq, epoch) != self._shown:
            self._shown = durable_seq, epoch
            self._shown_texts = str(durable_seq), str(epoch)
        return seq, *self._shown_texts

    def new_id(self) -> str:
        """For a request whose caller has not named it."""
        return f"{self._id_prefix}{next(self._ids):x}"

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
        handed = req.env.get(HANDED)
        identity = (
            self.verify(req.env.get("HTTP_AUTHORIZATION"), req.now_ns) if handed is None else handed.identity
        )
        if identity.__class__ is Identity:
            req.identity = identity
            if not identity.scopes & needed:
                raise Problem(FORBIDDEN, "the token's scope does not allow this")
            if self.rate_limiter is not None:
                verdict = handed.verdict if handed is not None else None
                self._limit(resp, verdict or self.rate_limiter.take(req.account, req.started_ns))
        elif isinstance(identity, Unauthorized):
            # The connection goes with the token: a guesser pays a handshake for each guess.
            raise Problem(UNAUTHORIZED if identity.code == UNAUTHORIZED else INVALID_TOKEN, close=True)
        elif isinstance(identity, Busy):
            raise Problem(
                NOT_LEADER, "too many new tokens at once; try again", retry_after_s=identity.retry_after_s
            )

    def _limit(self, resp: EdgeResponse, verdict: Verdict) -> None:
        for name, value in self.limit_headers(verdict):
            resp.set_header(name, value)
        if verdict.retry_after_s:
            raise Problem(RATE_LIMITED, retry_after_s=verdict.retry_after_s)

    def limit_headers(self, verdict: Verdict) -> tuple[tuple[str, str], tuple[str, str]]:
        """What an answer says of the limit."""
        assert self.rate_limiter is not None
        return (
            ("x-ratelimit-limit", str(self.rate_limiter.per_second)),
            ("x-ratelimit-remaining", str(verdict.remaining)),
        )

    def process_response(self, req: EdgeRequest, resp: EdgeResponse, resource: Any, ok: bool) -> None:
        headers = resp._headers
        seq, headers["x-durable-seq"], headers["x-epoch"] = self.position_texts()
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
