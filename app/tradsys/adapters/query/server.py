"""gunicorn for `query`: processes and threads that read, restarted one by one when they fail."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

WORKERS = 2
PLACES = 2 * WORKERS + 1
"""For workers that begin while others still end."""
THREADS = 4
"""For each worker; SQLite lets other threads run while it reads."""
GRACEFUL_S = 1
"""A read takes milliseconds, and the next start of the whole shard waits for this process."""


class _Propagating(Logger):  # type: ignore[misc]
    """gunicorn's messages go the way of all others."""

    def setup(self, cfg: Any) -> None:
        self.cfg, self.loglevel = cfg, logging.WARNING
        self.error_log.setLevel(logging.WARNING)
        self.error_log.propagate = True


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
            "worker_class": "gthread",
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
