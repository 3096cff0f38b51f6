"""What a crash, a restart and a clean end leave: every acknowledged answer, and nothing else."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

from tests.api.venue_process import API, HOST, RunningVenue, Trader


def everything(venue: RunningVenue, traders: list[Trader], markets: list[str]) -> dict[str, Any]:
    """All that clients can see, but sequence numbers and times of what was never changed."""
    seen: dict[str, Any] = {"rules": venue.ok(venue.admin("GET", "/rules"))}
    for market in markets:
        for level in (2, 3):
            book = venue.ok(venue.call("GET", f"/market/{market}/book?level={level}"))
            seen[f"{market} {level}"] = [book[name] for name in ("bids", "asks", "checksum")]
        for path in (f"/symbols/{market}", f"/market/{market}/trades"):
            seen[path] = venue.ok(venue.call("GET", path))
        ticker = venue.ok(venue.call("GET", f"/market/{market}/ticker"))
        seen[f"{market} ticker"] = {
            name: value for name, value in ticker.items() if name not in ("seq", "ts")
        }
    for trader in traders:
        for path in ("/orders", "/balances", "/positions", "/risk/state", "/risk/limits", "/accounts/me"):
            seen[f"{trader.name} {path}"] = venue.ok(trader.get(path))
    return seen


def some_life(venue: RunningVenue) -> tuple[list[Trader], list[str]]:
    """Orders of all kinds, traded, resting, waiting, canceled; limits, fees, a halt."""
    markets = [venue.market(taker_fee_bps="10"), venue.market()]
    base = markets[0].removesuffix("-USD")
    cash, limits = venue.account("cash", USD="10000", **{base: "50"}), venue.account("limits")
    venue.ok(venue.admin("PUT", f"/accounts/{limits.name}/limits", {"position_max": "1000"}))
    for market in markets:
        limits.placed(market, "sell", "9", "101", display_quantity="2")
        limits.placed(market, "sell", "1", "100")
        cash.placed(market, "buy", "2", "101")
        limits.placed(market, "buy", "1", "90", time_in_force="gtd", expire_at=str(4 * 10**18))
        cash.placed(market, "buy", "1", type="stop", stop_price="150")
        canceled = cash.placed(market, "buy", "1", "80", client_order_id=f"c{market}")["order_id"]
        venue.ok(cash.delete(f"/orders/{canceled}"))
        replaced = cash.placed(market, "buy", "1", "81")["order_id"]
        venue.ok(cash.put(f"/orders/{replaced}", {"price": "82", "quantity": "1.5"}))
        assert cash.place(market, "buy", "1", "1000000").code == 3003
    venue.ok(venue.admin("PUT", f"/symbols/{markets[1]}/status", {"status": "halted"}))
    return [cash, limits], markets


def test_kill_9_loses_nothing_that_was_answered(venue: RunningVenue) -> None:
    traders, markets = some_life(venue)
    before = everything(venue, traders, markets)
    seq = venue.call("GET", "/time").seq
    epoch = int(venue.call("GET", "/time").headers["x-epoch"])

    for life in (1, 2):
        venue.kill9()
        venue.start()

        assert everything(venue, traders, markets) == before
        reply = venue.call("GET", "/time")
        assert (reply.seq, reply.headers["x-epoch"]) == (seq, str(epoch + life))


def test_a_clean_restart_loses_nothing_and_time_goes_on(venue: RunningVenue) -> None:
    traders, markets = some_life(venue)
    before = everything(venue, traders, markets)
    last = int(venue.ok(venue.call("GET", "/time"))["time"])

    codes = venue.stop()
    venue.start()

    assert codes == {"engine": 0}
    assert everything(venue, traders, markets) == before
    assert int(venue.ok(venue.call("GET", "/time"))["time"]) > last
    order = traders[1].placed(markets[0], "buy", "1", "70")
    assert int(order["created_ts"]) > last


def test_an_order_that_falls_due_while_the_venue_is_down_expires_when_it_is_up(venue: RunningVenue) -> None:
    trader, market = venue.account("limits"), venue.market()
    at = str(int(venue.ok(venue.call("GET", "/time"))["time"]) + 300_000_000)
    order = trader.placed(market, "buy", "1", "10", time_in_force="gtd", expire_at=at)["order_id"]

    venue.kill9()
    time.sleep(0.3)
    venue.start()

    deadline = time.monotonic() + 10
    while (found := trader.order(order))["status"] == "new" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (found["status"], found["reason"]) == ("expired", "time_up")
    assert venue.ok(venue.call("GET", f"/market/{market}/book"))["bids"] == []


def test_a_drain_answers_what_is_under_way_refuses_new_orders_and_ends_cleanly(venue: RunningVenue) -> None:
    trader, market = venue.account("limits"), venue.market()
    body = json.dumps({"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "10"})
    headers = {"Authorization": f"Bearer {trader.token}"}
    open_connections = [http.client.HTTPConnection(HOST, venue.ports["port"], timeout=10) for _ in range(2)]
    for connection in open_connections:
        connection.request("POST", f"{API}/orders", body, headers)
        assert connection.getresponse().read()

    # Half of a request has come when the venue is told to drain; the other half comes after.
    late = open_connections[0]
    late.putrequest("POST", f"{API}/orders")
    for name, value in (*headers.items(), ("Content-Length", str(len(body)))):
        late.putheader(name, value)
    late.endheaders()
    drained = venue.ok(venue.admin("POST", "/drain"))
    late.send(body.encode())
    answer = late.getresponse()
    refused = json.loads(answer.read())
    process = venue.processes.pop("engine")
    code = process.wait(timeout=20)

    assert drained == {"draining": True}
    assert (answer.status, refused["code"], answer.headers["Retry-After"]) == (503, 1020, "1")
    assert answer.headers["Connection"].split(",")[0] == "close"
    assert code == 0
    venue.hang_up()
    venue.start()
    assert len(venue.ok(trader.get("/orders"))["items"]) == 2


def test_sigterm_ends_a_venue_that_has_connections_within_moments(venue: RunningVenue) -> None:
    idle = [http.client.HTTPConnection(HOST, venue.ports["port"], timeout=10) for _ in range(20)]
    for connection in idle:
        connection.request("GET", f"{API}/time")
        connection.getresponse().read()

    codes = venue.stop()

    assert codes == {"engine": 0}
    venue.start()
