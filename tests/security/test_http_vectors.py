"""F4: hostile HTTP against the engine's server. The table and its judge are in vectors.py.

Here the application behind the server is a small one that keeps a record of what reached it, so that a
smuggled request shows even where its answer does not.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.server_process import HOST, Served, serving
from tests.security.vectors import ACCEPTED, BAD, CUT, Outcome, Target, Vector, faults, play, vectors

TARGET = Target()
TABLE = vectors(TARGET)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(request_ms_max=400) as served:
        yield served


@pytest.mark.parametrize("vector", TABLE, ids=lambda vector: vector.name)
def test_vector(served: Served, vector: Vector):
    served.ask("/handled")

    outcome = play(vector, HOST, served.port, TARGET)

    handled = served.ask("/handled")[1]
    probed = vector.then == "probe" and not outcome.ended
    assert faults(vector, outcome) == []
    assert "GET /hidden" not in handled
    assert len(handled) <= vector.requests + probed


def test_there_are_enough_vectors_and_each_has_its_name():
    assert len(TABLE) >= 60
    assert len({vector.name for vector in TABLE}) == len(TABLE)


@pytest.mark.parametrize(
    ("outcome", "found"),
    [
        (Outcome([400], True, 0.0), []),
        (Outcome([200, 200], True, 0.0), ["answered 200, expected [400]", "2 answers to 1 request(s)"]),
        (Outcome([400, 200, 200], True, 0.0), ["2 answers to 1 request(s)"]),
        (Outcome([400], False, 0.0), ["the connection stayed open"]),
        (Outcome([], True, 0.0), ["answered nothing, expected [400]"]),
        (Outcome([400, 500], True, 0.0), ["a server error: [400, 500]"]),
    ],
)
def test_the_judge_sees_each_kind_of_fault(outcome: Outcome, found: list[str]):
    assert faults(Vector("", [b""], BAD, ends=True), outcome) == found


def test_slow_clients_are_cut_within_ten_seconds_with_the_limits_of_production():
    """PROMISES: a header or body that does not come in is cut after at most 10 s."""
    slow = [vector for vector in TABLE if vector.expected == {CUT} and vector.then == "wait"]
    assert {"half a header", "half a body", "nothing", "slow header", "slow body"} <= {v.name for v in slow}
    with serving() as served:
        outcome = play(slow[0], HOST, served.port, TARGET)

    assert outcome.ended
    assert outcome.statuses == []


def test_a_vector_that_is_accepted_reaches_the_application(served: Served):
    served.ask("/handled")
    good = next(vector for vector in TABLE if vector.name == "post" and vector.expected == ACCEPTED)

    play(good, HOST, served.port, TARGET)

    assert served.ask("/handled")[1] == ["POST /post", "GET /get"]
