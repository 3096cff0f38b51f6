"""app/SETTINGS.md and the settings are the same, both ways."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tradsys.compose.ops import SHOWN_SETTINGS
from tradsys.settings import Described, Settings, describe, load, size_text

APP = Path(__file__).parents[2] / "app"
PAGE = APP / "SETTINGS.md"


def row_of(setting: Described) -> str:
    cells = [f"`{setting.name}`", default_of(setting), setting.unit, setting.limits, setting.doc]
    return "| " + " | ".join(cells) + " |"


def default_of(setting: Described) -> str:
    default: Any = setting.default
    if setting.name == "seed":
        return "below"
    if default in ("", ()):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{size_text(default) if setting.unit == 'bytes' else default}`"


def test_the_table_has_exactly_one_row_for_each_setting_in_the_same_order():
    table = PAGE.read_text().split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]

    assert rows == [row_of(setting) for setting in describe({})]


def test_the_seed_shown_on_the_page_is_the_default_one(tmp_path):
    shown = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    config = tmp_path / "seed.yaml"
    config.write_text(shown)

    assert list(yaml.safe_load(shown)) == ["seed"]
    assert load({}, str(config)).seed == load({}).seed


def test_the_page_names_exactly_the_settings_that_nothing_reads_yet():
    code = "".join(path.read_text() for path in APP.rglob("*.py") if path.name != "settings.py")
    unread = {
        name
        for name in Settings.__struct_fields__
        if not re.search(rf"(settings|chosen)\.{name}\b", code) and name not in SHOWN_SETTINGS
    }

    (named,) = re.findall("not read by any process yet: ([^.]*)\\.", PAGE.read_text())

    assert unread == set(re.findall("`(\\w+)`", named))
