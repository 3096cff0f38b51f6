"""The shard's state as chunks, its hash, and what must always be true of it.

A chunk is the MessagePack of a list that starts with its name. Orders come in the order of the book, so that
restoring is appending; nothing depends on how a dict or a heap happened to grow, so equal states give equal
chunks, but for one thing: where the rows of idempotency keys are cut into chunks means nothing, and the state
hash does not see it (`hashed`). So a follower keeps the chunks that it has written, and writes them again.

History: format 1, the first. Format 2 has `keys`, whose records are bytes, instead of `records`; in format 3
they begin with the journal's own. All are still read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from tradsys.core.account import Account, Balance
from tradsys.core.market import Market
from tradsys.core.memory import key_of
from tradsys.core.messages import (
    CASH,
    FILLED,
    PARTIALLY_FILLED,
    PPM,
    Event,
    Instrument,
    Limits,
    PlaceOrder,
    Rules,
)
from tradsys.core.order import Order
from tradsys.core.records import Page, Row, encode_entry, repack

if TYPE_CHECKING:
    from tradsys.core.shard import Shard

FORMAT = 3
READABLE = (1, 2, 3)
CHUNK_MAX = 1_000

RESTING, WAITING, CLOSED = 0, 1, 2

Sum = int | str
"""A number that grows with every trade. What is larger than MessagePack's 64 bits is written as text."""


def _sum(number: int) -> Sum:
    return number if -(2**63) <= number < 2**63 else str(number)


class Header(msgspec.Struct, array_like=True, tag="shard"):
    format: int
    name: str
    rules: Rules
    status: int
    has_space: bool
    killed: bool
    trade_id: int
    evicted_early: int
    fees: list[tuple[str, Sum]]
    adjusted: list[tuple[str, Sum]]


class Instruments(msgspec.Struct, array_like=True, tag="instruments"):
    versions: list[Instrument]


class MarketState(msgspec.Struct, array_like=True):
    symbol: str
    version: int
    status: int
    last: int
    reference: int
    trades: list[tuple[int, int, int, Event]]


class Markets(msgspec.Struct, array_like=True, tag="markets"):
    markets: list[MarketState]


class AccountState(msgspec.Struct, array_like=True):
    name: str
    mode: int
    limits: Limits
    killed: bool
    balances: list[tuple[str, Sum, Sum]]
    """(asset, free, reserved)"""
    positions: list[tuple[str, Sum]]
    """(symbol, net in 1e-8 of base)"""


class Accounts(msgspec.Struct, array_like=True, tag="accounts"):
    accounts: list[AccountState]


class OrderState(msgspec.Struct, array_like=True):
    where: int
    id: int
    command: PlaceOrder
    version: int
    instrument: int
    price: int
    qty: int
    open_qty: int
    shown: int
    expire_at: int
    status: int
    closed_reason: int
    created_ns: int
    updated_ns: int
    updated_seq: int
    reserved: int
    cost: Sum
    fee_num: Sum
    """Sum of notional × rate over all fills, in millionths of a unit."""
    fees: Sum
    fills: list[tuple[int, int, int, Event]]


class Orders(msgspec.Struct, array_like=True, tag="orders"):
    """Per market: bids, asks (best first), waiting stops. Then closed ones as they closed."""

    orders: list[OrderState]


class Keys(msgspec.Struct, array_like=True, tag="keys"):
    """Open ones by seq, then as they closed. The list always begins with 32 bits of length."""

    rows: list[Row]


class Records(msgspec.Struct, array_like=True, tag="records"):
    """Of format 1: (command, seq, time, events, instrument, closed at or 0) in the same order."""

    records: list[tuple[PlaceOrder, int, int, list[Event], int, int]]


class WorkState(msgspec.Struct, array_like=True, tag="work"):
    work: list[tuple[int, str, str, int, int]]
    """(id, account, symbol, side, reason)"""


class Admin(msgspec.Struct, array_like=True, tag="admin"):
    txn_ids: list[str]
    revocations: list[tuple[str, str, int, int]]


Chunk = Header | Instruments | Markets | Accounts | Orders | Keys | Records | WorkState | Admin

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Chunk).decode


_KEYS = b"\x92\xa4keys\xdd"
_KEYS_PREFIX_BYTES = len(_KEYS) + 4


def take(shard: Shard) -> Iterator[bytes]:
    """The state in chunks of at most 1,000 orders, accounts or records."""
    yield from map(_encode, _until_keys(shard))
    yield from _keys(shard)
    yield from map(_encode, _after_keys(shard))


def hashed(chunk: bytes) -> bytes | memoryview:
    """The part of a chunk that the state hash covers."""
    return memoryview(chunk)[_KEYS_PREFIX_BYTES:] if chunk.startswith(_KEYS) else chunk


def _until_keys(shard: Shard) -> Iterator[Chunk]:
    yield Header(
        FORMAT,
        shard.name,
        shard.rules,
        shard.status,
        shard.has_space,
        shard.killed,
        shard.trade_id,
        shard.keys.evicted_early,
        sorted((asset, _sum(balance.free)) for asset, balance in shard.fees.items()),
        sorted((asset, _sum(amount)) for asset, amount in shard.adjusted.items()),
    )
    for versions in _pieces(shard.instruments):
        yield Instruments(versions)
    yield Markets([_market_state(symbol, market) for symbol, market in shard.markets.items()])
    for accounts in _pieces(shard.accounts.values()):
        yield Accounts([_account_state(account) for account in accounts])
    for orders in _pieces(_all_orders(shard)):
        yield Orders(orders)


def _after_keys(shard: Shard) -> Iterator[Chunk]:
    yield WorkState([(w.id, w.account, w.symbol, w.side, w.reason) for w in shard.work])
    yield Admin(
        list(shard.txn_ids),
        sorted((jti, name, until, expires) for (jti, name), (until, expires) in shard.revocations.items()),
    )


def _pieces(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while piece := list(islice(iterator, CHUNK_MAX)):
        yield piece


def _market_state(symbol: str, market: Market) -> MarketState:
    version = market.instrument.version
    return MarketState(symbol, version, market.status, market.last, market.reference, list(market.trades))


def _account_state(account: Account) -> AccountState:
    return AccountState(
        account.name,
        account.mode,
        account.limits,
        account.killed,
        sorted((asset, _sum(held.free), _sum(held.reserved)) for asset, held in account.balances.items()),
        sorted((symbol, _sum(holding.net)) for symbol, holding in account.holdings.items()),
    )


def _all_orders(shard: Shard) -> Iterator[OrderState]:
    for market in shard.markets.values():
        for side in (market.book.bids, market.book.asks):
            for order in side:
                yield _order_state(order, RESTING)
        for side in (market.buy_stops, market.sell_stops):
            for order in side:
                yield _order_state(order, WAITING)
    for order in shard.orders.closed:
        yield _order_state(order, CLOSED)


def _order_state(order: Order, where: int) -> OrderState:
    return OrderState(
        where,
        order.id,
        order.command,
        order.version,
        order.instrument.version,
        order.price,
        order.qty,
        order.open_qty,
        order.shown,
        order.expire_at,
        order.status,
        order.closed_reason,
        order.created_ns,
        order.updated_ns,
        order.updated_seq,
        order.reserved,
        _sum(order.cost),
        _sum(order.fees * PPM - order.fee_over),
        _sum(order.fees),
        order.fills or [],
    )


def _keys(shard: Shard) -> Iterator[bytes]:
    keys = shard.keys
    packed = keys.packed
    for opened in _pieces(_open_keys(shard)):
        yield _keys_chunk([(0, key, packed(key)) for key in opened])
    closed = iter(keys.closed)
    for page in keys.pages:
        if page.rows == page.rows_in_chunk:
            yield page.chunk
            next(islice(closed, page.rows, page.rows), None)
        else:
            yield _keys_chunk([(at, key, packed(key)) for at, key in islice(closed, page.rows)])
    while rows := [(at, key, packed(key)) for at, key in islice(closed, CHUNK_MAX)]:
        chunk = _keys_chunk(rows)
        if len(rows) == CHUNK_MAX:
            keys.pages.append(Page(len(rows), chunk, len(rows)))
        yield chunk


def _open_keys(shard: Shard) -> Iterator[str]:
    # A record is open as long as its order is. Sorted a piece at a time: to sort a million is one call of
    # 1.5 s in which no other thread of a follower runs, not even the one that syncs the journal.
    for _, chunk in sorted(shard.orders.chunks.items(), key=itemgetter(0)):
        for order_id in sorted(chunk):
            order = chunk[order_id]
            if order.status <= PARTIALLY_FILLED and order.key:
                yield order.key


def _keys_chunk(rows: list[Row]) -> bytes:
    # What msgspec writes before a list depends on its length; with one form the rows are found at once.
    return b"".join((_KEYS, len(rows).to_bytes(4, "big"), *map(_encode, rows)))


def state_hash(shard: Shard) -> str:
    digest = blake2b(digest_size=16)
    for chunk in take(shard):
        digest.update(hashed(chunk))
    return digest.hexdigest()


def restore(cls: type[Shard], chunks: Iterable[bytes], order_pool_size: int) -> Shard:
    """Build the shard again. Raises msgspec.DecodeError for chunks that no known format has."""
    decoded = map(_decode, chunks)
    header = next(decoded)
    if not isinstance(header, Header):
        raise msgspec.ValidationError("the state does not start with its header")
    if header.format not in READABLE:
        raise msgspec.ValidationError(f"the state has format {header.format}; this release reads 1 to 3")
    shard = cls(header.name, header.rules, order_pool_size)
    shard.status, shard.has_space, shard.killed = header.status, header.has_space, header.killed
    shard.trade_id = header.trade_id
    shard.keys.evicted_early = header.evicted_early
    shard.fees = {asset: Balance(int(amount)) for asset, amount in header.fees}
    shard.adjusted = {asset: int(amount) for asset, amount in header.adjusted}
    opened: list[Order] = []
    for chunk in decoded:
        if isinstance(chunk, Instruments):
            shard.instruments.extend(chunk.versions)
        elif isinstance(chunk, Markets):
            for state in chunk.markets:
                instrument = shard.instruments[state.version]
                market = Market(instrument, shard.fees.setdefault(instrument.quote, Balance()))
                market.status, market.last, market.reference = state.status, state.last, state.reference
                market.trades.extend(state.trades)
                shard.markets[state.symbol] = market
        elif isinstance(chunk, Accounts):
            for one in chunk.accounts:
                _restore_account(shard, one)
        elif isinstance(chunk, Orders):
            for order_state in chunk.orders:
                order = _restore_order(shard, order_state)
                if order_state.where != CLOSED:
                    opened.append(order)
        elif isinstance(chunk, Keys):
            rows = chunk.rows
            if header.format < FORMAT:
                rows = [(closed_ns, key, repack(record)) for closed_ns, key, record in rows]
            shard.keys.load(rows)
        elif isinstance(chunk, Records):
            for command, seq, time_ns, events, version, closed_ns in chunk.records:
                key = key_of(command.account, command.client_order_id)
                shard.keys.add(key, encode_entry((command, events)), seq, time_ns, version)
                if closed_ns:
                    shard.keys.close(key, closed_ns)
        elif isinstance(chunk, WorkState):
            from tradsys.core.shard import Work

            shard.work.extend(Work(*work) for work in chunk.work)
        elif isinstance(chunk, Admin):
            shard.txn_ids = dict.fromkeys(chunk.txn_ids)
            for jti, name, until, expires in chunk.revocations:
                shard.revocations[jti, name] = (until, expires)
    opened.sort(key=lambda order: order.id)
    for order in opened:
        order.account.open[order.id_object] = order
        (order.holding.buys if order.side > 0 else order.holding.sells)[order.id_object] = order
        if order.expire_at:
            shard.expiries.add(order)
    return shard


def _restore_account(shard: Shard, state: AccountState) -> None:
    account = shard.accounts[state.name] = Account(state.name, state.mode)
    account.obey(state.limits)
    account.killed = state.killed
    for asset, free, reserved in state.balances:
        account.balances[asset] = Balance(int(free), int(reserved))
    for symbol, net in state.positions:
        instrument = shard.markets[symbol].instrument
        account.holding(symbol, instrument.base, instrument.quote).net = int(net)


def _restore_order(shard: Shard, state: OrderState) -> Order:
    command = state.command
    account = shard.accounts[command.account]
    market = shard.markets[command.symbol]
    instrument = market.instrument
    order = Order(
        state.id, command.side, state.price, state.qty, command.display_qty, state.expire_at, account
    )
    order.command = command
    if command.client_order_id:
        order.key = key_of(command.account, command.client_order_id)
    order.obey(shard.instruments[state.instrument])
    order.holding = account.holding(instrument.symbol, instrument.base, instrument.quote)
    order.version = state.version
    order.open_qty, order.shown = state.open_qty, state.shown
    order.status, order.closed_reason = state.status, state.closed_reason
    order.created_ns, order.updated_ns = state.created_ns, state.updated_ns
    order.updated_seq = state.updated_seq
    order.reserved, order.cost = state.reserved, int(state.cost)
    order.fees = int(state.fees)
    order.fee_over = order.fees * PPM - int(state.fee_num)
    order.fills = state.fills or None
    memory = shard.orders
    memory.add(order)
    if state.where == CLOSED:
        memory.closed.append(order)
        return order
    memory.open_count += 1
    if command.side > 0:
        order.holding.open_buys += order.open_qty
    else:
        order.holding.open_sells += order.open_qty
    if state.where == WAITING:
        order.waiting = True
        market.stops(command.side).append(order, command.stop_price)
    else:
        market.book.rest(order)
    return order


def check(shard: Shard) -> None:
    """Raise AssertionError unless money is conserved and every structure agrees with every other."""
    totals = {asset: fees.free for asset, fees in shard.fees.items()}
    open_count = 0
    for account in shard.accounts.values():
        held: dict[int, int] = {}
        lots: dict[tuple[str, int], int] = {}
        ids: dict[tuple[str, int], list[int]] = {}
        for order in account.open.values():
            assert order.status <= PARTIALLY_FILLED and order.open_qty > 0, f"order {order.id} is not open"
            assert order.level is not None, f"open order {order.id} is in no book"
            assert 0 < order.shown <= order.open_qty, f"order {order.id} shows what it has not"
            named = order.command.client_order_id
            assert order.key == (key_of(account.name, named) if named else ""), f"order {order.id}: key"
            balance = order.holding.quote if order.side > 0 else order.holding.base
            held[id(balance)] = held.get(id(balance), 0) + order.reserved
            key = (order.command.symbol, order.side)
            lots[key] = lots.get(key, 0) + order.open_qty
            ids.setdefault(key, []).append(order.id)
            open_count += 1
        for asset, balance in account.balances.items():
            totals[asset] = totals.get(asset, 0) + balance.free + balance.reserved
            assert balance.reserved == held.get(id(balance), 0), f"{account.name}: reserved {asset} is off"
            if account.mode == CASH:
                assert balance.free >= 0, f"{account.name} owes {asset}"
        for symbol, holding in account.holdings.items():
            assert holding.open_buys == lots.get((symbol, 1), 0), f"{account.name}: open buys in {symbol}"
            assert holding.open_sells == lots.get((symbol, -1), 0), f"{account.name}: open sells in {symbol}"
            assert [*holding.buys] == ids.get((symbol, 1), []), f"{account.name}: buys in {symbol}"
            assert [*holding.sells] == ids.get((symbol, -1), []), f"{account.name}: sells in {symbol}"
    assert {a: t for a, t in totals.items() if t} == {a: t for a, t in shard.adjusted.items() if t}, (
        "money was created or lost"
    )
    assert open_count == shard.orders.open_count
    for symbol, market in shard.markets.items():
        _check_market(symbol, market)
        assert sum(a.holdings[symbol].net for a in shard.accounts.values() if symbol in a.holdings) == 0
    for order in shard.orders.closed:
        assert order.level is None and order.status >= FILLED and order.reserved == 0
        assert (order.status == FILLED) == (order.open_qty == 0)
    _check_keys(shard)


def _check_keys(shard: Shard) -> None:
    keys = shard.keys
    open_orders = {
        key_of(name, order.command.client_order_id): order.id
        for name, account in shard.accounts.items()
        for order in account.open.values()
        if order.command.client_order_id
    }
    assert all(at for at, _ in keys.closed)
    assert keys.count == len(open_orders) + len(keys.closed)
    assert sum(page.rows for page in keys.pages) <= len(keys.closed)
    count = 0
    for key, record in keys.kept():
        assert key == key_of(record.command.account, record.command.client_order_id)
        assert open_orders.get(key, record.seq) == record.seq, f"{key} is of another order"
        count += 1
    assert count == keys.count


def _check_market(symbol: str, market: Market) -> None:
    bids, asks = market.book.bids, market.book.asks
    for side in (bids, asks, market.buy_stops, market.sell_stops):
        assert list(side.ranked()) == sorted(side.levels, reverse=True), f"{symbol}: levels and ranks differ"
        for rank, level in side.levels.items():
            orders = []
            order = level.head
            while order is not None:
                assert order.level is level
                orders.append(order)
                order = order.next
            assert orders and level.tail is orders[-1], f"{symbol}: empty level {rank}"
            assert level.count == len(orders) and level.shown == sum(o.shown for o in orders)
    if bids.ranks and asks.ranks:
        assert bids.ranks[-1] < -asks.ranks[-1], f"{symbol}: the book is crossed"
