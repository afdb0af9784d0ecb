"""Pyramid: ``config.set_session_factory(UnderstudySessionFactory())``, or ``config.include("understudy.pyramid")``.

``request.session`` is an ``ISession``: a mapping with ``created``, ``new``, flash messages and CSRF tokens. It needs no
``changed()``. ``invalidate()`` logs out, and the session can be written to afterwards: that is a new one. What
Understudy's sessions have besides (``rotate``, ``transact``, ``protected`` …) is there as well.

The session is committed when Pyramid calls the response callbacks, so also with the response of an exception view; what
was changed before an error that no view answers is committed too, for a session that exists already. What a streaming
response changes is committed before its end; if it is the first to look at the session, this needs the tween that
``config.include`` adds. While a session cannot be reached ``request.session`` raises ``HTTPServiceUnavailable``: 503
with ``Retry-After``.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from pyramid.httpexceptions import HTTPServiceUnavailable  # type: ignore[import-untyped]
from pyramid.interfaces import ISession  # type: ignore[import-untyped]
from pyramid.response import FileIter  # type: ignore[import-untyped]
from zope.interface import implementer  # type: ignore[import-untyped]

from understudy.client.cookies import session_headers
from understudy.client.late_parts import LateParts
from understudy.client.runtime import REFUSAL_TEXT, REFUSALS, RETRY_AFTER_S, Client, Runtime
from understudy.client.session import Session
from understudy.cluster import Cluster
from understudy.config import load

_FLASH, _CSRF = "_f_", "_csrft_"
"""The attributes in which Pyramid's own sessions keep flash messages (with the queue's name) and the CSRF token."""
_LOG = logging.getLogger("understudy")


class UnderstudySessionFactory:
    """Keywords beside those of Pyramid's own factories are options of scope "request": ``absolute_timeout`` and so on.

    ``timeout`` is the idle timeout, ``max_age`` the cookie's lifetime (None: until the browser is closed). With
    ``set_on_exception=False`` a view that raises changes nothing, whoever answers; but a logout holds.
    Raises, at the first request: ConfigurationError. Nothing is read or started before it.
    """

    def __init__(
        self,
        *,
        cookie_name: str | None = None,
        max_age: int | None = None,
        path: str | None = None,
        domain: str | None = None,
        secure: bool | None = None,
        httponly: bool | None = None,
        samesite: str | None = None,
        timeout: int | None = None,
        set_on_exception: bool = True,
        **keywords: object,
    ) -> None:
        given: dict[str, object] = {
            "cookie_name": cookie_name,
            "cookie_path": path,
            "cookie_domain": domain,
            "cookie_secure": secure,
            "cookie_httponly": httponly,
            "cookie_samesite": samesite,
            "idle_timeout": timeout,
            **keywords,
        }
        self._max_age_s = max_age
        self._set_on_exception = set_on_exception
        self._runtime = Runtime(lambda: load().with_overrides("keyword", **given))
        self.cluster = Cluster(self._runtime)

    def __call__(self, request: Any) -> PyramidSession:
        """Called when the application first asks for ``request.session``. Raises: HTTPServiceUnavailable."""
        client = self._runtime.client()
        session = client.begin(request.cookies.get(client.config.cookie_name, ""), request.environ)
        try:
            found = PyramidSession(
                session,
                client,
                is_new=session.is_new,
                max_age_s=self._max_age_s,
                set_on_exception=self._set_on_exception,
            )
        except REFUSALS as error:
            raise _refused(error) from error
        request.add_response_callback(found.finish)
        request.add_finished_callback(found.ended)
        return found


@implementer(ISession)
class PyramidSession(MutableMapping[str, Any]):
    """``request.session``: Understudy's session with what Pyramid adds to one."""

    def __init__(
        self, session: Session, client: Client, *, is_new: bool, max_age_s: int | None, set_on_exception: bool
    ) -> None:
        self.understudy = session
        self.new = is_new
        self._client = client
        self._max_age_s = max_age_s
        self._set_on_exception = set_on_exception
        self._has_response = False
        self._has_failed = False
        """The last commit raised; it is not tried again."""

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

    def __getattr__(self, name: str) -> Any:
        """Everything that only Understudy's sessions have."""
        if name == "understudy":
            raise AttributeError(name)
        return getattr(self.understudy, name)

    # --- ISession ----------------------------------------------------------------------------------------------------

    @property
    def created(self) -> int:
        return int(self.understudy.created.timestamp())

    def changed(self) -> None:
        """Not needed: changes are found by comparison."""

    def invalidate(self) -> None:
        """Log out, see ``Session.invalidate``; what is written afterwards begins a new session."""
        self.understudy.invalidate()
        self.new = True

    def flash(self, msg: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Append a message to the queue, unless it is there and ``allow_duplicate`` is false."""
        messages = self.setdefault(_FLASH + queue, [])
        if allow_duplicate or msg not in messages:
            messages.append(msg)

    def pop_flash(self, queue: str = "") -> list[Any]:
        """The queue's messages, which are gone from it then."""
        messages: list[Any] = self.pop(_FLASH + queue, [])
        return messages

    def peek_flash(self, queue: str = "") -> list[Any]:
        """The queue's messages."""
        messages: list[Any] = self.get(_FLASH + queue, [])
        return messages

    def new_csrf_token(self) -> str:
        """Another token in the place of the last."""
        token = self[_CSRF] = secrets.token_hex(20)
        return token

    def get_csrf_token(self) -> str:
        """The session's token, made if there is none."""
        token: str | None = self.get(_CSRF)
        return self.new_csrf_token() if token is None else token

    # --- the response ------------------------------------------------------------------------------------------------

    def finish(self, request: Any, response: Any) -> None:
        """Commit, and give the response the session's headers; a refusal takes the response's place."""
        self._has_response = True
        if getattr(request, "exception", None) is not None:  # tests' dummy requests have none
            self._view_raised()
        try:
            self._commit()
        except REFUSALS as error:
            _replace(response, error)
            return
        vary = ", ".join(response.headers.getall("Vary"))
        response.headers.pop("Vary", None)
        is_https = request.environ.get("wsgi.url_scheme") == "https"
        config = self._client.config
        headers = session_headers(self.understudy, config, vary=vary, is_https=is_https, max_age_s=self._max_age_s)
        for name, value in headers:
            response.headers.add(name, value)
        _watch(request, response)

    def finish_late(self, request: Any) -> None:
        """Commit what was changed after the response had begun, or before an error."""
        if not self._has_failed:
            self._commit(late=True)

    def ended(self, request: Any) -> None:
        """Called by Pyramid when it is done with the request, also where nothing has answered an error."""
        if not self._has_response:
            self._view_raised()
        self.finish_late(request)

    def _view_raised(self) -> None:
        if not self._set_on_exception:
            self.understudy.forget_changes()

    def _commit(self, *, late: bool = False) -> None:
        self._has_failed = True
        self._client.finish(self.understudy, late=late)
        self._has_failed = False


def includeme(config: Any) -> None:
    """For ``config.include``: the session factory (``set_session_factory`` may replace it), the tween for streams, and
    503 as the answer to refusals in the middle of a view.
    """
    config.set_session_factory(UnderstudySessionFactory())
    config.add_tween("understudy.pyramid.tween_factory")
    for kind in REFUSALS:
        config.add_exception_view(lambda error, request: _refused(error), context=kind)


def tween_factory(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """A tween that watches streaming responses: one may be the first to look at its session."""

    def tween(request: Any) -> Any:
        response = handler(request)
        _watch(request, response)
        return response

    return tween


def _watch(request: Any, response: Any) -> None:
    """Let what a streaming response changes be committed. A file changes nothing, and the server may send it itself."""
    wrapper = request.environ.get("wsgi.file_wrapper")
    whole = (list, tuple, FileIter, LateParts, *((wrapper,) if isinstance(wrapper, type) else ()))
    if isinstance(response.app_iter, whole):
        return

    def finish() -> None:
        session = request.__dict__.get("session")  # where Pyramid keeps it once somebody has asked for it
        if isinstance(session, PyramidSession):
            session.finish_late(request)

    response.app_iter = LateParts(response.app_iter, finish)


def _refused(error: Exception) -> Any:
    """The answer while a session cannot be reached; the cookie is left alone."""
    _LOG.warning("answered 503: %s", error)
    headers = [("Retry-After", str(RETRY_AFTER_S)), ("Content-Type", "text/plain; charset=utf-8")]
    return HTTPServiceUnavailable(headers=headers, body=REFUSAL_TEXT.encode())


def _replace(response: Any, error: Exception) -> None:
    """Make ``response`` that answer; what the application wanted to say must not be shown."""
    close = getattr(response.app_iter, "close", None)
    if close is not None:
        close()
    answer = _refused(error)
    response.status = answer.status
    response.headerlist = answer.headerlist
    response.body = answer.body
