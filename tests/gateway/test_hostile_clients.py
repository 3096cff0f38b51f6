"""Clients that break the rules: nobody else notices, and nothing grows."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from tests.gateway.over_grpc import SERVICE, Caller, caller, ended, failing, limit, target_of
from tradsys.adapters.gateway.process import options_of
from tradsys.client.pool import CHANNEL_OPTIONS
from tradsys.v1 import orders_pb2 as pb

PINGS_S = int(os.environ.get("COUNT_PINGS", "0"))
"""More than two pings too many would end the connection."""


@pytest.fixture
def market(venue) -> str:
    return venue.market()


def test_without_a_token_everything_is_refused(venue, market):
    with Caller(venue, None) as stranger:
        unary = [
            failing(stranger.place, limit(market, "buy", "1", "9")),
            failing(stranger.cancel, "a-1"),
            failing(stranger.get, order_id="a-1"),
            failing(stranger.list),
        ]
        streams = [ended(stranger.events()), ended(stranger.trade(iter([])))]

    assert [(one.status, one.code) for one in unary + streams] == [("UNAUTHENTICATED", 2001)] * 6


@pytest.mark.parametrize(
    "values",
    [
        ["Bearer x"],
        ["Bearer a.b.c"],
        ["Basic abc"],
        ["Bearer"],
        ["Bearer " + "a" * 9000],
    ],
)
def test_a_wrong_token_is_refused(venue, market, values):
    with Caller(venue, None) as stranger:
        more = [("authorization", value) for value in values]
        failure = failing(stranger.place, limit(market, "buy", "1", "9"), *more)

    assert failure.status == "UNAUTHENTICATED"
    assert failure.code in (2001, 2002)


def test_two_tokens_are_none(venue, market):
    alice, bob = venue.account("limits"), venue.account("limits")
    with caller(venue, alice) as a:
        failure = failing(a.place, limit(market, "buy", "1", "9"), ("authorization", f"Bearer {bob.token}"))

    assert (failure.status, failure.code) == ("UNAUTHENTICATED", 2002)


def test_a_token_may_do_what_its_scope_says(venue, market):
    alice = venue.account("limits")
    order = limit(market, "buy", "1", "9")
    with Caller(venue, venue.token(alice.name, "read")) as reader:
        place = failing(reader.place, order)
        trade = ended(reader.trade(iter([pb.TradeRequest(commands=[pb.Command(place=order)])])))
        listed = reader.list()
    with Caller(venue, venue.token(alice.name, "trade")) as trader:
        placed = trader.place(order)
        read = [failing(trader.get, order_id=placed.order_id), ended(trader.events())]

    assert [(one.status, one.code) for one in (place, trade, *read)] == [("PERMISSION_DENIED", 2003)] * 4
    assert list(listed.orders) == []


def test_a_revoked_token_is_refused_and_its_streams_end(venue, market):
    alice = venue.account("limits")
    token = venue.token(alice.name, jti="grpc-revoked")
    with Caller(venue, token) as a:
        events = a.events()
        next(events)
        a.place(limit(market, "buy", "1", "9"))
        venue.ok(venue.admin("POST", "/tokens/revoke", {"jti": "grpc-revoked"}))
        stream = ended(events)
        refused = failing(a.place, limit(market, "buy", "1", "9"))

    assert [(one.status, one.code) for one in (stream, refused)] == [("UNAUTHENTICATED", 2002)] * 2


def test_a_message_beyond_the_limit_is_refused_and_the_connection_goes_on(venue, market):
    alice = venue.account("limits")
    with caller(venue, alice) as a:
        huge = failing(a.place, limit(market, "buy", "1" * (2 << 20), "9"))
        placed = a.place(limit(market, "buy", "1", "9"))

    assert (huge.status, huge.code) == ("RESOURCE_EXHAUSTED", 0)
    assert placed.status == pb.ORDER_STATUS_NEW


def test_a_method_that_is_none_is_unimplemented(venue):
    alice = venue.account("limits")
    with caller(venue, alice) as a:
        failure = failing(a.call, "PlaceOrders", pb.PlaceOrderRequest(), pb.OrderResult)

    assert failure.status == "UNIMPLEMENTED"


def test_bytes_that_are_no_message_are_refused(venue):
    alice = venue.account("limits")
    with caller(venue, alice) as a:
        send = a.channel.unary_unary(SERVICE + "PlaceOrder")
        with pytest.raises(grpc.RpcError) as caught:
            send(b"\xff\xff\xff", metadata=a.metadata, timeout=30)

    assert caught.value.code().name in ("INTERNAL", "INVALID_ARGUMENT", "UNKNOWN")


def test_what_is_no_http2_is_hung_up_on(venue, market):
    alice = venue.account("limits")
    for rubbish in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 4096,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 99,
    ):
        with (
            socket.create_connection(("127.0.0.1", venue.ports["grpc_port"]), timeout=20) as one,
            contextlib.suppress(OSError),
        ):
            one.sendall(rubbish)
            while one.recv(65536):
                pass
    with caller(venue, alice) as a:
        assert a.place(limit(market, "buy", "1", "9")).status == pb.ORDER_STATUS_NEW


def test_a_half_closed_stream_gets_all_its_answers(venue, market):
    alice = venue.account("limits")
    message = pb.TradeRequest(commands=[pb.Command(place=limit(market, "buy", "1", "9"))] * 10)
    with caller(venue, alice) as a:
        answers = list(a.trade(iter([message] * 50)))

    assert [len(one.outcomes) for one in answers] == [10] * 50


def test_a_client_that_reads_no_answers_is_not_read_from_and_others_go_on(venue, market):
    """Its commands wait in its own socket; the gateway keeps a bounded number of answers for it."""
    lazy, alice = venue.account("limits"), venue.account("limits")
    sent = itertools.count()
    message = pb.TradeRequest(commands=[pb.Command(place=limit(market, "buy", "1", "9.001"))] * 300)

    def endless() -> Any:
        while True:
            next(sent)
            yield message

    with Caller(venue, lazy.token) as unread, caller(venue, alice) as a:
        stream = unread.trade(endless())
        before, quiet = -1, 0
        while quiet < 5:
            time.sleep(0.1)
            now = int(repr(sent)[6:-1])
            quiet, before = (quiet + 1 if now == before else 0), now
        placed = a.place(limit(market, "buy", "1", "9"))
        stream.cancel()

    assert before < 2_000, "it was read without end"
    assert placed.status == pb.ORDER_STATUS_NEW


@pytest.mark.parametrize("name", dict([*options_of(1), *CHANNEL_OPTIONS]))
def test_grpc_knows_every_option_that_it_is_given(name):
    """It passes over others without a word."""
    library = Path(cygrpc.__file__).read_bytes()

    assert name.encode() + b"\0" in library


@pytest.mark.skipif(not PINGS_S, reason="COUNT_PINGS=32: seconds, a ping each 5.5 s")
def test_pings_without_calls_are_allowed_as_the_pool_sends_them(venue, market):
    """The pool pings every 10 s; twice as often is still fine."""
    alice = venue.account("limits")
    options = {
        "grpc.keepalive_time_ms": 5_500,
        "grpc.keepalive_timeout_ms": 3_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
    }
    states: list[Any] = []
    with Caller(venue, alice.token, **options) as a:
        a.place(limit(market, "buy", "1", "9"))
        a.channel.subscribe(states.append)
        time.sleep(PINGS_S)
        a.place(limit(market, "buy", "1", "9"))

    lost = {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.IDLE}
    assert not lost & set(states[1:]), "the first state is the one before the first call"


def test_no_exception_text_leaves_the_process(venue):
    log = Path(venue.directory / "gateway.log").read_text()

    assert "Traceback" not in log, log


def test_the_port_answers_health_checks_and_describes_itself(venue):
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    with grpc.insecure_channel(target_of(venue)) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="tradsys.v1.OrderService")
        )
        ask = reflection_pb2.ServerReflectionRequest
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        services, file = stub.ServerReflectionInfo(
            iter([ask(list_services=""), ask(file_containing_symbol="tradsys.v1.OrderService")])
        )

    described = FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "tradsys.v1.OrderService" in [one.name for one in services.list_services_response.service]
    assert [method.name for method in described.service[0].method] == [
        "PlaceOrder",
        "CancelOrder",
        "ReplaceOrder",
        "GetOrder",
        "ListOrders",
        "Trade",
        "StreamEvents",
    ]
