"""Which shard a symbol or an order belongs to, and the ways to it.

A shard tells by itself which symbols it serves (GET /symbols), so nothing is written down twice. An order's
id begins with the name of its shard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Protocol

import msgspec
from msgspec import Struct

from tradsys.codec.errors import NOT_LEADER, OTHER_SHARD, UNKNOWN_SYMBOL, Problem
from tradsys.codec.market_v1 import Symbols
from tradsys.core import messages as m

REFRESH_S = 1.0
"""How often the shards are asked for their symbols at most, whatever clients ask for."""

Result = tuple[int, ...]
"""The fields of a result record."""
MOVED = (UNKNOWN_SYMBOL, OTHER_SHARD)
"""Refusals that take no number and use no key: the order may be sent to another shard."""
SYMBOLS = msgspec.json.Decoder(Symbols)


class Handover(Protocol):
    def submit(self, records: bytes, count: int) -> asyncio.Future[list[tuple[int, ...]]]:
        """Results of commands with their senders in front. Raises Problem: 1020, 1001."""


class Answer(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...


class Reader(Protocol):
    async def get(self, target: str, bearer: str = "") -> Answer:
        """A GET request to the shard's REST. Raises Problem 1020."""


class Shard(Struct, frozen=True, eq=False):
    name: str
    commands: Handover
    reads: Reader


class Routes:
    """The shards that this gateway serves; the first takes what is nobody's, and says so."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        self._by_name = {shard.name: shard for shard in shards}
        self._by_symbol: dict[str, Shard] = {}
        self._refreshed = -REFRESH_S
        """When the shards were asked last."""
        self._refreshing = asyncio.Lock()
        self._whole = False
        """All of them have answered then."""

    def of_order(self, order_id: str) -> tuple[Shard, int]:
        """(shard, number) of an order id. Raises Problem 1007: it is none."""
        name, _, digits = order_id.partition("-")
        shard = self._by_name.get(name)
        if shard is None or not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
            raise Problem(m.NO_SUCH_ORDER)
        return shard, int(digits)

    def of_symbol(self, symbol: str) -> Shard | None:
        """None: it is not known here whose it is; `find` may tell."""
        if len(self.shards) == 1:
            return self.shards[0]
        return self._by_symbol.get(symbol)

    async def find(self, symbol: str) -> Shard:
        """Ask the shards. The first shard if it is nobody's. Raises Problem 1020: not all of them answer."""
        asked = monotonic()
        async with self._refreshing:
            # Who waited for another's refresh has had one; what is older may not know a new symbol.
            if self._refreshed < asked:
                await asyncio.sleep(max(0.0, self._refreshed + REFRESH_S - asked))
                self._refreshed = monotonic()
                await self._refresh()
        found = self._by_symbol.get(symbol)
        if found is None and not self._whole:
            raise Problem(NOT_LEADER, "not all shards tell their symbols; try again", retry_after_s=1)
        return found or self.shards[0]

    async def _refresh(self) -> None:
        answers = await asyncio.gather(
            *(shard.reads.get("/api/v1/symbols") for shard in self.shards), return_exceptions=True
        )
        by_symbol: dict[str, Shard] = {}
        self._whole = True
        for shard, answer in zip(self.shards, answers, strict=True):
            if isinstance(answer, BaseException) or answer.status != 200:
                # What it serves is not known to have changed; a symbol nobody names may be its.
                by_symbol |= {name: one for name, one in self._by_symbol.items() if one is shard}
                self._whole = False
                continue
            for symbol in SYMBOLS.decode(answer.body).items:
                by_symbol[symbol.symbol] = shard
        self._by_symbol = by_symbol

    async def refused(self, code: int, symbol: str, by: Shard) -> Shard | None:
        """Another shard that has a symbol which this one does not have (any more)."""
        if code not in MOVED or self._by_symbol.pop(symbol, None) is None:
            return None
        found = await self.find(symbol)
        return found if found is not by else None
