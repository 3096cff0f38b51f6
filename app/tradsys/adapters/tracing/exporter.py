"""The child that exports: spans from a socket, in OpenTelemetry's form, to a receiver of OTLP over HTTP.

It sleeps unless there is something, gives way to all others, and ends when its parent has. A receiver that is
slow or away makes it slow: then its parent drops and counts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from tradsys import __version__
from tradsys.adapters.tracing.spans import Span

MESSAGE_BYTES_MAX = 1 << 20
EXPORT_SPANS = 512
NICE = 10
TIMEOUT_S = 5

_decode = msgspec.msgpack.Decoder(list[Span]).decode
_KINDS = {kind.value: kind for kind in SpanKind}
_SCOPE = InstrumentationScope("tradsys", __version__)


def main() -> None:
    fd, endpoint, process, shard = sys.argv[1:]
    # The parent's end says when it is over; a Ctrl-C is for the parent, whose last spans are still to come.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICE)
    with contextlib.suppress(OSError):
        # Not on the CPU that the engine is pinned to, where the rest of the machine may be used.
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    exporter = OTLPSpanExporter(endpoint, timeout=TIMEOUT_S)
    about = {"service.name": f"tradsys-{process}", "service.version": __version__, "tradsys.shard": shard}
    resource = Resource(about)
    with socket.socket(fileno=int(fd)) as spans:
        while message := spans.recv(MESSAGE_BYTES_MAX):
            gathered = _decode(message)
            with contextlib.suppress(BlockingIOError):
                while len(gathered) < EXPORT_SPANS and (
                    more := spans.recv(MESSAGE_BYTES_MAX, socket.MSG_DONTWAIT)
                ):
                    gathered += _decode(more)
            exporter.export([readable(span, resource) for span in gathered])


def readable(span: Span, resource: Resource) -> ReadableSpan:
    def context(span_id: str) -> SpanContext:
        return SpanContext(int(span.trace_id, 16), int(span_id, 16), False, TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        span.name,
        context=context(span.span_id),
        parent=context(span.parent_id) if span.parent_id else None,
        resource=resource,
        attributes=span.attributes,
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR if span.error else StatusCode.UNSET),
        start_time=span.began_ns,
        end_time=span.ended_ns,
        instrumentation_scope=_SCOPE,
    )


if __name__ == "__main__":
    main()
