"""Django's middleware for sessions, with what it lacks: 503, changes made while a response streams, a safer cookie."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions import middleware
from django.http import HttpResponse
from django.utils.cache import patch_vary_headers

from understudy.client.cookies import PROTECTED_HEADER
from understudy.client.runtime import REFUSAL_TEXT, REFUSALS, RETRY_AFTER_S
from understudy.django.runtime import RUNTIME
from understudy.django.sessions import SessionStore

_LOG = logging.getLogger("understudy")


class SessionMiddleware(middleware.SessionMiddleware):  # type: ignore[misc]  # Django has no types
    """In place of ``django.contrib.sessions.middleware.SessionMiddleware``, at the same place of ``MIDDLEWARE``.

    While a session cannot be reached, or a change cannot be committed, the answer is 503 with ``Retry-After`` and the
    cookie is left alone (with Django's own it is 500, and the cookie is left alone, too). What a streaming response
    changes is committed before its end. The cookie is Secure when the request is https, also if
    ``SESSION_COOKIE_SECURE`` is not set, and also when it is taken away. ``rotate()`` has its grace time.
    """

    def process_request(self, request: Any) -> None:
        super().process_request(request)
        if isinstance(request.session, SessionStore):
            request.session.has_grace = True
            request.session.request = request.META

    def process_exception(self, request: Any, exception: Exception) -> Any:
        """Called for what a view raises."""
        return _refused(exception) if isinstance(exception, REFUSALS) else None

    def process_response(self, request: Any, response: Any) -> Any:
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return super().process_response(request, response)
        if session.refusal is not None and response.status_code >= 500:
            return response if response.headers.get("Retry-After") else _refused(session.refusal)
        if RUNTIME.client().is_read_only(request.path) and not session.has_acted:
            if session.accessed:
                patch_vary_headers(response, ("Cookie",))
            session.drop()
            return response
        try:
            response = super().process_response(request, response)
            self._mend_cookie(request, response)
        except REFUSALS as error:
            return _refused(error)
        held = session.held
        if held is not None and held.visit.wrote and RUNTIME.client().config.protected_header:
            response.headers[PROTECTED_HEADER] = "1" if held.protected else "0"
        if response.streaming and not getattr(response, "file_to_stream", None):
            parts = response.streaming_content
            wrapped = _astream if response.is_async else _stream
            response.streaming_content = wrapped(parts, session.finish_late)
        return response

    @staticmethod
    def _mend_cookie(request: Any, response: Any) -> None:
        name = settings.SESSION_COOKIE_NAME
        morsel = response.cookies.get(name)
        if morsel is None:
            return
        if morsel.value and morsel.value == request.COOKIES.get(name) and not request.session.is_current:
            del response.cookies[name]  # another request has renewed the id a moment ago; its cookie is on the way
        else:
            morsel["secure"] = settings.SESSION_COOKIE_SECURE or request.is_secure() or ""


def _refused(error: Exception) -> Any:
    """The answer while a session cannot be reached."""
    _LOG.warning("answered 503: %s", error)
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return HttpResponse(REFUSAL_TEXT, status=503, content_type="text/plain; charset=utf-8", headers=headers)


def _stream(parts: Iterator[bytes], finish: Callable[[], None]) -> Iterator[bytes]:
    """The parts; what they change is committed before the server tells that this was all, or when it stops asking."""
    try:
        yield from parts
    finally:
        finish()


async def _astream(parts: AsyncIterator[bytes], finish: Callable[[], None]) -> AsyncIterator[bytes]:
    try:
        async for part in parts:
            yield part
    finally:
        await sync_to_async(finish)()
