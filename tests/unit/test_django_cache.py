"""Claims of Django's cache on a replicated dictionary; Django's own suite for caches is run by ``make frameworks``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import CacheKeyWarning, caches
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.utils.cache import get_cache_key
from django.utils.safestring import mark_safe
from django.views.decorators.cache import cache_page
from tests.django_settings import DJANGO_SETTINGS

from understudy.client.member import _members
from understudy.django import cluster
from understudy.django.cache import SWEPT_KEYS, UnderstudyCache
from understudy.django.runtime import RUNTIME
from understudy.errors import SessionTooLarge, ValueNotSupported
from understudy.testing import MemoryCluster


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


@override_settings(CACHES={"default": {"BACKEND": "understudy.django.cache.UnderstudyCache"}})
def test_a_page_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """``cache_page``: the view runs once until the page's time is over; headers, cookies and content are as sent."""
    calls: list[str] = []

    @cache_page(60)
    def view(request: Any) -> HttpResponse:
        calls.append(request.path)
        response = HttpResponse("caf\xe9", content_type="text/x; charset=latin-1", headers={"X-Mine": "a, b"})
        response.set_cookie("seen", 'a "b";c', max_age=7, httponly=True)
        return response

    def ask() -> Any:
        return view(RequestFactory().get("/page"))

    first, second = ask(), ask()
    assert calls == ["/page"] and second.content == b"caf\xe9" and second.charset == "latin-1"
    assert dict(first.items()).items() <= dict(second.items()).items() and second["X-Mine"] == "a, b"
    assert second.cookies.output() == first.cookies.output() and second.reason_phrase == "OK"
    key = get_cache_key(RequestFactory().get("/page"))
    assert caches["default"].touch(key, 120)
    later(monkeypatch, 61)
    assert caches["default"].get(key).content == b"caf\xe9", "its time was put off, and it is a response still"
    ask()
    assert len(calls) == 2, "what the page varies by has lapsed"


def test_a_page_without_a_content_type_stays_without(cache: UnderstudyCache) -> None:
    """Nothing is added that was not sent; in coroutines, too."""
    response = HttpResponse(status=200, reason="Fine")
    del response["Content-Type"]
    asyncio.run(cache.aset("page", response))
    found = asyncio.run(cache.aget("page"))
    assert (dict(found.items()), found.reason_phrase, found.content) == ({}, "Fine", b"")


def test_a_page_for_which_there_is_no_room_is_served(
    cache: UnderstudyCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log tells of it; another value is refused with an error, as its caller must know."""
    large = "x" * 2_000_000
    cache.set("page", HttpResponse(large))
    asyncio.run(cache.aset("page", HttpResponse(large)))
    assert cache.get("page") is None and caplog.text.count("was not kept") == 2
    with pytest.raises(SessionTooLarge):
        cache.set("value", large)
    with pytest.raises(SessionTooLarge):
        asyncio.run(cache.aset("value", large))


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


def test_every_member_has_what_another_one_set(cache: UnderstudyCache) -> None:
    """S02, S03, S12: at once, with its neighbours' keys; counters are exact over members; a loss loses nothing."""
    with MemoryCluster(3) as cluster:
        for member in cluster.members:
            with cluster.at(member):
                cache.set(member, [member])
                cache.add("n", 0)
                assert cache.incr("n") == cluster.members.index(member) + 1
        cluster.kill("a")
        for member in cluster.living:
            with cluster.at(member):
                assert cache.get_many(["a", "b", "c", "n"]) == {"a": ["a"], "b": ["b"], "c": ["c"], "n": 3}


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
    """S44: by whoever sets something, so that a cache whose keys nobody asks for again does not grow for ever."""
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
