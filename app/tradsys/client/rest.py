"""Calls of the REST API with decoded answers.

A refusal by the venue is `Refused` with the code of the API; a venue that can't be reached is
`Unreachable`. What is safe to repeat is repeated: reads, cancels, and whatever carries a
client_order_id, because the venue answers a repeat with the first reply.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from tradsys.client.calls import API as API
from tradsys.client.calls import path_of as path_of
from tradsys.client.errors import Refused as Refused
from tradsys.client.errors import Unreachable as Unreachable
from tradsys.client.errors import refusal_of
from tradsys.client.http import Connection, Response
from tradsys.client.records import RECORDS_TYPE, Result, results
from tradsys.client.retrying import Patience

PATIENCE_S = 1.0


class Answer(Struct, frozen=True):
    body: Any
    status: int
    headers: dict[str, str]


class RestClient:
    """One connection to one listener of a venue; not for use by several threads at once.

    `timeout_s` is how long an answer may take, `patience_s` how long the venue may be away before something
    that may be repeated is given up. `prefix` stands before every path; ops ports have none.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout_s: float = 10.0,
        patience_s: float = PATIENCE_S,
        prefix: str = API,
    ) -> None:
        self.url = url.rstrip("/")
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._connection = Connection(self.url, timeout_s)
        self._token = token
        self._others: dict[str, RestClient] = {}

    def close(self) -> None:
        self._connection.close()
        for other in self._others.values():
            other.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return self.call("GET", path, query=query).body

    def post(self, path: str, body: Any, repeatable: bool = False) -> Any:
        return self.call("POST", path, body, repeatable=repeatable).body

    def put(self, path: str, body: Any, repeatable: bool = False) -> Any:
        return self.call("PUT", path, body, repeatable=repeatable).body

    def delete(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return self.call("DELETE", path, query=query, repeatable=True).body

    def batch(self, records: bytes) -> list[Result]:
        """Results of a batch of commands in the binary form, in their order.

        A lost answer is asked for again: that is safe if every order among them has a client_order_id.
        Raises Refused (the batch as a whole) and Unreachable.
        """
        headers = f"Content-Type: {RECORDS_TYPE}\r\n"
        response = self._attempts("POST", f"{API}/orders/batch", headers, records, repeatable=True)
        if response.status >= 400:
            answer_of(response)
        return results(response.body)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """One call of prefix + path; query values that are None or "" are left out.

        `repeatable` tells that a repeat gets the first answer or has the same effect; reads always are.
        Raises Refused and Unreachable.
        """
        target = self._prefix + path
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        if given:
            target += "?" + urlencode(given)
        payload = b"" if body is None else msgspec.json.encode(body)
        return answer_of(self.exchange(method, target, payload, repeatable or method == "GET"))

    def exchange(self, method: str, target: str, payload: bytes, repeatable: bool) -> Response:
        """The answer to one request, whatever it says; redirected reads are followed. Raises Unreachable."""
        headers = "Content-Type: application/json\r\n" if payload else ""
        response = self._attempts(method, target, headers, payload, repeatable)
        if response.status == 307 and method == "GET":
            return self._elsewhere(response.headers.get("location", ""))
        return response

    def _attempts(self, method: str, target: str, headers: str, payload: bytes, repeatable: bool) -> Response:
        if self._token:
            headers += f"Authorization: Bearer {self._token}\r\n"
        patience = Patience(self._patience_s if repeatable else 0.0)
        while True:
            # A connection that has been idle may have been closed by the other side; the request was hardly
            # read then, and a new connection needs no patience.
            reused = self._connection.is_open
            sent = False
            try:
                self._connection.send(method, target, headers, payload)
                sent = True
                response = self._connection.receive()
                after = response.headers.get("retry-after", "")
                pause_s = patience.after_answer(self.url, method, response.status, response.body, after)
                if pause_s is None:
                    return response
            except OSError as fault:
                patience.unknown |= sent and method != "GET"
                if reused and repeatable and not isinstance(fault, TimeoutError):
                    continue
                pause_s = patience.pause_s()
                if pause_s is None:
                    why = "it took too long" if isinstance(fault, TimeoutError) else _why(fault)
                    raise Unreachable(self.url, why, outcome_unknown=patience.unknown) from None
            time.sleep(pause_s)

    def _elsewhere(self, location: str) -> Response:
        """Follow a redirect to the process that keeps history."""
        parts = urlsplit(location)
        if not parts.path.startswith(API):
            raise Unreachable(self.url, f"it redirects to {location!r}, which is no API of a venue", False)
        base = f"{parts.scheme}://{parts.netloc}" if parts.netloc else self.url
        if base not in self._others:
            # The token goes only to the host that it was meant for.
            same_host = urlsplit(base).hostname == self._connection.host
            self._others[base] = RestClient(
                base, self._token if same_host else "", timeout_s=self._timeout_s, patience_s=self._patience_s
            )
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return self._others[base].exchange("GET", target, b"", repeatable=True)


def _why(fault: OSError) -> str:
    return (fault.strerror or str(fault)).lower()


def answer_of(response: Response) -> Answer:
    """The decoded answer; raises Refused for an error status."""
    try:
        body = msgspec.json.decode(response.body) if response.body else None
    except msgspec.DecodeError:
        body = None
    if response.status >= 400:
        raise refusal_of(response.status, body)
    return Answer(body, response.status, response.headers)
