"""Administration: journalled commands that change the venue itself. Own listener, scope `admin`.

Every call is one command; its answer is the state it left, its refusal code 1002 or the account's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from tradsys.adapters.http.accounts import (
    AccountResource,
    BalanceReply,
    LimitsReply,
    PositionReply,
    account_reply,
    balances_of,
    limits_reply,
)
from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.edge import EdgeRequest, EdgeResponse
from tradsys.adapters.http.orders import Canceled, body_of
from tradsys.codec.decimals import DecimalError, amount_of, grid_of, signed_amount_of
from tradsys.codec.errors import INVALID_REQUEST, UNKNOWN_SYMBOL, Problem, explain
from tradsys.codec.json_v1 import DecimalText, client_order_id_of, decode, decoder, encode
from tradsys.codec.market_v1 import symbol_of
from tradsys.core import messages as m
from tradsys.core.account import Account
from tradsys.core.outcome import is_refusal
from tradsys.venue.outcome import Done
from tradsys.venue.ports import ADMIN

_ASSET = re.compile(r"[A-Z0-9]{1,15}", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9]{1,15}-[A-Z0-9]{1,15}", re.ASCII)
_TXN = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_MODES = {word: value for value, word in m.RISK_MODE_WORDS.items()}
_STATUSES = {word: value for value, word in m.TRADING_STATUS_WORDS.items()}


class NewAccount(Struct, forbid_unknown_fields=True):
    account: str
    mode: m.RiskModeWord | UnsetType = UNSET
    """Absent: cash."""


class NewLimits(Struct, forbid_unknown_fields=True):
    """All limits of the account, in base or quote; absent, "0" and 0 are no limit."""

    position_max: DecimalText | UnsetType = UNSET
    order_notional_max: DecimalText | UnsetType = UNSET
    order_quantity_max: DecimalText | UnsetType = UNSET
    open_orders_max: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET


class Adjustment(Struct, forbid_unknown_fields=True):
    asset: str
    amount: Annotated[str, Meta(max_length=40, description="decimal; negative to withdraw")]
    txn_id: str


class NewSymbol(Struct, forbid_unknown_fields=True):
    symbol: str
    tick_size: DecimalText
    lot_size: DecimalText
    base: str | UnsetType = UNSET
    quote: str | UnsetType = UNSET
    min_quantity: DecimalText | UnsetType = UNSET
    max_quantity: DecimalText | UnsetType = UNSET
    min_notional: DecimalText | UnsetType = UNSET
    band_bps: DecimalText | UnsetType = UNSET
    maker_fee_bps: DecimalText | UnsetType = UNSET
    taker_fee_bps: DecimalText | UnsetType = UNSET


class NewFees(Struct, forbid_unknown_fields=True):
    maker_fee_bps: DecimalText
    taker_fee_bps: DecimalText


class NewBand(Struct, forbid_unknown_fields=True):
    band_bps: DecimalText


class NewReference(Struct, forbid_unknown_fields=True):
    price: DecimalText


class NewStatus(Struct, forbid_unknown_fields=True):
    status: m.TradingStatusWord


class Kill(Struct, forbid_unknown_fields=True):
    account: str
    on: bool


class CancelAllOrders(Struct, forbid_unknown_fields=True):
    account: str
    symbol: str | UnsetType = UNSET


class Revocation(Struct, forbid_unknown_fields=True):
    jti: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    account: str | UnsetType = UNSET
    issued_until: Annotated[int, Meta(ge=0, le=2**53)] | UnsetType = UNSET
    """Unix seconds; absent: now."""


class NewRules(Struct, forbid_unknown_fields=True):
    """Those given change, the others stay. Times in nanoseconds."""

    account_orders_max: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    shard_orders_max: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    closed_orders_max: Annotated[int, Meta(ge=0, le=2**53)] | UnsetType = UNSET
    order_fills_max: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    idempotency_window_ns: Annotated[int, Meta(ge=1, le=2**62)] | UnsetType = UNSET
    idempotency_keys_max: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    step_orders_max: Annotated[int, Meta(ge=1, le=1_000)] | UnsetType = UNSET
    protection_ppm: Annotated[int, Meta(ge=0, lt=1_000_000)] | UnsetType = UNSET
    txn_ids_max: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    revocations_max: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    accounts_max: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    instrument_versions_max: Annotated[int, Meta(ge=1, le=2**53)] | UnsetType = UNSET
    match_makers_max: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType = UNSET


class AdminAccount(Struct):
    account: str
    mode: m.RiskModeWord
    killed: bool
    open_orders: int
    limits: LimitsReply
    balances: list[BalanceReply]
    positions: list[PositionReply]


class Accounts(Struct):
    items: list[str]


class KillReply(Struct):
    account: str
    on: bool
    canceled: int
    pending: bool


class StatusReply(Struct):
    symbol: str
    status: m.TradingStatusWord


class ReferenceReply(Struct):
    symbol: str
    price: str


class Revoked(Struct):
    revoked: bool


class Draining(Struct):
    draining: bool


def _amount(text: str | UnsetType, field: str, read: Callable[[str], int] = amount_of) -> int:
    """Absent is zero."""
    if text is UNSET:
        return 0
    try:
        return read(text)
    except DecimalError as error:
        raise Problem(INVALID_REQUEST, f"{field} {error.problem}", {"field": field}) from None


def _ppm(text: str | UnsetType, field: str) -> int:
    """Basis points as parts per million: "1.5" are 150."""
    amount = _amount(text, field)
    ppm, rest = divmod(amount, m.AMOUNT_SCALE // 100)
    if rest:
        raise Problem(INVALID_REQUEST, f"{field} has at most two digits after the point", {"field": field})
    return ppm


def _named(text: str, shape: re.Pattern[str], field: str, example: str) -> str:
    if shape.fullmatch(text) is None:
        raise Problem(INVALID_REQUEST, f"{field} looks like {example}", {"field": field})
    return text


class AdminResource(AccountResource):
    """What the admin resources share: one command, processed, or its refusal as a problem."""

    needs: ClassVar = {"GET": ADMIN, "POST": ADMIN, "PUT": ADMIN}
    answers_while_draining = True

    def __init__(self, desk: Desk):
        super().__init__(desk)
        self.desk = desk
        self.venue = desk.venue

    def do(self, command: m.AdminCommand, resp: EdgeResponse, refused: str = "") -> Done:
        outcome = self.venue.process((command,))[0]
        if isinstance(outcome, Problem):
            raise outcome
        resp.set_header("X-Seq", str(outcome.seq))
        if is_refusal(outcome.events):
            code, message, details = explain(outcome.events[0], command, None)
            raise Problem(code, refused if refused and code == INVALID_REQUEST else message, details)
        return outcome

    def body(self, req: EdgeRequest, kind: type[Any]) -> Any:
        return decode(decoder(kind), body_of(req, self.desk.body_max))

    def named_account(self, name: str) -> Account:
        account = self.shard.accounts.get(name)
        if account is None:
            raise Problem(INVALID_REQUEST, f"no account {name[:36]!r}", status=404)
        return account

    def instrument(self, symbol: str) -> m.Instrument:
        market = self.shard.markets.get(symbol)
        if market is None:
            raise Problem(UNKNOWN_SYMBOL, f"no symbol {symbol[:32]!r}")
        return market.instrument

    def answer_account(self, resp: EdgeResponse, account: Account) -> None:
        known = account_reply(account)
        resp.data = encode(
            AdminAccount(
                known.account,
                known.mode,
                known.killed,
                known.open_orders,
                limits_reply(account),
                balances_of(account),
                self.positions(account),
            )
        )

    def answer_symbol(self, resp: EdgeResponse, symbol: str) -> None:
        market = self.shard.markets[symbol]
        resp.data = encode(symbol_of(market, self.shard.trading_status(market), ""))


class AccountsResource(AdminResource):
    """GET, POST /admin/accounts"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = encode(Accounts(list(self.shard.accounts)))

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        body: NewAccount = self.body(req, NewAccount)
        name = client_order_id_of(body.account)
        self.do(
            m.DefineAccount(name, m.CASH if body.mode is UNSET else _MODES[body.mode]),
            resp,
            "the account exists in the other mode",
        )
        self.answer_account(resp, self.shard.accounts[name])


class OneAccountResource(AdminResource):
    """GET /admin/accounts/{account}"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse, account: str) -> None:
        self.answer_account(resp, self.named_account(account))


class LimitsResource(AdminResource):
    """PUT /admin/accounts/{account}/limits"""

    def on_put(self, req: EdgeRequest, resp: EdgeResponse, account: str) -> None:
        body: NewLimits = self.body(req, NewLimits)
        known = self.named_account(account)
        limits = m.Limits(
            _amount(body.position_max, "position_max"),
            _amount(body.order_notional_max, "order_notional_max"),
            _amount(body.order_quantity_max, "order_quantity_max"),
            0 if body.open_orders_max is UNSET else body.open_orders_max,
        )
        self.do(m.SetLimits(known.name, limits), resp)
        self.answer_account(resp, known)


class AdjustmentsResource(AdminResource):
    """POST /admin/accounts/{account}/adjustments"""

    def on_post(self, req: EdgeRequest, resp: EdgeResponse, account: str) -> None:
        body: Adjustment = self.body(req, Adjustment)
        known = self.named_account(account)
        asset = _named(body.asset, _ASSET, "asset", "USD")
        txn_id = _named(body.txn_id, _TXN, "txn_id", "deposit-2026-01")
        amount = _amount(body.amount, "amount", signed_amount_of)
        self.do(m.AdjustBalance(known.name, asset, amount, txn_id), resp)
        self.answer_account(resp, known)


class DefiningResource(AdminResource):
    """What the resources share that add or change a symbol."""

    def define(self, instrument: m.Instrument, resp: EdgeResponse) -> None:
        self.do(
            m.DefineInstrument(instrument),
            resp,
            "refused: tick_size × lot_size must be a multiple of 0.00000001, 0 ≤ maker fee ≤ taker fee "
            "≤ 1000 bps, band < 10000 bps, min ≤ max quantity; a grid changes only while the book is empty",
        )
        self.answer_symbol(resp, instrument.symbol)


class AdminSymbolsResource(DefiningResource):
    """POST /admin/symbols"""

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        body: NewSymbol = self.body(req, NewSymbol)
        symbol = _named(body.symbol, _SYMBOL, "symbol", "BTC-USD")
        base, _, quote = symbol.partition("-")
        lot_size = _amount(body.lot_size, "lot_size")
        lots = {}
        for name, text, field in (
            ("qty_min", body.min_quantity, "min_quantity"),
            ("qty_max", body.max_quantity, "max_quantity"),
        ):
            if text is not UNSET and lot_size:
                lots[name], rest = divmod(_amount(text, field), lot_size)
                if rest:
                    raise Problem(INVALID_REQUEST, f"{field} is not a multiple of lot_size", {"field": field})
        instrument = m.Instrument(
            symbol,
            base if body.base is UNSET else _named(body.base, _ASSET, "base", "BTC"),
            quote if body.quote is UNSET else _named(body.quote, _ASSET, "quote", "USD"),
            _amount(body.tick_size, "tick_size"),
            lot_size,
            notional_min=_amount(body.min_notional, "min_notional"),
            band_ppm=_ppm(body.band_bps, "band_bps"),
            maker_fee_ppm=_ppm(body.maker_fee_bps, "maker_fee_bps"),
            taker_fee_ppm=_ppm(body.taker_fee_bps, "taker_fee_bps"),
            **lots,
        )
        self.define(instrument, resp)


class SymbolStatusResource(AdminResource):
    """PUT /admin/symbols/{symbol}/status, "*" for the whole shard"""

    def on_put(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        body: NewStatus = self.body(req, NewStatus)
        if symbol != "*":
            self.instrument(symbol)
        self.do(m.SetTradingStatus(symbol, _STATUSES[body.status]), resp)
        resp.data = encode(StatusReply(symbol, body.status))


class ReferenceResource(AdminResource):
    """PUT /admin/symbols/{symbol}/reference"""

    def on_put(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        body: NewReference = self.body(req, NewReference)
        grid = grid_of(self.instrument(symbol))
        price = _amount(body.price, "price", grid.ticks)
        self.do(m.SetReference(symbol, price), resp)
        resp.data = encode(ReferenceReply(symbol, grid.price_text(price)))


class SymbolFeesResource(DefiningResource):
    """PUT /admin/symbols/{symbol}/fees"""

    def on_put(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        body: NewFees = self.body(req, NewFees)
        maker, taker = _ppm(body.maker_fee_bps, "maker_fee_bps"), _ppm(body.taker_fee_bps, "taker_fee_bps")
        self.define(replace(self.instrument(symbol), maker_fee_ppm=maker, taker_fee_ppm=taker), resp)


class SymbolBandResource(DefiningResource):
    """PUT /admin/symbols/{symbol}/band"""

    def on_put(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        body: NewBand = self.body(req, NewBand)
        self.define(replace(self.instrument(symbol), band_ppm=_ppm(body.band_bps, "band_bps")), resp)


class KillResource(AdminResource):
    """POST /admin/kill"""

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        body: Kill = self.body(req, Kill)
        if body.account != "*":
            self.named_account(body.account)
        events = self.do(m.SetKill(body.account, body.on), resp).events
        done, more = events[-1][2:] if events[-1][0] == m.WORK_EVENT else (0, 0)
        resp.data = encode(KillReply(body.account, body.on, done, bool(more)))


class CancelAllResource(AdminResource):
    """POST /admin/cancel-all"""

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        body: CancelAllOrders = self.body(req, CancelAllOrders)
        if body.account != "*":
            self.named_account(body.account)
        symbol = "" if body.symbol is UNSET else self.instrument(body.symbol).symbol
        _, _, done, more = self.do(m.CancelAll(body.account, symbol), resp).events[-1]
        resp.data = encode(Canceled(done, bool(more)))


class RevokeResource(AdminResource):
    """POST /admin/tokens/revoke"""

    def __init__(self, desk: Desk, revoked: Callable[[m.RevokeToken], None], token_life_max_s: int):
        """`revoked` tells the verifier, so that tokens it remembers are refused at once."""
        super().__init__(desk)
        self._revoked = revoked
        self._token_life_max_s = token_life_max_s

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        body: Revocation = self.body(req, Revocation)
        if (body.jti is UNSET) == (body.account is UNSET):
            raise Problem(INVALID_REQUEST, "give jti, or account (with issued_until)")
        now_s = self.venue.clock() // 1_000_000_000
        expires = now_s + self._token_life_max_s
        if body.jti is not UNSET:
            command = m.RevokeToken(jti=body.jti, expires=expires)
        else:
            account = self.named_account(str(body.account)).name
            until = now_s if body.issued_until is UNSET else body.issued_until
            command = m.RevokeToken(account=account, issued_until=until, expires=expires)
        self.do(command, resp, "as many tokens are revoked as the rules allow (revocations_max)")
        self._revoked(command)
        resp.data = encode(Revoked(True))


class RulesResource(AdminResource):
    """GET, PUT /admin/rules"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = encode(asdict(self.shard.rules))

    def on_put(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        body: NewRules = self.body(req, NewRules)
        changes = {name: value for name, value in asdict(body).items() if value is not UNSET}
        self.do(m.SetRules(replace(self.shard.rules, **changes)), resp)
        resp.data = encode(asdict(self.shard.rules))


class DrainResource(AdminResource):
    """POST /admin/drain: take no more orders, answer what is under way, end cleanly"""

    def __init__(self, desk: Desk, drain: Callable[[], None]):
        super().__init__(desk)
        self._drain = drain

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        self._drain()
        resp.data = encode(Draining(True))
