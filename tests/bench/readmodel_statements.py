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
from time import perf_counter_ns

import apsw
import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.promise import Bench
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


Percentiles = dict[str, tuple[float, float, float]]
"""p50, p95 and p99 in µs, with prepared statements ("kept") and without ("none")."""


def measured(count: int) -> dict[str, Percentiles]:
    """By statement."""
    random = Random(1)
    ids = [random.randint(1, count) for _ in range(count // 40)]
    work: dict[str, tuple[str, Callable[[int], tuple[object, ...]]]] = {
        "get": (sql.GET_ORDER, lambda number: (number,)),
        "insert": (sql.INSERT_ORDER, lambda number: row(count + 1 + number)),
        "update": (sql.UPDATE_ORDER, lambda number: (10, 50_000, 0, 3, 0, 0, 1, 0, 1, 1, 0, 0, 0, number)),
    }
    found: dict[str, Percentiles] = {}
    with tempfile.TemporaryDirectory() as directory:
        kept = opened(Path(directory) / "kept.db", STATEMENTS_MAX, count)
        none = opened(Path(directory) / "none.db", 0, count)
        for name, (statement, binding) in work.items():
            numbers = range(len(ids)) if name == "insert" else ids
            bindings = [binding(number) for number in numbers]
            taken: dict[str, list[int]] = {"kept": [], "none": []}
            for _ in range(ROUNDS):
                for which, db in (("kept", kept), ("none", none)):
                    taken[which] += times_of(db, statement, bindings)
            found[name] = {}
            for which, times in taken.items():
                times.sort()
                p50, p95, p99 = (times[int(share * len(times))] / 1000 for share in (0.5, 0.95, 0.99))
                found[name][which] = p50, p95, p99
        kept.close()
        none.close()
    return found


def measure(bench: Bench) -> None:
    """The part `database`."""
    count = bench.sized(20_000, 2_000)
    bench.tell(f"{count:,} orders")
    for name, by_way in measured(count).items():
        (p50, p95, p99), none = by_way["kept"], by_way["none"]
        bench.at_most(
            f"read model, {name} an order: p95", 1_000, "µs", [p95],
            f"SQLite (WAL, NORMAL), {count:,} orders, single statements, prepared once; p50 {p50:.1f}, "
            f"p99 {p99:.1f}; prepared each time p50 {none[0]:.1f}, p95 {none[1]:.1f}",
        )  # fmt: skip
        bench.found.figures[name] = {way: dict(zip(("p50_us", "p95_us", "p99_us"), values, strict=True))
                                     for way, values in by_way.items()}  # fmt: skip


def main(count: int) -> None:
    print(f"{count:,} orders in the table, {ROUNDS} rounds of {count // 40:,} statements each, µs")
    head = ("", "prepared p50", "p95", "p99", "each time p50", "p95", "p99", "less")
    print("".join(f"{word:>{14 if 'p50' in word else 8}}" for word in head))
    for name, by_way in measured(count).items():
        shown = [*by_way["kept"], *by_way["none"]]
        cells = [f"{us:{14 if i % 3 == 0 else 8}.1f}" for i, us in enumerate(shown)]
        print(f"{name:8}{''.join(cells)}{1 - shown[0] / shown[3]:8.0%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
