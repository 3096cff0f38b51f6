"""Knobs of the read model and of gRPC; the work itself is that of the benchmarks beside this folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median

from tests.api.venue_process import RunningVenue
from tests.bench import gateway, readmodel_statements
from tests.bench.knobs.knob import Effort, Figures, Knob, Side
from tradsys.adapters.history import sql
from tradsys.adapters.history.sqlite import STATEMENTS_MAX
from tradsys.client.pool import OrderPool
from tradsys.v1 import orders_pb2 as pb

STATEMENTS_OF_A_CALL = 20
"""One of so many orders of the table."""


@contextlib.contextmanager
def statements(folder: Path, effort: Effort) -> Iterator[tuple[Side, Side]]:
    """Get, insert and update of an order, in tables with the same rows."""
    rows = effort.orders * 2
    ids = [Random(1).randint(1, rows) for _ in range(max(1, rows // STATEMENTS_OF_A_CALL))]
    work = {
        "get": (sql.GET_ORDER, [(number,) for number in ids]),
        "insert": (sql.INSERT_ORDER, [readmodel_statements.row(rows + 1 + i) for i in range(len(ids))]),
        "update": (
            sql.UPDATE_ORDER,
            [(10, 50_000, 0, 3, 0, 0, 1, 0, 1, 1, 0, 0, 0, number) for number in ids],
        ),
    }
    sides = []
    with contextlib.ExitStack() as open_:
        for name, kept in (("each", 0), ("once", STATEMENTS_MAX)):
            db = readmodel_statements.opened(folder / f"{name}.db", kept, rows)
            open_.callback(db.close)

            def side(db: object = db) -> Figures:
                return {
                    f"{name}, p50 µs": median(readmodel_statements.times_of(db, statement, bindings)) / 1e3
                    for name, (statement, bindings) in work.items()
                }

            sides.append(side)
        yield sides[0], sides[1]


@contextlib.contextmanager
def grpc_pool(folder: Path, effort: Effort) -> Iterator[tuple[Side, Side]]:
    """The same order again and again, so that the venue's own work is the same small look-up."""
    venue = RunningVenue(folder, ("engine", "history", "gateway"), profile="hft")
    try:
        venue.start()
        target, token = f"127.0.0.1:{venue.ports['grpc_port']}", venue.account("limits").token
        order = pb.PlaceOrderRequest(
            symbol="BTC-USD", side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT, quantity="1", price="9",
            time_in_force=pb.TIME_IN_FORCE_IOC, client_order_id="again",
        )  # fmt: skip

        def connecting() -> None:
            one = OrderPool(target, token, channels=1, patience_s=0)
            one.place(order)
            one.close()

        def shown(figures: Figures) -> Figures:
            return {"p50, µs": figures["p50_us"], "calls/s": figures["per_s"]}

        with OrderPool(target, token, patience_s=0) as pool:
            yield (
                lambda: shown(gateway.repeated(effort.seconds, connecting)),
                lambda: shown(gateway.repeated(effort.seconds, lambda: pool.place(order))),
            )
    finally:
        venue.end()


STORES = (
    Knob("statements", "prepared each time", "prepared once", statements),
    Knob("grpc_pool", "a connection per call", "a pool of connections", grpc_pool, "one call at a time"),
)
