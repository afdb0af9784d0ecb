"""aiohttp: ``setup(app, UnderstudyStorage())`` keeps the sessions of ``aiohttp_session`` in Understudy.

``get_session(request)`` and ``new_session(request)`` are ``aiohttp_session``'s own. The session needs no ``changed()``;
``invalidate()`` logs out, and ``new_session`` at a login ends the session before it and begins one with a new id. What
Understudy's sessions have besides (``rotate``, ``atransact``, ``protected`` …) is there as well.

A session is committed before its response begins, which may be a stream, a websocket or an error; what changes later is
committed when the handler ends. While a session cannot be reached the answer is 503 with ``Retry-After``. (With
``aiohttp_session.setup`` in the place of ours, the changes of streams and websockets and those before an error are not
committed: its middleware does not call a storage for them.)
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, cast

import aiohttp_session
from aiohttp import web
from aiohttp.typedefs import Handler

from understudy.client.cookies import session_headers
from understudy.client.runtime import REFUSAL_TEXT, REFUSALS, RETRY_AFTER_S, Runtime
from understudy.client.session import Session
from understudy.cluster import Cluster
from understudy.config import load

_LOG = logging.getLogger("understudy")


class AiohttpSession(aiohttp_session.Session):
    """What ``get_session`` gives: the attributes of ``aiohttp_session``'s own, over Understudy's session."""

    def __init__(self, session: Session, *, max_age: int | None, replaces: bool = False) -> None:
        """``replaces``: it was asked for by ``new_session``, and what the request's cookie opens is to end."""
        self.understudy = session
        self.is_aged = False
        """The application has given it a lifetime of its own, which the browser is to know."""
        super().__init__(None, data=None, new=True)
        self._max_age = max_age
        self.replaces = replaces
        self.is_sent = False
        """A response has its headers: no others will be sent."""
        self.has_failed = False
        """The last commit raised; an error's response, which comes then, is not to try again."""
        self._is_used = False

    def __repr__(self) -> str:
        return repr(self.understudy)

    def __getattr__(self, name: str) -> Any:
        """Everything that only Understudy's sessions have."""
        if name in ("understudy", "_is_used"):
            raise AttributeError(name)
        self._is_used = True
        return getattr(self.understudy, name)

    @property
    def _mapping(self) -> Any:
        """The attributes, for its base, which treats them as a mapping: whoever asks for them uses the session."""
        self._is_used = True
        return self.understudy

    @_mapping.setter
    def _mapping(self, value: object) -> None:
        """The base begins with an empty one."""

    @property
    def new(self) -> bool:
        return self.understudy.is_new

    @property
    def identity(self) -> str | None:
        return self.understudy.id

    @property
    def created(self) -> int:
        return int(self.understudy.created.timestamp())

    @property
    def max_age(self) -> int | None:
        """The lifetime of the cookie; what an application assigns is this session's idle timeout, too."""
        return self._max_age

    @max_age.setter
    def max_age(self, value: int | None) -> None:
        self._max_age = value
        is_new, visit = self.understudy.is_new, self.understudy.visit
        held_ms = -1 if is_new or visit.opened is None else visit.opened.times.idle_timeout_ms
        age_ms = max((value or 0) * 1000, 1)
        if value is not None and age_ms != held_ms:
            self.is_aged = self._is_used = True
            visit.idle_timeout_ms = age_ms

    @property
    def _changed(self) -> bool:
        """For ``aiohttp_session``'s middleware: a session that was used, if only for reading, is to be saved.

        Whether there is something to write is found by comparison, and a use puts the session's end off.
        """
        return self._is_used or self.replaces

    @_changed.setter
    def _changed(self, value: bool) -> None:
        """Said by its base at each assignment."""

    def invalidate(self) -> None:
        """Log out: see ``Session.invalidate``."""
        self._is_used = True
        self.understudy.invalidate()

    def set_new_identity(self, identity: Any) -> None:
        """Raises: RuntimeError, always: an id is minted by Understudy and never adopted."""
        raise RuntimeError("Understudy mints the ids of its sessions; use new_session(request) or session.rotate()")


class UnderstudyStorage(aiohttp_session.AbstractStorage):
    """Keywords beside ``aiohttp_session``'s are options of scope "request": timeouts, ``acknowledge`` and so on.

    ``max_age`` is the idle timeout and the cookie's lifetime; None: the configured one, until the browser is closed.
    Raises, at the first request: ConfigurationError. Nothing is read or started before it.
    """

    def __init__(
        self,
        *,
        cookie_name: str | None = None,
        domain: str | None = None,
        max_age: int | None = None,
        path: str | None = None,
        secure: bool | None = None,
        httponly: bool | None = None,
        samesite: str | None = None,
        **keywords: object,
    ) -> None:
        super().__init__(max_age=max_age)
        given: dict[str, object] = {
            "cookie_name": cookie_name,
            "cookie_domain": domain,
            "cookie_path": path,
            "cookie_secure": secure,
            "cookie_httponly": httponly,
            "cookie_samesite": samesite,
            "idle_timeout": max_age,
            **keywords,
        }
        self._runtime = Runtime(lambda: load().with_overrides("keyword", **given))
        self.cluster = Cluster(self._runtime)

    @property
    def cookie_name(self) -> str:
        return self._runtime.client().config.cookie_name

    async def load_session(self, request: web.Request) -> AiohttpSession:
        """A session whose primary is here costs a look-up in memory, another one is fetched."""
        cookie = request.cookies.get(self.cookie_name, "")
        attributes = cast(MutableMapping[str, Any], request)
        session = self._runtime.client().begin(cookie, attributes, path=request.path)
        if session.visit.cookie:
            await session.preload()
        return AiohttpSession(session, max_age=self.max_age)

    async def new_session(self) -> AiohttpSession:
        return AiohttpSession(self._runtime.client().begin(""), max_age=self.max_age, replaces=True)

    async def save_session(
        self, request: web.Request, response: web.StreamResponse, session: aiohttp_session.Session
    ) -> None:
        """Commit, and give the response the session's headers. Raises: HTTPServiceUnavailable in its place."""
        try:
            await self.begin_response(request, response)
        except REFUSALS as error:
            raise _refused(request, error) from error

    async def begin_response(self, request: web.Request, response: web.StreamResponse) -> None:
        """Commit, and give the response the session's headers. Raises: as ``conversation.commit``."""
        session = _used(request)
        if session is None or session.is_sent:
            return
        if not session.has_failed:
            await self.commit(request)
        session.is_sent = True
        vary = ", ".join(response.headers.popall("Vary", []))
        headers = session_headers(
            session.understudy,
            self._runtime.client().config,
            vary=vary,
            is_https=request.secure,
            max_age_s=session.max_age,
            resends=session.is_aged,
        )
        for name, value in headers:
            response.headers.add(name, value)

    async def commit(self, request: web.Request) -> None:
        """Commit what the request has changed until now. Raises: as ``conversation.commit``."""
        session = _used(request)
        if session is None:
            return
        session.has_failed = True
        if session.replaces:
            await session.understudy.replace(request.cookies.get(self.cookie_name, ""))
            session.replaces = False
        await self._runtime.client().afinish(session.understudy, late=session.is_sent)
        session.has_failed = False


def setup(app: web.Application, storage: UnderstudyStorage) -> None:
    """Make ``app`` use it, as ``aiohttp_session.setup`` does, for streams, websockets and errors as well."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[aiohttp_session.STORAGE_KEY] = storage  # no `RequestKey`: its `get_session` looks for this name
        try:
            try:
                response = await handler(request)
            except web.HTTPException as error:  # which is a response, too
                await storage.begin_response(request, error)
                raise
            await storage.begin_response(request, response)
            if not isinstance(response, web.Response):
                await storage.commit(request)  # before the client learns that the stream is at its end
        except web.HTTPException:
            raise
        except REFUSALS as error:
            session = _used(request)
            if session is not None and session.is_sent:
                raise  # the response has begun
            raise _refused(request, error) from error
        except BaseException:  # a server that ends cancels its websockets' handlers
            session = _used(request)
            if session is not None and not session.has_failed:
                await storage.commit(request)
            raise
        return response

    app.middlewares.append(middleware)
    app.on_response_prepare.append(storage.begin_response)  # a stream or websocket begins inside its handler


def _used(request: web.Request) -> AiohttpSession | None:
    """The session, if the request has asked for it."""
    session = request.get(aiohttp_session.SESSION_KEY)
    return session if isinstance(session, AiohttpSession) else None


def _refused(request: web.Request, error: Exception) -> web.HTTPServiceUnavailable:
    """The answer while a session cannot be reached; the cookie is left alone."""
    session = _used(request)
    if session is not None:
        session.is_sent = True  # it adds nothing to this one
    _LOG.warning("answered 503: %s", error)
    return web.HTTPServiceUnavailable(text=REFUSAL_TEXT, headers={"Retry-After": str(RETRY_AFTER_S)})
