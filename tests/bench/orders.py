"""Single orders over HTTP, beside a Go service that does less, and beside a handler that does nothing.

Ours, the peer and the floor have the last CPU in turn, wrk (and `history`, as on a client's machine it would
not be) the first; whoever is not measured is stopped. Ratios are of the same round.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.adapters.server_process import free_ports
from tests.bench.compare import HOST, Measured, peers_token, start_peer, wrk
from tests.bench.processes import cpu_s, cpus, floor_server, pinned_venue, stopped
from tests.bench.promise import Bench

PROMISES = {
    16: {"requests_per_s": 1.8, "p50": 0.5, "p99": 0.3},
    1: {"p50": 0.5},
}
UNITS = {"requests_per_s": "requests/s", "p50": "p50 µs", "p99": "p99 µs"}


def measure(bench: Bench) -> None:
    rounds, seconds = bench.sized(5, 1, "ROUNDS"), bench.sized(4, 1, "SECONDS_EACH")
    others, engines = cpus()
    first = min(others)
    with tempfile.TemporaryDirectory(prefix="orders-") as place, floor_server() as (floor_port, floor_pid):
        folder = Path(place)
        (port,) = free_ports(1)
        bench.tell("building the peer")
        peer = start_peer(folder, port, min(engines))
        try:
            for connections, promised in PROMISES.items():
                # Alone at one connection, the engine polls; with sixteen it always finds something to do.
                spin = "always" if connections == 1 else "never"
                place_of = folder / f"spin-{spin}"
                with pinned_venue(place_of, ("engine", "history"), spin=spin) as venue:
                    engine = venue.processes["engine"].pid
                    token = venue.token("demo", ttl_s=36_000)
                    sides = {
                        "ours": (venue.ports["port"], token, engine),
                        "peer": (port, peers_token(), peer.pid),
                        "floor": (floor_port, "none", floor_pid),
                    }
                    runs: dict[str, list[Measured]] = {name: [] for name in sides}
                    cpu_us: dict[str, list[float]] = {name: [] for name in sides}
                    for number in range(rounds):
                        bench.tell(f"{connections} connections, round {number + 1} of {rounds}")
                        for name, (at, bearer, pid) in sides.items():
                            with stopped([other for _, _, other in sides.values() if other != pid]):
                                before = cpu_s(pid)
                                run = wrk(f"http://{HOST}:{at}", bearer, seconds, connections, first)
                                spent = cpu_s(pid) - before
                            runs[name].append(run)
                            cpu_us[name].append(1e6 * spent / (run.requests_per_s * seconds))
                _tell_of(bench, connections, promised, runs, cpu_us, f"REST, `process`, spin {spin}, "
                         f"{connections} connections, {rounds} rounds of {seconds} s in turn")  # fmt: skip
        finally:
            peer.terminate()
            peer.wait()


def _tell_of(
    bench: Bench,
    connections: int,
    promised: dict[str, float],
    runs: dict[str, list[Measured]],
    cpu_us: dict[str, list[float]],
    conditions: str,
) -> None:
    ours_us, peer_us, floor_us = (median(cpu_us[side]) for side in ("ours", "peer", "floor"))
    cpu = f"CPU of an order {ours_us:.0f} µs against {peer_us:.0f}, of the empty handler {floor_us:.0f}"
    if connections == 1:
        cpu = "the engine's CPU time while it polls says nothing"
    for name, bound in promised.items():
        pairs = [
            (getattr(ours, name), getattr(peer, name))
            for ours, peer in zip(runs["ours"], runs["peer"], strict=True)
        ]
        mine, others = (median(values) for values in zip(*pairs, strict=True))
        add = bench.at_least if name == "requests_per_s" else bench.at_most
        add(
            f"an order beside the Go peer, {connections} connections: {UNITS[name]}",
            bound,
            "×",
            [ours / peer for ours, peer in pairs],
            f"{conditions}: {mine:,.0f} against {others:,.0f}; {cpu}",
            relative=True,
        )
    bench.found.figures[f"{connections} connections, of each round"] = {
        side: [
            {
                "requests_per_s": run.requests_per_s,
                "p50_us": run.p50,
                "p99_us": run.p99,
                "cpu_us_a_request": round(cpu, 1),
            }
            for run, cpu in zip(side_runs, cpu_us[side], strict=True)
        ]
        for side, side_runs in runs.items()
    }
    bench.found.figures[f"{connections} connections, above the empty handler"] = {
        "p50_us": median(run.p50 for run in runs["ours"]) - median(run.p50 for run in runs["floor"]),
        "cpu_us_a_request": round(ours_us - floor_us, 1),
        "note": "the engine's CPU time while it spins says nothing" if connections == 1 else "",
    }
