"""From an event to its clients, beside a floor: what the feed adds, by number of clients; bytes an update.

    python tests/bench/feed.py [CLIENTS …] [--orders 1000] [--engine] [--sizes]

The venue runs in processes of its own, and so does who sends orders: one each 2 ms, which looks at the answer
only before the next one, so that nobody but the feed and its clients is awake when an event comes to them.
Each order changes one level of a book of depth 10. A delay counts from the engine's time of the order, taken
when its request is there, until a client has its frame; "behind the answer" is what is left of it when the
engine's own time for the order (X-Engine-Us) is taken off.

The floor is a plain picows server in a process of its own, which sends the same frame (a header, the book's
record, one level: 64 bytes) to as many clients when eight bytes come through a FIFO, as the engine's waking
does. Venue and floor take turns, ROUNDS of each, with all their clients connected all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from msgspec import Struct, field
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.adapters.server_process import free_ports
from tests.api.venue_process import with_us
from tests.bench.processes import pinned_venue
from tests.bench.promise import Bench, Line, Plot
from tests.bench.sender import Lane, drive, offer, request
from tests.feed.feed_venue import FeedVenue
from tests.reliability.readers import BOOK, HEADER, Readers, beside, percentile, resident_bytes, run

PAUSE_S = 0.002
ROUNDS = 4
LEVEL = bytes(16)
DELTA, SNAPSHOT = 0, 2
RATE = 500
"""Orders a second while many read: what one feed can tell all of them one by one, without conflating much."""
FLOOD_CONNECTIONS = 16
_ENGINE_US = re.compile(rb"\r\nx-engine-us: *([0-9]+)\r\n", re.I)
_SEQ = re.compile(rb"\r\nx-seq: *([0-9]+)\r\n", re.I)


# --- the floor ------------------------------------------------------------------------------------------


def floor_server(port: int, pipe: str) -> None:
    """Sends a frame with the time in it to everybody, each time a time comes."""

    async def serve() -> None:
        clients: list[WSTransport] = []
        sent = 0

        def frame(flags: int, time_ns: int) -> bytes:
            record = BOOK.pack(1, sent, time_ns, 0) + b"\x01\0\0\0"
            return HEADER.pack(3, flags, len(record) + len(LEVEL), 1, sent) + record + LEVEL

        class Client(WSListener):
            def on_ws_frame(self, transport: WSTransport, asked: WSFrame) -> None:
                if asked.msg_type != WSMsgType.TEXT:
                    return
                clients.append(transport)
                transport.send(WSMsgType.BINARY, frame(SNAPSHOT, 0))

        def welcome(request: WSUpgradeRequest) -> WSListener:
            return Client()

        handle = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)

        def rung() -> None:
            nonlocal sent
            sent += 1
            message = frame(DELTA, int.from_bytes(os.read(handle, 4096)[-8:], "little"))
            for client in clients:
                client.send(WSMsgType.BINARY, message)

        asyncio.get_running_loop().add_reader(handle, rung)
        server = await ws_create_server(welcome, "127.0.0.1", port)
        await server.serve_forever()

    run(serve())


class Floor(Struct):
    pid: int
    pipe: str
    readers: Readers


@contextlib.asynccontextmanager
async def floor(count: int, directory: Path) -> AsyncIterator[Floor]:
    (port,) = free_ports(1)
    pipe = str(directory / f"floor-{port}")
    os.mkfifo(pipe)
    process = subprocess.Popen([*with_us(), sys.executable, __file__, "--floor", str(port), pipe])
    readers = Readers(port, "", count)
    try:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            await asyncio.sleep(0.05)
        await readers.connect()
        yield Floor(process.pid, pipe, readers)
        readers.close()
    finally:
        process.kill()
        process.wait()


# --- what a process beside this one sends ---------------------------------------------------------------


def ring(pipe: str, count: int) -> None:
    """Times into a FIFO, at even distances."""
    handle = os.open(pipe, os.O_WRONLY)
    for _ in range(count):
        time.sleep(PAUSE_S)
        os.write(handle, time.time_ns().to_bytes(8, "little"))
    os.close(handle)


def pace(port: int, requests: Sequence[bytes], count: int) -> dict[int, int]:
    """Orders one by one: the engine's own time for each in µs, by seq."""
    took: dict[int, int] = {}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(count):
            connection.sendall(requests[number % len(requests)])
            time.sleep(PAUSE_S)
            answer = connection.recv(1 << 16)
            us, seq = _ENGINE_US.search(answer), _SEQ.search(answer)
            assert answer.startswith(b"HTTP/1.1 200") and us and seq, answer
            took[int(seq[1])] = int(us[1])
    return took


def flood(port: int, requests: Sequence[bytes], seconds: float) -> tuple[int, float]:
    """As many orders as the engine takes over a few connections: (orders, seconds)."""

    def lane(first: int) -> Lane:
        number = first
        while True:
            number += 1
            yield requests[number % len(requests)]

    def begun(first: int) -> tuple[bytes, Lane]:
        one = lane(first)
        return next(one), one

    return drive(port, [begun(n) for n in range(FLOOD_CONNECTIONS)], seconds)


def cpu_ns(pid: int) -> int:
    """Time on a CPU so far, of all threads."""
    return sum(
        int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()
    )


# --- one number of clients ------------------------------------------------------------------------------


class Delays(Struct):
    """Of one number of clients, ns unless a name says otherwise."""

    feed: list[int] = field(default_factory=list)
    floor: list[int] = field(default_factory=list)
    behind_answer: list[int] = field(default_factory=list)
    """Of the last client."""
    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    feed_cpu: int = 0
    floor_cpu: int = 0
    frames: int = 0
    floor_frames: int = 0
    flood_frames_s: float = 0
    flood_orders_s: float = 0

    def us(self) -> dict[str, float]:
        return {
            f"{name} p{share * 100:.0f}": percentile(values, share) / 1000
            for name, values in (
                ("floor", self.floor),
                ("feed", self.feed),
                ("behind the answer", self.behind_answer),
            )
            for share in (0.5, 0.99)
        }

    def figures(self, orders: int) -> dict[str, float]:
        return self.us() | {
            "feed_cpu_us_an_order": self.feed_cpu / orders / 1000,
            "floor_cpu_us_an_event": self.floor_cpu / orders / 1000,
            "frames_a_second_of_the_feeds_cpu": round(self.frames / max(1, self.feed_cpu) * 1e9),
            "frames_a_second_of_the_floors_cpu": round(self.floor_frames / max(1, self.floor_cpu) * 1e9),
            "first client p50": percentile(self.first, 0.5) / 1000,
            "last client p99": percentile(self.last, 0.99) / 1000,
            "flood_orders_a_second": round(self.flood_orders_s),
            "flood_frames_a_second": round(self.flood_frames_s),
        }


def order_requests(symbol: str, token: str) -> list[bytes]:
    """Each changes one level of ten."""
    return [
        request(
            "POST", "/orders", token,
            f'{{"symbol":"{symbol}","side":"buy","type":"limit","quantity":"{1 + n % 7}",'
            f'"price":"{100 + n % 10}"}}'.encode(),
        )
        for n in range(70)
    ]  # fmt: skip


async def delays(venue: FeedVenue, directory: Path, count: int, orders: int, flood_s: float) -> Delays:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    requests = order_requests(symbol, trader.token)
    readers = Readers(venue.ws_port, symbol, count)
    found = Delays()
    loop, pid, each = asyncio.get_running_loop(), venue.processes["feed"].pid, max(1, orders // ROUNDS)
    with beside() as sender:
        async with floor(count, directory) as bare:
            await readers.connect()
            await loop.run_in_executor(sender, pace, venue.ports["port"], requests, len(requests))
            await loop.run_in_executor(sender, ring, bare.pipe, len(requests))
            await asyncio.sleep(0.2)
            readers.heard.clear()
            bare.readers.heard.clear()
            for _ in range(ROUNDS):
                before, frames = cpu_ns(bare.pid), len(bare.readers.heard.delays)
                await loop.run_in_executor(sender, ring, bare.pipe, each)
                await asyncio.sleep(0.1)
                found.floor_cpu += cpu_ns(bare.pid) - before
                found.floor_frames += len(bare.readers.heard.delays) - frames
                before, frames = cpu_ns(pid), len(readers.heard.delays)
                took = await loop.run_in_executor(sender, pace, venue.ports["port"], requests, each)
                await readers.until_at(max(took), 60)
                found.feed_cpu += cpu_ns(pid) - before
                found.frames += len(readers.heard.delays) - frames
                found.behind_answer += [
                    ends[1] - took[seq] * 1000 for seq, ends in readers.heard.spread.items() if seq in took
                ]
            found.feed, found.floor = list(readers.heard.delays), bare.readers.heard.delays
            found.first, found.last = map(list, zip(*readers.heard.spread.values(), strict=True))
            began, frames = time.monotonic(), len(readers.heard.delays)
            answered, took_s = await loop.run_in_executor(
                sender, flood, venue.ports["port"], requests, flood_s
            )
            found.flood_orders_s = answered / took_s
            found.flood_frames_s = (len(readers.heard.delays) - frames) / (time.monotonic() - began)
            readers.close()
    return found


async def cost_to_the_engine(venue: FeedVenue, rounds: int, orders: int, flood_s: float) -> dict[str, float]:
    """The engine's CPU time an order in µs, without the feed and with the feed and one subscriber, in turn.

    Without: the feed is stopped while it sleeps. It has been rung for already and is not rung for again.
    """
    symbol, trader = venue.market(), venue.account(mode="limits")
    requests = order_requests(symbol, trader.token)
    engine, feed = (venue.processes[name].pid for name in ("engine", "feed"))
    port, loop = venue.ports["port"], asyncio.get_running_loop()
    readers = Readers(venue.ws_port, symbol, 1)
    await readers.connect()
    found: dict[str, list[float]] = {}

    async def caught_up() -> None:
        # A few floods have as many orders as an account may leave open.
        await asyncio.to_thread(trader.delete, "/orders")
        while (await asyncio.to_thread(trader.get, "/orders?limit=1")).json["items"]:
            await asyncio.sleep(0.05)
        last = await asyncio.to_thread(trader.placed, symbol, "buy", "1", "110")
        await readers.until_at(last["seq"], 60)
        await asyncio.to_thread(trader.delete, f"/orders/{last['order_id']}")
        await asyncio.sleep(0.1)

    with beside() as sender:
        await loop.run_in_executor(sender, flood, port, requests, flood_s)
        for turn in range(2 * rounds):
            for followed in (bool(turn % 2), not turn % 2):
                await caught_up()
                if not followed:
                    os.kill(feed, signal.SIGSTOP)
                which = "with" if followed else "without"
                before = cpu_ns(engine)
                await loop.run_in_executor(sender, pace, port, requests, orders)
                took = (cpu_ns(engine) - before) / orders / 1000
                found.setdefault(f"one by one, {which}", []).append(took)
                before = cpu_ns(engine)
                count, _ = await loop.run_in_executor(sender, flood, port, requests, flood_s)
                took = (cpu_ns(engine) - before) / count / 1000
                found.setdefault(f"{FLOOD_CONNECTIONS} connections, {which}", []).append(took)
                os.kill(feed, signal.SIGCONT)
    readers.close()
    return {key: statistics.median(values) for key, values in sorted(found.items())}


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
    orders = bench.sized(1000, 20)
    counts = [1, 10] if bench.smoke else [1, 10, 100, 1000]
    many = bench.sized(10_000, 20, "CLIENTS")
    with (
        tempfile.TemporaryDirectory(prefix="feed-") as name,
        pinned_venue(Path(name), ("engine", "history", "feed"), max_connections=many + 100) as venue,
    ):
        assert isinstance(venue, FeedVenue)
        lines: dict[str, list[float]] = {}
        for count in counts:
            bench.tell(f"{count} clients, {orders} orders")
            found = run(delays(venue, Path(name), count, orders, 0.2 if bench.smoke else 2))
            us = found.us()
            for key, value in us.items():
                lines.setdefault(key, []).append(value)
            bench.found.figures[f"{count} clients"] = found.figures(orders)
            if count in (1, 10):
                bench.at_most(
                    f"event to client, {count} subscribers: p99", 50, "µs", [us["feed p99"]],
                    f"engine's time of the order until the frame is read, bin.v2, `process`, {orders} orders "
                    f"one by one; p50 {us['feed p50']:.0f}, of it {us['behind the answer p50']:.0f} behind "
                    f"the answer; floor p50 {us['floor p50']:.0f}, p99 {us['floor p99']:.0f}",
                )  # fmt: skip
        bench.found.plots.append(
            Plot("Event to client by number of clients", "clients", "µs",
                 [Line(key, [float(count) for count in counts], line) for key, line in lines.items()],
                 log_x=True, log_y=True)
        )  # fmt: skip
        bench.tell("what it costs the engine")
        bench.found.figures["engine's CPU an order, without the feed and with it, µs"] = run(
            cost_to_the_engine(venue, bench.sized(4, 1), bench.sized(500, 20), 0.2 if bench.smoke else 1)
        )
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
        return sender.submit(offer, venue.ports["port"], requests, RATE, seconds, 8).result().us(99)

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
        ends = list(zip(*readers.heard.spread.values(), strict=True))
        bench.found.figures[f"{many} readers"] = {
            f"{which} reader p{share * 100:.0f}, ms": percentile(values, share) / 1e6
            for which, values in zip(("first", "last"), ends, strict=True)
            for share in (0.5, 0.99)
        } | {"changes": len(readers.heard.spread), "frames": len(readers.heard.delays)}
        readers.close()
        return found, [each, behind, ended]

    with beside() as sender:
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
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--floor", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--engine", action="store_true", help="what the feed costs the engine, too")
    parser.add_argument("--sizes", action="store_true", help="bytes an update, too")
    given = parser.parse_args()
    if given.floor:
        floor_server(int(given.floor[0]), given.floor[1])
        return
    with (
        tempfile.TemporaryDirectory() as name,
        pinned_venue(Path(name), ("engine", "history", "feed")) as venue,
    ):
        assert isinstance(venue, FeedVenue)
        print(f"load average {os.getloadavg()[0]:.1f}; {given.orders} orders a row")
        for count in given.clients:
            found = run(delays(venue, Path(name), count, given.orders, 1))
            print(f"{count} clients")
            for what, value in found.figures(given.orders).items():
                print(f"  {what:<36}{value:>14,.1f}", flush=True)
        if given.engine:
            for what, us in run(cost_to_the_engine(venue, 4, given.orders, 1)).items():
                print(f"{what:<32}{us:>8.1f} µs of the engine's CPU an order")
        if given.sizes:
            for what, size in sizes(venue).items():
                print(f"{what:<32}{size:>8.0f} bytes an update")


if __name__ == "__main__":
    main()
