"""What it is worth to prepare the read model's statements once: get, insert and update of an order.

    python tests/bench/readmodel_statements.py [COUNT]

Two files with the same rows and the same settings; one connection keeps its prepared statements, the other
prepares each again. Rounds alternate between the two, so that what else the machine does hits both. Each
round is one transaction, rolled back. Times are of single statements, as the wall clock has them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter_ns

import apsw
import msgspec

from tradsys.adapters.history import sql
from tradsys.adapters.history.readmodel import OrderRow
from tradsys.adapters.history.sqlite import STATEMENTS_MAX, Pragmas, migrate

ROUNDS = 8


def row(number: int) -> tuple[object, ...]:
    """An order, one of three still open."""
    side, price, shown = 1 - 2 * (number % 2), 50_000 + number % 500, 1 + number % 7
    status, account, client_id = 1 + 2 * (number % 3), f"account{number % 50}", f"c{number}"
    return msgspec.structs.astuple(
        OrderRow(
            number, account, "BTC-USD", side, 1, 1, 10, price, 0, client_id, number, 0,
            status, 0, shown, 0, 0, number, number, shown, number,
        )
    )  # fmt: skip


def opened(path: Path, statements_max: int, rows: int) -> apsw.Connection:
    db = apsw.Connection(str(path), statementcachesize=statements_max)
    Pragmas().apply(db)
    migrate(db)
    with db:
        db.executemany(sql.INSERT_ORDER, (row(number) for number in range(1, rows + 1)))
    return db


def times_of(db: apsw.Connection, statement: str, bindings: list[tuple[object, ...]]) -> list[int]:
    """ns of each execution."""
    taken = []
    execute = db.execute
    execute("BEGIN IMMEDIATE")
    for one in bindings:
        began = perf_counter_ns()
        execute(statement, one).fetchall()
        taken.append(perf_counter_ns() - began)
    execute("ROLLBACK")
    return taken


def main(count: int) -> None:
    random = Random(1)
    ids = [random.randint(1, count) for _ in range(count // 40)]
    work: dict[str, tuple[str, Callable[[int], tuple[object, ...]]]] = {
        "get": (sql.GET_ORDER, lambda number: (number,)),
        "insert": (sql.INSERT_ORDER, lambda number: row(count + 1 + number)),
        "update": (sql.UPDATE_ORDER, lambda number: (10, 50_000, 0, 3, 0, 0, 1, 0, 1, 1, 0, 0, number)),
    }
    with tempfile.TemporaryDirectory(dir=".") as directory:
        kept = opened(Path(directory) / "kept.db", STATEMENTS_MAX, count)
        none = opened(Path(directory) / "none.db", 0, count)
        print(f"{count:,} orders in the table, {ROUNDS} rounds of {len(ids):,} statements each, µs")
        head = ("", "prepared p50", "p95", "p99", "each time p50", "p95", "p99", "less")
        print("".join(f"{word:>{14 if 'p50' in word else 8}}" for word in head))
        for name, (statement, binding) in work.items():
            numbers = range(len(ids)) if name == "insert" else ids
            bindings = [binding(number) for number in numbers]
            taken: dict[str, list[int]] = {"kept": [], "none": []}
            for _ in range(ROUNDS):
                for which, db in (("kept", kept), ("none", none)):
                    taken[which] += times_of(db, statement, bindings)
            shown = []
            for which in ("kept", "none"):
                ordered = sorted(taken[which])
                shown += [ordered[int(share * len(ordered))] / 1000 for share in (0.5, 0.95, 0.99)]
            less = 1 - median(taken["kept"]) / median(taken["none"])
            cells = [f"{us:{14 if i % 3 == 0 else 8}.1f}" for i, us in enumerate(shown)]
            print(f"{name:8}{''.join(cells)}{less:8.0%}")
        kept.close()
        none.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
