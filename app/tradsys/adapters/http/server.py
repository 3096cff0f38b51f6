"""The engine's HTTP server: fastpysgi, turned by a loop that the engine owns.

fastpysgi is llhttp and libuv behind a WSGI call. Left to run by itself it holds the interpreter while it
waits, so that no signal is handled and no timer of ours runs. Here one turn is one poll: read what has
come, call the application, write the answers, and return. Between turns the loop is ours.

When nothing has come, the loop spins (on a CPU that nobody else uses) or sleeps. For sleeping libuv has
a protocol for whoever embeds it: `uv_backend_fd` is a descriptor that becomes readable when a turn has
work, and `uv_backend_timeout` says for how long one may wait on it; 0 means not at all, since a turn
has to be taken first. Both are asked through ctypes, because fastpysgi does not pass them on.

What fastpysgi does not do, and HTTP or the promises ask for, is done in `guarded`, at well under a
microsecond a request. Its habits that matter are written there; they belong to version 0.6, which is pinned.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

import _fastpysgi
import fastpysgi
from msgspec import Struct

LISTENERS_MAX = 4
"""What fastpysgi has room for."""

SPARE_FILES = 64
"""Descriptors kept for everything that is not a connection: journal, shared page, logs."""

_SILENT = 1000
"""fastpysgi's log level for "nothing, and not even the line at the start"; it would not be JSON."""

_log = logging.getLogger("tradsys.http")


class Limits(Struct, frozen=True):
    """What one client may take. A request over a limit is refused, or its connection is cut."""

    header_bytes_max: int = 16 << 10
    """Path, query and header values together; 431."""
    headers_max: int = 64
    """Header fields of one request; 431."""
    body_bytes_max: int = 1 << 20
    """The largest body of any route; 400. What a route takes at most is the application's to say."""
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


class Server:
    """Serves one application on up to four listeners, until it is told to stop. One per process.

    The application tells the listeners apart by `environ["SERVER_PORT"]`, which no header can set.
    """

    def __init__(
        self,
        app: WSGIApplication,
        listeners: Sequence[tuple[str, int]],
        *,
        each_turn: Callable[[], None],
        spin: bool = False,
        limits: Limits | None = None,
        idle_wait_ms: int = 10,
    ):
        """`listeners`: (address, port), the public one first. `each_turn` runs after every turn, which is
        every microsecond when spinning, and at least every `idle_wait_ms` when not; what it raises
        ends `run`.
        """
        ports = [port for _, port in listeners]
        if not 1 <= len(listeners) <= LISTENERS_MAX or 0 in ports or len(set(ports)) < len(ports):
            raise ValueError(f"1 to {LISTENERS_MAX} listeners with different ports, not {listeners}")
        self._limits = limits or Limits()
        self._app = guarded(app, self._limits.header_bytes_max)
        self._listeners = listeners
        self._each_turn = each_turn
        self._spin = spin
        self._idle_wait_ms = idle_wait_ms
        self._stopping = False
        self._shedding = False

    def listen(self) -> None:
        """Bind all listeners; from here on clients can connect, and are answered once `run` is called.

        Raises OSError naming the address when it is taken. That is asked explicitly: fastpysgi listens
        with SO_REUSEPORT, so that two engines would silently share a port and its orders.
        """
        limits = self._limits
        addresses = [(_address(host), port) for host, port in self._listeners]
        for host, port in addresses:
            _refuse_taken(host, port)
        _allow_files(limits.connections_max + SPARE_FILES)

        server = self._server = fastpysgi.server
        server.bindlist = addresses
        server.nowait = 1
        server.hook_sigint = 0
        server.loglevel = _SILENT
        server.add_header_server = None
        server.tcp_nodelay = 1
        server.max_headers_num = limits.headers_max
        server.max_content_length = limits.body_bytes_max
        server.read_req_timeout = limits.request_ms_max
        server.curr_req_timeout = limits.request_ms_max
        server.next_req_timeout = limits.idle_ms_max
        # The timeouts are looked at this often, in a walk over all connections.
        server.svc_timer_interval = max(20, min(2_000, limits.request_ms_max // 2))
        earlier = _descriptors()
        try:
            server.init(self._app)
        except Exception as failure:
            raise OSError(f"cannot listen on {addresses}") from failure

        libuv = ctypes.PyDLL(_fastpysgi.__file__)
        libuv.uv_default_loop.restype = ctypes.c_void_p
        libuv.uv_backend_fd.argtypes = libuv.uv_backend_timeout.argtypes = [ctypes.c_void_p]
        loop = libuv.uv_default_loop()
        self._may_wait_ms = libuv.uv_backend_timeout
        self._loop = ctypes.c_void_p(loop)
        # A duplicate: Python closes what it wraps, and libuv needs its own.
        self._epoll = select.epoll.fromfd(os.dup(libuv.uv_backend_fd(self._loop)))
        # uv_loop_t starts with `void *data; unsigned int active_handles;`, which libuv 1 can't change.
        self._handles = ctypes.c_uint.from_address(loop + ctypes.sizeof(ctypes.c_void_p))
        self._own_handles = self._handles.value

        doors = {d.getsockname()[1]: d for fd in _descriptors() - earlier if (d := _listening(fd))}
        self._doors = [doors[port] for _, port in addresses]
        for door in self._doors:
            # Accepted connections inherit it. Without it an answer that nobody reads is kept for ever.
            door.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.unread_ms_max)

    def run(self) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; then answer what has arrived, and return.

        Handles both signals meanwhile, so the main thread calls it. Raises what `each_turn` raises.
        """
        before = {number: signal.signal(number, self._on_signal) for number in _ENDING}
        try:
            self._serve()
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
        self._server.set_allow_keepalive(False)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def connections(self) -> int:
        """Open connections on all listeners, but for those whose client has yet to read its answer."""
        return max(0, self._handles.value - self._own_handles)

    def _serve(self) -> None:
        turn, server, each_turn, spin = _fastpysgi.run_nowait, self._server, self._each_turn, self._spin
        may_wait_ms, loop, wait, idle_ms = self._may_wait_ms, self._loop, self._epoll.poll, self._idle_wait_ms
        handles, full = self._handles, self._own_handles + self._limits.connections_max
        while not self._stopping:
            turn(server)
            each_turn()
            if handles.value >= full or self._shedding:
                self._shed(handles.value >= full)
            if not spin:
                ms = may_wait_ms(loop)
                if ms:
                    wait(min(ms, idle_ms) / 1000, 1)

    def _shed(self, full: bool) -> None:
        """At the cap the public listener leaves libuv's sight, and whoever comes there is hung up on.

        Not RLIMIT_NOFILE, which would stop the journal's files and the health checks as well: the other
        listeners stay open, so that a flood of clients keeps out neither the operator nor the kill switch.
        """
        public = self._doors[0]
        if full and not self._shedding:
            self._epoll.unregister(public)
        elif self._shedding and not full:
            self._epoll.register(public, select.EPOLLIN)
        self._shedding = full
        if full:
            with contextlib.suppress(OSError):  # Nobody waits, or whoever did is gone.
                for _ in range(_SHED_A_TURN):
                    public.accept()[0].close()

    def _drain(self) -> None:
        """Take no new connections, answer what has come or is coming, each connection's last."""
        deadline = time.monotonic() + self._limits.drain_ms_max / 1000
        for door in self._doors:
            with contextlib.suppress(FileNotFoundError):  # Before the first turn, and while shedding.
                self._epoll.unregister(door)
            door.shutdown(socket.SHUT_RDWR)
        while self.connections() and time.monotonic() < deadline:
            _fastpysgi.run_nowait(self._server)
            self._each_turn()
            # Idle connections can't be told from half a request; silence for a while ends both.
            if self._may_wait_ms(self._loop) and not self._epoll.poll(_SILENCE_S, 1):
                break

    def _close(self) -> None:
        for door in self._doors:
            door.detach()
        self._epoll.close()
        self._server.close()

    def _on_signal(self, number: int, frame: object) -> None:
        self.stop()


_ENDING = (signal.SIGTERM, signal.SIGINT)
_SILENCE_S = 0.1
_SHED_A_TURN = 64


def _address(host: str) -> str:
    """fastpysgi takes numeric addresses only, and listens on all of them when it can't read one."""
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def _refuse_taken(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of an earlier engine that still linger are no obstacle; a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as refusal:
            raise OSError(refusal.errno, f"cannot listen on {host}:{port}: {refusal.strerror}") from None


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise ValueError(f"{count} open files are needed for the connections, the system allows {hard}")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}


def _listening(fd: int) -> socket.socket | None:
    try:
        candidate = socket.socket(fileno=fd)
    except OSError:
        return None
    if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return candidate
    candidate.detach()
    return None


# --- what fastpysgi leaves to its application -------------------------------------------------------

_CLOSE = "tradsys.close"
_CLOSE_HEADER = ("X-Connection", "close\r\nConnection: close")
_REFUSED = [("Content-Length", "0")]
_FAILED_BODY = b'{"code":1001,"message":"the outcome is unknown","details":{},"request_id":""}'
_FAILED = [("Content-Type", "application/json"), ("Content-Length", str(len(_FAILED_BODY)))]


def close_after_answer(environ: dict[str, Any], set_header: Callable[[str, str], None]) -> None:
    """End this connection once its answer is out: the application's `Connection: close`.

    fastpysgi decides alone whether a connection stays and drops that header, so a plain one would be a lie.
    Needs an answer with a body. Cheap, but not free: for refusals.
    """
    environ[_CLOSE] = True
    set_header(*_CLOSE_HEADER)


def guarded(app: WSGIApplication, header_bytes_max: int) -> WSGIApplication:
    """`app` behind the rules of HTTP and of WSGI that fastpysgi 0.6 does not keep.

    Its environ is a dict in a fixed order: ten constants, PATH_INFO, QUERY_STRING, the headers as they
    came, wsgi.input, REQUEST_METHOD, REMOTE_ADDR, and, only if the body came in chunks, CONTENT_LENGTH.
    """

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        values = [*environ.values()]
        chunked = values[-3] is not environ["wsgi.input"]
        if len("".join(values[10 : -4 if chunked else -3])) > header_bytes_max:
            start_response("431 Request Header Fields Too Large", _REFUSED)
            return []
        path = values[10]
        if not path.isascii():
            # PEP 3333 wants the bytes as Latin-1; fastpysgi decodes them as UTF-8, which Falcon can't take.
            environ["PATH_INFO"] = path.encode().decode("latin-1")
        if chunked:
            # HTTP/1.0 knows no Transfer-Encoding: such framing may be an attempt to hide a request from a
            # proxy, and RFC 9112 (6.1) wants the connection closed. The environ always says HTTP/1.1,
            # so every chunked body is the last of its connection.
            environ[_CLOSE] = True
            start_response = _saying_close(start_response)
        try:
            body = app(environ, start_response)
        except Exception:
            _log.exception("a request failed outside the framework")
            start_response("503 Service Unavailable", list(_FAILED), sys.exc_info())
            return [_FAILED_BODY]
        if _CLOSE in environ:
            return _last(body)
        return body

    return answer


def _saying_close(start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [_CLOSE_HEADER, *headers], *exc_info)

    return start


def _last(body: Iterable[bytes]) -> list[bytes]:
    """`body` in a form after which fastpysgi closes the connection.

    It closes where more than Content-Length has been written, and checks that up front only for bodies
    of up to 48 pieces. So: 49 pieces, the last ones empty lines, which HTTP tolerates between messages.
    """
    whole = b"".join(body)
    if not whole:
        return []
    pieces = [whole[i : i + 1] for i in range(max(0, len(whole) - 47), len(whole))]
    if len(whole) > 47:
        pieces.insert(0, whole[:-47])
    return pieces + [b"\r\n"] * (49 - len(pieces))
