"""The scripts against the real k6: a gate that measured nothing, or something wrong, must not be green."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.server
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection
from websockets.typing import Subprotocol

from loadtests.slo.k6 import K6, SCRIPTS, THRESHOLDS_MISSED, Run
from loadtests.slo.measure import offered
from loadtests.slo.objectives import Gate
from tests.adapters.server_process import free_ports
from tests.loadtests.standin_server import Answer, stand_in

NUMBERS = {"RATE": "20", "DURATION_S": "1", "MIN_SAMPLES": "15", "TOKEN": "a token", "SYMBOL": "BTC-USD"}


def ran(url: str, folder: Path, script: Path = SCRIPTS / "order_flow.js", **numbers: str) -> Run:
    verdict = folder / "verdict.json"
    env = NUMBERS | {"BASE_URL": url, "WS_URL": url.replace("http", "ws") + "/ws"} | numbers
    return K6.finish(K6().start(script, env, verdict), script, verdict, 60)


def test_right_answers_pass(tmp_path: Path):
    with stand_in() as venue:
        run = ran(venue.url, tmp_path)

    assert (run.exit_code, run.problems(), run.shortfalls()) == (0, [], []), run.said
    assert run.findings and run.findings.samples >= 15


def test_refused_connections_fail(tmp_path: Path):
    (port,) = free_ports(1)

    run = ran(f"http://127.0.0.1:{port}", tmp_path)

    assert run.exit_code == THRESHOLDS_MISSED
    assert "order_flow: not one right answer" in run.problems()
    assert "order_flow: 100.00% of the requests failed" in run.problems()


@pytest.mark.parametrize("name", ["batch", "feed", "gate", "grpc"])
def test_refused_connections_fail_every_script(name: str, tmp_path: Path):
    (port,) = free_ports(1)

    run = ran(f"http://127.0.0.1:{port}", tmp_path, SCRIPTS / f"{name}.js", GRPC_ADDRESS=f"127.0.0.1:{port}")

    assert run.exit_code != 0, run.said
    assert run.problems()


def test_a_script_that_throws_fails(tmp_path: Path):
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    script = scripts / "order_flow.js"
    text = script.read_text().replace("  const step = ", "  throw new Error('planted');\n  const step = ")
    script.write_text(text)

    with stand_in() as venue:
        run = ran(venue.url, tmp_path, script)

    assert run.exit_code == THRESHOLDS_MISSED
    assert run.problems() == ["order_flow: not one right answer"]


def test_a_script_that_throws_now_and_then_fails_in_the_gate(tmp_path: Path):
    """One in twenty is never asked: no failed request, no wrong answer, and enough to judge the others by."""
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    script = scripts / "order_flow.js"
    fault = "  if (exec.scenario.iterationInTest % 20 === 7) throw new Error('planted');\n"
    script.write_text(script.read_text().replace("  const step = ", fault + "  const step = "))
    gate = Gate(100, 1, 50, 1, 1, 60, [])

    with stand_in() as venue:
        env = {"BASE_URL": venue.url, "TOKEN": "a token", "SYMBOL": "BTC-USD"} | offered(gate)
        verdict = tmp_path / "verdict.json"
        run = K6.finish(K6().start(script, env, verdict), script, verdict, 60)

    assert (run.exit_code, run.problems()) == (THRESHOLDS_MISSED, []), run.said
    assert run.shortfalls() == ["order_flow: right_answers: count>=99"]


def test_a_script_that_can_not_be_read_fails(tmp_path: Path):
    script = tmp_path / "broken.js"
    script.write_text("export default function () {")

    run = ran("http://127.0.0.1:1", tmp_path, script)

    assert run.findings is None
    assert run.problems()


def test_too_few_samples_fail(tmp_path: Path):
    with stand_in() as venue:
        run = ran(venue.url, tmp_path, MIN_SAMPLES="500")

    assert (run.exit_code, run.problems()) == (THRESHOLDS_MISSED, [])
    assert run.shortfalls() == ["order_flow: right_answers: count>=500"]


def test_dropped_iterations_fail(tmp_path: Path):
    with stand_in(delay_s=0.4) as venue:
        run = ran(venue.url, tmp_path, CLIENTS="1", CLIENTS_MAX="1", MIN_SAMPLES="1")

    assert run.exit_code == THRESHOLDS_MISSED
    assert run.findings and run.findings.dropped > 0
    assert "order_flow: dropped_iterations: count<1" in run.shortfalls()


def lost(answer: Answer) -> Answer:
    return answer | {"remaining_quantity": "0"}


def of_another(answer: Answer) -> Answer:
    return answer | {"client_order_id": "another"}


def never_heard_of(answer: Answer) -> Answer:
    return answer | {"status": "accepted"}


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lost, "filled and remaining make the quantity"),
        (of_another, "the answer is about the order"),
        (never_heard_of, "its status is possible"),
    ],
)
def test_wrong_answers_fail(spoil: Callable[[Answer], Answer], check: str, tmp_path: Path):
    with stand_in(spoil) as venue:
        run = ran(venue.url, tmp_path, MIN_SAMPLES="1")

    assert run.exit_code == THRESHOLDS_MISSED
    assert run.findings and list(run.findings.wrong) == [check]


def test_a_repeat_that_is_done_twice_fails(tmp_path: Path):
    with stand_in() as venue:
        venue.first_answers = _Forgets()

        run = ran(venue.url, tmp_path)

    assert run.findings and "a repeat is marked" in run.findings.wrong
    assert run.exit_code == THRESHOLDS_MISSED


class _Forgets(dict[str, Any]):
    def get(self, key: Any, default: Any = None) -> Any:
        return default


def test_answers_with_500_fail(tmp_path: Path):
    with stand_in(status=500) as venue:
        run = ran(venue.url, tmp_path)

    assert run.exit_code == THRESHOLDS_MISSED
    assert run.findings and run.findings.failed_ratio == 1


def test_a_venue_that_stops_answering_fails_whatever_the_machine_did(tmp_path: Path):
    """It keeps its connections, so that nothing is refused and no answer is wrong."""
    with stand_in() as venue:
        venue.silent_after = 20

        run = ran(venue.url, tmp_path, DURATION_S="2")

    assert run.exit_code == THRESHOLDS_MISSED
    assert [problem for problem in run.problems() if "of the requests failed" in problem], run.problems()


def test_a_number_that_is_none_is_no_default(tmp_path: Path):
    with stand_in() as venue:
        run = ran(venue.url, tmp_path, RATE="fast")

    assert run.exit_code not in (0, THRESHOLDS_MISSED)
    assert run.problems()


def test_a_verdict_fits_a_containers_termination_message(tmp_path: Path):
    with stand_in(status=500) as venue:
        ran(venue.url, tmp_path)

    assert (tmp_path / "verdict.json").stat().st_size <= 4096


def test_a_stream_that_says_nothing_fails(tmp_path: Path):
    with streaming() as url:
        run = ran(url, tmp_path, SCRIPTS / "feed.js", SUBSCRIBERS="2", MIN_SAMPLES="1")

    assert run.exit_code == THRESHOLDS_MISSED, run.findings
    assert run.problems() == ["feed: wrong answer, 2 times: the book is sent"]


def test_a_stream_with_a_book_passes(tmp_path: Path):
    with streaming('{"ch":"book","type":"snapshot","symbol":"BTC-USD","seq":1}') as url:
        run = ran(url, tmp_path, SCRIPTS / "feed.js", SUBSCRIBERS="2", MIN_SAMPLES="1")

    assert (run.exit_code, run.problems(), run.shortfalls()) == (0, [], []), run.said


@contextlib.contextmanager
def streaming(*messages: str) -> Iterator[str]:
    """The address of a server that accepts each subscription and sends these."""

    def serve(connection: ServerConnection) -> None:
        connection.recv()
        for message in ('{"id":1,"ok":true}', *messages):
            connection.send(message)
        with contextlib.suppress(ConnectionClosed):
            connection.recv(timeout=20)

    protocol = Subprotocol("tradsys.json.v1")
    with websockets.sync.server.serve(serve, "127.0.0.1", 0, subprotocols=[protocol]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()
