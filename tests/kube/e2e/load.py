"""Clients of a venue that never give up: each order is sent until it is answered, with the same client order
id. So an order may be sent twice, and must not be there twice."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx

from tests.kube.e2e.way_in import SYMBOL, WayIn

CLIENTS = 4
PAUSE_S = 0.1
"""Between two orders of one client."""
TRY_S = 1.0
"""How long one attempt may take."""
PATIENCE_S = 60.0
"""An order that is not answered for so long is given up, and counted."""
PRICE, QUANTITY = "0.01", "0.001"
"""Far from every market: the orders rest."""


@dataclass(frozen=True)
class Told:
    """What the clients were told: the order ids by client order id, and the longest silence."""

    orders: dict[str, str]
    given_up: list[str]
    attempts: int
    silence_s: float
    """The longest time in which no order was answered, of all that were waited for."""


class Load:
    """Orders through the ingress address, from `start` to `stop`."""

    def __init__(self, way_in: WayIn, name: str) -> None:
        """`name` begins the client order ids; no other load may have the same."""
        self._way_in, self._name = way_in, name
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._orders: dict[str, str] = {}
        self._given_up: list[str] = []
        self._answered: list[float] = []
        self._attempts = 0
        self._clients = [threading.Thread(target=self._trade, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def told(self) -> Told:
        """After the end."""
        times = sorted(self._answered)
        silence_s = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        return Told(self._orders, self._given_up, self._attempts, silence_s)

    def _trade(self, client: int) -> None:
        number = 0
        with self._way_in.http(timeout_s=TRY_S) as http:
            while not self._over.is_set():
                self._insist(http, f"{self._name}-{client}-{number}")
                number += 1
                self._over.wait(PAUSE_S)

    def _insist(self, http: httpx.Client, client_order_id: str) -> None:
        order = {
            "symbol": SYMBOL, "side": "buy", "type": "limit", "price": PRICE, "quantity": QUANTITY,
            "client_order_id": client_order_id,
        }  # fmt: skip
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            answer = self._try(http, order)
            if answer is not None:
                with self._lock:
                    self._orders[client_order_id] = answer["order_id"]
                    self._answered.append(time.monotonic())
                return
            time.sleep(0.05)
        with self._lock:
            self._given_up.append(client_order_id)

    def _try(self, http: httpx.Client, order: dict[str, Any]) -> dict[str, Any] | None:
        """None: it is not known whether the order was placed."""
        with self._lock:
            self._attempts += 1
        try:
            reply = http.post("/orders", json=order)
        except httpx.TransportError:
            return None
        if reply.status_code >= 500:
            return None
        assert reply.status_code == 200, reply.text
        placed: dict[str, Any] = reply.json()
        return placed


def resting(way_in: WayIn, name: str) -> list[tuple[str, str]]:
    """(client order id, order id) of every open order of a load, as the venue lists them."""
    return [
        (each["client_order_id"], each["order_id"])
        for each in way_in.open_orders()
        if (each["client_order_id"] or "").startswith(f"{name}-")
    ]
