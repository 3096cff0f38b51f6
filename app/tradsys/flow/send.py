"""Send commands open loop: each when it is due, whatever the venue does with those before it.

Latency runs from the moment a command was due to its answer, so a venue that stalls is charged for
everything that had to wait (no coordinated omission). An order and whatever happens to it later take the
same connection, so that nothing overtakes; a connection has one request under way. With `batch` 1 a
command is one JSON request, above that a request takes as many commands as are due, in the binary form.

A lost answer is no failure: the request is sent again, and the client_order_id makes sure that an order
is not placed twice.
"""

from __future__ import annotations

import select
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from tradsys.client.http import Connection, Response
from tradsys.client.records import (
    RECORDS_TYPE,
    cancel_record,
    place_record,
    replace_record,
    results,
)
from tradsys.client.rest import API, Unreachable, answer_of
from tradsys.flow.commands import Cancel, FlowCommand, OrderBody, Place, order_of
from tradsys.flow.latency import Latency
from tradsys.flow.model import units_of

BATCH_MAX = 1_000
ORDERS_KNOWN_MAX = 1_000_000
"""Orders whose id is remembered; what is older is not canceled or replaced any more."""
AHEAD_REQUESTS = 4
"""How many full requests per connection are taken from the flow before their turn."""
PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
ANSWER_TIMEOUT_NS = 10_000_000_000
RETRY_STATUS = 503
UNAUTHORIZED, INVALID_TOKEN, FORBIDDEN, NOT_OURS = 2001, 2002, 2003, 0
HOPELESS = frozenset((UNAUTHORIZED, INVALID_TOKEN, FORBIDDEN, NOT_OURS))
"""Refusals that every further command would get, too."""


class Outcome(NamedTuple):
    """What became of a command."""

    code: int
    """0, or the refusal's code; SKIPPED."""
    status: str = ""
    order_id: str = ""
    replayed: bool = False


SKIPPED = -1
"""The command was not sent: the order that it names was never accepted."""


class Report(Struct):
    """What happened so far."""

    sent: int = 0
    """Commands that were answered."""
    accepted: int = 0
    skipped: int = 0
    replayed: int = 0
    retries: int = 0
    """Requests that were sent again."""
    requests: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    """Accepted commands by the order's status in the answer."""
    refusals: Counter[int] = field(default_factory=Counter)
    latency: Latency = field(default_factory=Latency)
    """From due to answered."""
    service: Latency = field(default_factory=Latency)
    """From sent to answered, by request."""


class _Answer(Struct):
    order_id: str = ""
    status: str = ""
    code: int = 0


_answer = msgspec.json.Decoder(_Answer)


class _Request(Struct):
    method: str
    path: str
    headers: str
    body: bytes
    commands: list[FlowCommand]
    sent_ns: int = 0


class _Lane:
    """One connection with the commands that wait for it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.queue: deque[FlowCommand] = deque()
        self.request: _Request | None = None
        self.waiting = False
        """For the answer to `request`; False with a request: it is to be sent again."""
        self.retry_ns = 0
        self.failures = 0
        self.failing_since_ns = 0


class _Order(Struct, gc=False):
    """What is remembered of an order that was sent."""

    lane: _Lane
    order_id: str = ""
    """"" before it is accepted, and if it is not."""


class Sender:
    """Sends a flow over `connections` connections to the venue at `url`.

    `tokens` has a bearer token for each account of the flow. `patience_s` is how long the venue may be away.
    """

    def __init__(
        self,
        url: str,
        tokens: Mapping[str, str],
        *,
        connections: int = 1,
        batch: int = 1,
        patience_s: float = 30.0,
    ) -> None:
        self._url = url
        self._lanes = [_Lane(Connection(url)) for _ in range(connections)]
        self._batch = batch
        self._patience_ns = int(patience_s * 1e9)
        self._authorization = {a: f"Authorization: Bearer {token}\r\n" for a, token in tokens.items()}
        self._orders: OrderedDict[str, _Order] = OrderedDict()
        self._placed = 0
        self.report = Report()

    def run(
        self,
        commands: Iterable[FlowCommand],
        progress: Callable[[Report], None] = lambda report: None,
        record: Callable[[FlowCommand, Outcome], None] = lambda command, outcome: None,
    ) -> Report:
        """Send all commands; returns when the last one is answered.

        `progress` is called about ten times a second. Raises Unreachable (the venue was away for longer
        than `patience_s`) and Refused (it answers, but not as a venue that this flow can be sent to).
        """
        self._record = record
        self._start_ns = time.monotonic_ns()
        source = iter(commands)
        coming = next(source, None)
        next_progress_ns = 0
        try:
            while True:
                now_ns = time.monotonic_ns() - self._start_ns
                coming = self._hand_out(coming, source, now_ns)
                for lane in self._lanes:
                    self._send(lane, now_ns)
                if coming is None and not any(lane.queue or lane.request for lane in self._lanes):
                    return self.report
                self._wait(coming, now_ns)
                self.report.seconds = (time.monotonic_ns() - self._start_ns) / 1e9
                if now_ns >= next_progress_ns:
                    next_progress_ns = now_ns + 100_000_000
                    progress(self.report)
        finally:
            self.report.seconds = (time.monotonic_ns() - self._start_ns) / 1e9
            progress(self.report)
            for lane in self._lanes:
                lane.connection.close()

    def _hand_out(
        self, coming: FlowCommand | None, source: Iterator[FlowCommand], now_ns: int
    ) -> FlowCommand | None:
        """Give what is due to the connections; returns the first command that is not."""
        room = len(self._lanes) * self._batch * AHEAD_REQUESTS
        room -= sum(len(lane.queue) for lane in self._lanes)
        while coming is not None and coming.at_ns <= now_ns and room > 0:
            self._lane_for(coming).queue.append(coming)
            room -= 1
            coming = next(source, None)
        return coming

    def _lane_for(self, command: FlowCommand) -> _Lane:
        """Orders take the connections in turn; what happens to one later takes its own."""
        name = order_of(command)
        if isinstance(command, Place):
            self._placed += 1
            lane = self._lanes[self._placed % len(self._lanes)]
            self._orders[name] = _Order(lane)
            if len(self._orders) > ORDERS_KNOWN_MAX:
                self._orders.popitem(last=False)
            return lane
        known = self._orders.get(name)
        return known.lane if known else self._lanes[0]

    def _order_id(self, command: FlowCommand) -> str:
        known = self._orders.get(order_of(command))
        return known.order_id if known else ""

    def _send(self, lane: _Lane, now_ns: int) -> None:
        """Send the lane's next request, if it is free and has one."""
        if lane.waiting or now_ns < lane.retry_ns:
            return
        if lane.request is None:
            lane.request = self._next_request(lane)
            if lane.request is None:
                return
        else:
            self.report.retries += 1
        request = lane.request
        request.sent_ns = now_ns
        try:
            lane.connection.send(request.method, request.path, request.headers, request.body)
            lane.waiting = True
        except OSError as fault:
            self._failed(lane, str(fault))

    def _next_request(self, lane: _Lane) -> _Request | None:
        queue = lane.queue
        # Whatever came before on this connection is answered, so a missing id is not just late.
        while queue and not isinstance(queue[0], Place) and not self._order_id(queue[0]):
            self._done(queue.popleft(), Outcome(SKIPPED))
        if not queue:
            return None
        if self._batch == 1:
            return self._json_request(queue.popleft())
        account = queue[0].account
        taken: list[FlowCommand] = []
        records: list[bytes] = []
        while queue and len(taken) < self._batch and queue[0].account == account:
            record = self._record_of(queue[0])
            if record is None:
                break  # It names an order of this very request, whose id is not known yet.
            records.append(record)
            taken.append(queue.popleft())
        headers = f"{self._authorization[account]}Content-Type: {RECORDS_TYPE}\r\n"
        return _Request("POST", f"{API}/orders/batch", headers, b"".join(records), taken)

    def _json_request(self, command: FlowCommand) -> _Request:
        headers = self._authorization[command.account] + "Content-Type: application/json\r\n"
        if isinstance(command, Place):
            body = msgspec.json.encode(command.order)
            return _Request("POST", f"{API}/orders", headers, body, [command])
        path = f"{API}/orders/{self._order_id(command)}"
        if isinstance(command, Cancel):
            return _Request("DELETE", path, self._authorization[command.account], b"", [command])
        change = {"quantity": command.quantity} | ({"price": command.price} if command.price else {})
        return _Request("PUT", path, headers, msgspec.json.encode(change), [command])

    def _record_of(self, command: FlowCommand) -> bytes | None:
        if isinstance(command, Place):
            return order_record(command.order)
        order_id = self._order_id(command)
        if not order_id:
            return None
        number = int(order_id.rpartition("-")[2])
        if isinstance(command, Cancel):
            return cancel_record(number)
        return replace_record(
            command.symbol, number, units_of(command.quantity), units_of(command.price or "0")
        )

    def _wait(self, coming: FlowCommand | None, now_ns: int) -> None:
        """Until an answer comes, a command is due or a request is to be sent again; take the answers."""
        waiting = [lane for lane in self._lanes if lane.waiting]
        moments = [lane.retry_ns for lane in self._lanes if lane.request and not lane.waiting]
        if coming is not None and (coming.at_ns > now_ns or not waiting):
            moments.append(coming.at_ns)
        moments += [lane.request.sent_ns + ANSWER_TIMEOUT_NS for lane in waiting if lane.request]
        # select, not epoll: its timeout counts microseconds, epoll's milliseconds.
        pause_s = max(min(moments, default=now_ns) - now_ns, 0) / 1e9
        ready, _, _ = select.select([lane.connection for lane in waiting], [], [], min(pause_s, 0.1))
        now_ns = time.monotonic_ns() - self._start_ns
        for lane in waiting:
            assert lane.request
            if lane.connection in ready:
                try:
                    response = lane.connection.receive()
                except OSError as fault:
                    self._failed(lane, str(fault))
                else:
                    self._answered(lane, response)
            elif now_ns - lane.request.sent_ns > ANSWER_TIMEOUT_NS:
                lane.connection.close()
                self._failed(lane, "it took too long")

    def _failed(self, lane: _Lane, why: str) -> None:
        """Plan to send the lane's request again."""
        now_ns = time.monotonic_ns() - self._start_ns
        lane.waiting = False
        if not lane.failures:
            lane.failing_since_ns = now_ns
        elif now_ns - lane.failing_since_ns > self._patience_ns:
            raise Unreachable(self._url, why, outcome_unknown=True)
        lane.retry_ns = now_ns + int(PAUSES_S[min(lane.failures, len(PAUSES_S) - 1)] * 1e9)
        lane.failures += 1

    def _answered(self, lane: _Lane, response: Response) -> None:
        request = lane.request
        assert request
        if response.status == RETRY_STATUS:
            self._failed(lane, "status 503")
            return
        lane.request, lane.waiting, lane.failures = None, False, 0
        self.report.requests += 1
        now_ns = time.monotonic_ns() - self._start_ns
        self.report.service.record(now_ns - request.sent_ns)
        for command, outcome in zip(request.commands, _outcomes(request, response), strict=True):
            self.report.latency.record(now_ns - command.at_ns)
            self._done(command, outcome)

    def _done(self, command: FlowCommand, outcome: Outcome) -> None:
        report = self.report
        if outcome.code == SKIPPED:
            report.skipped += 1
        else:
            report.sent += 1
            report.replayed += outcome.replayed
            if outcome.code:
                report.refusals[outcome.code] += 1
            else:
                report.accepted += 1
                report.statuses[outcome.status] += 1
                if isinstance(command, Place) and (known := self._orders.get(order_of(command))):
                    known.order_id = outcome.order_id
        self._record(command, outcome)


def order_record(order: OrderBody) -> bytes:
    """The binary form of an order."""
    return place_record(
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        time_in_force=order.time_in_force,
        quantity=units_of(order.quantity),
        price=units_of(order.price or "0"),
        stop_price=units_of(order.stop_price or "0"),
        display_quantity=units_of(order.display_quantity or "0"),
        post_only=order.post_only,
        client_order_id=order.client_order_id,
    )


def _outcomes(request: _Request, response: Response) -> list[Outcome]:
    """What became of each command of the request. Raises Refused where none can succeed any more."""
    if response.status < 400 and response.headers.get("content-type", "").startswith(RECORDS_TYPE):
        found = []
        for result in results(response.body):
            if result.code in HOPELESS and result.code:
                answer_of(Response(403, {}, b'{"code":%d}' % result.code))
            # A result has the number only; a batch names one shard, and records need no more.
            found.append(Outcome(result.code, result.status, str(result.order_id), result.replayed))
        return found
    try:
        answer = _answer.decode(response.body)
    except msgspec.MsgspecError:
        answer = _Answer()
    if response.status >= 400:
        if answer.code in HOPELESS:
            answer_of(response)
        return [Outcome(answer.code)] * len(request.commands)
    replayed = response.headers.get("idempotent-replay") == "true"
    return [Outcome(0, answer.status, answer.order_id, replayed)]
