"""E1: whatever clients send, right or wrong, the venue never answers that it has failed.

COUNT_E1 requests (4,000; 300,000 in a long run) of a seeded mix over eight connections: every kind of order,
replaces, cancels, retries, reads, batches, and one in twenty that no venue should take.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from random import Random

from tests.api.venue_process import running_venue
from tests.bench.sender import Lane, drive, request
from tradsys.client.records import RECORDS_TYPE, cancel_record, place_record

COUNT = int(os.environ.get("COUNT_E1", "4000"))
LANES = 8
SECONDS_MAX = 3_000
ORDER_ID = re.compile(rb'"order_id":"(a-[0-9]+)"')
READS = (
    "/orders?status=open",
    "/symbols",
    "/time",
    "/balances",
    "/positions",
    "/accounts/me",
    "/risk/limits",
    "/risk/state",
    "/market/{}/book?depth=20",
    "/market/{}/book?level=3",
    "/market/{}/ticker",
    "/market/{}/trades",
)
WRONG = (
    b"{}",
    b"[1",
    b'{"symbol":"NONE-USD","side":"buy","type":"market","quantity":"1"}',
    b'{"symbol":"%b","side":"buy","type":"limit","quantity":"-5","price":"1"}',
    b'{"symbol":"%b","side":"buy","type":"limit","quantity":1.5,"price":"1"}',
    b'{"symbol":"%b","side":"buy","type":"limit","quantity":"1e3","price":"1"}',
    b'{"symbol":"%b","side":"buy","type":"limit","quantity":"1","price":"99999999999999999999"}',
)


def order(draw: Random, symbol: str, key: str) -> bytes:
    price = f"{100 + draw.randint(-30, 30) / 10:.1f}"
    kind = draw.choice(("limit", "limit", "limit", "limit", "market", "stop", "stop_limit"))
    members = {"symbol": symbol, "side": draw.choice(("buy", "sell")), "type": kind,
               "quantity": str(draw.randint(1, 20)), "client_order_id": key}  # fmt: skip
    if kind in ("limit", "stop_limit"):
        members["price"] = price
    if kind in ("stop", "stop_limit"):
        members["stop_price"] = f"{100 + draw.randint(-30, 30) / 10:.1f}"
    if kind == "limit":
        members["time_in_force"] = draw.choice(("gtc", "gtc", "ioc", "fok", "day"))
        if members["time_in_force"] == "gtc" and draw.random() < 0.2:
            members["display_quantity"] = "1"
    text = ",".join(f'"{name}":"{value}"' for name, value in members.items())
    post_only = ',"post_only":true' if members.get("time_in_force") == "gtc" and draw.random() < 0.2 else ""
    return f"{{{text}{post_only}}}".encode()


def lane(symbol: str, token: str, seed: int, count: int) -> Lane:
    draw = Random(seed)
    known = [b"a-1"]
    last = b""
    for number in range(count):
        choice = draw.random()
        target = draw.choice(known).decode()
        if choice < 0.45:
            last = order(draw, symbol, f"e{seed}-{number}")
            answer = yield request("POST", "/orders", token, last)
            known = [*known[-200:], *ORDER_ID.findall(answer)[:1]]
        elif choice < 0.50:
            yield request("POST", "/orders", token, last or b"{}")
        elif choice < 0.62:
            yield request("DELETE", f"/orders/{target}", token)
        elif choice < 0.70:
            body = f'{{"quantity":"{draw.randint(1, 30)}","price":"{100 + draw.randint(-30, 30) / 10:.1f}"}}'
            yield request("PUT", f"/orders/{target}", token, body.encode())
        elif choice < 0.72:
            yield request("DELETE", f"/orders?symbol={symbol}", token)
        elif choice < 0.76:
            yield request("POST", "/orders/test", token, order(draw, symbol, ""))
        elif choice < 0.80:
            orders = b",".join(order(draw, symbol, f"b{seed}-{number}-{i}") for i in range(10))
            yield request("POST", "/orders/batch", token, b'{"orders":[' + orders + b"]}")
        elif choice < 0.83:
            records = [
                place_record(symbol=symbol, side=side, quantity=10**8, price=draw.randint(90, 110) * 10**8)
                for side in ("buy", "sell")
            ]
            records.append(cancel_record(draw.randint(0, 10_000)))
            yield request("POST", "/orders/batch", token, b"".join(records), RECORDS_TYPE)
        elif choice < 0.88:
            body = draw.choice(WRONG).replace(b"%b", symbol.encode())
            yield request("POST", draw.choice(("/orders", "/orders/test", "/orders/batch")), token, body)
        elif choice < 0.90:
            yield request("GET", f"/orders/{target}", token)
        else:
            yield request("GET", draw.choice(READS).format(symbol), token)


def test_no_request_makes_the_venue_fail(tmp_path):
    with running_venue(tmp_path, ("engine", "history"), segment_bytes=64 << 20) as venue:
        statuses: Counter[int] = Counter()
        lanes = []
        for seed in range(LANES):
            trader = venue.account("cash", USD="100000000")
            symbol = venue.market()
            venue.deposit(trader.name, symbol.partition("-")[0], "1000000")
            made = lane(symbol, trader.token, seed, -(-COUNT // LANES))
            lanes.append((next(made), made))

        answered, _ = drive(venue.ports["port"], lanes, SECONDS_MAX, statuses)

        print(f"\nE1: {answered:,} requests, {dict(sorted(statuses.items()))}")
        assert answered >= COUNT
        assert not {status: count for status, count in statuses.items() if status >= 500}
        # It is the venue that is asked, not only its edge.
        assert statuses[200] > answered / 2
