"""Batches through the socket, sustained: JSON, binary and a gRPC stream, `process` and `durable`.

The deterministic flow of `tradsys.flow` (half orders, two fifths of the commands cancels), encoded before the
clock starts, in batches of 500 over four connections, each with an account and a market of its own. A cancel
needs the order's id, which the answer before has told; it is put into its place in the body. The engine has
the last CPU; sender, `history` and `gateway` share the others. What a second holds is the engine's if its
CPU was busy; if it was not, the row says who kept it waiting. Each form has a venue of its own: `history`
falls behind such a load, and what one form has left it to do would be done beside the next.
"""

from __future__ import annotations

import queue
import re
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import msgspec
from msgspec import Struct

from tests.api.venue_process import RunningVenue
from tests.bench.processes import cpu_s, pinned_venue, resident_bytes, scrape
from tests.bench.promise import Bench, Line, Plot
from tests.bench.sender import Lane, Strange, drive, request
from tradsys.client.pool import CHANNEL_OPTIONS
from tradsys.client.records import RECORDS_TYPE, cancel_record
from tradsys.codec.binary_v1 import COMMAND, RESULT
from tradsys.flow.commands import Cancel, OrderBody, Place, order_of
from tradsys.flow.model import Model, commands, units_of
from tradsys.flow.send import order_record
from tradsys.v1 import orders_pb2 as pb

LANES = 4
BATCH = 500
PROMISED = {"process": 100_000, "durable": 50_000}
BUSY = 0.9
"""Share of its CPU from which on the engine is what limits the rate."""
GROWTH_MAX = 0.05
"""Of resident memory over the second half of a run: above it memory is not flat."""
KEYS_MAX = 100_000
"""Idempotency keys that the venue keeps, so that its memory is full early in a run instead of after one."""
CATCH_UP_S = 15
"""How long `history` is watched while it catches up; what is left then is told with its rate."""
ID_PREFIX = "c000"
ORDER_ID_OFFSET = 24
"""Of `order` in a record of a command."""
NUMBER = struct.Struct("<q")
ORDER_ID = re.compile(rb'"order_id":"([^"]+)"')
TRADE = "/tradsys.v1.OrderService/Trade"

Place_ = tuple[int, int]
"""Where an order stood: (batch, index in it)."""


class Batch(Struct):
    orders: list[OrderBody]
    cancels: list[Place_]
    """Of earlier batches; they come first."""


class Flow(Struct):
    batches: list[Batch]
    commands: int
    orders: int


def flow_of(seed: int, symbol: str, account: str, count: int) -> Flow:
    """So many commands and then cancels of all that is open, so that it can be sent again and again."""
    model = Model(
        seed=seed, symbol=symbol, accounts=(account,), tick_size=units_of("0.01"), lot_size=units_of("0.001"),
        start_price=5_000_000, typical_lots=1_000, replaces=0, icebergs=0, post_only=0, stops=0,
        id_prefix=ID_PREFIX,
    )  # fmt: skip
    places: dict[str, Place_] = {}
    resting: dict[str, None] = {}
    batches = [Batch([], [])]
    late: list[Place_] = []
    """Cancels of orders of the very batch, whose ids nobody knows yet: they begin the next one."""

    def room() -> Batch:
        nonlocal late
        last = batches[-1]
        if len(last.orders) + len(last.cancels) >= BATCH:
            last = Batch([], late)
            late = []
            batches.append(last)
        return last

    for command in islice(commands(model), count):
        last = room()
        if isinstance(command, Place):
            name = order_of(command)
            places[name] = len(batches) - 1, len(last.orders)
            last.orders.append(command.order)
            if command.order.type == "limit" and command.order.time_in_force != "ioc":
                resting[name] = None
        elif isinstance(command, Cancel):
            name = order_of(command)
            resting.pop(name, None)
            (late if places[name][0] == len(batches) - 1 else last.cancels).append(places[name])
    batches.append(Batch([], late))
    for name in resting:
        room().cancels.append(places[name])
    # Which of them have traded meanwhile is the venue's to say: such a cancel is refused.
    orders = sum(len(batch.orders) for batch in batches)
    return Flow(batches, orders + sum(len(batch.cancels) for batch in batches), orders)


class Told(Struct):
    """What a lane has sent so far."""

    commands: int = 0
    orders: int = 0


def cycles(flow: Flow) -> Iterator[tuple[bytes, list[Any]]]:
    """(what the client order ids of this time round begin with, room for what was answered)"""
    for number in range(1_000):
        yield b"c%03d" % number, [None] * len(flow.batches)


def binary_lane(flow: Flow, token: str, told: Told) -> Lane:
    """Cancels and orders of a batch are one body; the orders' ids are at even distances in the answer."""
    bodies = [
        b"".join([cancel_record(0)] * len(batch.cancels) + [order_record(order) for order in batch.orders])
        for batch in flow.batches
    ]
    heads = [request("POST", "/orders/batch", token, body, RECORDS_TYPE)[: -len(body)] for body in bodies]
    found = RESULT_ORDER_OFFSET
    for prefix, answers in cycles(flow):
        for number, batch in enumerate(flow.batches):
            body = bytearray(bodies[number].replace(ID_PREFIX.encode(), prefix))
            for index, (of, at) in enumerate(batch.cancels):
                ahead = len(flow.batches[of].cancels)
                (order,) = NUMBER.unpack_from(answers[of], (ahead + at) * RESULT.size + found)
                NUMBER.pack_into(body, index * COMMAND.size + ORDER_ID_OFFSET, order)
            answers[number] = yield heads[number] + body
            told.commands += len(batch.cancels) + len(batch.orders)
            told.orders += len(batch.orders)


def json_lane(flow: Flow, token: str, told: Told) -> Lane:
    """A batch is two requests: its cancels, then its orders."""
    bodies = [b'{"orders":' + msgspec.json.encode(batch.orders) + b"}" for batch in flow.batches]
    for prefix, answers in cycles(flow):
        for number, batch in enumerate(flow.batches):
            if batch.cancels:
                ids = b'","'.join([answers[of][at] for of, at in batch.cancels])
                yield request("POST", "/orders/cancel-batch", token, b'{"order_ids":["' + ids + b'"]}')
                told.commands += len(batch.cancels)
            if not batch.orders:
                continue
            body = bodies[number].replace(ID_PREFIX.encode(), prefix)
            answer = yield request("POST", "/orders/batch", token, body)
            answers[number] = ORDER_ID.findall(answer)
            if len(answers[number]) != len(batch.orders):
                raise Strange(f"not every order was taken: {answer[:300].decode('latin-1')}")
            told.commands += len(batch.orders)
            told.orders += len(batch.orders)


def stream_messages(flow: Flow, told: Told) -> Lane:
    """Messages of `Trade`. Repeated fields of one after the other are one message, so no message is built."""
    sides = {"buy": pb.SIDE_BUY, "sell": pb.SIDE_SELL}
    types = {"limit": pb.ORDER_TYPE_LIMIT, "market": pb.ORDER_TYPE_MARKET}
    lasting = {"": pb.TIME_IN_FORCE_UNSPECIFIED, "ioc": pb.TIME_IN_FORCE_IOC}

    def place(order: OrderBody) -> pb.Command:
        return pb.Command(place=pb.PlaceOrderRequest(
            symbol=order.symbol, side=sides[order.side], type=types[order.type], quantity=order.quantity,
            price=order.price, time_in_force=lasting[order.time_in_force],
            client_order_id=order.client_order_id))  # fmt: skip

    bodies = [
        pb.TradeRequest(commands=[place(order) for order in batch.orders]).SerializeToString()
        for batch in flow.batches
    ]
    for prefix, answers in cycles(flow):
        for number, batch in enumerate(flow.batches):
            cancels = b"".join([_cancel_command(answers[of][at]) for of, at in batch.cancels])
            answer = yield cancels + bodies[number].replace(ID_PREFIX.encode(), prefix)
            outcomes = pb.TradeResponse.FromString(answer).outcomes
            ids = [one.order.order_id.encode() for one in outcomes[len(batch.cancels) :]]
            if not all(ids):
                raise Strange(f"not every order was taken: {outcomes}"[:300])
            answers[number] = ids
            told.commands += len(batch.cancels) + len(batch.orders)
            told.orders += len(batch.orders)


def _cancel_command(order_id: bytes) -> bytes:
    """`commands` (1) of a TradeRequest: a Command with `cancel` (2), whose `order_id` is field 1."""
    size = len(order_id)
    return b"\x0a%c\x12%c\x0a%c%b" % (size + 4, size + 2, size, order_id)


RESULT_ORDER_OFFSET = 16
"""Of the order's number in a record of a result."""


def drive_streams(
    target: str, tokens: Sequence[str], lanes: Sequence[tuple[bytes, Lane]], seconds: float
) -> tuple[int, float]:
    """`drive` over gRPC: a stream for each lane, in a thread of its own."""
    began = time.monotonic()
    answered = [0] * len(lanes)
    faults: list[BaseException] = []

    def one(index: int, token: str, first: bytes, lane: Lane) -> None:
        outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        try:
            with grpc.insecure_channel(target, CHANNEL_OPTIONS) as channel:
                call = channel.stream_stream(TRADE)
                outgoing.put(first)
                replies = call(iter(outgoing.get, None), metadata=[("authorization", f"Bearer {token}")])
                for reply in replies:
                    answered[index] += 1
                    outgoing.put(lane.send(reply) if time.monotonic() < began + seconds else None)
        except BaseException as fault:
            faults.append(fault)
        finally:
            outgoing.put(None)

    threads = [
        threading.Thread(target=one, args=(index, token, *lane))
        for index, (token, lane) in enumerate(zip(tokens, lanes, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return sum(answered), time.monotonic() - began


class Watch(threading.Thread):
    """Looks at memory and lag each second."""

    def __init__(self, venue: RunningVenue) -> None:
        super().__init__(daemon=True)
        self._pids = {name: process.pid for name, process in venue.processes.items()}
        self._done = threading.Event()
        self.seconds: list[float] = []
        self.resident_mib: dict[str, list[float]] = {name: [] for name in self._pids}

    def run(self) -> None:
        began = time.monotonic()
        while True:
            self.seconds.append(round(time.monotonic() - began, 1))
            for name, pid in self._pids.items():
                self.resident_mib[name].append(resident_bytes(pid) / (1 << 20))
            if self._done.wait(1.0):
                return

    def finish(self) -> None:
        self._done.set()
        self.join()


FORMS: dict[str, Callable[[Flow, str, Told], Lane]] = {
    "binary batch": binary_lane,
    "JSON batch": json_lane,
    "gRPC stream": lambda flow, token, told: stream_messages(flow, told),
}


SMOKE = {("binary batch", "process"), ("JSON batch", "durable"), ("gRPC stream", "process")}
"""Of a smoke run: every form and both durabilities once."""


def measure(bench: Bench) -> None:
    seconds = bench.sized(30, 1, "SECONDS_BATCH")
    # Of each lane. Encoding takes longer than sending, so a lane begins again, with other client order ids.
    count = bench.sized(min(100_000, 20_000 * seconds), 3_000)
    for durability, promised in PROMISED.items():
        resident: list[Line] = []
        for form, lane_of in FORMS.items():
            if bench.smoke and (form, durability) not in SMOKE:
                continue
            bench.tell(f"{form}, {durability}, {seconds} s")
            processes = ("engine", "history", *(("gateway",) if form == "gRPC stream" else ()))
            with (
                tempfile.TemporaryDirectory(prefix="batch-") as place,
                pinned_venue(Path(place), processes, durability=durability) as venue,
            ):
                venue.ok(venue.admin("PUT", "/rules", {"idempotency_keys_max": KEYS_MAX}))
                resident += _one(bench, venue, form, durability, promised, lane_of, seconds, count)
        bench.found.plots.append(
            Plot(f"Resident memory under batches, {durability}", "seconds", "MiB", resident)
        )


def _one(
    bench: Bench,
    venue: RunningVenue,
    form: str,
    durability: str,
    promised: int,
    lane_of: Callable[[Flow, str, Told], Lane],
    seconds: int,
    count: int,
) -> list[Line]:
    flows = []
    for seed in range(LANES):
        trader = venue.account("limits")
        flows.append((flow_of(seed, venue.market(), trader.name, count), trader))
    told = [Told() for _ in flows]
    tokens = [trader.token for _, trader in flows]
    lanes = []
    for (flow, trader), one in zip(flows, told, strict=True):
        lane = lane_of(flow, trader.token, one)
        lanes.append((next(lane), lane))
    watch = Watch(venue)
    pids = {name: process.pid for name, process in venue.processes.items()}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    before_sender = time.process_time()
    watch.start()
    if form == "gRPC stream":
        target = f"127.0.0.1:{venue.ports['grpc_port']}"
        requests, took = drive_streams(target, tokens, lanes, seconds)
    else:
        requests, took = drive(venue.ports["port"], lanes, seconds)
    spent = {name: round((cpu_s(pid) - before[name]) / took, 2) for name, pid in pids.items()}
    sender = round((time.process_time() - before_sender) / took, 2)
    watch.finish()
    lag, left, caught_up_s = catch_up(venue, 1 if bench.smoke else CATCH_UP_S)
    sent, orders = sum(one.commands for one in told), sum(one.orders for one in told)
    engine = watch.resident_mib["engine"]
    half = engine[len(engine) // 2 :]
    grown = half[-1] / half[0] - 1
    who = ", ".join(f"{name} {share:.0%}" for name, share in {**spent, "sender": sender}.items())
    how = f"{form}, `{durability}`, {LANES} connections, batches of {BATCH}, {took:.0f} s"
    waited = "" if spent["engine"] >= BUSY else f"the engine's CPU was busy for {spent['engine']:.0%} only"
    bench.at_least(
        f"commands a second, sustained: {form}, {durability}",
        promised,
        "/s",
        [sent / took],
        f"{how}; {orders / took:,.0f} of them orders, the rest cancels; of one CPU: {who}; `history` was "
        f"{lag:,} commands behind at the end, {left:,} after {caught_up_s:.0f} s more",
        # The gateway is part of its own path; the others are kept waiting by the sender or `history`.
        doubt=waited if form != "gRPC stream" else "",
    )
    if not bench.smoke:
        bench.at_most(
            f"the engine's memory, second half of the run: {form}, {durability}",
            GROWTH_MAX,
            "growth",
            [max(grown, 0)],
            f"{how}; {KEYS_MAX:,} idempotency keys kept; {engine[0]:.0f} MiB at the start, "
            f"{half[0]:.0f} in the middle, {half[-1]:.0f} at the end",
            relative=True,
            by_clock=False,
            doubt="" if orders > 4 * KEYS_MAX else "what the venue remembers was still being filled",
        )
    engine_s = spent["engine"] * took
    bench.found.figures[f"{form}, {durability}"] = {
        "commands": sent,
        "orders": orders,
        "requests": requests,
        "seconds": round(took, 2),
        "commands_a_second_of_the_engines_cpu": round(sent / engine_s) if engine_s else 0,
        "share_of_one_cpu": {**spent, "sender": sender},
        "resident_mib": {name: [round(v[0], 1), round(v[-1], 1)] for name, v in watch.resident_mib.items()},
        "history_lag_commands_at_the_end": lag,
        "history_lag_commands_later": left,
        "seconds_later": caught_up_s,
    }
    return [Line(f"{form}: {name}", watch.seconds, v) for name, v in watch.resident_mib.items()]


def catch_up(venue: RunningVenue, patience_s: float) -> tuple[int, int, float]:
    """(commands that the read model did not show when the load ended, and after so many seconds, those)

    Ends as soon as it shows all.
    """
    began = time.monotonic()
    first = -1
    while True:
        seen = scrape(venue)
        lag = int(
            seen.total("tradsys_readmodel_lag_commands")
            + seen.total("tradsys_published_seq")
            - seen.total("tradsys_durable_seq")
        )
        first = lag if first < 0 else first
        took = time.monotonic() - began
        if lag <= 0 or took > patience_s:
            return first, max(lag, 0), round(took, 1)
        time.sleep(0.5)
