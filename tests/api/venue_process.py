"""A real venue in processes of its own, on free ports and in a directory of its own, as tests need it.

    with running_venue(tmp_path) as venue:
        alice = venue.account(USD="1000")
        reply = alice.post("/orders", {...})

Each reply is compared with the OpenAPI document before a test sees it (described.py). Processes are
started as an operator starts them and ended by their process ids. Markets and accounts are made as a test
asks for them, with names that nobody else has, so that tests share a venue and not a state.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.adapters.server_process import free_ports
from tests.api.described import Described, admin_document
from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.mint import mint

HOST = "127.0.0.1"
API = "/api/v1"
PORTS = (
    *("port", "admin_port", "internal_port", "query_port", "grpc_port"),
    *("ops_port", "feed_ops_port", "history_port", "gateway_ops_port", "query_ops_port"),
)
PROFILE = os.environ.get("PROFILE", "hft")
"""The same tests hold for the profile `baseline`."""


def with_us() -> list[str]:
    """A run of tests that is killed leaves no venue behind."""
    # The kernel means the thread that has started it: of another one it would not outlive the end.
    if threading.current_thread() is not threading.main_thread() or not shutil.which("setpriv"):
        return []
    return ["setpriv", "--pdeathsig", "KILL", "--"]


READY_S = 60.0
"""How long a start may take; a machine that runs other tests too is slow."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> int:
        """The error's code; 0: it is none."""
        return 0 if self.status < 400 else self.json["code"]

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replay") == "true"

    @property
    def seq(self) -> int:
        return int(self.headers["x-seq"])


class RunningVenue:
    """The processes of one venue and its directory; both can be ended and started again."""

    def __init__(self, directory: Path, processes: Sequence[str] = ("engine",), **settings: object):
        self.directory = directory
        self.names = processes
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        chosen = {"data_dir": directory / "data", "segment_bytes": 8 << 20, "profile": PROFILE}
        chosen |= self.ports | settings
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("TRADSYS_")}
        self.env |= {f"TRADSYS_{name.upper()}": str(value) for name, value in chosen.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._documents: dict[str, Described] = {}
        self._connections: dict[int, http.client.HTTPConnection] = {}
        self._numbers = itertools.count(1)
        self._admin = ""

    @property
    def data(self) -> Path:
        return Path(self.env["TRADSYS_DATA_DIR"])

    def log(self, name: str = "engine") -> bytes:
        """Everything that a process has written to stdout and stderr, of all its lives."""
        return (self.directory / f"{name}.log").read_bytes()

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start what does not run, and wait until it is ready."""
        for name in self.names:
            if name not in self.processes:
                with open(self.directory / f"{name}.log", "ab") as log:
                    self.processes[name] = subprocess.Popen(
                        [*with_us(), sys.executable, "-m", "tradsys", "serve", name],
                        env=self.env, stdout=log, stderr=log, process_group=0,
                    )  # fmt: skip
        deadline = time.monotonic() + READY_S
        for name in self.names:
            while not self._is_ready(name):
                said = self.log(name)[-2000:].decode("utf-8", "replace")
                code = self.processes[name].poll()
                assert code is None, f"{name} ended with {code}: {said}"
                assert time.monotonic() < deadline, f"{name} is not ready after {READY_S} s: {said}"
                time.sleep(0.02)

    def _is_ready(self, name: str) -> bool:
        port, path = {
            "engine": ("ops_port", "/readyz"),
            "history": ("history_port", "/readyz"),
            "gateway": ("gateway_ops_port", "/readyz"),
            # Any answer will do: query is ready when it listens.
            "query": ("query_port", f"{API}/orders"),
        }[name]
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.send("GET", path, port=self.ports[port]).status in (200, 401)
        return False

    def end(self, number: int = signal.SIGTERM, names: Sequence[str] = ()) -> dict[str, int]:
        """Signal processes (all, if none is named), wait for them, and give their exit codes."""
        ended = [(name, self.processes.pop(name)) for name in names or list(self.processes)]
        for _, process in ended:
            # In the profile `baseline` an engine is a master with a worker; a crash takes both.
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        self.hang_up()
        return {name: process.wait(timeout=30) for name, process in ended}

    def kill9(self, *names: str) -> None:
        self.end(signal.SIGKILL, names)

    def stop(self) -> dict[str, int]:
        return self.end()

    def limit_files(self, bytes_max: int) -> None:
        """From here on the engine's files can't be written beyond `bytes_max`, as on a full disk."""
        pid = self.processes["engine"].pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, workers)):
            _, hard = resource.prlimit(one, resource.RLIMIT_FSIZE)
            resource.prlimit(one, resource.RLIMIT_FSIZE, (bytes_max, hard))

    def hang_up(self) -> None:
        """Close the connections that were kept."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    # --- requests -------------------------------------------------------------------------------

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> Reply:
        """One request over the kept connection of a port, the public one if none is given."""
        port = port or self.ports["port"]
        for fresh in (False, True):
            connection = self._connections.get(port)
            if connection is None:
                fresh = True
                connection = self._connections[port] = http.client.HTTPConnection(HOST, port, timeout=20)
            try:
                connection.request(method, path, body, dict(headers or {}))
                answer = connection.getresponse()
                sent: dict[str, str] = {}
                for name, value in answer.getheaders():
                    name = name.lower()
                    sent[name] = f"{sent[name]}, {value}" if name in sent else value
                reply = Reply(answer.status, sent, answer.read())
            except Exception as failure:
                connection.close()
                del self._connections[port]
                # The venue closes after some refusals; then the kept connection is found closed.
                if fresh or not isinstance(failure, ConnectionError):
                    raise
                continue
            if "close" in reply.headers.get("connection", ""):
                connection.close()
                del self._connections[port]
            return reply
        raise AssertionError("unreachable")

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        port: str = "port",
    ) -> Reply:
        """One request below /api/v1 with a JSON body (or bytes as they are), its reply held to OpenAPI."""
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        reply = self.send(method, f"{API}{path}", content, sent, self.ports[port])
        self.described(port).hold(method, f"{API}{path}", reply)
        return reply

    def described(self, port: str = "port") -> Described:
        if port == "admin_port":
            return admin_document()
        if port not in self._documents:
            document = self.send("GET", f"{API}/openapi.json", port=self.ports[port]).json
            self._documents[port] = Described(document)
        return self._documents[port]

    def token(
        self, account: str, scope: str = "trade read", ttl_s: int = 3600, *, age_s: int = 0, jti: str = ""
    ) -> str:
        """A token signed with the venue's own key, `age_s` seconds ago; nobody is asked."""
        key = HmacKey.load(self.data / "hs256.key")
        return mint(key, account, scope, ttl_s, "tradsys", "tradsys", int(time.time()) - age_s, jti)

    # --- what tests begin with ------------------------------------------------------------------

    def admin(self, method: str, path: str, body: Any = None, *, token: str = "") -> Reply:
        """A call below /admin, on the admin listener."""
        if not token:
            token = self._admin = self._admin or self.token("root", "admin")
        return self.call(method, f"/admin{path}", body, token, port="admin_port")

    def ok(self, reply: Reply) -> Any:
        assert reply.status == 200, reply
        return reply.json

    def account(self, mode: str = "cash", scope: str = "trade read", **balances: str) -> Trader:
        """A new account with these balances by asset."""
        name = f"acct{next(self._numbers)}"
        self.ok(self.admin("POST", "/accounts", {"account": name, "mode": mode}))
        for asset, amount in balances.items():
            self.deposit(name, asset, amount)
        return Trader(self, name, self.token(name, scope))

    def deposit(self, account: str, asset: str, amount: str) -> None:
        body = {"asset": asset, "amount": amount, "txn_id": f"test-{next(self._numbers)}"}
        self.ok(self.admin("POST", f"/accounts/{account}/adjustments", body))

    def market(self, tick_size: str = "0.01", lot_size: str = "0.001", **more: str) -> str:
        """A new symbol of a new base asset against USD."""
        symbol = f"M{next(self._numbers)}-USD"
        body = {"symbol": symbol, "tick_size": tick_size, "lot_size": lot_size} | more
        self.ok(self.admin("POST", "/symbols", body))
        return symbol


@dataclass
class Trader:
    """An account with a token."""

    venue: RunningVenue
    name: str
    token: str
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def get(self, path: str) -> Reply:
        return self.venue.call("GET", path, token=self.token)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.venue.call("POST", path, body, self.token, headers=sent)

    def put(self, path: str, body: Any) -> Reply:
        return self.venue.call("PUT", path, body, self.token)

    def delete(self, path: str) -> Reply:
        return self.venue.call("DELETE", path, token=self.token)

    def place(self, symbol: str, side: str, quantity: str, price: str = "", **more: Any) -> Reply:
        """A limit order, or a market order where there is no price, unless `type` says otherwise."""
        order = {"symbol": symbol, "side": side, "type": "limit" if price else "market", "quantity": quantity}
        return self.post("/orders", order | ({"price": price} if price else {}) | more)

    def placed(self, symbol: str, side: str, quantity: str, price: str = "", **more: Any) -> Any:
        """As `place`, of an order that is accepted: the order."""
        return self.venue.ok(self.place(symbol, side, quantity, price, **more))

    def order(self, order_id: str) -> Any:
        return self.venue.ok(self.get(f"/orders/{order_id}"))

    def balance(self, asset: str) -> tuple[str, str]:
        """(free, reserved)"""
        rows = self.venue.ok(self.get("/balances"))["items"]
        return next(((row["free"], row["reserved"]) for row in rows if row["asset"] == asset), ("0", "0"))


@contextlib.contextmanager
def running_venue(
    directory: Path, processes: Sequence[str] = ("engine",), **settings: object
) -> Iterator[RunningVenue]:
    venue = RunningVenue(directory, processes, **settings)
    try:
        venue.start()
        yield venue
    finally:
        venue.end()
