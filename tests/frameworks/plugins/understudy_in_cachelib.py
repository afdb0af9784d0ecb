"""A pytest plugin for cachelib's own tests: ``SimpleCache`` and ``RedisCache`` are Understudy's cache."""

from __future__ import annotations

import itertools
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import cachelib
import pytest
from cachelib.serializers import JSONSerializer

from understudy.cachelib import UnderstudyCache
from understudy.cluster import Cluster

_xprocess = ModuleType("xprocess")  # starts servers, which these tests do not need
_xprocess.ProcessStarter = object  # type: ignore[attr-defined]
sys.modules.setdefault("xprocess", _xprocess)
_numbers = itertools.count()


class FreshCache(UnderstudyCache):
    """A cache that is empty at the beginning, as each of cachelib's own is in its tests."""

    serializer = JSONSerializer()
    """Other caches have one, and tests replace it; ours stores values without."""

    def __init__(self, default_timeout: int = 300, key_prefix: str | None = None, **others: Any) -> None:
        """``others`` may be sizes and addresses, which concern the caches whose place it takes."""
        ours = {name: value for name, value in others.items() if name in ("taken_apart", "put_together")}
        super().__init__(Cluster.from_config().map(f"test-{next(_numbers)}"), default_timeout, key_prefix or "", **ours)
        self._cache = self._map
        self._write_client = SimpleNamespace(flushdb=self.clear)


@pytest.fixture(scope="class")
def xprocess() -> None:
    """Starts no server: ``CI`` is set, which tells the tests that there is one."""


cachelib.SimpleCache = cachelib.RedisCache = FreshCache  # type: ignore[misc,assignment]
