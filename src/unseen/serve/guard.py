"""Who may pass, and the headers that every answer carries.

Plain ASGI around the application, so that nothing behind it runs for a request that is turned away.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from unseen.serve.rate import Rate, client_key
from unseen.serve.settings import Settings, is_loopback
from unseen.serve.upload import Refused

__all__ = ["Guard", "client_of", "refusal_headers"]

OPEN = {
    "/",
    "/page.css",
    "/page.js",
    "/icon.svg",
    "/health",
}  # need no token; the page must load before it can ask
GUESSES = 20  # wrong tokens a minute from one client

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}

Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]


def client_of(scope: dict[str, Any]) -> str:
    """Who counts as the client of a request."""
    client = scope.get("client")
    return client_key(client[0]) if client else "unknown"


def refusal_headers(refusal: Refused) -> dict[str, str]:
    """What a refusal says beside its body."""
    headers = {} if refusal.wait is None else {"retry-after": str(refusal.wait)}
    if refusal.status == 401:
        headers["www-authenticate"] = 'Bearer realm="unseen"'
    return headers


class Guard:
    """Checks token, host and origin of each request.

    Without a token, what protects a server on loopback from the web pages that its user visits is that it
    answers to its own name only (a foreign name that leads to 127.0.0.1 is refused) and to no other origin.

    Args:
        app: What lies behind.
        settings: The token and the names.
        refused: Called with the reason of each refusal.
    """

    def __init__(self, app: Any, settings: Settings, refused: Callable[[str], None]) -> None:
        self.app = app
        self.settings = settings
        self.refused = refused
        self._token = None if settings.token is None else _digest(settings.token)
        self._guesses = Rate(GUESSES)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Let a request pass or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = list(message["headers"]) + [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in given
                ]
            await send(message)

        try:
            self._check(scope)
        except Refused as refusal:
            self.refused(refusal.reason)
            await _answer(send_with_headers, refusal)
            return
        await self.app(scope, receive, send_with_headers)

    def _check(self, scope: dict[str, Any]) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if self._token is None and not self._knows(host):
            raise Refused(
                403,
                "host",
                "this server answers to localhost only; name others with --allow-name, or set a token",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refused(403, "origin", "requests from other sites are refused")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"] not in (
            "/",
            "/health",
        ):
            raise Refused(403, "origin", "requests from other sites are refused")
        if self._token is not None and scope["path"] not in OPEN:
            self._check_token(headers.get("authorization", ""), client_of(scope))

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return is_loopback(name) or name in self.settings.names

    def _check_token(self, authorization: str, client: str) -> None:
        if wait := self._guesses.wait(client, take=False):
            raise Refused(429, "rate", f"too many wrong tokens; try again in {wait} s", wait=wait)
        scheme, _, given = authorization.partition(" ")
        # Digests have one length, and are compared in a time that does not tell where they differ.
        right = hmac.compare_digest(_digest(given.strip()), self._token or b"")
        if scheme.lower() != "bearer" or not right:
            self._guesses.wait(client)
            raise Refused(401, "token", "this server asks for a token: Authorization: Bearer TOKEN")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def _answer(send: Send, refusal: Refused) -> None:
    body = json.dumps({"reason": refusal.reason, "message": refusal.message}).encode()
    headers: Iterable[tuple[str, str]] = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **refusal_headers(refusal),
    }.items()
    start = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": start})
    await send({"type": "http.response.body", "body": body})
