"""Flask: ``Understudy(app)`` keeps ``flask.session`` in Understudy.

``flask.session`` is used as ever, and needs no ``session.modified = True``. ``session.clear()`` logs out: it ends the
session for everybody, and what the request writes afterwards begins a new one with a new id. Settings that Flask
already has (``SESSION_COOKIE_*``, ``PERMANENT_SESSION_LIFETIME`` as the idle timeout) count where they differ from
Flask's own defaults, as they are at each request; a keyword of ``Understudy`` wins over them, they win over
``UNDERSTUDY_*`` variables and the file. Flask's 31 days are the idle timeout where nothing is said.

A request that never looks at its session renews it only if it is permanent, as ``SESSION_REFRESH_EACH_REQUEST`` says.
What a view changed before it raised is committed with the error's response, as Flask does it. What a streaming
response changes after its first byte is committed before its end; no cookie can be sent then, so a session must have
begun before. While a session cannot be reached the answer is 503 with ``Retry-After``; an application may register
its own handler for these errors.
"""

from __future__ import annotations

import weakref
from datetime import datetime
from functools import partial
from typing import cast

from flask import Flask, Request, Response, request
from flask import session as flask_session
from flask.sessions import SessionInterface, SessionMixin

from understudy.client.cookies import cookie_in
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
from understudy.client.late_parts import LateParts
from understudy.client.runtime import REFUSALS, Runtime
from understudy.cluster import Cluster
from understudy.config import Config

SessionMixin.register(FlaskSession)  # it has all of it, and its own
session = cast(FlaskSession, flask_session)
"""``flask.session`` itself, for type checkers that are to know ``rotate``, ``protected`` and the rest."""


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
        prepare(app)
        named = weakref.proxy(app)  # the application is not to keep itself alive
        runtime = Runtime(lambda: configured(named, self._keywords, "Flask"))
        app.session_interface = UnderstudyInterface(runtime)
        app.extensions["understudy"] = Cluster(runtime)
        for kind in REFUSALS:
            app.register_error_handler(kind, refusal)


class UnderstudyInterface(SessionInterface):
    """What Flask calls at a request's beginning and end."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._follow = Follower(runtime)

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
        samesite = self._config.cookie_samesite
        return None if samesite == "unset" else samesite

    def get_cookie_partitioned(self, app: Flask) -> bool:
        return self._config.cookie_partitioned

    def get_expiration_time(self, app: Flask, session: SessionMixin) -> datetime | None:
        return expiration(session, self._config)

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """Nothing is looked up before the session is used."""
        self._follow(app)
        client, environ = self._runtime.client(), request.environ
        # Not of ``request.cookies``: that reads all headers and all cookies, a tenth of a small page.
        cookie = cookie_in(environ.get("HTTP_COOKIE", ""), client.config.cookie_name)
        return cast(SessionMixin, FlaskSession(client.begin(cookie, environ)))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Commit, then send the cookie if it changed or Flask wants it sent."""
        assert isinstance(session, FlaskSession)
        client = self._runtime.client()
        renew(app, session)
        add = partial(add_headers, self, app, session, response, client.config)
        try:
            client.finish(session.understudy)
        except REFUSALS as error:
            _replace(response, error)
            return
        except Exception:
            add()  # one attribute could not be stored: the rest was, and may be a session that began just now
            raise
        add()
        if response.is_streamed and not response.direct_passthrough:  # no file, which the server may send itself
            finish = partial(client.finish, session.understudy, late=True)
            response.response = LateParts(response.response, finish)

    @property
    def _config(self) -> Config:
        return self._runtime.client().config


def _replace(response: Response, error: Exception) -> None:
    """Make ``response`` the refusal; what the application wanted to say must not be shown."""
    close = getattr(response.response, "close", None)
    if close is not None:
        response.call_on_close(close)
    text, response.status_code, headers = refusal(error)
    response.direct_passthrough = False
    response.headers.clear()
    response.headers.extend(headers)
    response.set_data(text)
