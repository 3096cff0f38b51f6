"""The examples of the client's page, run one after the other as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "app/tradsys/client/README.md"
EXAMPLES = re.findall(r"## ([^\n]+)\n|```python\n(.*?)```", PAGE.read_text(), re.S)
NAMED: list[tuple[str, str]] = []
for heading, code in EXAMPLES:
    if heading:
        under = heading
    else:
        NAMED.append((under, code))


@pytest.mark.parametrize(("under", "code"), NAMED, ids=[f"{under}-{i}" for i, (under, _) in enumerate(NAMED)])
def test_an_example_runs(venue, url, ws_url, grpc_target, under, code):
    trader = venue.account("limits")

    names = {"url": url, "ws_url": ws_url, "grpc_target": grpc_target, "token": trader.token}
    exec(compile(code, f"{PAGE.name}: {under}", "exec"), {"__name__": "example", **names})


def test_the_page_has_an_example_of_each_class():
    text = "".join(code for _, code in NAMED)

    classes = ("Client(", "AsyncClient(", " Streams(", "SyncStreams(", "OrderPool(")
    assert [name for name in classes if name not in text] == []
