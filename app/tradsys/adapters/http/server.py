"""The engine's HTTP server: one thread, one epoll, and a reply that waits for its journal.

A turn reads what has come, calls the application for every whole request, **commits**, and only then sends
the answers. So one write of the journal (in a durable venue: one sync) serves all orders of a turn, and
nothing is visible before it is journalled. The answers of a turn leave one right after another: on a
virtual machine each one that wakes a sleeping client costs the next order a cold processor, 20 to 40 µs.

Between turns the loop is the engine's: it spins (on a CPU that nobody else uses) or sleeps until something
comes. No threads, so signals are handled and timers run between two turns.

How a request is told from the next one, and what is refused there, is in `message.py`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import re
import resource
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from time import monotonic, perf_counter_ns
from typing import Any, Final, NamedTuple
from wsgiref.types import WSGIApplication

from tradsys.adapters.http.head import Head
from tradsys.adapters.http.message import (
    Chunks,
    Refused,
    head_too_large,
    read_head,
    refuse_early,
    too_large,
)

LISTENERS_MAX: Final = 4
"""Public, admin, ops, internal."""
SPARE_FILES: Final = 64
"""Descriptors kept for everything that is not a connection: journal, shared page, logs."""
REQUESTS_A_TURN: Final = 32
"""Of one connection; what else it has sent waits for the others' turn."""
ANSWERS_BYTES_A_TURN: Final = 256 << 10
"""Of one connection, and at most one answer more: so much may have to wait for who does not read."""
RELEASE_AFTER_NS: Final = 1_000_000
"""A turn that takes longer lets its first answers go, and takes one request of each who is left."""
HEADS_KEPT: Final = 1024
HEAD_KEPT_BYTES_MAX: Final = 4 << 10
"""Of each listener: 1,024 of the largest, with what they mean, are about 10 MiB."""
KNOWN_MAX: Final = 4
KNOWN_BYTES_MAX: Final = 1 << 10
"""Of each connection: what it sends again and again is kept with it, too."""
READ_BYTES: Final = 64 << 10
FIRST_READ_BYTES: Final = 8 << 10
"""Of who has nothing here that waits for more: nearly all requests, with a buffer that costs less."""
LINGER_S: Final = 1.0
"""How long a client that is refused may go on sending, so that it can read why."""

_log: Final = logging.getLogger("tradsys.http")


class Limits(NamedTuple):
    """What one client may take. A request over a limit is refused, or its connection is cut."""

    header_bytes_max: int = 16 << 10
    """The whole head of a request; 431."""
    headers_max: int = 64
    """Header fields of one request; 431."""
    body_bytes_max: int = 1 << 20
    """The largest body of any route; 413. What a route takes at most is the application's to say."""
    request_ms_max: int = 5_000
    """From the first byte of a request (or the connection) to its last; then the connection is cut."""
    idle_ms_max: int = 75_000
    """Between two requests of a connection."""
    unread_ms_max: int = 10_000
    """How long a client may leave an answer unread."""
    connections_max: int = 10_000
    """Open connections, over all listeners; above it the first listener hangs up on newcomers."""
    drain_ms_max: int = 800
    """From the wish to stop to the end, however slow the clients are."""


Direct = Callable[[dict[str, Any]], Callable[[bytes], tuple[str, bytes] | dict[str, Any]] | None]
"""Gets what a head means, and says who answers requests with that head without the application; None: nobody.

Who does is called with the body of each, and returns the status line with the headers and the body of the
answer, or what the application's environ must have besides: then the application answers after all.
"""


class Listener(NamedTuple):
    """An address, and the application that answers there."""

    host: str
    port: int
    app: WSGIApplication
    direct: Direct | None = None


class Turns:
    """How the loop spends its time, and what it cut off; plain counts, for whoever looks."""

    __slots__ = ("busy", "cut", "empty", "waited")

    def __init__(self) -> None:
        self.busy = self.empty = self.waited = 0
        self.cut = 0
        """Requests that did not come to their end in time."""


class _Connection:
    """One client: what it has sent that is not yet answered, and what it has not yet read."""

    __slots__ = (
        "address", "answers", "closing", "deadline", "door", "fd", "known", "needed", "pieces", "reading",
        "recv", "send", "size", "socket", "under_way", "unsent",
    )  # fmt: skip

    def __init__(self, client: socket.socket, address: str, door: _Door, deadline: float):
        self.socket = client
        self.fd = client.fileno()
        self.recv = client.recv
        self.send = client.send
        self.address = address
        self.door = door
        self.deadline = deadline
        """When it is cut, by `time.monotonic`; what it means depends on what is awaited."""
        self.pieces: list[bytes] = []
        """Received, and not yet a whole request."""
        self.size = 0
        self.needed = 0
        """So many bytes have to be here before it is worth looking again."""
        self.under_way: tuple[Head, Chunks] | None = None
        """A request whose body comes in chunks, the first of which are taken."""
        self.answers: list[bytes] = []
        """Of this turn; not sent before the commit."""
        self.unsent = b""
        self.known: dict[int, Head] = {}
        """Heads of its direct requests, by the size of the whole request. Clients send the same few again and
        again, and to compare one costs a twentieth of finding its end and looking it up."""
        self.reading = True
        """False: it has an answer to read first, or is only listened to until it ends."""
        self.closing = False
        """It is closed once its answers are out."""


class _Door:
    """A listener, and the heads that have come by it."""

    def __init__(self, listener: socket.socket, host: str, port: int, wanted: Listener):
        self.app = wanted.app
        self.direct = wanted.direct
        self.listener = listener
        self.fd = listener.fileno()
        self.heads: dict[bytes, Head] = {}
        self.constants: dict[str, Any] = {
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }


class Server:
    """Serves up to four listeners, each with its application, until it is told to stop."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        *,
        each_turn: Callable[[], None],
        commit: Callable[[], list[tuple[str, str]] | None] = lambda: None,
        spin: bool = False,
        limits: Limits | None = None,
        idle_wait_ms: int = 10,
        prefix: str = "",
        turns: Turns | None = None,
    ):
        """The public one is the first of `listeners`. A path below `prefix` means the same without it, which
        is how an ingress routes to one of several shards.

        `commit` makes good what the answers of a turn say. If it can't, nobody knows what became of them: it
        returns headers, with which all of them become 1001. `each_turn` runs after every turn, which is every
        microsecond when spinning, and at least every `idle_wait_ms` when not; what it raises ends `run`.
        """
        ports = [listener.port for listener in listeners]
        if not 1 <= len(listeners) <= LISTENERS_MAX or 0 in ports or len(set(ports)) < len(ports):
            raise ValueError(f"1 to {LISTENERS_MAX} listeners with different ports, not {listeners}")
        self._listeners = listeners
        self._each_turn = each_turn
        self._commit = commit
        self._spin = spin
        self._limits = limits or Limits()
        self._request_s = self._limits.request_ms_max / 1000
        self._idle_s = self._limits.idle_ms_max / 1000
        self._idle_wait_s = idle_wait_ms / 1000
        self._prefix = prefix
        self._turns = turns or Turns()
        self._connections: dict[int, _Connection] = {}
        self._doors: dict[int, _Door] = {}
        self._public = -1
        self._answered: list[_Connection] = []
        """With answers that wait for the commit."""
        self._unfinished: list[_Connection] = []
        """With requests that wait for the next turn."""
        self._turn_began_ns = 0
        self._watched: deque[_Connection] = deque()
        """Every connection, in the order in which its deadline is looked at."""
        self._next_watch = 0.0
        self._now = 0.0
        self._date_s = -1
        self._date = ""
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._shut: list[int] = []
        """Listeners that nobody is taken from for a moment: there are no descriptors."""
        self._stopping = False
        self._look_at_clock()

    def listen(self) -> None:
        """Bind all listeners; from here on clients can connect, and are answered once `run` is called.

        Raises OSError naming the address when it is taken.
        """
        limits = self._limits
        _allow_files(limits.connections_max + SPARE_FILES)
        self._epoll = select.epoll()
        for wanted in self._listeners:
            host, port = wanted.host, wanted.port
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            # Connections of an earlier engine that still linger are no obstacle; a listener is.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted connections inherit both. Without the second, one that never reads stays for ever.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.unread_ms_max)
            try:
                listener.bind((host, port))
                listener.listen(1024)
            except OSError as refusal:
                listener.close()
                self._close()
                raise OSError(refusal.errno, f"cannot listen on {host}:{port}: {refusal.strerror}") from None
            listener.setblocking(False)
            door = _Door(listener, host, port, wanted)
            self._doors[door.fd] = door
            self._epoll.register(door.fd, _READABLE)
            if self._public < 0:
                self._public = door.fd

    def run(self) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; then answer what has arrived, and return.

        Handles both signals meanwhile, so the main thread calls it. Raises what `each_turn` raises.
        """
        before = {number: signal.signal(number, self._on_signal) for number in _ENDING}
        try:
            while not self._stopping:
                self._turn(0 if self._spin or self._unfinished else self._idle_wait_s)
            self._drain()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._close()

    def stop(self) -> None:
        """Let `run` come to its end; from now on every answer is the last of its connection.

        May be called from the application and from a signal handler.
        """
        self._stopping = True

    @property
    def stopping(self) -> bool:
        return self._stopping

    def connections(self) -> int:
        """Open connections on all listeners."""
        return len(self._connections)

    # --- a turn -------------------------------------------------------------------------------------

    def _turn(self, wait_s: float) -> int:
        """One turn; how many sockets had something."""
        events = self._epoll.poll(wait_s, _EVENTS_A_TURN)
        if events or self._unfinished:
            self._turns.busy += 1
            self._look_at_clock()
            started = self._turn_began_ns = perf_counter_ns()
            if self._unfinished:
                unfinished, self._unfinished = self._unfinished, []
                went_on = set()
                for connection in unfinished:
                    if connection.reading and connection.pieces:
                        went_on.add(connection.fd)
                        self._answer_all(connection, b"")
                # Who has sent more than a turn takes is not read until that is answered, nor is its end.
                events = [event for event in events if event[0] not in went_on]
            for connection, data in self._received(events):
                self._answer_all(connection, data)
                if self._answered and perf_counter_ns() - started > RELEASE_AFTER_NS:
                    self._release()
                    started = perf_counter_ns()
            if self._answered:
                self._release()
        self._each_turn()
        if not events:
            if wait_s:
                self._turns.waited += 1
            else:
                self._turns.empty += 1
            self._look_at_clock()
        if self._now >= self._next_watch:
            self._watch()
        return len(events)

    def _look_at_clock(self) -> None:
        """What the time is for this turn, and as HTTP writes it."""
        self._now = monotonic()
        if int(self._now) != self._date_s:
            self._date_s = int(self._now)
            self._date = f"date: {formatdate(usegmt=True)}\r\n"

    def _received(self, events: Sequence[tuple[int, int]]) -> list[tuple[_Connection, bytes]]:
        """Take newcomers, send what waited, and read what each connection has to say.

        All of it before the first request is looked at: after a system call the processor has forgotten
        which way our code goes, so between two orders there is none.
        """
        received = []
        for fd, event in events:
            connection = self._connections.get(fd)
            if connection is None:
                self._accept(fd)
            elif event & _WRITABLE:
                self._send(connection)
            else:
                try:
                    data = connection.recv(READ_BYTES if connection.pieces else FIRST_READ_BYTES)
                except (BlockingIOError, InterruptedError):
                    continue
                except OSError:
                    data = b""
                if not data:
                    self._drop(connection)
                elif connection.reading:
                    received.append((connection, data))
        return received

    def _answer_all(self, connection: _Connection, data: bytes) -> None:
        """Answer the whole requests among what has come; keep the rest."""
        pieces = connection.pieces
        if not pieces and connection.under_way is None and not connection.closing:
            # Nearly always: one whole request, with a head that has come before, to be answered directly.
            known = connection.known.get(len(data))
            if known is None or not data.startswith(known.raw):
                known = _known(connection, data)
            if known is not None:
                self._call(connection, known, data[len(known.raw) :])
                connection.deadline = self._now + self._idle_s
                self._answered.append(connection)
                return
        if pieces:
            pieces.append(data)
            connection.size += len(data)
            if connection.size < connection.needed:
                return
            data = b"".join(pieces)
            pieces.clear()
        elif connection.under_way is None:
            connection.deadline = self._now + self._request_s
        start = count = size = 0
        try:
            while start < len(data) and not connection.closing:
                if count and (
                    count == REQUESTS_A_TURN
                    or size > ANSWERS_BYTES_A_TURN
                    or perf_counter_ns() - self._turn_began_ns > RELEASE_AFTER_NS
                ):
                    connection.needed = 0
                    self._unfinished.append(connection)
                    break
                start, whole = self._answer_one(connection, data, start)
                if not whole:
                    break
                count += 1
                if connection.answers:
                    size += len(connection.answers[-1])
                connection.deadline = self._now + self._request_s
        except Refused as refused:
            self._refuse(connection, refused)
        if start < len(data) and not connection.closing:
            pieces.append(data[start:])
            connection.size = len(data) - start
        elif connection.under_way is None:
            connection.deadline = self._now + self._idle_s
        if connection.answers:
            self._answered.append(connection)

    def _answer_one(self, connection: _Connection, data: bytes, start: int) -> tuple[int, bool]:
        """Call the application for the request that begins at `start`, if all of it is here.

        Returns how far `data` is used up, and whether a request ended there. Raises Refused.
        """
        if connection.under_way is not None:
            head, chunks = connection.under_way
            return self._take_chunks(connection, head, chunks, data, start)
        if data[start : start + 2] == b"\r\n":
            # Empty lines before a request are tolerated, as RFC 9112 (2.2) asks.
            return start + 2, True
        head_end = data.find(_HEAD_END, start) + 4
        if head_end < 4:
            # Before any slice: compiled, one whose end is before its start is an error, not empty.
            self._await_head(connection, data[start:])
            return start, False
        raw = data[start:head_end]
        known = connection.door.heads.get(raw)
        if known is None:
            known = self._head(connection, raw)
        if known.length < 0:
            return self._take_chunks(connection, known, Chunks(self._limits.body_bytes_max), data, head_end)
        end = head_end + known.length
        if end > len(data):
            if known.expects_100:
                self._ask_for_body(connection)
            connection.needed = end - start
            return start, False
        self._call(connection, known, data[head_end:end])
        return end, True

    def _take_chunks(
        self, connection: _Connection, head: Head, chunks: Chunks, data: bytes, start: int
    ) -> tuple[int, bool]:
        end = chunks.take(data, start)
        if chunks.done:
            connection.under_way = None
            self._call(connection, head, chunks.body)
            return end, True
        if head.expects_100 and connection.under_way is None:
            self._ask_for_body(connection)
        connection.under_way = head, chunks
        connection.needed = chunks.needed
        return end, False

    def _ask_for_body(self, connection: _Connection) -> None:
        """A client that expects 100 gets it, unless other answers go first: then it sends after a while."""
        if not connection.answers and not connection.unsent:
            with contextlib.suppress(OSError):
                connection.send(_CONTINUE)

    def _await_head(self, connection: _Connection, beginning: bytes) -> None:
        if len(beginning) > self._limits.header_bytes_max:
            raise head_too_large()
        refuse_early(beginning)
        connection.needed = 0

    def _head(self, connection: _Connection, raw: bytes) -> Head:
        limits = self._limits
        if len(raw) > limits.header_bytes_max:
            raise head_too_large()
        door = connection.door
        head = read_head(raw, door.constants, limits.headers_max)
        path = head.environ["PATH_INFO"]
        if self._prefix and path.startswith(self._prefix + "/"):
            head.environ["PATH_INFO"] = path[len(self._prefix) :]
        if head.length > limits.body_bytes_max:
            raise too_large(limits.body_bytes_max)
        if door.direct is not None and head.keep_alive and head.is_http_11:
            head.direct = door.direct(head.environ)
        if len(raw) <= HEAD_KEPT_BYTES_MAX:
            if len(door.heads) >= HEADS_KEPT:
                door.heads.clear()
            door.heads[raw] = head
        return head

    # --- answers ------------------------------------------------------------------------------------

    def _call(self, connection: _Connection, head: Head, request_body: bytes) -> None:
        more: dict[str, Any] = {}
        if head.direct is not None and not self._stopping:
            found = head.direct(request_body)
            if isinstance(found, tuple):
                connection.answers.append(f"{found[0]}{self._date}\r\n".encode("latin-1") + found[1])
                return
            more = found
        environ = head.environ | more
        environ["REMOTE_ADDR"] = connection.address
        environ["wsgi.input"] = io.BytesIO(request_body)
        if head.length < 0:
            environ["CONTENT_LENGTH"] = str(len(request_body))
        try:
            pieces = connection.door.app(environ, self._start_response)
            content = b"".join(pieces)
            if hasattr(pieces, "close"):
                pieces.close()
        except Exception:
            _log.exception("a request failed outside the framework")
            self._status, self._headers = _UNKNOWN_STATUS, _JSON
            content = _UNKNOWN_BODY
        if not head.keep_alive or self._stopping or _CLOSE in environ:
            connection.closing = True
        connection.answers.append(self._framed(head, connection.closing, content))

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        self._status, self._headers = status, headers
        return _no_write

    def _framed(self, head: Head, closing: bool, content: bytes) -> bytes:
        """The whole answer: status line, the application's headers, ours, the body."""
        status = self._status
        headers = "".join([f"{name}: {value}\r\n" for name, value in self._headers])
        bodiless = status.startswith(("204", "304"))
        if "content-length: " not in headers and not bodiless:
            headers += f"content-length: {len(content)}\r\n"
        connection = _CONNECTION[closing, head.is_http_11]
        top = f"HTTP/1.1 {status}\r\n{headers}{self._date}{connection}\r\n".encode("latin-1")
        return top if bodiless or head.is_head else top + content

    def _refuse(self, connection: _Connection, refused: Refused) -> None:
        """Say what is wrong, read on for a moment so that it can be heard, and close."""
        self._status, self._headers = refused.status, _JSON
        body = b'{"code":1002,"message":"%b","details":{},"request_id":""}' % refused.reason.encode()
        connection.closing = True
        connection.pieces.clear()
        connection.answers.append(self._framed(_NO_HEAD, True, body))

    def _unknown(self, answer: bytes, headers: list[tuple[str, str]]) -> bytes:
        """What is said instead of `answer` if its commit failed."""
        self._status, self._headers = _UNKNOWN_STATUS, [*_JSON, *headers]
        request_id = _REQUEST_ID.search(answer)
        body = _UNKNOWN_BODY
        if request_id is not None:
            self._headers.append(("x-request-id", request_id[1].decode("latin-1")))
            body = body.replace(b'"request_id":""', b'"request_id":"%b"' % request_id[1])
        return self._framed(_NO_HEAD, True, body)

    def _release(self) -> None:
        """Commit, then send what waits for it."""
        answered, self._answered = self._answered, []
        failed = self._commit()
        for connection in answered:
            answers = connection.answers
            if not answers:
                continue  # It is gone, or was answered as one that stands here twice.
            if failed is not None:
                answers[:] = [self._unknown(answer, failed) for answer in answers]
                connection.closing = True
            if connection.unsent:
                answers.insert(0, connection.unsent)
            connection.unsent = answers[0] if len(answers) == 1 else b"".join(answers)
            answers.clear()
            self._send(connection)

    def _send(self, connection: _Connection) -> None:
        """As much as the client takes; the rest when it can take more."""
        data = connection.unsent
        try:
            sent = connection.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._drop(connection)
            return
        if sent == len(data):
            connection.unsent = b""
            if connection.closing:
                self._close_softly(connection)
            elif not connection.reading:
                connection.reading = True
                self._epoll.modify(connection.fd, _READABLE)
                self._unfinished.append(connection)
        else:
            connection.unsent = data[sent:]
            connection.deadline = self._now + self._limits.unread_ms_max / 1000
            if connection.reading:
                # Nothing more is read from who does not read.
                connection.reading = False
                self._epoll.modify(connection.fd, _WRITABLE)

    # --- connections --------------------------------------------------------------------------------

    def _accept(self, fd: int) -> None:
        door = self._doors.get(fd)
        if door is None:
            return  # Closed by what happened earlier in this turn.
        for _ in range(_ACCEPTS_A_TURN):
            try:
                client, address = door.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    # Looked at again with the deadlines: until then nobody who has to wait costs a turn.
                    self._epoll.unregister(fd)
                    self._shut.append(fd)
                    return
                continue  # The client is gone already.
            if len(self._connections) >= self._limits.connections_max and fd == self._public:
                # Not RLIMIT_NOFILE, which would stop the journal's files and the health checks as well: a
                # flood of clients keeps out neither the operator nor the kill switch.
                client.close()
                continue
            client.setblocking(False)
            deadline = self._now + self._request_s
            connection = _Connection(client, f"{address[0]}:{address[1]}", door, deadline)
            self._connections[connection.fd] = connection
            self._watched.append(connection)
            self._epoll.register(connection.fd, _READABLE)

    def _drop(self, connection: _Connection) -> None:
        """Forget it. What it has not read is lost; what it has asked for is done."""
        if self._connections.pop(connection.fd, None) is not None:
            connection.pieces.clear()
            connection.answers.clear()
            connection.closing = True
            connection.socket.close()

    def _close_softly(self, connection: _Connection) -> None:
        """Nothing more is said; what still comes is read, so that the answer is not lost by a reset."""
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        connection.reading = False
        connection.deadline = self._now + LINGER_S
        with contextlib.suppress(OSError):
            self._epoll.modify(connection.fd, _READABLE)

    def _watch(self) -> None:
        """Look at some of the deadlines; all of them are looked at well within the shortest one."""
        self._next_watch = self._now + _WATCH_S
        for fd in self._shut:
            self._epoll.register(fd, _READABLE)
        self._shut.clear()
        watched = self._watched
        shortest_s = min(self._limits.request_ms_max, self._limits.idle_ms_max, 1000) / 1000
        for _ in range(1 + int(len(watched) * 2 * _WATCH_S / shortest_s)):
            if not watched:
                break
            connection = watched.popleft()
            if self._connections.get(connection.fd) is not connection:
                continue
            if self._now > connection.deadline:
                self._turns.cut += bool(connection.pieces or connection.under_way)
                self._drop(connection)
            else:
                watched.append(connection)

    def _drain(self) -> None:
        """Take no new connections, answer what has come or is coming, each connection's last."""
        deadline = monotonic() + self._limits.drain_ms_max / 1000
        for door in self._doors.values():
            door.listener.close()
        self._doors.clear()
        self._shut.clear()
        while self._connections and monotonic() < deadline:
            # Idle connections can't be told from half a request; silence for a while ends both.
            if not self._turn(_SILENCE_S) and not self._unfinished:
                break

    def _close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        for door in self._doors.values():
            door.listener.close()
        self._epoll.close()

    def _on_signal(self, number: int, frame: object) -> None:
        self.stop()


_READABLE: Final = select.EPOLLIN
_WRITABLE: Final = select.EPOLLOUT
_HEAD_END: Final = b"\r\n\r\n"
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_SILENCE_S: Final = 0.1
_WATCH_S: Final = 0.05
_ACCEPTS_A_TURN: Final = 64
_EVENTS_A_TURN: Final = 256
_CLOSE: Final = "tradsys.close"
_CONNECTION: Final = {
    (True, True): "connection: close\r\n",
    (True, False): "connection: close\r\n",
    (False, True): "",
    (False, False): "connection: keep-alive\r\n",
}
"""What an answer says, by (closing, HTTP/1.1)."""
_JSON: Final = [("content-type", "application/json")]
_UNKNOWN_STATUS: Final = f"503 {HTTPStatus.SERVICE_UNAVAILABLE.phrase}"
_UNKNOWN_BODY: Final = b'{"code":1001,"message":"the outcome is unknown","details":{},"request_id":""}'
_REQUEST_ID: Final = re.compile(rb"\r\nx-request-id: ([A-Za-z0-9._:-]+)\r\n", re.IGNORECASE)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_HEAD: Final = Head(b"", {}, 0, False, True, False, False)


def close_after_answer(environ: dict[str, Any], set_header: Callable[[str, str], None]) -> None:
    """End this connection once its answer is out: the application's `Connection: close`."""
    environ[_CLOSE] = True


def _known(connection: _Connection, data: bytes) -> Head | None:
    """The head of `data` if it has come before and this is one whole request, to be answered directly."""
    head_end = data.find(_HEAD_END) + 4
    known = connection.door.heads.get(data[:head_end])
    if known is None or known.direct is None or head_end + known.length != len(data):
        return None
    if head_end <= KNOWN_BYTES_MAX:
        if len(connection.known) >= KNOWN_MAX:
            connection.known.clear()
        connection.known[len(data)] = known
    return known


def _no_write(data: bytes) -> object:
    raise NotImplementedError("the application answers with an iterable")


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise ValueError(f"{count} open files are needed for the connections, the system allows {hard}")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
