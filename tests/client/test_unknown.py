"""What a client says of an order whose first attempt was lost and whose repeats are refused or not heard.

The venue here is a script: an answer for each request, the empty one hangs up; after the last one nobody is
there any more.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.client.test_clients import BOTH
from tradsys.client import OrderPool, Unreachable, errors
from tradsys.codec.errors import NOT_LEADER, PROCESSING_FAILED, RATE_LIMITED, Problem
from tradsys.codec.grpc_v1 import DETAILS_KEY, SERVICE, status_details
from tradsys.v1 import orders_pb2 as pb


def refusal(status: int, code: int) -> bytes:
    body = b'{"code":%d,"message":"","details":{},"request_id":""}' % code
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


LOST = b""
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nnone"
UNKNOWN, NOT_SERVING = refusal(503, 1001), refusal(503, 1020)


@contextlib.contextmanager
def scripted(answers: Sequence[bytes]) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        for count, answer in enumerate(answers, 1):
            connection, _ = listener.accept()
            if count == len(answers):
                listener.close()
            with connection:
                received = b""
                while b'"client_order_id"' not in received:
                    received += connection.recv(1 << 16)
                connection.sendall(answer.replace(b" X\r\n", b" X\r\nConnection: close\r\n"))

    if not answers:
        listener.close()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    thread.join(10)


@BOTH
@pytest.mark.parametrize(
    ("answers", "unknown"),
    [
        ([LOST], True),
        ([UNKNOWN], True),
        ([BAD_GATEWAY], True),
        ([LOST, NOT_SERVING], True),
        ([NOT_SERVING], False),
        ([], False),
    ],
    ids=["lost", "unknown", "bad gateway", "lost, then refused", "refused", "nobody"],
)
def test_when_nobody_answers_any_more_a_lost_attempt_is_not_forgotten(
    answers: list[bytes], unknown: bool, kind: Callable[..., Any]
) -> None:
    with (
        scripted(answers) as url,
        kind(url, "token", patience_s=0.7) as client,
        pytest.raises(Unreachable) as caught,
    ):
        client.place("X-USD", "buy", "1", "1")

    assert caught.value.outcome_unknown is unknown


@BOTH
@pytest.mark.parametrize("last", [(401, 2002), (429, 3029)])
def test_what_is_refused_before_the_order_is_looked_up_says_nothing_of_a_lost_attempt(
    last: tuple[int, int], kind: Callable[..., Any]
) -> None:
    with (
        scripted([LOST, refusal(*last)]) as url,
        kind(url, "token", patience_s=5) as client,
        pytest.raises(Unreachable) as caught,
    ):
        client.place("X-USD", "buy", "1", "1")

    assert caught.value.outcome_unknown


@BOTH
def test_a_refusal_of_the_order_itself_is_believed_after_a_lost_attempt(kind: Callable[..., Any]) -> None:
    with (
        scripted([LOST, refusal(422, 3003)]) as url,
        kind(url, "token", patience_s=5) as client,
        pytest.raises(errors.InsufficientBalance),
    ):
        client.place("X-USD", "buy", "1", "1")


@pytest.mark.parametrize(
    ("codes", "raised"),
    [
        ([PROCESSING_FAILED, RATE_LIMITED], Unreachable),
        ([PROCESSING_FAILED, NOT_LEADER], Unreachable),
        ([NOT_LEADER], errors.NotServing),
        ([RATE_LIMITED], errors.RateLimited),
    ],
)
def test_over_grpc_a_lost_attempt_is_not_forgotten_either(codes: list[int], raised: type[Exception]) -> None:
    left = list(codes)

    def place(request: Any, context: grpc.ServicerContext) -> pb.OrderResult:
        problem = Problem(left.pop(0) if len(left) > 1 else left[0])
        context.set_trailing_metadata(((DETAILS_KEY, status_details(problem, "")),))
        context.abort(grpc.StatusCode.UNAVAILABLE, problem.message)

    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(
        place, pb.PlaceOrderRequest.FromString, pb.OrderResult.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"PlaceOrder": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            OrderPool(f"127.0.0.1:{port}", "token", channels=1, patience_s=0.5) as pool,
            pytest.raises(raised) as caught,
        ):
            pool.place(pb.PlaceOrderRequest())
    finally:
        server.stop(0)

    assert getattr(caught.value, "outcome_unknown", False) is (raised is Unreachable)
