"""Where the runbooks are is said once: `RUNBOOKS` of dashboards/source/slo.py; all other places must agree.

The operator imports nothing of the dashboards, and alerts are plain YAML; so a fork changes the constant,
runs this, and is told what else.
"""

from __future__ import annotations

import re
from pathlib import Path

from dashboards.source.slo import RUNBOOKS

ROOT = Path(__file__).parents[2]
PLACES = ("dashboards", "operator/tradsys_operator", "charts", "app/tradsys")
URL = re.compile(r"https://github\.com/[\w.-]+/tradsys/blob/[^\s\"'{}]*?/runbooks\b")


def test_every_url_of_a_runbook_begins_where_the_runbooks_are():
    found = {
        (url, str(path.relative_to(ROOT)))
        for place in PLACES
        for path in (ROOT / place).rglob("*")
        if path.suffix in (".py", ".yaml", ".json", ".md", ".tpl") and "__pycache__" not in path.parts
        for url in URL.findall(path.read_text())
    }

    assert {url for url, _ in found} == {RUNBOOKS}, sorted(found)
    assert len(found) >= 4
