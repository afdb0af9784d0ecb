"""Claims of Django's cache on a replicated dictionary; Django's own suite for caches is run by ``make frameworks``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import CacheKeyWarning, caches
from django.test import override_settings
from django.utils.safestring import mark_safe
from tests.django_settings import DJANGO_SETTINGS

from understudy.client.member import _members
from understudy.django import cluster
from understudy.django.cache import SWEPT_KEYS, UnderstudyCache
from understudy.django.runtime import RUNTIME
from understudy.errors import ValueNotSupported


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    monkeypatch.setenv("UNDERSTUDY_MEMBER", "web1")
    for name, value in DJANGO_SETTINGS.items():
        setattr(settings, name, value)
    settings.UNDERSTUDY = {}
    RUNTIME.reset()
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


@pytest.fixture
def cache() -> UnderstudyCache:
    return UnderstudyCache("pages", {})


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The wall clock goes on by so much."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)


def test_it_is_configured_in_one_line(directory: Path) -> None:
    """Nothing is opened before it is used; two locations are two caches, one location is one for all."""
    backend = "understudy.django.cache.UnderstudyCache"
    one = {"BACKEND": backend, "LOCATION": "one"}
    with override_settings(CACHES={"default": one, "same": one, "other": {"BACKEND": backend}}):
        assert isinstance(caches["default"], UnderstudyCache) and not directory.exists()
        caches["default"].set("n", 1)
        assert (caches["same"].get("n"), caches["other"].get("n")) == (1, None)


def test_values_come_back_as_what_they_were(cache: UnderstudyCache) -> None:
    """Also None; what Django has marked as safe is text; what only pickle could keep is refused by name."""
    values = {"n": None, "when": datetime(2026, 1, 1, tzinfo=UTC), "pair": (1, {2}), "html": mark_safe("<b>")}
    cache.set_many(values)
    assert cache.get_many(values) == values and type(cache.get("html")) is str
    with pytest.raises(ValueNotSupported, match="product"):
        cache.set("product", object())
    with pytest.warns(CacheKeyWarning):  # as Django's caches do, so that one may go back to Memcached
        cache.set("x" * 300, 1)
        assert cache.get("x" * 300) == 1


def test_a_lock_is_given_to_one(cache: UnderstudyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """``add`` succeeds for one of many at once, and again when the lock has lapsed."""
    won: list[bool] = []
    threads = [threading.Thread(target=lambda: won.append(cache.add("lock", 1, 30))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]
    later(monkeypatch, 31)
    assert cache.add("lock", 2, 30) and not asyncio.run(cache.aadd("lock", 3))
    assert cache.get("lock") == 2


def test_counters_are_exact_and_keep_their_end(cache: UnderstudyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """S03: increments at once all count; a rate limit ends when it was meant to."""
    cache.set("hits", 0, 60)
    threads = [threading.Thread(target=lambda: [cache.incr("hits") for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.decr("hits", 5) == 35
    later(monkeypatch, 61)
    with pytest.raises(ValueError, match="hits"):
        cache.incr("hits")
    with pytest.raises(ValueError, match="hits"):
        asyncio.run(cache.aincr("hits"))


def test_touch_puts_the_end_off(cache: UnderstudyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a value that never lapses does not; one with no time at all is not there."""
    cache.set("a", 1, 60)
    cache.set("b", 1, None)
    cache.set("c", 1, 0)
    assert cache.touch("a", 120) and not cache.touch("c", 120) and not cache.touch("d")
    later(monkeypatch, 100)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, 1, None)
    assert asyncio.run(cache.atouch("a", 0)) and not cache.has_key("a")


def test_what_has_lapsed_is_swept(cache: UnderstudyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever sets something, so that a cache whose keys nobody asks for again does not grow for ever."""
    for n in range(3 * SWEPT_KEYS):
        cache.set(f"old{n}", n, 10)
    cache.set("kept", 1, None)
    later(monkeypatch, 11)
    fresh = UnderstudyCache("pages", {})
    for n in range(6):
        fresh.set(f"new{n}", n)
    names = set(cluster.map("django.cache:pages"))
    assert not {name for name in names if "old" in name} and any("kept" in name for name in names)


def test_coroutines_need_no_thread(cache: UnderstudyCache) -> None:
    """Every ``a`` method runs in the loop itself, also those that Django makes of others."""
    threads: set[threading.Thread] = set()

    async def all_of_them() -> None:
        await cache.aset("a", 1)
        await cache.aset_many({"b": 2, "c": 3})
        assert await cache.aadd("d", 4) and await cache.aincr("a") == 2 and await cache.adecr("a") == 1
        assert await cache.aget_many(["a", "b", "x"]) == {"a": 1, "b": 2}
        assert await cache.aget_or_set("e", 5) == 5 and await cache.ahas_key("e")
        assert await cache.adelete("a") and not await cache.adelete("a")
        await cache.aclear()
        assert await cache.aget_many(["b", "c", "d", "e"]) == {}
        threads.update(threading.enumerate())

    before = set(threading.enumerate())
    asyncio.run(all_of_them())
    assert threads <= before


def test_djangos_cached_sessions_work_on_it() -> None:
    """``SESSION_ENGINE = "django.contrib.sessions.backends.cache"``; how to share them without changing the engine."""
    with override_settings(CACHES={"default": {"BACKEND": "understudy.django.cache.UnderstudyCache"}}):
        engine = import_module("django.contrib.sessions.backends.cache")
        session = engine.SessionStore()
        session["n"] = 1
        session.save()
        again = engine.SessionStore(session.session_key)
        assert again["n"] == 1
        again.flush()
        assert not again.exists(session.session_key)
