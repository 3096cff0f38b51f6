"""A client of a venue that is reached by the ingress address: REST, WebSocket and gRPC by a host name."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import grpc
import httpx
import jwt
from websockets.asyncio.client import connect

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
        # The ranges of the cluster have their routes; a proxy of the machine would not find them.
        self._http = httpx.Client(
            base_url=f"{INGRESS}/api/v1",
            headers={"Host": host, "Authorization": f"Bearer {self.token}"},
            timeout=5,
            trust_env=False,
        )

    def get(self, path: str) -> Any:
        reply = self._http.get(path)
        reply.raise_for_status()
        return reply.json()

    def answers(self) -> bool:
        """Whether the venue can be reached now."""
        try:
            return self._http.get("/symbols").status_code == 200
        except httpx.TransportError:
            return False

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
        with grpc.insecure_channel(
            f"{NODE_ADDRESS}:80", options=[("grpc.default_authority", self.host)]
        ) as channel:
            call = channel.unary_unary(
                "/tradsys.v1.OrderService/PlaceOrder",
                request_serializer=pb.PlaceOrderRequest.SerializeToString,
                response_deserializer=pb.OrderResult.FromString,
            )
            request = pb.PlaceOrderRequest(
                symbol=SYMBOL,
                side=pb.SIDE_BUY if side == "buy" else pb.SIDE_SELL,
                type=pb.ORDER_TYPE_LIMIT,
                price=price,
                quantity=quantity,
            )
            return call(request, metadata=(("authorization", f"Bearer {self.token}"),), timeout=10)

    def trades_heard(self, make_a_trade: Any) -> list[dict[str, Any]]:
        """The messages of the channel `trades` over WebSocket that a trade made meanwhile brings."""
        return asyncio.run(self._trades_heard(make_a_trade))

    async def _trades_heard(self, make_a_trade: Any) -> list[dict[str, Any]]:
        async with connect(
            f"ws://{self.host}:80/ws",
            host=NODE_ADDRESS,
            port=80,
            subprotocols=["tradsys.json.v1"],  # type: ignore[list-item]
            proxy=None,
        ) as stream:
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
