"""Who gets in: every rule of a token, by forgeries that break it and by valid tokens that keep it."""

from __future__ import annotations

import base64
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security.forged import (
    ABSENT,
    AUDIENCE,
    ISSUER,
    Signer,
    b64,
    eddsa,
    es256,
    forged,
    good_claims,
    hs256,
    other_spellings,
    rs256,
)
from tradsys.adapters.auth.keys import HmacKey, JwksFile, Keys
from tradsys.adapters.auth.mint import mint
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.metrics import WORDS_USED
from tradsys.venue.ports import ADMIN, READ, TRADE, Identity, Unauthorized

NOW_S = 1_760_000_000
NOW = NOW_S * 1_000_000_000 + 123_456_789
SECOND = 1_000_000_000
SECRET = b"a secret that only the tests know, 256 bits"
ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")

EXAMPLES = int(os.environ.get("COUNT_TOKENS", "300"))


@cache
def a_signer(alg: str) -> Signer:
    return {
        "HS256": lambda: hs256(SECRET),
        "RS256": lambda: rs256("first"),
        "ES256": lambda: es256("first"),
        "EdDSA": lambda: eddsa("first"),
    }[alg]()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


def keys_of(signer: Signer, folder: Path) -> Keys:
    if signer.alg == "HS256":
        return HmacKey(signer.key)
    path = folder / f"{signer.alg}.json"
    path.write_text(json.dumps({"keys": [signer.public_jwk()]}))
    return JwksFile(path)


def a_verifier(keys: Keys, **changes: Any) -> TokenVerifier:
    settings = {"words": [0] * WORDS_USED, "verifications_per_s": 1_000_000} | changes
    return TokenVerifier(keys, ISSUER, AUDIENCE, Revocations(), **settings)


def bearer(token: str) -> str:
    return f"Bearer {token}"


def signed(signer: Signer, header: dict[str, Any] | None = None, **changes: Any) -> str:
    return signer.sign(signer.header(**(header or {})), good_claims(NOW_S, **changes))


def judged(verifier: TokenVerifier, token: str, now: int = NOW) -> Identity | Unauthorized:
    answer = verifier.verify(bearer(token), now)
    assert isinstance(answer, Identity | Unauthorized)
    return answer


# --- forged -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_forged_token_is_refused_by_the_rule_it_breaks(alg: str, folder: Path) -> None:
    signer = a_signer(alg)
    verifier = a_verifier(keys_of(signer, folder))
    table = forged(signer, NOW_S)

    answers = {forgery.name: judged(verifier, forgery.token) for forgery in table}

    assert answers == {forgery.name: Unauthorized(2002, forgery.why) for forgery in table}
    assert verifier.cached == 0
    assert len(answers) == len(table) >= 60, "two forgeries share a name"


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_the_token_that_forgeries_start_from_is_good(alg: str, folder: Path) -> None:
    signer = a_signer(alg)
    verifier = a_verifier(keys_of(signer, folder))

    answer = judged(verifier, signed(signer))

    assert answer == Identity(
        account="demo",
        subject="alice@example.com",
        scopes=TRADE | READ | ADMIN,
        issued_s=NOW_S - 10,
        not_before_ns=(NOW_S - 15) * SECOND,
        expires_ns=(NOW_S + 3600) * SECOND,
        jti="0123456789abcdef",
        kid="" if alg == "HS256" else "first",
    )


def test_forgeries_can_be_sent_in_a_header() -> None:
    unsendable = [f.name for f in forged(SECRET, NOW_S) if not (f.token.isascii() and f.token.isprintable())]

    assert unsendable == []


@pytest.mark.parametrize("victim", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("impostor", ["RS256", "ES256", "EdDSA"])
def test_a_key_verifies_only_its_own_algorithm(victim: str, impostor: str, folder: Path) -> None:
    keys = keys_of(a_signer(victim), folder)
    token = Signer(impostor, a_signer(impostor).key, "first").sign(
        {"typ": "JWT", "alg": impostor, "kid": "first"}, good_claims(NOW_S)
    )

    answer = judged(a_verifier(keys), token)

    assert isinstance(answer, Identity) == (victim == impostor)


@pytest.mark.parametrize(
    "header_value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "bearer ",
        "Basic ZGVtbzpkZW1v",
        "Digest username=demo",
        "Token abc",
        "Bearer: abc",
        "Bearer\tabc",
        " Bearer abc",
        "Bearerabc",
        "Bea\N{CYRILLIC SMALL LETTER ER}er abc",
    ],
)
def test_a_request_without_a_bearer_token_is_2001(header_value: str | None) -> None:
    answer = a_verifier(HmacKey(SECRET)).verify(header_value, NOW)

    assert answer == Unauthorized(2001, "no bearer token")


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\t", "\0", "\u2028", "\u00a0", " "])
def test_blanks_around_a_token_are_not_trimmed(blank: str) -> None:
    token = signed(a_signer("HS256"))
    verifier = a_verifier(HmacKey(SECRET))

    answers = [judged(verifier, text) for text in (token + blank, blank + token)]

    assert answers == [Unauthorized(2002, "not three parts of base64url")] * 2


# --- valid ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ALGORITHMS)
@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "jwt"},
        {"typ": "at+jwt"},
        {"typ": "application/at+jwt"},
        {"x5t": "dGh1bWI", "note": {"any": [1, 2.5, None]}},
    ],
)
def test_headers_that_may_be(alg: str, header: dict[str, Any], folder: Path) -> None:
    signer = a_signer(alg)

    answer = judged(a_verifier(keys_of(signer, folder)), signed(signer, header))

    assert isinstance(answer, Identity)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE]},
        {"aud": ["other", AUDIENCE]},
        {"aud": ["other"] * 31 + [AUDIENCE]},
        {"sub": "s" * 255},
        {"sub": "Zoë \N{GRINNING FACE}"},
        {"nbf": ABSENT},
        {"jti": ABSENT},
        {"jti": "j" * 128},
        {"typ": "Bearer"},
        {"typ": "at+jwt"},
        {"exp": NOW_S + 1},
        {"exp": NOW_S + 3653 * 86_400},
        {"iat": NOW_S + 5},
        {"nbf": NOW_S + 5},
        {"iat": 0, "nbf": 0},
        {"note": [{"deep": [1.5, True, None, "x"]}], "exp_": 2**70, "float": 1e300},
    ],
)
def test_claims_that_may_be(changes: dict[str, Any]) -> None:
    answer = judged(a_verifier(HmacKey(SECRET)), signed(a_signer("HS256"), **changes))

    assert isinstance(answer, Identity)
    assert answer.account == "demo"


@pytest.mark.parametrize("account", ["a", "A-b_9", "-", "a" * 36, "0"])
def test_the_account_is_the_claim_acct_and_not_the_subject(account: str) -> None:
    answer = judged(a_verifier(HmacKey(SECRET)), signed(a_signer("HS256"), acct=account, sub="treasury"))

    assert isinstance(answer, Identity)
    assert (answer.account, answer.subject) == (account, "treasury")


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("trade", TRADE),
        ("read", READ),
        ("admin", ADMIN),
        ("trade read", TRADE | READ),
        ("read trade admin", TRADE | READ | ADMIN),
        ("trade trade", TRADE),
        ("openid trade profile", TRADE),
        ("", 0),
        ("openid", 0),
        ("TRADE", 0),
        ("trade\tadmin", 0),
        ("trade,admin", 0),
        ("administrator", 0),
        ("trade\u00a0admin", 0),
        ("  read", READ),
    ],
)
def test_scope_words_give_their_right_and_others_nothing(scope: str, scopes: int) -> None:
    answer = judged(a_verifier(HmacKey(SECRET)), signed(a_signer("HS256"), scope=scope))

    assert isinstance(answer, Identity)
    assert answer.scopes == scopes


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_read_in_any_case_and_a_token_is_remembered_once(scheme: str) -> None:
    token = signed(a_signer("HS256"))
    verifier = a_verifier(HmacKey(SECRET), verifications_per_s=1)
    first = verifier.verify(bearer(token), NOW)

    answer = verifier.verify(f"{scheme} {token}", NOW)

    assert answer == first
    assert verifier.cached == 1


def test_the_allowance_for_clocks_is_for_iat_and_nbf_and_not_for_exp() -> None:
    signer, verifier = a_signer("HS256"), a_verifier(HmacKey(SECRET), leeway_s=2)

    answers = [
        judged(verifier, signed(signer, **claims))
        for claims in ({"iat": NOW_S + 3}, {"nbf": NOW_S + 3}, {"exp": NOW_S}, {"exp": NOW_S - 1})
    ]

    assert answers == [
        Unauthorized(2002, "iat is in the future"),
        Unauthorized(2002, "nbf is in the future"),
        Unauthorized(2002, "expired"),
        Unauthorized(2002, "expired"),
    ]
    assert verifier.cached == 0


def test_a_minted_token_is_valid_until_its_time_is_up() -> None:
    key = HmacKey(SECRET)
    token = mint(key, "demo", "trade read", 60, ISSUER, AUDIENCE, NOW_S, jti="one")

    fresh = judged(a_verifier(key), token, NOW)
    late = judged(a_verifier(key), token, (NOW_S + 60) * SECOND)

    assert fresh == Identity(
        "demo", "demo", TRADE | READ, NOW_S, (NOW_S - 5) * SECOND, (NOW_S + 60) * SECOND, "one"
    )
    assert late == Unauthorized(2002, "expired")


# --- any text, any JSON -----------------------------------------------------------------------------


def mutations(token: str) -> st.SearchStrategy[str]:
    """Texts near a token: bits flipped, characters put in, taken out, exchanged; parts moved."""
    at = st.integers(0, len(token) - 1)
    sign = st.sampled_from("ABCxyz019-_.=+/ \n\0é")
    flip = st.builds(
        lambda i, bit: token[:i] + chr(ord(token[i]) ^ (1 << bit)) + token[i + 1 :], at, st.integers(0, 7)
    )
    replace = st.builds(lambda i, c: token[:i] + c + token[i + 1 :], at, sign)
    insert = st.builds(lambda i, c: token[:i] + c + token[i:], at, sign)
    delete = st.builds(lambda i, n: token[:i] + token[i + n :], at, st.integers(1, 8))
    swap = st.builds(lambda i: token[:i] + token[i : i + 2][::-1] + token[i + 2 :], at)
    cut = st.builds(lambda i: token[:i], at)
    parts = token.split(".")
    order = st.lists(st.sampled_from(parts), min_size=1, max_size=5).map(".".join)
    return st.one_of(flip, replace, insert, delete, swap, cut, order).filter(lambda text: text != token)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_no_mutation_of_a_valid_token_is_accepted(alg: str, folder: Path) -> None:
    signer = a_signer(alg)
    verifier = a_verifier(keys_of(signer, folder))
    token = signed(signer)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(mutations(token))
    def refused(mutated: str) -> None:
        answer = verifier.verify(bearer(mutated), NOW)

        assert isinstance(answer, Unauthorized)
        # What is left of the token may be nothing, or put a blank before it.
        assert answer.code == 2002 or not mutated

    refused()
    assert verifier.cached == 0


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_no_other_spelling_of_a_signature_is_accepted(alg: str, folder: Path) -> None:
    signer = a_signer(alg)
    verifier = a_verifier(keys_of(signer, folder))
    head, body, signature = signed(signer).split(".")
    lenient = {base64.urlsafe_b64decode(text + "==") for text in [signature, *other_spellings(signature)]}

    answers = [judged(verifier, f"{head}.{body}.{text}") for text in other_spellings(signature)]

    assert len(lenient) == 1, "the spellings differ in more than unused bits"
    assert answers == [Unauthorized(2002, "the signature is not canonical base64url")] * len(answers)
    assert len(answers) >= 3


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_refused_without_a_fault(text: str) -> None:
    verifier = a_verifier(HmacKey(SECRET))

    answers = [verifier.verify(text, NOW), verifier.verify(bearer(text), NOW)]

    assert all(isinstance(answer, Unauthorized) for answer in answers)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ("iss", "aud", "sub", "exp", "iat", "nbf", "acct", "scope", "jti", "typ")
LIKELY = st.sampled_from(
    [
        ISSUER,
        [AUDIENCE],
        NOW_S,
        NOW_S + 1,
        NOW_S - 1,
        float(NOW_S),
        str(NOW_S),
        "demo",
        "trade",
        "",
        0,
        -1,
        True,
    ]
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(MEMBERS), ANY_JSON | LIKELY, max_size=3),
    header=st.dictionaries(st.sampled_from(["typ", "alg", "kid", "crit", "x"]), ANY_JSON, max_size=1),
)
def test_signed_tokens_of_any_content_get_exactly_what_the_rules_say(
    changes: dict[str, Any], header: dict[str, Any]
) -> None:
    signer = a_signer("HS256")
    claims = good_claims(NOW_S, **changes)

    answer = judged(a_verifier(HmacKey(SECRET)), signer.sign(signer.header(**header), claims))

    assert isinstance(answer, Identity) == (valid_header(signer.header(**header)) and valid_claims(claims))
    if isinstance(answer, Identity):
        assert (answer.account, answer.subject, answer.issued_s) == (
            claims["acct"],
            claims["sub"],
            claims["iat"],
        )
        assert answer.expires_ns == claims["exp"] * SECOND


def no_nan(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def valid_header(header: dict[str, Any]) -> bool:
    """The rules of a header once more, for the shared secret."""
    return (
        header["alg"] == "HS256"
        and str(header["typ"]).lower() in {"jwt", "at+jwt", "application/at+jwt"}
        and not {"kid", "crit"} & set(header)
        and no_nan(header)
    )


def valid_claims(claims: dict[str, Any]) -> bool:
    """The rules of claims once more, written to be obvious."""

    def text(name: str, chars_max: int) -> bool:
        value = claims[name]
        return isinstance(value, str) and 0 < len(value) <= chars_max and value.isprintable()

    def whole_seconds(name: str) -> bool:
        return type(claims[name]) is int and claims[name] >= 0

    def for_us() -> bool:
        audience = claims["aud"]
        return audience == AUDIENCE or (
            isinstance(audience, list)
            and AUDIENCE in audience
            and all(isinstance(name, str) for name in audience)
        )

    letters = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    return (
        claims["iss"] == ISSUER
        and for_us()
        and text("sub", 255)
        and text("jti", 128)
        and text("acct", 36)
        and set(claims["acct"]) <= letters
        and isinstance(claims["scope"], str)
        and ("typ" not in claims or str(claims["typ"]).lower() in {"bearer", "jwt", "at+jwt"})
        and all(whole_seconds(name) for name in ("exp", "iat", "nbf"))
        and NOW_S < claims["exp"] <= NOW_S + 3653 * 86_400
        and max(claims["iat"], claims["nbf"]) <= min(NOW_S + 5, claims["exp"] - 1)
        and no_nan(claims)
    )


def test_a_refusal_says_nothing_of_the_token() -> None:
    canary = "canary-7f3a"
    verifier = a_verifier(HmacKey(SECRET))
    signer = a_signer("HS256")
    tokens = [
        signed(signer, **{name: f"{canary}\n"}) for name in ("iss", "aud", "sub", "exp", "acct", "jti", "typ")
    ]
    tokens += [signed(signer, {name: canary}) for name in ("alg", "typ", "kid", "crit")]
    tokens += [signer.sign(signer.header(), f'{{"{canary}": 1, "{canary}": 2}}'.encode())]
    tokens += [f"{b64(canary.encode())}.{canary}.{canary}", f"{canary} {canary}"]

    answers = [judged(verifier, token) for token in tokens]

    assert [answer for answer in answers if canary in repr(answer)] == []
    assert all(isinstance(answer, Unauthorized) for answer in answers)
