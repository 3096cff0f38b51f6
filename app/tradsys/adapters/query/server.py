"""gunicorn for `query`: processes and threads that read, restarted one by one when they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication

from gunicorn.app.base import BaseApplication

WORKERS = 2
THREADS = 4
"""For each worker; SQLite lets other threads run while it reads."""
GRACEFUL_S = 5


class QueryServer(BaseApplication):  # type: ignore[misc]
    """Serves what `make_app` gives; each worker makes its own, after the fork, with its own connections."""

    def __init__(self, make_app: Callable[[], WSGIApplication], host: str, port: int):
        self._make_app = make_app
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
            "loglevel": "warning",
            "proc_name": "tradsys-query",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        return self._make_app()

    def serve(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit code."""
        try:
            self.run()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        return 0
