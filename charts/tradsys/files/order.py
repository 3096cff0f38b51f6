"""What `helm test` runs in a pod: a post-only bid far from the market, read back and cancelled.

With DEMO=true a second order trades with it, which leaves a trade in the venue. Needs nothing but Python.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

URL = os.environ["VENUE_URL"] + "/api/v1"
ACCOUNT = os.environ["ACCOUNT"]
SECRETS = Path(os.environ.get("SECRETS", "/secret"))


def token() -> str:
    given = SECRETS / "token"
    if given.exists():
        return given.read_text().strip()
    now = int(time.time())
    claims = {
        "iss": "tradsys", "aud": "tradsys", "sub": ACCOUNT, "acct": ACCOUNT, "scope": "trade read",
        "iat": now, "nbf": now - 60, "exp": now + 300, "jti": f"helm-test-{now}",
    }  # fmt: skip
    signed = f"{text({'alg': 'HS256', 'typ': 'JWT'})}.{text(claims)}"
    signature = hmac.new(key(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def key() -> bytes:
    """The file without the line end that closes a text file, as the engine reads it."""
    content = (SECRETS / "key").read_bytes()
    ended = content.rstrip(b"\r\n")
    return ended if content.isascii() and ended.decode().isprintable() else content


def text(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


BEARER = f"Bearer {token()}"


def call(method: str, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    request = urllib.request.Request(URL + path, method=method)
    request.add_header("Authorization", BEARER)
    data = None
    if body is not None:
        request.add_header("Content-Type", "application/json")
        data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, data, timeout=10) as reply:
            answer: dict[str, object] = json.loads(reply.read())
            return answer
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}")


def order(side: str, **more: object) -> dict[str, object]:
    return {
        "symbol": os.environ["SYMBOL"],
        "side": side,
        "type": "limit",
        "price": os.environ["PRICE"],
        "quantity": os.environ["QUANTITY"],
        **more,
    }


placed = call("POST", "/orders", order("buy", post_only=True))
print("placed", placed["order_id"], placed["status"])
found = call("GET", f"/orders/{placed['order_id']}")
if found["status"] != "new":
    sys.exit(f"the order should rest, and is {found['status']}")
if os.environ.get("DEMO") == "true":
    traded = call("POST", "/orders", order("sell"))
    print("traded", traded["status"])
    if traded["status"] != "filled":
        sys.exit(f"the second order should trade, and is {traded['status']}")
else:
    gone = call("DELETE", f"/orders/{placed['order_id']}")
    print("canceled", gone["status"])
    if gone["status"] != "canceled":
        sys.exit(f"the order should be canceled, and is {gone['status']}")
