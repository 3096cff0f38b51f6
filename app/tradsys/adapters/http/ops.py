"""For probes and for the operator, on the ops listener; and the batches of the venue's own processes."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, ClassVar

import falcon

from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.edge import PUBLIC, EdgeRequest, EdgeResponse
from tradsys.adapters.http.orders import body_of
from tradsys.codec import binary_v1
from tradsys.codec.errors import FORBIDDEN, INVALID_REQUEST, NOT_LEADER, Problem
from tradsys.codec.json_v1 import encode
from tradsys.venue.ports import TRADE
from tradsys.venue.venue import BATCH_MAX

SECRET_HEADER = "HTTP_X_INTERNAL_SECRET"


class HealthResource:
    """GET /healthz: the process turns its loop"""

    needs: ClassVar = {"GET": PUBLIC}
    answers_while_draining = True

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = b'{"status":"ok"}'


class ReadyResource:
    """GET /readyz: orders may come"""

    needs: ClassVar = {"GET": PUBLIC}
    answers_while_draining = True

    def __init__(self, not_ready: Callable[[], list[str]]):
        """`not_ready` gives the reasons why orders should not come now; none: ready."""
        self._not_ready = not_ready

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        reasons = self._not_ready()
        if reasons:
            resp.status = falcon.HTTP_503
        resp.data = encode({"ready": not reasons, "reasons": reasons})


class MetricsResource:
    """GET /metrics: the text that `history` rendered last, handed on as it is"""

    needs: ClassVar = {"GET": PUBLIC}
    answers_while_draining = True

    def __init__(self, rendered: Callable[[], bytes | None]):
        self._rendered = rendered

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        text = self._rendered()
        if text is None:
            raise Problem(NOT_LEADER, "history has not rendered metrics yet", retry_after_s=1)
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.data = text


class FactsResource:
    """GET /internal/status, /internal/pinning: what this process knows of itself, as JSON"""

    needs: ClassVar = {"GET": PUBLIC}
    answers_while_draining = True

    def __init__(self, facts: Callable[[], dict[str, Any]]):
        self._facts = facts

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = encode(self._facts())


class CommandsResource:
    """POST /internal/commands: what gateway and feed have gathered, as binary records with their senders"""

    needs: ClassVar = {"POST": PUBLIC}
    """The records carry their senders; the caller proves itself by the shared secret."""
    answers_while_draining = False

    def __init__(self, desk: Desk, secret: bytes, body_max: int):
        self.desk = desk
        self._secret = secret
        self._body_max = body_max

    def on_post(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        sent = req.env.get(SECRET_HEADER, "").encode("latin-1")
        if not hmac.compare_digest(sent, self._secret):
            raise Problem(FORBIDDEN, "the internal secret is missing or wrong", close=True)
        body = body_of(req, self._body_max)
        desk = self.desk
        now = desk.venue.clock()
        items = [
            Problem(FORBIDDEN) if not scope & TRADE else item
            for scope, item in binary_v1.internal_commands(body, desk.grid_or_none, desk.grid_of_order, now)
        ]
        if len(items) > BATCH_MAX:
            raise Problem(INVALID_REQUEST, f"a batch has at most {BATCH_MAX} commands")
        resp.content_type = binary_v1.MEDIA_TYPE
        resp.data = binary_v1.results(desk.process_some(items), desk.tally.errors)
        resp.set_header("X-Seq", str(desk.venue.seq))
