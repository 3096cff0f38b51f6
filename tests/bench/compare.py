"""`make compare`: this venue beside the Go peer of tests/bench/peer, each on the last CPU, wrk on the first.

Rounds alternate, so that a machine that drifts is no advantage for either. The engine is stopped while the
peer is measured, so that a busy-polling one does not eat the peer's CPU. What counts are ratios of medians in
one run; absolute figures are the machine's. The peer does less: no risk, idempotency, events or recovery.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from loadtests.slo.venue import HOST, free_ports, running_venue

PEER = Path(__file__).parent / "peer"
BUILD = Path(__file__).parents[2] / "build"
KEY = "peer-key-of-thirty-two-bytes-long"
UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}


class Measured(Struct, frozen=True):
    """One run of wrk; times in microseconds."""

    requests_per_s: float
    p50: float
    p99: float


def wrk(url: str, token: str, seconds: int, connections: int, cpu: int) -> Measured:
    """Send the orders of orders.lua. Raises SystemExit if an answer was not 2xx: nothing is compared then."""
    load = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(PEER / "orders.lua"),
        url,
    ]
    said = subprocess.run(
        ["taskset", "-c", str(cpu), *load],
        env={**os.environ, "TOKEN": token},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"not every answer of {url} was right, so there is nothing to compare:\n{said}")
    times = {percent: float(value) * UNITS_US[unit] for percent, value, unit
             in re.findall(r"^ +(50|99)% +([0-9.]+)(us|ms|s) *$", said, re.M)}  # fmt: skip
    rate = re.search(r"^Requests/sec: +([0-9.]+)", said, re.M)
    assert rate and set(times) == {"50", "99"}, said
    return Measured(float(rate[1]), times["50"], times["99"])


def peers_token() -> str:
    def text(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    claims = {"sub": "t1", "exp": int(time.time()) + 86_400}
    signed = (
        f"{text(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{text(json.dumps(claims).encode())}"
    )
    return f"{signed}.{text(hmac.new(KEY.encode(), signed.encode(), hashlib.sha256).digest())}"


def start_peer(folder: Path, port: int, cpu: int) -> subprocess.Popen[bytes]:
    # Where Go finds it again, and leaves it if it is current.
    BUILD.mkdir(exist_ok=True)
    program = BUILD / "peer"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=PEER, check=True)
    process = subprocess.Popen(
        ["taskset", "-c", str(cpu), str(program), str(port), str(folder / "peer.db")],
        env={**os.environ, "PEER_JWT_KEY": KEY, "GOMAXPROCS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=1).close()
            return process
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise SystemExit("the peer does not answer")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make compare", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    chosen = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("two CPUs are needed: one for the server, one for wrk")
    ours: list[Measured] = []
    peers: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="compare-") as place:
        folder = Path(place)
        (port,) = free_ports(1)
        print("Building the peer …", file=sys.stderr)
        peer = start_peer(folder, port, cpus[-1])
        try:
            with running_venue(folder, None, ("engine", "history")) as venue:
                engine = venue.processes["engine"].pid
                for number in range(chosen.rounds):
                    print(f"Round {number + 1} of {chosen.rounds} …", file=sys.stderr)
                    how = (chosen.seconds, chosen.connections, cpus[0])
                    ours.append(wrk(venue.url, venue.token, *how))
                    os.kill(engine, signal.SIGSTOP)
                    try:
                        peers.append(wrk(f"http://{HOST}:{port}", peers_token(), *how))
                    finally:
                        os.kill(engine, signal.SIGCONT)
        finally:
            peer.terminate()
            peer.wait()
    show(
        ours,
        peers,
        f"{chosen.connections} connections, {chosen.rounds} rounds of {chosen.seconds} s, medians",
    )
    return 0


def show(ours: list[Measured], peers: list[Measured], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("", "tradsys", "Go + Gin + SQLite", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name, unit in (("requests_per_s", "requests/s"), ("p50", "p50, µs"), ("p99", "p99, µs")):
        mine, other = (statistics.median(getattr(one, name) for one in side) for side in (ours, peers))
        table.add_row(unit, f"{mine:,.0f}", f"{other:,.0f}", f"{mine / other:.2f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
