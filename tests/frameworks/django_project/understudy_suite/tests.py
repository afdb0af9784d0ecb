"""Run by Django's own runner: what it asserts of each of its stores, and of its middleware, of ours."""

from __future__ import annotations

from unittest import mock

from cache import tests as djangos_cache
from django.test import SimpleTestCase, TestCase, override_settings
from sessions_tests import tests as djangos

from understudy.django import SessionMiddleware, SessionStore

OURS = "understudy.django.cache.UnderstudyCache"


class UnderstudySessionTests(djangos.SessionTestsMixin, SimpleTestCase):  # type: ignore[misc]
    backend = SessionStore


class UnderstudyMiddlewareTests(djangos.SessionMiddlewareTests):  # type: ignore[misc]
    def setUp(self) -> None:
        super().setUp()
        ours = mock.patch.object(djangos, "SessionMiddleware", SessionMiddleware)
        ours.start()
        self.addCleanup(ours.stop)


@override_settings(CACHES={"default": {"BACKEND": OURS}})
class UnderstudyCachedDbTests(djangos.CacheDBSessionTests):  # type: ignore[misc]
    """Django's ``cached_db`` on our cache."""


@override_settings(
    CACHES=djangos_cache.caches_setting_for_tests(
        BACKEND=OURS,
        exclude={"cull", "zero_cull"},  # MAX_ENTRIES counts for nothing, as with Memcached and Redis
    )
)
class UnderstudyCacheTests(djangos_cache.BaseCacheTests, TestCase):  # type: ignore[misc]
    """As Django's tests of its Redis cache: nothing is culled."""


ONE = override_settings(CACHES={"default": {"BACKEND": OURS}})


@ONE
class UnderstudyCacheUtilsTests(djangos_cache.CacheUtils):  # type: ignore[misc]
    """Which page a request is answered with."""


@ONE
class UnderstudyHeadTests(djangos_cache.CacheHEADTest):  # type: ignore[misc]
    """HEAD from a cached GET."""


@ONE
class UnderstudyLanguagesTests(djangos_cache.CacheI18nTest):  # type: ignore[misc]
    """A page for each language."""


@ONE
class UnderstudyTemplateResponseTests(djangos_cache.TestWithTemplateResponse):  # type: ignore[misc]
    """Pages that are rendered late."""


@override_settings(
    CACHES={"default": {"BACKEND": OURS}, "other": {"BACKEND": OURS, "LOCATION": "other", "TIMEOUT": "1"}}
)
class UnderstudyPagesTests(djangos_cache.CacheMiddlewareTest):  # type: ignore[misc]
    """Django's cache middleware and ``cache_page``."""
