"""What happens to tokens that are known: they expire, are revoked, lose their key, make room for others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security.forged import AUDIENCE, ISSUER, Signer, eddsa, forged, good_claims, hs256
from tradsys.adapters.auth.keys import HmacKey, JwksFile, Keys
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.core.messages import RevokeToken
from tradsys.metrics import TOKENS, WORDS_USED
from tradsys.venue.ports import Busy, Identity, Unauthorized

SECOND = 1_000_000_000
NOW_S = 1_760_000_000
NOW = NOW_S * SECOND
SECRET = b"a secret that only the tests know, 256 bits"

EXPIRED = Unauthorized(2002, "expired")
REVOKED = Unauthorized(2002, "revoked")
UNKNOWN_KEY = Unauthorized(2002, "no key of that kid")
BUSY = Busy(1)


def a_verifier(
    keys: Keys | None = None, revocations: Revocations | None = None, **changes: Any
) -> TokenVerifier:
    settings = {"words": [0] * WORDS_USED} | changes
    return TokenVerifier(keys or HmacKey(SECRET), ISSUER, AUDIENCE, revocations or Revocations(), **settings)


def a_header(signer: Signer | None = None, **changes: Any) -> str:
    """An Authorization header with a good token; differing changes make differing tokens."""
    signer = signer or hs256(SECRET)
    return "Bearer " + signer.sign(signer.header(), good_claims(NOW_S, **changes))


def some_headers(count: int, signer: Signer | None = None) -> list[str]:
    return [a_header(signer, jti=f"token-{number}") for number in range(count)]


def accepted(answer: object) -> bool:
    return isinstance(answer, Identity)


# --- life span --------------------------------------------------------------------------------------


def test_a_known_token_is_refused_from_the_second_in_its_exp() -> None:
    verifier, header = a_verifier(), a_header(exp=NOW_S + 60)
    identity = verifier.verify(header, NOW)

    answers = [verifier.verify(header, NOW + 60 * SECOND + ns) for ns in (-1, 0, 1)]

    assert accepted(identity)
    assert answers == [identity, EXPIRED, EXPIRED]


def test_a_known_token_is_refused_before_its_time() -> None:
    # Engine time does not go back; should a caller's clock do so, the token does not hold earlier.
    verifier, header = a_verifier(), a_header(nbf=NOW_S + 3)
    identity = verifier.verify(header, NOW)

    answers = [verifier.verify(header, NOW - 2 * SECOND + ns) for ns in (-1, 0)]

    assert answers == [EXPIRED, identity]


def test_an_expired_known_token_costs_no_verification() -> None:
    verifier, header = a_verifier(verifications_per_s=1), a_header(exp=NOW_S + 60)
    verifier.verify(header, NOW)

    answers = [verifier.verify(header, NOW + 60 * SECOND) for _ in range(5)]

    assert answers == [EXPIRED] * 5
    assert accepted(verifier.verify(a_header(jti="new"), NOW + 60 * SECOND))


# --- revocation -------------------------------------------------------------------------------------


def test_a_known_token_is_refused_as_soon_as_its_jti_is_revoked() -> None:
    revocations = Revocations()
    verifier = a_verifier(revocations=revocations)
    header, other = a_header(jti="stolen"), a_header(jti="kept")
    before = [verifier.verify(header, NOW), verifier.verify(other, NOW)]

    revocations.revoke(RevokeToken(jti="stolen", expires=NOW_S + 3600), NOW_S)

    assert all(accepted(answer) for answer in before)
    assert [verifier.verify(header, NOW), verifier.verify(other, NOW)] == [REVOKED, before[1]]


def test_a_new_token_of_a_revoked_jti_is_refused() -> None:
    revocations = Revocations()
    revocations.revoke(RevokeToken(jti="stolen"), NOW_S)

    answer = a_verifier(revocations=revocations).verify(a_header(jti="stolen"), NOW)

    assert answer == REVOKED


def test_all_tokens_of_an_account_issued_up_to_a_time_are_refused() -> None:
    revocations = Revocations()
    verifier = a_verifier(revocations=revocations)
    headers = [
        a_header(iat=NOW_S - age, nbf=NOW_S - 10, acct=acct)
        for acct in ("demo", "other")
        for age in (9, 8, 7)
    ]
    for header in headers:
        assert accepted(verifier.verify(header, NOW))

    revocations.revoke(RevokeToken(account="demo", issued_until=NOW_S - 8), NOW_S)

    answers = [verifier.verify(header, NOW) for header in headers]
    assert [answer == REVOKED for answer in answers] == [True, True, False, False, False, False]
    assert [accepted(answer) for answer in answers] == [False, False, True, True, True, True]


def test_the_check_written_out_in_verify_is_that_of_the_revocations() -> None:
    revocations = Revocations()
    verifier = a_verifier(revocations=revocations)
    headers = [a_header(jti=f"j{n}", acct=f"a{n % 3}", iat=NOW_S - n) for n in range(12)]
    identities = [verifier.verify(header, NOW) for header in headers]
    for n in (1, 5):
        revocations.revoke(RevokeToken(jti=f"j{n}"), NOW_S)
    revocations.revoke(RevokeToken(account="a2", issued_until=NOW_S - 6), NOW_S)

    refused = [verifier.verify(header, NOW) == REVOKED for header in headers]

    assert refused == [revocations.is_revoked(who) for who in identities if isinstance(who, Identity)]
    assert [n for n, yes in enumerate(refused) if yes] == [1, 5, 8, 11]


# --- bounded memory ---------------------------------------------------------------------------------


def test_at_most_cache_max_tokens_are_known_and_the_first_leave_first() -> None:
    verifier = a_verifier(cache_max=3, verifications_per_s=5)
    headers = some_headers(5)

    for header in headers:
        assert accepted(verifier.verify(header, NOW))

    assert verifier.cached == 3
    # The budget is used up, so only known tokens are still answered.
    assert [accepted(verifier.verify(header, NOW)) for header in headers] == [False, False, True, True, True]


def test_failures_are_not_remembered() -> None:
    verifier = a_verifier(verifications_per_s=100_000)

    for forgery in forged(SECRET, NOW_S):
        verifier.verify("Bearer " + forgery.token, NOW)

    assert verifier.cached == 0


# --- the budget of verifications --------------------------------------------------------------------


def test_new_tokens_beyond_the_budget_are_told_to_come_again_and_known_ones_are_not() -> None:
    verifier = a_verifier(verifications_per_s=3)
    known, *headers = some_headers(5)
    verifier.verify(known, NOW)

    answers = [verifier.verify(header, NOW + 1) for header in (*headers, known)]

    assert [answer == BUSY for answer in answers] == [False, False, True, True, False]
    assert [accepted(answer) for answer in answers] == [True, True, False, False, True]


def test_forged_tokens_use_up_the_budget_too_and_it_returns_after_a_second() -> None:
    verifier = a_verifier(verifications_per_s=3)
    forgery = a_header(hs256(b"another secret than that of the venue"))
    header = a_header()
    refused = [verifier.verify(forgery, NOW) for _ in range(5)]

    answers = [verifier.verify(header, NOW + SECOND + ns) for ns in (-1, 0)]

    assert refused == [Unauthorized(2002, "the signature is wrong")] * 3 + [BUSY] * 2
    assert answers[0] == BUSY
    assert accepted(answers[1])


def test_what_is_no_token_costs_no_verification() -> None:
    verifier = a_verifier(verifications_per_s=1)
    cheap = [None, "", "Basic x", "Bearer", "Bearer x", "Bearer a.b", "Bearer " + "a" * 9000, "Bearer é.a.a"]

    for _ in range(10):
        for header_value in cheap:
            assert isinstance(verifier.verify(header_value, NOW), Unauthorized)

    assert accepted(verifier.verify(a_header(), NOW))


@settings(max_examples=int(os.environ.get("COUNT_BUDGET", "100")), deadline=None)
@given(
    budget=st.integers(1, 6),
    pauses=st.lists(st.sampled_from([0, 1, SECOND // 3, SECOND // 2, SECOND - 1, SECOND]), max_size=40),
)
def test_no_second_sees_more_verifications_than_the_budget_and_none_is_wasted(
    budget: int, pauses: list[int]
) -> None:
    verifier = a_verifier(verifications_per_s=budget)
    forgery = a_header(hs256(b"another secret than that of the venue"))
    done: list[int] = []
    now = NOW
    for pause in pauses:
        now += pause
        within = [time for time in done if now - time < SECOND]

        verified = verifier.verify(forgery, now) != BUSY

        assert verified == (len(within) < budget)
        if verified:
            done.append(now)


def test_each_token_is_counted_once_by_how_it_was_judged() -> None:
    words, revocations = [0] * WORDS_USED, Revocations()
    revocations.revoke(RevokeToken(jti="stolen"), NOW_S)
    verifier = a_verifier(None, revocations, words=words, verifications_per_s=5)
    good, short = a_header(), a_header(jti="short", exp=NOW_S + 1)
    headers = [
        *[good, good.replace("Bearer", "bearer"), good, short],
        *[a_header(jti="stolen")] * 2,
        *["Bearer x", "Bearer " + "x" * 9000, a_header(acct=""), good[:-8] + "AAAAAAAA"],
        *[a_header(jti="sixth")] * 2,
        *[None, "Basic x"],
    ]

    for header in headers:
        verifier.verify(header, NOW)
    verifier.verify(short, NOW + SECOND)

    counts = {outcome: words[TOKENS.word(outcome)] for outcome in TOKENS.labels[0][1]}
    # Those of remembered tokens are `uses`, which the words get from whoever owns them.
    assert counts == {"cached": 0, "verified": 2, "refused": 5, "revoked": 2, "limited": 2}
    assert (sum(words), verifier.uses) == (11, 2)


# --- keys that change -------------------------------------------------------------------------------


def write_keys(path: Path, *signers: Signer) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"keys": [signer.public_jwk() for signer in signers]}))
    draft.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jwks.json"


def test_a_rotation_of_keys_refuses_no_good_token(path: Path) -> None:
    old, new = eddsa("2024"), eddsa("2025")
    write_keys(path, old)
    verifier = a_verifier(JwksFile(path))
    verifier.refresh(NOW)
    known = a_header(old)
    assert accepted(verifier.verify(known, NOW))

    # The issuer publishes the new key beside the old one and signs with it at once.
    write_keys(path, old, new)
    at_once = [
        verifier.verify(header, NOW + 1) for header in (a_header(new), known, a_header(old, jti="later"))
    ]
    # When no old token is left, the old key goes.
    write_keys(path, new)
    verifier.refresh(NOW + SECOND)
    afterwards = [
        verifier.verify(header, NOW + SECOND) for header in (a_header(new), a_header(new, jti="later"))
    ]

    assert [accepted(answer) for answer in at_once + afterwards] == [True] * 5


@pytest.mark.parametrize("later", [SECOND, -1, -3600 * SECOND])
def test_keys_are_looked_for_once_a_second_by_whatever_comes_first(path: Path, later: int) -> None:
    withdrawn, good = eddsa("withdrawn"), eddsa("good")
    write_keys(path, withdrawn, good)
    by_request, by_refresh = (a_verifier(JwksFile(path)) for _ in range(2))
    header = a_header(withdrawn, iat=0, nbf=0)
    for verifier in (by_request, by_refresh):
        assert accepted(verifier.verify(header, NOW))
    write_keys(path, good)

    soon = [by_request.verify(header, NOW + SECOND - 1), by_refresh.verify(header, NOW + SECOND - 1)]
    by_refresh.refresh(NOW + SECOND - 1)
    refreshed_too_soon = by_refresh.cached
    by_refresh.refresh(NOW + later)

    assert [accepted(answer) for answer in soon] == [True, True]
    assert (refreshed_too_soon, by_refresh.cached) == (1, 0)
    assert by_request.verify(header, NOW + later) == UNKNOWN_KEY


def test_a_clock_that_goes_back_does_not_use_up_the_budget() -> None:
    verifier = a_verifier(verifications_per_s=2)
    early = [a_header(jti=f"early-{number}", iat=0, nbf=0) for number in range(3)]
    for header in early[:2]:
        assert accepted(verifier.verify(header, NOW))

    answer = verifier.verify(early[2], NOW - 3600 * SECOND)

    assert accepted(answer)


def test_a_token_of_a_withdrawn_key_is_refused_within_a_second_also_if_known(path: Path) -> None:
    leaked, good = eddsa("leaked"), eddsa("good")
    write_keys(path, leaked, good)
    verifier = a_verifier(JwksFile(path))
    verifier.refresh(NOW)
    header, kept = a_header(leaked), a_header(good)
    assert accepted(verifier.verify(header, NOW)) and accepted(verifier.verify(kept, NOW))

    write_keys(path, good)
    verifier.refresh(NOW + SECOND)

    assert verifier.verify(header, NOW + SECOND) == UNKNOWN_KEY
    assert accepted(verifier.verify(kept, NOW + SECOND))


def test_a_name_given_to_another_key_forgets_the_tokens_of_the_first(path: Path) -> None:
    first, second = eddsa("main"), eddsa("main")
    write_keys(path, first)
    verifier = a_verifier(JwksFile(path))
    verifier.refresh(NOW)
    header = a_header(first)
    assert accepted(verifier.verify(header, NOW))

    write_keys(path, second)
    verifier.refresh(NOW + SECOND)

    assert verifier.verify(header, NOW + SECOND) == Unauthorized(2002, "the signature is wrong")
    assert accepted(verifier.verify(a_header(second), NOW + SECOND))


def test_a_change_of_keys_costs_tokens_of_kept_keys_no_verification(path: Path) -> None:
    old, new = eddsa("old"), eddsa("new")
    write_keys(path, old)
    verifier = a_verifier(JwksFile(path), verifications_per_s=4)
    headers = some_headers(4, old)
    verifier.refresh(NOW)
    for header in headers:
        assert accepted(verifier.verify(header, NOW + SECOND - 1))

    write_keys(path, new, old)
    verifier.refresh(NOW + SECOND)

    assert [accepted(verifier.verify(header, NOW + SECOND)) for header in headers] == [True] * 4
    assert verifier.verify(a_header(new), NOW + SECOND) == BUSY, "the budget was not used up"


def test_known_tokens_of_a_withdrawn_key_go_also_when_an_unknown_kid_brought_the_change(path: Path) -> None:
    old, new = eddsa("old"), eddsa("new")
    write_keys(path, old)
    verifier = a_verifier(JwksFile(path))
    header = a_header(old)
    assert accepted(verifier.verify(header, NOW))

    write_keys(path, new)

    assert accepted(verifier.verify(a_header(new), NOW))
    assert verifier.verify(header, NOW) == UNKNOWN_KEY


def test_while_the_key_file_is_broken_known_keys_serve_and_unknown_ones_are_put_off(path: Path) -> None:
    old, new = eddsa("old"), eddsa("new")
    write_keys(path, old)
    keys = JwksFile(path)
    verifier = a_verifier(keys)
    known = a_header(old)
    verifier.verify(known, NOW)

    path.write_text('{"keys": [')
    half_written = [verifier.verify(header, NOW) for header in (a_header(new), known, a_header(old, jti="2"))]
    error = keys.error
    write_keys(path, old, new)
    whole = [verifier.verify(header, NOW) for header in (a_header(new), known)]

    assert half_written[0] == BUSY
    assert [accepted(answer) for answer in half_written[1:] + whole] == [True] * 4
    assert (error, keys.error) == ("not a JSON object without duplicate members", "")


def test_a_forged_kid_reads_the_key_file_no_more_often_than_the_budget_allows(path: Path) -> None:
    good, forger = eddsa("good"), eddsa("forged")
    write_keys(path, good)
    verifier = a_verifier(JwksFile(path), verifications_per_s=2)
    forgery = a_header(forger)

    before = [verifier.verify(forgery, NOW) for _ in range(3)]
    write_keys(path, good, forger)
    after = verifier.verify(forgery, NOW + 1)

    assert before == [UNKNOWN_KEY, UNKNOWN_KEY, BUSY]
    assert after == BUSY
