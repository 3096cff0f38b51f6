"""The console in a real browser, as a trader uses it; and what it says when something is not there."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from tests.api.venue_process import API, Trader
from tests.feed.feed_venue import FeedVenue

AWAY = "net::ERR_|Failed to load resource|WebSocket connection"
"""What the browser itself says when a process is away."""


@pytest.fixture
def trader(venue: FeedVenue) -> Trader:
    return venue.account("limits")


@pytest.fixture
def market(venue: FeedVenue) -> str:
    return venue.market()


def test_an_order_is_placed_rests_trades_and_what_is_left_is_canceled(console, venue, trader, market):
    other = venue.account("limits")
    console.open(market)
    console.sign_in(trader)
    page = console.page

    console.order("buy", "2", "100.5")

    expect(page.locator("#outcome")).to_contain_text("rests")
    expect(page.locator(".half.bids .level.mine")).to_have_count(1)
    expect(page.locator("#own tbody tr")).to_have_count(1)
    assert console.levels("bids") == [("100.50", "2.000")]
    (row,) = console.rows()
    assert row[1:8] == [market, "buy", "limit gtc", "100.50", "–", "2.000", "0.000"]

    other.placed(market, "sell", "0.5", "100.5")

    expect(page.locator("#trades li span").first).to_have_text("100.50")
    expect(page.locator("#own tbody tr td").nth(7)).to_have_text("0.500")
    expect(page.locator("#q-last")).to_have_text("100.50")
    assert console.levels("bids") == [("100.50", "1.500")]

    page.click("#own tbody tr button")

    expect(page.locator("#own")).to_have_text("You have no open orders.")
    expect(page.locator(".half.bids .level")).to_have_count(0)
    page.click("#tab-fills")
    expect(page.locator("#own tbody tr")).to_have_count(1)
    assert console.rows()[0][1:7] == [market, "buy", "100.50", "0.500", "0", "maker"]
    page.click("#tab-history")
    expect(page.locator("#own tbody tr")).to_have_count(1)
    assert console.rows()[0][6:9] == ["0.500", "100.50", "canceled"]
    assert trader.get("/orders").json["items"] == []


@pytest.mark.parametrize(
    ("fields", "placed"),
    [
        ({"type": "market", "quantity": "1"}, {"type": "market", "time_in_force": "ioc", "status": "filled"}),
        (
            {"type": "limit", "quantity": "1", "price": "99", "time_in_force": "ioc"},
            {"type": "limit", "time_in_force": "ioc", "status": "expired"},
        ),
        (
            {"type": "stop", "quantity": "1", "stop_price": "150"},
            {"type": "stop", "stop_price": "150", "status": "new"},
        ),
        (
            {
                "type": "stop_limit",
                "quantity": "3",
                "price": "151",
                "stop_price": "150",
                "display_quantity": "1",
            },
            {"type": "stop_limit", "price": "151", "stop_price": "150", "status": "new"},
        ),
        (
            {
                "type": "limit",
                "quantity": "1",
                "price": "98",
                "time_in_force": "gtd",
                "expire_at": "2035-01-01T10:00:00",
            },
            {"type": "limit", "time_in_force": "gtd", "status": "new"},
        ),
    ],
)
def test_every_type_of_order_can_be_placed(console, venue, trader, market, fields, placed):
    maker = venue.account("limits")
    maker.placed(market, "sell", "1", "100")
    maker.placed(market, "buy", "1", "100")
    maker.placed(market, "sell", "5", "110")
    console.open(market)
    console.sign_in(trader)
    page = console.page
    page.click("#ticket summary")

    for name, value in fields.items():
        if name in ("type", "time_in_force"):
            page.select_option(f"[name={name}]", value)
        else:
            page.fill(f"[name={name}]", value)
    with page.expect_response(lambda reply: reply.request.method == "POST") as sent:
        page.click(".submit")

    order = sent.value.json()
    assert {name: order[name] for name in placed} == placed
    expect(page.locator("#outcome")).to_contain_text(order["order_id"])


def test_a_refusal_is_told_in_the_venues_words(console, trader, market):
    console.open(market)
    console.sign_in(trader)

    console.order("buy", "1", "100.001")
    expect(console.page.locator("#outcome")).to_contain_text("1004: ")
    expect(console.page.locator("#outcome")).to_have_class("outcome bad")

    console.order("buy", "one", "100")
    expect(console.page.locator("#outcome")).to_have_text("quantity is a number above 0, like 12.5")
    expect(console.page.locator("[name=quantity]")).to_have_attribute("aria-invalid", "true")
    console.foresee("422")


def test_everything_can_be_done_from_the_keyboard(console, venue, trader, market):
    other = venue.account("limits")
    other.placed(market, "sell", "2", "101")
    other.placed(market, "sell", "2", "102")
    console.open(market)
    console.sign_in(trader)
    page, keys = console.page, console.page.keyboard
    expect(page.locator(".half.asks .level")).to_have_count(2)

    keys.press("l")
    keys.press("ArrowUp")
    keys.press("ArrowUp")
    keys.press("Enter")
    assert page.input_value("[name=price]") == "102"
    keys.press("Escape")
    keys.press("p")
    keys.press("ArrowDown")
    keys.press("Shift+ArrowUp")
    assert page.input_value("[name=price]") == "102.09"
    keys.press("Escape")
    keys.press("s")
    assert page.evaluate("document.activeElement.name") == "quantity"
    keys.type("1.5")
    keys.press("Enter")
    expect(page.locator("#outcome")).to_contain_text("rests")
    keys.press("Escape")
    keys.press("x")
    expect(page.locator("#d-cancel")).to_be_visible()
    keys.press("Tab")
    keys.press("Enter")
    expect(page.locator("#own")).to_have_text("You have no open orders.")

    for key, tab in (("f", "fills"), ("h", "history"), ("a", "funds"), ("o", "orders")):
        keys.press(key)
        expect(page.locator(f"#tab-{tab}")).to_have_attribute("aria-selected", "true")
    keys.press("5")
    expect(page.locator("#intervals input:checked")).to_have_value("1h")
    keys.press("?")
    expect(page.locator("#d-help")).to_be_visible()
    keys.press("Escape")
    keys.press("c")
    expect(page.locator("#d-connection")).to_contain_text("verified by checksum")


def test_light_and_dark_follow_the_system_until_one_is_chosen(console, market):
    console.open(market)
    page = console.page

    def ground() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground()
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = ground()
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()

    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert ground() == light != dark


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(console, market, theme):
    console.page.emulate_media(color_scheme=theme)
    console.open(market)

    colors = console.page.evaluate(
        """() => {
            const style = getComputedStyle(document.documentElement);
            const paint = document.createElement("canvas").getContext("2d");
            const rgb = (name) => {
                paint.fillStyle = style.getPropertyValue("--" + name);
                paint.fillRect(0, 0, 1, 1);
                return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
            };
            const names = ["text", "soft", "buy", "sell", "panel", "raised", "buy-fill", "sell-fill",
                "warn", "warn-fill", "bad", "bad-fill"];
            return Object.fromEntries(names.map((name) => [name, rgb(name)]));
        }"""
    )

    def luminance(name: str) -> float:
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colors[name]]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    pairs = [(text, ground) for text in ("text", "soft", "buy", "sell") for ground in ("panel", "raised")]
    pairs += [("text", "buy-fill"), ("text", "sell-fill"), ("buy", "buy-fill"), ("sell", "sell-fill")]
    pairs += [("warn", "warn-fill"), ("bad", "bad-fill"), ("bad", "panel")]
    assert [(pair, round(contrast(*pair), 2)) for pair in pairs if contrast(*pair) < 4.5] == []


def test_every_control_has_a_name(console, trader, market):
    trader.placed(market, "buy", "1", "1")
    console.open(market)
    console.sign_in(trader)
    expect(console.page.locator("#own tbody tr")).to_have_count(1)

    nameless = console.page.evaluate(
        """() => [...document.querySelectorAll(
                "button, input, select, canvas, [role=listbox], [role=option], [role=tab]")]
            .filter((one) => !(one.getAttribute("aria-label") || one.labels?.length || one.textContent.trim()
                || one.getAttribute("aria-labelledby")))
            .map((one) => one.outerHTML)"""
    )

    assert nameless == []


def test_on_a_phone_price_and_quantity_of_an_open_order_are_seen_beside_its_button(console, trader, market):
    trader.placed(market, "buy", "1", "50000.12")
    console.open(market)
    console.sign_in(trader)
    console.page.set_viewport_size({"width": 390, "height": 844})
    expect(console.page.locator("#own tbody tr")).to_have_count(1)

    quantity = console.page.locator("#own tbody td").nth(6).bounding_box()
    button = console.page.locator("#own tbody button").bounding_box()

    assert quantity["x"] + quantity["width"] <= button["x"]


def test_an_empty_market_says_so(console, market):
    console.open(market)

    expect(console.page.locator("#ladder")).to_contain_text("No orders rest in this book.")
    expect(console.page.locator("#trades")).to_have_text("Nothing has been traded yet.")
    expect(console.page.locator("#chart-empty")).to_have_text("No candles yet: nothing has been traded.")
    expect(console.page.locator("#own")).to_contain_text("Sign in to see your orders and to trade.")
    expect(console.page.locator(".submit")).to_be_disabled()


def test_candles_are_drawn_and_grow_with_each_trade(console, venue, market):
    maker, taker = venue.account("limits"), venue.account("limits")
    for price in ("100", "103", "101"):
        maker.placed(market, "sell", "1", price)
        taker.placed(market, "buy", "1", price)
    console.open(market)
    console.page.keyboard.press("7")
    legend = console.page.locator("#legend")
    expect(legend).to_contain_text("O100.00H103.00L100.00C101.00V3")

    maker.placed(market, "sell", "0.25", "99.5")
    taker.placed(market, "buy", "0.25", "99.5")

    expect(legend).to_contain_text("O100.00H103.00L99.50C99.50V3.25")
    expect(console.page.locator("#q-volume")).to_contain_text("3.25 M")
    assert re.search(
        "Candle chart, 1 candles; the newest closes at 99.5",
        console.page.get_attribute("#chart", "aria-label"),
    )


# --- the token --------------------------------------------------------------------------------------


def test_a_token_that_the_venue_refuses_is_told_and_forgotten(console, trader, market):
    console.foresee("401")
    console.open(market)
    page = console.page
    page.click("#account")
    page.fill("#token", trader.token[:-6] + "AAAAAA")
    page.click("#sign-in")

    expect(page.locator("#token-problem")).to_contain_text("The venue refused the token (2002: ")
    assert page.evaluate("sessionStorage.getItem('tradsys.token')") is None
    page.keyboard.press("Escape")
    expect(page.locator("#account")).to_have_text("Sign in")


def test_a_token_that_is_revoked_meanwhile_signs_out(console, venue, trader, market):
    console.foresee("401")
    console.open(market)
    console.sign_in(trader)

    venue.ok(venue.admin("POST", "/tokens/revoke", {"account": trader.name}))

    expect(console.page.locator("#account")).to_have_text("Sign in")
    expect(console.page.locator("#notices")).to_contain_text("token")
    expect(console.page.locator(".light[data-part=streams]")).to_have_attribute("data-state", "good")


def test_the_token_stays_in_the_tab_and_never_reaches_an_address(console, trader, market):
    asked: list[str] = []
    console.page.on("request", lambda request: asked.append(request.url))
    console.open(market)
    console.sign_in(trader)

    console.page.reload()
    expect(console.page.locator("#account")).to_have_text(trader.name)
    assert [url for url in asked if trader.token[:20] in url] == []
    assert (
        console.page.evaluate("JSON.stringify(localStorage) + document.cookie").find(trader.token[:20]) == -1
    )

    console.page.click("#account")
    console.page.click("#sign-out")
    expect(console.page.locator("#account")).to_have_text("Sign in")
    assert console.page.evaluate("sessionStorage.getItem('tradsys.token')") is None


# --- when something is away -------------------------------------------------------------------------


def test_an_engine_that_is_killed_is_told_and_all_goes_on_when_it_is_back(console, venue, trader, market):
    console.open(market)
    console.sign_in(trader)
    console.order("buy", "1", "100")
    expect(console.page.locator("#own tbody tr")).to_have_count(1)

    venue.kill9("engine")

    expect(console.page.locator("#notices")).to_contain_text("Engine down")
    expect(console.page.locator(".submit")).to_be_disabled()
    expect(console.page.locator("#c-engine")).to_have_text("down")

    venue.start()

    expect(console.page.locator("#notices")).to_have_text("")
    expect(console.page.locator(".submit")).to_be_enabled()
    console.order("sell", "1", "101")
    expect(console.page.locator("#own tbody tr")).to_have_count(2)
    assert console.levels("asks") == [("101.00", "1.000")] and console.levels("bids") == [("100.00", "1.000")]
    console.foresee(AWAY)


def test_without_streams_what_is_shown_is_marked_as_old_and_own_orders_still_come(
    console, venue, trader, market
):
    console.open(market)
    console.sign_in(trader)
    console.order("buy", "1", "100")
    expect(console.page.locator("#own tbody tr")).to_have_count(1)

    venue.kill9("feed")

    expect(console.page.locator("#notices")).to_contain_text("Streams down")
    expect(console.page.locator("body")).to_have_class(re.compile("stale"))
    trader.placed(market, "buy", "1", "99")
    expect(console.page.locator("#own tbody tr")).to_have_count(2)

    venue.start()

    expect(console.page.locator("#notices")).to_have_text("")
    expect(console.page.locator(".half.bids .level")).to_have_count(2)
    console.foresee(AWAY)


def test_an_order_without_an_answer_is_looked_up_before_anything_is_said(console, trader, market):
    console.open(market)
    console.sign_in(trader)

    def lose_the_answer(route: Route) -> None:
        if route.request.method == "POST":
            route.fetch()
            route.abort()
        else:
            route.continue_()

    console.page.route(f"**{API}/orders", lose_the_answer)
    console.order("buy", "1", "100")

    expect(console.page.locator("#outcome")).to_contain_text("rests")
    assert len(trader.get("/orders").json["items"]) == 1
    console.foresee(AWAY)


def test_an_order_that_never_arrived_can_be_sent_again_and_is_taken_once(console, trader, market):
    console.open(market)
    console.sign_in(trader)
    console.page.route(f"**{API}/orders", lambda route: route.abort(), times=1)
    console.order("buy", "1", "100")
    expect(console.page.locator("#outcome")).to_contain_text("did not reach the venue")

    console.page.click("#outcome button")

    expect(console.page.locator("#outcome")).to_contain_text("rests")
    assert len(trader.get("/orders").json["items"]) == 1
    console.foresee("404|net::ERR")


# --- the book's copy --------------------------------------------------------------------------------

BOOK = """async (messages) => {
    const { Book } = await import("/console/book.js");
    const book = new Book();
    return [messages.map((message) => book.take(message)), book.bids.map((l) => [l.price, l.quantity]),
        book.asks.map((l) => [l.price, l.quantity])];
}"""


def message(kind: str, seq: int, checksum: int, bids: list, asks: list, **more) -> dict:
    return {"type": kind, "seq": seq, "epoch": 1, "checksum": checksum, "bids": bids, "asks": asks} | more


def test_a_book_that_does_not_match_its_checksum_is_never_shown(console, market):
    from tradsys.codec.market_v1 import checksum_of

    console.open(market)
    first = [["9", "1"], ["8", "2"]], [["10", "3"]]
    second = [["10.5", "1"], ["9", "1"]], [["11", "3"]]
    begin = message("snapshot", 5, checksum_of(*first), *first)
    change = [["10.5", "1"], ["8", "0"]], [["10", "0"], ["11", "3"]]
    follows = message("delta", 7, checksum_of(*second), *change, prev_seq=5)

    assert console.page.evaluate(BOOK, [begin, follows]) == [[True, True], *second]
    for wrong in ({"checksum": 1}, {"prev_seq": 4}, {"epoch": 2}):
        assert console.page.evaluate(BOOK, [begin, follows | wrong]) == [[True, False], [], []]
