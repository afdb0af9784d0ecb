"""A ``cachelib`` cache on a replicated dictionary: what one member sets, every other one gets, without a cache server.

It opens what takes such a cache: Flask-Session (``SESSION_TYPE = "cachelib"``, ``SESSION_CACHELIB =
UnderstudyCache(cluster.map("flask-session"))``) and Flask-Caching (``CACHE_TYPE =
"understudy.cachelib.flask_cache"``). ``add``, ``inc`` and ``dec`` are exact, on whichever members they are called.

Values are what a session's attribute may be; nothing is pickled. A value lapses by the wall clock, and is removed when
somebody asks for it after that, or by ``delete_expired``: nothing is evicted for room. While nobody who holds a key
answers, methods raise ``SessionUnavailable``.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from cachelib.base import BaseCache

from understudy.client import lapsing
from understudy.client.replicated_map import LazyReplicatedMap
from understudy.cluster import Cluster

DEFAULT_TIMEOUT_S = 300
"""cachelib's default."""


class UnderstudyCache(BaseCache):
    """``entries``: ``cluster.map(name)``. Several caches in one dictionary need a ``key_prefix`` each."""

    def __init__(
        self, entries: LazyReplicatedMap, default_timeout: int = DEFAULT_TIMEOUT_S, key_prefix: str = ""
    ) -> None:
        super().__init__(default_timeout)
        self._map = entries
        self._prefix = key_prefix

    def get(self, key: str) -> Any:
        """The value, None if there is none. Removes one that has lapsed."""
        stored = self._map.get(self._key(key))
        value = lapsing.current(stored, time.time())
        if value is not lapsing.MISSING:
            return value
        if stored is not None:
            self.delete(key)
        return None

    def has(self, key: str) -> bool:
        return lapsing.current(self._map.get(self._key(key)), time.time()) is not lapsing.MISSING

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Raises: ValueNotSupported."""
        self._map[self._key(key)] = self._kept(value, timeout)
        return True

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Of several at once, one says True."""
        added = False

        def unless_there(stored: Any) -> Any:
            nonlocal added
            added = lapsing.current(stored, time.time()) is lapsing.MISSING
            return self._kept(value, timeout) if added else stored

        self._map.transact(self._key(key), unless_there)
        return added

    def delete(self, key: str) -> bool:
        """True if there was one."""
        return self._delete(self._key(key))

    def inc(self, key: str, delta: int = 1) -> int:
        """Exact, however many do it at once. The time that the value has left stays as it is."""

        def more(stored: Any) -> Any:
            value = lapsing.current(stored, time.time())
            return self._kept(delta, None) if value is lapsing.MISSING else [value + delta, stored[1]]

        total: int = self._map.transact(self._key(key), more)[0]
        return total

    def dec(self, key: str, delta: int = 1) -> int:
        """As ``inc``."""
        return self.inc(key, -delta)

    def clear(self) -> bool:
        """Deletes all keys of this prefix. Cost: all keys of the dictionary are read."""
        for name in list(self._map):
            if name.startswith((f"{self._prefix}:", f"{self._prefix}#")):
                self._delete(name)
        return True

    def delete_expired(self) -> None:
        """Removes what has lapsed. Cost: all keys and values of the dictionary are read."""
        for name in list(self._map):
            stored = self._map.get(name)
            if stored is not None and lapsing.current(stored, time.time()) is lapsing.MISSING:
                self._delete(name)

    def _kept(self, value: Any, timeout: int | timedelta | None) -> list[Any]:
        return lapsing.kept(value, self._normalize_timeout(timeout) or None, time.time())  # 0: never

    def _key(self, key: str) -> str:
        return lapsing.key_of(self._prefix, key)

    def _delete(self, name: str) -> bool:
        try:
            del self._map[name]
        except KeyError:
            return False
        return True


def flask_cache(
    default_timeout: int = DEFAULT_TIMEOUT_S, name: str = "flask-caching", key_prefix: str = "", **_others: object
) -> UnderstudyCache:
    """For Flask-Caching's ``CACHE_TYPE``; ``name`` and ``key_prefix`` come from ``CACHE_OPTIONS``.

    What else Flask-Caching passes concerns backends whose errors may be ignored.
    """
    return UnderstudyCache(Cluster.from_config().map(name), default_timeout, key_prefix)
