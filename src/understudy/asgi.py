"""ASGI: ``app.add_middleware(SessionMiddleware)`` for Starlette and FastAPI, ``SessionMiddleware(app)`` for others.

The session is ``scope["session"]``, so ``request.session`` and ``websocket.session`` work. The keywords are those of
Starlette's own middleware, and count where they differ from its defaults; ``secret_key`` is taken so that nothing else
need be changed, and not used: ids are made with the cluster's secret. ``max_age`` is the idle timeout and the cookie's
lifetime (None: until the browser is closed); without it and without a configured ``idle_timeout`` it is Starlette's 14
days. ``session.clear()`` logs out.

A session that another member holds is fetched before the application is called, without holding up the loop. It is
committed before ``http.response.start`` leaves (and ``websocket.accept``, ``websocket.close``); what changes later is
committed when the response or the websocket ends; no cookie can be sent then, so a session must have begun before.
What the application changed before it raised is committed as well. While a session cannot be reached the answer is
503 with ``Retry-After``, for a websocket the code 1013.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

from understudy.client.cookies import PROTECTED_HEADER, cookie_in, set_cookie, with_vary
from understudy.client.runtime import REFUSALS, RETRY_AFTER_S, Client, Runtime
from understudy.client.session import Session
from understudy.cluster import Cluster
from understudy.config import Config, load

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_AGE_S = 14 * 24 * 60 * 60
"""Starlette's default."""
TRY_AGAIN_LATER = 1013
"""The websocket close code for it."""
_BEGINNINGS = frozenset({"http.response.start", "websocket.accept", "websocket.close"})
_LOG = logging.getLogger("understudy")


class SessionMiddleware:
    """Keywords beside Starlette's are options of scope "request": timeouts, ``acknowledge``, ``cookie_secure`` …

    Raises, at the first request: ConfigurationError. Nothing is read or started before it.
    """

    def __init__(
        self,
        app: App,
        secret_key: object = None,
        session_cookie: str = "session",
        max_age: int | None = MAX_AGE_S,
        path: str = "/",
        same_site: Literal["lax", "strict", "none"] = "lax",
        https_only: bool = False,
        domain: str | None = None,
        partitioned: bool = False,
        **keywords: object,
    ) -> None:
        self._app = app
        given: dict[str, object] = {
            "cookie_name": None if session_cookie == "session" else session_cookie,
            "cookie_path": None if path == "/" else path,
            "cookie_samesite": None if same_site == "lax" else same_site,
            "cookie_secure": True if https_only else None,
            "cookie_domain": domain,
            "cookie_partitioned": True if partitioned else None,
            "idle_timeout": None if max_age == MAX_AGE_S else max_age,
            **keywords,
        }
        self._is_persistent = max_age is not None
        self._runtime = Runtime(lambda: _configured(given, is_persistent=self._is_persistent))
        self.cluster = Cluster(self._runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = self._runtime.client()
        session = client.begin(_cookie(scope, client.config.cookie_name), clear_ends=True)
        scope["session"] = session
        response = _Response(client, session, scope, send, is_persistent=self._is_persistent)
        if session.visit.cookie:
            await session.preload()
        try:
            await self._app(scope, receive, response.send)
        except REFUSALS as error:
            await response.refuse(error)
        finally:
            await response.finish_late()


class _Response:
    """One response or websocket on its way."""

    def __init__(self, client: Client, session: Session, scope: Scope, send: Send, *, is_persistent: bool) -> None:
        self._client = client
        self._session = session
        self._scope = scope
        self._send = send
        self._is_persistent = is_persistent
        self._has_begun = False
        self._is_refused = False

    async def send(self, message: Message) -> None:
        """What the application sends; its beginning leaves after the session is committed."""
        if self._is_refused:
            return  # a 503 has left already; what the application wanted to say must not be shown
        if not self._has_begun and message["type"] in _BEGINNINGS:
            accessed_ms = self._session.visit.opened.times.accessed_ms if self._session.visit.opened else 0
            try:
                await self._client.afinish(self._session)
            except REFUSALS as error:
                await self.refuse(error)
                return
            self._has_begun = True
            if message["type"] != "websocket.close":
                message["headers"] = self._with_ours(list(message.get("headers", ())), accessed_ms)
        elif _is_end(message):
            await (
                self.finish_late()
            )  # before the client learns that this was all: its next request sees what was changed
        await self._send(message)

    async def refuse(self, error: Exception) -> None:
        """503, or 1013, if nothing has left yet."""
        if self._has_begun or self._is_refused:
            raise error
        self._is_refused = True
        _LOG.warning("answered 503: %s", error)
        if self._scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "session unavailable"})
            return
        text = b"The session cannot be reached just now. Please try again in a moment.\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
            (b"retry-after", str(RETRY_AFTER_S).encode()),
        ]
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": text})

    async def finish_late(self) -> None:
        """Commit what was changed after the beginning, or before an error."""
        if not self._is_refused:
            await self._client.afinish(self._session, late=True)

    def _with_ours(self, headers: list[tuple[bytes, bytes]], accessed_ms: int) -> list[tuple[bytes, bytes]]:
        """The application's headers and the session's."""
        session, config = self._session, self._client.config
        visit = session.visit
        if session.accessed:
            vary = b", ".join(value for name, value in headers if name.lower() == b"vary").decode("latin-1")
            headers = [(name, value) for name, value in headers if name.lower() != b"vary"]
            headers.append((b"vary", with_vary(vary).encode("latin-1")))
        cookie = visit.cookie_now
        if cookie is not None:
            assert visit.opened is not None
            # A cookie with a lifetime is renewed at the rate at which accesses are recorded, so that it does not end
            # before the session does.
            age_ms = visit.opened.times.accessed_ms - accessed_ms
            is_renewed = bool(cookie) and self._is_persistent and age_ms >= config.touch_every_ms
            if cookie != visit.cookie or is_renewed:
                is_https = self._scope.get("scheme") in ("https", "wss")
                max_age_s = config.idle_timeout_ms // 1000 if self._is_persistent else None
                value = set_cookie(config, cookie, is_https=is_https, max_age_s=max_age_s)
                headers.append((b"set-cookie", value.encode("latin-1")))
        if config.protected_header and visit.wrote:
            headers.append((PROTECTED_HEADER.lower().encode(), b"1" if session.protected else b"0"))
        return headers


def _is_end(message: Message) -> bool:
    """True for the last message of a response or websocket."""
    kind = message["type"]
    return kind == "websocket.close" or (kind == "http.response.body" and not message.get("more_body", False))


def _configured(given: dict[str, object], *, is_persistent: bool) -> Config:
    config = load()
    values = dict(given)
    if is_persistent and values["idle_timeout"] is None and config.source("idle_timeout") == "default":
        values["idle_timeout"] = MAX_AGE_S
    if "idle_timeout_ms" in given:
        del values["idle_timeout"]
    return config.with_overrides("keyword", **values)


def _cookie(scope: Scope, name: str) -> str:
    for key, value in scope["headers"]:
        if key == b"cookie":
            found = cookie_in(value.decode("latin-1"), name)
            if found:
                return found
    return ""
