"""A whole venue and a real browser, shared by the tests of a file; each has a page and account of its own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.api.venue_process import Trader
from tests.feed.feed_venue import FeedVenue, feed_venue

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 30_000
"""How long anything may take; a machine that runs other tests too is slow."""

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    with feed_venue(tmp_path_factory.mktemp("venue"), ("engine", "history", "query", "feed")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Console:
    """A page, and everything that it has complained about."""

    venue: FeedVenue
    page: Page
    problems: list[str] = field(default_factory=list)
    _foreseen: list[str] = field(default_factory=list)

    def foresee(self, pattern: str) -> None:
        """Complaints like this belong to the test. They may come late, so they are left out at its end."""
        self._foreseen.append(pattern)

    @property
    def unforeseen(self) -> list[str]:
        return [one for one in self.problems if not any(re.search(known, one) for known in self._foreseen)]

    def open(self, symbol: str) -> None:
        self.page.goto(f"http://127.0.0.1:{self.venue.ports['query_port']}/")
        self.page.select_option("#symbol", symbol)
        expect(self.page.locator(".light[data-part=streams]")).to_have_attribute("data-state", "good")

    def sign_in(self, trader: Trader) -> None:
        self.page.click("#account")
        self.page.fill("#token", trader.token)
        self.page.click("#sign-in")
        expect(self.page.locator("#account")).to_have_text(trader.name)
        expect(self.page.locator("#n-orders")).not_to_have_text("")

    def order(self, side: str, quantity: str, price: str) -> None:
        """Fill in a limit order and send it."""
        self.page.check(f"[name=side][value={side}]", force=True)
        self.page.fill("[name=price]", price)
        self.page.fill("[name=quantity]", quantity)
        self.page.click(".submit")

    def levels(self, half: str) -> list[tuple[str, str]]:
        """(price, quantity) as shown, from top to bottom."""
        rows = self.page.locator(f".half.{half} .level")
        return [tuple(row.split("\n")[:2]) for row in rows.all_inner_texts()]

    def rows(self) -> list[list[str]]:
        """The table of the chosen tab."""
        return [row.split("\t") for row in self.page.locator("#own tbody tr").all_inner_texts()]


@pytest.fixture
def console(venue: FeedVenue, browser: Browser) -> Iterator[Console]:
    """Any complaint of the browser fails the test, also one about the policy of the page."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    opened = Console(venue, context.new_page())
    opened.page.set_default_timeout(WAIT_MS)
    opened.page.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.page.on(
        "console",
        lambda message: message.type == "error" and opened.problems.append(message.text),
    )
    yield opened
    context.close()
    assert opened.unforeseen == []
