"""The secret of the internal listener is there whole, or nobody is let in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue

MAKE = """
import resource, sys
from tradsys.compose.pieces import internal_secret
from tradsys.settings import load

settings = load({"TRADSYS_DATA_DIR": sys.argv[1]})
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
print(internal_secret(settings).decode())
"""


def made(directory: Path, *full: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAKE, str(directory), *full], capture_output=True, text=True, timeout=60
    )


def test_a_secret_that_could_not_be_written_is_not_there(tmp_path: Path) -> None:
    """As on a full disk, or when the process is killed between the two."""
    failed = made(tmp_path, "the disk is full")
    assert failed.returncode == 1
    assert list(tmp_path.iterdir()) == []

    first, second = made(tmp_path).stdout, made(tmp_path).stdout
    assert first == second == (tmp_path / "internal.secret").read_text() + "\n"
    assert len(first) == 65
    assert (tmp_path / "internal.secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "short"])
def test_an_engine_with_no_secret_does_not_begin(tmp_path: Path, content: str) -> None:
    venue = RunningVenue(tmp_path)
    venue.data.mkdir(mode=0o700)
    (venue.data / "internal.secret").write_text(content)

    try:
        with pytest.raises(AssertionError, match=r"(?s)ended with 78: .*internal\.secret is not 32 to 1024"):
            venue.start()
    finally:
        venue.end()
