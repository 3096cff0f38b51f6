"""Traces, where `tracing_endpoint` names a receiver: spans of requests, and of the engine's stages.

Without it nothing of this is wired: the engine's path is then the same code as if traces did not exist.
"""

from __future__ import annotations

import importlib.util
import socket
import time
from collections.abc import Callable, MutableSequence
from threading import Thread
from typing import Any, NoReturn

import falcon
from msgspec import Struct

from tradsys.adapters.http.answered import Times
from tradsys.adapters.http.edge import Edge, EdgeRequest, EdgeResponse
from tradsys.adapters.http.server import Direct
from tradsys.adapters.tracing.spans import Begun, Spans, start_exporter
from tradsys.metrics import Counter
from tradsys.settings import Settings, SettingsError

FLUSH_S = 0.2
STAGES = ("auth", "decode", "apply", "reply")
_BEGUN = "tradsys.begun"

Commit = Callable[[], list[tuple[str, str]] | None]


def exporter_of(settings: Settings, process: str) -> socket.socket | None:
    """The way to a child that exports; None: traces are off. Raises SettingsError."""
    if not settings.tracing_endpoint:
        return None
    if importlib.util.find_spec("opentelemetry") is None:
        raise SettingsError("tracing_endpoint", "needs the packages of the extra `tracing`")
    return start_exporter(settings.tracing_endpoint, process, settings.shard)


def spans_of(
    settings: Settings, out: socket.socket | None, words: MutableSequence[int], spans: Counter
) -> Spans | None:
    """Spans that leave through `out`, counted as handed over or dropped."""
    if out is None:
        return None
    handed_word, dropped_word = spans.word("handed"), spans.word("dropped")

    def counted(handed: int, dropped: int) -> None:
        words[handed_word] += handed
        words[dropped_word] += dropped

    return Spans(out, settings.tracing_one_in, counted)


def flush_always(spans: Spans) -> None:
    """From a thread: for processes in which one more does not matter."""

    def flush() -> NoReturn:
        while True:
            time.sleep(FLUSH_S)
            spans.flush()

    Thread(target=flush, name="spans", daemon=True).start()


class Traced(Struct, frozen=True):
    """A request that has its answer; times by perf_counter."""

    span: Begun
    name: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, str | int]
    error: bool
    times: Times | None
    """Of a new order."""

    def end(self, spans: Spans, ended_ns: int = 0) -> int:
        """Its span ends, later than its answer was made if `ended_ns` says so; returns what makes unix
        nanoseconds of perf_counter's."""
        unix = time.time_ns() - time.perf_counter_ns()
        ended_ns = ended_ns or self.ended_ns
        spans.end(self.span, self.name, unix + self.began_ns, unix + ended_ns, self.attributes, self.error)
        return unix


class TracedEdge(Edge):
    """The edge of an application some of whose requests are traced."""

    def __init__(self, *fixed: Any, spans: Spans, ended: Callable[[Traced], object], **more: Any) -> None:
        super().__init__(*fixed, **more)
        self._spans = spans
        self._ended = ended

    def process_request(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        super().process_request(req, resp)
        begun = self._spans.begin(req.env.get("HTTP_TRACEPARENT"))
        if begun is not None:
            req.env[_BEGUN] = begun

    def process_response(self, req: EdgeRequest, resp: EdgeResponse, resource: Any, ok: bool) -> None:
        super().process_response(req, resp, resource, ok)
        begun = req.env.get(_BEGUN)
        if begun is not None:
            status = falcon.http_status_to_code(resp.status)
            attributes: dict[str, str | int] = {
                "http.request.method": req.method,
                "http.response.status_code": status,
                "request_id": req.id,
            }
            # The template, not the path: names of spans are few.
            name = f"{req.method} {req.uri_template or '(no route)'}"
            self._ended(
                Traced(
                    begun,
                    name,
                    req.started_ns,
                    time.perf_counter_ns(),
                    attributes,
                    status >= 500,
                    getattr(req, "times", None),
                )
            )


class TurnTraces:
    """Of an engine: a request's span ends when its turn is journalled, and has a part for each stage."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._turn: list[Traced] = []

    def ended(self, traced: Traced) -> None:
        self._turn.append(traced)

    def direct(self, direct: Direct) -> Direct:
        """The way without the framework for all requests but those that are traced."""
        spans = self._spans

        def prepare(environ: dict[str, Any]) -> Callable[[bytes], Any] | None:
            answer = direct(environ)
            if answer is None or "HTTP_TRACEPARENT" in environ:
                return None
            return lambda body: {} if spans.due() else answer(body)

        return prepare

    def around(self, commit: Commit) -> Commit:
        def traced() -> list[tuple[str, str]] | None:
            if not self._turn:
                return commit()
            began = time.perf_counter_ns()
            said = commit()
            ended = time.perf_counter_ns()
            for request in self._turn:
                unix, times = request.end(self._spans, ended), request.times
                if times is not None:
                    for i, stage in enumerate(STAGES):
                        self._spans.part(request.span, stage, unix + times[i], unix + times[i + 1])
                self._spans.part(request.span, "journal", unix + began, unix + ended)
            self._turn.clear()
            return said

        return traced
