"""A pytest plugin for Flask-Caching's own tests: its ``SimpleCache`` is Understudy's cache."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cachelib.simple
import flask_caching.backends
from flask_caching.backends.base import BaseCache
from understudy_in_cachelib import FreshCache, xprocess

import understudy.cachelib
from understudy.flask_caching import put_together, taken_apart

__all__ = ["xprocess"]


class FlaskCache(FreshCache, BaseCache):  # type: ignore[misc]  # one base types its methods more finely
    @classmethod
    def factory(cls, _app: Any, _config: Any, args: list[Any], options: dict[str, Any]) -> FlaskCache:
        """As Flask-Caching makes the caches that it knows, and as ours does with what it is to keep."""
        return cls(*args, **options, taken_apart=taken_apart, put_together=put_together)


flask_caching.backends.SimpleCache = FlaskCache  # type: ignore[assignment,misc]
understudy.cachelib.time = SimpleNamespace(time=lambda: cachelib.simple.time())  # the clock that the tests move
