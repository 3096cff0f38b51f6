"""A small Falcon application under the engine's HTTP server, in a process of its own, as tests need it.

`with serving(request_ms_max=300) as served:` starts it on free ports and ends it by its process id.
Run as a script it is that process: its one argument is the JSON of `serving`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import falcon

HOST = "127.0.0.1"


@dataclass
class Served:
    process: subprocess.Popen[str]
    ports: list[int]

    @property
    def port(self) -> int:
        return self.ports[0]

    def ask(self, path: str, *, method: str = "GET", body: bytes = b"", port: int = 0) -> tuple[int, Any]:
        """(status, decoded body) over a connection of its own."""
        with socket.create_connection((HOST, port or self.port), timeout=10) as connection:
            lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
            connection.sendall(lines.encode() + b"\r\n\r\n" + body)
            top, _, rest = until_closed(connection).partition(b"\r\n\r\n")
        return int(top.split()[1]), json.loads(rest) if rest else None

    def end(self, number: int = signal.SIGTERM) -> float:
        """Signal the process and wait for it; the seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=10)
        return time.monotonic() - started


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(1 << 20):
            received += more
    return received


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on; held together, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def serving(
    *,
    listeners: int = 1,
    ports: list[int] | None = None,
    spin: bool = False,
    idle_wait_ms: int = 10,
    profile: str = "hft",
    code: int = 0,
    **limits: int,
) -> Iterator[Served]:
    ports = ports or free_ports(listeners)
    wanted = json.dumps(
        {"profile": profile, "ports": ports, "spin": spin, "idle_wait_ms": idle_wait_ms, "limits": limits}
        | {"code": code}
    )
    process = subprocess.Popen(
        [sys.executable, __file__, wanted], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        if (said := process.stdout.readline()) != "ready\n":
            raise AssertionError(said + process.stdout.read())
        yield Served(process, ports)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


# --- inside the process -----------------------------------------------------------------------------


_ROUTES = (
    "get", "hidden", "port", "handled", "turns", "connections", "slow", "big", "close", "status", "stop"
)  # fmt: skip


class Application:
    """Falcon, so that the tests meet what the engine meets, and a record of what was handled."""

    def __init__(self, close_after_answer: Any) -> None:
        self.close_after_answer = close_after_answer
        self.handled: deque[str] = deque(maxlen=1000)
        self.turns = 0
        self.app = falcon.App()
        self.app.req_options.strip_url_path_trailing_slash = False
        self.app.add_middleware(self)
        for name in _ROUTES:
            self.app.add_route(f"/{name}", self, suffix=name)
        self.app.add_route("/post", self)

    def turn(self) -> None:
        if not self.turns:
            print("ready", flush=True)
        self.turns += 1

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.handled.append(f"{req.method} {req.path}")
        if request_id := req.get_header("X-Request-Id"):
            resp.set_header("X-Request-Id", request_id)

    def on_get_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"ok": True}

    on_head_get = on_get_hidden = on_get_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = req.get_media()

    def on_get_port(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = req.env["SERVER_PORT"]

    def on_get_handled(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = list(self.handled)[:-1]
        self.handled.clear()

    def on_get_turns(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"turns": self.turns}

    def on_get_connections(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self.server.connections()

    def on_get_slow(self, req: falcon.Request, resp: falcon.Response) -> None:
        time.sleep(req.get_param_as_float("s", required=True))
        resp.media = {"slept": True}

    def on_get_big(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = b"x" * req.get_param_as_int("bytes", required=True)

    def on_get_close(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = b"x" * req.get_param_as_int("bytes", required=True)
        self.close_after_answer(req.env, resp.set_header)

    def on_get_status(self, req: falcon.Request, resp: falcon.Response) -> None:
        with open("/proc/self/status") as status:
            rss = next(line for line in status if line.startswith("VmRSS"))
        resp.media = {"rss_kib": int(rss.split()[1]), "files": len(os.listdir("/proc/self/fd"))}

    def on_post_stop(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.server.stop()
        resp.media = {"stopping": True}

    def wsgi(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/fault":
            raise RuntimeError("outside the framework")
        return self.app(environ, start_response)


def serve_engine_profile(wanted: dict[str, Any]) -> None:
    from tradsys.adapters.http.server import Limits, Listener, Server, close_after_answer

    application = Application(close_after_answer)
    application.server = server = Server(
        [Listener(HOST, port, application.wsgi) for port in wanted["ports"]],
        each_turn=application.turn,
        spin=wanted["spin"],
        idle_wait_ms=wanted["idle_wait_ms"],
        limits=Limits(**wanted["limits"]),
    )
    server.listen()
    server.run()
    print("ended", flush=True)


def serve_baseline_profile(wanted: dict[str, Any]) -> None:
    from tradsys.adapters.http import baseline

    def start() -> baseline.Started:
        application = Application(baseline.close_after_answer)
        return baseline.Started(application.wsgi, application.turn, close)

    def close() -> int:
        print("ended", flush=True)
        return wanted["code"]

    sys.exit(baseline.serve(start, [(HOST, port) for port in wanted["ports"]], body_bytes_max=1 << 20))


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    {"hft": serve_engine_profile, "baseline": serve_baseline_profile}[wanted["profile"]](wanted)
