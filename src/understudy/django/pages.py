"""Whole responses in the cache, for ``cache_page`` and Django's cache middleware: taken apart, nothing is pickled.

Kept is what a client is sent: status, reason, headers, cookies and content. What an application has put on the object
besides, and the object's class, are not.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse


def taken_apart(response: Any) -> dict[str, Any]:
    """A response as values that can be stored. Raises: ContentNotRenderedError, Django's, for one not rendered yet."""
    return {
        "status": response.status_code,
        "reason": response.reason_phrase,
        "charset": response.charset,
        "headers": list(response.headers.items()),
        "cookies": {name: (morsel.value, dict(morsel)) for name, morsel in response.cookies.items()},
        "content": response.content,
    }


def put_together(parts: dict[str, Any]) -> Any:
    """The response that was taken apart."""
    response = HttpResponse(parts["content"], None, parts["status"], parts["reason"], parts["charset"])
    del response.headers["Content-Type"]  # a default; there need not have been one
    for name, value in parts["headers"]:
        response.headers[name] = value
    for name, (value, flags) in parts["cookies"].items():
        response.cookies[name] = value
        response.cookies[name].update(flags)
    return response
