"""`python -m tradsys.adapters.history.verify FILE`: load a snapshot and compare its state hash.

Exit 0 if the file is whole and the state that it restores is sound and has the hash that it was written with.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from tradsys.adapters.history.snapshots import Damaged, load
from tradsys.core.shard import Shard


def main(path: Path) -> int:
    found = load(path, Shard.restore)
    if isinstance(found, Damaged):
        print(f"{found.path}: {found.problem}")
        return 1
    try:
        found.shard.check()
    except (AssertionError, msgspec.DecodeError) as error:
        print(f"{path}: restores a state that can't be: {error}")
        return 1
    restored = found.shard.state_hash()
    if restored != found.state_hash:
        print(f"{path}: restores state {restored}, was written as {found.state_hash}")
        return 1
    print(restored)
    return 0


if __name__ == "__main__":
    os.nice(10)  # whoever takes orders on this machine comes first
    sys.exit(main(Path(sys.argv[1])))
