"""The shard: `apply(command, seq, time_ns) -> events`, the whole venue as one deterministic function.

README.md beside this file is the specification and names every rule used here. The order of things in
one command: checks (a refusal is a value and changes nothing), acceptance and reservation, matching in
the book, settlement of each trade, what remains rests or ends, stops that fell due, memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from tradsys.core import snapshot
from tradsys.core.account import Account, Balance, Holding
from tradsys.core.book import CANCELED_MAKER, CANCELED_TAKER, EXPIRED_MAKER, STOPPED_TAKER, TRADED
from tradsys.core.expiry import Expiries
from tradsys.core.market import Market, band, fee_of
from tradsys.core.memory import LEAVE_MAX, KeyMemory, OrderMemory, key_of
from tradsys.core.messages import (
    ACCEPTED_EVENT,
    AMOUNT_SCALE,
    BY_ADMIN,
    BY_KILL,
    BY_REQUEST,
    BY_SELF_TRADE,
    CANCEL_ONLY,
    CANCELED,
    CASH,
    CLOSED_EVENT,
    DAY,
    DAY_NS,
    EXPIRED,
    FILLED,
    FOK,
    GTD,
    HALTED,
    INSUFFICIENT_BALANCE,
    IOC,
    KILL_SWITCH,
    LIMIT,
    LIMITS,
    MARKET,
    NO_SUCH_ORDER,
    NOT_ALLOWED,
    NOT_CANCELABLE,
    NOT_TRADING,
    PARKED_EVENT,
    PARTIALLY_FILLED,
    POSITION_LIMIT,
    PPM,
    PRICE_BAND,
    REFUSED_EVENT,
    REPLACED_EVENT,
    REPLENISHED_EVENT,
    RESTED_EVENT,
    SET_EVENT,
    SIZE_LIMIT,
    STOP,
    STOP_LIMIT,
    TIME_UP,
    TOO_MANY_ORDERS,
    TRADE_EVENT,
    TRADING,
    TRIGGERED_EVENT,
    UNFILLED,
    VERSION_CONFLICT,
    WORK_EVENT,
    WOULD_CROSS,
    AdjustBalance,
    CancelAll,
    CancelOrder,
    CancelOrders,
    Command,
    ContinueWork,
    DefineAccount,
    DefineInstrument,
    Event,
    ExpireOrders,
    Instrument,
    PlaceOrder,
    ReplaceOrder,
    RevokeToken,
    Rules,
    SetJournalSpace,
    SetKill,
    SetLimits,
    SetReference,
    SetRules,
    SetTradingStatus,
)
from tradsys.core.order import Order
from tradsys.core.records import Record, encode_entry

POSITION_TOLD_MAX: Final = 2**63 - 1
"""A position may be larger; the journal's numbers have 64 bits."""


class Work:
    """Work that outlives its command: cancels of one account or "*", or the stop cascade of a symbol."""

    __slots__ = ("account", "id", "reason", "side", "symbol")

    def __init__(self, id: int, account: str, symbol: str, side: int, reason: int):
        self.id = id
        self.account = account
        """ "" for a stop cascade."""
        self.symbol = symbol
        self.side = side
        self.reason = reason


class Shard:
    """All state of one shard, and the one function that changes it."""

    def __init__(self, name: str, rules: Rules | None = None, order_pool_size: int = 0):
        """`order_pool_size` bounds the recycled order objects; it changes no outcome."""
        self.name = name
        self._obey(rules if rules is not None else Rules())
        self.instruments: list[Instrument] = []
        """Every version of every instrument; an order keeps the one it was accepted under."""
        self.markets: dict[str, Market] = {}
        self.accounts: dict[str, Account] = {}
        self.fees: dict[str, Balance] = {}
        self.adjusted: dict[str, int] = {}
        """Sum of all balance adjustments by asset: what must be there."""
        self.orders = OrderMemory(self.rules, order_pool_size)
        self.keys = KeyMemory(self.rules, self.instruments)
        self.expiries = Expiries()
        self.work: deque[Work] = deque()
        self.txn_ids: dict[str, None] = {}
        self.revocations: dict[tuple[str, str], tuple[int, int]] = {}
        """(jti, account) -> (issued_until, expires), both unix seconds."""
        self.status = TRADING
        self.has_space = True
        self.killed = False
        self.trade_id = 0
        self.entry = b""
        """Of the latest command, if its record needed it: what the journal has of it (`encode_entry`)."""
        self._verbs: dict[type, Callable[[Any, int, int], list[Event]]] = {
            ReplaceOrder: self._replace,
            CancelOrders: self._cancel_orders,
            ExpireOrders: self._expire_orders,
            ContinueWork: self._continue_work,
            SetJournalSpace: self._set_journal_space,
            SetRules: self._set_rules,
            DefineInstrument: self._define_instrument,
            DefineAccount: self._define_account,
            SetLimits: self._set_limits,
            SetTradingStatus: self._set_trading_status,
            SetReference: self._set_reference,
            SetKill: self._set_kill,
            AdjustBalance: self._adjust_balance,
            RevokeToken: self._revoke_token,
            CancelAll: self._cancel_all,
        }

    def _obey(self, rules: Rules) -> None:
        self.rules = rules
        # Each by itself, too: compiled code looks up what a struct has by its name.
        self._orders_max: int = rules.shard_orders_max
        self._account_orders_max: int = rules.account_orders_max
        self._makers_max: int = rules.match_makers_max
        self._step_max: int = rules.step_orders_max
        self._fills_max: int = rules.order_fills_max or 1

    def apply(self, command: Command, seq: int, time_ns: int) -> list[Event]:
        """Do what the command asks, or refuse it; the events say everything that happened, in order.

        `seq` and `time_ns` never go back; accounts and symbols of account commands exist.
        """
        self.entry = b""
        # Most are these two; a call by way of the dictionary is one that compiled code makes by names.
        kind = type(command)
        if kind is PlaceOrder:
            events = self._place(command, seq, time_ns)  # type: ignore[arg-type]
        elif kind is CancelOrder:
            events = self._cancel(command, seq, time_ns)  # type: ignore[arg-type]
        else:
            events = self._verbs[kind](command, seq, time_ns)
        if len(self.orders.closed) > self.orders.closed_max:
            self.orders.sweep()
        if self.keys.closed:
            self.keys.sweep(time_ns)
        return events

    # --- what others may ask ------------------------------------------------------------------------

    def order(self, order_id: int) -> Order | None:
        """An open order, or one that closed recently."""
        return self.orders.get(order_id)

    def original(self, account: str, client_order_id: str) -> Record | None:
        """What a retry with this key must be answered with."""
        return self.keys.get(key_of(account, client_order_id))

    @property
    def work_due(self) -> bool:
        return bool(self.work) and self._next_work() is not None

    @property
    def next_expiry(self) -> int:
        """Engine time at which `ExpireOrders` is due next; 0: none is."""
        return self.expiries.next

    def trading_status(self, market: Market) -> int:
        """The stricter of the symbol's and the shard's; an account can trade only if it is TRADING."""
        status = max(market.status, self.status)
        return status if self.has_space else max(status, CANCEL_ONLY)

    def snapshot(self) -> Iterator[bytes]:
        """The whole state in chunks, at most 1,000 orders or records each."""
        return snapshot.take(self)

    @classmethod
    def restore(cls, chunks: Iterable[bytes], order_pool_size: int = 0) -> Shard:
        """The shard whose `snapshot` gave these chunks. Raises msgspec.DecodeError for other ones."""
        return snapshot.restore(cls, chunks, order_pool_size)

    def state_hash(self) -> str:
        """A hash of the contents, not of the data structures: equal states have equal hashes."""
        return snapshot.state_hash(self)

    def check(self) -> None:
        """Assert that money is conserved to the last unit and that every invariant holds. O(state)."""
        snapshot.check(self)

    # --- placing ------------------------------------------------------------------------------------

    def _place(self, command: PlaceOrder, seq: int, now: int) -> list[Event]:
        account = self.accounts.get(command.account)
        market = self.markets.get(command.symbol)
        if account is None or market is None:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        side, qty, kind, tif = command.side, command.qty, command.type, command.time_in_force
        refused, price, reserved = self._judge(command, account, market, side, qty, kind, tif, now)
        client_order_id = command.client_order_id
        key = key_of(account.name, client_order_id) if client_order_id else ""
        # Before anything else: the record has the version that the order was judged by.
        version: int = market.instrument.version
        if refused is not None:
            events = [refused]
            if key:
                self.keys.close(key, now)
        else:
            events = self._accept(
                command, account, market, side, qty, kind, tif, price, reserved, key, seq, now
            )
        if key:
            self.entry = encode_entry((command, events))
            self.keys.add(key, self.entry, seq, now, version)
        return events

    def _accept(
        self,
        command: PlaceOrder,
        account: Account,
        market: Market,
        side: int,
        qty: int,
        kind: int,
        tif: int,
        price: int,
        reserved: int,
        key: str,
        seq: int,
        now: int,
    ) -> list[Event]:
        """Everything from acceptance on."""
        instrument = market.instrument
        holding = account.holdings.get(command.symbol) or account.holding(
            instrument.symbol, instrument.base, instrument.quote
        )
        if tif == GTD:
            expire_at = command.expire_at
        elif tif == DAY:
            expire_at = (now // DAY_NS + 1) * DAY_NS
        else:
            expire_at = 0
        order = self.orders.new(seq, side, price, qty, command.display_qty, expire_at, account)
        order.command = command
        order.obey(instrument)
        order.holding = holding
        order.key = key
        order.created_ns = order.updated_ns = now
        account.open[order.id_object] = order
        if expire_at:
            self.expiries.add(order)
        if side > 0:
            holding.buys[order.id_object] = order
            holding.open_buys += qty
            if reserved:
                order.reserved = reserved
                holding.quote.free -= reserved
                holding.quote.reserved += reserved
        else:
            holding.sells[order.id_object] = order
            holding.open_sells += qty
            if reserved:
                order.reserved = reserved
                holding.base.free -= reserved
                holding.base.reserved += reserved

        events: list[Event] = [(ACCEPTED_EVENT, seq)]
        if kind >= STOP:
            stop_price = command.stop_price
            if market.stop_is_due(side, stop_price):
                events.append((TRIGGERED_EVENT, seq))
            else:
                order.waiting = True
                market.stops(side).append(order, stop_price)
                events.append((PARKED_EVENT, seq, stop_price))
                return events
        self._match(market, order, seq, now, events)
        if market.buy_stops.ranks or market.sell_stops.ranks:
            self._fire_stops(market, seq, now, events)
        return events

    def judge(self, command: PlaceOrder, now: int) -> tuple[Event | None, int]:
        """(refusal or None, worst price) of an order, without placing it."""
        refused, price, _ = self._judge(
            command,
            self.accounts[command.account],
            self.markets[command.symbol],
            command.side,
            command.qty,
            command.type,
            command.time_in_force,
            now,
        )
        return refused, price

    def _judge(
        self,
        command: PlaceOrder,
        account: Account,
        market: Market,
        side: int,
        qty: int,
        kind: int,
        tif: int,
        now: int,
    ) -> tuple[Event | None, int, int]:
        """All checks of an order in their order: (refusal or None, worst price, reservation)."""
        if account.killed or self.killed:
            return (REFUSED_EVENT, KILL_SWITCH, 0, 0), 0, 0
        if self.status != TRADING or market.status != TRADING or not self.has_space:
            return (REFUSED_EVENT, NOT_TRADING, 0, self.trading_status(market)), 0, 0
        has_limit = kind in (LIMIT, STOP_LIMIT)
        price = command.price if has_limit else self._worst_price(market, command)
        refused = self._refuse_price_or_size(account, market, side, qty, price, has_limit)
        if refused is not None:
            return refused, price, 0
        if kind >= STOP or (kind == LIMIT and tif != IOC and tif != FOK):
            orders_max = account.orders_max or self._account_orders_max
            open_count = len(account.open)
            if open_count >= orders_max:
                return (REFUSED_EVENT, TOO_MANY_ORDERS, orders_max, open_count), price, 0
            orders_max, open_count = self._orders_max, self.orders.open_count
            if open_count >= orders_max:
                return (REFUSED_EVENT, TOO_MANY_ORDERS, orders_max, open_count), price, 0
        if command.post_only and kind == LIMIT:
            crossed = market.book.best_live_opposite(side, price, now)
            if crossed:
                return (REFUSED_EVENT, WOULD_CROSS, crossed, price), price, 0
        instrument = market.instrument
        if account.mode == LIMITS:
            if not account.position_max:
                return None, price, 0
            # An order that is only tried must leave no trace: replay does not know of it.
            symbol = instrument.symbol
            holding = account.holdings.get(symbol) or Holding(symbol, Balance(), Balance())
            return self._refuse_position(account, holding, market, side, qty, 0), price, 0
        if side > 0:
            notional = qty * market.unit * price
            reserved = notional + fee_of(0, notional, instrument.taker_fee_ppm)[0]
            balance = account.balances.get(instrument.quote)
        else:
            reserved = qty * market.lot_size
            balance = account.balances.get(instrument.base)
        free = balance.free if balance is not None else 0
        if reserved > free:
            return (REFUSED_EVENT, INSUFFICIENT_BALANCE, reserved, free), price, 0
        return None, price, reserved

    def _worst_price(self, market: Market, command: PlaceOrder) -> int:
        """The protection price of a MARKET or STOP order; 0: there is nothing to protect against."""
        if command.type == STOP:
            start = command.stop_price
        else:
            start = market.reference or market.book.best_price(-command.side)
        if not start:
            return 0
        return band(start, command.side, market.band_ppm or self.rules.protection_ppm)

    def _refuse_price_or_size(
        self, account: Account, market: Market, side: int, qty: int, price: int, has_limit: bool
    ) -> Event | None:
        """Checks 3 to 6: band, minimum notional, size of the instrument, size and notional of the account."""
        if has_limit and market.reference and market.band_ppm:
            high = band(market.reference, 1, market.band_ppm)
            if price > high:
                return (REFUSED_EVENT, PRICE_BAND, high, price)
            low = band(market.reference, -1, market.band_ppm)
            if price < low:
                return (REFUSED_EVENT, PRICE_BAND, low, price)
        notional_min = market.notional_min
        notional_max = account.notional_max if account.mode == LIMITS else 0
        notional = qty * market.unit * price if notional_min or notional_max else 0
        if price and notional_min and notional < notional_min:
            return (REFUSED_EVENT, PRICE_BAND, notional_min, notional)
        if qty < market.qty_min:
            return (REFUSED_EVENT, SIZE_LIMIT, market.qty_min, qty)
        if qty > market.qty_max:
            return (REFUSED_EVENT, SIZE_LIMIT, market.qty_max, qty)
        if account.mode == LIMITS:
            if account.qty_max and qty * market.lot_size > account.qty_max:
                return (REFUSED_EVENT, SIZE_LIMIT, account.qty_max, qty * market.lot_size)
            if notional_max and notional > notional_max:
                return (REFUSED_EVENT, SIZE_LIMIT, notional_max, notional)
        return None

    def _refuse_position(
        self, account: Account, holding: Holding, market: Market, side: int, qty: int, released: int
    ) -> Event | None:
        """Check 9, with `released` lots of the same side taken out first."""
        if side > 0:
            position = holding.net + (holding.open_buys + qty - released) * market.lot_size
        else:
            position = -holding.net + (holding.open_sells + qty - released) * market.lot_size
        limit = account.position_max
        if limit and position > limit:
            return (REFUSED_EVENT, POSITION_LIMIT, limit, min(position, POSITION_TOLD_MAX))
        return None

    # --- matching and settlement --------------------------------------------------------------------

    def _match(self, market: Market, taker: Order, seq: int, now: int, events: list[Event]) -> None:
        """Steps 3 to 5 for an order that comes now: trade, then rest or end what remains."""
        command: PlaceOrder = taker.command
        book = market.book
        tif = command.time_in_force
        if tif == FOK and not book.fillable(taker, now, command.stp, self._makers_max):
            self._close(market, taker, EXPIRED, UNFILLED, seq, now, events)
            return
        opposite = book.asks.ranks if taker.side > 0 else book.bids.ranks
        if opposite and taker.price and self._trade(market, taker, command.stp, seq, now, events):
            return
        if not taker.open_qty:
            return
        if command.type == MARKET or command.type == STOP or tif == IOC:
            self._close(market, taker, EXPIRED, UNFILLED, seq, now, events)
        else:
            book.rest(taker)
            events.append((RESTED_EVENT, taker.id, taker.side, taker.price, taker.shown, taker.open_qty))

    def _trade(self, market: Market, taker: Order, stp: int, seq: int, now: int, events: list[Event]) -> bool:
        """Take from the book and settle every step of it. True: the taker has ended with quantity left."""
        open_qty = taker.open_qty
        for what, order, qty, left in market.book.take(taker, now, stp, self._makers_max):
            if what == TRADED:
                open_qty -= qty
                self._settle(market, taker, order, qty, open_qty, left, seq, now, events)
            elif what == EXPIRED_MAKER:
                self._close(market, order, EXPIRED, TIME_UP, seq, now, events)
            elif what == CANCELED_MAKER:
                self._close(market, order, CANCELED, BY_SELF_TRADE, seq, now, events)
            elif what == CANCELED_TAKER:
                self._close(market, taker, CANCELED, BY_SELF_TRADE, seq, now, events)
                return True
            elif what == STOPPED_TAKER:
                self._close(market, taker, EXPIRED, UNFILLED, seq, now, events)
                return True
            else:
                events.append((REPLENISHED_EVENT, order.id, qty))
        if taker.shown > open_qty:
            taker.shown = open_qty
        return False

    def _settle(
        self,
        market: Market,
        taker: Order,
        maker: Order,
        qty: int,
        taker_open: int,
        maker_open: int,
        seq: int,
        now: int,
        events: list[Event],
    ) -> None:
        """One trade: money, positions, fills, at the maker's price. Nothing is created or lost."""
        price = maker.price
        notional = qty * market.unit * price
        maker_fee = taker_fee = 0
        if taker.taker_fee_ppm:
            taker_fee, taker.fee_over = fee_of(taker.fee_over, notional, taker.taker_fee_ppm)
            taker.fees += taker_fee
        if maker.maker_fee_ppm:
            maker_fee, maker.fee_over = fee_of(maker.fee_over, notional, maker.maker_fee_ppm)
            maker.fees += maker_fee
        if taker_fee or maker_fee:
            market.fees.free += taker_fee + maker_fee

        if taker.side > 0:
            buyer, seller, cost, proceeds, buyer_open = (
                taker, maker, notional + taker_fee, notional - maker_fee, taker_open
            )  # fmt: skip
        else:
            buyer, seller, cost, proceeds, buyer_open = (
                maker, taker, notional + maker_fee, notional - taker_fee, maker_open
            )  # fmt: skip
        lots = qty * market.lot_size
        # Typed: the compiled form looks up attributes of what is not by their names, a third of a trade.
        to: Holding = buyer.holding
        to.net += lots
        to.open_buys -= qty
        to.base.free += lots
        account: Account = buyer.account
        if account.mode == CASH:
            # What the rest of the order may still cost at worst stays reserved; the difference is free.
            worst = buyer_open * market.unit * buyer.price
            need = worst + fee_of(buyer.fee_over, worst, buyer.taker_fee_ppm)[0]
            freed = buyer.reserved - need
            assert freed >= cost, "a fill cost more than was reserved for it"
            buyer.reserved = need
            to.quote.reserved -= freed
            to.quote.free += freed - cost
        else:
            to.quote.free -= cost
        giver: Holding = seller.holding
        giver.net -= lots
        giver.open_sells -= qty
        account = seller.account
        if account.mode == CASH:
            seller.reserved -= lots
            giver.base.reserved -= lots
        else:
            giver.base.free -= lots
        giver.quote.free += proceeds

        self.trade_id += 1
        trade_id = self.trade_id
        event = (
            TRADE_EVENT, trade_id, maker.id, taker.id,
            price, qty, maker_fee, taker_fee, maker_open, taker_open
        )  # fmt: skip
        events.append(event)
        market.last = market.reference = price
        fill = (now, seq, taker.side, event)
        market.trades.append(fill)
        cost = price * qty
        self._filled(maker, maker_open, cost, fill)
        self._filled(taker, taker_open, cost, fill)

    def _filled(self, order: Order, open_qty: int, cost: int, fill: tuple[int, int, int, Event]) -> None:
        """Write a fill into its order; the order ends with nothing left."""
        order.cost += cost
        order.updated_ns, order.updated_seq = fill[0], fill[1]
        if order.fills is None:
            order.fills = [fill]
        else:
            order.fills.append(fill)
            keep = self._fills_max
            if len(order.fills) > keep:
                del order.fills[:-keep]
        if open_qty:
            order.status = PARTIALLY_FILLED
        else:
            order.status = FILLED
            self._forget(order, fill[0])

    def _fire_stops(
        self, market: Market, seq: int, now: int, events: list[Event], work: Work | None = None
    ) -> None:
        """Step 6: trigger the stops that the last price has reached, one after the other.

        While the symbol's cascade is work already, other commands leave its stops to that.
        """
        if work is None and self._cascade_of(market) is not None:
            return
        done = 0
        while (order := market.next_due_stop()) is not None:
            if done == self._step_max or len(events) >= self._makers_max:
                if work is None:
                    work = Work(seq, "", market.instrument.symbol, 0, 0)
                    self.work.append(work)
                events.append((WORK_EVENT, work.id, done, 1))
                return
            done += 1
            if 0 < order.expire_at <= now:
                self._close(market, order, EXPIRED, TIME_UP, seq, now, events)
                continue
            market.stops(order.side).remove(order)
            order.waiting = False
            order.updated_ns = now
            order.updated_seq = seq
            events.append((TRIGGERED_EVENT, order.id))
            self._match(market, order, seq, now, events)
        if work is not None:
            self.work.remove(work)
            events.append((WORK_EVENT, work.id, done, 0))

    def _cascade_of(self, market: Market) -> Work | None:
        for work in self.work:
            if not work.account and work.symbol == market.instrument.symbol:
                return work
        return None

    def _close(
        self, market: Market, order: Order, status: int, reason: int, seq: int, now: int, events: list[Event]
    ) -> None:
        """End an order with quantity left: out of the book or the stops, its reservation released."""
        if order.level is not None:
            if order.waiting:
                market.stops(order.side).remove(order)
            else:
                market.book.remove(order)
        order.status = status
        order.closed_reason = reason
        order.updated_ns = now
        order.updated_seq = seq
        open_qty = order.open_qty
        holding: Holding = order.holding
        if order.side > 0:
            holding.open_buys -= open_qty
        else:
            holding.open_sells -= open_qty
        if order.reserved:
            self._release(order, order.reserved)
        events.append((CLOSED_EVENT, order.id, status, reason, open_qty))
        self._forget(order, now)

    @staticmethod
    def _release(order: Order, amount: int) -> None:
        """Give back part of a reservation (or take more, if negative)."""
        holding: Holding = order.holding
        balance = holding.quote if order.side > 0 else holding.base
        balance.reserved -= amount
        balance.free += amount
        order.reserved -= amount

    def _forget(self, order: Order, now: int) -> None:
        """The order has ended: it is no longer among the open ones."""
        assert order.status == FILLED or order.reserved == 0
        account: Account = order.account
        holding: Holding = order.holding
        del account.open[order.id_object]
        del (holding.buys if order.side > 0 else holding.sells)[order.id_object]
        if order.expire_at:
            self.expiries.remove(order)
        self.orders.close(order)
        if order.key:
            self.keys.close(order.key, now)

    # --- replace and cancel -------------------------------------------------------------------------

    def _replace(self, command: ReplaceOrder, seq: int, now: int) -> list[Event]:
        account = self.accounts.get(command.account)
        if account is None:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        if account.killed or self.killed:
            return [(REFUSED_EVENT, KILL_SWITCH, 0, 0)]
        order = self.orders.get(command.order_id)
        if order is None or order.account is not account:
            return [(REFUSED_EVENT, NO_SUCH_ORDER, 0, 0)]
        if order.status > PARTIALLY_FILLED:
            return [(REFUSED_EVENT, NOT_CANCELABLE, 0, 0)]
        if 0 < order.expire_at <= now:
            return [(REFUSED_EVENT, NOT_CANCELABLE, 0, 0)]
        if command.version >= 0 and command.version != order.version:
            return [(REFUSED_EVENT, VERSION_CONFLICT, order.version, command.version)]
        placed: PlaceOrder = order.command
        market = self.markets[placed.symbol]
        if self.status != TRADING or market.status != TRADING or not self.has_space:
            return [(REFUSED_EVENT, NOT_TRADING, 0, self.trading_status(market))]
        filled = order.qty - order.open_qty
        qty = command.qty or order.qty
        if qty <= filled:
            return [(REFUSED_EVENT, NOT_CANCELABLE, filled, qty)]
        has_limit = placed.type == LIMIT or placed.type == STOP_LIMIT
        if command.price and not has_limit:
            return [(REFUSED_EVENT, NOT_CANCELABLE, 0, 0)]
        price = command.price or order.price
        refused = self._refuse_price_or_size(account, market, order.side, qty, price, has_limit)
        if refused is None and placed.post_only and placed.type == LIMIT:
            crossed = market.book.best_live_opposite(order.side, price, now)
            if crossed:
                refused = (REFUSED_EVENT, WOULD_CROSS, crossed, price)
        if refused is not None:
            return [refused]

        instrument = market.instrument
        holding: Holding = order.holding
        open_qty = qty - filled
        if account.mode == LIMITS:
            if account.position_max:
                refused = self._refuse_position(
                    account, holding, market, order.side, open_qty, order.open_qty
                )
                if refused is not None:
                    return [refused]
        else:
            if order.side > 0:
                worst = open_qty * market.unit * price
                reserved = worst + fee_of(order.fee_over, worst, instrument.taker_fee_ppm)[0]
                available = holding.quote.free + order.reserved
            else:
                reserved = open_qty * market.lot_size
                available = holding.base.free + order.reserved
            if reserved > available:
                return [(REFUSED_EVENT, INSUFFICIENT_BALANCE, reserved, available)]
            self._release(order, order.reserved - reserved)

        if order.side > 0:
            holding.open_buys += open_qty - order.open_qty
        else:
            holding.open_sells += open_qty - order.open_qty
        order.obey(instrument)
        order.version += 1
        order.updated_ns = now
        order.updated_seq = seq
        kept = order.waiting or (price == order.price and qty <= order.qty)
        events: list[Event] = [
            (REPLACED_EVENT, order.id, order.version, price if has_limit else 0, qty, open_qty, int(kept))
        ]
        if order.waiting:
            stops = market.stops(order.side)
            assert order.level is not None
            order.level.shown -= order.shown
            order.price, order.qty, order.open_qty = price, qty, open_qty
            order.shown = min(order.display_qty, open_qty) if order.display_qty else open_qty
            order.level.shown += order.shown
            assert stops.levels[order.level.rank] is order.level
        elif kept:
            market.book.shrink(order, order.qty - qty)
        else:
            market.book.remove(order)
            order.price, order.qty, order.open_qty = price, qty, open_qty
            order.shown = min(order.display_qty, open_qty) if order.display_qty else open_qty
            self._match(market, order, seq, now, events)
            if market.buy_stops.ranks or market.sell_stops.ranks:
                self._fire_stops(market, seq, now, events)
        return events

    def _cancel(self, command: CancelOrder, seq: int, now: int) -> list[Event]:
        if command.account not in self.accounts:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        order = self.orders.get(command.order_id)
        if order is None or order.account.name != command.account:
            return [(REFUSED_EVENT, NO_SUCH_ORDER, 0, 0)]
        if order.status == CANCELED:
            return []
        if order.status > PARTIALLY_FILLED:
            return [(REFUSED_EVENT, NOT_CANCELABLE, 0, 0)]
        events: list[Event] = []
        self._close(self.markets[order.command.symbol], order, CANCELED, BY_REQUEST, seq, now, events)
        return events

    # --- long work, in steps ------------------------------------------------------------------------

    def _cancel_orders(self, command: CancelOrders, seq: int, now: int) -> list[Event]:
        if command.account not in self.accounts or (command.symbol and command.symbol not in self.markets):
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        events: list[Event] = []
        self._begin(Work(seq, command.account, command.symbol, command.side, BY_REQUEST), seq, now, events)
        return events

    def _cancel_all(self, command: CancelAll, seq: int, now: int) -> list[Event]:
        if command.account != "*" and command.account not in self.accounts:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        if command.symbol and command.symbol not in self.markets:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        events: list[Event] = []
        self._begin(Work(seq, command.account, command.symbol, 0, BY_ADMIN), seq, now, events)
        return events

    def _begin(self, work: Work, seq: int, now: int, events: list[Event]) -> None:
        if self._cancel_step(work, seq, now, events):
            self.work.append(work)

    def _continue_work(self, command: ContinueWork, seq: int, now: int) -> list[Event]:
        work = self._next_work()
        if work is None:
            return [(WORK_EVENT, 0, 0, 0)]
        events: list[Event] = []
        if not work.account:
            self._fire_stops(self.markets[work.symbol], seq, now, events, work)
        elif not self._cancel_step(work, seq, now, events):
            self.work.remove(work)
        return events

    def _next_work(self) -> Work | None:
        """The oldest work that can go on: a cascade waits while its symbol may not trade."""
        for work in self.work:
            if work.account or self.trading_status(self.markets[work.symbol]) == TRADING:
                return work
        return None

    def _cancel_step(self, work: Work, seq: int, now: int, events: list[Event]) -> bool:
        """Cancel one step of matching orders, oldest first; True: there are more."""
        found: list[Order] = []
        step = self._step_max
        for account in self.accounts.values() if work.account == "*" else (self.accounts[work.account],):
            if not account.open:
                continue
            for order in account.oldest(work.symbol, work.side):
                if order.id > work.id:
                    break
                found.append(order)
                if len(found) > step:
                    break
            if len(found) > step:
                break
        for order in found[:step]:
            market = self.markets[order.command.symbol]
            self._close(market, order, CANCELED, work.reason, seq, now, events)
        more = len(found) > step
        events.append((WORK_EVENT, work.id, min(len(found), step), 1 if more else 0))
        return more

    def _expire_orders(self, command: ExpireOrders, seq: int, now: int) -> list[Event]:
        events: list[Event] = []
        step = self._step_max
        due = self.expiries.due(now, step + 1)
        for order in due[:step]:
            self._close(self.markets[order.command.symbol], order, EXPIRED, TIME_UP, seq, now, events)
        events.append((WORK_EVENT, 0, min(len(due), step), 1 if len(due) > step else 0))
        return events

    # --- administration -----------------------------------------------------------------------------

    def _set_journal_space(self, command: SetJournalSpace, seq: int, now: int) -> list[Event]:
        self.has_space = command.available
        return [(SET_EVENT, 12)]

    def _set_rules(self, command: SetRules, seq: int, now: int) -> list[Event]:
        rules = command.rules
        if min(rules.step_orders_max, rules.match_makers_max) < 1 or any(
            getattr(rules, name) < 0 for name in rules.__struct_fields__
        ):
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        self._obey(rules)
        self.orders.obey(rules)
        self.keys.obey(rules)
        return [(SET_EVENT, 20)]

    def _define_instrument(self, command: DefineInstrument, seq: int, now: int) -> list[Event]:
        wanted = command.instrument
        refused: Event = (REFUSED_EVENT, NOT_ALLOWED, 0, 0)
        if (
            wanted.tick_size < 1
            or wanted.lot_size < 1
            or wanted.tick_size * wanted.lot_size % AMOUNT_SCALE
            or not 1 <= wanted.qty_min <= wanted.qty_max
            or wanted.notional_min < 0
            or not 0 <= wanted.maker_fee_ppm <= wanted.taker_fee_ppm <= 100_000
            or not 0 <= wanted.band_ppm < PPM
            or wanted.base == wanted.quote
            or wanted.symbol in ("", "*")
            or len(self.instruments) >= self.rules.instrument_versions_max
        ):
            return [refused]
        market = self.markets.get(wanted.symbol)
        if market is not None:
            present = market.instrument
            if (wanted.base, wanted.quote) != (present.base, present.quote):
                return [refused]
            if (wanted.tick_size, wanted.lot_size) != (present.tick_size, present.lot_size):
                if not market.is_idle:
                    return [refused]
                # They are ticks and lots, and mean nothing in another grid.
                market.last = market.reference = 0
                market.trades.clear()
        instrument = Instrument(
            wanted.symbol,
            wanted.base,
            wanted.quote,
            wanted.tick_size,
            wanted.lot_size,
            wanted.qty_min,
            wanted.qty_max,
            wanted.notional_min,
            wanted.band_ppm,
            wanted.maker_fee_ppm,
            wanted.taker_fee_ppm,
            len(self.instruments),
        )
        self.instruments.append(instrument)
        if market is None:
            fees = self.fees.setdefault(instrument.quote, Balance())
            self.markets[instrument.symbol] = Market(instrument, fees)
        else:
            market.obey(instrument)
        return [(SET_EVENT, 21)]

    def _define_account(self, command: DefineAccount, seq: int, now: int) -> list[Event]:
        present = self.accounts.get(command.account)
        if present is None:
            full = len(self.accounts) >= self.rules.accounts_max
            if full or command.mode not in (CASH, LIMITS) or command.account in ("", "*"):
                return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
            self.accounts[command.account] = Account(command.account, command.mode)
        elif present.mode != command.mode:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        return [(SET_EVENT, 22)]

    def _set_limits(self, command: SetLimits, seq: int, now: int) -> list[Event]:
        account = self.accounts.get(command.account)
        if account is None:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        account.obey(command.limits)
        return [(SET_EVENT, 23)]

    def _set_trading_status(self, command: SetTradingStatus, seq: int, now: int) -> list[Event]:
        if command.status not in (TRADING, CANCEL_ONLY, HALTED):
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        if command.symbol == "*":
            self.status = command.status
        elif command.symbol in self.markets:
            self.markets[command.symbol].status = command.status
        else:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        return [(SET_EVENT, 24)]

    def _set_reference(self, command: SetReference, seq: int, now: int) -> list[Event]:
        market = self.markets.get(command.symbol)
        if market is None or command.price < 0:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        market.reference = command.price
        return [(SET_EVENT, 25)]

    def _set_kill(self, command: SetKill, seq: int, now: int) -> list[Event]:
        if command.account == "*":
            self.killed = command.on
        elif command.account in self.accounts:
            self.accounts[command.account].killed = command.on
        else:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        events: list[Event] = [(SET_EVENT, 26)]
        if command.on:
            self._begin(Work(seq, command.account, "", 0, BY_KILL), seq, now, events)
        return events

    def _adjust_balance(self, command: AdjustBalance, seq: int, now: int) -> list[Event]:
        account = self.accounts.get(command.account)
        if account is None:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        if command.txn_id in self.txn_ids:
            return []
        balance = account.balance(command.asset)
        if account.mode == CASH and balance.free + command.amount < 0:
            return [(REFUSED_EVENT, INSUFFICIENT_BALANCE, -command.amount, balance.free)]
        balance.free += command.amount
        self.adjusted[command.asset] = self.adjusted.get(command.asset, 0) + command.amount
        self.txn_ids[command.txn_id] = None
        for _ in range(LEAVE_MAX):
            if len(self.txn_ids) > self.rules.txn_ids_max:
                del self.txn_ids[next(iter(self.txn_ids))]
        return [(SET_EVENT, 27)]

    def _revoke_token(self, command: RevokeToken, seq: int, now: int) -> list[Event]:
        names_nothing = not command.jti and not command.account
        if names_nothing or (command.account and command.account not in self.accounts):
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        now_s = now // 1_000_000_000
        for key in [key for key, (_, expires) in self.revocations.items() if 0 < expires < now_s]:
            del self.revocations[key]
        key = (command.jti, command.account)
        if key not in self.revocations and len(self.revocations) >= self.rules.revocations_max:
            return [(REFUSED_EVENT, NOT_ALLOWED, 0, 0)]
        issued_until, expires = self.revocations.get(key, (command.issued_until, command.expires))
        for_ever = not (expires and command.expires)
        self.revocations[key] = (
            max(issued_until, command.issued_until),
            0 if for_ever else max(expires, command.expires),
        )
        return [(SET_EVENT, 28)]
