"""The gateway process: the gRPC server, and the journal's follower beside it, in one thread.

start   the journal is read up to now, so that revoked tokens are known, then the port opens
end     new calls are refused, what is under way is answered, streams end with UNAVAILABLE
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from msgspec import Struct

from tradsys.adapters.gateway.calls import Calls
from tradsys.adapters.gateway.elsewhere import EventsElsewhere
from tradsys.adapters.gateway.events import Events
from tradsys.adapters.gateway.service import OrderService
from tradsys.codec.grpc_v1 import SERVICE
from tradsys.venue.ports import JournalError

EXIT_JOURNAL_LOST = 1
"""Not a final code: the next start begins with a snapshot, and the journal itself is for history to judge."""

MESSAGE_BYTES_MAX = 1 << 20
"""A thousand commands of one Trade message are about 100 KiB."""
METADATA_BYTES_MAX = 16 << 10
STREAMS_MAX = 1_000
"""Calls under way on one connection."""
PING_MIN_MS = 5_000
"""Clients ping each 10 s, also without calls; the default of five minutes would cut them off."""
SERVER_PING_MS, SERVER_PING_REPLY_MS = 30_000, 10_000
"""A client that has gone without a word is noticed."""
DRAIN_S = 5.0
TURN_COMMANDS_MAX = 500
IDLE_S, UNHEARD_S = 0.001, 0.02
"""How often the journal is looked at: when somebody listens, and for revoked tokens alone."""

_log = logging.getLogger("tradsys.gateway")


class Tls(Struct, frozen=True):
    """PEM texts; with `clients` a client must show a certificate that this authority has signed."""

    certificate: bytes
    key: bytes
    clients: bytes | None = None


class Following(Protocol):
    @property
    def current(self) -> bool:
        """An engine has begun since the machine started."""


class Gateway:
    def __init__(
        self,
        *,
        host: str,
        port: int,
        service: OrderService,
        events: Events | None,
        page: Following | None,
        connections_max: int,
        calls: Calls,
        elsewhere: Sequence[EventsElsewhere] = (),
        close: Callable[[], None] = lambda: None,
        tls: Tls | None = None,
    ) -> None:
        """`events` and `page` are there together, or not at all; `elsewhere` are of shards whose journals are
        not at hand. `close` is called at the end."""
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._service = service
        self._events = events
        self._page = page
        self._calls = calls
        self._elsewhere = elsewhere
        self._connections_max = connections_max
        self._close = close
        self._tls = tls
        self._stop = asyncio.Event()
        self.serving = False

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit code. Raises OSError if it can't listen."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        lines = [asyncio.create_task(one.run()) for one in self._elsewhere]
        try:
            if self._events is not None:
                assert self._page is not None
                while not self._page.current:
                    if await self._stopped_within(0.05):
                        return 0
                self._events.start()
                while self._events.turn(TURN_COMMANDS_MAX):
                    await asyncio.sleep(0)
                    if self._stop.is_set():
                        return 0
            return await self._serve()
        except JournalError as error:
            _log.critical("%s", error)
            return EXIT_JOURNAL_LOST
        finally:
            for line in lines:
                line.cancel()
            await asyncio.gather(*lines, return_exceptions=True)
            self._close()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _serve(self) -> int:
        server = grpc.aio.server(interceptors=(self._calls,), options=options_of(self._connections_max))
        server.add_generic_rpc_handlers((self._service.handlers(),))
        healthy = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            if self._tls is None:
                server.add_insecure_port(self._address)
            else:
                server.add_secure_port(self._address, credentials_of(self._tls))
        except RuntimeError as error:
            raise OSError(f"can't listen on {self._address}: {error}") from None
        await server.start()
        for name in ("", SERVICE):
            await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.serving = True
        _log.info("serving on %s", self._address)
        try:
            await self._follow()
        finally:
            self.serving = False
            await healthy.enter_graceful_shutdown()
            self._service.stop()
            await server.stop(DRAIN_S)
        return 0

    async def _follow(self) -> None:
        events = self._events
        if events is None:
            await self._stop.wait()
            return
        while not self._stop.is_set():
            if events.turn(TURN_COMMANDS_MAX):
                await asyncio.sleep(0)
            elif events.is_heard:
                await asyncio.sleep(IDLE_S)
            else:
                await self._stopped_within(UNHEARD_S)
        events.close()


def options_of(connections_max: int) -> Sequence[tuple[str, int]]:
    """What the server allows; the names are gRPC's."""
    return (
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        ("grpc.max_allowed_incoming_connections", connections_max),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_MIN_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", SERVER_PING_MS),
        ("grpc.keepalive_timeout_ms", SERVER_PING_REPLY_MS),
    )


def credentials_of(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)], tls.clients, require_client_auth=tls.clients is not None
    )
