"""The access log: one JSON line a request, gathered in memory and written between requests.

The order path only appends a tuple; the loop writes what has gathered when it has nothing else to do, or
when it is much. Hostile text is escaped by the JSON encoder; tokens and bodies are never logged.
"""

from __future__ import annotations

import time
import traceback
from typing import IO, TYPE_CHECKING, Any

from tradsys.codec.json_v1 import encode

if TYPE_CHECKING:
    from tradsys.adapters.http.edge import EdgeRequest

PENDING_MAX = 10_000
"""Lines kept for a slow log; what comes on top is counted, not kept: the log never stops an order."""
PATH_CHARS_MAX = 256


class AccessLog:
    def __init__(self, out: IO[bytes], process: str, errors_only: bool):
        """`errors_only`: no line for what was answered with 200; the journal tells what that changed."""
        self._errors_only = errors_only
        self._out = out
        self._process = process
        self._pending: list[tuple[Any, ...]] = []
        self.dropped = 0

    def add(self, req: EdgeRequest, resp: Any, engine_us: int) -> None:
        if self._errors_only and resp.status == "200 OK":
            return
        pending = self._pending
        if len(pending) < PENDING_MAX:
            pending.append((time.time_ns(), req.id, req.method, req.path, resp.status, engine_us))
        else:
            self.dropped += 1

    def fault(self, request_id: str, fault: BaseException) -> None:
        """A fault in full, at once: it may be the last thing that this process says.

        `request_id` is "" if it is not one request's.
        """
        line = {
            "ts": str(time.time_ns()),
            "level": "error",
            "process": self._process,
            "event": "fault",
            "request_id": request_id,
            "error": f"{type(fault).__name__}: {fault}",
            "trace": "".join(traceback.format_exception(fault))[-8000:],
        }
        self._write([encode(line)])

    def flush(self) -> None:
        """Write what has gathered."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        lines = [
            encode(
                {
                    "ts": str(ts),
                    "level": "info",
                    "process": self._process,
                    "event": "request",
                    "request_id": request_id,
                    "method": method,
                    "path": _plain(path[:PATH_CHARS_MAX]),
                    "status": int(str(status)[:3]),
                    "engine_us": engine_us,
                }
            )
            for ts, request_id, method, path, status, engine_us in pending
        ]
        self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        try:
            self._out.write(b"\n".join(lines) + b"\n")
            self._out.flush()
        except OSError:
            # A full disk or a closed pipe: orders go on without their lines.
            self.dropped += len(lines)


def _plain(text: str) -> str:
    """Printable ASCII: JSON leaves alone what some terminals obey, as C1 controls and text directions."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
