"""The tokens that the command line makes."""

from __future__ import annotations

import jwt
import pytest

from tradsys.adapters.auth.keys import HmacKey
from tradsys.adapters.auth.mint import mint

NOW_S = 1_760_000_000
KEY = HmacKey(b"a secret that only the tests know, 256 bits")


def test_a_token_says_who_may_do_what_and_how_long() -> None:
    token = mint(KEY, "demo", "trade read", 3600, "us", "venue", NOW_S, jti="one")

    claims = jwt.decode(token, KEY.secret, ["HS256"], audience="venue", options={"verify_exp": False})

    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert claims == {
        "iss": "us",
        "aud": "venue",
        "sub": "demo",
        "acct": "demo",
        "scope": "trade read",
        "iat": NOW_S,
        "nbf": NOW_S,
        "exp": NOW_S + 3600,
        "jti": "one",
    }


def test_each_token_has_a_name_of_its_own_by_which_it_can_be_revoked() -> None:
    tokens = {mint(KEY, "demo", "read", 60, "us", "venue", NOW_S) for _ in range(20)}

    assert len(tokens) == 20


@pytest.mark.parametrize("scopes", ["", "trade ", "Trade", "trade,read", "trade write", "all"])
def test_an_unknown_scope_is_refused(scopes: str) -> None:
    with pytest.raises(ValueError, match="there are: trade read admin"):
        mint(KEY, "demo", scopes, 60, "us", "venue", NOW_S)


@pytest.mark.parametrize("ttl_s", [0, -1])
def test_a_life_that_is_over_at_once_is_refused(ttl_s: int) -> None:
    with pytest.raises(ValueError, match="can't live"):
        mint(KEY, "demo", "read", ttl_s, "us", "venue", NOW_S)
