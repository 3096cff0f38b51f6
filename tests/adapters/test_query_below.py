"""Query answers also below the path at which clients reach it."""

from __future__ import annotations

import pytest

from tradsys.adapters.http.app import below


def asked(path: str, at: str) -> str:
    """The path that the app is asked for."""
    environ = {"PATH_INFO": at}

    def app(environ, start_response):
        return [environ["PATH_INFO"].encode()]

    (answer,) = below(path, app)(environ, lambda status, headers: None)
    return answer.decode()


@pytest.mark.parametrize(
    ("path", "at", "found"),
    [
        ("", "/api/v1/fills", "/api/v1/fills"),
        ("/q/b", "/q/b/api/v1/fills", "/api/v1/fills"),
        ("/q/b", "/q/b/", "/"),
        # A Gateway has taken it away already.
        ("/q/b", "/api/v1/fills", "/api/v1/fills"),
        ("/q/b", "/q/bb/api/v1/fills", "/q/bb/api/v1/fills"),
    ],
)
def test_what_an_ingress_leaves_in_front_is_taken_away(path, at, found):
    assert asked(path, at) == found
