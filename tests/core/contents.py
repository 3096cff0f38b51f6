"""The state of the real shard as the same plain data that `OracleShard.contents()` gives.

It reads what is kept, not what could be derived from it: levels in their order, running totals as they
stand. So a wrong total is a difference.
"""

from __future__ import annotations

from typing import Any

from tradsys.core.book import Side
from tradsys.core.messages import LIMIT, STOP_LIMIT
from tradsys.core.order import Order
from tradsys.core.shard import Shard


def contents_of(shard: Shard) -> dict[str, Any]:
    in_memory = sorted((id, order) for bucket in shard.orders.chunks.values() for id, order in bucket.items())
    keys = shard.keys
    records = sorted(keys.kept())
    return {
        "rules": shard.rules,
        "instruments": list(shard.instruments),
        "status": shard.status,
        "journal_space": shard.has_space,
        "everyone_killed": shard.killed,
        "trades": shard.trade_id,
        "fees": {asset: fees.free for asset, fees in shard.fees.items() if fees.free},
        "markets": {
            symbol: {
                "instrument": market.instrument.version,
                "status": market.status,
                "last": market.last,
                "reference": market.reference,
                "trades": list(market.trades),
                "bids": resting(market.book.bids),
                "asks": resting(market.book.asks),
                "buy stops": waiting(market.buy_stops),
                "sell stops": waiting(market.sell_stops),
            }
            for symbol, market in shard.markets.items()
        },
        "accounts": {
            name: {
                "mode": account.mode,
                "limits": account.limits,
                "killed": account.killed,
                "balances": {
                    asset: (balance.free, balance.reserved)
                    for asset, balance in account.balances.items()
                    if balance.free or balance.reserved
                },
                "net": {symbol: holding.net for symbol, holding in account.holdings.items() if holding.net},
                "open": list(account.open),
            }
            for name, account in shard.accounts.items()
        },
        "orders": {id: order_contents(order) for id, order in in_memory},
        "closed": [order.id for order in shard.orders.closed],
        "records": {tuple(key.split("/")): (r.seq, r.time_ns, r.events) for key, r in records},
        "closed records": [tuple(key.split("/")) for _, key in keys.closed],
        "revocations": shard.revocations,
        "work_due": shard.work_due,
        "next_expiry": shard.next_expiry,
    }


def resting(side: Side) -> list[tuple[int, int, int, int]]:
    return [(order.id, order.price, order.shown, order.open_qty) for order in side]


def waiting(side: Side) -> list[tuple[int, int]]:
    return [(order.id, order.command.stop_price) for order in side]


def order_contents(order: Order) -> dict[str, Any]:
    command = order.command
    return {
        "account": order.account.name,
        "symbol": command.symbol,
        "side": order.side,
        "type": command.type,
        "time_in_force": command.time_in_force,
        "qty": order.qty,
        "price": order.price if command.type in (LIMIT, STOP_LIMIT) else 0,
        "stop_price": command.stop_price,
        "display_qty": order.display_qty,
        "stp": command.stp,
        "expire_at": order.expire_at,
        "client_order_id": command.client_order_id,
        "filled": order.qty - order.open_qty,
        "version": order.version,
        "instrument": order.instrument.version,
        "fees": order.fees,
        "status": order.status,
        "reason": order.closed_reason,
        "fills": [fill(order, entry) for entry in order.fills or []],
    }


def fill(order: Order, entry: tuple[Any, ...]) -> tuple[int, int, int, int, int]:
    """(time, trade id, price, qty, the order's fee) from what the order keeps of a trade."""
    _, trade_id, maker_id, _, price, qty, maker_fee, taker_fee, _, _ = entry[-1]
    return entry[0], trade_id, price, qty, maker_fee if maker_id == order.id else taker_fee
