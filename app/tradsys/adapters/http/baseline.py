"""Profile `baseline`: the same application under gunicorn with one meinheld worker. For A/B only.

Never where clients could be hostile: meinheld lets requests be smuggled in chunk sizes, and a chunked
body with trailers ends its process (tests/security/vectors.py has both).

meinheld owns its loop and gives no turn to anybody, so timers run after each request and once a second.
It also says port 8000 in every environ, whichever listener a request came by; the listeners are told
apart by asking the socket, which is what this profile pays for having more than one.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

import meinheld.server
import msgspec
import ujson
from gunicorn.app.base import BaseApplication
from msgspec import Struct

from tradsys.codec.applied import Done
from tradsys.codec.json_v1 import NewOrder, decode_new_order, encode, reply_of, reply_of_order
from tradsys.core.outcome import is_refusal

KEEP_ALIVE_S = 75
TICK_S = 1
"""The finest that meinheld's timers have."""


class Started(Struct, frozen=True):
    """What the worker serves: made in the worker, since a journal must be written by who opened it."""

    app: WSGIApplication
    each_turn: Callable[[], None]
    close: Callable[[], int]
    """Called once, after the last answer; what it returns is the exit code."""


Start = Callable[[], Started | int]
"""Called in the worker; a number is the exit code of a start that failed."""


def serve(start: Start, listeners: Sequence[tuple[str, int]], *, body_bytes_max: int) -> int:
    """Serve until SIGTERM or SIGINT, or until a start fails; returns the exit code.

    A worker that ends otherwise is started again.
    """
    server = _Baseline(start, listeners, body_bytes_max)
    arbiter = os.getpid()
    try:
        server.run()
    except SystemExit as ended:
        if os.getpid() != arbiter:
            raise
        # What its worker found says more than gunicorn's own code.
        return server.code[0] or (ended.code if isinstance(ended.code, int) else 1)
    except Exception:
        # meinheld's log fails on gunicorn's line about a worker that ended with an error.
        if not server.code[0]:
            raise
    return server.code[0]


def close_after_answer(environ: dict[str, Any], set_header: Callable[[str, str], None]) -> None:
    """Ask the client to end this connection after the answer; meinheld itself can't be made to."""
    set_header("Connection", "close")


class _Baseline(BaseApplication):  # type: ignore[misc]
    """gunicorn's configuration, and the way to its worker."""

    def __init__(self, start: Start, listeners: Sequence[tuple[str, int]], body_bytes_max: int):
        self._start = start
        self.code = mmap.mmap(-1, 1)
        """The worker's exit code, in memory that both processes see."""
        self._started: Started | None = None
        self._settings = {
            "bind": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in listeners],
            "worker_class": "meinheld.gmeinheld.MeinheldWorker",
            "workers": 1,
            "keepalive": KEEP_ALIVE_S,
            "graceful_timeout": 5,
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_worker_init": lambda worker: meinheld.server.set_max_content_length(body_bytes_max),
            "worker_exit": lambda arbiter, worker: self._close(),
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        started = self._start()
        if isinstance(started, int):
            self.code[0] = started
            # Before the worker has booted this ends gunicorn, too.
            raise RuntimeError(f"the start failed with exit code {started}")
        self._started = started
        _tick(started.each_turn)
        return _served(started)

    def _close(self) -> None:
        if self._started is not None:
            self.code[0] = self._started.close()


class Worker:
    """What the engine asks its server, here of the worker that it runs in."""

    stopping = False

    def connections(self) -> int:
        """Not known under meinheld."""
        return 0

    def stop(self) -> None:
        self.stopping = True
        os.kill(os.getppid(), signal.SIGTERM)


def read_order(body: bytes) -> NewOrder:
    """As `json_v1.decode_new_order`, by way of ujson and a dict."""
    try:
        order = msgspec.convert(ujson.loads(body), NewOrder)
    except (ValueError, msgspec.ValidationError):
        # The strict decoder says what is wrong.
        return decode_new_order(body)
    if b"\\" in body or body.count(b":") != encode(order).count(b":"):
        return decode_new_order(body)
    return order


def write_order(done: Done, shard: str) -> bytes | None:
    """As `json_order.reply_bytes_of`, by way of a dict and ujson."""
    if is_refusal(done.events):
        return None
    reply = reply_of(done, shard) if done.order is None else reply_of_order(done.order, shard)
    return ujson.dumps(msgspec.to_builtins(reply), escape_forward_slashes=False).encode()


def _tick(each_turn: Callable[[], None]) -> None:
    each_turn()
    meinheld.server.schedule_call(TICK_S, _tick, each_turn)


def _served(started: Started) -> WSGIApplication:
    app, each_turn = started.app, started.each_turn

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        environ["SERVER_PORT"] = _local_port(environ["meinheld.client"].get_fd())
        body = app(environ, start_response)
        each_turn()
        return body

    return answer


def _local_port(fd: int) -> str:
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)
    try:
        return str(connection.getsockname()[1])
    finally:
        connection.detach()
