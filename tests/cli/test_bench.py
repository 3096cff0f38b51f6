"""`tradsys bench` runs each of its stages; its figures are judged by nobody here."""

from __future__ import annotations

import os

from tests.cli.command import tradsys


def test_every_stage_has_a_time_and_an_order_has_a_size():
    measured = tradsys("bench", "--count", "1000", "--rounds", "1", "--json", env=os.environ).json

    assert [stage["per_s"] > 0 and stage["microseconds"] > 0 for stage in measured["stages"]] == [True] * 9
    assert 0 < measured["memory"]["kept by a resting order"] < 4_096
    assert measured["conditions"]["core"] in ("interpreted", "compiled")


def test_a_person_gets_tables():
    told = tradsys("bench", "--count", "1000", "--rounds", "1", env=os.environ).out

    assert "apply: risk and matching" in told and "kept by a resting order" in told
