"""A venue under load and a real Prometheus that collects from its processes: for the tests and the preview.

Everything listens on 127.0.0.1 and on ports that the system picks, and ends with the `with` block.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.mint import mint
from tradsys.client import OrderPool, Refused, Unreachable
from tradsys.settings import Settings
from tradsys.v1 import orders_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "build" / "tools"
RULES = ROOT / "dashboards" / "rules"
SCRAPE_S = 1
RATE_INTERVAL = "10s"
"""What Grafana would make of `$__rate_interval` here: some scrapes."""
JOBS = {
    "history": "history_port",
    "feed": "feed_ops_port",
    "gateway": "gateway_ops_port",
    "query": "query_ops_port",
}
"""Job in Prometheus → the setting of its port."""
READY_S, STOP_S = 180.0, 20.0
DEPTH = 20


class MissingTool(Exception):
    """A program that `make tools` builds is not there."""


def tool(name: str) -> str:
    """The path of a tool. Raises MissingTool: a check that did not run must not look like one that passed."""
    path = TOOLS / name
    if not path.exists():
        raise MissingTool(f"build/tools/{name} is missing: make tools GROUP={name}")
    return str(path)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _start(arguments: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
    """A child that ends when this process does, however that is."""
    # Not by preexec_fn: a process that has used gRPC must not run Python between fork and exec.
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *arguments], **how)


class Prometheus:
    """A real one, with the rules of this repository, that looks at the targets each second."""

    def __init__(
        self, directory: Path, targets: Mapping[str, int], rules: Sequence[Path] | None = None
    ) -> None:
        (self.port,) = free_ports(1)
        rules = sorted(RULES.glob("*.yaml")) if rules is None else rules
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                for job, port in targets.items()
            ],
        }
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / "prometheus.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = _start(
                [
                    tool("prometheus"),
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={self._directory / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--web.enable-remote-write-receiver",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
            )
        _until("Prometheus", lambda: self._is_ready())
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            _end(self._process)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as reply:
            return bool(reply.status == 200)
        return False

    def query(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """The samples of an instant query: [{"metric": {…}, "value": [time, "text"]}]."""
        result: list[dict[str, Any]] = self._ask("query", query=expr, time=at or time.time())["result"]
        return result

    def query_range(self, expr: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """The series of a range query: [{"metric": {…}, "values": [[time, "text"], …]}]."""
        asked = {"query": expr, "start": start, "end": end, "step": step_s}
        result: list[dict[str, Any]] = self._ask("query_range", **asked)["result"]
        return result

    def rule_groups(self) -> list[dict[str, Any]]:
        """What it has made of the rule files, with the health of each rule."""
        groups: list[dict[str, Any]] = self._ask("rules")["groups"]
        return groups

    def selectors(self, expr: str) -> set[str]:
        """The series that an expression reads, as selectors without windows."""
        found: set[str] = set()

        def walk(node: Any) -> None:
            if isinstance(node, dict):
                if node.get("type") == "vectorSelector":
                    matchers = (f"{m['name']}{m['type']}{json.dumps(m['value'])}" for m in node["matchers"])
                    found.add(f"{{{', '.join(sorted(matchers))}}}")
                for value in node.values():
                    walk(value)
            elif isinstance(node, list):
                for value in node:
                    walk(value)

        walk(self._ask("parse_query", query=expr))
        return found

    def _ask(self, path: str, **parameters: object) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as reply:
            answer = json.loads(reply.read())
        assert answer["status"] == "success", answer
        return answer["data"]


class LiveVenue:
    """`tradsys run` with a directory and ports of its own."""

    def __init__(self, directory: Path, pythonpath: Path | None = None, **settings: object) -> None:
        """`pythonpath` holds another tradsys than the installed one."""
        names = [name for name in Settings.__struct_fields__ if name == "port" or name.endswith("_port")]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.data = directory / "data"
        self._directory = directory
        chosen = {"data_dir": self.data, "segment_bytes": 8 << 20, "snapshot_every": 5_000}
        chosen |= self.ports | settings
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("TRADSYS_")}
        self.env |= {f"TRADSYS_{name.upper()}": str(value) for name, value in chosen.items()}
        self.env["TRADSYS_URL"] = f"http://127.0.0.1:{self.ports['port']}"
        self.env["TRADSYS_ADMIN_URL"] = f"http://127.0.0.1:{self.ports['admin_port']}"
        if pythonpath is not None:
            self.env["PYTHONPATH"] = str(pythonpath)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LiveVenue:
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "venue.log").open("wb") as log:
            self._process = _start(
                [sys.executable, "-m", "tradsys", "run"],
                env=self.env,
                stdout=log,
                stderr=log,
            )
        try:
            _until("the venue", self._is_ready)
        except Exception as fault:
            self.__exit__()
            fault.add_note(self.said())
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            _end(self._process)

    def said(self) -> str:
        """Its last words."""
        return (self._directory / "venue.log").read_text(errors="replace")[-3000:]

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the venue has ended: {self.said()}")
        return all(_status(self.ports[name], "/readyz") == 200 for name in self.scraped().values())

    def scraped(self) -> dict[str, str]:
        """The jobs whose processes this release has, with the settings of their ports."""
        from tradsys.cli.serve import PROCESSES

        return {job: port for job, port in JOBS.items() if job in PROCESSES}

    @property
    def targets(self) -> dict[str, int]:
        return {job: self.ports[port] for job, port in self.scraped().items()}

    def token(self, scope: str = "trade read") -> str:
        key = HmacKey.load(str(self.data / "hs256.key"))
        return mint(key, "demo", scope, 3600, "tradsys", "tradsys", int(time.time()))

    def flow(self, seconds: float, *options: str) -> subprocess.Popen[bytes]:
        """A generated order flow for so long."""
        return _start(
            [sys.executable, "-m", "tradsys", "flow", "--duration", f"{seconds:.0f}s", *options],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


class Load:
    """Clients of every kind, until the block ends: orders, batches, readers, streams, and a few mistakes."""

    def __init__(self, venue: LiveVenue, prometheus: Prometheus, orders_per_s: int = 100) -> None:
        self._venue = venue
        self._prometheus = prometheus
        self._orders_per_s = orders_per_s
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._read, self._stream, self._stream_binary, self._call)
        ]
        self._flows: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Load:
        rate = ("--rate", str(self._orders_per_s))
        self._flows = [
            self._venue.flow(3600, *rate, "--connections", "2", "--id-prefix", "s"),
            self._venue.flow(3600, *rate, "--batch", "20", "--symbol", "ETH-USD", "--id-prefix", "b"),
            self._k6(),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for flow in self._flows:
            _end(flow)
        for thread in self._threads:
            thread.join(10)

    def _k6(self) -> subprocess.Popen[bytes]:
        """The load test's own orders; what k6 sees goes to Prometheus."""
        own = {
            "BASE_URL": self._venue.env["TRADSYS_URL"],
            "TOKEN": self._venue.token(),
            "RATE": "20",
            "DURATION_S": "3600",
            "VERDICT_FILE": os.devnull,
            "K6_PROMETHEUS_RW_SERVER_URL": f"{self._prometheus.url}/api/v1/write",
            "K6_PROMETHEUS_RW_TREND_STATS": "p(50),p(95),p(99),max",
            "K6_PROMETHEUS_RW_PUSH_INTERVAL": "1s",
        }
        return _start(
            [
                *(tool("k6"), "run", "--quiet", "--no-usage-report", "--address", ""),
                *("-o", "experimental-prometheus-rw", str(ROOT / "loadtests" / "order_flow.js")),
            ],
            env=os.environ | own,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _call(self) -> None:
        """Orders, reads and streams over gRPC."""
        order = pb.PlaceOrderRequest(
            symbol="BTC-USD", side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT, quantity="0.01", price="49000.00"
        )
        target = f"127.0.0.1:{self._venue.ports['grpc_port']}"
        with OrderPool(target, self._venue.token(), channels=2, patience_s=1) as pool:
            answers = pool.trade(self._batches(pb.TradeRequest(commands=[pb.Command(place=order)] * 5)))
            for _ in zip(answers, iter(self._stop.is_set, True), strict=False):
                with contextlib.suppress(Refused, Unreachable):
                    placed = pool.place(order)
                    pool.order(placed.order_id)
                    pool.cancel(placed.order_id)
                    pool.order("a-999999999999")

    def _batches(self, batch: pb.TradeRequest) -> Iterator[pb.TradeRequest]:
        while not self._stop.wait(0.05):
            yield batch

    def _read(self) -> None:
        """Everything that query serves, and requests that are refused."""
        token = self._venue.token()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        query, engine = self._venue.ports["query_port"], self._venue.ports["port"]
        paths = (
            "/api/v1/orders?status=filled",
            "/api/v1/fills?limit=10",
            "/api/v1/market/BTC-USD/trades",
            "/api/v1/market/NO-SUCH/trades",
            "/api/v1/orders/a-1",
            "/api/v1/orders/by-client/nobody",
        )
        wrong = b'{"symbol":"BTC-USD","side":"buy","type":"limit","price":"1.001","quantity":"1"}'
        for turn in itertools.count():
            if self._stop.wait(0.05):
                return
            with contextlib.suppress(OSError, http.client.HTTPException):
                _status(query, paths[turn % len(paths)], headers)
                if turn % 5 == 0:
                    _status(engine, "/api/v1/orders", headers, wrong)
                    _status(engine, "/api/v1/market/BTC-USD/book", headers)
                    _status(engine, "/api/v1/orders/by-client/nobody", {"Authorization": "Bearer guess"})

    def _stream(self) -> None:
        channels: list[dict[str, object]] = [
            {"name": name, "symbols": ["BTC-USD", "ETH-USD"]} for name in ("trades", "ticker")
        ]
        channels.append({"name": "book", "symbols": ["BTC-USD"], "depth": DEPTH})
        self._listen("tradsys.json.v1", channels)

    def _stream_binary(self) -> None:
        self._listen("tradsys.bin.v2", [{"name": "trades", "symbols": ["BTC-USD"]}])

    def _listen(self, subprotocol: str, channels: list[dict[str, object]]) -> None:
        url = f"ws://127.0.0.1:{self._venue.ports['ws_port']}/ws"
        with contextlib.suppress(OSError), connect(url, subprotocols=[Subprotocol(subprotocol)]) as socket_:
            socket_.send(msgspec.json.encode({"op": "subscribe", "id": 1, "channels": channels}).decode())
            pinged = 0.0
            while not self._stop.is_set():
                if time.monotonic() > pinged + 1:
                    pinged = time.monotonic()
                    socket_.send('{"op":"ping","id":2}')
                with contextlib.suppress(TimeoutError):
                    socket_.recv(timeout=0.5)


def panels_of(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard that show something."""
    return (panel for panel in document["panels"] if panel["type"] != "row")


def as_asked(expr: str, rate_interval: str = RATE_INTERVAL) -> str:
    """A panel's query as Grafana would send it, with everything chosen."""
    for name, value in (("$__rate_interval", rate_interval), ("$job", ".+"), ("$instance", ".+")):
        expr = expr.replace(name, value)
    return expr


def _status(
    port: int, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST" if body else "GET", path, body, dict(headers or {}))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _until(what: str, holds: Any) -> None:
    deadline = time.monotonic() + READY_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not ready after {READY_S:.0f} s")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
