"""Every call from outside gets a name, a line in the log, and, where traces are on, a span.

The name is the caller's metadata `x-request-id` if that is acceptable. It goes back with the answer, to the
engine with what is handed on, and into the log: the same id finds a call in all processes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from time import time_ns
from typing import Any, Protocol

import grpc

from tradsys.venue.calling import CALL, REQUEST_ID, Call

Context = grpc.aio.ServicerContext[Any, Any]
Log = Callable[[dict[str, Any]], None]
"""Takes the fields of a line."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Tracing(Protocol):
    def begin(self, traceparent: str | None) -> Any | None:
        """A span, if this call is to be traced; its `traceparent` is for what is handed on."""

    def end(
        self,
        span: Any,
        name: str,
        began_ns: int,
        ended_ns: int,
        attributes: dict[str, str | int],
        error: bool,
    ) -> None:
        """Times are unix nanoseconds."""


class Calls(grpc.aio.ServerInterceptor):
    def __init__(self, log: Log, errors_only: bool, id_prefix: str, tracing: Tracing | None = None) -> None:
        """`errors_only`: no line for a call that ended well."""
        self._log = log
        self._errors_only = errors_only
        self._id_prefix = id_prefix
        self._tracing = tracing
        self._ids = count(1)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        method = str(details.method)
        # Health and reflection are gRPC's own, and made of generators.
        if handler is None or not method.startswith("/tradsys."):
            return handler
        if handler.unary_unary is not None:
            make, serve = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        elif handler.stream_stream is not None:
            make, serve = grpc.stream_stream_rpc_method_handler, handler.stream_stream
        else:
            make, serve = grpc.unary_stream_rpc_method_handler, handler.unary_stream
        return make(
            self._served(method, serve),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _served(
        self, method: str, serve: Callable[[Any, Context], Awaitable[Any]]
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            began = time_ns()
            sent = dict(context.invocation_metadata() or ())
            named = str(sent.get("x-request-id", ""))
            called = Call(named if REQUEST_ID.fullmatch(named) else f"{self._id_prefix}{next(self._ids):x}")
            span = None
            if self._tracing is not None:
                span = self._tracing.begin(str(sent.get("traceparent", "")))
                called.traceparent = span.traceparent if span is not None else ""
            CALL.set(called)
            context.set_trailing_metadata((("x-request-id", called.request_id),))
            code = "CANCELLED"
            try:
                reply = await serve(request, context)
                code = "OK"
                return reply
            except Exception:
                code = _word(context.code())
                raise
            finally:
                self._ended(method, called, code, began, span)

        return call

    def _ended(self, method: str, called: Call, code: str, began: int, span: Any | None) -> None:
        now = time_ns()
        if code != "OK" or not self._errors_only:
            line: dict[str, Any] = {
                "event": "request",
                "request_id": called.request_id,
                "method": "POST",
                "path": method,
                "grpc_status": code,
                "us": (now - began) // 1000,
            }
            if called.batch_id:
                line["batch_id"] = called.batch_id
            self._log(line)
        if self._tracing is not None and span is not None:
            attributes: dict[str, str | int] = {"rpc.system": "grpc", "request_id": called.request_id}
            if called.batch_id:
                attributes["batch_id"] = called.batch_id
            self._tracing.end(span, method, began, now, attributes | {"grpc_status": code}, code != "OK")


def _word(code: Any) -> str:
    """gRPC gives the number of a code that was set by `abort`."""
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _CODES[code].name if code in _CODES else "UNKNOWN"
