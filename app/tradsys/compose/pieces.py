"""Pieces that more than one process is made of."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, MutableSequence
from threading import Thread
from typing import Any

from tradsys import metrics
from tradsys.adapters.auth.keys import HmacKey, JwksFile, Keys, create_key
from tradsys.adapters.auth.revocation import Revocations
from tradsys.adapters.auth.tokens import TokenVerifier
from tradsys.adapters.history.sqlite import Pragmas
from tradsys.adapters.page.page import Page, PageError, boot_id
from tradsys.codec.errors import UNAUTHORIZED
from tradsys.settings import Settings, SettingsError
from tradsys.venue.ports import Unauthorized

EXIT_JOURNAL = 70

KEY_FILE = "hs256.key"
PAGE_FILE = "page"
SECRET_FILE = "internal.secret"

PAGE_RETRY_S = 0.05


def end(code: int, message: str) -> int:
    # A log that can't be written must not change what the exit code says.
    with contextlib.suppress(OSError):
        print(f"tradsys: {message}", file=sys.stderr, flush=True)
    return code


class Stop:
    """SIGTERM and SIGINT, from now on."""

    def __init__(self) -> None:
        self.asked = False
        self._act: Callable[[], None] = lambda: None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def then(self, act: Callable[[], None]) -> None:
        """Call `act` when asked to stop, at once if that was before."""
        self._act = act
        if self.asked:
            act()

    def _on_signal(self, number: int, frame: object) -> None:
        self.asked = True
        # A handler interrupts this thread anywhere, also where it holds a lock that `act` needs.
        Thread(target=self._act, daemon=True).start()


def wait_for_page(settings: Settings, stop: Stop) -> Page | None:
    """The shared page, as soon as an engine has made one; None if told to stop before that."""
    boot = boot_id()
    while not stop.asked:
        time.sleep(PAGE_RETRY_S)
        with contextlib.suppress(FileNotFoundError, PageError):
            return Page.open(f"{settings.data_dir}/{PAGE_FILE}", boot)
    return None


class Nobody:
    """There are no tokens on the ops port of a follower."""

    def verify(self, header_value: str | None, now_ns: int) -> Unauthorized:
        return Unauthorized(UNAUTHORIZED, "no tokens here")


def close_header(environ: dict[str, Any], set_header: Callable[[str, str], None]) -> None:
    set_header("Connection", "close")


def venue_keys(settings: Settings) -> Keys:
    """The keys that tokens are verified with; a venue that has none makes a secret of its own.

    Raises KeyFileError, SettingsError.
    """
    if settings.jwks_file and settings.hs256_key_file:
        raise SettingsError("jwks_file", "and hs256_key_file are both set: give one of them")
    if settings.jwks_file:
        return JwksFile(settings.jwks_file)
    path = settings.hs256_key_file or f"{settings.data_dir}/{KEY_FILE}"
    if not settings.hs256_key_file:
        with contextlib.suppress(FileExistsError):
            create_key(path)
    return HmacKey.load(path)


def token_verifier(
    settings: Settings, keys: Keys, revocations: Revocations, words: MutableSequence[int] | None = None
) -> TokenVerifier:
    """Who judges tokens; it counts in the shard's `words`, or, without them, for nobody."""
    return TokenVerifier(
        keys,
        settings.token_issuer,
        settings.token_audience,
        revocations,
        [0] * metrics.WORDS_USED if words is None else words,
        verifications_per_s=settings.token_verifications_per_s,
    )


def pragmas(settings: Settings) -> Pragmas:
    return Pragmas(settings.sqlite_cache_size, settings.sqlite_mmap_size, settings.sqlite_wal)


def internal_secret(settings: Settings) -> bytes:
    """What gateway and feed prove themselves with on the internal listener; made once, mode 0600.

    Raises SettingsError: the file can't be read, or holds no secret.
    """
    if settings.internal_secret_file:
        return _given_secret(settings.internal_secret_file)
    path = f"{settings.data_dir}/{SECRET_FILE}"
    if not os.path.exists(path):
        _make_secret(path)
    return _given_secret(path)


def _make_secret(path: str) -> None:
    """The file appears whole or not at all: an empty one would be known to everybody."""
    draft = f"{path}.{secrets.token_hex(8)}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(handle)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def _given_secret(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            secret = file.read().strip()
    except OSError as error:
        raise SettingsError("internal_secret_file", f"{path} can't be read ({error.strerror})") from None
    if not 32 <= len(secret) <= 1024 or not secret.isascii() or not secret.decode().isprintable():
        raise SettingsError("internal_secret_file", f"{path} is not 32 to 1024 printable characters")
    return secret


def pinning() -> dict[str, Any]:
    """Evidence of this process's CPUs, as the kernel gives it."""
    with open("/proc/self/status") as file:
        facts = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {
        "pid": os.getpid(),
        "cpus_allowed_list": facts["Cpus_allowed_list"].strip(),
        "threads": int(facts["Threads"]),
        "voluntary_ctxt_switches": int(facts["voluntary_ctxt_switches"]),
        "nonvoluntary_ctxt_switches": int(facts["nonvoluntary_ctxt_switches"]),
        "cpu_exclusive": os.environ.get("TRADSYS_CPU_EXCLUSIVE") == "1",
        "thread_cpus": _thread_cpus(),
        "files": {path: text for path in _EVIDENCE if (text := _text(path)) is not None},
    }


_EVIDENCE = (
    "/proc/self/status",
    "/proc/self/cgroup",
    "/sys/devices/system/cpu/online",
    # cgroup v2 and v1, of the own group as a container sees it.
    "/sys/fs/cgroup/cpuset.cpus.effective",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/cpu.stat",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/cpuset/cpuset.cpus",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "/sys/fs/cgroup/cpu/cpu.stat",
)
"""What the kernel says; whoever judges the pinning judges these texts."""


def _thread_cpus() -> dict[str, str]:
    """Cpus_allowed_list of each thread, by its id."""
    found = {}
    for thread in os.listdir("/proc/self/task"):
        for line in (_text(f"/proc/self/task/{thread}/status") or "").splitlines():
            if line.startswith("Cpus_allowed_list:"):
                found[thread] = line.split(":", 1)[1].strip()
    return found


def _text(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read(1 << 16)
    except OSError:
        return None
