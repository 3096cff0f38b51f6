"""gunicorn for `query`: processes and threads that read, restarted one by one when they fail."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

WORKERS = 2
PLACES = 2 * WORKERS + 1
"""For workers that begin while others still end."""
THREADS = 4
"""For each worker; SQLite lets other threads run while it reads."""
GRACEFUL_S = 1
"""A read takes milliseconds, and the next start of the whole shard waits for this process."""
HEAD_BYTES_MAX = 16 << 10
HEAD_S = 5.0
"""From the connection, or the first byte of a request, to the end of its head; then the connection is cut."""
BODY_S = 0.05
"""How long a thread looks for the rest of a body, which no route here wants."""
UNREAD_S = 5
"""How long a thread waits for a client that does not read its answer."""
LINGER_S = 1.0
"""How long who is hung up on may go on sending, so that it can read the answer."""

_ESTABLISHED = 1
"""The first byte of TCP_INFO, from Linux's tcp_states.h: neither side has closed."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class _Propagating(Logger):  # type: ignore[misc]
    """gunicorn's messages go the way of all others."""

    def setup(self, cfg: Any) -> None:
        self.cfg, self.loglevel = cfg, logging.WARNING
        self.error_log.setLevel(logging.WARNING)
        self.error_log.propagate = True


class _Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threads, which get a connection only when the head of its request is here.

    By itself gunicorn lets a thread wait for the rest of a head for ever, and its only loop for two seconds
    for each client that does not hang up: a few bytes of a stranger would keep everybody out.
    """

    def run(self) -> None:
        for listener in self.sockets:
            # Accepted connections inherit it.
            wait = struct.pack("ll", UNREAD_S, 0)
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        super().run()

    def enqueue_req(self, conn: Any) -> None:
        """Every way to a thread leads through here, in the loop."""
        conn.due_s = getattr(conn, "due_s", None) or time.monotonic() + HEAD_S
        left = conn.due_s - time.monotonic()
        try:
            # Asked first: what it sent before it closed its side may be whole.
            ended = conn.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED
            come = _come(conn)
            if come is None:
                conn.due_s = None
                super().enqueue_req(conn)
                return
            # Half a head of one that has closed its side would wake the loop again and again.
            if not come or ended or len(come) >= HEAD_BYTES_MAX or left <= 0:
                if len(come) >= HEAD_BYTES_MAX:
                    conn.sock.send(_TOO_LARGE)
                self._hang_up(conn)
                return
            # Wakes the loop only when there is more than what is known.
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(come) + 1)
        except BlockingIOError:
            pass
        except OSError:
            self._close(conn)
            return
        self._await(conn, left, self.on_pending_socket_readable)

    def finish_request(self, conn: Any, fs: Any) -> None:
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
        else:
            self._hang_up(conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + BODY_S))

    def _hang_up(self, conn: Any) -> None:
        """Nothing more is said; what still comes is read, so that the answer is not lost by a reset."""
        try:
            conn.sock.setblocking(False)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        self._await(conn, LINGER_S, self._read_on)

    def _read_on(self, conn: Any, client: socket.socket) -> None:
        try:
            if client.recv(1 << 16):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        self._close(conn)

    def _await(self, conn: Any, seconds: float, then: Callable[..., None]) -> None:
        """Go on when something comes; close it if nothing does."""
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(then, conn))

    def _close(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()


def _come(conn: Any) -> bytes | None:
    """What has come of a head, None if it is whole; b"" says that no more will come.

    Raises BlockingIOError: nothing yet; OSError.
    """
    # What came with the request before is in the parser already.
    known: bytes = conn.parser.unreader.buf.getvalue() if conn.parser is not None else b""
    if b"\r\n\r\n" in known:
        return None
    conn.sock.setblocking(False)
    fresh: bytes = conn.sock.recv(HEAD_BYTES_MAX, socket.MSG_PEEK)
    if b"\r\n\r\n" in known + fresh:
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return None
    return fresh


class QueryServer(BaseApplication):  # type: ignore[misc]
    """Serves what `make_app` gives; each worker makes its own, after the fork, with its own connections."""

    def __init__(
        self,
        make_app: Callable[[int], WSGIApplication],
        host: str,
        port: int,
        *,
        started: Callable[[], None],
        forked: Callable[[], None],
        ended: Callable[[], None],
    ):
        """`make_app` is given the place of its worker, below PLACES: no two that live share one. `started`
        is called in the parent when workers may come, `forked` in each worker when it begins, `ended` when
        it ends."""
        self._make_app = make_app
        self._started, self._forked, self._ended = started, forked, ended
        self._place = 0
        self._bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self._bind,
            "workers": WORKERS,
            "threads": THREADS,
            "worker_class": _Worker,
            "graceful_timeout": GRACEFUL_S,
            "keepalive": 75,
            "limit_request_line": 8190,
            "limit_request_fields": 64,
            "limit_request_field_size": 8190,
            "logger_class": _Propagating,
            "proc_name": "tradsys-query",
            "control_socket_disable": True,
            "when_ready": lambda arbiter: self._started(),
            "pre_fork": self._take_place,
            "post_fork": lambda arbiter, worker: self._forked(),
            "worker_exit": self._leave,
        }
        for name, value in options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        return self._make_app(self._place)

    def _take_place(self, arbiter: Any, worker: Any) -> None:
        taken = {other.place for other in arbiter.WORKERS.values()}
        worker.place = self._place = next(place for place in range(PLACES) if place not in taken)

    def _leave(self, arbiter: Any, worker: Any) -> None:
        """A worker that was told to end does so at once: to take its interpreter apart costs as much CPU as a
        hundred reads. (The parent is called, too, for a worker that it finds gone.)"""
        if worker.pid == os.getpid() and not worker.alive:
            self._ended()
            os._exit(0)

    def serve(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit code."""
        try:
            self.run()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        return 0
