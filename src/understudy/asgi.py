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

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import suppress
from typing import Any, Literal, Self, TypeVar

from understudy.client.asgi_response import MAX_AGE_S, AsgiResponse, Receive, Scope, Send, configured, cookie_of
from understudy.client.runtime import REFUSALS, Runtime
from understudy.client.session import Session
from understudy.cluster import Cluster
from understudy.errors import ValueUndecodable

_Result = TypeVar("_Result")
App = Callable[[Scope, Receive, Send], Awaitable[None]]


SHORTEST_S = 1
"""What an idle timeout is at least; the sessions of ``max_age=0`` have it."""


class AsgiSession(dict[str, Any]):
    """``scope["session"]``: Understudy's session as a ``dict``, which Starlette's is, too.

    It can be returned as JSON. Encoders written in C read a dict's own storage and call no method; so the attributes
    are put there when ``request.session`` is asked for, and when they change.
    """

    __slots__ = ("understudy",)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.understudy = session

    def __getitem__(self, name: str) -> Any:
        return self.understudy[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.understudy[name] = value
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        del self.understudy[name]
        super().pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self.understudy

    def __iter__(self) -> Iterator[str]:
        return iter(self.understudy)

    def __len__(self) -> int:
        return len(self.understudy)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]  # less finely typed
        self.update(other)
        return self

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __repr__(self) -> str:
        return repr(self.understudy)

    def __getattr__(self, name: str) -> Any:
        """Everything that only Understudy's sessions have."""
        return getattr(self.understudy, name)

    def popitem(self) -> tuple[str, Any]:
        """The last one, as a dict does it."""
        for name in reversed(self):
            return name, self.pop(name)
        raise KeyError("the session has no attributes")

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def clear(self) -> None:
        """Log out: end the session, as ``invalidate`` does."""
        self.invalidate()

    def invalidate(self) -> None:
        """See ``Session.invalidate``."""
        self.understudy.invalidate()
        self._store()

    def transact(self, change: Callable[[Session], _Result]) -> _Result:
        """See ``Session.transact``."""
        result = self.understudy.transact(change)
        self._store()
        return result

    async def atransact(self, change: Callable[[Session], _Result]) -> _Result:
        """See ``Session.atransact``."""
        result = await self.understudy.atransact(change)
        self._store()
        return result

    def mark_accessed(self) -> None:
        """Called by Starlette when an application asks for its session."""
        self.understudy.mark_accessed()
        self._store()

    def _store(self) -> None:
        super().clear()
        for name in self.understudy:
            with suppress(ValueUndecodable):
                super().__setitem__(name, self.understudy[name])


for _name in ("get", "pop", "setdefault", "update", "keys", "values", "items", "__eq__"):
    setattr(AsgiSession, _name, getattr(MutableMapping, _name))  # by the methods above: dict's own look at its storage


def _spelled(cookie: str) -> str:
    """A ``Set-Cookie`` header with its flags as Starlette spells them: tests of applications compare them."""
    pair, *flags = cookie.split("; ")
    return "; ".join([pair, *(flag if flag.startswith("Max-Age") else _small(flag) for flag in flags)])


def _small(flag: str) -> str:
    name, equals, value = flag.partition("=")
    return f"{name.lower()}{equals}{value.lower() if name == 'SameSite' else value}"


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
        self._max_age_s = max_age
        self._lives = max_age is None or max_age > 0
        """False: a session is for its own request, and what cookies would open has ended already."""
        if not self._lives:
            given["idle_timeout"] = SHORTEST_S
        self._runtime = Runtime(lambda: configured(given, default_s=None if max_age is None else MAX_AGE_S))
        self.cluster = Cluster(self._runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = self._runtime.client()
        session = client.begin(cookie_of(scope, client.config.cookie_name) if self._lives else "", scope)
        scope["session"] = AsgiSession(session)
        max_age_s = self._max_age_s
        if max_age_s is not None and self._lives:
            max_age_s = client.config.idle_timeout_ms // 1000
        response = AsgiResponse(client, session, scope, send, max_age_s=max_age_s, spelled=_spelled)
        if session.visit.cookie:
            await session.preload()
        try:
            await self._app(scope, receive, response.send)
        except REFUSALS as error:
            await response.refuse(error)
        finally:
            await response.finish_late()
