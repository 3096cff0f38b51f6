"""F3: whatever bytes come, a decoder gives what was meant or one of its own errors, and nothing else.

Good inputs are mutated, because random bytes rarely get past the first check; and atheris looks for more,
guided by the code that is reached. COUNT_F3 inputs for each decoder and way (10,000; 65,000, a million in
all, in `make reliability`).
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.security.decoders import CHECKS

COUNT = int(os.environ.get("COUNT_F3", "10000"))
SEED = int(os.environ.get("SEED", "7"))

TOKENS = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u0000", b"\\ud800", b"null", b"true", b"NaN",
    b"1e400", b"-", b"0", b"9" * 20, b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc0\xaf", b"\xed\xa0\x80",
    b"\xd9\xa1", b"'", b"\n", b"/*", b"\x80\0\0\0", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\0" * 8, b"..",
    b"e", b"+", b" ",
)  # fmt: skip


def mutations(good: list[bytes]) -> Iterable[bytes]:
    """Good ones, then mutations of them and random bytes; the same for the same seed."""
    yield from good
    rng = random.Random(SEED)
    for i in range(COUNT):
        if i % 8 == 0:
            yield rng.randbytes(rng.choice((0, 1, 2, 7, 39, 40, 56, 119, 120, 121, 160, 240, 333)))
            continue
        data = bytearray(rng.choice(good))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(6):
                case 0 if data:
                    data[at % len(data)] ^= 1 << rng.randrange(8)
                case 1:
                    data[at:at] = rng.choice(TOKENS)
                case 2:
                    del data[at : at + rng.choice((1, 2, 8, 40))]
                case 3:
                    data[at:at] = data[at : at + rng.choice((1, 8, 30))]
                case 4:
                    end = at + rng.choice((1, 2, 4, 8))
                    data[at:end] = rng.randbytes(end - at)
                case _:
                    other = rng.choice(good)
                    data = data[:at] + other[rng.randrange(len(other) + 1) :]
        yield bytes(data)


@pytest.mark.parametrize("name", CHECKS)
def test_mutated_inputs(name: str) -> None:
    check, good = CHECKS[name]

    for data in mutations(good):
        try:
            check(data)
        except Exception as fault:
            raise AssertionError(f"{name} breaks on {data!r}") from fault


@pytest.mark.parametrize("name", CHECKS)
def test_inputs_guided_by_the_code_they_reach(name: str) -> None:
    pytest.importorskip("atheris", reason="has no build for this Python")

    options = (f"-runs={COUNT}", f"-seed={SEED}")
    fuzzer = subprocess.run(
        [sys.executable, "-m", "tests.security.fuzz_guided", name, *options],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip

    assert fuzzer.returncode == 0, (fuzzer.stdout + fuzzer.stderr)[-3000:]
    assert re.search(rf"number_of_executed_units: {COUNT}\b", fuzzer.stderr), fuzzer.stderr[-1000:]
