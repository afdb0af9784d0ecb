"""Quart: ``Understudy(app)`` keeps ``quart.session`` in Understudy, as ``understudy.flask`` does in Flask.

``quart.session`` is used as ever, and needs no ``session.modified = True``. ``session.clear()`` logs out. Quart's own
settings (``SESSION_COOKIE_*``, ``PERMANENT_SESSION_LIFETIME`` as the idle timeout, 31 days where nothing is said) count
where they differ from Quart's defaults, as they are at each request; a keyword of ``Understudy`` wins over them, they
win over ``UNDERSTUDY_*`` variables and the file.

A session that another member holds is fetched before the view is called, without holding up the loop; ``await
session.atransact(fn)`` does not hold it up either. What a view changed before it raised is committed with the error's
response. What a streaming response changes after its first byte is committed before its end, and what a websocket
changes when it ends, also when the client goes away; no cookie can be sent then, so a session must have begun before.
While a session cannot be reached the answer is 503 with ``Retry-After``; an application may register its own handler
for these errors. (A request whose client goes away is cancelled by Quart, and what it changed is not committed.)
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, cast

from quart import Quart, Response, has_websocket_context, request, websocket
from quart import session as quart_session
from quart.sessions import SessionInterface, SessionMixin
from quart.wrappers import BaseRequestWebsocket
from quart.wrappers.response import IterableBody, ResponseBody

from understudy.client.flasklike import (
    FlaskSession,
    Follower,
    add_headers,
    configured,
    expiration,
    prepare,
    refusal,
    renew,
)
from understudy.client.runtime import REFUSALS, Runtime
from understudy.cluster import Cluster
from understudy.config import Config

SessionMixin.register(FlaskSession)  # it has all of it, and its own
session = cast(FlaskSession, quart_session)
"""``quart.session`` itself, for type checkers that are to know ``rotate``, ``protected`` and the rest."""


class Understudy:
    """The extension. Keywords are options of scope "request": cookie flags, timeouts, ``acknowledge`` and so on.

    Raises, at the first request: ConfigurationError. Nothing is read or started before it.
    """

    def __init__(self, app: Quart | None = None, **keywords: object) -> None:
        self._keywords = keywords
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Make ``app`` use it; ``app.extensions["understudy"]`` is the ``Cluster``."""
        prepare(app)
        named = weakref.proxy(app)  # the application is not to keep itself alive
        runtime = Runtime(lambda: configured(named, self._keywords, "Quart"))
        interface = UnderstudyInterface(runtime)
        app.session_interface = interface  # type: ignore[assignment]  # Quart types it as its own cookie's
        app.extensions["understudy"] = Cluster(runtime)
        app.teardown_websocket(interface.websocket_ended)
        for kind in REFUSALS:
            app.register_error_handler(kind, _refused)


class UnderstudyInterface(SessionInterface):
    """What Quart calls at the beginning and end of a request or websocket."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._follow = Follower(runtime)

    def get_cookie_name(self, app: Quart) -> str:
        return self._config.cookie_name

    def get_cookie_domain(self, app: Quart) -> str | None:
        return self._config.cookie_domain

    def get_cookie_path(self, app: Quart) -> str:
        return self._config.cookie_path

    def get_cookie_httponly(self, app: Quart) -> bool:
        return self._config.cookie_httponly

    def get_cookie_secure(self, app: Quart) -> bool:
        """Of the present request if the option is "auto"."""
        secure = self._config.cookie_secure
        scheme = websocket.scheme if has_websocket_context() else request.scheme
        return scheme in ("https", "wss") if secure == "auto" else secure

    def get_cookie_samesite(self, app: Quart) -> str | None:  # type: ignore[override]  # Quart's own may be None, too
        samesite = self._config.cookie_samesite
        return None if samesite == "unset" else samesite

    def get_cookie_partitioned(self, app: Quart) -> bool:
        return self._config.cookie_partitioned

    def get_expiration_time(self, app: Quart, session: SessionMixin) -> datetime | None:
        return expiration(session, self._config)

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> SessionMixin:
        """A session whose primary is here costs a look-up in memory, another one is fetched."""
        self._follow(app)
        cookie = request.cookies.get(self.get_cookie_name(app), "")
        session = self._runtime.client().begin(cookie, cast(dict[str, Any], request.scope))
        if session.visit.cookie:
            await session.preload()
        return cast(SessionMixin, FlaskSession(session))

    async def save_session(self, app: Quart, session: SessionMixin, response: Any) -> None:
        """Commit, then send the cookie if it changed or Quart wants it sent; ``response`` is None after a websocket."""
        assert isinstance(session, FlaskSession)
        client = self._runtime.client()
        finish_late = partial(client.afinish, session.understudy, late=True)
        if response is None:
            await finish_late()
            return
        renew(app, session)
        add = partial(add_headers, self, app, session, response, client.config)
        try:
            await client.afinish(session.understudy)
        except REFUSALS as error:
            _replace(response, error)
            return
        except Exception:
            add()  # one attribute could not be stored: the rest was, and may be a session that began just now
            raise
        add()
        body = getattr(response, "response", None)
        if isinstance(body, IterableBody):
            response.response = _Stream(body, finish_late)

    async def websocket_ended(self, error: BaseException | None) -> None:
        """Commit what the websocket changed: Quart cancels its view when the client goes away."""
        ended = quart_session._get_current_object()  # type: ignore[attr-defined]  # the session behind Quart's proxy
        if isinstance(ended, FlaskSession):
            await self._runtime.client().afinish(ended.understudy, late=True)

    @property
    def _config(self) -> Config:
        return self._runtime.client().config


class _Stream(ResponseBody):
    """The parts of a streaming response; what they change is committed before the server tells that this was all."""

    def __init__(self, body: IterableBody, finish: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._finish = finish

    async def __aenter__(self) -> AsyncIterable[Any]:
        return self._parts(await self._body.__aenter__())

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._body.__aexit__(kind, error, trace)  # type: ignore[arg-type]  # None when nothing was raised
        await self._finish()  # also when the client goes away in the middle

    async def _parts(self, parts: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
        async for part in parts:
            yield part
        await self._finish()


def _refused(error: Exception) -> Response:
    text, status, headers = refusal(error)
    return Response(text, status, headers)


def _replace(response: Any, error: Exception) -> None:
    """Make ``response`` the refusal; what the application wanted to say must not be shown."""
    text, response.status_code, headers = refusal(error)
    response.headers.clear()
    response.headers.extend(headers)
    response.set_data(text)
