"""Flask: ``Understudy(app)`` keeps ``flask.session`` in Understudy.

``flask.session`` is used as ever, and needs no ``session.modified = True``. ``session.clear()`` logs out: it ends the
session for everybody, and what the request writes afterwards begins a new one with a new id. Settings that Flask
already has (``SESSION_COOKIE_*``, ``PERMANENT_SESSION_LIFETIME`` as the idle timeout) count where they differ from
Flask's own defaults; a keyword of ``Understudy`` wins over them, they win over ``UNDERSTUDY_*`` variables and the file.

A request that never looks at its session costs nothing and renews nothing. What a view changed before it raised is
committed with the error's response, as Flask does it. What a streaming response changes after its first byte is
committed before its end; no cookie can be sent then, so a session must have begun before. While a session cannot be
reached the answer is 503 with ``Retry-After``; an application may register its own handler for these errors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast

from flask import Flask, Request, Response, request
from flask import session as flask_session
from flask.sessions import SessionInterface, SessionMixin

from understudy.client.runtime import REFUSALS, RETRY_AFTER_S, Runtime
from understudy.client.session import Session
from understudy.client.visit import KEEP
from understudy.cluster import Cluster
from understudy.config import Config, load

_Result = TypeVar("_Result")
_Typed = TypeVar("_Typed")
_LOG = logging.getLogger("understudy")

SETTINGS = {
    "SESSION_COOKIE_NAME": "cookie_name",
    "SESSION_COOKIE_DOMAIN": "cookie_domain",
    "SESSION_COOKIE_PATH": "cookie_path",
    "SESSION_COOKIE_HTTPONLY": "cookie_httponly",
    "SESSION_COOKIE_SECURE": "cookie_secure",
    "SESSION_COOKIE_SAMESITE": "cookie_samesite",
    "SESSION_COOKIE_PARTITIONED": "cookie_partitioned",
    "PERMANENT_SESSION_LIFETIME": "idle_timeout",
}
"""Flask's setting -> the option that it is."""
PROTECTED_HEADER = "X-Understudy-Protected"


class Understudy:
    """The extension. Keywords are options of scope "request": cookie flags, timeouts, ``acknowledge`` and so on.

    Raises, at the first request: ConfigurationError. Nothing is read or started before it.
    """

    def __init__(self, app: Flask | None = None, **keywords: object) -> None:
        self._keywords = keywords
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make ``app`` use it; ``app.extensions["understudy"]`` is the ``Cluster``."""
        runtime = Runtime(lambda: _configured(app, self._keywords))
        app.session_interface = UnderstudyInterface(runtime)
        app.extensions["understudy"] = Cluster(runtime)
        for kind in REFUSALS:
            app.register_error_handler(kind, _refused)


class FlaskSession(SessionMixin):
    """``flask.session``: Understudy's session with the attributes that Flask adds to one."""

    accessed = False

    def __init__(self, session: Session) -> None:
        self.understudy = session
        self._is_marked = False

    def __getitem__(self, name: str) -> Any:
        return self.understudy[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.understudy[name] = value

    def __delitem__(self, name: str) -> None:
        del self.understudy[name]

    def __contains__(self, name: object) -> bool:
        return name in self.understudy

    def __iter__(self) -> Iterator[str]:
        return iter(self.understudy)

    def __len__(self) -> int:
        return len(self.understudy)

    def __repr__(self) -> str:
        return repr(self.understudy)

    def clear(self) -> None:
        """Log out: end the session, as ``invalidate`` does."""
        self.understudy.invalidate()

    @property
    def modified(self) -> bool:
        """True if the request has changed the session. Setting it does no harm and is not needed."""
        return self._is_marked or self.understudy.modified

    @modified.setter
    def modified(self, value: bool) -> None:
        self._is_marked = value

    @property
    def new(self) -> bool:  # type: ignore[override]  # a plain attribute in Flask, but nobody sets it
        return self.understudy.is_new

    @property
    def id(self) -> str | None:
        return self.understudy.id

    @property
    def is_new(self) -> bool:
        return self.understudy.is_new

    @property
    def created(self) -> datetime:
        return self.understudy.created

    @property
    def role(self) -> str:
        return self.understudy.role

    @property
    def protected(self) -> bool:
        return self.understudy.protected

    @property
    def principal(self) -> Any:
        return self.understudy.principal

    def rotate(self, *, principal: Any = KEEP) -> None:
        """See ``Session.rotate``."""
        self.understudy.rotate(principal=principal)

    def invalidate(self) -> None:
        """See ``Session.invalidate``."""
        self.understudy.invalidate()

    def transact(self, change: Callable[[Session], _Result]) -> _Result:
        """See ``Session.transact``."""
        return self.understudy.transact(change)

    def as_type(self, type_: type[_Typed]) -> _Typed:
        """See ``Session.as_type``."""
        return self.understudy.as_type(type_)

    def concurrent(self, name: str) -> list[Any]:
        """See ``Session.concurrent``."""
        return self.understudy.concurrent(name)


session = cast(FlaskSession, flask_session)
"""``flask.session`` itself, for type checkers that are to know ``rotate``, ``protected`` and the rest."""


class UnderstudyInterface(SessionInterface):
    """What Flask calls at a request's beginning and end."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def get_cookie_name(self, app: Flask) -> str:
        return self._config.cookie_name

    def get_cookie_domain(self, app: Flask) -> str | None:
        return self._config.cookie_domain

    def get_cookie_path(self, app: Flask) -> str:
        return self._config.cookie_path

    def get_cookie_httponly(self, app: Flask) -> bool:
        return self._config.cookie_httponly

    def get_cookie_secure(self, app: Flask) -> bool:
        """Of the present request if the option is "auto"."""
        secure = self._config.cookie_secure
        return request.is_secure if secure == "auto" else secure

    def get_cookie_samesite(self, app: Flask) -> str | None:
        return self._config.cookie_samesite

    def get_cookie_partitioned(self, app: Flask) -> bool:
        return self._config.cookie_partitioned

    def get_expiration_time(self, app: Flask, session: SessionMixin) -> datetime | None:
        """A permanent session's cookie lives as long as the session does when nobody uses it."""
        return datetime.now(UTC) + timedelta(milliseconds=self._config.idle_timeout_ms) if session.permanent else None

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        """Nothing is looked up before the session is used."""
        cookie = request.cookies.get(self.get_cookie_name(app), "")
        return FlaskSession(self._runtime.client().begin(cookie))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Commit, then send the cookie if it changed or Flask wants it sent."""
        assert isinstance(session, FlaskSession)
        client = self._runtime.client()
        if session.accessed:
            response.vary.add("Cookie")
        if session.understudy.loaded:
            try:
                client.finish(session.understudy)
            except REFUSALS as error:
                _replace(response, error)
                return
            except Exception:
                # One attribute could not be stored: the rest was, and may be a session that has begun just now.
                self._maybe_send_cookie(app, session, response)
                raise
            self._maybe_send_cookie(app, session, response)
            if client.config.protected_header and session.understudy.visit.wrote:
                response.headers[PROTECTED_HEADER] = "1" if session.protected else "0"
        if response.is_streamed:
            finish = partial(client.finish, session.understudy, late=True)
            if not response.direct_passthrough:  # a file, which changes no session and which the server may send itself
                response.response = _Stream(response.response, finish)
            response.call_on_close(finish)  # also when the client goes away in the middle

    @property
    def _config(self) -> Config:
        return self._runtime.client().config

    def _maybe_send_cookie(self, app: Flask, session: FlaskSession, response: Response) -> None:
        visit = session.understudy.visit
        cookie = visit.cookie_now
        if cookie is None or (not cookie and not visit.cookie):
            return
        # The key is there once the application has said whether the cookie outlives the browser.
        is_wanted = "_permanent" in session and self.should_set_cookie(app, session)
        if cookie == visit.cookie and not is_wanted:
            return
        name = self.get_cookie_name(app)
        flags: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
        if cookie:
            response.set_cookie(name, cookie, expires=self.get_expiration_time(app, session), **flags)
        else:
            response.delete_cookie(name, **flags)
        response.vary.add("Cookie")


class _Stream:
    """The parts of a streaming response; what they change is committed before the server tells that this was all."""

    def __init__(self, parts: Iterable[Any], finish: Callable[[], None]) -> None:
        self._parts = parts
        self._iterator = iter(parts)
        self._finish = finish

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            self._finish()
            raise

    def close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()


def _configured(app: Flask, keywords: dict[str, object]) -> Config:
    """File and environment, under Flask's settings, under the keywords. Raises: ConfigurationError."""
    given: dict[str, object] = {}
    sources: dict[str, str] = {}
    for setting, option in SETTINGS.items():
        value = app.config.get(setting)
        if value is not None and value != app.default_config.get(setting):
            given[option], sources[option] = value, f"Flask setting {setting}"
    root = app.config.get("APPLICATION_ROOT")
    if root and root != "/" and "cookie_path" not in given:
        given["cookie_path"], sources["cookie_path"] = root, "Flask setting APPLICATION_ROOT"
    for option, value in keywords.items():
        given[option] = value
        sources.pop(option, None)
    return load().with_overrides(sources, **given)


def _refused(error: Exception) -> Response:
    """The answer while a session cannot be reached; the cookie is left alone."""
    text = "The session cannot be reached just now. Please try again in a moment.\n"
    _LOG.warning("answered 503: %s", error)
    return Response(text, 503, {"Retry-After": str(RETRY_AFTER_S)}, mimetype="text/plain")


def _replace(response: Response, error: Exception) -> None:
    """Make ``response`` that answer; what the application wanted to say must not be shown."""
    close = getattr(response.response, "close", None)
    if close is not None:
        response.call_on_close(close)
    answer = _refused(error)
    response.direct_passthrough = False
    response.headers.clear()
    response.headers.extend(answer.headers)
    response.status_code = answer.status_code
    response.response = answer.response
