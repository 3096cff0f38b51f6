"""The commands of a trader and of an operator against a real venue: what they print, and how they end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.server_process import free_ports
from tests.api.venue_process import RunningVenue
from tests.cli.command import tradsys
from tests.cli.conftest import Run

SCRIPT = str(Path(sys.executable).with_name("tradsys"))


# --- trading ----------------------------------------------------------------------------------------


def test_an_order_is_placed_looked_at_replaced_and_canceled(venue: RunningVenue, run: Run):
    symbol = venue.market()
    placed = run("order", "place", symbol, "sell", "2", "--price", "10.5", "--json").json
    order_id = placed["order_id"]

    assert (placed["status"], placed["type"], placed["time_in_force"]) == ("new", "limit", "gtc")
    assert re.fullmatch("cli-[0-9a-f]{16}", placed["client_order_id"])
    assert run("order", "get", order_id, "--json").json == placed
    assert run("order", "get", placed["client_order_id"], "--client", "--json").json == placed

    replaced = run("order", "replace", order_id, "--quantity", "1.5", "--version", "0", "--json").json
    assert (replaced["quantity"], replaced["version"]) == ("1.5", 1)
    listed = run("order", "list", "--symbol", symbol, "--json").json
    assert [order["order_id"] for order in listed["items"]] == [order_id]

    canceled = run("cancel", order_id, "--json").json
    assert (canceled["status"], canceled["reason"]) == ("canceled", "requested")
    assert run("order", "list", "--symbol", symbol).out.strip() == "no such orders"


def test_what_an_order_becomes_follows_from_its_prices(venue: RunningVenue, run: Run):
    symbol = venue.market()

    def kind(*options: str) -> tuple[str, str]:
        order = run("order", "place", symbol, "buy", "1", *options, "--json").json
        return order["type"], order["time_in_force"]

    assert kind() == ("market", "ioc")
    assert kind("--price", "5", "--tif", "day") == ("limit", "day")
    assert kind("--stop", "7") == ("stop", "gtc")
    assert kind("--stop", "7", "--price", "7.5") == ("stop_limit", "gtc")
    assert kind("--price", "5", "--expires-in", "1h") == ("limit", "gtd")
    assert kind("--price", "5", "--display", "0.1", "--post-only", "--valid-for", "1m") == ("limit", "gtc")


def test_a_repeat_with_the_same_client_order_id_is_the_same_order(venue: RunningVenue, run: Run):
    order = ("order", "place", venue.market(), "buy", "1", "-p", "5", "--client-order-id", "mine-1", "--json")

    assert run(*order).json == run(*order).json


def test_all_orders_of_a_side_are_canceled_at_once(venue: RunningVenue, run: Run):
    symbol = venue.market()
    for side, price in (("buy", "5"), ("buy", "6"), ("sell", "9")):
        run("order", "place", symbol, side, "1", "-p", price)

    assert run("cancel", "--all", "--symbol", symbol, "--side", "buy").out == "2 orders canceled\n"
    assert run("cancel", "--all", "--symbol", symbol, "--json").json == {"canceled": 1, "pending": False}


def test_the_book_reads_from_the_asks_down_to_the_bids(venue: RunningVenue, run: Run):
    symbol = venue.market()
    ids = [
        run("order", "place", symbol, side, qty, "-p", price, "--json").json["order_id"]
        for side, qty, price in (("buy", "4", "9.9"), ("sell", "1", "10.1"), ("sell", "8", "10.2"))
    ]

    rows = [line.split() for line in run("book", symbol).out.splitlines() if "█" in line]
    assert [row[:3] for row in rows] == [
        ["sell", "10.2", "8"],
        ["sell", "10.1", "1"],
        ["buy", "9.9", "4"],
    ]
    assert len(rows[0][3]) == 2 * len(rows[2][3]) == 8 * len(rows[1][3])
    by_order = run("book", symbol, "--level", "3").out
    assert [order_id in by_order for order_id in ids] == [True] * 3
    assert run("book", symbol, "--depth", "1", "--json").json["asks"] == [["10.1", "1"]]


def test_trades_account_and_fills_tell_the_same_story(venue: RunningVenue, run: Run):
    symbol = venue.market()
    for name in ("seller", "buyer"):
        run("admin", "account", "create", name)
    run("order", "place", symbol, "sell", "3", "-p", "10", "--account", "seller")
    bought = run("order", "place", symbol, "buy", "2", "-p", "10", "--account", "buyer")

    assert "filled" in bought.out and "Fills" in bought.out and "taker" in bought.out
    trade = run("trades", symbol, "--json").json["items"][0]
    assert (trade["price"], trade["quantity"], trade["taker_side"]) == ("10", "2", "buy")
    assert trade["price"] in run("trades", symbol).out
    seller = run("account", "--account", "seller", "--json").json
    assert seller["positions"][0] == {
        "symbol": symbol,
        "quantity": "-2",
        "open_buys": "0",
        "open_sells": "1",
    }
    assert symbol in run("account", "--account", "seller").out


def test_an_order_can_be_tried_without_being_placed(venue: RunningVenue, run: Run):
    symbol = venue.market()

    assert run("order", "test", symbol, "buy", "1", "-p", "5", "--json").json["valid"] is True
    assert "valid" in run("order", "test", symbol, "buy", "1", "-p", "5").out
    refused = run("order", "test", symbol, "buy", "0.0001", "-p", "5")
    assert (refused.code, refused.out) == (1, "")
    assert "refused with 1004" in refused.err
    assert run("order", "list", "--symbol", symbol, "--json").json["items"] == []


def test_symbols_are_listed_with_their_grid(venue: RunningVenue, run: Run):
    symbol = venue.market(tick_size="0.05")

    assert symbol in run("symbols").out
    assert run("symbols", symbol, "--json").json["tick_size"] == "0.05"


# --- administration ---------------------------------------------------------------------------------


def test_an_admin_makes_a_market_and_an_account_and_bounds_both(run: Run):
    define = ("admin", "symbol", "define", "ADM-USD", "--tick", "0.01", "--lot", "0.1")
    assert run(*define, "--max-quantity", "50", "--json").json["max_quantity"] == "50"
    assert run("admin", "fees", "ADM-USD", "--maker", "1", "--taker", "2.5", "--json").json[
        "taker_fee_bps"
    ] == ("2.5")
    assert run("admin", "band", "ADM-USD", "500", "--json").json["band_bps"] == "500"
    assert run("admin", "reference", "ADM-USD", "10", "--json").json["price"] == "10"

    assert run("admin", "account", "create", "carol", "--mode", "cash", "--json").json["mode"] == "cash"
    deposited = run("admin", "adjust", "carol", "USD", "100", "--txn-id", "t1", "--json").json
    again = run("admin", "adjust", "carol", "USD", "100", "--txn-id", "t1", "--json").json
    assert (
        deposited["balances"]
        == again["balances"]
        == [{"asset": "USD", "free": "100", "reserved": "0", "total": "100"}]
    )
    assert run("admin", "adjust", "carol", "USD", "--", "-40").code == 0
    assert "60" in run("admin", "account", "show", "carol").out
    assert "carol" in run("admin", "account", "list").out

    unlimited = run("admin", "account", "create", "dave").out
    assert re.search("position max +none", unlimited)
    limited = run("admin", "limits", "dave", "--order-quantity", "3", "--open-orders", "1", "--json").json
    assert (limited["limits"]["order_quantity_max"], limited["limits"]["open_orders_max"]) == ("3", 1)
    too_large = run("order", "place", "ADM-USD", "buy", "4", "-p", "10", "--account", "dave")
    assert (too_large.code, "3002" in too_large.err) == (1, True)


def test_an_admin_halts_resumes_kills_and_cancels(venue: RunningVenue, run: Run):
    symbol = venue.market()
    place = ("order", "place", symbol, "buy", "1", "-p", "5", "--account", "erin")
    run("admin", "account", "create", "erin")

    assert run("admin", "halt", symbol, "--json").json == {"symbol": symbol, "status": "halted"}
    assert "1010" in run(*place).err
    assert run("admin", "halt", symbol, "--cancel-only", "--json").json["status"] == "cancel_only"
    assert run("admin", "resume", symbol, "--json").json["status"] == "trading"
    assert run(*place).code == 0
    assert run("admin", "cancel-all", "erin", "--symbol", symbol, "--json").json["canceled"] == 1
    assert run("admin", "kill", "erin", "--json").json["on"] is True
    assert "3005" in run(*place).err
    assert run("admin", "kill", "erin", "off", "--json").json["on"] is False
    assert run(*place).code == 0


def test_an_admin_revokes_the_tokens_of_an_account(venue: RunningVenue, run: Run):
    run("admin", "account", "create", "frank")
    token = venue.token("frank", age_s=5)
    assert run("account", "--token", token).code == 0

    assert run("admin", "revoke", "--of", "frank").code == 0

    assert "2002" in run("account", "--token", token).err
    assert run("admin", "revoke").code == 2


def test_rules_are_shown_and_changed_one_by_one(run: Run):
    before = run("admin", "rules", "show", "--json").json

    after = run("admin", "rules", "set", "closed_orders_max=12345", "--json").json

    assert after == before | {"closed_orders_max": 12345}
    assert run("admin", "rules", "set", "closed_orders_max=many").code == 2


def test_admin_commands_need_the_scope_admin(venue: RunningVenue, run: Run):
    refused = run("admin", "halt", "*", "--token", venue.token("demo", "trade read"))

    assert refused.code == 1
    assert "refused with 2003" in refused.err and "tradsys admin account create" in refused.err


# --- tokens and settings ----------------------------------------------------------------------------


def test_a_token_is_all_that_is_printed_and_it_is_good(run: Run):
    printed = run("token", "--account", "demo", "--scope", "trade read", "--ttl", "5m")

    assert (printed.code, printed.err) == (0, "")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", printed.out)
    assert run("account", "--token", printed.out.strip()).code == 0
    assert run("account", TRADSYS_TOKEN=printed.out.strip()).code == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--account", "demo", "--scope", "write"), 2, "unknown scope 'write'"),
        (("--account", "demo", "--ttl", "soon"), 2, "write 90s, 15m, 1h or 7d"),
        (("--account", "demo", "--ttl", "0"), 2, "no duration"),
        ((), 2, "--account"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(run: Run, options: tuple[str, ...], code: int, said: str):
    ended = run("token", *options)

    assert (ended.code, ended.out, said in ended.err) == (code, "", True)


def test_without_the_key_a_command_says_how_to_get_a_token(run: Run, tmp_path: Path):
    ended = run("account", TRADSYS_DATA_DIR=str(tmp_path))

    assert ended.code == 78
    assert "pass --token or set TRADSYS_TOKEN" in ended.err


def test_settings_are_shown_with_their_source(venue: RunningVenue, run: Run):
    shown = {setting["name"]: setting for setting in run("config", "--json").json}

    assert (shown["port"]["value"], shown["port"]["source"]) == (venue.ports["port"], "TRADSYS_PORT")
    assert shown["durability"]["source"] == "default"
    table = run("config").out
    assert [name for name in shown if name not in table] == []


def test_a_wrong_setting_ends_every_command_with_78_and_the_nearest_name(run: Run):
    ended = run("symbols", TRADSYS_DURABILTY="process")

    assert ended.code == 78
    assert "did you mean TRADSYS_DURABILITY?" in ended.err


def test_a_settings_file_is_named_before_the_command(run: Run, tmp_path: Path):
    path = tmp_path / "venue.yaml"
    path.write_text("sync_interval_ms: 7\n")

    shown = run("--config", path, "config", "--json").json

    assert next(s["value"] for s in shown if s["name"] == "sync_interval_ms") == 7


# --- how commands end -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("order", "place", "BTC-USD", "hold", "1"),
        ("order", "replace", "a-1"),
        ("cancel",),
        ("cancel", "a-1", "--all"),
        ("cancel", "a-1", "--symbol", "BTC-USD"),
        ("symbols", "--url", "127.0.0.1:8000"),
        ("symbols", "--url", "http://venue:port"),
        ("watch", "BTC-USD", "--ws-url", "http://venue.example"),
        ("order", "place", "BTC-USD", "buy", "1", "-p", "1", "--tif", "ioc", "--expires-in", "1h"),
        ("flow", "--tops", "x"),
        ("flow", "--dry-run", "--rate", "0", "--duration", "1s"),
        ("flow", "--price", "0.001", "--dry-run"),
        ("flow", "--account", "a", "--account", "b", "--token", "x"),
        ("flow", "--lobster", "nowhere.csv"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[str, ...]):
    ended = run(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err


def test_a_venue_that_is_not_there_is_said_with_what_to_do(run: Run):
    ended = run("symbols", "--url", "http://127.0.0.1:1")

    assert (ended.code, ended.out) == (1, "")
    assert "no answer from http://127.0.0.1:1: connection refused" in ended.err
    assert "tradsys run" in ended.err


def test_an_order_that_does_not_exist_is_refused_with_its_code(run: Run):
    ended = run("order", "get", "a-999999999")

    assert ended.code == 1
    assert re.search(r"refused with 1007: no such order \(request .+\)", ended.err)


def test_a_second_engine_in_the_directory_ends_with_75(venue: RunningVenue):
    second = subprocess.run(
        [sys.executable, "-m", "tradsys", "serve", "engine"], env=venue.env, capture_output=True
    )

    assert second.returncode == 75
    assert b"is in use by process" in second.stderr


def test_a_second_venue_in_the_directory_ends_with_75_and_starts_nothing(venue: RunningVenue, run: Run):
    ended = run("run")

    assert (ended.code, ended.out) == (75, "")
    assert "is in use by process" in ended.err
    assert "TRADSYS_DATA_DIR" in ended.err
    assert "started" not in ended.err


def test_a_port_that_is_taken_is_said_with_its_setting_before_anything_starts(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        env = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "TRADSYS_FEED_OPS_PORT": str(port)}
        names = ("PORT", "ADMIN_PORT", "INTERNAL_PORT", "OPS_PORT", "HISTORY_PORT", "QUERY_PORT", "WS_PORT")
        names += ("GRPC_PORT", "GATEWAY_OPS_PORT", "QUERY_OPS_PORT")
        free = zip(names, free_ports(len(names)), strict=True)
        ended = tradsys("run", env=env | {f"TRADSYS_{name}": str(one) for name, one in free})

    assert (ended.code, ended.out) == (1, "")
    assert f"cannot listen on port {port} of 127.0.0.1 (feed_ops_port): address already in use" in ended.err
    assert "set TRADSYS_FEED_OPS_PORT to a free one" in ended.err


@pytest.mark.parametrize("options", [(), ("--data-dir", "elsewhere")], ids=["short", "with options"])
def test_a_process_with_a_wrong_setting_ends_with_78(venue: RunningVenue, options: tuple[str, ...]):
    ended = subprocess.run(
        [sys.executable, "-m", "tradsys", *options, "serve", "engine"],
        env=venue.env | {"TRADSYS_PORT": "0"},
        capture_output=True,
    )

    assert ended.returncode == 78
    assert b"TRADSYS_PORT" in ended.stderr


def test_the_shell_completes_commands_and_choices(venue: RunningVenue):
    def completed(words: str) -> list[str]:
        env = venue.env | {
            "_TRADSYS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        return subprocess.run([SCRIPT], env=env, capture_output=True, text=True).stdout.split()

    assert completed("tradsys order pl") == ["place"]
    assert completed("tradsys serve h") == ["history"]


def test_colours_appear_on_a_terminal_only(venue: RunningVenue, run: Run):
    env = {name: value for name, value in venue.env.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    ours, theirs = os.openpty()
    subprocess.run([SCRIPT, "symbols"], env=env | {"TERM": "xterm-256color"}, stdout=theirs)
    os.close(theirs)
    seen = os.read(ours, 65_536)
    os.close(ours)

    assert b"\x1b[" in seen and b"BTC-USD" in seen
    assert "\x1b[" not in run("symbols").out


def test_the_version_is_printed(run: Run):
    assert re.fullmatch(r"tradsys \d+\.\d+\.\d+\n", run("--version").out)


def test_drain_ends_the_engine_cleanly(tmp_path: Path):
    from tests.api.venue_process import running_venue

    with running_venue(tmp_path) as venue:
        assert tradsys("admin", "drain", env=venue.env).code == 0
        assert venue.processes["engine"].wait(timeout=30) == 0
        venue.processes.clear()
