"""Market data bodies of REST, version 1: book, ticker, trades, symbols."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from msgspec import Struct

from tradsys.codec.decimals import Grid, grid_of, text_of
from tradsys.core import messages as m
from tradsys.core.candles import Candle
from tradsys.core.market import Market

CHECKSUM_LEVELS = 10

Level = tuple[str, str]
"""(price, quantity)"""
OrderLevel = tuple[str, str, str]
"""(price, quantity, order_id)"""


class Book(Struct):
    symbol: str
    seq: int
    epoch: int
    ts: str
    checksum: int
    """CRC-32 of "price:quantity" of the best ten bids, then the best ten asks, joined by commas."""
    bids: list[Level]
    asks: list[Level]


class OrderBook(Struct):
    """The book order by order (level 3); the checksum is the one of level 2."""

    symbol: str
    seq: int
    epoch: int
    ts: str
    checksum: int
    bids: list[OrderLevel]
    asks: list[OrderLevel]


class Ticker(Struct):
    symbol: str
    seq: int
    ts: str
    status: m.TradingStatusWord
    last: str | None
    reference: str | None
    bid: str | None
    bid_quantity: str | None
    ask: str | None
    ask_quantity: str | None


class Trade(Struct):
    trade_id: int
    price: str
    quantity: str
    taker_side: m.SideWord
    seq: int
    ts: str


class Trades(Struct):
    items: list[Trade]
    next_cursor: str | None


class CandleItem(Struct):
    """What the trades of one interval came to; volume in the base asset."""

    start_ts: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int


class Candles(Struct):
    symbol: str
    interval: str
    items: list[CandleItem]
    next_cursor: str | None


class Symbol(Struct):
    symbol: str
    base: str
    quote: str
    tick_size: str
    lot_size: str
    min_quantity: str
    max_quantity: str
    min_notional: str
    band_bps: str
    maker_fee_bps: str
    taker_fee_bps: str
    status: m.TradingStatusWord
    endpoint: str


class Symbols(Struct):
    items: list[Symbol]


def bps_text(ppm: int) -> str:
    """Parts per million as basis points: 150 ppm are "1.5"."""
    return text_of(ppm * (m.AMOUNT_SCALE // 100))


def checksum_of(bids: Iterable[Level], asks: Iterable[Level]) -> int:
    """What a client computes over its own book to know that it is the venue's."""
    best = CHECKSUM_LEVELS
    return checksum_of_rows([checksum_row(*level) for level in (*list(bids)[:best], *list(asks)[:best])])


def checksum_row(price: str, quantity: str) -> str:
    return f"{price}:{quantity}"


def checksum_of_rows(rows: Iterable[str]) -> int:
    """Of the best levels of bids and then of asks."""
    return crc32(",".join(rows).encode())


def levels_of(grid: Grid, market: Market, side: int, levels_max: int) -> list[Level]:
    """Price levels of one half, best first; an iceberg counts with what it shows."""
    half = market.book.bids if side > 0 else market.book.asks
    return [(grid.price_text(price), grid.qty_text(qty)) for price, qty, _ in half.depth(levels_max)]


def orders_of(grid: Grid, market: Market, side: int, levels_max: int, shard: str) -> list[OrderLevel]:
    """The orders of the best levels, in priority order."""
    half = market.book.bids if side > 0 else market.book.asks
    rows: list[OrderLevel] = []
    for rank in half.best_ranks(levels_max):
        order = half.levels[rank].head
        while order is not None:
            rows.append((grid.price_text(order.price), grid.qty_text(order.shown), f"{shard}-{order.id}"))
            order = order.next
    return rows


def orders_within(market: Market, levels_max: int) -> int:
    """How many orders the best levels of both sides have."""
    book = market.book
    return sum(orders for half in (book.bids, book.asks) for _, _, orders in half.depth(levels_max))


def book_of(
    market: Market, depth: int, level: int, shard: str, seq: int, epoch: int, ts: int
) -> Book | OrderBook:
    grid = grid_of(market.instrument)
    best = max(depth, CHECKSUM_LEVELS)
    bids, asks = levels_of(grid, market, 1, best), levels_of(grid, market, -1, best)
    checksum = checksum_of(bids, asks)
    if level == 3:
        return OrderBook(
            market.instrument.symbol, seq, epoch, str(ts), checksum,
            orders_of(grid, market, 1, depth, shard), orders_of(grid, market, -1, depth, shard),
        )  # fmt: skip
    return Book(market.instrument.symbol, seq, epoch, str(ts), checksum, bids[:depth], asks[:depth])


def ticker_of(market: Market, status: int, seq: int, ts: int) -> Ticker:
    grid = grid_of(market.instrument)
    bid = next(iter(levels_of(grid, market, 1, 1)), (None, None))
    ask = next(iter(levels_of(grid, market, -1, 1)), (None, None))
    return Ticker(
        market.instrument.symbol,
        seq,
        str(ts),
        m.TRADING_STATUS_WORDS[status],
        grid.price_text(market.last) if market.last else None,
        grid.price_text(market.reference) if market.reference else None,
        *bid,
        *ask,
    )


def recent_trades_of(market: Market, limit: int) -> list[Trade]:
    """The latest trades that the engine remembers, newest first."""
    grid = grid_of(market.instrument)
    latest = list(market.trades)[: -limit - 1 : -1]
    return [
        Trade(event[1], grid.price_text(event[4]), grid.qty_text(event[5]), m.SIDE_WORDS[side], seq, str(ts))
        for ts, seq, side, event in latest
    ]


def candle_item_of(candle: Candle) -> CandleItem:
    return CandleItem(
        str(candle.start_ns),
        text_of(candle.open),
        text_of(candle.high),
        text_of(candle.low),
        text_of(candle.close),
        text_of(candle.volume),
        candle.trades,
    )


def symbol_of(market: Market, status: int, endpoint: str) -> Symbol:
    instrument = market.instrument
    return Symbol(
        instrument.symbol,
        instrument.base,
        instrument.quote,
        text_of(instrument.tick_size),
        text_of(instrument.lot_size),
        text_of(instrument.qty_min * instrument.lot_size),
        text_of(instrument.qty_max * instrument.lot_size),
        text_of(instrument.notional_min),
        bps_text(instrument.band_ppm),
        bps_text(instrument.maker_fee_ppm),
        bps_text(instrument.taker_fee_ppm),
        m.TRADING_STATUS_WORDS[status],
        endpoint,
    )
