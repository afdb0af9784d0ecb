"""A ``cachelib`` cache on a replicated dictionary: what one member sets, every other one gets, without a cache server.

It opens what takes such a cache, as Flask-Session does: ``SESSION_TYPE = "cachelib"``, ``SESSION_CACHELIB =
UnderstudyCache(cluster.map("flask-session"))``. (Flask-Caching has a door of its own: ``understudy.flask_caching``.)
``add``, ``inc`` and ``dec`` are exact, on whichever members they are called.

Values are what a session's attribute may be; nothing is pickled. A value lapses by the wall clock, and is removed when
somebody asks for it after that, or by ``delete_expired``: nothing is evicted for room. While nobody who holds a key
answers, methods raise ``SessionUnavailable``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cachelib.base import BaseCache

from understudy.client import lapsing
from understudy.client.replicated_map import LazyReplicatedMap

DEFAULT_TIMEOUT_S = 300
"""cachelib's default."""


class UnderstudyCache(BaseCache):
    """``entries``: ``cluster.map(name)``. Several caches in one dictionary need a ``key_prefix`` each."""

    def __init__(
        self,
        entries: LazyReplicatedMap,
        default_timeout: int = DEFAULT_TIMEOUT_S,
        key_prefix: str = "",
        *,
        taken_apart: Callable[[Any], list[Any]] = lambda value: [value],
        put_together: Callable[..., Any] = lambda value: value,
    ) -> None:
        """See the arguments.

        Args:
            taken_apart: gives what is stored for a value, and whatever ``put_together`` needs beside it.
            put_together: gives the value again.
        """
        super().__init__(default_timeout)
        self._map = entries
        self._prefix = key_prefix
        self._taken_apart = taken_apart
        self._put_together = put_together

    def get(self, key: str) -> Any:
        """The value, None if there is none. Removes one that has lapsed."""
        stored: Any = self._map.get(self._key(key))
        value = lapsing.current(stored, time.time())
        if value is not lapsing.MISSING:
            return self._put_together(value, *stored[2:])
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
        parts, *kind = self._taken_apart(value)
        return lapsing.kept(parts, self._normalize_timeout(timeout) or None, time.time()) + kind  # 0: never

    def _key(self, key: str) -> str:
        return lapsing.key_of(self._prefix, key)

    def _delete(self, name: str) -> bool:
        try:
            del self._map[name]
        except KeyError:
            return False
        return True
