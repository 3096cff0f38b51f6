"""The rules of the venue, made executable as plainly as possible: the judge of the real core.

Written from app/tradsys/core/README.md alone, in its order and its words. There are no price levels,
no indexes and no running totals: the orders are one flat list, which is filtered and sorted each time
somebody asks; what is reserved, open or collected is summed up anew. It is slow, and meant to be read.

`OracleShard.apply(command, seq, time_ns)` gives the same whole event lists as `tradsys.core.shard.Shard`;
`contents()` is its state as plain data, to be compared with `contents_of(shard)` of the real one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from tradsys.core.messages import (
    ACCEPTED_EVENT,
    AMOUNT_SCALE,
    BUY,
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
    GTC,
    GTD,
    HALTED,
    INSUFFICIENT_BALANCE,
    KILL_SWITCH,
    LIMIT,
    LIMITS,
    NEW,
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
    SELL,
    SET_EVENT,
    SIZE_LIMIT,
    STOP,
    STOP_LIMIT,
    STP_CANCEL_BOTH,
    STP_CANCEL_MAKER,
    STP_CANCEL_TAKER,
    STP_NONE,
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
    Limits,
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

Refusal = tuple[int, int, int]
"""code, need, have"""

# Where an order is.
COMING, WAITING, RESTING, GONE = "coming", "waiting", "resting", "gone"


@dataclass(eq=False)
class Order:
    id: int
    account: str
    symbol: str
    side: int
    type: int
    time_in_force: int
    qty: int
    price: int
    """0: it has none (MARKET, STOP)."""
    stop_price: int
    display_qty: int
    post_only: bool
    stp: int
    expire_at: int
    """When its time is up, 0: never."""
    client_order_id: str
    worst_price: int
    instrument: Instrument
    """The version it was placed, or last replaced, under: grid and fees."""
    where: str = COMING
    filled: int = 0
    shown: int = 0
    place: int = 0
    """In the queue of its level; whoever came later has a greater one."""
    version: int = 0
    fee_num: int = 0
    """Sum of notional × rate: fees in millionths of 1e-8 before rounding."""
    status: int = NEW
    reason: int = 0
    fills: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """time, trade id, price, qty, fee"""

    @property
    def open(self) -> int:
        return self.qty - self.filled

    @property
    def rank(self) -> int:
        return self.price * self.side

    @property
    def fees(self) -> int:
        """Rounded up in total, so that many small fills cost no more than one large."""
        return ceil_div(self.fee_num, PPM)

    def slice(self) -> int:
        """What an iceberg shows of its open quantity when it comes to the end of a level."""
        return min(self.display_qty or self.open, self.open)

    def is_due(self, last: int) -> bool:
        """The condition of a stop; `last` 0: there was no trade yet."""
        return last != 0 and (last >= self.stop_price if self.side == BUY else last <= self.stop_price)

    def may_trade_at(self, price: int) -> bool:
        if self.worst_price == 0:
            return False
        return price <= self.worst_price if self.side == BUY else price >= self.worst_price

    def time_is_up(self, now: int) -> bool:
        return self.expire_at != 0 and self.expire_at <= now

    def may_rest(self) -> bool:
        return self.type in (LIMIT, STOP_LIMIT) and self.time_in_force in (GTC, GTD, DAY)

    def may_rest_or_wait(self) -> bool:
        return self.type in (STOP, STOP_LIMIT) or self.may_rest()


@dataclass(eq=False)
class Account:
    name: str
    mode: int
    limits: Limits = Limits()  # noqa: RUF009 — frozen, so it may be shared.
    killed: bool = False
    balances: dict[str, int] = field(default_factory=dict)
    """asset → free + reserved"""
    net: dict[str, int] = field(default_factory=dict)
    """symbol → base bought − base sold"""


@dataclass
class Market:
    instrument: Instrument
    status: int = TRADING
    last: int = 0
    reference: int = 0
    trades: list[tuple[int, int, int, Event]] = field(default_factory=list)
    """(time, seq, taker side, event) of the latest 100"""


@dataclass(eq=False)
class Work:
    """Something that was too long for one command: a mass cancel, or the stop cascade of a symbol."""

    id: int
    kind: str
    account: str = "*"
    symbol: str = ""
    side: int = 0
    reason: int = 0


@dataclass
class Record:
    """What a retry with the same client_order_id gets again."""

    command: PlaceOrder
    seq: int
    time_ns: int
    events: list[Event]
    instrument_version: int
    closed_at: int | None = None


def ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)


def unit(instrument: Instrument) -> int:
    return instrument.tick_size * instrument.lot_size // AMOUNT_SCALE


def notional(instrument: Instrument, price: int, qty: int) -> int:
    return price * qty * unit(instrument)


class OracleShard:
    def __init__(self, name: str, rules: Rules = Rules()) -> None:  # noqa: B008 — frozen.
        self.name = name
        self.rules = rules
        self.instruments: list[Instrument] = []
        self.markets: dict[str, Market] = {}
        self.accounts: dict[str, Account] = {}
        self.status = TRADING
        self.journal_space = True
        self.everyone_killed = False
        self.orders: list[Order] = []
        """In memory: the open ones and those that closed lately, in the order of their ids."""
        self.closed: list[Order] = []
        """In the order in which they closed."""
        self.works: list[Work] = []
        self.records: dict[tuple[str, str], Record] = {}
        self.closed_records: list[tuple[str, str]] = []
        self.trades = 0
        self.places = 0
        self.fees: dict[str, int] = {}
        self.adjustments: dict[str, int] = {}
        self.txn_ids: list[str] = []
        self.revocations: dict[tuple[str, str], tuple[int, int]] = {}
        self.seq = 0
        self.now = 0
        self.events: list[Event] = []

    def apply(self, command: Command, seq: int, time_ns: int) -> list[Event]:
        self.seq, self.now, self.events = seq, time_ns, []
        if self.names_nothing(command):
            self.refuse((NOT_ALLOWED, 0, 0))
        else:
            self.obey(command)
        self.forget()
        return self.events

    def obey(self, command: Command) -> None:
        match command:
            case PlaceOrder():
                self.place(command)
            case ReplaceOrder():
                self.replace(command)
            case CancelOrder():
                self.cancel(command)
            case CancelOrders():
                account, symbol, side = command.account, command.symbol, command.side
                self.begin(Work(self.seq, "cancel", account, symbol, side, BY_REQUEST))
            case CancelAll():
                self.begin(Work(self.seq, "cancel", command.account, command.symbol, 0, BY_ADMIN))
            case ContinueWork():
                self.continue_work()
            case ExpireOrders():
                self.expire()
            case _:
                self.administer(command)

    def names_nothing(self, command: Command) -> bool:
        """1002 before all else: the command names an account or a symbol that does not exist."""
        accounts, symbols = set(self.accounts), set(self.markets)
        if isinstance(command, SetKill | CancelAll):
            accounts.add("*")
        if isinstance(command, RevokeToken) and command.jti:
            accounts.add("")
        if isinstance(command, SetTradingStatus):
            symbols.add("*")
        if isinstance(command, CancelOrders | CancelAll):
            symbols.add("")
        if isinstance(command, DefineAccount):
            return False
        account, symbol = getattr(command, "account", None), getattr(command, "symbol", None)
        return account not in {*accounts, None} or symbol not in {*symbols, None}

    def emit(self, *event: Any) -> None:
        self.events.append(event)

    def refuse(self, refusal: Refusal) -> None:
        self.emit(REFUSED_EVENT, *refusal)

    # --- questions about the flat list ------------------------------------------------------------------

    def open_orders(self) -> list[Order]:
        return [order for order in self.orders if order.where in (WAITING, RESTING, COMING)]

    def open_orders_of(self, account: str) -> list[Order]:
        return [order for order in self.open_orders() if order.account == account]

    def queue(self, symbol: str, side: int) -> list[Order]:
        """Who rests on a side of the book: best price first, at a price the earliest first."""
        resting = [o for o in self.orders if o.where == RESTING and o.symbol == symbol and o.side == side]
        return sorted(resting, key=lambda order: (-order.rank, order.place))

    def stops(self, symbol: str, side: int) -> list[Order]:
        """Who waits on a side: the first to be reached first."""
        waiting = [o for o in self.orders if o.where == WAITING and o.symbol == symbol and o.side == side]
        return sorted(waiting, key=lambda order: (order.stop_price * side, order.id))

    def order(self, order_id: int) -> Order | None:
        return next((order for order in self.orders if order.id == order_id), None)

    def original(self, account: str, client_order_id: str) -> Record | None:
        return self.records.get((account, client_order_id))

    def status_of(self, symbol: str) -> int:
        """The strictest of the shard, the symbol, and what missing journal space allows."""
        space = TRADING if self.journal_space else CANCEL_ONLY
        return max(self.status, self.markets[symbol].status, space)

    def is_killed(self, account: str) -> bool:
        return self.everyone_killed or self.accounts[account].killed

    def last(self, symbol: str) -> int:
        return self.markets[symbol].last

    @property
    def work_due(self) -> bool:
        return any(not self.waits(work) for work in self.works)

    @property
    def next_expiry(self) -> int:
        return min((order.expire_at for order in self.open_orders() if order.expire_at), default=0)

    # --- money ------------------------------------------------------------------------------------------

    def reservation(self, order: Order, instrument: Instrument, price: int, qty: int) -> int:
        """What a CASH account sets aside for `qty` lots that are still open: quote to buy, base to sell."""
        if order.side == SELL:
            return qty * instrument.lot_size
        value = notional(instrument, price, qty)
        return value + ceil_div(order.fee_num + value * instrument.taker_fee_ppm, PPM) - order.fees

    def reserved(self, account: str, asset: str) -> int:
        if self.accounts[account].mode != CASH:
            return 0
        total = 0
        for order in self.open_orders_of(account):
            if asset == (order.instrument.quote if order.side == BUY else order.instrument.base):
                total += self.reservation(order, order.instrument, order.worst_price, order.open)
        return total

    def free(self, account: str, asset: str) -> int:
        return self.accounts[account].balances.get(asset, 0) - self.reserved(account, asset)

    def move(self, account: str, asset: str, amount: int) -> None:
        balances = self.accounts[account].balances
        balances[asset] = balances.get(asset, 0) + amount

    def charge(self, order: Order, value: int, rate_ppm: int) -> int:
        """The fee of one fill: by how much the order's fees, rounded up in total, have grown."""
        before = order.fees
        order.fee_num += value * rate_ppm
        fee = order.fees - before
        self.move(order.account, order.instrument.quote, -fee)
        self.fees[order.instrument.quote] = self.fees.get(order.instrument.quote, 0) + fee
        return fee

    def check(self) -> None:
        """Money is conserved, nobody in mode CASH owes anything, and no book is crossed by live orders."""
        assets = {asset for account in self.accounts.values() for asset in account.balances}
        for asset in assets | set(self.fees) | set(self.adjustments):
            held = sum(account.balances.get(asset, 0) for account in self.accounts.values())
            assert held + self.fees.get(asset, 0) == self.adjustments.get(asset, 0), asset
            for account in self.accounts.values():
                assert account.mode == LIMITS or self.free(account.name, asset) >= 0, (account, asset)
        for symbol in self.markets:
            bids, asks = self.queue(symbol, BUY), self.queue(symbol, SELL)
            assert not (bids and asks) or bids[0].price < asks[0].price, symbol

    # --- place: the checks, in their order --------------------------------------------------------------

    def place(self, command: PlaceOrder) -> None:
        order = self.new_order(command)
        record = self.record(command)
        refusal = next(self.refusals_of_place(order), None)
        if refusal:
            if record:
                self.close_record(record)
            return self.refuse(refusal)
        self.orders.append(order)
        self.emit(ACCEPTED_EVENT, order.id)
        if order.type in (STOP, STOP_LIMIT):
            if not order.is_due(self.last(order.symbol)):
                order.where = WAITING
                self.emit(PARKED_EVENT, order.id, order.stop_price)
                return None
            self.emit(TRIGGERED_EVENT, order.id)
        self.enter(order)
        self.trigger_stops(order.symbol)
        return None

    def new_order(self, command: PlaceOrder) -> Order:
        instrument = self.markets[command.symbol].instrument
        price = command.price if command.type in (LIMIT, STOP_LIMIT) else 0
        return Order(
            id=self.seq,
            account=command.account,
            symbol=command.symbol,
            side=command.side,
            type=command.type,
            time_in_force=command.time_in_force,
            qty=command.qty,
            price=price,
            stop_price=command.stop_price,
            display_qty=command.display_qty,
            post_only=command.post_only,
            stp=command.stp,
            expire_at=self.expiry(command),
            client_order_id=command.client_order_id,
            worst_price=price or self.worst_price(command, instrument),
            instrument=instrument,
        )

    def expiry(self, command: PlaceOrder) -> int:
        if command.time_in_force == DAY:
            return (self.now // DAY_NS + 1) * DAY_NS
        return command.expire_at if command.time_in_force == GTD else 0

    def worst_price(self, command: PlaceOrder, instrument: Instrument) -> int:
        if command.type == STOP:
            return self.protection_price(command.stop_price, command.side, instrument)
        reference = self.markets[command.symbol].reference
        if reference:
            return self.protection_price(reference, command.side, instrument)
        others = self.queue(command.symbol, -command.side)
        return self.protection_price(others[0].price, command.side, instrument) if others else 0

    def protection_price(self, price: int, side: int, instrument: Instrument) -> int:
        distance = instrument.band_ppm or self.rules.protection_ppm
        if side == BUY:
            return price * (PPM + distance) // PPM
        return max(1, ceil_div(price * (PPM - distance), PPM))

    def refusals_of_place(self, order: Order) -> Iterator[Refusal]:
        """Every reason against the order, in the order of the checks: the first one is the answer."""
        yield from self.refusals_by_kill(order.account)
        yield from self.refusals_by_status(order.symbol)
        yield from self.refusals_by_price(order, order.price, order.worst_price, order.qty)
        yield from self.refusals_by_size(order, order.worst_price, order.qty)
        if order.may_rest_or_wait():
            yield from self.refusals_by_count(order.account)
        yield from self.refusals_by_post_only(order, order.price)
        yield from self.refusals_by_position(order, order.qty)
        yield from self.refusals_by_balance(order, order.worst_price, order.qty)

    def refusals_by_kill(self, account: str) -> Iterator[Refusal]:
        if self.is_killed(account):
            yield KILL_SWITCH, 0, 0

    def refusals_by_status(self, symbol: str) -> Iterator[Refusal]:
        if self.status_of(symbol) != TRADING:
            yield NOT_TRADING, 0, self.status_of(symbol)

    def refusals_by_price(self, order: Order, price: int, worst_price: int, qty: int) -> Iterator[Refusal]:
        market = self.markets[order.symbol]
        band = market.instrument.band_ppm
        if price and band and market.reference:
            high = market.reference * (PPM + band) // PPM
            low = max(1, ceil_div(market.reference * (PPM - band), PPM))
            if price > high:
                yield PRICE_BAND, high, price
            if price < low:
                yield PRICE_BAND, low, price
        least = market.instrument.notional_min
        value = notional(market.instrument, worst_price, qty)
        if least > 0 and worst_price and value < least:
            yield PRICE_BAND, least, value

    def refusals_by_size(self, order: Order, worst_price: int, qty: int) -> Iterator[Refusal]:
        instrument = self.markets[order.symbol].instrument
        if qty < instrument.qty_min:
            yield SIZE_LIMIT, instrument.qty_min, qty
        if qty > instrument.qty_max:
            yield SIZE_LIMIT, instrument.qty_max, qty
        account = self.accounts[order.account]
        if account.mode == LIMITS:
            limits = account.limits
            if 0 < limits.order_qty_max < qty * instrument.lot_size:
                yield SIZE_LIMIT, limits.order_qty_max, qty * instrument.lot_size
            value = notional(instrument, worst_price, qty)
            if 0 < limits.order_notional_max < value:
                yield SIZE_LIMIT, limits.order_notional_max, value

    def refusals_by_count(self, account: str) -> Iterator[Refusal]:
        allowed = self.accounts[account].limits.open_orders_max or self.rules.account_orders_max
        count = len(self.open_orders_of(account))
        if count >= allowed:
            yield TOO_MANY_ORDERS, allowed, count
        count = len(self.open_orders())
        if count >= self.rules.shard_orders_max:
            yield TOO_MANY_ORDERS, self.rules.shard_orders_max, count

    def refusals_by_post_only(self, order: Order, price: int) -> Iterator[Refusal]:
        if order.post_only and order.type == LIMIT:
            live = [o for o in self.queue(order.symbol, -order.side) if not o.time_is_up(self.now)]
            if live and price * order.side >= live[0].price * order.side:
                yield WOULD_CROSS, live[0].price, price

    def refusals_by_position(self, order: Order, qty: int) -> Iterator[Refusal]:
        """`qty` more open lots of the order's side, besides all open orders but this one."""
        account = self.accounts[order.account]
        if account.mode == LIMITS and account.limits.position_max > 0:
            others = [
                o.open
                for o in self.open_orders_of(order.account)
                if o.symbol == order.symbol and o.side == order.side and o is not order
            ]
            lot_size = self.markets[order.symbol].instrument.lot_size
            net = account.net.get(order.symbol, 0) * order.side
            value = net + (sum(others) + qty) * lot_size
            if value > account.limits.position_max:
                yield POSITION_LIMIT, account.limits.position_max, min(value, 2**63 - 1)

    def refusals_by_balance(self, order: Order, worst_price: int, qty: int) -> Iterator[Refusal]:
        """What the order has reserved already (as it is replaced) counts as free."""
        if self.accounts[order.account].mode == CASH:
            instrument = self.markets[order.symbol].instrument
            need = self.reservation(order, instrument, worst_price, qty)
            free = self.free(order.account, instrument.quote if order.side == BUY else instrument.base)
            if order.where != COMING:
                free += self.reservation(order, order.instrument, order.worst_price, order.open)
            if need > free:
                yield INSUFFICIENT_BALANCE, need, free

    # --- place: what happens ----------------------------------------------------------------------------

    def enter(self, order: Order) -> None:
        """An order comes as a taker; what is left of it rests or ends (steps 3, 4, 5)."""
        order.where = COMING
        if order.time_in_force == FOK and self.tradable_qty(order) < order.qty:
            return self.close(order, EXPIRED, UNFILLED)
        self.trade(order)
        if order.where == GONE:
            return None
        if not order.may_rest():
            return self.close(order, EXPIRED, UNFILLED)
        return self.rest(order)

    def tradable_qty(self, order: Order) -> int:
        """How much a FOK would find, counted the way matching would go."""
        qty = takes = 0
        for maker in self.queue(order.symbol, -order.side):
            if qty >= order.qty or not order.may_trade_at(maker.price):
                break
            takes += 1
            if maker.shown < maker.open:
                takes += math.ceil(min(maker.open, order.qty) / maker.display_qty)
            if takes > self.rules.match_makers_max:
                return 0
            if maker.time_is_up(self.now):
                continue
            if maker.account == order.account and order.stp != STP_NONE:
                if order.stp in (STP_CANCEL_TAKER, STP_CANCEL_BOTH):
                    break
                continue
            qty += maker.shown
        return qty

    def trade(self, taker: Order) -> None:
        taken = 0
        while taker.where == COMING:
            makers = self.queue(taker.symbol, -taker.side)
            if not makers or not taker.may_trade_at(makers[0].price):
                return
            if taken == self.rules.match_makers_max:
                self.close(taker, EXPIRED, UNFILLED)
                return
            taken += 1
            maker = makers[0]
            if maker.time_is_up(self.now):
                self.close(maker, EXPIRED, TIME_UP)
            elif maker.account == taker.account and taker.stp != STP_NONE:
                if taker.stp in (STP_CANCEL_MAKER, STP_CANCEL_BOTH):
                    self.close(maker, CANCELED, BY_SELF_TRADE)
                if taker.stp in (STP_CANCEL_TAKER, STP_CANCEL_BOTH):
                    self.close(taker, CANCELED, BY_SELF_TRADE)
            else:
                self.fill(maker, taker)

    def fill(self, maker: Order, taker: Order) -> None:
        """One trade, at the maker's price."""
        market = self.markets[taker.symbol]
        price, qty = maker.price, min(taker.open, maker.shown)
        value = notional(market.instrument, price, qty)
        buyer, seller = (taker, maker) if taker.side == BUY else (maker, taker)
        base_amount = qty * market.instrument.lot_size
        self.move(buyer.account, market.instrument.base, base_amount)
        self.move(seller.account, market.instrument.base, -base_amount)
        self.move(buyer.account, market.instrument.quote, -value)
        self.move(seller.account, market.instrument.quote, value)
        maker_fee = self.charge(maker, value, maker.instrument.maker_fee_ppm)
        taker_fee = self.charge(taker, value, taker.instrument.taker_fee_ppm)
        self.trades += 1
        market.last = market.reference = price
        for order, fee in ((maker, maker_fee), (taker, taker_fee)):
            net = self.accounts[order.account].net
            net[order.symbol] = net.get(order.symbol, 0) + base_amount * order.side
            order.filled += qty
            order.fills.append((self.now, self.trades, price, qty, fee))
            del order.fills[: -max(1, self.rules.order_fills_max)]
            order.status = PARTIALLY_FILLED
        maker.shown -= qty
        fees, open_qtys = (maker_fee, taker_fee), (maker.open, taker.open)
        self.emit(TRADE_EVENT, self.trades, maker.id, taker.id, price, qty, *fees, *open_qtys)
        market.trades = [*market.trades, (self.now, self.seq, taker.side, self.events[-1])][-100:]
        for order in (maker, taker):
            if order.open == 0:
                self.leave(order, FILLED, 0)
        if maker.open and not maker.shown:
            self.come_last(maker)
            self.emit(REPLENISHED_EVENT, maker.id, maker.shown)

    def rest(self, order: Order) -> None:
        order.where = RESTING
        self.come_last(order)
        self.emit(RESTED_EVENT, order.id, order.side, order.price, order.shown, order.open)

    def come_last(self, order: Order) -> None:
        self.places += 1
        order.place = self.places
        order.shown = order.slice()

    def close(self, order: Order, status: int, reason: int) -> None:
        self.emit(CLOSED_EVENT, order.id, status, reason, order.open)
        self.leave(order, status, reason)

    def leave(self, order: Order, status: int, reason: int) -> None:
        order.where, order.status, order.reason, order.shown = GONE, status, reason, 0
        self.closed.append(order)
        record = self.records.get((order.account, order.client_order_id))
        if record and record.seq == order.id:
            self.close_record(record)

    # --- stops ------------------------------------------------------------------------------------------

    def trigger_stops(self, symbol: str) -> None:
        """Step 6, after a command that may have traded."""
        if any(work.kind == "stops" and work.symbol == symbol for work in self.works):
            return
        work = Work(self.seq, "stops", symbol=symbol)
        done, more = self.step_of_stops(work)
        if more:
            self.works.append(work)
            self.emit(WORK_EVENT, work.id, done, 1)

    def step_of_stops(self, work: Work) -> tuple[int, bool]:
        done = 0
        while stop := self.due_stop(work.symbol):
            if done == self.rules.step_orders_max or len(self.events) >= self.rules.match_makers_max:
                return done, True
            done += 1
            if stop.time_is_up(self.now):
                self.close(stop, EXPIRED, TIME_UP)
            else:
                self.emit(TRIGGERED_EVENT, stop.id)
                self.enter(stop)
        return done, False

    def due_stop(self, symbol: str) -> Order | None:
        waiting = self.stops(symbol, BUY) + self.stops(symbol, SELL)
        return next((stop for stop in waiting if stop.is_due(self.last(symbol))), None)

    # --- replace and cancel -----------------------------------------------------------------------------

    def replace(self, command: ReplaceOrder) -> None:
        order = self.order(command.order_id)
        refusal = next(self.refusals_of_replace(command, order), None)
        if refusal:
            return self.refuse(refusal)
        assert order is not None
        qty, price = command.qty or order.qty, command.price or order.price
        kept = order.where == WAITING or (price == order.price and qty <= order.qty)
        order.qty, order.price, order.worst_price = qty, price, price or order.worst_price
        order.instrument = self.markets[order.symbol].instrument
        order.version += 1
        order.shown = min(order.shown, order.open)
        self.emit(REPLACED_EVENT, order.id, order.version, order.price, order.qty, order.open, int(kept))
        if not kept:
            self.enter(order)
            self.trigger_stops(order.symbol)
        return None

    def refusals_of_replace(self, command: ReplaceOrder, order: Order | None) -> Iterator[Refusal]:
        yield from self.refusals_by_kill(command.account)
        if order is None or order.account != command.account:
            yield NO_SUCH_ORDER, 0, 0
            return
        if order.where == GONE or order.time_is_up(self.now):
            yield NOT_CANCELABLE, 0, 0
        if command.version >= 0 and command.version != order.version:
            yield VERSION_CONFLICT, order.version, command.version
        yield from self.refusals_by_status(order.symbol)
        qty, price = command.qty or order.qty, command.price or order.price
        if qty <= order.filled:
            yield NOT_CANCELABLE, order.filled, qty
        if command.price and not order.price:
            yield NOT_CANCELABLE, 0, 0
        worst_price = price or order.worst_price
        yield from self.refusals_by_price(order, price, worst_price, qty)
        yield from self.refusals_by_size(order, worst_price, qty)
        yield from self.refusals_by_post_only(order, price)
        yield from self.refusals_by_position(order, qty - order.filled)
        yield from self.refusals_by_balance(order, worst_price, qty - order.filled)

    def cancel(self, command: CancelOrder) -> None:
        order = self.order(command.order_id)
        if order is None or order.account != command.account:
            self.refuse((NO_SUCH_ORDER, 0, 0))
        elif order.status in (FILLED, EXPIRED):
            self.refuse((NOT_CANCELABLE, 0, 0))
        elif order.status != CANCELED:
            self.close(order, CANCELED, BY_REQUEST)

    # --- long work, in steps ----------------------------------------------------------------------------

    def begin(self, work: Work) -> None:
        done, more = self.step_of_cancels(work)
        if more:
            self.works.append(work)
        self.emit(WORK_EVENT, work.id, done, int(more))

    def step_of_cancels(self, work: Work) -> tuple[int, bool]:
        targets = []
        for account in self.accounts:
            for order in self.open_orders_of(account):
                if (
                    work.account in (account, "*")
                    and work.symbol in (order.symbol, "")
                    and work.side in (order.side, 0)
                    and order.id <= work.id
                ):
                    targets.append(order)
        now = targets[: self.rules.step_orders_max]
        for order in now:
            self.close(order, CANCELED, work.reason)
        return len(now), len(targets) > len(now)

    def continue_work(self) -> None:
        work = next((work for work in self.works if not self.waits(work)), None)
        if work is None:
            return self.emit(WORK_EVENT, 0, 0, 0)
        step = self.step_of_stops if work.kind == "stops" else self.step_of_cancels
        done, more = step(work)
        if not more:
            self.works.remove(work)
        return self.emit(WORK_EVENT, work.id, done, int(more))

    def waits(self, work: Work) -> bool:
        """Stops are not triggered while their symbol may not trade."""
        return work.kind == "stops" and self.status_of(work.symbol) != TRADING

    def expire(self) -> None:
        due = [order for order in self.open_orders() if order.time_is_up(self.now)]
        due.sort(key=lambda order: (order.expire_at, order.id))
        now = due[: self.rules.step_orders_max]
        for order in now:
            self.close(order, EXPIRED, TIME_UP)
        self.emit(WORK_EVENT, 0, len(now), int(len(due) > len(now)))

    # --- admin ------------------------------------------------------------------------------------------

    def administer(self, command: Command) -> None:
        refusal: Refusal | None = None
        match command:
            case SetRules(rules):
                refusal = self.set_rules(rules)
            case DefineInstrument(instrument):
                refusal = self.define_instrument(instrument)
            case DefineAccount(name, mode):
                refusal = self.define_account(name, mode)
            case SetLimits(name, limits):
                self.accounts[name].limits = limits
            case SetTradingStatus():
                refusal = self.set_trading_status(command)
            case SetReference():
                refusal = self.set_reference(command)
            case SetKill("*", on):
                self.everyone_killed = on
            case SetKill(name, on):
                self.accounts[name].killed = on
            case SetJournalSpace(available):
                self.journal_space = available
            case AdjustBalance():
                if command.txn_id in self.txn_ids:
                    return
                refusal = self.adjust_balance(command)
            case RevokeToken():
                refusal = self.revoke(command)
        if refusal:
            return self.refuse(refusal)
        self.emit(SET_EVENT, command.__struct_config__.tag)
        if isinstance(command, SetKill) and command.on:
            self.begin(Work(self.seq, "cancel", command.account, reason=BY_KILL))

    def set_rules(self, rules: Rules) -> Refusal | None:
        if min(rules.step_orders_max, rules.match_makers_max) < 1 or any(
            getattr(rules, name) < 0 for name in rules.__struct_fields__
        ):
            return NOT_ALLOWED, 0, 0
        self.rules = rules
        return None

    def define_instrument(self, new: Instrument) -> Refusal | None:
        market = self.markets.get(new.symbol)
        sane = (
            new.symbol not in ("", "*")
            and new.base != new.quote
            and new.tick_size >= 1
            and new.lot_size >= 1
            and new.tick_size * new.lot_size % AMOUNT_SCALE == 0
            and 1 <= new.qty_min <= new.qty_max
            and new.notional_min >= 0
            and 0 <= new.maker_fee_ppm <= new.taker_fee_ppm <= 100_000
            and 0 <= new.band_ppm < PPM
        )
        if not sane or len(self.instruments) >= self.rules.instrument_versions_max:
            return NOT_ALLOWED, 0, 0
        new = replace(new, version=len(self.instruments))
        if market is None:
            self.markets[new.symbol] = Market(new)
        else:
            old = market.instrument
            same_grid = (old.tick_size, old.lot_size) == (new.tick_size, new.lot_size)
            in_use = any(order.symbol == new.symbol for order in self.open_orders())
            if (old.base, old.quote) != (new.base, new.quote) or (in_use and not same_grid):
                return NOT_ALLOWED, 0, 0
            market.instrument = new
            if not same_grid:
                market.last = market.reference = 0
                market.trades = []
        self.instruments.append(new)
        return None

    def set_trading_status(self, command: SetTradingStatus) -> Refusal | None:
        if command.status not in (TRADING, CANCEL_ONLY, HALTED):
            return NOT_ALLOWED, 0, 0
        if command.symbol == "*":
            self.status = command.status
        else:
            self.markets[command.symbol].status = command.status
        return None

    def set_reference(self, command: SetReference) -> Refusal | None:
        if command.price < 0:
            return NOT_ALLOWED, 0, 0
        self.markets[command.symbol].reference = command.price
        return None

    def define_account(self, name: str, mode: int) -> Refusal | None:
        account = self.accounts.get(name)
        if account:
            return None if account.mode == mode else (NOT_ALLOWED, 0, 0)
        full = len(self.accounts) >= self.rules.accounts_max
        if full or name in ("", "*") or mode not in (CASH, LIMITS):
            return NOT_ALLOWED, 0, 0
        self.accounts[name] = Account(name, mode)
        return None

    def adjust_balance(self, command: AdjustBalance) -> Refusal | None:
        free = self.free(command.account, command.asset)
        if self.accounts[command.account].mode == CASH and free + command.amount < 0:
            return INSUFFICIENT_BALANCE, -command.amount, free
        self.move(command.account, command.asset, command.amount)
        self.adjustments[command.asset] = self.adjustments.get(command.asset, 0) + command.amount
        self.txn_ids.append(command.txn_id)
        for _ in range(4):
            if len(self.txn_ids) > self.rules.txn_ids_max:
                self.txn_ids.pop(0)
        return None

    def revoke(self, command: RevokeToken) -> Refusal | None:
        for key, (_, expires) in list(self.revocations.items()):
            if 0 < expires < self.now // 1_000_000_000:
                del self.revocations[key]
        key = command.jti, command.account
        issued_until, expires = command.issued_until, command.expires
        if key in self.revocations:
            issued_before, expires_before = self.revocations[key]
            issued_until = max(issued_before, issued_until)
            expires = max(expires_before, expires) if expires_before and expires else 0
        elif len(self.revocations) >= self.rules.revocations_max:
            return NOT_ALLOWED, 0, 0
        self.revocations[key] = issued_until, expires
        return None

    # --- memory -----------------------------------------------------------------------------------------

    def record(self, command: PlaceOrder) -> Record | None:
        if not command.client_order_id:
            return None
        version = self.markets[command.symbol].instrument.version
        record = Record(command, self.seq, self.now, self.events, version)
        self.records[command.account, command.client_order_id] = record
        return record

    def close_record(self, record: Record) -> None:
        record.closed_at = self.now
        self.closed_records.append((record.command.account, record.command.client_order_id))

    def forget(self) -> None:
        """When a command is done, at most four closed orders and four records leave, the oldest first."""
        for _ in range(4):
            if len(self.closed) > self.rules.closed_orders_max:
                self.orders.remove(self.closed.pop(0))
        for _ in range(4):
            if self.closed_records:
                record = self.records[self.closed_records[0]]
                assert record.closed_at is not None
                too_old = record.closed_at + self.rules.idempotency_window_ns <= self.now
                if too_old or len(self.records) > self.rules.idempotency_keys_max:
                    del self.records[self.closed_records.pop(0)]

    # --- the state as plain data ------------------------------------------------------------------------

    def contents(self) -> dict[str, Any]:
        """All that can change what happens next, without regard to how it is kept."""
        return {
            "rules": self.rules,
            "instruments": list(self.instruments),
            "status": self.status,
            "journal_space": self.journal_space,
            "everyone_killed": self.everyone_killed,
            "trades": self.trades,
            "fees": {asset: amount for asset, amount in self.fees.items() if amount},
            "markets": {
                symbol: {
                    "instrument": market.instrument.version,
                    "status": market.status,
                    "last": market.last,
                    "reference": market.reference,
                    "trades": list(market.trades),
                    "bids": [(o.id, o.price, o.shown, o.open) for o in self.queue(symbol, BUY)],
                    "asks": [(o.id, o.price, o.shown, o.open) for o in self.queue(symbol, SELL)],
                    "buy stops": [(o.id, o.stop_price) for o in self.stops(symbol, BUY)],
                    "sell stops": [(o.id, o.stop_price) for o in self.stops(symbol, SELL)],
                }
                for symbol, market in self.markets.items()
            },
            "accounts": {
                name: {
                    "mode": account.mode,
                    "limits": account.limits,
                    "killed": account.killed,
                    "balances": {
                        asset: (self.free(name, asset), self.reserved(name, asset))
                        for asset, amount in account.balances.items()
                        if amount
                    },
                    "net": {symbol: net for symbol, net in account.net.items() if net},
                    "open": [order.id for order in self.open_orders_of(name)],
                }
                for name, account in self.accounts.items()
            },
            "orders": {
                order.id: {
                    "account": order.account,
                    "symbol": order.symbol,
                    "side": order.side,
                    "type": order.type,
                    "time_in_force": order.time_in_force,
                    "qty": order.qty,
                    "price": order.price,
                    "stop_price": order.stop_price,
                    "display_qty": order.display_qty,
                    "stp": order.stp,
                    "expire_at": order.expire_at,
                    "client_order_id": order.client_order_id,
                    "filled": order.filled,
                    "version": order.version,
                    "instrument": order.instrument.version,
                    "fees": order.fees,
                    "status": order.status,
                    "reason": order.reason,
                    "fills": list(order.fills),
                }
                for order in self.orders
            },
            "closed": [order.id for order in self.closed],
            "records": {key: (r.seq, r.time_ns, r.events) for key, r in self.records.items()},
            "closed records": list(self.closed_records),
            "revocations": dict(self.revocations),
            "work_due": self.work_due,
            "next_expiry": self.next_expiry,
        }
