"""What a request's head says.

A plain class in a module of its own because it is compiled in a release: the server asks it a few times for
each request, and of a struct each attribute is looked up by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Head:
    """One that has been read. `environ` is a template: the server copies it for each request."""

    __slots__ = ("direct", "environ", "expects_100", "is_head", "is_http_11", "keep_alive", "length", "raw")

    def __init__(
        self,
        raw: bytes,
        environ: dict[str, Any],
        length: int,
        keep_alive: bool,
        is_http_11: bool,
        expects_100: bool,
        is_head: bool,
    ):
        self.raw = raw
        """Its bytes, the empty line included."""
        self.environ = environ
        self.length = length
        """Bytes of its body; -1: it comes in chunks."""
        self.keep_alive = keep_alive
        """The client lets the connection stay."""
        self.is_http_11 = is_http_11
        self.expects_100 = expects_100
        self.is_head = is_head
        self.direct: Callable[[bytes], tuple[str, bytes] | dict[str, Any]] | None = None
        """Answers a request with this head without the application; see `Listener`."""
