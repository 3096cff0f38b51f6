"""A client of a venue that is reached by the ingress address: REST, WebSocket and gRPC by a host name."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import jwt
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.kube.cluster.places import INGRESS, NODE_ADDRESS
from tradsys.v1 import orders_pb2 as pb

SYMBOL = "BTC-USD"


class WayIn:
    def __init__(self, host: str, key: bytes, account: str = "demo") -> None:
        """`key` signs HS256 tokens that the venue takes."""
        now = int(time.time())
        claims = {
            "iss": "tradsys", "aud": "tradsys", "sub": account, "acct": account, "scope": "trade read",
            "iat": now, "nbf": now, "exp": now + 3600, "jti": f"e2e-{now}",
        }  # fmt: skip
        self.host = host
        self.token = jwt.encode(claims, key, algorithm="HS256")
        self._http = self.http()

    def http(self, timeout_s: float = 5) -> httpx.Client:
        """A client with connections of its own."""
        # The ranges of the cluster have their routes; a proxy of the machine would not find them.
        return httpx.Client(
            base_url=f"{INGRESS}/api/v1",
            headers={"Host": self.host, "Authorization": f"Bearer {self.token}"},
            timeout=timeout_s,
            trust_env=False,
        )

    def get(self, path: str) -> Any:
        reply = self._http.get(path)
        reply.raise_for_status()
        return reply.json()

    def open_orders(self) -> list[dict[str, Any]]:
        """All of them, page by page."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(f"/orders?limit=100{cursor}")
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def answers(self) -> bool:
        """Whether the venue can be reached now."""
        try:
            return self._http.get("/symbols").status_code == 200
        except httpx.TransportError:
            return False

    def streams(self) -> bool:
        """Whether the WebSocket streams can be reached now."""
        try:
            asyncio.run(self._greeted())
        except (OSError, WebSocketException):
            return False
        return True

    async def _greeted(self) -> None:
        async with self._stream() as stream:
            await stream.send(json.dumps({"op": "ping", "id": 1}))
            await asyncio.wait_for(stream.recv(), 5)

    def _stream(self) -> connect:
        return connect(
            f"ws://{self.host}:80/ws",
            host=NODE_ADDRESS,
            port=80,
            subprotocols=["tradsys.json.v1"],  # type: ignore[list-item]
            proxy=None,
        )

    def place(self, side: str, price: str, quantity: str, **more: str) -> dict[str, Any]:
        order = {
            "symbol": SYMBOL,
            "side": side,
            "type": "limit",
            "price": price,
            "quantity": quantity,
            **more,
        }
        reply = self._http.post("/orders", json=order | more)
        assert reply.status_code == 200, reply.text
        placed: dict[str, Any] = reply.json()
        return placed

    def place_by_grpc(self, side: str, price: str, quantity: str) -> Any:
        request = pb.PlaceOrderRequest(
            symbol=SYMBOL,
            side=pb.SIDE_BUY if side == "buy" else pb.SIDE_SELL,
            type=pb.ORDER_TYPE_LIMIT,
            price=price,
            quantity=quantity,
        )
        return self._place_by_grpc(request)

    def gateway(self) -> bool:
        """Whether the gateway can be reached now."""
        try:
            self._place_by_grpc(pb.PlaceOrderRequest())
        except grpc.RpcError as refused:
            return bool(refused.code() == grpc.StatusCode.INVALID_ARGUMENT)
        raise AssertionError("an empty order was placed")

    def _channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"{NODE_ADDRESS}:80", options=[("grpc.default_authority", self.host)])

    def event_heard(self, make_an_event: Callable[[], object]) -> Any:
        """The first event of the account over gRPC that is made meanwhile."""
        with self._channel() as channel:
            call = channel.unary_stream(
                "/tradsys.v1.OrderService/StreamEvents",
                request_serializer=pb.StreamEventsRequest.SerializeToString,
                response_deserializer=pb.StreamEventsResponse.FromString,
            )
            metadata = (("authorization", f"Bearer {self.token}"),)
            heard = call(pb.StreamEventsRequest(), metadata=metadata, timeout=20)
            next(heard)  # The position from which on it hears.
            make_an_event()
            return next(message.event for message in heard if message.HasField("event"))

    def _place_by_grpc(self, request: Any) -> Any:
        with self._channel() as channel:
            call = channel.unary_unary(
                "/tradsys.v1.OrderService/PlaceOrder",
                request_serializer=pb.PlaceOrderRequest.SerializeToString,
                response_deserializer=pb.OrderResult.FromString,
            )
            return call(request, metadata=(("authorization", f"Bearer {self.token}"),), timeout=10)

    def trades_heard(self, make_a_trade: Any) -> list[dict[str, Any]]:
        """The messages of the channel `trades` over WebSocket that a trade made meanwhile brings."""
        return asyncio.run(self._trades_heard(make_a_trade))

    async def _trades_heard(self, make_a_trade: Any) -> list[dict[str, Any]]:
        async with self._stream() as stream:
            channels = [{"name": "trades", "symbols": [SYMBOL]}]
            await stream.send(json.dumps({"op": "subscribe", "id": 1, "channels": channels}))
            heard: list[dict[str, Any]] = []
            async with asyncio.timeout(20):
                while not any(message.get("id") == 1 for message in heard):
                    heard.append(json.loads(await stream.recv()))
                heard.clear()
                await asyncio.to_thread(make_a_trade)
                while not any(_has_trade(message) for message in heard):
                    heard.append(json.loads(await stream.recv()))
            return [message for message in heard if _has_trade(message)]


def _has_trade(message: dict[str, Any]) -> bool:
    return message.get("ch") == "trades" and message.get("type") == "delta"
