"""The server of an ops port: probes, Prometheus and the operator, answered beside a process's real work."""

from __future__ import annotations

import socket
import threading
from wsgiref.types import WSGIApplication

from waitress.server import create_server

SERVER_THREADS = 4
CONNECTIONS_MAX = 64
CHANNEL_TIMEOUT_S = 10
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

    def start(self) -> None:
        """Answer from now on."""
        self._server = create_server(
            self._app,
            sockets=[self._listener],
            threads=SERVER_THREADS,
            connection_limit=CONNECTIONS_MAX,
            channel_timeout=CHANNEL_TIMEOUT_S,
            cleanup_interval=CHANNEL_TIMEOUT_S,
            max_request_body_size=BODY_BYTES_MAX,
            max_request_header_size=HEADER_BYTES_MAX,
            ident=None,
        )
        self._thread = threading.Thread(target=self._server.run, name="ops", daemon=True)
        self._thread.start()

    def forget(self) -> None:
        """In a forked child: the port is its parent's."""
        self._listener.close()

    def stop(self) -> None:
        self._server.close()
        self._thread.join(CHANNEL_TIMEOUT_S)
