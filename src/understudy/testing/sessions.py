"""Gives the session of a framework's test client: a look into it, or what a request is to find in it.

The application is looked for behind the client, through its wrappers, until one of our adapters is found; its own
``Client`` opens and commits the session, and the cookie is put where the test client keeps its cookies.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from typing import Any, cast

from understudy.client.cookies import cookie_in, set_cookie
from understudy.cluster import Cluster
from understudy.config import Config

WRAPPERS = (
    "app", "application", "_app", "wsgi_app", "asgi_app", "asgi_handler", "middleware_stack", "_transport", "transport",
    "handler", "server", "registry", "middleware", "kwargs", "config", "backend", "on_response_prepare",
)  # fmt: skip
"""Where test clients, frameworks and middlewares keep what they wrap."""
STEPS_MAX = 1000
"""Wrappers and applications that are looked at before giving up; a chain of middlewares is far shorter."""


@contextmanager
def session_of(client: Any) -> Iterator[Any]:
    """The session of a test client's user, committed at the end of the block; its cookie is the client's from then on.

    ``client`` is a test client of Starlette, FastAPI, Flask, Quart, Litestar or aiohttp, WebTest's ``TestApp``
    (Pyramid's users have it), werkzeug's ``Client``, or httpx's over an ASGI or WSGI application. What a request
    changes while the block runs is not seen in it. Where the block raises, nothing is committed.

    With Django's ``Client`` it is the ``SessionStore`` that ``client.session`` gives, saved at the end.

    Raises: LookupError if no application with an adapter of ours is behind the client.
    """
    if hasattr(type(client), "force_login"):
        yield from _djangos(client)
        return
    sessions = cluster_of(client).runtime.client()
    before, put = _cookies_of(client, sessions.config)
    session = sessions.begin(before)
    yield session
    sessions.finish(session)
    after = session.visit.cookie_now
    if after is not None and after != before:
        put(after)


def _djangos(client: Any) -> Iterator[Any]:
    """Django's client begins a session by itself, where there is none, and keeps its cookie."""
    session = client.session
    before = session.session_key
    (name,) = (name for name, morsel in client.cookies.items() if morsel.value == before)
    yield session
    if session.session_key is not None:
        session.save()
        client.cookies[name] = session.session_key
    else:
        del client.cookies[name]  # flushed: logged out


def cluster_of(client: Any) -> Cluster:
    """The ``Cluster`` of the application behind a test client. Raises: LookupError."""
    waiting: list[Any] = [client]
    seen: set[int] = set()
    while waiting and len(seen) < STEPS_MAX:
        one = waiting.pop(0)
        if id(one) in seen or isinstance(one, str | int | bytes | None):
            continue
        seen.add(id(one))
        found = _cluster_at(one)
        if found is not None:
            return found
        _build_middlewares(one)
        for wrapper in WRAPPERS:
            held = getattr(one, wrapper, None)
            waiting += _parts_of(held)
        registered = getattr(one, "registeredUtilities", None)  # Pyramid's registry
        waiting += [utility.component for utility in registered()] if registered is not None else []
        waiting.append(getattr(one, "__self__", None))  # a bound method, such as a Flask application's `wsgi_app`
    raise LookupError(f"no application that has its sessions in Understudy was found behind {type(client).__name__}")


def _cluster_at(one: Any) -> Cluster | None:
    found = getattr(one, "cluster", None)
    if not isinstance(found, Cluster):
        extensions = getattr(one, "extensions", None)
        found = extensions.get("understudy") if isinstance(extensions, dict) else None
    return found if isinstance(found, Cluster) else None


def _parts_of(held: Any) -> list[Any]:
    """What a wrapper holds, if it holds several things."""
    if type(held) is dict:
        return list(held.values())
    return list(held) if isinstance(held, Sequence) and not isinstance(held, str | bytes) else [held]


def _build_middlewares(one: Any) -> None:
    """Starlette makes its middlewares at the first request; a session may be wanted before that."""
    build = getattr(one, "build_middleware_stack", None)
    if callable(build) and getattr(one, "middleware_stack", False) is None:
        one.middleware_stack = build()


def _cookies_of(client: Any, config: Config) -> tuple[str, Callable[[str], object]]:
    """The session's cookie that a test client would send, and how it takes another one ("": none any more)."""
    name = config.cookie_name
    if hasattr(client, "get_cookie") and hasattr(client, "delete_cookie"):  # werkzeug's, and so Flask's
        held = client.get_cookie(name)
        value = str(held.value) if held is not None else ""
        return value, lambda cookie: client.set_cookie(name, cookie) if cookie else client.delete_cookie(name)
    jar = getattr(getattr(client, "session", None), "cookie_jar", None)
    if hasattr(jar, "filter_cookies"):
        return _cookies_in_aiohttp(jar, client.make_url(config.cookie_path), config)
    for place in ("cookiejar", "cookie_jar", "cookies"):  # WebTest's, Quart's, httpx's
        found = getattr(client, place, None)
        jar = getattr(found, "jar", found)
        if isinstance(jar, CookieJar):
            return _cookies_in(jar, _address_of(client), config)
    raise LookupError(f"{type(client).__name__} keeps its cookies where Understudy does not know")


def _cookies_in(jar: CookieJar, address: str, config: Config) -> tuple[str, Callable[[str], object]]:
    """The same for the standard library's jar: it is given and asked what a server would give and be sent."""
    request = urllib.request.Request(address + config.cookie_path)
    jar.add_cookie_header(request)

    def put(cookie: str) -> None:
        line = set_cookie(config, cookie, is_https=request.type == "https")
        jar.extract_cookies(cast(HTTPResponse, _Response(line)), request)

    return cookie_in(request.get_header("Cookie") or "", config.cookie_name), put


def _cookies_in_aiohttp(jar: Any, url: Any, config: Config) -> tuple[str, Callable[[str], object]]:
    """The same for aiohttp's jar."""
    held = jar.filter_cookies(url).get(config.cookie_name)

    def put(cookie: str) -> None:
        jar.update_cookies(SimpleCookie(set_cookie(config, cookie, is_https=url.scheme == "https")), url)

    return held.value if held is not None else "", put


def _address_of(client: Any) -> str:
    """Where the test client believes that it calls: what a cookie belongs to."""
    base = str(getattr(client, "base_url", "") or "http://localhost")
    return base.rstrip("/")


class _Response:
    """As much of a response as ``http.cookiejar`` looks at."""

    def __init__(self, cookie: str) -> None:
        self._headers = Message()
        self._headers["Set-Cookie"] = cookie

    def info(self) -> Message:
        return self._headers
