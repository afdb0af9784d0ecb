"""Flask-Caching: ``CACHE_TYPE = "understudy.flask_caching.cache"`` keeps what it caches in a replicated dictionary.

``CACHE_OPTIONS = {"name": "pages"}`` names the dictionary (``cluster.map``); ``CACHE_KEY_PREFIX`` keeps several caches
in one apart. Beside what a session may hold it keeps responses, such as ``jsonify`` makes, and the errors of ``abort``:
their status, headers and content are stored, nothing is pickled. Anything else is not kept: Flask-Caching logs that
and calls the function, or raises it in debug mode.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, Response
from werkzeug.exceptions import HTTPException, default_exceptions

from understudy.cachelib import DEFAULT_TIMEOUT_S, UnderstudyCache
from understudy.cluster import Cluster

RESPONSE, ANSWER, ERROR = "response", "answer", "error"
"""Stand behind the end of a value that was taken apart."""
_ERRORS_OWN = frozenset({"description", "response"})
"""What an error may have on it that is put together again."""


def cache(app: Flask, config: dict[str, Any], args: list[Any], options: dict[str, Any]) -> UnderstudyCache:
    """Called by Flask-Caching. ``options``: ``CACHE_OPTIONS``, with ``name`` and, if it is another, ``key_prefix``."""
    return UnderstudyCache(
        Cluster.from_config().map(options.get("name", "flask-caching")),
        options.get("default_timeout", DEFAULT_TIMEOUT_S),
        options.get("key_prefix", config.get("CACHE_KEY_PREFIX", "")),
        taken_apart=taken_apart,
        put_together=put_together,
    )


def taken_apart(value: Any) -> list[Any]:
    """A value as what can be stored, and, for a response or an error, which of them it is."""
    if _is_whole(value):
        return [_parts(value), RESPONSE]
    if isinstance(value, tuple) and value and _is_whole(value[0]):  # `return jsonify(…), 201`
        return [(_parts(value[0]), *value[1:]), ANSWER]
    if isinstance(value, HTTPException) and _is_plain(value):
        response = value.response
        return [[value.code, value.description, None if response is None else _parts(response)], ERROR]
    return [value]


def put_together(value: Any, kind: str = "") -> Any:
    """The value again."""
    if kind == RESPONSE:
        return _response(value)
    if kind == ANSWER:
        return (_response(value[0]), *value[1:])
    if kind == ERROR:
        code, description, parts = value
        return default_exceptions.get(code, HTTPException)(description, None if parts is None else _response(parts))
    return value


def _is_whole(value: Any) -> bool:
    """True for a response with a body that can be kept; that of a file is left to the server."""
    return isinstance(value, Response) and not value.direct_passthrough


def _is_plain(error: HTTPException) -> bool:
    """True for one that ``abort`` makes of a status or a response, and that has nothing else on it but a text."""
    if (
        type(error) is not default_exceptions.get(error.code or 0, HTTPException)
        or not vars(error).keys() <= _ERRORS_OWN
    ):
        return False
    return error.response is None or _is_whole(error.response)


def _parts(response: Any) -> list[Any]:
    return [response.get_data(), response.status, response.headers.to_wsgi_list()]


def _response(parts: list[Any]) -> Response:
    content, status, headers = parts
    return Response(content, status, headers)
