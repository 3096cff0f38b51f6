"""`tradsys flow` against a real venue: what is sent, what is counted, and what a crash in between costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue, running_venue
from tests.cli.conftest import Run
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.client.rest import Refused, Unreachable
from tradsys.codec.frame import COMMANDS_FRAME
from tradsys.core.messages import ACCEPTED_EVENT, PlaceOrder
from tradsys.flow.commands import FlowCommand, Place
from tradsys.flow.model import Model, commands
from tradsys.flow.send import Outcome, Sender

MODEL = Model(
    seed=11,
    symbol="BTC-USD",
    accounts=("demo",),
    tick_size=1_000_000,
    lot_size=1_000,
    start_price=5_000_000,
    typical_lots=1_000,
    open_orders=100,
)


def url(venue: RunningVenue) -> str:
    return f"http://127.0.0.1:{venue.ports['port']}"


@pytest.mark.parametrize("batch", ["1", "50"])
def test_at_a_venue_of_its_own_the_flow_meets_the_book_that_the_model_thinks_of(
    venue: RunningVenue, run: Run, batch: str
):
    """Without icebergs and stops, which the model simplifies, no cancel and no replace comes too late."""
    symbol = venue.market(tick_size="0.01", lot_size="0.00001")
    exact = ("--icebergs", "0", "--stops", "0")

    report = run(
        "flow", "--symbol", symbol, "--seed", "1", "--id-prefix", f"exact{batch}", "--count", "1500",
        "--rate", "0", "--open-orders", "100", "--batch", batch, *exact, "--json",
    ).json  # fmt: skip

    assert (report["sent"], report["accepted"], report["refusals"]) == (1500, 1500, {})
    assert (report["skipped"], report["replayed"], report["retries"]) == (0, 0, 0)
    assert report["statuses"]["filled"] > 50 and report["statuses"]["canceled"] > 100
    assert report["requests"] == 1500 if batch == "1" else report["requests"] < 500


def test_both_ways_to_send_leave_the_same_book(venue: RunningVenue, run: Run):
    books = []
    for batch in ("1", "200"):
        symbol = venue.market(tick_size="0.01", lot_size="0.00001")
        run("flow", "--symbol", symbol, "--seed", "2", "--id-prefix", symbol, "--count", "600", "--rate", "0",
            "--open-orders", "100", "--batch", batch)  # fmt: skip
        book = run("book", symbol, "--depth", "100", "--json").json
        books.append((book["bids"], book["asks"]))

    assert books[0] == books[1]
    assert books[0][0] and books[0][1]


def test_the_same_seed_again_is_answered_as_repeats_and_changes_nothing(venue: RunningVenue, run: Run):
    symbol = venue.market(tick_size="0.01", lot_size="0.00001")
    flow = ("flow", "--symbol", symbol, "--seed", "3", "--count", "300", "--rate", "0", "--json")
    first = run(*flow, "--open-orders", "1000000").json
    book = run("book", symbol, "--json").json

    again = run(*flow, "--open-orders", "1000000").json

    placed = first["accepted"] - first["statuses"].get("canceled", 0)
    assert again["replayed"] >= placed - 20
    assert run("book", symbol, "--json").json["checksum"] == book["checksum"]


def test_a_dry_run_prints_what_is_sent_byte_for_byte(venue: RunningVenue, run: Run, tmp_path: Path):
    symbol = venue.market(tick_size="0.01", lot_size="0.00001")
    flow = ("flow", "--symbol", symbol, "--seed", "4", "--count", "200", "--rate", "5000")
    recorded = tmp_path / "flow.jsonl"
    dry = run(*flow, "--dry-run").out

    sent = run(*flow, "--record", recorded, "--json").json["sent"]

    lines = [json.loads(line) for line in recorded.read_text().splitlines()]
    outcomes = [line.pop("outcome") for line in lines]
    assert [json.loads(line) for line in dry.splitlines()] == lines
    assert run(*flow, "--dry-run").out == dry
    assert sum(outcome["code"] >= 0 for outcome in outcomes) == sent
    assert outcomes[0]["status"] == "new" and outcomes[0]["order_id"].startswith("a-")


def test_several_accounts_send_in_turn_over_several_connections(venue: RunningVenue, run: Run):
    symbol = venue.market(tick_size="0.01", lot_size="0.00001")
    for name in ("flow-a", "flow-b"):
        run("admin", "account", "create", name)

    report = run(
        "flow", "--symbol", symbol, "--count", "400", "--rate", "0", "--connections", "4",
        "--account", "flow-a", "--account", "flow-b", "--json",
    ).json  # fmt: skip

    # Orders on different connections overtake each other, so some cancels come too late.
    assert report["sent"] + report["skipped"] == 400
    assert set(report["refusals"]) <= {"1007", "1009", "1011"}
    assert run("order", "list", "--account", "flow-b", "--symbol", symbol, "--json").json["items"]


def test_the_flow_keeps_its_rate_and_tells_latencies(venue: RunningVenue, run: Run):
    symbol = venue.market(tick_size="0.01", lot_size="0.00001")

    told = run("flow", "--symbol", symbol, "--seed", "5", "--rate", "200", "--duration", "1s").out

    assert "from due to answered" in told and "p99.9" in told
    assert "commands per s" in told and "accepted as" in told


def test_ctrl_c_ends_a_flow_with_its_report(venue: RunningVenue, run: Run):
    symbol = venue.market(tick_size="0.01", lot_size="0.00001")
    flow = subprocess.Popen(
        [sys.executable, "-m", "tradsys", "flow", "--symbol", symbol, "--duration", "60s", "--json"],
        env=venue.env,
        stdout=subprocess.PIPE,
    )
    while not run("book", symbol, "--json").json["bids"]:
        time.sleep(0.02)

    flow.send_signal(signal.SIGINT)
    told, _ = flow.communicate(timeout=30)

    assert flow.returncode == 130
    assert json.loads(told)["sent"] > 0


def test_an_account_that_does_not_exist_ends_the_flow(run: Run):
    ended = run("flow", "--count", "10", "--account", "nobody")

    assert ended.code == 1
    assert "refused with 2003" in ended.err


def test_a_token_that_is_not_valid_ends_the_flow(venue: RunningVenue):
    with pytest.raises(Refused, match="2002"):
        Sender(url(venue), {"demo": "forged"}, batch=10).run(islice(commands(MODEL), 20))


def test_a_venue_that_stays_away_ends_the_flow():
    with pytest.raises(Unreachable):
        Sender("http://127.0.0.1:1", {"demo": "x"}, patience_s=0.2).run(islice(commands(MODEL), 5))


@pytest.mark.parametrize("batch", [1, 20])
def test_a_kill_in_the_middle_loses_and_doubles_nothing(tmp_path: Path, batch: int):
    with running_venue(tmp_path) as venue:
        token = venue.token("demo")
        sender = Sender(url(venue), {"demo": token}, connections=3, batch=batch)
        killed = threading.Event()

        def kill_and_start() -> None:
            while sender.report.sent < 300:
                time.sleep(0.005)
            venue.kill9()
            venue.start()
            killed.set()

        killer = threading.Thread(target=kill_and_start)
        killer.start()
        accepted: dict[str, str] = {}

        def record(command: FlowCommand, outcome: Outcome) -> None:
            if isinstance(command, Place) and not outcome.code:
                accepted[command.order.client_order_id] = outcome.order_id.rpartition("-")[2]

        report = sender.run(islice(commands(MODEL), 1_500), record=record)
        killer.join()
        venue.stop()

        assert killed.is_set()
        assert report.retries > 0
        assert report.sent + report.skipped == 1_500
        assert journalled_orders(venue.data) == accepted


def journalled_orders(data: Path) -> dict[str, str]:
    """client_order_id and number of each accepted order in the journal; none may be there twice."""
    found: dict[str, str] = {}
    reader = LogReader(str(data), OsFiles())
    while (raw := reader.next_frame()) is not None:
        if raw.kind != COMMANDS_FRAME:
            continue
        frame = reader.decode(raw)
        for seq, entry in enumerate(frame.entries, frame.first_seq):
            if isinstance(entry.command, PlaceOrder) and entry.events[0][0] == ACCEPTED_EVENT:
                assert entry.command.client_order_id not in found
                found[entry.command.client_order_id] = str(seq)
    reader.close()
    return found
