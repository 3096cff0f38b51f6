"""The server of an ops port: probes, Prometheus and the operator, answered beside a process's real work."""

from __future__ import annotations

import socket
import threading
from typing import Any
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.server import create_server

SERVER_THREADS = 4
CONNECTIONS_MAX = 64
CHANNEL_TIMEOUT_S = 10
LOOK_S = 1.0
"""How often connections are looked at for that."""
ANSWER_S = 0.5
"""How long answers under way may take at the end."""
BODY_BYTES_MAX = 64 << 10
HEADER_BYTES_MAX = 16 << 10


class OpsServer:
    """Serves the ops port from threads of its own, within fixed bounds of connections and time.

    They sleep until somebody asks, so that an event loop beside them notices only what an answer costs.
    """

    def __init__(self, app: WSGIApplication, host: str, port: int) -> None:
        """Binds at once; `port` 0 takes a free one. Raises OSError."""
        self._app = app
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: dict[int, Any] = {}
        self._stopping = False

    def start(self) -> None:
        """Answer from now on."""
        self._server: Any = create_server(
            self._app,
            self._sockets,
            sockets=[self._listener],
            threads=SERVER_THREADS,
            connection_limit=CONNECTIONS_MAX,
            channel_timeout=CHANNEL_TIMEOUT_S,
            cleanup_interval=CHANNEL_TIMEOUT_S,
            max_request_body_size=BODY_BYTES_MAX,
            max_request_header_size=HEADER_BYTES_MAX,
            ident=None,
        )
        self._thread = threading.Thread(target=self._run, name="ops", daemon=True)
        self._thread.start()

    def forget(self) -> None:
        """In a forked child: the port is its parent's."""
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping:
            wasyncore.loop(LOOK_S, use_poll=True, map=self._sockets, count=1)

    def stop(self) -> None:
        """Hang up on everybody, also on who keeps a connection for the next scrape."""
        # The server's own way waits until each of them has gone by itself.
        self._stopping = True
        self._server.pull_trigger()
        self._thread.join()
        self._server.task_dispatcher.shutdown(timeout=ANSWER_S)
        wasyncore.close_all(self._sockets)
