"""Clients of a venue: REST with and without asyncio, gRPC, streams. README.md has examples."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradsys.client.aio import AsyncClient as AsyncClient
    from tradsys.client.book import LocalBook as LocalBook
    from tradsys.client.calls import order_body as order_body
    from tradsys.client.errors import OutcomeUnknown as OutcomeUnknown
    from tradsys.client.errors import Refused as Refused
    from tradsys.client.errors import Unreachable as Unreachable
    from tradsys.client.pool import AsyncOrderPool as AsyncOrderPool
    from tradsys.client.pool import OrderPool as OrderPool
    from tradsys.client.streams import Streams as Streams
    from tradsys.client.sync import Client as Client
    from tradsys.client.syncstreams import SyncStreams as SyncStreams

_PLACES = {
    "AsyncClient": "aio",
    "AsyncOrderPool": "pool",
    "Client": "sync",
    "LocalBook": "book",
    "OrderPool": "pool",
    "OutcomeUnknown": "errors",
    "Refused": "errors",
    "Streams": "streams",
    "SyncStreams": "syncstreams",
    "Unreachable": "errors",
    "order_body": "calls",
}


def __getattr__(name: str) -> Any:
    # When they are asked for: gRPC, httpx and picows take longer to import than most programs need them.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
