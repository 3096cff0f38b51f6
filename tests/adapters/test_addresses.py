"""Where clients are sent, and whose pages may call: from the settings, or from the address that is bound."""

from __future__ import annotations

import pytest

from tradsys.compose.addresses import Addresses, addresses, browser_origins
from tradsys.settings import Settings, SettingsError, load


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, Addresses("http://127.0.0.1:8000", "http://127.0.0.1:8002", "ws://127.0.0.1:8001")),
        ({"host": "::1"}, Addresses("http://[::1]:8000", "http://[::1]:8002", "ws://[::1]:8001")),
        (
            {"host": "10.1.2.3"},
            Addresses("http://10.1.2.3:8000", "http://10.1.2.3:8002", "ws://10.1.2.3:8001"),
        ),
        ({"host": "0.0.0.0"}, Addresses("http://{host}:8000", "http://{host}:8002", "ws://{host}:8001")),
        (
            {"host": "0.0.0.0", "public_url": "https://v.example", "public_ws_url": "wss://v.example"},
            Addresses("https://v.example", "http://{host}:8002", "wss://v.example"),
        ),
    ],
)
def test_addresses_follow_from_the_host_unless_they_are_set(settings, found):
    assert addresses(Settings(**settings)) == found


@pytest.mark.parametrize(
    ("settings", "origins"),
    [
        ({}, ("http://127.0.0.1:8002", "http://localhost:8002", "http://[::1]:8002")),
        ({"host": "localhost"}, ("http://127.0.0.1:8002", "http://localhost:8002", "http://[::1]:8002")),
        ({"host": "10.1.2.3", "query_port": 9}, ("http://10.1.2.3:9",)),
        ({"host": "venue.internal"}, ("http://venue.internal:8002",)),
        ({"host": "0.0.0.0"}, ()),
        (
            {"cors_origins": ("https://a.example",), "public_query_url": "https://b.example"},
            ("https://a.example", "https://b.example"),
        ),
        ({"public_query_url": "https://b.example/q/a"}, ("https://b.example",)),
    ],
)
def test_the_consoles_own_origin_may_call_where_it_is_known(settings, origins):
    assert browser_origins(Settings(**settings)) == origins


def test_the_read_model_may_be_below_a_path():
    settings = load({"TRADSYS_PUBLIC_QUERY_URL": "https://venue.example/q/a"})

    assert addresses(settings).query == "https://venue.example/q/a"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("PUBLIC_URL", "venue.example"),
        ("PUBLIC_URL", "https://venue.example/api"),
        ("PUBLIC_QUERY_URL", "ftp://venue.example"),
        ("PUBLIC_QUERY_URL", "https://venue.example/q/"),
        ("PUBLIC_WS_URL", "https://venue.example"),
    ],
)
def test_what_is_no_url_stops_the_start(name, url):
    with pytest.raises(SettingsError, match=f"{name.lower()}: '{url}' is not a URL without a path"):
        load({f"TRADSYS_{name}": url})
