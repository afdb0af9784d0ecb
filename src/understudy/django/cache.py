"""A cache for Django on a replicated dictionary: every member sees at once what another one has set.

``CACHES = {"default": {"BACKEND": "understudy.django.cache.UnderstudyCache", "LOCATION": "pages"}}``; ``LOCATION`` is
the dictionary's name (``cluster.map``). ``add`` and ``incr`` are exact, on all members together, so that locks, rate
limits and counters hold. Values are those that a session may hold, and responses, for ``cache_page``. Nothing is
pickled, so model instances are refused (``ValueNotSupported``, a ``TypeError``); text that Django has marked as safe
comes back as text. A response for which there is no room is not kept, and a line in the log says so.

A value lapses by the wall clock, and is removed by the sweep: each ``set`` looks at a few other keys. ``MAX_ENTRIES``
and ``CULL_FREQUENCY`` count for nothing, as with Memcached and Redis.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.http import HttpResponse
from django.utils.safestring import SafeString

from understudy.client import lapsing
from understudy.django.pages import put_together, taken_apart
from understudy.django.runtime import cluster
from understudy.errors import SessionTooLarge, StoreFull

SWEPT_KEYS = 4
"""Looked at by each ``set``: more than it adds, so that what has lapsed becomes less, whoever asks for it."""


RESPONSE = "response"
"""Stands behind the end of a value that is a response taken apart."""
_LOG = logging.getLogger("understudy")


class _Unchanged(Exception):
    """Ends a transaction that has nothing to write."""


class UnderstudyCache(BaseCache):  # type: ignore[misc]  # Django has no types
    """Raises, in every method: SessionUnavailable while nobody who holds the key answers; StoreFull where it writes.

    Cost: as ``LazyReplicatedMap``; a ``set`` reads up to ``SWEPT_KEYS`` more; ``clear`` and the beginning of each sweep
    read all keys.
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._entries = cluster.map(f"django.cache:{location}")
        self._to_sweep: list[str] = []

    # --- blocking ----------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return _shown(self._entries.get(self._name(key, version)), default)

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        name, kept = self._name(key, version), self._kept(value, timeout)
        try:
            self._entries[name] = kept
        except (SessionTooLarge, StoreFull) as error:
            _excuse(value, error)
        if not self._to_sweep:
            self._to_sweep = list(self._entries)
        for name in self._next_to_sweep():
            self._entries.remove_if(name, _has_lapsed)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self._changed(key, version, self._adding(value, timeout))

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self._changed(key, version, self._touching(timeout))

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        """Raises: ValueError when there is no such key; TypeError when its value cannot be added to."""
        return self._entries.transact(self._name(key, version), _adding_to(key, delta))[0]

    def delete(self, key: str, version: int | None = None) -> bool:
        return self._entries.remove_if(self._name(key, version), lambda stored: True)

    def clear(self) -> None:
        for name in list(self._entries):
            self._entries.remove_if(name, lambda stored: True)

    # --- in an event loop --------------------------------------------------------------------------------------------

    async def aget(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return _shown(await self._entries.aget(self._name(key, version)), default)

    async def aset(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        name, kept = self._name(key, version), self._kept(value, timeout)
        try:
            await self._entries.aset(name, kept)
        except (SessionTooLarge, StoreFull) as error:
            _excuse(value, error)
        if not self._to_sweep:
            self._to_sweep = await self._entries.akeys()
        for name in self._next_to_sweep():
            await self._entries.aremove_if(name, _has_lapsed)

    async def aadd(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return await self._achanged(key, version, self._adding(value, timeout))

    async def atouch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return await self._achanged(key, version, self._touching(timeout))

    async def aincr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        return (await self._entries.atransact(self._name(key, version), _adding_to(key, delta)))[0]

    async def adelete(self, key: str, version: int | None = None) -> bool:
        return await self._entries.aremove_if(self._name(key, version), lambda stored: True)

    async def aclear(self) -> None:
        for name in await self._entries.akeys():
            await self._entries.aremove_if(name, lambda stored: True)

    # --- what both do ------------------------------------------------------------------------------------------------

    def _name(self, key: str, version: int | None) -> str:
        return lapsing.key_of("", self.make_and_validate_key(key, version=version))

    def _kept(self, value: Any, timeout: Any) -> list[Any]:
        ends = self.get_backend_timeout(timeout)
        if isinstance(value, HttpResponse):
            return [taken_apart(value), ends, RESPONSE]
        # Django marks rendered fragments as safe; whoever shows one marks it anew.
        return [str.__str__(value) if isinstance(value, SafeString) else value, ends]

    def _next_to_sweep(self) -> list[str]:
        names, self._to_sweep = self._to_sweep[:SWEPT_KEYS], self._to_sweep[SWEPT_KEYS:]
        return names

    def _adding(self, value: Any, timeout: Any) -> Callable[[Any], list[Any]]:
        kept = self._kept(value, timeout)

        def add(stored: Any) -> list[Any]:
            if not _has_lapsed(stored):
                raise _Unchanged
            return kept

        return add

    def _touching(self, timeout: Any) -> Callable[[Any], list[Any]]:
        def touch(stored: Any) -> list[Any]:
            if _has_lapsed(stored):
                raise _Unchanged
            return [stored[0], self.get_backend_timeout(timeout), *stored[2:]]

        return touch

    def _changed(self, key: str, version: int | None, change: Callable[[Any], list[Any]]) -> bool:
        try:
            self._entries.transact(self._name(key, version), change)
        except _Unchanged:
            return False
        return True

    async def _achanged(self, key: str, version: int | None, change: Callable[[Any], list[Any]]) -> bool:
        try:
            await self._entries.atransact(self._name(key, version), change)
        except _Unchanged:
            return False
        return True


def _has_lapsed(stored: Any) -> bool:
    return lapsing.current(stored, time.time()) is lapsing.MISSING


def _shown(stored: Any, default: Any) -> Any:
    value = lapsing.current(stored, time.time())
    if value is lapsing.MISSING:
        return default
    return put_together(value) if stored[2:] == [RESPONSE] else value


def _excuse(value: Any, error: Exception) -> None:
    """A page is served without being kept; who sets another value is told. Raises: ``error``, for that."""
    if not isinstance(value, HttpResponse):
        raise error
    _LOG.warning("a response was not kept in Django's cache: %s", error)


def _adding_to(key: str, delta: int) -> Callable[[Any], list[Any]]:
    def add_to(stored: Any) -> list[Any]:
        if _has_lapsed(stored):
            raise ValueError(f"Key '{key}' not found")
        return [stored[0] + delta, stored[1]]

    return add_to
