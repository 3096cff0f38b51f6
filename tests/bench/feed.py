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
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_connect, ws_create_server

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.adapters.server_process import free_ports
from tests.feed.feed_venue import FeedVenue, feed_venue
from tests.reliability.readers import Readers, percentile, run

PAUSE_S = 0.002
FRAME_BYTES = 80


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


def sizes(venue: FeedVenue) -> dict[str, float]:
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
                for number in range(40):
                    maker.placed(symbol, "sell", "1.5", f"50000.{10 + number}")
                    taker.placed(symbol, "buy", "1.5", f"50000.{10 + number}")
                lengths = []
                for message in iter(lambda: client.recv(0.5), None):
                    updates = isinstance(message, bytes) or '"type":"delta"' in message
                    lengths += [len(message)] if updates else []
                    if len(lengths) == 40:
                        break
            found[f"{name} {protocol}"] = sum(lengths) / len(lengths)
    return found


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
