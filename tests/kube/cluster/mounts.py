"""Mounts that containers leave behind."""

from __future__ import annotations

import subprocess
from pathlib import Path


def clear(directory: Path) -> None:
    """Unmount everything below a directory, the innermost first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted(points, reverse=True):
        if Path(point).is_relative_to(directory):
            subprocess.run(["umount", "--lazy", point], check=True)
