"""The locks pin what app/pyproject.toml names, with hashes, and nothing that can't be built."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "app" / "pyproject.toml").read_text())["project"]
LOCKS = {name: (ROOT / name).read_text() for name in ("app/requirements.lock", "tests/requirements.lock")}


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ \\]+)", LOCKS[lock], re.M))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("app/requirements.lock", ["build"]), ("tests/requirements.lock", ["baseline", "dev"])],
)
def test_a_lock_pins_everything_that_the_project_names(lock, extras):
    wanted = names(PROJECT["dependencies"])
    for extra in extras:
        wanted |= names(PROJECT["optional-dependencies"][extra])

    assert wanted - {name.lower() for name in pinned(lock)} == set()


def test_both_locks_agree():
    app, tests = pinned("app/requirements.lock"), pinned("tests/requirements.lock")

    assert {name: version for name, version in app.items() if tests.get(name) != version} == {}


@pytest.mark.parametrize("lock", LOCKS)
def test_each_pin_has_a_hash_and_comes_from_an_index(lock):
    pins = re.split(r"\n(?=\S)", LOCKS[lock].replace("\n    ", " "))
    pins = [pin for pin in pins if pin and not pin.startswith("#")]

    assert [pin.split()[0] for pin in pins if not re.match(r"\S+==\S+ .*--hash=sha256:", pin)] == []


def test_the_locks_were_made_by_make_lock():
    lock = LOCKS["tests/requirements.lock"]
    greenlet = lock[lock.index("\ngreenlet==") :].split("# via", 1)[1].split("==", 1)[0]

    # Elsewhere MEINHELD_NOGREEN is not set, and meinheld asks for it, too, in a version that builds nowhere.
    assert "playwright" in greenlet and "meinheld" not in greenlet
