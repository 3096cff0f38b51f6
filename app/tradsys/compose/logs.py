"""What the processes say: one JSON object a line on stdout, or text for people (`log_format`).

Every line has `ts` (unix nanoseconds, as text), `level`, `process` and `event`. `event` is "request" for the
lines of the access log, "fault" for a defect that a request has met, "log" for everything else, whose text is
`message`. A request's lines carry its `request_id`, the same in all processes that it passes: the
caller's X-Request-Id (gRPC: metadata `x-request-id`, streams: the message's `id`). Where gateway or feed hand
several calls to the engine at once, the engine's line has the id of the batch; theirs name it as `batch_id`.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
import time
import traceback
from collections import deque
from typing import IO, Any, NoReturn, cast

TRACE_CHARS_MAX = 8_000
CALLS_MAX = 10_000
FLUSH_S = 0.2
LEVELS = {"debug": "DEBUG", "info": "INFO ", "warning": "WARN ", "error": "ERROR", "critical": "FATAL"}
_HEAD = ("ts", "level", "process", "event", "message", "trace")
_line_of = json.JSONEncoder(separators=(",", ":")).encode
"""As compact as the lines of requests, so that one search finds both; ASCII only."""


def start_logging(process: str, log_format: str) -> None:
    """Everything that goes through `logging` becomes lines on stdout; of other libraries only warnings."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Lines(process, log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tradsys").setLevel(logging.INFO)
    # A client's bytes that are no message would be a traceback each; our own faults are told by the gateway.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


def access_log_out(log_format: str) -> IO[bytes]:
    """Where an access log writes its JSON lines, so that they come out in the chosen form."""
    return sys.stdout.buffer if log_format == "json" else cast(IO[bytes], TextOut(sys.stdout.buffer))


class CallLog:
    """Lines of calls: gathered in memory, and written by a thread, so that no call waits for a log."""

    def __init__(self, process: str, log_format: str) -> None:
        self._out = access_log_out(log_format)
        self._process = process
        self._pending: deque[dict[str, Any]] = deque(maxlen=CALLS_MAX)
        threading.Thread(target=self._write_always, name="log", daemon=True).start()

    def add(self, fields: dict[str, Any]) -> None:
        """`fields` begin with `event`. Where a log is slow, the oldest lines are given up."""
        self._pending.append({"ts": str(time.time_ns()), "level": "info", "process": self._process, **fields})

    def flush(self) -> None:
        """Write what has gathered."""
        lines = b""
        with contextlib.suppress(IndexError):
            while True:
                lines += _line_of(self._pending.popleft()).encode() + b"\n"
        if lines:
            with contextlib.suppress(OSError):
                self._out.write(lines)
                self._out.flush()

    def _write_always(self) -> NoReturn:
        while True:
            time.sleep(FLUSH_S)
            self.flush()


class _Lines(logging.Formatter):
    def __init__(self, process: str, log_format: str) -> None:
        super().__init__()
        self._process = process
        self._as_text = log_format == "text"

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": str(int(record.created * 1_000_000) * 1_000),
            "level": record.levelname.lower(),
            "process": self._process,
            "event": "log",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = "".join(traceback.format_exception(*record.exc_info))[-TRACE_CHARS_MAX:]
        return text_of(line) if self._as_text else _line_of(line)


class TextOut(io.RawIOBase):
    """Takes lines of JSON, writes text for people."""

    def __init__(self, out: IO[bytes]) -> None:
        super().__init__()
        self._out = out

    def write(self, lines: Any) -> int:
        texts = [text_of(json.loads(line)) for line in bytes(lines).splitlines()]
        self._out.write("".join(f"{text}\n" for text in texts).encode())
        return len(lines)

    def flush(self) -> None:
        self._out.flush()


def text_of(line: dict[str, Any]) -> str:
    """`18:20:01.123 INFO  query    GET /api/v1/orders 200 …`; hostile text was made harmless before."""
    seconds, rest = divmod(int(line["ts"]), 1_000_000_000)
    at = f"{time.strftime('%H:%M:%S', time.gmtime(seconds))}.{rest // 1_000_000:03d}"
    head = f"{at} {LEVELS.get(line['level'], line['level'])} {line['process']:8}"
    # A line break in a message must not look like a line of its own.
    said = [str(line["message"]).replace("\n", "\n    ")] if "message" in line else [line["event"]]
    said += [f"{name}={value}" for name, value in line.items() if name not in _HEAD and name != "logger"]
    trace = "\n    " + line["trace"].rstrip().replace("\n", "\n    ") if "trace" in line else ""
    return f"{head} {' '.join(said)}{trace}"
