"""From an event to its clients, beside a floor: what the feed adds, by number of clients; bytes an update.

    python tests/bench/feed.py [CLIENTS …] [--orders 300] [--sizes]

The venue runs in processes of its own. Orders are placed one by one, 2 ms after the answer to the one before.
Each changes one level of a book of depth 10; the delay is from the engine's time of the order until a client
has its frame, of all clients. The floor is a picows server in a process of its own that sends a frame of the
same size to as many clients when bytes come through a FIFO, as the engine's waking does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_connect, ws_create_server

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.adapters.server_process import free_ports
from tests.bench.processes import pinned_venue
from tests.bench.promise import Bench, Line, Plot
from tests.bench.sender import offer, request
from tests.feed.feed_venue import FeedVenue, feed_venue
from tests.reliability.readers import Readers, percentile, resident_bytes, run

PAUSE_S = 0.002
FRAME_BYTES = 80
RATE = 500
"""Orders a second while many read: what one feed can tell all of them one by one, without conflating much."""


def floor_server(port: int, pipe: str) -> None:
    """Sends a frame with the time in it to everybody, each time a byte comes."""

    async def serve() -> None:
        clients: list[WSTransport] = []

        class Client(WSListener):
            def on_ws_connected(self, transport: WSTransport) -> None:
                clients.append(transport)

        def welcome(request: WSUpgradeRequest) -> WSListener:
            return Client()

        handle = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)

        def rung() -> None:
            message = os.read(handle, 4096)[:8] + bytes(FRAME_BYTES - 8)
            for client in clients:
                client.send(WSMsgType.BINARY, message)

        asyncio.get_running_loop().add_reader(handle, rung)
        server = await ws_create_server(welcome, "127.0.0.1", port)
        await server.serve_forever()

    run(serve())


async def floor(count: int, orders: int, directory: Path) -> list[int]:
    (port,) = free_ports(1)
    pipe = str(directory / f"floor-{count}")
    os.mkfifo(pipe)
    delays: list[int] = []

    class Client(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            sent = int.from_bytes(frame.get_payload_as_memoryview()[:8], "little")
            delays.append(time.time_ns() - sent)

    server = subprocess.Popen([sys.executable, __file__, "--floor", str(port), pipe])
    try:
        clients: list[WSTransport] = []
        while len(clients) < count:
            try:
                transport, _ = await ws_connect(Client, f"ws://127.0.0.1:{port}/ws")
                clients.append(transport)
            except OSError:
                await asyncio.sleep(0.05)
        writer = os.open(pipe, os.O_WRONLY)
        for _ in range(orders):
            os.write(writer, time.time_ns().to_bytes(8, "little"))
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(0.5)
        for transport in clients:
            transport.disconnect()
    finally:
        server.terminate()
        server.wait()
    return delays


async def venue_delays(venue: FeedVenue, count: int, orders: int) -> tuple[list[int], float, float]:
    """(delays in ns, frames a second of the feed's CPU, its CPU time an order in µs)"""
    symbol = venue.market()
    trader = venue.account(mode="limits")
    readers = Readers(venue.ws_port, symbol, count)
    await readers.connect()
    before = cpu_s(venue.processes["feed"].pid)
    last = 0
    for number in range(orders):
        price, quantity = f"{100 + number % 10}", f"{1 + number % 7}"
        last = (await asyncio.to_thread(trader.placed, symbol, "buy", quantity, price))["seq"]
        await asyncio.sleep(PAUSE_S)
    await readers.until_at(last, 60)
    spent = cpu_s(venue.processes["feed"].pid) - before
    frames = sum(reader.frames for reader in readers.readers)
    readers.close()
    return readers.delays, frames / spent if spent else 0, spent / orders * 1e6


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sizes(venue: FeedVenue, updates: int = 40) -> dict[str, float]:
    """Mean payload bytes of an update, by channel and form."""
    found: dict[str, float] = {}
    for protocol in ("tradsys.json.v1", "tradsys.bin.v1", "tradsys.bin.v2"):
        for name in ("price", "trades", "book"):
            symbol = venue.market()
            maker, taker = venue.account(mode="limits"), venue.account(mode="limits")
            with venue.connection(protocol) as client:
                client.send(
                    f'{{"op":"subscribe","id":1,"channels":[{{"name":"{name}","symbols":["{symbol}"]}}]}}'
                )
                client.recv()
                for number in range(updates):
                    maker.placed(symbol, "sell", "1.5", f"50000.{10 + number}")
                    taker.placed(symbol, "buy", "1.5", f"50000.{10 + number}")
                lengths = []
                with contextlib.suppress(TimeoutError):
                    while len(lengths) < updates:
                        message = client.recv(0.5)
                        if isinstance(message, bytes) or '"type":"delta"' in message:
                            lengths.append(len(message))
            # On a slow machine an order that rests and is taken within a turn is no update at all.
            if lengths:
                found[f"{name} {protocol}"] = sum(lengths) / len(lengths)
    return found


def measure(bench: Bench) -> None:
    """The part `websocket`: delay beside the floor, bytes, and what readers cost those who trade."""
    orders = bench.sized(500, 20)
    counts = [1, 10] if bench.smoke else [1, 10, 100, 1000]
    many = bench.sized(10_000, 20, "CLIENTS")
    with (
        tempfile.TemporaryDirectory(prefix="feed-") as name,
        pinned_venue(Path(name), ("engine", "history", "feed"), max_connections=many + 100) as venue,
    ):
        assert isinstance(venue, FeedVenue)
        lines = {"floor p50": [], "floor p99": [], "feed p50": [], "feed p99": []}
        for count in counts:
            bench.tell(f"{count} clients, {orders} orders")
            bare = run(floor(count, orders, Path(name)))
            delays, rate, cost = run(venue_delays(venue, count, orders))
            row = [percentile(values, share) / 1000 for values in (bare, delays) for share in (0.5, 0.99)]
            for line, value in zip(lines.values(), row, strict=True):
                line.append(value)
            bench.found.figures[f"{count} clients"] = dict(zip(lines, row, strict=True)) | {
                "frames_a_second_of_the_feeds_cpu": round(rate),
                "feeds_cpu_us_an_order": round(cost),
            }
            if count in (1, 10):
                bench.at_most(
                    f"event to client, {count} subscribers: p99", 50, "µs", [row[3]],
                    f"engine's time of the order until the frame is read, bin.v2, `process`, {orders} orders "
                    f"one by one; p50 {row[2]:.0f}; floor p50 {row[0]:.0f}, p99 {row[1]:.0f}",
                )  # fmt: skip
        bench.found.plots.append(
            Plot("Event to client by number of clients", "clients", "µs",
                 [Line(key, [float(count) for count in counts], line) for key, line in lines.items()],
                 log_x=True, log_y=True)
        )  # fmt: skip
        bench.tell("bytes of an update")
        found = sizes(venue, bench.sized(40, 5))
        bench.found.figures["bytes of an update"] = found
        for channel in ("price", "trades", "book"):
            text, frame = (found.get(f"{channel} tradsys.{form}", 0) for form in ("json.v1", "bin.v2"))
            if not text or not frame:
                continue
            bench.at_least(
                f"bandwidth that the binary protocol saves on `{channel}`",
                40, "%", [100 * (1 - frame / text)],
                f"payload of one update, bin.v2 {frame:.0f} bytes, JSON {text:.0f}; counted, not timed",
                relative=True, by_clock=False,
            )  # fmt: skip
        bench.tell(f"{many:,} readers beside orders")
        _beside_readers(bench, venue, many, 5 if not bench.smoke else 1)


def _beside_readers(bench: Bench, venue: FeedVenue, many: int, seconds: int) -> None:
    """The p99 of orders with nobody, with everybody, and with nobody again."""
    symbol = venue.market()
    trader = venue.account(mode="limits")
    bodies = [
        f'{{"symbol":"{symbol}","side":"{side}","type":"limit",'
        f'"quantity":"{1 + i % 7}","price":"{100 + i % 10}"}}'
        for i in range(100)
        for side in ("buy", "sell")
    ]
    requests = [request("POST", "/orders", trader.token, body.encode()) for body in bodies]

    def p99() -> float:
        return offer(venue.ports["port"], requests, RATE, seconds, 8).us(99)

    async def watched() -> tuple[float, list[float]]:
        pid = venue.processes["feed"].pid
        before = resident_bytes(pid)
        readers = Readers(venue.ws_port, symbol, many)
        await readers.connect()
        each = (resident_bytes(pid) - before) / many / 1024
        bench.tell(f"{many:,} are connected, {each:.1f} KiB each")
        found = await asyncio.to_thread(p99)
        last = (await asyncio.to_thread(trader.placed, symbol, "buy", "1", "50"))["seq"]
        began = time.monotonic()
        await readers.until_at(last, 60)
        behind = time.monotonic() - began
        ended = sum(reader.ended for reader in readers.readers)
        readers.close()
        return found, [each, behind, ended]

    # The first orders of a venue are slow: nothing is in a cache yet.
    p99()
    alone = p99()
    with_all, (each, behind, ended) = run(watched())
    again = p99()
    bench.at_most(
        f"order p99 beside {many:,} readers, over that without",
        1.2, "×", [with_all / alone, with_all / again],
        f"REST, `process`, open loop of {RATE}/s, {seconds} s; {alone:,.0f} and {again:,.0f} µs without, "
        f"{with_all:,.0f} with; the readers share a CPU with the feed and the sender",
        relative=True,
    )  # fmt: skip
    bench.at_most(
        f"memory of a WebSocket connection, {many:,} of them", 32, "KiB", [each],
        f"resident memory of the feed, each subscribed to a book of depth 10, bin.v2; {ended:.0f} fell away, "
        f"the last one had the last order {behind:.2f} s after it",
        relative=True, by_clock=False,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clients", nargs="*", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--floor", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", action="store_true", help="bytes an update, too")
    given = parser.parse_args()
    if given.floor:
        floor_server(int(given.floor[0]), given.floor[1])
        return
    with tempfile.TemporaryDirectory() as name, feed_venue(Path(name)) as venue:
        print(f"load average {os.getloadavg()[0]:.1f}; {given.orders} orders a row; delays in µs")
        heads = ("clients", "floor p50", "p99", "feed p50", "p99", "frames/CPU s", "CPU µs/order")
        print("".join(f"{head:>14}" for head in heads))
        for count in given.clients:
            bare = run(floor(count, given.orders, Path(name)))
            delays, rate, cost = run(venue_delays(venue, count, given.orders))
            row = [percentile(values, share) / 1000 for values in (bare, delays) for share in (0.5, 0.99)]
            print("".join(f"{value:>14.0f}" for value in (count, *row, rate, cost)), flush=True)
        if given.sizes:
            for what, size in sizes(venue).items():
                print(f"{what:<32}{size:>8.0f} bytes an update")


if __name__ == "__main__":
    main()
