"""A server that answers orders over HTTP as a venue would, or wrongly or late, as a test wants it.

A real venue can't be made to answer wrongly, and the scripts must notice one that does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = dict[str, Any]


class StandIn(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, spoil: Callable[[Answer], Answer], status: int, delay_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spoil = spoil
        self.status = status
        self.delay_s = delay_s
        self.silent_after: float = math.inf
        """From how many orders on it answers nobody any more, and keeps the connections."""
        self.over = threading.Event()
        self.first_answers: dict[str, bytes] = {}
        self.quantities: dict[str, str] = {}
        self.numbers = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_POST(self) -> None:
        order = self._body()
        known = self.server.first_answers.get(order["client_order_id"])
        if known is not None:
            self._answer(known, {"Idempotent-Replay": "true"})
            return
        rests = order["type"] == "limit"
        order_id = f"a-{next(self.server.numbers)}"
        answer = {
            "order_id": order_id,
            "client_order_id": order["client_order_id"],
            "symbol": order["symbol"],
            "side": order["side"],
            "quantity": order["quantity"],
            "filled_quantity": "0" if rests else order["quantity"],
            "remaining_quantity": order["quantity"] if rests else "0",
            "status": "new" if rests else "filled",
        }
        body = json.dumps(self.server.spoil(answer)).encode()
        self.server.first_answers[order["client_order_id"]] = body
        self._answer(body, {})

    def do_DELETE(self) -> None:
        self._answer(json.dumps({"order_id": self.path.rsplit("/")[-1], "status": "canceled"}).encode(), {})

    def do_PUT(self) -> None:
        changed = {"order_id": self.path.rsplit("/")[-1], "quantity": self._body()["quantity"]}
        self._answer(json.dumps(changed).encode(), {})

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes, headers: dict[str, str]) -> None:
        if len(self.server.first_answers) > self.server.silent_after:
            self.server.over.wait(30)
        time.sleep(self.server.delay_s)
        self.send_response(self.server.status)
        for name, value in {"X-Seq": "1", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def stand_in(
    spoil: Callable[[Answer], Answer] = lambda answer: answer, status: int = 200, delay_s: float = 0.0
) -> Iterator[StandIn]:
    with StandIn(spoil, status, delay_s) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
