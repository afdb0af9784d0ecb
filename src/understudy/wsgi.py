"""WSGI: ``app = SessionMiddleware(app)`` gives every request ``environ["understudy.session"]``, a ``Session``.

The session is committed before the response's first byte: when the application's iterable gives its first part, or
calls ``write``. What it changes later is committed before the response's end; no cookie can be sent then, so a
session must have begun before. What the application changed before it raised is committed as well (for a session that
exists already: the server makes the error's response, which has no cookie). While a session cannot be reached the
answer is 503 with ``Retry-After``. ``clear()`` deletes all attributes; ``invalidate()`` logs out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from understudy.client.cookies import cookie_in, session_headers
from understudy.client.runtime import REFUSAL_TEXT, REFUSALS, RETRY_AFTER_S, Client, Runtime
from understudy.client.session import Session
from understudy.cluster import Cluster
from understudy.config import load

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SESSION = "understudy.session"

Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
_LOG = logging.getLogger("understudy")


class SessionMiddleware:
    """Keywords are options of scope "request": cookie name and flags, timeouts, ``acknowledge`` and so on.

    Raises, at the first request: ConfigurationError. Nothing is read or started before it.
    """

    def __init__(self, app: WSGIApplication, **keywords: object) -> None:
        self._app = app
        self._runtime = Runtime(lambda: load().with_overrides("keyword", **keywords))
        self.cluster = Cluster(self._runtime)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        client = self._runtime.client()
        cookie = cookie_in(environ.get("HTTP_COOKIE", ""), client.config.cookie_name)
        session = environ[SESSION] = client.begin(cookie, environ)
        response = _Response(client, session, environ, start_response)
        try:
            parts = self._app(environ, response.start)
        except REFUSALS as error:
            return response.refused(error)
        except BaseException:
            response.finish_late()
            raise
        return response.body(parts)


class _Response:
    """One response on its way: its beginning is held back until the session is committed."""

    def __init__(
        self, client: Client, session: Session, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._client = client
        self._session = session
        self._environ = environ
        self._start_response = start_response
        self._beginning: tuple[str, Headers] | None = None
        self._write: Callable[[bytes], object] | None = None
        """The server's; set once the response has begun."""
        self.is_refused = False
        """It is a 503 of ours; what the application has to say goes nowhere."""

    def start(self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /) -> Callable[[bytes], object]:
        """The application's ``start_response``."""
        if self._write is not None:
            # Too late to replace anything: the server raises what the application brings.
            return self._start_response(status, headers, exc_info)
        self._beginning = (status, headers)
        return self._write_part

    def body(self, parts: Iterable[bytes]) -> Iterable[bytes]:
        """What the server is given to send."""
        wrapper = self._environ.get("wsgi.file_wrapper")
        is_whole = isinstance(parts, list | tuple) or (isinstance(wrapper, type) and isinstance(parts, wrapper))
        if is_whole and self._beginning is not None and self._write is None:
            # All of the application's work is done, and the server may send a list or a file in its own, quicker way.
            refusal = self._begin()
            return parts if refusal is None else refusal
        return _Parts(self, parts)

    def first(self) -> list[bytes] | None:
        """Begin the response if it has not begun; gives what is sent instead when the session cannot be committed."""
        return self._begin() if self._write is None and self._beginning is not None else None

    def refused(self, error: Exception) -> list[bytes]:
        """503, if the response has not begun."""
        if self._write is not None:
            raise error
        self.is_refused = True
        _LOG.warning("answered 503: %s", error)
        text = REFUSAL_TEXT.encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
        self._write = self._start_response("503 Service Unavailable", [*headers, ("Retry-After", str(RETRY_AFTER_S))])
        return [text]

    def finish_late(self) -> None:
        """Commit what was changed after the first byte, or before an error."""
        if not self.is_refused:
            self._client.finish(self._session, late=True)

    def _begin(self) -> list[bytes] | None:
        assert self._beginning is not None
        status, headers = self._beginning
        try:
            self._client.finish(self._session)
        except REFUSALS as error:
            return self.refused(error)
        self._write = self._start_response(status, self._with_ours(headers))
        return None

    def _with_ours(self, headers: Headers) -> Headers:
        """The application's headers and the session's."""
        vary = ", ".join(value for name, value in headers if name.lower() == "vary")
        is_https = self._environ.get("wsgi.url_scheme") == "https"
        ours = session_headers(self._session, self._client.config, vary=vary, is_https=is_https)
        return [(name, value) for name, value in headers if name.lower() != "vary"] + ours

    def _write_part(self, data: bytes) -> None:
        refusal = self.first()
        assert self._write is not None
        if refusal is not None:
            self._write(refusal[0])
        elif not self.is_refused:
            self._write(data)


class _Parts:
    """The body, part by part, between the application and the server."""

    def __init__(self, response: _Response, parts: Iterable[bytes]) -> None:
        self._response = response
        self._parts = parts
        self._iterator: Iterator[bytes] = iter(parts)

    def __iter__(self) -> _Parts:
        return self

    def __next__(self) -> bytes:
        if self._response.is_refused:
            raise StopIteration
        try:
            part = next(self._iterator, None)
        except REFUSALS as error:
            return self._response.refused(error)[0]
        refusal = self._response.first()
        if refusal is not None:
            return refusal[0]
        if part is None or self._response.is_refused:
            # Before the server tells the client that this was all: its next request sees what was changed.
            self._response.finish_late()
            raise StopIteration
        return part

    def close(self) -> None:
        """Called by the server at the end, whatever happened."""
        try:
            close: Any = getattr(self._parts, "close", None)
            if close is not None:
                close()
        finally:
            self._response.finish_late()
