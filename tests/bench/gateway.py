"""What gRPC costs beside the pool: connections, unary calls, streams, and how well batches fill.

    python tests/bench/gateway.py [SECONDS]

Starts a venue of its own (engine, history, gateway) on loopback. Each row runs for so many seconds (3). The
result is JSON, for ledger.md with its conditions.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.api.venue_process import RunningVenue
from tests.bench.processes import pinned_venue
from tests.bench.promise import Bench
from tradsys.client.pool import CHANNEL_OPTIONS, AsyncOrderPool, OrderPool
from tradsys.v1 import orders_pb2 as pb

CONNECTIONS = 200
IN_FLIGHT = (1, 16, 64)
STREAM_COMMANDS = (1, 100, 500)


def percentiles(samples_s: list[float]) -> dict[str, float]:
    ordered = sorted(samples_s)
    return {
        "p50_us": round(ordered[len(ordered) // 2] * 1e6),
        "p99_us": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e6),
    }


async def establishing(target: str, connections: int) -> dict[str, float]:
    """A new channel until it is ready to be called, one after the other.

    With asyncio: the blocking API looks at a channel's state only every 200 ms.
    """
    samples = []
    for _ in range(connections):
        began = time.perf_counter()
        channel = grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
        await channel.channel_ready()
        samples.append(time.perf_counter() - began)
        await channel.close()
    return percentiles(samples) | {"mean_us": round(statistics.mean(samples) * 1e6)}


def repeated(seconds: float, once: Callable[[], Any]) -> dict[str, float]:
    samples = []
    ends = time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends:
        once()
        samples.append(time.perf_counter() - began)
    return percentiles(samples) | {"per_s": round(len(samples) / sum(samples))}


def pool_against_none(target: str, token: str, order: pb.PlaceOrderRequest, seconds: float) -> dict[str, Any]:
    """The same order again and again, so that the venue's own work is the same small look-up."""

    def connecting() -> None:
        # Not `with`: waiting until it is ready takes longer than the first call does.
        one = OrderPool(target, token, channels=1, patience_s=0)
        one.place(order)
        one.close()

    with OrderPool(target, token, patience_s=0) as pool:
        rounds: dict[str, list[dict[str, float]]] = {"pool": [], "a connection per call": []}
        for _ in range(3):
            rounds["pool"].append(repeated(seconds / 3, lambda: pool.place(order)))
            rounds["a connection per call"].append(repeated(seconds / 3, connecting))
    best = {name: max(rows, key=lambda row: row["per_s"]) for name, rows in rounds.items()}
    both = [best[name]["p50_us"] for name in rounds]
    return {**best, "pool_is_faster_by_percent": round(100 * (1 - both[0] / both[1]))}


async def unary(target: str, token: str, order: pb.PlaceOrderRequest, in_flight: int, seconds: float) -> Any:
    samples: list[float] = []
    ends = time.perf_counter() + seconds
    async with AsyncOrderPool(target, token, patience_s=0) as pool:

        async def one() -> None:
            while (began := time.perf_counter()) < ends:
                fresh = pb.PlaceOrderRequest()
                fresh.CopyFrom(order)
                await pool.place(fresh)
                samples.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(in_flight)))
        took = time.perf_counter() - began
    return percentiles(samples) | {"per_s": round(len(samples) / took)}


def stream(target: str, token: str, order: pb.PlaceOrderRequest, commands: int, seconds: float) -> Any:
    request = pb.TradeRequest(commands=[pb.Command(place=order)] * commands)
    ends = time.perf_counter() + seconds

    def requests() -> Any:
        while time.perf_counter() < ends:
            yield request

    done, began = 0, time.perf_counter()
    with OrderPool(target, token, channels=1) as pool:
        for answer in pool.trade(requests()):
            done += len(answer.outcomes)
    return {"commands_per_s": round(done / (time.perf_counter() - began))}


def batches(venue: RunningVenue) -> tuple[float, float]:
    text = venue.send("GET", "/metrics", port=venue.ports["gateway_ops_port"]).body.decode()
    rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    name = "tradsys_gateway_batch_commands"
    return float(rows[f"{name}_sum"]), float(rows[f"{name}_count"])


def rows_of(
    seconds: float,
    connections: int,
    at_once: Sequence[int] = IN_FLIGHT,
    stream_commands: Sequence[int] = STREAM_COMMANDS,
) -> dict[str, Any]:
    """Each for so many seconds, on a venue of its own."""
    rows: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as place,
        pinned_venue(Path(place), ("engine", "history", "gateway")) as venue,
    ):
        target = f"127.0.0.1:{venue.ports['grpc_port']}"
        market, trader = venue.market(), venue.account("limits")
        # It rests and is far from everything, as most orders do.
        order = pb.PlaceOrderRequest(
            symbol=market, side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT, quantity="1", price="9",
            time_in_force=pb.TIME_IN_FORCE_IOC,
        )  # fmt: skip
        known = pb.PlaceOrderRequest()
        known.CopyFrom(order)
        known.client_order_id = "again"
        rows["establishing a connection"] = asyncio.run(establishing(target, connections))
        rows["one call at a time"] = pool_against_none(target, trader.token, known, seconds)
        for in_flight in at_once:
            before = batches(venue)
            row = asyncio.run(unary(target, trader.token, order, in_flight, seconds))
            after = batches(venue)
            row["commands_per_batch"] = round((after[0] - before[0]) / (after[1] - before[1]), 1)
            rows[f"unary, {in_flight} in flight"] = row
        for commands in stream_commands:
            before = batches(venue)
            row = stream(target, trader.token, order, commands, seconds)
            after = batches(venue)
            row["commands_per_batch"] = round((after[0] - before[0]) / (after[1] - before[1]), 1)
            rows[f"stream, {commands} commands a message"] = row
    return rows


def measure(bench: Bench) -> None:
    """The part `grpc`. Sustained orders over a stream are in `batch`."""
    seconds = 0.2 if bench.smoke else 3.0
    connections = bench.sized(CONNECTIONS, 5)
    bench.tell(f"connections, unary calls and streams, {seconds} s each")
    # A stream of many commands a message has seconds of work under way when its time is over.
    rows = rows_of(seconds, connections, *(((1, 16), (1,)) if bench.smoke else ()))
    made, calls = rows["establishing a connection"], rows["one call at a time"]
    bench.at_most(
        "a gRPC connection until it can be called: p50", 1_000, "µs", [made["p50_us"]],
        f"{connections} in turn, not encrypted, loopback; p99 {made['p99_us']:,}",
    )  # fmt: skip
    pooled, alone = calls["pool"], calls["a connection per call"]
    bench.at_least(
        "what the pool takes off a call", 15, "%", [calls["pool_is_faster_by_percent"]],
        f"p50 of one retried order at a time, through gateway and engine, `process`: {pooled['p50_us']:,} µs "
        f"with the pool, {alone['p50_us']:,} with a connection of its own; 3 rounds in turn",
        relative=True,
    )  # fmt: skip
    bench.found.figures |= rows


def main() -> None:
    print(json.dumps(rows_of(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0, CONNECTIONS), indent=1))


if __name__ == "__main__":
    main()
