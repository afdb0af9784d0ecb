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

from collections.abc import Awaitable, Callable
from typing import Literal

from understudy.client.asgi_response import MAX_AGE_S, AsgiResponse, Receive, Scope, Send, configured, cookie_of
from understudy.client.runtime import REFUSALS, Runtime
from understudy.cluster import Cluster

App = Callable[[Scope, Receive, Send], Awaitable[None]]


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
        self._runtime = Runtime(lambda: configured(given, default_s=None if max_age is None else MAX_AGE_S))
        self.cluster = Cluster(self._runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = self._runtime.client()
        session = client.begin(cookie_of(scope, client.config.cookie_name), scope, clear_ends=True)
        scope["session"] = session
        response = AsgiResponse(client, session, scope, send, is_persistent=self._is_persistent)
        if session.visit.cookie:
            await session.preload()
        try:
            await self._app(scope, receive, response.send)
        except REFUSALS as error:
            await response.refuse(error)
        finally:
            await response.finish_late()
