"""Litestar: ``UnderstudySessionConfig().middleware`` for sessions, ``UnderstudyStore`` for everything else it stores.

``request.session`` is Understudy's session, a mapping. ``request.set_session(data)`` replaces its attributes, and
``request.clear_session()`` logs out, for good: what is set afterwards begins a new session with a new id. The keywords
are those of Litestar's ``ServerSideSessionConfig`` and count where they differ from its defaults; without ``max_age``
and without a configured ``idle_timeout`` a session lives for Litestar's 14 days.

Unlike Litestar's own server-side sessions these are written, and their cookie is sent, only when something has changed;
an id that the client chose is never adopted; requests that change different attributes never undo each other. A session
that another member holds is fetched before the handler is called. It is committed before the response begins, or the
websocket is accepted, and what changes later when it ends; what a handler changed before it raised is committed too.
While a session cannot be reached the answer is 503 with ``Retry-After``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, cast
from urllib.parse import quote

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig, BaseSessionBackend, SessionMiddleware
from litestar.stores.base import NamespacedStore
from litestar.types import Empty, Receive
from litestar.utils.scope.state import ScopeState

from understudy.client import lapsing
from understudy.client.asgi_response import MAX_AGE_S, AsgiResponse, configured, cookie_of
from understudy.client.cookies import session_headers
from understudy.client.replicated_map import LazyReplicatedMap
from understudy.client.runtime import REFUSAL_TEXT, REFUSALS, RETRY_AFTER_S, Client, Runtime
from understudy.client.session import Session
from understudy.cluster import Cluster


class UnderstudySessionBackend(BaseSessionBackend["UnderstudySessionConfig"]):
    """What Litestar's test clients and its session authentication call."""

    def get_session_id(self, connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
        """The id, once the session exists."""
        session = connection.scope.get("session")
        return _id_of(session) if isinstance(session, Session) else None

    async def load_from_connection(self, connection: ASGIConnection[Any, Any, Any, Any]) -> dict[str, Any]:
        """The attributes of the session that the connection's cookie opens."""
        session = await self._opened(connection)
        return dict(session)

    async def store_in_message(
        self, scope_session: Any, message: Any, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> None:
        """Replace the attributes of the session that the connection's cookie opens, and give the message its cookie."""
        session = await self._opened(connection)
        _replace(session, scope_session, connection.scope)
        client = self.config.client
        await client.afinish(session)
        is_https = connection.scope["scheme"] in ("https", "wss")
        headers = MutableScopeHeaders.from_message(message)
        for name, value in session_headers(
            session, client.config, vary="", is_https=is_https, max_age_s=self.config.max_age
        ):
            headers.add(name, value)

    async def _opened(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Session:
        client = self.config.client
        session = client.begin(
            connection.cookies.get(client.config.cookie_name, ""), cast(dict[str, Any], connection.scope)
        )
        await session.preload()
        return session


class UnderstudySessionConfig(BaseBackendConfig[UnderstudySessionBackend]):
    """Keywords beside Litestar's are options of scope "request": ``absolute_timeout``, ``acknowledge`` and so on.

    Raises, at the first request: ConfigurationError. Nothing is read or started before it.
    """

    _backend_class = UnderstudySessionBackend

    def __init__(
        self,
        *,
        key: str = "session",
        max_age: int = MAX_AGE_S,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = True,
        samesite: Literal["lax", "strict", "none"] = "lax",
        exclude: str | list[str] | None = None,
        exclude_opt_key: str = "skip_session",
        **keywords: object,
    ) -> None:
        self.key, self.max_age, self.path, self.domain = key, max_age, path, domain
        self.secure, self.httponly, self.samesite = secure, httponly, samesite
        self.exclude, self.exclude_opt_key = exclude, exclude_opt_key
        given: dict[str, object] = {
            "cookie_name": None if key == "session" else key,
            "cookie_path": None if path == "/" else path,
            "cookie_domain": domain,
            "cookie_secure": True if secure else None,
            "cookie_httponly": None if httponly else False,
            "cookie_samesite": None if samesite == "lax" else samesite,
            "idle_timeout": None if max_age == MAX_AGE_S else max_age,
            **keywords,
        }
        self._runtime = Runtime(lambda: configured(given, default_s=MAX_AGE_S))
        self.cluster = Cluster(self._runtime)

    @property
    def middleware(self) -> DefineMiddleware:
        """For the ``middleware`` list of an application, router or handler."""
        return DefineMiddleware(UnderstudyMiddleware, backend=UnderstudySessionBackend(self))

    @property
    def client(self) -> Client:
        return self._runtime.client()


class UnderstudyMiddleware(SessionMiddleware[UnderstudySessionBackend]):
    """Gives each request and websocket its session, and commits it."""

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Types are left open: a session is a mapping, as good as the dict that Litestar's types ask for."""
        client = self.backend.config.client
        session = client.begin(cookie_of(scope, client.config.cookie_name), cast(dict[str, Any], scope))
        if session.visit.cookie:
            await session.preload()
        response = AsgiResponse(client, session, scope, send, max_age_s=client.config.idle_timeout_ms // 1000)
        scope["session"] = session
        state = ScopeState.from_scope(scope)
        state.session_id = _id_of(session)
        own = {} if state.exception_handlers is Empty else state.exception_handlers
        state.exception_handlers = {**dict.fromkeys(REFUSALS, _refused), **own}

        async def watched(message: Any) -> None:
            try:
                _take_over(session, scope)
            except REFUSALS as error:
                await response.refuse(error)
            try:
                await response.send(message)
            except Exception:
                state.response_started = response.has_begun  # Litestar says so before; its error page can still be sent
                raise

        try:
            await self.app(scope, receive, watched)
        except REFUSALS as error:
            await response.refuse(error)
        finally:
            await response.finish_late()


class UnderstudyStore(NamespacedStore):
    """A Litestar store on a replicated dictionary: for response caches, rate limits and the like.

    ``entries``: ``cluster.map(name)``. Each member sees what another one has set. A value lapses by the wall clock, and
    is removed when somebody asks for it, or by ``delete_expired``.
    """

    __slots__ = ("_map", "_path")

    def __init__(self, entries: LazyReplicatedMap, *, namespace: str = "LITESTAR") -> None:
        self._map = entries
        self._path = quote(namespace, safe="")

    def with_namespace(self, namespace: str) -> UnderstudyStore:
        """A store whose keys are its own; ``delete_all`` of this one deletes them as well."""
        child = UnderstudyStore(self._map)
        child._path = f"{self._path}/{quote(namespace, safe='')}"
        return child

    async def set(self, key: str, value: str | bytes, expires_in: int | timedelta | None = None) -> None:
        data = value.encode() if isinstance(value, str) else value
        await self._map.aset(self._key(key), lapsing.kept(data, _seconds(expires_in), time.time()))

    async def get(self, key: str, renew_for: int | timedelta | None = None) -> bytes | None:
        """Removes a value that has lapsed."""
        stored = await self._map.aget(self._key(key))
        value = lapsing.current(stored, time.time())
        if value is lapsing.MISSING:
            if stored is not None:
                await self.delete(key)
            return None
        if renew_for and stored[1] is not None:
            await self.set(key, value, renew_for)
        found: bytes = value
        return found

    async def delete(self, key: str) -> None:
        await self._delete(self._key(key))

    async def delete_all(self) -> None:
        """Deletes what this store and its children hold. Cost: all keys of the dictionary are read."""
        for name in await self._map.akeys():
            if name.startswith((f"{self._path}:", f"{self._path}#", f"{self._path}/")):
                await self._delete(name)

    async def delete_expired(self) -> None:
        """Removes what has lapsed. Cost: all keys and values of the dictionary are read."""
        for name in await self._map.akeys():
            stored = await self._map.aget(name)
            if stored is not None and lapsing.current(stored, time.time()) is lapsing.MISSING:
                await self._delete(name)

    async def exists(self, key: str) -> bool:
        stored = await self._map.aget(self._key(key))
        return lapsing.current(stored, time.time()) is not lapsing.MISSING

    async def expires_in(self, key: str) -> int | None:
        """Seconds; -1 for a value that never lapses, None for one that is not there."""
        stored = await self._map.aget(self._key(key))
        if lapsing.current(stored, time.time()) is lapsing.MISSING:
            return None
        left_s = lapsing.remaining_s(stored, time.time())
        return -1 if left_s is None else int(left_s)

    def _key(self, key: str) -> str:
        return lapsing.key_of(self._path, key)

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(KeyError):
            await self._map.adelete(name)


def _take_over(session: Session, scope: Any) -> None:
    """Do to the session what ``clear_session`` and ``set_session`` did to the scope."""
    state = ScopeState.from_scope(scope)
    if state.session_id is Empty:  # Litestar's mark that the session was cleared
        session.invalidate()
        state.session_id = None
    value: Any = scope.get("session")
    if value is not session:
        _replace(session, value, scope)
        scope["session"] = session


def _replace(session: Session, value: Any, scope: Any) -> None:
    """Let the session have these attributes: a mapping, or whatever Litestar can make one of; none at all end it."""
    if value is Empty or value is None:
        session.invalidate()
        return
    if not isinstance(value, Mapping):
        value = BaseSessionBackend.deserialize_data(BaseSessionBackend.serialize_data(value, scope))
    for name in [name for name in session if name not in value]:
        del session[name]
    session.update(value)


def _id_of(session: Session) -> str | None:
    opened = session.visit.opened
    return opened.session_id.text if opened is not None and opened.session_id and session.visit.exists else None


def _seconds(duration: int | timedelta | None) -> float | None:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def _refused(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """The answer while a session cannot be reached; the cookie is left alone."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Response(REFUSAL_TEXT, status_code=503, media_type="text/plain", headers=headers)
