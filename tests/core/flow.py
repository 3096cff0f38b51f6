"""Generated order flow for the core: deterministic by its seed, and hostile on purpose.

Each seed draws a *scene* (symbols, accounts in both risk modes, fees, bands, scarce money, tight rules)
and then commands of all kinds. Prices are few and close, so that orders meet; halts, kill switches and
missing journal space are lifted again soon, so that trading goes on.

    flow = Flow(seed)
    command = flow.next(shard.work_due, shard.next_expiry)
    flow.saw(shard.apply(command, flow.seq, flow.time_ns))

A flow looks at nothing but those two values and the events, so that the same seed gives the same commands
to every shard that obeys the rules. `test_flow.py` holds how often each thing must happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from msgspec.structs import replace

from tradsys.core.messages import (
    ACCEPTED_EVENT,
    BUY,
    CANCEL_ONLY,
    CASH,
    CLOSED_EVENT,
    DAY,
    FOK,
    GTC,
    GTD,
    HALTED,
    IOC,
    LIMIT,
    LIMITS,
    MARKET,
    PPM,
    REPLACED_EVENT,
    SELL,
    STOP,
    STOP_LIMIT,
    STP_CANCEL_BOTH,
    STP_CANCEL_MAKER,
    STP_CANCEL_TAKER,
    STP_NONE,
    TRADE_EVENT,
    TRADING,
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

START_NS = 1_772_402_400_000_000_000
"""2026-03-01 22:00 UTC: two hours before the first midnight."""
MILLISECOND, HOUR = 1_000_000, 3_600_000_000_000
MIDDLE = 100
"""Prices in ticks wander around this one."""
GRIDS = ((1_000_000, 1_000), (25_000, 4_000), (100, 3_000_000), (50_000_000, 200_000_000))
"""tick_size, lot_size: units of 10, 1, 3 and 100,000,000."""
FEES = ((0, 0), (1_000, 2_000), (0, 333), (7, 77_777), (100_000, 100_000))
BANDS = (0, 0, 0, 80_000, 150_000)
PER_COMMAND = 1_000
"""Weights of the kinds below are chances in so many."""


@dataclass
class Placed:
    """What the flow remembers of an open order, to aim at it."""

    account: str
    symbol: str
    side: int
    qty: int
    price: int


class Flow:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.seq = 0
        self.time_ns = START_NS
        self.open: dict[int, Placed] = {}
        self.gone: list[int] = []
        """Ids that closed lately."""
        self.planned: list[tuple[int, Command]] = []
        """(seq from which on it is sent, command), e.g. the end of a halt."""
        self.last_command: Command = ContinueWork()
        self.draw_scene()

    def draw_scene(self) -> None:
        chance = self.random
        self.symbols = ["BTC-USD", "ETH-USD", "ETH-BTC"][: chance.choice((1, 2, 3))]
        self.middle = {symbol: MIDDLE for symbol in self.symbols}
        self.instruments = {symbol: self.an_instrument(symbol) for symbol in self.symbols}
        self.accounts = [f"cash{i}" for i in range(chance.randint(1, 3))]
        self.accounts += [f"limits{i}" for i in range(chance.randint(1, 3))]
        self.is_poor = chance.random() < 0.4
        self.width = chance.choice((1, 2, 4, 8))
        """How far from the middle orders are priced, in ticks."""
        self.patience = chance.choice((0, 1, 3))
        """How far most stay away from the other side, in ticks."""
        self.qty_usual = chance.choice((3, 10, 30))
        self.stop_share = chance.choice((10, 25, 55))
        self.cancel_share = chance.choice((40, 120))
        self.stps = chance.choice(
            (
                (STP_NONE,),
                (STP_NONE, STP_NONE, STP_CANCEL_TAKER, STP_CANCEL_MAKER, STP_CANCEL_BOTH),
                (STP_CANCEL_MAKER,),
            )
        )
        self.rules = self.some_rules()
        opening: list[Command] = [SetRules(self.rules)]
        opening += [DefineInstrument(instrument) for instrument in self.instruments.values()]
        for account in self.accounts:
            mode = CASH if account.startswith("cash") else LIMITS
            opening.append(DefineAccount(account, mode))
            if chance.random() < 0.6:
                opening.append(self.some_limits(account))
            if mode == CASH:
                opening += [self.an_adjustment(account, asset, 1) for asset in ("BTC", "ETH", "USD")]
        self.planned = [(0, command) for command in opening]

    def next(self, work_due: bool, next_expiry: int) -> Command:
        """The next command; its sequence number and time are `self.seq` and `self.time_ns`."""
        chance = self.random
        self.seq += 1
        self.time_ns += chance.randint(0, 3) * MILLISECOND
        if chance.random() < 0.002:
            self.time_ns += chance.choice((1, 5, 26)) * HOUR
        self.last_command = self.choose(work_due, next_expiry)
        return self.last_command

    def choose(self, work_due: bool, next_expiry: int) -> Command:
        chance = self.random
        # The engine does what is due soon, but not always before the next command of a client.
        if next_expiry and next_expiry <= self.time_ns and chance.random() < 0.3:
            return ExpireOrders()
        if work_due and chance.random() < 0.4:
            return ContinueWork()
        if self.planned and self.planned[0][0] <= self.seq:
            return self.planned.pop(0)[1]
        pick = chance.randrange(PER_COMMAND)
        for share, kind in (
            (self.cancel_share, self.a_cancel),
            (120, self.a_replace),
            (3, self.a_mass_cancel),
            (1, self.a_mass_cancel_by_admin),
            (3, self.a_halt),
            (1, self.a_lack_of_space),
            (2, self.a_kill),
            (5, self.a_change_of_rules),
            (5, self.a_change_of_instrument),
            (1, self.a_new_grid),
            (6, self.a_change_of_limits),
            (12, self.a_change_of_balance),
            (4, self.a_reference),
            (3, self.an_odd_admin_command),
            (2, self.engine_command_without_need),
        ):
            pick -= share
            if pick < 0:
                return kind()
        return self.an_order()

    def saw(self, events: list[Event]) -> None:
        """Learn from the answer to the last command which orders are open, and where prices are."""
        for event in events:
            kind = event[0]
            if kind == ACCEPTED_EVENT:
                command = self.last_command
                assert isinstance(command, PlaceOrder)
                self.open[event[1]] = Placed(
                    command.account, command.symbol, command.side, command.qty, command.price
                )
            elif kind == TRADE_EVENT:
                _, _, maker, taker, price, _, _, _, maker_open, taker_open = event
                symbol = self.open[taker].symbol
                self.middle[symbol] += (price > self.middle[symbol]) - (price < self.middle[symbol])
                for order_id, left in ((maker, maker_open), (taker, taker_open)):
                    if left == 0:
                        self.close(order_id)
            elif kind == CLOSED_EVENT:
                self.close(event[1])
            elif kind == REPLACED_EVENT:
                self.open[event[1]].price, self.open[event[1]].qty = event[3], event[4]

    def close(self, order_id: int) -> None:
        del self.open[order_id]
        self.gone = [*self.gone[-30:], order_id]

    def plan(self, commands_later: int, command: Command) -> None:
        self.planned.append((self.seq + commands_later, command))
        self.planned.sort(key=lambda entry: entry[0])

    # --- orders -----------------------------------------------------------------------------------------

    def an_order(self) -> PlaceOrder:
        chance = self.random
        symbol = self.a_symbol()
        side = chance.choice((BUY, SELL))
        if chance.random() < 0.02:
            self.middle[symbol] = max(2 * self.width + 5, self.middle[symbol] + chance.randint(-6, 6))
        kind = LIMIT
        if chance.randrange(100) < self.stop_share:
            kind = chance.choice((STOP, STOP_LIMIT))
        elif chance.random() < 0.1:
            kind = MARKET
        qty = chance.randint(1, self.qty_usual)
        if chance.random() < 0.05:
            qty *= chance.choice((3, 10))
        if chance.random() < 0.005:
            qty = chance.choice((0, -5))
        price = stop_price = 0
        if kind in (STOP, STOP_LIMIT):
            stop_price = max(1, self.middle[symbol] + side * chance.choice((-1, 1, 1, 2, 2, 3, 5)))
        if kind == LIMIT:
            price = self.a_price(symbol, side)
        elif kind == STOP_LIMIT:
            price = max(1, stop_price + side * chance.randint(-2, 4))
        time_in_force = chance.choice((GTC, GTC, GTC, GTC, GTC, GTC, IOC, FOK, FOK, GTD, GTD, DAY))
        if kind == MARKET:
            time_in_force = chance.choice((IOC, IOC, IOC, FOK, GTC))
        return PlaceOrder(
            account=self.an_account(),
            symbol=symbol if chance.random() < 0.997 else "NO-SUCH",
            side=side,
            type=kind,
            time_in_force=time_in_force,
            qty=qty,
            price=price,
            stop_price=stop_price,
            display_qty=chance.randint(1, max(1, qty // 2)) if chance.random() < 0.25 else 0,
            post_only=chance.random() < (0.15 if time_in_force in (GTC, GTD, DAY) else 0.01),
            stp=chance.choice(self.stps),
            expire_at=self.time_ns + chance.randint(1, 80) * MILLISECOND if time_in_force == GTD else 0,
            client_order_id=f"c{self.seq}" if chance.random() < 0.4 else "",
        )

    def a_replace(self) -> Command:
        chance = self.random
        order_id, account = self.an_aim()
        placed = self.open.get(order_id)
        qty = price = 0
        if placed and chance.random() < 0.7:
            qty = max(1, placed.qty + chance.randint(-8, 5))
        if placed and chance.random() < (0.6 if placed.price else 0.05):
            price = self.a_price(placed.symbol, placed.side)
            if chance.random() < 0.25:
                price += placed.side * 3
        if placed and chance.random() < 0.15:
            price = placed.price
        version = chance.randint(0, 2) if chance.random() < 0.2 else -1
        return ReplaceOrder(account, order_id, qty, price, version)

    def a_cancel(self) -> Command:
        order_id, account = self.an_aim()
        return CancelOrder(account, order_id)

    def an_aim(self) -> tuple[int, str]:
        """An order to replace or cancel, mostly an open one by its owner."""
        chance = self.random
        pick = chance.random()
        if self.open and pick < 0.9:
            order_id = chance.choice(list(self.open))
            owner = self.open[order_id].account
            return order_id, owner if chance.random() < 0.96 else self.an_account()
        if self.gone and pick < 0.97:
            return chance.choice(self.gone), self.an_account()
        return chance.randint(0, self.seq + 5), self.an_account()

    def a_mass_cancel(self) -> Command:
        chance = self.random
        symbol = self.a_symbol() if chance.random() < 0.4 else ""
        return CancelOrders(self.an_account(), symbol, chance.choice((0, 0, BUY, SELL)))

    def an_account(self) -> str:
        return self.random.choice(self.accounts) if self.random.random() < 0.997 else "nobody"

    def a_symbol(self) -> str:
        return self.random.choice(self.symbols)

    def a_price(self, symbol: str, side: int) -> int:
        offset = self.random.randint(-self.width, self.width) - side * self.random.randint(0, self.patience)
        if self.random.random() < 0.03:
            offset += self.random.choice((-20, 20, 8 * side))
        return max(1, self.middle[symbol] + offset)

    # --- admins and the engine --------------------------------------------------------------------------

    def a_mass_cancel_by_admin(self) -> Command:
        chance = self.random
        account = self.an_account() if chance.random() < 0.7 else "*"
        return CancelAll(account, self.a_symbol() if chance.random() < 0.5 else "")

    def a_halt(self) -> Command:
        symbol = self.a_symbol() if self.random.random() < 0.7 else "*"
        self.plan(self.random.randint(2, 25), SetTradingStatus(symbol, TRADING))
        return SetTradingStatus(symbol, self.random.choice((CANCEL_ONLY, HALTED)))

    def a_lack_of_space(self) -> Command:
        self.plan(self.random.randint(2, 15), SetJournalSpace(True))
        return SetJournalSpace(False)

    def a_kill(self) -> Command:
        account = self.an_account() if self.random.random() < 0.7 else "*"
        self.plan(self.random.randint(2, 20), SetKill(account, False))
        return SetKill(account, True)

    def a_change_of_rules(self) -> Command:
        if self.random.random() < 0.1:
            return SetRules(replace(self.rules, step_orders_max=self.random.choice((0, -1))))
        self.rules = self.some_rules()
        return SetRules(self.rules)

    def some_rules(self) -> Rules:
        chance = self.random
        return Rules(
            account_orders_max=chance.choice((8, 20, 200, 200)),
            shard_orders_max=chance.choice((15, 40, 70, 70)),
            closed_orders_max=chance.choice((0, 2, 20, 60)),
            order_fills_max=chance.choice((0, 1, 3, 1000)),
            idempotency_window_ns=chance.choice((0, 20 * MILLISECOND, HOUR)),
            idempotency_keys_max=chance.choice((3, 20, 60)),
            step_orders_max=chance.choice((1, 2, 3, 5, 1000, 1000)),
            match_makers_max=chance.choice((5, 2000, 2000, 2000, 2000)),
            protection_ppm=chance.choice((10_000, 50_000, 100_000, 2 * PPM)),
            txn_ids_max=chance.choice((0, 2, 1000)),
            revocations_max=chance.choice((2, 1000)),
            accounts_max=chance.choice((3, 1000)) if self.seq else 1000,
            instrument_versions_max=chance.choice((3, 1000, 1000)) if self.seq else 1000,
        )

    def a_change_of_instrument(self) -> Command:
        """New fees, bands and bounds on the same grid; sometimes something that must be refused."""
        symbol = self.a_symbol()
        grid = self.instruments[symbol]
        new = replace(self.an_instrument(symbol), tick_size=grid.tick_size, lot_size=grid.lot_size)
        if self.random.random() < 0.3:
            return DefineInstrument(
                self.random.choice(
                    (
                        replace(new, tick_size=new.tick_size * 2),
                        replace(new, lot_size=0),
                        replace(new, tick_size=7, lot_size=7),
                        replace(new, quote="EUR"),
                        replace(new, qty_min=0),
                        replace(new, notional_min=-1),
                        replace(new, base=new.quote),
                        replace(new, qty_max=0),
                        replace(new, maker_fee_ppm=3, taker_fee_ppm=2),
                        replace(new, taker_fee_ppm=100_001),
                        replace(new, maker_fee_ppm=-1),
                        replace(new, band_ppm=PPM),
                        replace(new, symbol="*"),
                    )
                )
            )
        self.instruments[symbol] = new
        return DefineInstrument(new)

    def a_new_grid(self) -> Command:
        """Cancel everything of a symbol, then change its tick and lot."""
        symbol = self.a_symbol()
        for _ in range(12):
            self.plan(1, ContinueWork())
        new = self.an_instrument(symbol)
        self.instruments[symbol] = new
        self.plan(1, DefineInstrument(new))
        return CancelAll("*", symbol)

    def an_instrument(self, symbol: str) -> Instrument:
        chance = self.random
        base, quote = symbol.split("-")
        tick_size, lot_size = chance.choice(GRIDS)
        maker_fee, taker_fee = chance.choice(FEES)
        unit = tick_size * lot_size // 100_000_000
        return Instrument(
            symbol=symbol,
            base=base,
            quote=quote,
            tick_size=tick_size,
            lot_size=lot_size,
            qty_min=chance.choice((1, 1, 1, 2)),
            qty_max=chance.choice((100, 300, 1_000_000)),
            notional_min=chance.choice((0, 0, 0, 0, 120 * unit, 200 * unit)),
            band_ppm=chance.choice(BANDS),
            maker_fee_ppm=maker_fee,
            taker_fee_ppm=taker_fee,
        )

    def a_change_of_limits(self) -> Command:
        return self.some_limits(self.an_account())

    def some_limits(self, account: str) -> SetLimits:
        chance = self.random
        instrument = self.instruments[self.a_symbol()]
        unit = instrument.tick_size * instrument.lot_size // 100_000_000
        lots = 20 * self.qty_usual
        return SetLimits(
            account,
            Limits(
                position_max=chance.choice((0, 2 * lots, 10 * lots)) * instrument.lot_size,
                order_notional_max=chance.choice((0, 0, lots // 4)) * MIDDLE * unit,
                order_qty_max=chance.choice((0, 0, lots // 4)) * instrument.lot_size,
                open_orders_max=chance.choice((0, 0, 0, 8)),
            ),
        )

    def a_change_of_balance(self) -> Command:
        asset = self.random.choice(("BTC", "ETH", "USD"))
        return self.an_adjustment(self.an_account(), asset, self.random.choice((-1, 1, 1)))

    def an_adjustment(self, account: str, asset: str, sign: int) -> AdjustBalance:
        """About as much as ten usual orders need, or a hundred for those who are not poor."""
        chance = self.random
        instrument = self.instruments[self.a_symbol()]
        lots = self.qty_usual * (10 if self.is_poor else 100)
        amount = lots * instrument.lot_size
        if asset == instrument.quote:
            amount = lots * MIDDLE * instrument.tick_size * instrument.lot_size // 100_000_000
        txn_id = f"t{chance.randint(1, 4)}" if chance.random() < 0.3 else f"t{self.seq}-{chance.random()}"
        return AdjustBalance(account, asset, sign * chance.randint(1, amount), txn_id)

    def a_reference(self) -> Command:
        symbol = self.a_symbol()
        return SetReference(symbol, self.random.choice((0, self.middle[symbol], self.middle[symbol] + 5)))

    def an_odd_admin_command(self) -> Command:
        chance = self.random
        return chance.choice(
            (
                DefineAccount(chance.choice(self.accounts), CASH),
                DefineAccount(chance.choice(self.accounts), LIMITS),
                DefineAccount("*", LIMITS),
                DefineAccount(f"late{self.seq}", CASH),
                SetTradingStatus("NO-SUCH", HALTED),
                SetReference("NO-SUCH", 5),
                SetKill("nobody", True),
                RevokeToken(jti=f"j{self.seq}", expires=self.time_ns // 1_000_000_000 + 3600),
                RevokeToken(account=chance.choice(self.accounts), issued_until=1, expires=1),
                RevokeToken(
                    account=chance.choice(self.accounts),
                    issued_until=chance.randint(1, 9),
                    expires=chance.choice((0, self.time_ns // 1_000_000_000 + chance.randint(1, 9))),
                ),
                RevokeToken(),
                SetTradingStatus("*", 4),
                SetReference(self.a_symbol(), -1),
                DefineAccount("odd", 3),
                RevokeToken(account="nobody"),
            )
        )

    def engine_command_without_need(self) -> Command:
        return self.random.choice((ContinueWork(), ExpireOrders()))
