"""Asking pods about themselves, and Prometheus about objectives. No answer is an answer: unknown."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp

from tradsys_operator import names
from tradsys_operator.api import Objective
from tradsys_operator.objectives import Judged, bad_ratio, judge, live

POD_TIMEOUT_S = 2.0
PROMETHEUS_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 1 << 20


class Witnesses(Protocol):
    """Who can be asked. The tests bring their own, since a cluster without nodes has no processes."""

    async def internal(self, pod_ip: str, container: str, what: str) -> Mapping[str, Any] | None:
        """/internal/{what} of a container, None if it does not answer."""

    async def bad(self, url: str, query: str) -> float | None:
        """The single number that Prometheus gives, None if there is none."""


class HttpWitnesses:
    """Over the network. `session` is the caller's."""

    def __init__(self, session: aiohttp.ClientSession):
        self._session = session

    async def internal(self, pod_ip: str, container: str, what: str) -> Mapping[str, Any] | None:
        host = f"[{pod_ip}]" if ":" in pod_ip else pod_ip
        url = f"http://{host}:{names.OPS_PORTS[container]}/internal/{what}"
        found = await self._json(url, {}, POD_TIMEOUT_S)
        return found if isinstance(found, dict) else None

    async def bad(self, url: str, query: str) -> float | None:
        found = await self._json(f"{url.rstrip('/')}/api/v1/query", {"query": query}, PROMETHEUS_TIMEOUT_S)
        return number_of(found)

    async def _json(self, url: str, params: Mapping[str, str], timeout_s: float) -> Any:
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            async with self._session.get(
                url, params=params, timeout=timeout, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    return None
                body = await answer.content.read(ANSWER_BYTES_MAX)
                return json.loads(body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return None


def number_of(answer: Any) -> float | None:
    """The value of an instant query: exactly one series with a finite number, else None."""
    try:
        if answer["status"] != "success":
            return None
        (series,) = answer["data"]["result"]
        value = float(series["value"][1])
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return value if math.isfinite(value) else None


async def objectives(
    witnesses: Witnesses, url: str, venue: str, namespace: str, asked: list[Objective], window_s: int
) -> list[Judged]:
    """Each objective over the last `window_s` seconds of the live venue."""
    selector = live(venue, namespace)
    found = await asyncio.gather(
        *(witnesses.bad(url, bad_ratio(each, selector, f"{window_s}s")) for each in asked)
    )
    return [judge(each, bad) for each, bad in zip(asked, found, strict=True)]
