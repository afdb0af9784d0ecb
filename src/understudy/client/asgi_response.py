"""One ASGI response or websocket on its way: commits the session before it begins and before it ends, or answers 503.

What the ASGI middleware and the adapters of frameworks that are ASGI applications share. It speaks ASGI's messages and
imports nothing for it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from understudy.client.cookies import cookie_in, session_headers
from understudy.client.runtime import REFUSAL_TEXT, REFUSALS, RETRY_AFTER_S, Client
from understudy.client.session import Session
from understudy.config import Config, load

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_AGE_S = 14 * 24 * 60 * 60
"""How long a session and its cookie live where nothing is said: Starlette's default, and Litestar's."""
TRY_AGAIN_LATER = 1013
"""The websocket close code for it."""
_BEGINNINGS = frozenset({"http.response.start", "websocket.accept", "websocket.close"})
_LOG = logging.getLogger("understudy")


class AsgiResponse:
    """``send`` stands between application and server; ``finish_late`` is called when the application is done."""

    def __init__(
        self,
        client: Client,
        session: Session,
        scope: Scope,
        send: Send,
        *,
        max_age_s: int | None,
        spelled: Callable[[str], str] = str,
    ) -> None:
        """See the arguments.

        Args:
            max_age_s: how long the cookie lives; None: until the browser is closed.
            spelled: gives a ``Set-Cookie`` header as the framework spells it.
        """
        self._client = client
        self._session = session
        self._scope = scope
        self._send = send
        self._max_age_s = max_age_s
        self._spelled = spelled
        self.has_begun = False
        """The response has its headers, or the websocket is accepted."""
        self._is_refused = False
        self._has_failed = False
        """The last commit raised; an error's response, which may come then, is not to try again."""

    async def send(self, message: Message) -> None:
        """What the application sends; its beginning leaves after the session is committed."""
        if self._is_refused:
            return  # a 503 has left already; what the application wanted to say must not be shown
        if not self.has_begun and message["type"] in _BEGINNINGS:
            try:
                await self._commit()
            except REFUSALS as error:
                await self.refuse(error)
                return
            self.has_begun = True
            if message["type"] != "websocket.close":
                message["headers"] = self._with_ours(list(message.get("headers", ())))
        elif _is_end(message):
            # Before the client learns that this was all: its next request sees what was changed.
            await self.finish_late()
        await self._send(message)

    async def refuse(self, error: Exception) -> None:
        """503, or 1013, if nothing has left yet. Raises: ``error``, if something has."""
        if self.has_begun or self._is_refused:
            raise error
        self._is_refused = True
        _LOG.warning("answered 503: %s", error)
        if self._scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "session unavailable"})
            return
        text = REFUSAL_TEXT.encode()
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
            await self._commit(late=True)

    async def _commit(self, *, late: bool = False) -> None:
        if self._has_failed:
            return
        try:
            await self._client.afinish(self._session, late=late)
        except Exception:
            self._has_failed = True
            raise

    def _with_ours(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The application's headers and the session's."""
        vary = b", ".join(value for name, value in headers if name.lower() == b"vary").decode("latin-1")
        config = self._client.config
        is_https = self._scope.get("scheme") in ("https", "wss")
        ours = session_headers(self._session, config, vary=vary, is_https=is_https, max_age_s=self._max_age_s)
        kept = [(name, value) for name, value in headers if name.lower() != b"vary"]
        for name, value in ours:
            said = self._spelled(value) if name == "Set-Cookie" else value
            kept.append((name.lower().encode(), said.encode("latin-1")))
        return kept


def configured(given: Mapping[str, object], *, default_s: int | None) -> Config:
    """File and environment under these keywords (None: not given), in which ``idle_timeout`` has its own default.

    Raises: ConfigurationError.
    """
    config = load()
    values = dict(given)
    if values["idle_timeout"] is None and config.source("idle_timeout") == "default":
        values["idle_timeout"] = default_s
    if "idle_timeout_ms" in given:
        del values["idle_timeout"]
    return config.with_overrides("keyword", **values)


def cookie_of(scope: Scope, name: str) -> str:
    """The cookie of that name as the browser sent it, "" if it sent none."""
    for key, value in scope["headers"]:
        if key == b"cookie":
            found = cookie_in(value.decode("latin-1"), name)
            if found:
                return found
    return ""


def _is_end(message: Message) -> bool:
    """True for the last message of a response or websocket."""
    kind = message["type"]
    return kind == "websocket.close" or (kind == "http.response.body" and not message.get("more_body", False))
