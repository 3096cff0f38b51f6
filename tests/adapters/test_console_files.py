"""How the console's files are served: types, the policy, and what a request can't make them say."""

from __future__ import annotations

import re
from pathlib import Path

import falcon.testing
import pytest

from tradsys.adapters.http.app import create_app
from tradsys.adapters.http.edge import Edge
from tradsys.adapters.query import console
from tradsys.adapters.query.console import console_routes
from tradsys.compose.pieces import Nobody, close_header

HERE = Path(console.__file__).parent


@pytest.fixture
def client():
    edge = Edge(Nobody(), lambda: 0, lambda: (1, 1, 1), close_after=close_header)
    return falcon.testing.TestClient(
        create_app(edge, console_routes("http://{host}:8000", "ws://{host}:8001"))
    )


def test_the_page_and_everything_it_names_is_there(client):
    page = client.simulate_get("/")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:src|href)="(console/[^"]+)"', page.text))
    for script in HERE.glob("*.js"):
        named |= {f"/console/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())}
    named |= {
        f"/console/{name}" for name in re.findall(r'url\("([^"]+)"\)', (HERE / "console.css").read_text())
    }
    named = {"/" + path.removeprefix("/") for path in named}
    assert len(named) > 6
    assert {path: client.simulate_get(path).status_code for path in named} == dict.fromkeys(named, 200)


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs_that_is_not_a_file(client):
    html = client.simulate_get("/").text

    assert re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", html) == []
    for file in HERE.iterdir():
        if file.suffix in (".js", ".css", ".html"):
            text = file.read_text()
            assert re.findall(r"https?://(?!127\.)[a-z]", text) == [], file.name
            assert (
                re.findall(r"\beval\(|new Function|innerHTML|insertAdjacentHTML|document\.write", text) == []
            ), file.name


def test_the_policy_allows_the_pages_own_files_and_calls_to_the_venue(client):
    headers = client.simulate_get("/", headers={"Host": "venue.internal:8002"}).headers

    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
        "connect-src 'self' http://venue.internal:8000 ws://venue.internal:8001; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("host", ["a.example;script-src *", "x' 'unsafe-inline", "a b", "ä.example"])
def test_an_odd_host_does_not_get_into_the_policy(client, host):
    reply = client.simulate_get("/console/settings.json", headers={"Host": host})

    assert reply.json == {"engine": "http://127.0.0.1:8000", "streams": "ws://127.0.0.1:8001"}
    assert "http://127.0.0.1:8000 ws" in reply.headers["content-security-policy"]


def test_a_file_that_has_not_changed_is_not_sent_again(client):
    first = client.simulate_get("/console/console.js")

    again = client.simulate_get("/console/console.js", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["__init__.py", "..%2f..%2fapp.py", "nothing.js", ".", "console.js.map"])
def test_only_the_pages_files_are_served(client, name):
    assert client.simulate_get(f"/console/{name}").status_code == 404


def test_the_typeface_comes_with_its_licence(client):
    assert "SIL OPEN FONT LICENSE" in client.simulate_get("/console/inter.LICENSE.txt").text
