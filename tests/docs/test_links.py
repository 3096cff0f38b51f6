"""What a page points at is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()


@pytest.mark.parametrize("page", PAGES)
def test_links_inside_the_repository_lead_somewhere(page):
    path = ROOT / page
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    local = [target for target in targets if "://" not in target]

    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_with_their_path_exist(page):
    """`app/tradsys/core/book.py`, `tests/bench/ledger.md` and the like, in code marks or not."""
    text = (ROOT / page).read_text()
    named = re.findall(
        r"(?<![\w/.])((?:app|tests|operator|charts|tools|loadtests|dashboards)/[\w./-]+\.\w+)", text
    )
    missing = [name for name in named if not (ROOT / name).exists() and "NAME" not in name]

    assert missing == []
