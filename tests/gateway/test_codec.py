"""What the gRPC codec says of every error, and its table."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest

from tradsys.client.errors import BY_CODE
from tradsys.codec.errors import ERRORS, Problem
from tradsys.codec.grpc_v1 import STATUS_NAMES, STATUS_NUMBERS, problem_of, status_details

PAGE = Path(__file__).parents[2] / "app/tradsys/codec/README.md"


def test_every_error_has_a_status_a_row_and_an_exception():
    section = PAGE.read_text().split("\n## gRPC\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([0-9]{4}) \| (\w+) \| (\w+) \|$", section, re.M)

    assert rows == [(str(code), ERRORS[code].name, STATUS_NAMES[code]) for code in ERRORS]
    assert set(BY_CODE) == set(ERRORS)
    assert {name: getattr(grpc.StatusCode, name).value[0] for name in STATUS_NUMBERS} == STATUS_NUMBERS


@pytest.mark.parametrize("code", ERRORS)
def test_a_problem_comes_through_its_details(code):
    sent = Problem(code, "why", {"limit": "5", "status": "halted"}, retry_after_s=3)

    found = problem_of(status_details(sent, "r-1"))

    assert found is not None
    got, request_id = found
    assert (got.code, got.message, got.details, got.retry_after_s, request_id) == (
        code,
        "why",
        {"limit": "5", "status": "halted"},
        3,
        "r-1",
    )


@pytest.mark.parametrize("details", [b"", b"\xff\xff", status_details(Problem(1002), "")[:7]])
def test_details_of_somebody_else_are_none(details):
    assert problem_of(details) is None
