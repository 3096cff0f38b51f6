"""The read model: what is asked later is what was so, whatever happened to the process in between."""

from __future__ import annotations

import itertools
import re
import threading
from pathlib import Path
from random import Random

import apsw
import msgspec
import pytest

import tradsys
from tests.adapters.following import Engine, HistoryThread
from tests.adapters.journalled import Recording, last_seq
from tradsys import metrics
from tradsys.adapters.history import sql
from tradsys.adapters.history.migrations import SCHEMA_VERSION, STEPS
from tradsys.adapters.history.reader import ReadModelReader
from tradsys.adapters.history.readmodel import NOTHING, OrderRow, Position, ReadModel, ReadModelError
from tradsys.adapters.history.sqlite import (
    PragmaNotInForce,
    Pragmas,
    SchemaTooNew,
    SqliteTooOld,
    check_version,
)
from tradsys.codec.json_v1 import encode, reply_of_order
from tradsys.core.candles import INTERVALS, SECOND, Candle, first_candle
from tradsys.core.messages import (
    ACCEPTED_EVENT,
    BUY,
    FILLED,
    GTC,
    LIMIT,
    RESTED_EVENT,
    SELL,
    SET_EVENT,
    TRADE_EVENT,
    CancelOrder,
    DefineInstrument,
    Instrument,
    PlaceOrder,
)
from tradsys.venue.past import NEWEST, OPEN, HistoryNotReady
from tradsys.venue.ports import Entry, Frame

PRAGMAS = Pragmas()
TABLES = ("position", "instruments", "revocations", "orders", "trades", "fills", "candles")


def open_model(directory: Path) -> ReadModel:
    return ReadModel(directory / "readmodel.db", PRAGMAS, [0] * metrics.WORDS_USED)


def chain_at(seq: int) -> bytes:
    return seq.to_bytes(16, "big")


def write(model: ReadModel, frames: list[Frame]) -> None:
    if frames:
        model.write(frames, chain_at(last_seq(frames[-1])))


def rows(model: ReadModel) -> dict[str, list[tuple]]:
    return {table: model.db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}


def text_of(order, fills: int | None = None) -> bytes:
    """The order's JSON, with its latest fills only."""
    reply = reply_of_order(order, "a")
    if fills is not None:
        reply.fills = reply.fills[len(reply.fills) - fills :]
    return encode(reply)


@pytest.mark.parametrize("seed", range(6))
def test_every_order_reads_like_the_one_in_the_engines_memory(tmp_path, seed):
    recording = Recording(seed)
    model = open_model(tmp_path)
    reader = ReadModelReader(model.path, PRAGMAS)
    compared = 0

    for _ in range(60):
        write(model, recording.record(25))
        with reader.view() as view:
            for bucket in recording.shard.orders.chunks.values():
                for order in bucket.values():
                    past = view.order(order.account.name, order.id)
                    assert past is not None and past.refusal == 0
                    kept = len(order.fills or ())
                    assert text_of(past.order, kept) == text_of(order)
                    compared += 1

    assert compared > 500


@pytest.mark.parametrize("seed", range(4))
def test_rows_do_not_depend_on_transactions_or_on_where_the_process_was_restarted(tmp_path, seed):
    frames = Recording(seed).record(1_500)
    (tmp_path / "once").mkdir()
    once = open_model(tmp_path / "once")
    write(once, frames)
    random = Random(seed)

    model = open_model(tmp_path)
    start = 0
    while start < len(frames):
        end = start + random.randint(1, 12)
        write(model, frames[start:end])
        start = end
        if random.random() < 0.3:
            model.close()
            model = open_model(tmp_path)

    assert model.position == Position(last_seq(frames[-1]), chain_at(last_seq(frames[-1])))
    assert rows(model) == rows(once)


def test_a_failed_transaction_leaves_rows_and_position_as_they_were(tmp_path):
    frames = Recording(1).record(400)
    model = open_model(tmp_path)
    write(model, frames[:10])
    before, position = rows(model), model.position
    seq = last_seq(frames[10]) + 1
    unknown = Frame(seq, 1, 1, [Entry(CancelOrder("a", 99_999), [(5, 99_999, 4, 1, 1)])])

    with pytest.raises(ReadModelError, match=f"no row of order 99999; the tables end with {position.seq}"):
        model.write([frames[10], unknown], b"")

    assert (rows(model), model.position) == (before, position)
    write(model, frames[10:])
    assert model.position.seq == last_seq(frames[-1])


def test_frames_must_follow_the_position(tmp_path):
    frames = Recording(1).record(100)
    model = open_model(tmp_path)

    with pytest.raises(AssertionError, match="frames must follow"):
        write(model, frames[1:])

    assert model.position == NOTHING


def test_a_gap_is_bridged_from_the_shard_and_what_closed_unseen_is_gone(tmp_path):
    recording = Recording(3)
    model = open_model(tmp_path)
    write(model, recording.record(400))
    seen = {row[0] for row in model.db.execute("SELECT id FROM orders WHERE status NOT IN (1, 2)")}
    recording.record(400)
    shard = recording.shard
    here = Position(recording.flow.seq, chain_at(recording.flow.seq))

    model.bridge(shard, here, 1, recording.flow.time_ns)
    write(model, recording.record(400))

    assert model.position.seq == recording.flow.seq
    listed = {row[0] for row in model.db.execute("SELECT id FROM orders WHERE status IN (1, 2)")}
    assert listed == {order_id for account in shard.accounts.values() for order_id in account.open}
    assert seen <= {row[0] for row in model.db.execute("SELECT id FROM orders")}
    reader = ReadModelReader(model.path, PRAGMAS)
    with reader.view() as view:
        for account in shard.accounts.values():
            for order in account.open.values():
                past = view.order(account.name, order.id)
                assert past is not None
                kept = min(len(order.fills or ()), len(past.order.fills or ()))
                assert text_of(past.order, kept) == text_of(order, kept)


def test_pages_hold_all_own_orders_newest_first_each_once(tmp_path):
    recording = Recording(2)
    model = open_model(tmp_path)
    write(model, recording.record(1_500))
    reader = ReadModelReader(model.path, PRAGMAS)

    with reader.view() as view:
        for account in recording.shard.accounts:
            for status in (0, OPEN, 3, 4):
                for symbol in ("", "BTC-USD"):
                    before: int | None = NEWEST
                    found = []
                    while before is not None:
                        page = view.orders(account, symbol=symbol, status=status, before=before, limit=7)
                        found += [past.order.id for past in page.items]
                        before = page.before
                    assert found == wanted_orders(model, account, symbol, status)


def wanted_orders(model: ReadModel, account: str, symbol: str, status: int) -> list[int]:
    everything = model.db.execute(
        "SELECT id, account, symbol, status FROM orders ORDER BY id DESC"
    ).fetchall()
    return [
        order_id
        for order_id, owner, its_symbol, its_status in everything
        if owner == account
        and symbol in ("", its_symbol)
        and (status == 0 or its_status == status or (status == OPEN and its_status < 3))
    ]


def test_pages_of_fills_and_trades_hold_each_once(tmp_path):
    recording = Recording(2)
    model = open_model(tmp_path)
    write(model, recording.record(1_500))
    reader = ReadModelReader(model.path, PRAGMAS)
    account = next(iter(recording.shard.accounts))

    with reader.view() as view:
        fills, before = [], (NEWEST, 0)
        while before is not None:
            page = view.fills(account, before=before, limit=5)
            fills += [(fill.trade[1], fill.order_id) for fill in page.items]
            before = page.before
        trades, before = [], NEWEST
        while before is not None:
            page = view.trades("BTC-USD", before=before, limit=5)
            trades += [trade.trade_id for trade in page.items]
            before = page.before

    everything = rows(model)
    assert fills == sorted(
        ((row[1], row[0]) for row in everything["fills"] if row[2] == account), reverse=True
    )
    assert trades == sorted((row[0] for row in everything["trades"] if row[1] == "BTC-USD"), reverse=True)
    assert fills and trades


def test_a_list_looks_at_a_bounded_number_of_rows_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("tradsys.adapters.history.reader.SCAN_ROWS_MAX", 10)
    recording = Recording(2)
    model = open_model(tmp_path)
    write(model, recording.record(1_500))
    reader = ReadModelReader(model.path, PRAGMAS)
    account = next(iter(recording.shard.accounts))

    with reader.view() as view:
        found, pages, before = [], 0, NEWEST
        while before is not None:
            page = view.orders(account, status=4, before=before, limit=100)
            found += [past.order.id for past in page.items]
            before = page.before
            pages += 1

    assert found == wanted_orders(model, account, "", 4)
    assert pages > len(found) // 100 + 1


@pytest.mark.parametrize(
    "name", [name for name in vars(sql) if name.startswith(("FIND", "LIST", "LAST", "ORDER_"))]
)
def test_no_question_reads_a_whole_table(tmp_path, name):
    model = open_model(tmp_path)
    statement = getattr(sql, name)
    values = dict.fromkeys(range(1, 7), 1)
    count = max([int(n) for n in re.findall(r"\?(\d)", statement)], default=statement.count("?"))

    plan = model.db.execute(
        "EXPLAIN QUERY PLAN " + statement, [values[i + 1] for i in range(count)]
    ).fetchall()

    whole = [row[3] for row in plan if row[3].startswith("SCAN") and "subquery" not in row[3]]
    assert [step for step in whole if step not in ("SCAN (subquery-1)", "SCAN latest")] == []
    assert not [row[3] for row in plan if "TEMP B-TREE" in row[3]]


def test_a_reader_waits_for_the_first_file_and_follows_to_a_new_one(tmp_path):
    reader = ReadModelReader(tmp_path / "readmodel.db", PRAGMAS)
    with pytest.raises(HistoryNotReady), reader.view():
        pass
    frames = Recording(1).record(200)
    model = open_model(tmp_path)
    write(model, frames[:10])
    with reader.view() as view:
        assert view.seq == last_seq(frames[9])
    model.close()
    for path in tmp_path.glob("readmodel.db*"):
        path.rename(path.with_name("aside-" + path.name))

    write(open_model(tmp_path), frames[:5])

    with reader.view() as view:
        assert view.seq == last_seq(frames[4])


def test_a_view_does_not_change_while_it_is_read(tmp_path):
    frames = Recording(1).record(200)
    model = open_model(tmp_path)
    write(model, frames[:10])
    reader = ReadModelReader(model.path, PRAGMAS)

    with reader.view() as view:
        write(model, frames[10:])
        assert view.seq == last_seq(frames[9])
        assert all(past.order.updated_seq <= view.seq for past in view.orders("limits0", limit=100).items)


def test_threads_read_at_the_same_time_each_its_own_moment(tmp_path):
    frames = Recording(1).record(600)
    model = open_model(tmp_path)
    reader = ReadModelReader(model.path, PRAGMAS)
    next_write, within = threading.Barrier(4, timeout=10), threading.Barrier(3, timeout=10)
    seen: list[tuple[int, int]] = []

    def read() -> None:
        for _ in range(20):
            next_write.wait()
            with reader.view() as view:
                within.wait()
                orders = view.orders("limits0", limit=1000).items
                seen.append((max((past.order.updated_seq for past in orders), default=0), view.seq))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for frame in frames[:20]:
        next_write.wait()
        write(model, [frame])
    for thread in threads:
        thread.join()

    assert len(seen) == 60
    assert [pair for pair in seen if pair[0] > pair[1]] == []


def test_costs_beyond_63_bits_come_back_exactly(tmp_path):
    big, price, qty = Instrument("BIG-USD", "BIG", "USD", tick_size=1, lot_size=10**8), 3 * 10**15, 10**15

    def order(account: str, side: int, qty: int) -> PlaceOrder:
        return PlaceOrder(account, "BIG-USD", side, LIMIT, GTC, qty, price)

    entries = [
        Entry(DefineInstrument(big), [(SET_EVENT, 21)]),
        Entry(
            order("a", BUY, 2 * qty), [(ACCEPTED_EVENT, 2), (RESTED_EVENT, 2, BUY, price, 2 * qty, 2 * qty)]
        ),
        Entry(order("b", SELL, qty), [(ACCEPTED_EVENT, 3), (TRADE_EVENT, 1, 2, 3, price, qty, 0, 0, qty, 0)]),
        Entry(order("b", SELL, qty), [(ACCEPTED_EVENT, 4), (TRADE_EVENT, 2, 2, 4, price, qty, 0, 0, 0, 0)]),
    ]

    for seq, entry in enumerate(entries, 1):
        model = open_model(tmp_path)
        write(model, [Frame(seq, seq, 1, [entry])])
        model.close()

    with ReadModelReader(model.path, PRAGMAS).view() as view:
        found = [view.order(account, seq) for account, seq in (("a", 2), ("b", 3), ("b", 4))]
    costs = [(past.order.cost, past.order.status) for past in found if past is not None]
    assert costs == [(2 * price * qty, FILLED), (price * qty, FILLED), (price * qty, FILLED)]


# --- candles ----------------------------------------------------------------------------------------


def candles_of(model: ReadModel) -> list[tuple]:
    """From the rows of the trades, one after the other."""
    grids = {row[0]: (row[4], row[5]) for row in rows(model)["instruments"]}
    made: dict[tuple[str, int], list[Candle]] = {}
    for _, symbol, instrument, price, qty, _, _, _, _, time_ns in rows(model)["trades"]:
        tick, lot = grids[instrument]
        for length in INTERVALS.values():
            candles = made.setdefault((symbol, length), [])
            if candles and candles[-1].start_ns == time_ns // length * length:
                candles[-1].take(price * tick, qty * lot)
            else:
                candles.append(first_candle(length, time_ns, price * tick, qty * lot))
    return sorted(
        sql.candle_row(symbol, length, candle)
        for (symbol, length), candles in made.items()
        for candle in candles
    )


@pytest.mark.parametrize("seed", range(4))
def test_candles_are_those_of_the_trades_whatever_the_transactions(tmp_path, seed):
    random = Random(seed)
    frames = Recording(seed).record(2_000)
    model = open_model(tmp_path)
    while frames:
        count = random.randint(1, 30)
        write(model, frames[:count])
        frames = frames[count:]
        if random.random() < 0.2:
            model.close()
            model = open_model(tmp_path)

    candles = rows(model)["candles"]
    assert sorted(candles) == candles_of(model)
    assert len(candles) > 20


def test_after_a_gap_candles_are_those_of_the_trades_that_are_there(tmp_path):
    recording = Recording(3)
    model = open_model(tmp_path)
    write(model, recording.record(400))
    recording.record(400)

    model.bridge(recording.shard, Position(recording.flow.seq, b"x"), 1, recording.flow.time_ns)
    bridged = candles_of(model)
    assert sorted(rows(model)["candles"]) == bridged
    write(model, recording.record(400))

    assert sorted(rows(model)["candles"]) == candles_of(model) != bridged


def test_a_volume_beyond_63_bits_comes_back_exactly(tmp_path):
    frames = Recording(2).record(1_500)
    model = open_model(tmp_path)
    write(model, frames[:-20])
    symbol, length, start = model.db.execute(
        "SELECT symbol, interval_ns, max(start_ns) FROM candles"
    ).fetchone()
    model.db.execute(sql.PUT_CANDLE, sql.candle_row(symbol, length, Candle(start, 1, 9, 1, 5, 3 * 10**30, 7)))

    with ReadModelReader(model.path, PRAGMAS).view() as view:
        (candle,) = view.candles(symbol, length, limit=1).items

    assert candle == Candle(
        start,
        model.db.execute(
            "SELECT open FROM candles WHERE symbol = ? AND interval_ns = ? AND start_ns = ?",
            (symbol, length, start),
        ).fetchone()[0],
        9,
        1,
        5,
        3 * 10**30,
        7,
    )


def test_pages_of_candles_hold_each_once_newest_first_within_the_bounds(tmp_path):
    model = open_model(tmp_path)
    write(model, Recording(2).record(1_500))
    starts = [row[2] for row in rows(model)["candles"] if row[:2] == ("BTC-USD", SECOND)]
    first, last = starts[2], starts[-3]

    found, before = [], last
    with ReadModelReader(model.path, PRAGMAS).view() as view:
        while before is not None:
            page = view.candles("BTC-USD", SECOND, start_ns=first, before_ns=before, limit=2)
            found += [candle.start_ns for candle in page.items]
            before = page.before

    assert found == starts[-4:1:-1] and len(found) > 2


# --- the book ---------------------------------------------------------------------------------------


def book_of(shard, symbol, levels_max, *, orders):
    market = shard.markets[symbol]
    halves = (market.book.bids, market.book.asks)
    if not orders:
        return [[(price, shown) for price, shown, _ in half.depth(levels_max)] for half in halves]
    best = [{price for price, _, _ in half.depth(levels_max)} for half in halves]
    return [
        [(order.price, order.shown, order.id) for order in half if order.price in prices]
        for half, prices in zip(halves, best, strict=True)
    ]


def assert_same_books(model, shard, what):
    with ReadModelReader(model.path, PRAGMAS).view() as view:
        for symbol, levels_max, orders in itertools.product(shard.markets, (1, 3, 1000), (False, True)):
            past = view.book(symbol, levels_max, orders=orders)
            wanted = book_of(shard, symbol, levels_max, orders=orders)
            assert [past.bids, past.asks] == wanted, (what, symbol, levels_max)
            assert past.instrument.tick_size == shard.markets[symbol].instrument.tick_size


@pytest.mark.parametrize("seed", range(5))
def test_the_book_is_the_engines_order_by_order(tmp_path, seed):
    recording = Recording(seed)
    model = open_model(tmp_path)
    resting = 0

    for i in range(60):
        write(model, recording.record(25))
        assert_same_books(model, recording.shard, (seed, i))
        resting += model.db.execute("SELECT count(*) FROM orders WHERE shown > 0").fetchone()[0]

    assert resting > 100


def test_after_a_gap_the_book_is_the_shards_and_goes_on(tmp_path):
    recording = Recording(6)
    model = open_model(tmp_path)
    write(model, recording.record(300))
    recording.record(300)

    model.bridge(recording.shard, Position(recording.flow.seq, b"x"), 1, recording.flow.time_ns)

    assert_same_books(model, recording.shard, "bridged")
    for i in range(20):
        write(model, recording.record(20))
        assert_same_books(model, recording.shard, i)


def test_a_level_of_more_than_63_bits_is_summed_exactly(tmp_path):
    model = open_model(tmp_path)
    write(model, Recording(1).record(100))
    large = 10**18 - 1
    for i in range(12):
        row = OrderRow(
            10**6 + i, "x", "BTC-USD", 1, 1, 1, large, 10**15, 0, "", 1, 0, 1, 0, large, 0, 0, 1, 1, large, -i
        )
        model.db.execute(sql.INSERT_ORDER, msgspec.structs.astuple(row))

    with ReadModelReader(model.path, PRAGMAS).view() as view:
        best = view.book("BTC-USD", 1).bids

    assert best == [(10**15, 12 * large)]


def test_an_instrument_stays_one_object_however_often_a_book_is_asked_for(tmp_path):
    recording = Recording(3)
    model = open_model(tmp_path)
    write(model, recording.record(100))
    reader = ReadModelReader(model.path, PRAGMAS)

    def instrument():
        with reader.view() as view:
            view.has_symbol("NO-SUCH")
            return view.book("BTC-USD", 1).instrument

    first = instrument()

    assert all(instrument() is first for _ in range(3))


# --- an older file ----------------------------------------------------------------------------------


def older_file(directory: Path, model: ReadModel) -> Path:
    """A file of schema 1 with the rows of a model."""
    path = directory / "older.db"
    db = apsw.Connection(str(path))
    db.execute(STEPS[0].sql)
    db.pragma("user_version", 1)
    db.execute("BEGIN")
    for table in TABLES[:-1]:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        marks = ", ".join("?" * len(columns))
        db.executemany(
            f"INSERT INTO {table} VALUES ({marks})",
            model.db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall(),
        )
    db.execute("COMMIT")
    db.close()
    return path


def last_trades(model: ReadModel) -> list[tuple]:
    return model.db.execute("SELECT id, last_trade FROM orders").fetchall()


@pytest.mark.parametrize("seed", range(3))
def test_a_file_of_the_first_schema_is_brought_up_with_all_its_rows(tmp_path, seed):
    recording = Recording(seed)
    model = open_model(tmp_path)
    write(model, recording.record(900))

    older = ReadModel(older_file(tmp_path, model), PRAGMAS, [0] * metrics.WORDS_USED)

    reader = ReadModelReader(older.path, PRAGMAS)
    assert older.db.pragma("user_version") == SCHEMA_VERSION
    taken = older.db.execute("SELECT * FROM schema_versions").fetchall()
    assert taken == [(step, tradsys.__version__) for step in range(2, SCHEMA_VERSION + 1)]
    for table in ("trades", "fills", "candles"):
        assert rows(older)[table] == rows(model)[table]
    assert last_trades(older) == last_trades(model)
    assert not older.knows_book
    with reader.view() as view, pytest.raises(HistoryNotReady):
        view.book("BTC-USD", 10)

    older.learn_book(recording.shard)

    assert_same_books(older, recording.shard, "learnt")
    frames = recording.record(300)
    for one in (older, model):
        write(one, frames)
    assert_same_books(older, recording.shard, "gone on")
    assert ReadModel(older.path, PRAGMAS, [0] * metrics.WORDS_USED).knows_book


@pytest.mark.parametrize("snapshot", [False, True])
def test_history_brings_an_older_file_up_and_fills_in_the_book_from_its_replay(tmp_path, snapshot):
    engine = Engine(tmp_path)
    with HistoryThread(tmp_path, engine.page) as thread:
        engine.trade(800)
        thread.wait_for(engine.seq)
        thread.snapshot()
    model = open_model(tmp_path)
    older = older_file(tmp_path, model)
    model.close()
    for path in tmp_path.glob("readmodel.db*"):
        path.unlink()
    older.rename(tmp_path / "readmodel.db")
    if not snapshot:
        # The replay begins at the beginning, and comes by where the file stands.
        for path in tmp_path.glob("snapshot-*"):
            path.unlink()

    with HistoryThread(tmp_path, engine.page) as thread:
        engine.trade(100)
        thread.wait_for(engine.seq)

    assert_same_books(open_model(tmp_path), engine.recording.shard, "followed")


# --- SQLite -----------------------------------------------------------------------------------------


def test_the_plans_pragmas_are_in_force_on_the_writing_connection(tmp_path):
    model = open_model(tmp_path)

    assert model.pragmas == {
        "journal_mode": "wal",
        "synchronous": 1,
        "cache_size": 10_000,
        "temp_store": 2,
        "mmap_size": 268_435_456,
        "journal_size_limit": 64 << 20,
        "wal_autocheckpoint": 4_000,
    }


def test_a_pragma_that_sqlite_does_not_take_stops_the_start(tmp_path):
    with pytest.raises(PragmaNotInForce, match="PRAGMA mmap_size is"):
        ReadModel(tmp_path / "x.db", Pragmas(mmap_size=1 << 60), [0] * metrics.WORDS_USED)


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_a_file_of_another_schema_is_not_read_before_it_is_this_releases(tmp_path, version):
    model = open_model(tmp_path)
    write(model, Recording(1).record(20))
    reader = ReadModelReader(model.path, PRAGMAS)
    model.db.pragma("user_version", version)

    with pytest.raises(HistoryNotReady), reader.view():
        pass

    model.db.pragma("user_version", SCHEMA_VERSION)
    with reader.view() as view:
        assert view.seq == model.position.seq


def test_a_reading_connection_can_not_write(tmp_path):
    write(open_model(tmp_path), Recording(1).record(20))
    reader = ReadModelReader(tmp_path / "readmodel.db", PRAGMAS)

    with reader.view() as view, pytest.raises(apsw.ReadOnlyError):
        view._db.execute("DELETE FROM orders")


@pytest.mark.parametrize("version", ["3.51.2", "3.50.9", "3.9.2", "2.8.17"])
def test_an_sqlite_that_can_corrupt_shared_files_is_refused(version):
    with pytest.raises(SqliteTooOld, match=f"SQLite {re.escape(version)} can corrupt .* 3.51.3 or newer"):
        check_version(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.53.0", "3.100.0", "4.0"])
def test_an_sqlite_from_the_floor_on_is_taken(version):
    check_version(version)


def test_a_file_of_a_later_release_is_not_touched(tmp_path):
    model = open_model(tmp_path)
    model.db.pragma("user_version", SCHEMA_VERSION + 1)
    model.close()

    with pytest.raises(SchemaTooNew, match=f"has schema {SCHEMA_VERSION + 1}, this release knows"):
        open_model(tmp_path)


def test_statements_are_prepared_once_and_run_for_many_rows(tmp_path):
    recording = Recording(5, batch_max=100)
    model = open_model(tmp_path)
    write(model, recording.record(1_000))
    changes = model.db.total_changes()
    hits, misses = model.statement_counts()

    write(model, recording.record(1_000))

    changes = model.db.total_changes() - changes
    hits, misses = (
        now - before for now, before in zip(model.statement_counts(), (hits, misses), strict=True)
    )
    assert changes > 1_000
    assert misses < 15
    assert hits + misses < changes / 5


def test_without_a_write_ahead_log_rows_are_the_same(tmp_path):
    frames = Recording(1).record(400)
    (tmp_path / "wal").mkdir()
    with_wal = open_model(tmp_path / "wal")
    write(with_wal, frames)
    pragmas = Pragmas(wal=False)
    model = ReadModel(tmp_path / "readmodel.db", pragmas, [0] * metrics.WORDS_USED)

    write(model, frames)

    assert model.pragmas["journal_mode"] == "delete"
    assert rows(model) == rows(with_wal)
    with ReadModelReader(model.path, pragmas).view() as view:
        assert view.seq == last_seq(frames[-1])
