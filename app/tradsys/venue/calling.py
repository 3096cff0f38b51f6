"""Whose call is being served: what log lines, traces and requests to other processes name it by.

Gateway and feed set it where a call comes in; whoever hands something on reads it. A context variable, since
what lies between has nothing to do with it.
"""

from __future__ import annotations

import re
from contextvars import ContextVar

from msgspec import Struct

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
"""What is taken as a request id from outside."""


class Call(Struct):
    request_id: str
    traceparent: str = ""
    """W3C's header for what is handed on; "": the call is not traced."""
    batch_id: str = ""
    """The request id of the batch in which it went on to the engine; its own, if it was alone in it."""


CALL: ContextVar[Call | None] = ContextVar("call", default=None)
