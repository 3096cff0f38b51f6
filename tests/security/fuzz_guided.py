"""Look for bytes that break a decoder's promise, guided by the code that they reach (atheris, libFuzzer).

    python -m tests.security.fuzz_guided NAME -runs=100000 -seed=1

Ends with another code than 0 when it has found some, and says which.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tradsys.codec"]):
    from tests.security.decoders import CHECKS


def main(name: str, *options: str) -> None:
    check, good = CHECKS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for i, one in enumerate(good):
            Path(corpus, str(i)).write_bytes(one)
        found = f"-artifact_prefix={corpus}/"
        atheris.Setup([sys.argv[0], *options, "-max_len=600", "-print_final_stats=1", found, corpus], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
