"""Opening the read model's file: the version that is safe, the settings that are in force, the schema."""

from __future__ import annotations

from pathlib import Path

import apsw
from msgspec import Struct

from tradsys import __version__
from tradsys.adapters.history.migrations import SCHEMA_VERSION, STEPS, VERSIONS_NOTED_FROM

VERSION_FLOOR = (3, 51, 3)
"""Before it, resetting the write-ahead log could corrupt a database used by several processes."""
BUSY_TIMEOUT_MS = 5_000
"""How long a statement waits for another connection's lock; in WAL mode readers never need it."""
STATEMENTS_MAX = 512
"""Prepared statements kept per connection. More than `sql.py` has, because the cache of apsw moves on by one
place with each execution: a statement is prepared again once so many others have run since its last use."""
WRITING = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX
"""One thread has the writing connection, so SQLite need not take a mutex for each value that is bound."""
JOURNAL_SIZE_LIMIT = 64 << 20
"""The write-ahead log shrinks to this after a checkpoint, bytes."""

CHECKPOINT_PAGES = 4_000
"""Of 4 KiB in the write-ahead log, before they are copied to their places: a page that changes in every
transaction is copied once in many. 16 MiB: one sync of much more would hold up the journal's."""


class SqliteTooOld(Exception):
    """The SQLite library is older than VERSION_FLOOR. Installing a newer apsw is the remedy."""

    def __init__(self, version: str) -> None:
        floor = ".".join(map(str, VERSION_FLOOR))
        super().__init__(
            f"SQLite {version} can corrupt a database that several processes use; {floor} or newer is needed"
        )


class PragmaNotInForce(Exception):
    """SQLite did not take a setting."""

    def __init__(self, pragma: str, wanted: int | str, found: int | str) -> None:
        super().__init__(f"PRAGMA {pragma} is {found!r} though {wanted!r} was set")


class SchemaTooNew(Exception):
    """The file was written by a newer release. Move it away: it is rebuilt from the journal."""

    def __init__(self, found: int) -> None:
        super().__init__(f"the read model has schema {found}, this release knows {SCHEMA_VERSION}")


class SchemaDiffers(Exception):
    """The file has not been brought up to this release's schema yet, or a newer one has had it since."""


class Pragmas(Struct, frozen=True):
    """The plan's settings of a connection."""

    cache_size: int = 10_000
    """Pages."""
    mmap_size: int = 268_435_456
    """Bytes of the file that are mapped into memory at most."""
    wal: bool = True
    """Readers don't wait for the writer. Without it, they and the writer exclude each other."""

    def wanted(self) -> dict[str, int | str]:
        """Name and value as SQLite reports it when it is in force."""
        return {
            "journal_mode": "wal" if self.wal else "delete",
            # In WAL mode a power cut may take back the last transactions, never tear one. They are
            # folded again from the journal.
            "synchronous": 1,
            "cache_size": self.cache_size,
            "temp_store": 2,
            "mmap_size": self.mmap_size,
            "journal_size_limit": JOURNAL_SIZE_LIMIT,
            "wal_autocheckpoint": CHECKPOINT_PAGES,
        }

    def apply(self, db: apsw.Connection) -> None:
        for name, value in self.wanted().items():
            db.pragma(name, value)

    def read_back(self, db: apsw.Connection) -> dict[str, int | str]:
        """What is in force now. Raises PragmaNotInForce where that is not what was wanted."""
        found = {}
        for name, wanted in self.wanted().items():
            found[name] = db.pragma(name)
            if found[name] != wanted:
                raise PragmaNotInForce(name, wanted, found[name])
        return found


def check_version(version: str) -> None:
    """Raises SqliteTooOld below VERSION_FLOOR; `version` as in "3.51.3"."""
    if tuple(map(int, version.split("."))) < VERSION_FLOOR:
        raise SqliteTooOld(version)


def open_database(path: Path, pragmas: Pragmas) -> apsw.Connection:
    """The writing connection: version checked, settings set, schema brought up to date.

    Raises SqliteTooOld, SchemaTooNew, and what apsw has for a file that is damaged or no database.
    """
    check_version(apsw.sqlite_lib_version())
    db = apsw.Connection(str(path), flags=WRITING, statementcachesize=STATEMENTS_MAX)
    try:
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        pragmas.apply(db)
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def open_for_reading(path: Path, pragmas: Pragmas) -> apsw.Connection:
    """A connection that can't write.

    Raises apsw.CantOpenError while the file does not exist yet, SchemaDiffers until it is this release's.
    """
    check_version(apsw.sqlite_lib_version())
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=STATEMENTS_MAX)
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    if db.pragma("user_version") != SCHEMA_VERSION:
        db.close()
        raise SchemaDiffers
    db.pragma("query_only", True)
    db.pragma("cache_size", pragmas.cache_size)
    db.pragma("temp_store", 2)
    db.pragma("mmap_size", pragmas.mmap_size)
    return db


def migrate(db: apsw.Connection) -> None:
    """Take the steps that this file has not taken yet, each in its own transaction.

    Raises SchemaTooNew for a file from a later release.
    """
    taken = db.pragma("user_version")
    if taken > SCHEMA_VERSION:
        raise SchemaTooNew(taken)
    for number, step in enumerate(STEPS[taken:], taken + 1):
        with db:
            db.execute(step.sql)
            if step.then is not None:
                step.then(db)
            if number >= VERSIONS_NOTED_FROM:
                db.execute("INSERT INTO schema_versions VALUES (?, ?)", (number, __version__))
            db.pragma("user_version", number)
