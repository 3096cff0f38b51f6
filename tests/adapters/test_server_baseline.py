"""Profile `baseline`: what the application may rely on under gunicorn with meinheld too."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.adapters.server_process import HOST, Served, serving

pytest.importorskip("meinheld", reason="builds on Python 3.9 to 3.12")


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(profile="baseline", listeners=2) as served:
        yield served
        served.process.terminate()
        served.process.wait(timeout=20)


def test_the_same_application_answers_on_every_listener_by_its_own_port(served: Served):
    assert [served.ask("/port", port=port) for port in served.ports] == [
        (200, str(port)) for port in served.ports
    ]
    assert served.ask("/post", method="POST", body=b'{"n":1}') == (200, {"n": 1})


def test_timers_run_after_each_request_and_while_nobody_asks(served: Served):
    turns = [served.ask("/turns")[1]["turns"] for _ in range(3)]
    time.sleep(3)

    assert turns == sorted(set(turns))
    assert served.ask("/turns")[1]["turns"] > turns[-1] + 1


def test_a_connection_serves_many_requests_and_the_client_is_asked_to_close_it(served: Served):
    with socket.create_connection((HOST, served.port), timeout=10) as client:
        for _ in range(2):
            client.sendall(b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /close?bytes=5 HTTP/1.1\r\nHost: x\r\n\r\n")

        assert b"\r\nconnection: close\r\n" in client.recv(1000).lower()


def test_a_signal_ends_it_and_the_worker_closes_what_it_opened(served: Served):
    with contextlib.closing(socket.create_connection((HOST, served.port), timeout=10)) as client:
        client.sendall(b"GET /slow?s=0.3 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        served.process.terminate()

        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    served.process.wait(timeout=20)
    assert served.process.returncode == 0
    assert served.process.stdout.read() == "ended\n"


def test_what_the_worker_found_at_its_end_is_the_exit_code():
    with serving(profile="baseline", code=70) as served:
        served.process.terminate()

        assert served.process.wait(timeout=20) == 70


def test_a_start_that_fails_in_the_worker_ends_the_server_with_its_exit_code():
    ended = subprocess.run([sys.executable, "-c", FAILING_START], capture_output=True, text=True, timeout=20)

    assert ended.returncode == 78, ended.stderr


FAILING_START = """
import sys
from tradsys.adapters.http import baseline
sys.exit(baseline.serve(lambda: 78, [("127.0.0.1", 0)], body_bytes_max=1000))
"""
