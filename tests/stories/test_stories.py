"""Stories: text tables that a trader can read and check, told to the real shard.

Every `*.story` beside this file is one test. A line is a command with what the venue answers, or a look at
the venue; `#` begins a comment.

    symbol  BTC-USD tick 0.01 lot 1          also: fees 0.001/0.002 (maker/taker), band 0.05, at_least 100
    account alice limits                     or: account bob cash 1000 USD 5 BTC
    rules   step_orders_max 2
    clock   23:59:30                         the time of day, UTC; it does not move by itself

    alice  sell 7 @ 16.00                    -> rested
    bob    buy 2 @ 17.00 ioc                 -> filled 2 @ 16.00 with alice
    carol  buy 5 stop 17.00 @ 17.10 as C     -> waits for 17.00
    alice  replace A 5 @ 16.10               -> now 5 @ 16.10, loses its place; rested 5
    alice  cancel A                          -> canceled 5 requested
    alice  cancel all                        -> canceled 5 requested; 1 done
    admin  halt BTC-USD                      also: resume, kill, revive, cancel all of, deposit, withdraw
    engine expire                            also: continue

    book   5 @ 16.00, 3 @ 15.90 | 4 @ 16.10  bids | asks, best first
    alice  has 84 USD, 16 USD reserved, 3 BTC
    venue  collected 0.03 USD

An order is called by its `as` name, else by its account's. An event about another order than the one
that was sent begins with that order's name. The line's whole answer has to be as told: no event more.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from tradsys.core.messages import (
    ACCEPTED_EVENT,
    AMOUNT_SCALE,
    BUY,
    CASH,
    CLOSED_EVENT,
    GTC,
    GTD,
    HALTED,
    IOC,
    LIMIT,
    LIMITS,
    MARKET,
    PARKED_EVENT,
    PPM,
    REASON_WORDS,
    REFUSED_EVENT,
    REPLACED_EVENT,
    REPLENISHED_EVENT,
    RESTED_EVENT,
    SELL,
    SET_EVENT,
    STATUS_WORDS,
    STOP,
    STOP_LIMIT,
    STP_WORDS,
    TIME_IN_FORCE_WORDS,
    TRADE_EVENT,
    TRADING,
    TRIGGERED_EVENT,
    WORK_EVENT,
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
    SetKill,
    SetRules,
    SetTradingStatus,
)
from tradsys.core.shard import Shard

STORIES = sorted(Path(__file__).parent.glob("*.story"))
TODAY_NS = 1_772_323_200_000_000_000
"""2026-03-01 00:00 UTC"""
REFUSAL_WORDS = {
    3005: "kill_switch",
    1010: "not_trading",
    1007: "no_such_order",
    1009: "not_cancelable",
    1008: "version_conflict",
    1005: "price_band",
    3002: "size_limit",
    3006: "too_many_orders",
    1011: "would_cross",
    3001: "position_limit",
    3003: "insufficient_balance",
    1002: "not_allowed",
}
SIDES = {"buy": BUY, "sell": SELL}
TIMES_IN_FORCE = {word: value for value, word in TIME_IN_FORCE_WORDS.items()}
STPS = {word: value for value, word in STP_WORDS.items()}


class Words:
    """A line's words, taken from the left."""

    def __init__(self, text: str) -> None:
        self.words = text.split()

    def take(self) -> str:
        assert self.words, "the line ends too early"
        return self.words.pop(0)

    def taken(self, word: str) -> bool:
        if self.words[:1] == [word]:
            self.words.pop(0)
            return True
        return False

    def end(self) -> None:
        assert not self.words, f"not understood: {' '.join(self.words)}"


class Teller:
    """Tells one story to a shard, line by line."""

    def __init__(self) -> None:
        self.shard = Shard("main")
        self.instrument = Instrument("BTC-USD", "BTC", "USD", 1_000_000, AMOUNT_SCALE)
        self.seq = 0
        self.time_ns = TODAY_NS
        self.names: dict[int, str] = {}
        self.ids: dict[str, int] = {}

    def line(self, text: str) -> str:
        """What the venue answers to a line, or shows for it."""
        words = Words(text)
        who = words.take()
        looks: dict[str, Callable[[Words], str]] = {
            "symbol": self.symbol,
            "account": self.account,
            "rules": self.rules,
            "clock": self.clock,
            "book": self.book,
            "venue": self.collected,
        }
        if who in looks:
            answer = looks[who](words)
        elif words.taken("has"):
            answer = self.has(who)
            words.words.clear()
        else:
            answer = self.command(who, words)
        words.end()
        self.shard.check()
        return answer

    def expectation(self, text: str) -> str | None:
        """What a looking line says itself; None: the line is a command."""
        who, _, rest = text.partition(" ")
        rest = " ".join(rest.split())
        if who == "book":
            return rest
        if who == "venue":
            return rest.removeprefix("collected ")
        return rest.removeprefix("has ") if rest.startswith("has ") else None

    # --- numbers ------------------------------------------------------------------------------------

    def ticks(self, text: str) -> int:
        ticks = Decimal(text) * AMOUNT_SCALE / self.instrument.tick_size
        assert ticks == int(ticks), f"{text} is off the grid"
        return int(ticks)

    def price(self, ticks: int) -> str:
        return f"{Decimal(ticks * self.instrument.tick_size) / AMOUNT_SCALE:.2f}"

    def amount(self, units: int) -> str:
        text = f"{Decimal(units) / AMOUNT_SCALE:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text

    # --- looks and the opening ----------------------------------------------------------------------

    def symbol(self, words: Words) -> str:
        name = words.take()
        base, quote = name.split("-")
        changes: dict[str, int] = {}
        while words.words:
            what, value = words.take(), words.take()
            if what == "tick":
                changes["tick_size"] = int(Decimal(value) * AMOUNT_SCALE)
            elif what == "lot":
                changes["lot_size"] = int(Decimal(value) * AMOUNT_SCALE)
            elif what == "fees":
                maker, taker = value.split("/")
                changes["maker_fee_ppm"] = int(Decimal(maker) * PPM)
                changes["taker_fee_ppm"] = int(Decimal(taker) * PPM)
            elif what == "band":
                changes["band_ppm"] = int(Decimal(value) * PPM)
            else:
                assert what == "at_least", what
                changes["notional_min"] = int(Decimal(value) * AMOUNT_SCALE)
        self.instrument = replace(self.instrument, symbol=name, base=base, quote=quote, **changes)
        return self.opened(DefineInstrument(self.instrument))

    def account(self, words: Words) -> str:
        name, mode = words.take(), words.take()
        self.opened(DefineAccount(name, {"cash": CASH, "limits": LIMITS}[mode]))
        while words.words:
            amount, asset = words.take(), words.take()
            self.opened(AdjustBalance(name, asset, int(Decimal(amount) * AMOUNT_SCALE), f"{name} {asset}"))
        return ""

    def rules(self, words: Words) -> str:
        return self.opened(SetRules(replace(self.shard.rules, **{words.take(): int(words.take())})))

    def opened(self, command: Command) -> str:
        (event,) = self.shard.apply(command, self.seq, self.time_ns)
        assert event[0] == SET_EVENT, event
        return ""

    def clock(self, words: Words) -> str:
        time = self.time_of(words.take())
        assert time >= self.time_ns, "the clock never goes back"
        self.time_ns = time
        return ""

    def time_of(self, text: str) -> int:
        """A time of day; one that starts with + is one of tomorrow."""
        hours, minutes, seconds = (int(part) for part in text.lstrip("+").split(":"))
        day = 24 if text.startswith("+") else 0
        return TODAY_NS + ((hours + day) * 3600 + minutes * 60 + seconds) * 1_000_000_000

    def book(self, words: Words) -> str:
        words.words.clear()
        book = self.shard.markets[self.instrument.symbol].book
        sides = []
        for side in (book.bids, book.asks):
            levels = side.depth(100)
            sides.append(", ".join(f"{shown} @ {self.price(price)}" for price, shown, _ in levels))
        return f"{sides[0]} | {sides[1]}".strip()

    def has(self, account: str) -> str:
        parts = []
        for asset, balance in sorted(self.shard.accounts[account].balances.items(), reverse=True):
            if balance.free:
                parts.append(f"{self.amount(balance.free)} {asset}")
            if balance.reserved:
                parts.append(f"{self.amount(balance.reserved)} {asset} reserved")
        return ", ".join(parts) or "nothing"

    def collected(self, words: Words) -> str:
        words.words.clear()
        quote = self.instrument.quote
        return f"{self.amount(self.shard.fees[quote].free)} {quote}"

    # --- commands -----------------------------------------------------------------------------------

    def command(self, who: str, words: Words) -> str:
        self.seq += 1
        if who == "admin":
            command, subject = self.admin_command(words), 0
        elif who == "engine":
            engine: dict[str, Command] = {"expire": ExpireOrders(), "continue": ContinueWork()}
            command, subject = engine[words.take()], 0
        elif words.taken("cancel"):
            command, subject = self.cancel(who, words)
        elif words.taken("replace"):
            command, subject = self.replacement(who, words)
        else:
            command, subject = self.order(who, words), self.seq
        return self.told(self.shard.apply(command, self.seq, self.time_ns), subject)

    def admin_command(self, words: Words) -> Command:
        verb = words.take()
        if verb == "cancel":
            assert words.taken("all") and words.taken("of")
            return CancelAll(words.take())
        if verb in ("halt", "resume"):
            return SetTradingStatus(words.take(), HALTED if verb == "halt" else TRADING)
        if verb in ("kill", "revive"):
            return SetKill(words.take(), verb == "kill")
        sign = {"deposit": 1, "withdraw": -1}[verb]
        amount, asset, account = Decimal(words.take()), words.take(), words.take()
        return AdjustBalance(account, asset, sign * int(amount * AMOUNT_SCALE), f"txn {self.seq}")

    def cancel(self, who: str, words: Words) -> tuple[Command, int]:
        if words.taken("all"):
            side = SIDES.get(words.words[0].removesuffix("s"), 0) if words.words else 0
            words.words.clear()
            return CancelOrders(who, "", side), 0
        order_id = self.ids[words.take()]
        return CancelOrder(who, order_id), order_id

    def replacement(self, who: str, words: Words) -> tuple[Command, int]:
        order_id = self.ids[words.take()]
        qty = int(words.take())
        price = self.ticks(words.take()) if words.taken("@") else 0
        return ReplaceOrder(who, order_id, qty, price), order_id

    def order(self, who: str, words: Words) -> PlaceOrder:
        order = PlaceOrder(who, self.instrument.symbol, SIDES[words.take()], LIMIT, GTC, int(words.take()))
        name = who
        while words.words:
            word = words.take()
            if word == "@":
                order = replace(order, price=self.ticks(words.take()))
            elif word == "market":
                order = replace(order, type=MARKET, time_in_force=IOC)
            elif word == "stop":
                order = replace(order, type=STOP, stop_price=self.ticks(words.take()))
            elif word == "gtd":
                order = replace(order, time_in_force=GTD, expire_at=self.time_of(words.take()))
            elif word in TIMES_IN_FORCE:
                order = replace(order, time_in_force=TIMES_IN_FORCE[word])
            elif word == "post_only":
                order = replace(order, post_only=True)
            elif word == "shows":
                order = replace(order, display_qty=int(words.take()))
            elif word in STPS:
                order = replace(order, stp=STPS[word])
            else:
                assert word == "as", f"not understood: {word}"
                name = words.take()
        if order.type == STOP and order.price:
            order = replace(order, type=STOP_LIMIT)
        self.names[self.seq], self.ids[name] = name, self.seq
        return order

    # --- answers ------------------------------------------------------------------------------------

    def told(self, events: list[Event], subject: int) -> str:
        told = [self.tell(event, subject) for event in events if event[0] != ACCEPTED_EVENT]
        return "; ".join(told) or "nothing new"

    def tell(self, event: Event, subject: int) -> str:
        kind, order_id, *details = event
        if kind == REFUSED_EVENT:
            return f"refused {REFUSAL_WORDS[order_id]}"
        if kind == SET_EVENT:
            return "done"
        if kind == WORK_EVENT:
            done, more = details
            return f"{done} done, more to do" if more else f"{done} done"
        if kind == TRADE_EVENT:
            maker, order_id, price, qty, maker_fee, taker_fee, _, _ = details
            text = f"filled {qty} @ {self.price(price)} with {self.names[maker]}"
            if maker_fee or taker_fee:
                text += f" (fees {self.amount(maker_fee)} / {self.amount(taker_fee)})"
        elif kind == RESTED_EVENT:
            _, _, shown, left = details
            text = f"rested {left} showing {shown}" if shown < left else f"rested {left}"
        elif kind == CLOSED_EVENT:
            status, reason, left = details
            text = f"{STATUS_WORDS[status]} {left} {REASON_WORDS[reason]}"
        elif kind == PARKED_EVENT:
            text = f"waits for {self.price(details[0])}"
        elif kind == TRIGGERED_EVENT:
            text = "triggered"
        elif kind == REPLACED_EVENT:
            _, price, qty, _, kept = details
            text = f"now {qty} @ {self.price(price)}, {'keeps' if kept else 'loses'} its place"
        else:
            assert kind == REPLENISHED_EVENT, event
            text = f"shows {details[0]}"
        return text if order_id == subject else f"{self.names[order_id]}: {text}"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_story(story: Path) -> None:
    teller = Teller()
    for number, raw in enumerate(story.read_text().splitlines(), start=1):
        text = raw.partition("#")[0].strip()
        if not text:
            continue
        act, arrow, expected = (part.strip() for part in text.partition("->"))
        try:
            answer = teller.line(act)
        except Exception as fault:
            pytest.fail(f"{story.name}:{number}: {raw.strip()}\n  {fault!r}")
        if not arrow:
            expected = teller.expectation(act) or ""
        if answer != " ".join(expected.split()):
            pytest.fail(f"{story.name}:{number}: {raw.strip()}\n  told     {expected}\n  happened {answer}")


def test_there_are_stories() -> None:
    assert len(STORIES) >= 12


def test_a_story_that_is_not_true_fails(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.story"
    wrong.write_text(
        "symbol BTC-USD\naccount alice limits\nalice sell 7 @ 16.00 -> filled 7 @ 16.00 with bob\n"
    )

    with pytest.raises(pytest.fail.Exception, match="happened rested 7"):
        test_story(wrong)


def test_a_word_that_nobody_understands_fails(tmp_path: Path) -> None:
    odd = tmp_path / "odd.story"
    odd.write_text("symbol BTC-USD\naccount alice limits\nalice sell 7 @ 16.00 quickly -> rested 7\n")

    with pytest.raises(pytest.fail.Exception, match="not understood: quickly"):
        test_story(odd)
