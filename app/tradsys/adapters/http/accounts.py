"""What an account may know of itself: balances, positions, risk, fees."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.edge import EdgeRequest, EdgeResponse
from tradsys.codec.decimals import text_of
from tradsys.codec.errors import FORBIDDEN, Problem
from tradsys.codec.json_v1 import encode
from tradsys.codec.market_v1 import bps_text
from tradsys.core.account import Account
from tradsys.core.messages import RISK_MODE_WORDS, RiskModeWord
from tradsys.venue.ports import READ


class BalanceReply(Struct):
    asset: str
    free: str
    reserved: str
    total: str


class Balances(Struct):
    items: list[BalanceReply]


class PositionReply(Struct):
    symbol: str
    quantity: str
    """Bought minus sold, in base; negative when short."""
    open_buys: str
    open_sells: str


class Positions(Struct):
    items: list[PositionReply]


class LimitsReply(Struct):
    """ "0" and 0 are no limit."""

    mode: RiskModeWord
    position_max: str
    order_notional_max: str
    order_quantity_max: str
    open_orders_max: int


class RiskState(Struct):
    killed: bool
    open_orders: int
    open_orders_max: int
    balances: list[BalanceReply]
    positions: list[PositionReply]


class AccountReply(Struct):
    account: str
    mode: RiskModeWord
    killed: bool
    open_orders: int


class Fee(Struct):
    symbol: str
    maker_fee_bps: str
    taker_fee_bps: str


class Fees(Struct):
    items: list[Fee]


def balances_of(account: Account) -> list[BalanceReply]:
    return [
        BalanceReply(asset, text_of(b.free), text_of(b.reserved), text_of(b.free + b.reserved))
        for asset, b in sorted(account.balances.items())
    ]


class AccountResource:
    """What the account resources share."""

    needs: ClassVar = {"GET": READ}
    answers_while_draining = False

    def __init__(self, desk: Desk):
        self.shard = desk.venue.shard

    def account(self, req: EdgeRequest) -> Account:
        account = self.shard.accounts.get(req.account)
        if account is None:
            raise Problem(FORBIDDEN, "the token's account does not exist here")
        return account

    def positions(self, account: Account) -> list[PositionReply]:
        rows = []
        for symbol, holding in sorted(account.holdings.items()):
            lot_size = self.shard.markets[symbol].instrument.lot_size
            rows.append(
                PositionReply(
                    symbol,
                    text_of(holding.net),
                    text_of(holding.open_buys * lot_size),
                    text_of(holding.open_sells * lot_size),
                )
            )
        return rows

    def open_orders_max(self, account: Account) -> int:
        return account.limits.open_orders_max or self.shard.rules.account_orders_max


def account_reply(account: Account) -> AccountReply:
    return AccountReply(account.name, RISK_MODE_WORDS[account.mode], account.killed, len(account.open))


def limits_reply(account: Account) -> LimitsReply:
    limits = account.limits
    return LimitsReply(
        RISK_MODE_WORDS[account.mode],
        text_of(limits.position_max),
        text_of(limits.order_notional_max),
        text_of(limits.order_qty_max),
        limits.open_orders_max,
    )


class MeResource(AccountResource):
    """GET /accounts/me"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = encode(account_reply(self.account(req)))


class BalancesResource(AccountResource):
    """GET /balances"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = encode(Balances(balances_of(self.account(req))))


class PositionsResource(AccountResource):
    """GET /positions"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = encode(Positions(self.positions(self.account(req))))


class RiskLimitsResource(AccountResource):
    """GET /risk/limits"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = encode(limits_reply(self.account(req)))


class RiskStateResource(AccountResource):
    """GET /risk/state"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        account = self.account(req)
        resp.data = encode(
            RiskState(
                account.killed or self.shard.killed,
                len(account.open),
                self.open_orders_max(account),
                balances_of(account),
                self.positions(account),
            )
        )


class FeesResource(AccountResource):
    """GET /fees"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        self.account(req)
        instruments = [market.instrument for market in self.shard.markets.values()]
        resp.data = encode(
            Fees([Fee(i.symbol, bps_text(i.maker_fee_ppm), bps_text(i.taker_fee_ppm)) for i in instruments])
        )
