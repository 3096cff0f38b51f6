"""The floor: an application that does nothing, on the engine's own server.

    python -m tests.bench.floor PORT

What an order takes above it is ours; what it takes itself is the kernel's, Python's and the server's.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tradsys.adapters.http.server import Listener, Server

BODY = b'{"order_id":"a-1","status":"new"}'


def nothing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("content-type", "application/json")])
    return [BODY]


def main(port: int) -> None:
    server = Server([Listener("127.0.0.1", port, nothing)], each_turn=lambda: None)
    server.listen()
    gc.freeze()
    gc.disable()
    server.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
