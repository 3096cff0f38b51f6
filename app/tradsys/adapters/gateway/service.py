"""OrderService: each call is checked like a request to REST, and becomes a record in the next batch.

A refusal ends a call with a gRPC status and the venue's own code in its details; in the stream `Trade` it is
an outcome among the others. What was handed over and not answered is unknown (1001), never refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableSequence
from time import monotonic, perf_counter_ns
from typing import Any, NoReturn, Protocol
from urllib.parse import quote, urlencode

import grpc
import msgspec
from msgspec import Struct

from tradsys import metrics
from tradsys.adapters.gateway.events import Events
from tradsys.adapters.gateway.routes import Answer, Routes, Shard
from tradsys.codec import grpc_v1 as g
from tradsys.codec.binary_v1 import SENDER
from tradsys.codec.errors import (
    ERRORS,
    FORBIDDEN,
    INVALID_REQUEST,
    INVALID_TOKEN,
    NOT_LEADER,
    PROCESSING_FAILED,
    RATE_LIMITED,
    UNAUTHORIZED,
    ErrorBody,
    Problem,
)
from tradsys.codec.json_v1 import OrderReply, client_order_id_of
from tradsys.core.messages import NO_SUCH_ORDER, STATUS_WORDS
from tradsys.v1 import orders_pb2 as pb
from tradsys.venue.calling import CALL
from tradsys.venue.ports import READ, TRADE, Authenticator, Busy, Identity, Unauthorized

POSITION_S = 1.0
"""How often a quiet stream of events says where it stands."""
ANSWERS_MAX = 32
"""Messages of one `Trade` stream whose answers are not out; then no more are read."""

Answers = asyncio.Queue[asyncio.Task[pb.TradeResponse] | Problem | None]
"""Of a `Trade` stream, in the order of its messages; a problem or None ends it."""
Context = grpc.aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str | bytes], ...]

_log = logging.getLogger("tradsys.gateway")
_ORDER = msgspec.json.Decoder(OrderReply)
_ERROR = msgspec.json.Decoder(ErrorBody)
_STATUSES = {status.name: status for status in grpc.StatusCode}


class _OrderPage(Struct):
    items: list[OrderReply]
    next_cursor: str | None


_PAGE = msgspec.json.Decoder(_OrderPage)


class Verdict(Protocol):
    @property
    def retry_after_s(self) -> int: ...


class Limiter(Protocol):
    def take(self, account: str, now_ns: int) -> Verdict:
        """Whether one more request of the account may pass at a monotonic time."""


class OrderService:
    def __init__(
        self,
        routes: Routes,
        authenticator: Authenticator,
        clock: Callable[[], int],
        words: MutableSequence[int],
        *,
        events: Mapping[str, Events],
        limiter: Limiter | None = None,
        client_names: frozenset[str] = frozenset(),
    ) -> None:
        """`clock` gives unix nanoseconds, by which tokens end. `events` are by shard; one whose journal
        nobody tells has none. `client_names`: of client certificates; empty: any that the server's
        authority has signed."""
        self._routes = routes
        self._authenticator = authenticator
        self._clock = clock
        self._words = words
        self._events = events
        self._limiter = limiter
        self._client_names = client_names
        self._readers: set[asyncio.Task[None]] = set()
        self._stopping = False

    def handlers(self) -> grpc.GenericRpcHandler:
        """All methods of the service, for a server."""
        unary = grpc.unary_unary_rpc_method_handler
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: unary(
                self._unary(name, needed, handle),
                request_deserializer=request.FromString,
                response_serializer=reply.SerializeToString,
            )
            for name, needed, handle, request, reply in (
                ("PlaceOrder", TRADE, self._place, pb.PlaceOrderRequest, pb.OrderResult),
                ("CancelOrder", TRADE, self._cancel, pb.CancelOrderRequest, pb.OrderResult),
                ("ReplaceOrder", TRADE, self._replace, pb.ReplaceOrderRequest, pb.OrderResult),
                ("GetOrder", READ, self._get, pb.GetOrderRequest, pb.Order),
                ("ListOrders", READ, self._list, pb.ListOrdersRequest, pb.ListOrdersResponse),
            )
        }
        methods["Trade"] = grpc.stream_stream_rpc_method_handler(
            self._stream("Trade", self._trade),
            request_deserializer=pb.TradeRequest.FromString,
            response_serializer=pb.TradeResponse.SerializeToString,
        )
        methods["StreamEvents"] = grpc.unary_stream_rpc_method_handler(
            self._stream("StreamEvents", self._stream_events),
            request_deserializer=pb.StreamEventsRequest.FromString,
            response_serializer=pb.StreamEventsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(g.SERVICE, methods)

    def stop(self) -> None:
        """End the streams: what has been read is answered, nothing more is read."""
        self._stopping = True
        for events in self._events.values():
            events.wake()
        for reader in self._readers:
            reader.cancel()

    # --- every call ---------------------------------------------------------------------------------

    def _unary(
        self, name: str, needed: int, handle: Callable[[Any, Identity, str], Awaitable[Any]]
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        words, duration = self._words, metrics.GATEWAY_DURATION.series(name)
        done = metrics.GATEWAY_CALLS.word(name, "OK")

        async def call(request: Any, context: Context) -> Any:
            began = perf_counter_ns()
            bearer = ""
            try:
                who, bearer = self._caller(context, needed)
                reply = await handle(request, who, bearer)
            except Exception as fault:
                await self._end(name, context, fault)
            finally:
                duration.observe(words, perf_counter_ns() - began)
            words[done] += 1
            return reply

        return call

    def _stream(
        self, name: str, serve: Callable[[Any, Context], Awaitable[None]]
    ) -> Callable[[Any, Context], Awaitable[None]]:
        words, opened = self._words, metrics.GATEWAY_STREAMS.word(name)
        done = metrics.GATEWAY_CALLS.word(name, "OK")

        async def call(request: Any, context: Context) -> None:
            words[opened] += 1
            try:
                await serve(request, context)
                words[done] += 1
            except Exception as fault:
                await self._end(name, context, fault)
            finally:
                words[opened] -= 1

        return call

    def _caller(self, context: Context, needed: int) -> tuple[Identity, str]:
        """Who calls, and the Authorization value. Raises Problem: 2001, 2002, 2003, 1020, 3029."""
        who, bearer = self._known_caller(context, needed)
        if self._limiter is not None:
            retry_after_s = self._limiter.take(who.account, perf_counter_ns()).retry_after_s
            if retry_after_s:
                raise Problem(RATE_LIMITED, retry_after_s=retry_after_s)
        return who, bearer

    def _known_caller(self, context: Context, needed: int) -> tuple[Identity, str]:
        """As `_caller`, where nothing new is asked for."""
        if self._client_names:
            self._check_certificate(context)
        given = [value for key, value in _metadata(context) if key == "authorization"]
        if len(given) > 1:
            raise Problem(INVALID_TOKEN)
        bearer = str(given[0]) if given else None
        who = self._authenticator.verify(bearer, self._clock())
        if isinstance(who, Unauthorized):
            raise Problem(UNAUTHORIZED if who.code == UNAUTHORIZED else INVALID_TOKEN)
        if isinstance(who, Busy):
            raise Problem(
                NOT_LEADER, "too many new tokens at once; try again", retry_after_s=who.retry_after_s
            )
        if not who.scopes & needed:
            raise Problem(FORBIDDEN, "the token's scope does not allow this")
        assert bearer is not None
        return who, bearer

    def _check_certificate(self, context: Context) -> None:
        names = context.auth_context().get("x509_subject_alternative_name", ())
        if not any(name.decode("utf-8", "replace") in self._client_names for name in names):
            raise Problem(FORBIDDEN, "the client certificate's name is not on the list")

    async def _end(self, name: str, context: Context, fault: Exception) -> NoReturn:
        """End a call with the status of a problem; no other exception's text leaves the process."""
        if isinstance(fault, Problem):
            problem = fault
        elif isinstance(fault, grpc.aio.BaseError | grpc.aio.UsageError):
            # The client has gone; there is nobody to tell.
            raise fault
        else:
            _log.error("a call of %s failed", name, exc_info=fault)
            problem = Problem(PROCESSING_FAILED)
        status = _STATUSES[g.STATUS_NAMES[problem.code]]
        self._words[metrics.GATEWAY_CALLS.word(name, status.name)] += 1
        called = CALL.get()
        assert called is not None, "Calls has named it"
        details = g.status_details(problem, called.request_id)
        # What was set before is not sent along.
        await context.abort(
            status, problem.message, ((g.DETAILS_KEY, details), ("x-request-id", called.request_id))
        )
        raise AssertionError("abort raises")

    # --- commands -----------------------------------------------------------------------------------

    async def _place(self, order: pb.PlaceOrderRequest, who: Identity, bearer: str) -> pb.OrderResult:
        record = g.place_record(order)
        shard = self._routes.of_symbol(order.symbol) or await self._routes.find(order.symbol)
        result = await self._handed(shard, who, record)
        other = await self._routes.refused(result[0], order.symbol, shard) if result[0] else None
        if other is not None:
            shard, result = other, await self._handed(other, who, record)
        return g.result_of(result, shard.name)

    async def _cancel(self, asked: pb.CancelOrderRequest, who: Identity, bearer: str) -> pb.OrderResult:
        shard, number = self._routes.of_order(asked.order_id)
        return g.result_of(await self._handed(shard, who, g.cancel_record(number)), shard.name)

    async def _replace(self, change: pb.ReplaceOrderRequest, who: Identity, bearer: str) -> pb.OrderResult:
        shard, number = self._routes.of_order(change.order_id)
        return g.result_of(await self._handed(shard, who, g.replace_record(change, number)), shard.name)

    async def _handed(self, shard: Shard, who: Identity, record: bytes) -> tuple[int, ...]:
        self._check_known(shard)
        sender = SENDER.pack(who.account.encode(), who.scopes)
        (result,) = await shard.commands.submit(sender + record, 1)
        return result

    def _check_known(self, shard: Shard) -> None:
        """Raises Problem 1020 as long as it is not known which tokens a shard has revoked."""
        events = self._events.get(shard.name)
        if events is not None and not events.known:
            raise Problem(NOT_LEADER, "the shard's feed is away; try again", retry_after_s=1)

    # --- reads --------------------------------------------------------------------------------------

    async def _get(self, asked: pb.GetOrderRequest, who: Identity, bearer: str) -> pb.Order:
        if asked.WhichOneof("by") == "client_order_id":
            key = client_order_id_of(asked.client_order_id)
            missing = Problem(NO_SUCH_ORDER)
            for shard in self._routes.shards:
                try:
                    return await self._order(shard, f"/orders/by-client/{key}", bearer)
                except Problem as problem:
                    # A shard that is away may have it; that is said only if no other one has.
                    if problem.code == NOT_LEADER:
                        missing = problem
                    elif problem.status != 404:
                        raise
            raise missing
        shard, number = self._routes.of_order(asked.order_id)
        return await self._order(shard, f"/orders/{shard.name}-{number}", bearer)

    async def _order(self, shard: Shard, path: str, bearer: str) -> pb.Order:
        return g.order_of(_ORDER.decode(_body(await shard.reads.get(f"/api/v1{path}", bearer))))

    async def _list(self, asked: pb.ListOrdersRequest, who: Identity, bearer: str) -> pb.ListOrdersResponse:
        query: dict[str, str] = {}
        if asked.symbol:
            query["symbol"] = asked.symbol
        if asked.status:
            if asked.status not in STATUS_WORDS:
                raise Problem(INVALID_REQUEST, "status is one of OrderStatus", {"field": "status"})
            query["status"] = STATUS_WORDS[asked.status]
        if asked.limit:
            query["limit"] = str(asked.limit)
        # With several shards a page is one shard's, and the cursor says whose.
        shard_name, _, cursor = asked.cursor.rpartition("/")
        shards = self._routes.shards
        names = [shard.name for shard in shards]
        if asked.symbol and len(shards) > 1:
            shards = (self._routes.of_symbol(asked.symbol) or await self._routes.find(asked.symbol),)
            names = [shards[0].name]
        if shard_name and shard_name not in names:
            raise Problem(
                INVALID_REQUEST, "cursor is a next_cursor of an earlier answer", {"field": "cursor"}
            )
        at = names.index(shard_name) if shard_name else 0
        if cursor:
            query["cursor"] = cursor
        target = "/api/v1/orders" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        page = _PAGE.decode(_body(await shards[at].reads.get(target, bearer)))
        if page.next_cursor is not None:
            following = f"{names[at]}/{page.next_cursor}"
        else:
            following = f"{names[at + 1]}/" if at + 1 < len(shards) else ""
        return pb.ListOrdersResponse(
            orders=[g.order_of(reply) for reply in page.items], next_cursor=following
        )

    # --- Trade --------------------------------------------------------------------------------------

    async def _trade(self, _: object, context: Context) -> None:
        self._caller(context, TRADE)
        answers: Answers = asyncio.Queue()
        room = asyncio.Semaphore(ANSWERS_MAX)
        reader = asyncio.create_task(self._read_commands(context, answers, room))
        self._readers.add(reader)
        sent = metrics.GATEWAY_STREAM_MESSAGES.word("Trade", "out")
        try:
            if self._stopping:
                reader.cancel()
            while (answer := await answers.get()) is not None:
                if isinstance(answer, Problem):
                    raise answer
                await context.write(await answer)
                room.release()
                self._words[sent] += 1
        finally:
            self._readers.discard(reader)
            reader.cancel()

    async def _read_commands(self, context: Context, answers: Answers, room: asyncio.Semaphore) -> None:
        received = metrics.GATEWAY_STREAM_MESSAGES.word("Trade", "in")
        end: Problem | None = None
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                self._words[received] += 1
                # Again with each message: tokens end and are revoked.
                who, _ = self._caller(context, TRADE)
                if len(request.commands) > g.COMMANDS_MAX:
                    raise Problem(INVALID_REQUEST, f"a message has at most {g.COMMANDS_MAX} commands")
                await room.acquire()
                answers.put_nowait(await self._hand_over(request, who))
        except Problem as problem:
            end = problem
        except asyncio.CancelledError:
            end = Problem(NOT_LEADER, "shutting down", retry_after_s=1)
        except Exception as fault:
            if not isinstance(fault, grpc.aio.BaseError):
                _log.exception("a Trade stream failed")
            end = Problem(PROCESSING_FAILED)
        answers.put_nowait(end)

    async def _hand_over(self, request: pb.TradeRequest, who: Identity) -> asyncio.Task[pb.TradeResponse]:
        """Hand a message's commands over, each shard's together; the answer comes later."""
        sender = SENDER.pack(who.account.encode(), who.scopes)
        places: list[tuple[Shard, int] | Problem] = []
        records: dict[Shard, list[bytes]] = {}
        for command in request.commands:
            try:
                shard, record = await self._record(command)
            except Problem as problem:
                places.append(problem)
                continue
            mine = records.setdefault(shard, [])
            places.append((shard, len(mine)))
            mine.append(sender + record)
        results: dict[Shard, asyncio.Future[list[tuple[int, ...]]] | Problem] = {}
        for shard, mine in records.items():
            try:
                self._check_known(shard)
                results[shard] = shard.commands.submit(b"".join(mine), len(mine))
            except Problem as problem:
                results[shard] = problem
        return asyncio.create_task(_response(places, results))

    async def _record(self, command: pb.Command) -> tuple[Shard, bytes]:
        """Raises Problem."""
        which = command.WhichOneof("command")
        if which == "place":
            record = g.place_record(command.place)
            symbol = command.place.symbol
            return self._routes.of_symbol(symbol) or await self._routes.find(symbol), record
        if which == "cancel":
            shard, number = self._routes.of_order(command.cancel.order_id)
            return shard, g.cancel_record(number)
        if which == "replace":
            shard, number = self._routes.of_order(command.replace.order_id)
            return shard, g.replace_record(command.replace, number)
        raise Problem(INVALID_REQUEST, "a command is place, cancel or replace")

    # --- StreamEvents -------------------------------------------------------------------------------

    async def _stream_events(self, asked: pb.StreamEventsRequest, context: Context) -> None:
        who, _ = self._caller(context, READ)
        names = [shard.name for shard in self._routes.shards]
        # Numbers and epochs are a shard's own, so a stream is, too.
        name = asked.shard or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise Problem(INVALID_REQUEST, f"shard is one of {', '.join(names)}", {"field": "shard"})
        events = self._events.get(name)
        if events is None:
            self._words[metrics.GATEWAY_CALLS.word("StreamEvents", "UNIMPLEMENTED")] += 1
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, "this gateway has no journal; use the WebSocket channel orders"
            )
        assert events is not None
        # What the client knows of already has happened, for its stream too.
        await events.caught_up()
        if who.account not in events.accounts:
            raise Problem(FORBIDDEN, "the token's account does not exist here")
        from_seq = asked.from_seq if asked.HasField("from_seq") else None
        listener, gap = events.listen(who.account, from_seq, asked.epoch)
        sent = metrics.GATEWAY_STREAM_MESSAGES.word("StreamEvents", "out")
        try:
            start = events.position(gap=gap)
            if from_seq is not None and not gap:
                # What comes next is what the client has missed.
                start.seq = from_seq
            await context.write(pb.StreamEventsResponse(position=start))
            position_due = monotonic() + POSITION_S
            while True:
                while listener.unread and not listener.too_slow and monotonic() < position_due:
                    event = events.message_of(listener.unread.popleft())
                    await context.write(pb.StreamEventsResponse(event=event))
                    self._words[sent] += 1
                if listener.too_slow:
                    raise Problem(
                        RATE_LIMITED, "events were not read; resume with from_seq and epoch", retry_after_s=1
                    )
                if self._stopping:
                    raise Problem(NOT_LEADER, "shutting down", retry_after_s=1)
                is_due = monotonic() >= position_due
                if is_due:
                    self._known_caller(context, READ)
                    position_due = monotonic() + POSITION_S
                if listener.unread:
                    continue
                if listener.gap or is_due:
                    # With a new epoch some of what was sent may have been taken back.
                    moved = events.position(gap=listener.gap)
                    listener.gap = False
                    await context.write(pb.StreamEventsResponse(position=moved))
                    continue
                listener.news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(listener.news.wait(), max(0.0, position_due - monotonic()))
        finally:
            events.leave(listener)


async def _response(
    places: list[tuple[Shard, int] | Problem],
    results: dict[Shard, asyncio.Future[list[tuple[int, ...]]] | Problem],
) -> pb.TradeResponse:
    """The outcomes of one message, as soon as all are there."""
    known: dict[Shard, list[tuple[int, ...]] | Problem] = {}
    for shard, pending in results.items():
        if isinstance(pending, Problem):
            known[shard] = pending
            continue
        try:
            known[shard] = await pending
        except Problem as problem:
            known[shard] = problem
    response = pb.TradeResponse()
    for place in places:
        outcome = response.outcomes.add()
        try:
            if isinstance(place, Problem):
                raise place
            shard, index = place
            found = known[shard]
            if isinstance(found, Problem):
                raise found
            outcome.order.CopyFrom(g.result_of(found[index], shard.name))
        except Problem as problem:
            outcome.error.code = problem.code
            outcome.error.message = problem.message
    return response


def _metadata(context: Context) -> Metadata:
    metadata: Any = context.invocation_metadata()
    return tuple(metadata or ())


def _body(answer: Answer) -> bytes:
    """The body of a good answer. Raises Problem: the one that REST gave."""
    if answer.status == 200:
        return answer.body
    try:
        error = _ERROR.decode(answer.body)
    except msgspec.MsgspecError:
        raise Problem(NOT_LEADER, "no answer from the venue; try again", retry_after_s=1) from None
    if error.code not in ERRORS:
        raise Problem(PROCESSING_FAILED)
    if error.code == PROCESSING_FAILED:
        # Nothing was to be changed, so nothing is unknown.
        raise Problem(NOT_LEADER, "the read failed; try again", retry_after_s=1)
    raise Problem(error.code, error.message, error.details, status=answer.status)
