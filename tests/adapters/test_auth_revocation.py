"""Revocations: what adds up, and what is forgotten when."""

from __future__ import annotations

from tradsys.adapters.auth.revocation import TOKEN_LIFE_MAX_S, Revocations
from tradsys.core.messages import RevokeToken
from tradsys.venue.ports import READ, Identity

NOW_S = 1_760_000_000


def an_identity(account: str = "demo", jti: str = "", issued_s: int = NOW_S) -> Identity:
    return Identity(account, "subject", READ, issued_s, 0, 2**62, jti)


def known(revocations: Revocations) -> tuple[list[str], dict[str, int]]:
    return sorted(revocations.jtis), dict(revocations.issued_until)


def test_nothing_is_revoked_at_first() -> None:
    assert not Revocations().is_revoked(an_identity(jti="", issued_s=0))


def test_a_command_may_name_a_token_and_an_account() -> None:
    revocations = Revocations()

    revocations.revoke(RevokeToken(jti="a", account="demo", issued_until=NOW_S), NOW_S)

    assert revocations.is_revoked(an_identity("other", jti="a", issued_s=NOW_S + 9))
    assert revocations.is_revoked(an_identity("demo", jti="b", issued_s=NOW_S))
    assert not revocations.is_revoked(an_identity("demo", jti="b", issued_s=NOW_S + 1))


def test_a_token_without_jti_is_never_revoked_by_jti() -> None:
    revocations = Revocations()

    revocations.revoke(RevokeToken(jti=""), NOW_S)

    assert known(revocations) == ([], {})
    assert not revocations.is_revoked(an_identity(jti=""))


def test_commands_for_one_account_add_up_to_the_strictest_in_any_order() -> None:
    commands = [RevokeToken(account="demo", issued_until=until, expires=NOW_S + 9) for until in (5, 50, 20)]
    outcomes = []

    for order in (commands, commands[::-1]):
        revocations = Revocations()
        for command in order:
            revocations.revoke(command, NOW_S)
        outcomes.append(known(revocations))

    assert outcomes == [([], {"demo": 50})] * 2


def test_entries_are_forgotten_after_they_expire_when_another_command_comes() -> None:
    revocations = Revocations()
    revocations.revoke(RevokeToken(jti="short", expires=NOW_S + 10), NOW_S)
    revocations.revoke(RevokeToken(jti="long", expires=NOW_S + 100), NOW_S)
    revocations.revoke(RevokeToken(account="demo", issued_until=7, expires=NOW_S + 10), NOW_S)
    seen = []

    for at in (NOW_S + 9, NOW_S + 10, NOW_S + 100):
        revocations.revoke(RevokeToken(jti=f"at {at - NOW_S}", expires=at + 1), at)
        seen.append(known(revocations))

    assert seen == [
        (["at 9", "long", "short"], {"demo": 7}),
        (["at 10", "long"], {}),
        (["at 100"], {}),
    ]


def test_an_entry_revoked_again_for_longer_stays_for_longer_and_never_shorter() -> None:
    revocations = Revocations()
    for expires in (NOW_S + 10, NOW_S + 50, NOW_S + 20):
        revocations.revoke(RevokeToken(jti="a", expires=expires), NOW_S)
    kept = []

    for at in (NOW_S + 49, NOW_S + 50):
        revocations.revoke(RevokeToken(), at)
        kept.append("a" in revocations.jtis)

    assert kept == [True, False]


def test_an_entry_without_expiry_is_kept_for_ever_also_if_another_command_gave_one() -> None:
    revocations = Revocations()
    for jti, expires in (("a", 0), ("b", 0), ("b", NOW_S + 1), ("c", NOW_S + 1), ("c", 0), ("d", NOW_S + 1)):
        revocations.revoke(RevokeToken(jti=jti, expires=expires), 0)

    revocations.revoke(RevokeToken(), NOW_S + 10 * TOKEN_LIFE_MAX_S)

    assert known(revocations) == (["a", "b", "c"], {})


def test_one_command_forgets_at_most_four_and_memory_does_not_grow() -> None:
    revocations = Revocations()
    for number in range(100):
        revocations.revoke(RevokeToken(jti=f"old {number}", expires=NOW_S + 1), NOW_S)
    sizes = []

    for number in range(30):
        revocations.revoke(RevokeToken(jti=f"new {number}", expires=NOW_S + 1000), NOW_S + 1)
        sizes.append(len(revocations.jtis))

    assert sizes[:3] == [97, 94, 91]
    assert sizes[-1] == 30
    assert not any(jti.startswith("old") for jti in revocations.jtis)
