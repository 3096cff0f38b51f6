"""The engine's HTTP server over real sockets, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.server_process import HOST, Served, free_ports, serving, until_closed

GET = b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n"
ENDING = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(scope="module")
def four() -> Iterator[Served]:
    """One process with four listeners, for the tests that leave it as it was."""
    with serving(listeners=4) as served:
        yield served


def connect(served: Served, port: int = 0) -> socket.socket:
    return socket.create_connection((HOST, port or served.port), timeout=10)


def eventually(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within 10 s."""
    deadline = time.monotonic() + 10
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# --- listeners --------------------------------------------------------------------------------------


def test_each_listener_is_told_by_its_own_port(four: Served):
    told = [four.ask("/port", port=port)[1] for port in four.ports]

    assert told == [str(port) for port in four.ports]


@pytest.mark.parametrize(
    "header",
    [b"Server-Port: 1", b"SERVER_PORT: 1", b"Server_Port: 1", b"X-Forwarded-Port: 1", b"Host: x:1"],
)
def test_no_header_moves_a_request_to_another_listener(four: Served, header: bytes):
    host = b"" if header.startswith(b"Host") else b"Host: x\r\n"
    with connect(four) as client:
        client.sendall(b"GET /port HTTP/1.1\r\n" + host + header + b"\r\nConnection: close\r\n\r\n")

        assert until_closed(client).endswith(f'"{four.port}"'.encode())


def test_a_port_that_somebody_listens_on_is_refused_by_name():
    with serving() as first, pytest.raises(AssertionError) as refused, serving(ports=first.ports):
        pass

    assert f"cannot listen on {HOST}:{first.port}: Address already in use" in str(refused.value)


def test_a_port_that_somebody_shares_willingly_is_refused_too():
    """The listener of another engine has SO_REUSEPORT, and would let this one join."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((HOST, 0))
        other.listen()
        with (
            pytest.raises(AssertionError, match="Address already in use"),
            serving(ports=[other.getsockname()[1]]),
        ):
            pass


def test_a_restart_finds_its_port_free():
    ports = free_ports(1)
    with serving(ports=ports) as served, connect(served) as client:
        client.sendall(GET)
        client.recv(1000)
        served.end()
    with serving(ports=ports) as served:
        assert served.ask("/get") == (200, {"ok": True})


@pytest.mark.parametrize("ports", [[], [0], [7001, 7001], [7001, 7002, 7003, 7004, 7005]])
def test_listeners_that_could_not_be_told_apart_are_refused(ports: list[int]):
    from tradsys.adapters.http.server import Listener, Server

    with pytest.raises(ValueError, match="1 to 4 listeners with different ports"):
        Server([Listener(HOST, port, echo) for port in ports], each_turn=lambda: None)


# --- the loop ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spin", [False, True])
def test_turns_go_on_while_nobody_asks(spin: bool):
    with serving(spin=spin) as served:
        before = served.ask("/turns")[1]["turns"]

        assert eventually(lambda: served.ask("/turns")[1]["turns"] > before + 100)


@pytest.mark.parametrize("spin", [False, True])
def test_bodies_in_many_pieces_and_long_answers_arrive_whole(spin: bool):
    text = json.dumps("x" * 1_000_000).encode()
    with serving(spin=spin) as served, connect(served) as client:
        head = b"POST /post HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(
            text
        )
        client.sendall(head)
        for i in range(0, len(text), 99_991):
            client.sendall(text[i : i + 99_991])

        assert until_closed(client).endswith(b"\r\n\r\n" + text)


def test_no_request_waits_for_the_idle_timer():
    """A turn that leaves something to do must be followed by another before the loop may sleep. Were it not,
    each of these would wait for the timer, 3 s as does the first turn: minutes in all."""
    with serving(idle_wait_ms=3_000) as served:
        for _ in range(100):
            with connect(served) as client:
                client.sendall(b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
                client.sendall(b"{}")
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
        with connect(served) as client:
            client.sendall(GET * 2000)
            answered = b""
            while answered.count(b"HTTP/1.1 200") < 2000:
                answered += client.recv(1 << 20)


def test_a_fault_outside_the_framework_is_answered_unknown_and_the_loop_goes_on(four: Served):
    status, body = four.ask("/fault")

    assert (status, body["code"]) == (503, 1001)
    assert "outside" not in json.dumps(body)
    assert four.ask("/get") == (200, {"ok": True})


_SERVER = """
import sys
from tradsys.adapters.http.server import Listener, Server
def fault(): raise OSError("the journal is gone")
server = Server([Listener("127.0.0.1", int(sys.argv[1]), lambda environ, start: [])], each_turn=fault)
server.listen()
"""


def script(source: str) -> str:
    """What it prints, in a process of its own."""
    arguments = [sys.executable, "-c", _SERVER + source, str(free_ports(1)[0])]
    return subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
    ).stdout


def test_a_fault_in_a_turn_ends_the_run():
    said = script("""
try:
    server.run()
except OSError as fault:
    print(fault)
""")

    assert said == "the journal is gone\n"


# --- ending -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("spin", [False, True])
def test_a_signal_ends_the_process_after_what_was_in_flight(number: int, spin: bool):
    with (
        serving(spin=spin) as served,
        connect(served) as busy,
        connect(served) as idle,
        connect(served) as next_up,
    ):
        idle.sendall(GET)
        assert b"200 OK" in idle.recv(1000)
        busy.sendall(b"GET /slow?s=0.3 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        next_up.sendall(GET)
        served.process.send_signal(number)

        answers = [until_closed(client) for client in (busy, next_up, idle)]
        served.process.wait(timeout=10)

        assert [answer.startswith(b"HTTP/1.1 200 OK") for answer in answers] == [True, True, False]
        assert all(b"connection: close" in answer for answer in answers[:2])
        assert served.process.returncode == 0
        assert served.process.stdout.read() == "ended\n"


def test_while_draining_a_request_that_is_half_here_is_answered_and_nobody_new_gets_in():
    with serving(drain_ms_max=5_000) as served, connect(served) as half, connect(served) as chatty:
        half.sendall(GET[:-2])
        chatty.sendall(b"GET /slow?s=0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        served.process.send_signal(signal.SIGTERM)
        assert b"connection: close" in until_closed(chatty)

        assert eventually(lambda: not _lets_in(served))
        half.sendall(b"\r\n")

        assert until_closed(half).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_never_finishes_does_not_hold_up_the_end():
    with serving(drain_ms_max=300) as served, connect(served) as slow:
        slow.sendall(b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        served.process.send_signal(signal.SIGTERM)
        ended = False
        while not ended:
            try:
                slow.sendall(b"x")
                time.sleep(0.02)
            except ConnectionError:
                ended = True

        assert served.process.wait(timeout=10) == 0


def test_the_application_can_end_the_run():
    with serving() as served:
        assert served.ask("/stop", method="POST", body=b"{}") == (200, {"stopping": True})
        assert served.process.wait(timeout=10) == 0


def test_a_server_that_is_stopped_before_its_first_turn_ends_at_once():
    assert script("server.stop(); server.run(); print('ended')") == "ended\n"


# --- limits -----------------------------------------------------------------------------------------


def test_an_idle_connection_is_closed_and_a_used_one_is_not():
    with (
        serving(idle_ms_max=400, request_ms_max=400) as served,
        connect(served) as idle,
        connect(served) as used,
    ):
        for client in (idle, used):
            client.sendall(GET)
            client.recv(1000)
        for _ in range(8):
            time.sleep(0.1)
            used.sendall(GET)
            assert used.recv(1000).startswith(b"HTTP/1.1 200")

        assert until_closed(idle) == b""


def test_an_answer_that_nobody_reads_is_given_up():
    with serving(unread_ms_max=1_000) as served, socket.socket() as client:
        before = served.ask("/status")[1]["files"]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((HOST, served.port))
        client.sendall(b"GET /big?bytes=30000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert eventually(lambda: served.ask("/status")[1]["files"] == before + 1)

        assert eventually(lambda: served.ask("/status")[1]["files"] == before)


def test_a_request_ends_in_time_however_its_chunks_are_sent():
    with serving(request_ms_max=600) as served, connect(served) as client:
        client.sendall(b"POST /post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.settimeout(0.1)
        with pytest.raises(ConnectionError):
            for _ in range(50):
                client.sendall(b"1\r\nx\r\n")
                with contextlib.suppress(TimeoutError):
                    if not client.recv(100):
                        raise ConnectionError


def test_each_request_that_expects_100_gets_it(four: Served):
    head = b"POST /post HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n"
    with connect(four) as client:
        for _ in range(2):
            client.sendall(head)
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b'{"n":1}')
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_who_says_that_it_is_done_gets_all_its_answers(four: Served):
    with connect(four) as client:
        client.sendall(GET * 100)
        client.shutdown(socket.SHUT_WR)

        assert until_closed(client).count(b"HTTP/1.1 200 ") == 100


def test_what_one_client_does_not_read_takes_little_memory():
    with serving() as served, socket.socket() as client:
        before = served.ask("/status")[1]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((HOST, served.port))
        client.sendall(b"GET /big?bytes=1000000 HTTP/1.1\r\nHost: x\r\n\r\n" * 32)
        assert eventually(lambda: "GET /big" in served.ask("/handled")[1])
        after = served.ask("/status")[1]

        assert after["files"] == before["files"] + 1
        assert after["rss_kib"] - before["rss_kib"] < 8_000


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_that_is_too_large_is_forgotten_with_its_connection(end: bytes):
    head = b"GET /get HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + end
    with serving() as served:

        def refused(times: int) -> None:
            for _ in range(times):
                with connect(served) as client:
                    client.sendall(head)
                    assert until_closed(client).startswith(b"HTTP/1.1 431 ")

        refused(50)
        before = served.ask("/status")[1]
        refused(300)
        after = served.ask("/status")[1]

        assert after["files"] == before["files"]
        assert after["rss_kib"] - before["rss_kib"] < 1_000


def test_above_the_cap_the_public_listener_hangs_up_and_the_others_serve():
    with serving(listeners=2, connections_max=16) as served:
        inside = [connect(served) for _ in range(16)]
        for client in inside:
            client.sendall(GET)
            assert client.recv(1000).startswith(b"HTTP/1.1 200")

        outside = [connect(served) for _ in range(50)]
        for client in outside:
            with contextlib.suppress(ConnectionError):
                client.sendall(GET)
        turned_away = [until_closed(client) for client in outside]
        operator = served.ask("/connections", port=served.ports[1])[1]
        inside.pop().close()
        let_in_again = eventually(lambda: _is_answered(served))

        assert turned_away == [b""] * 50
        assert operator == 17
        assert let_in_again
        for client in inside:
            client.close()


def _lets_in(served: Served) -> bool:
    with contextlib.suppress(ConnectionError), connect(served):
        return True
    return False


def _is_answered(served: Served) -> bool:
    with connect(served) as client:
        try:
            client.sendall(GET)
            return client.recv(1000).startswith(b"HTTP/1.1 200")
        except ConnectionError:
            return False


@pytest.mark.parametrize("size", [0, 1, 300, 100_000, 10_000_000])
def test_an_application_can_close_the_connection_with_an_answer_of_any_size(four: Served, size: int):
    with connect(four) as client:
        client.sendall(f"GET /close?bytes={size} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + GET)

        top, _, body = until_closed(client).partition(b"\r\n\r\n")

        assert f"\r\ncontent-length: {size}\r\n" in top.decode() + "\r\n"
        assert top.count(b"\r\nconnection: close") == top.count(b"\r\nconnection:") == 1
        assert body == b"x" * size


def test_answers_name_no_server(four: Served):
    with connect(four) as client:
        client.sendall(GET)

        assert b"server:" not in client.recv(1000).lower()


def test_the_process_says_nothing_of_its_own():
    """Logs are one JSON line each; a parser's complaint about hostile bytes is none."""
    with serving() as served:
        for hostile in (
            b"\x16\x03\x01\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /%00 HTTP/1.1\r\n\r\n",
        ):
            with connect(served) as client:
                client.sendall(hostile)
                until_closed(client)
        served.end()

        assert served.process.stdout.read() == "ended\n"


def test_memory_and_files_stay_flat_under_keep_alive_load(tmp_path: Path):
    script = tmp_path / "post.lua"
    script.write_text('wrk.method = "POST"; wrk.body = \'{"a": "\' .. string.rep("x", 300) .. \'"}\'')
    with serving() as served:
        load = ["wrk", "-t1", "-c16", "-d1", "-s", str(script), f"http://{HOST}:{served.port}/post"]
        subprocess.run(load, check=True, capture_output=True)
        before = served.ask("/status")[1]
        said = subprocess.run(
            [*load[:3], "-d2", *load[4:]], check=True, capture_output=True, text=True
        ).stdout
        after = served.ask("/status")[1]

        assert "Non-2xx" not in said and "Socket errors" not in said
        assert after["files"] == before["files"]
        assert after["rss_kib"] - before["rss_kib"] < 1_000


# --- the commit -------------------------------------------------------------------------------------


def echo(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("x-request-id", environ["PATH_INFO"][1:])])
    return [b"done"]


def one_turn(commit: Callable[[], Any], requests: list[bytes]) -> list[bytes]:
    """What clients that sent `requests` before the server's first turn are answered, in this process."""
    from tradsys.adapters.http.server import Listener, Server

    port = free_ports(1)[0]
    turns: list[None] = []

    def each_turn() -> None:
        turns.append(None)
        if len(turns) > 20:
            server.stop()

    server = Server([Listener(HOST, port, echo)], each_turn=each_turn, commit=commit, spin=True)
    server.listen()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((HOST, port))) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        time.sleep(0.05)
        CLIENTS[:] = clients
        server.run()
        return [until_closed(client) for client in clients]


CLIENTS: list[socket.socket] = []


def waiting(client: socket.socket) -> bytes:
    """What has been sent to it so far."""
    try:
        return client.recv(1 << 20, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def test_no_answer_leaves_before_its_turn_is_committed():
    seen: list[list[bytes]] = []

    answers = one_turn(
        lambda: seen.append([waiting(client) for client in CLIENTS]),
        [b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n" * 3],
    )

    assert seen == [[b"", b""]]
    assert [answer.count(b"200 OK") for answer in answers] == [1, 3]


def test_what_can_not_be_committed_is_unknown_under_its_own_request_id():
    answers = one_turn(
        lambda: [("X-Seq", "7")],
        [b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n" * 2],
    )

    assert [answer.count(b"503 Service Unavailable") for answer in answers] == [1, 2]
    top, _, body = answers[0].partition(b"\r\n\r\n")
    assert b"X-Seq: 7" in top and b"x-request-id: a\r\n" in top and b"connection: close" in top
    assert json.loads(body) == {
        "code": 1001, "message": "the outcome is unknown", "details": {}, "request_id": "a"
    }  # fmt: skip
    assert not any(b"done" in answer for answer in answers)


def test_many_requests_of_one_client_do_not_keep_another_waiting():
    """32 of one connection, then everybody else, then the next 32."""
    commits: list[None] = []

    answers = one_turn(lambda: commits.append(None), [GET * 100, GET])

    assert [answer.count(b"200 OK") for answer in answers] == [100, 1]
    assert len(commits) >= 4
