"""Which tests of whom run on Understudy, and which of them do not hold, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_SIGNED = "asserts what SECRET_KEY does to a signed cookie: ours needs none and is not signed with it"
_EACH_CHANGE = (
    "expects the cookie with each change, as a cookie that holds the data must be: ours is sent when the id or route "
    "changes, so that a slow answer never puts an old one over that of a login (S11; docs/decisions/0023)"
)
_LAST_ONE = (
    "expects that a session whose last attribute was deleted is ended, as an empty cookie is: a request beside it may "
    "be setting another (S02), so ours ends by clear() only (docs/decisions/0023)"
)

_CHOSEN = "has the application choose ids: ours are minted by us alone (S05)"
_REDIS = "is about redis"
_EVICTS = "looks into SimpleCache's dict, which evicts above a threshold"


class Suite(NamedTuple):
    """Tests of one distribution."""

    name: str
    tests: tuple[str, ...]
    """Files of it; or files beside the plugins, as ``PLUGINS/…``, that inherit its tests."""
    plugin: str
    """Puts Understudy in the place of its own sessions."""
    left_out: Mapping[str, str]
    """Test, without its parameters -> why it does not hold."""
    fail_anyway: Mapping[str, str] = MappingProxyType({})
    """The same for tests that fail without Understudy as well; that is tried."""
    places: tuple[str, ...] = ()
    """Folders of it that its tests import from."""
    options: tuple[str, ...] = ()
    """For pytest."""


SUITES = (
    Suite(
        "flask",
        ("tests",),
        "understudy_in_flask",
        {
            "tests/test_basic.py::test_missing_session": _SIGNED,
            "tests/test_basic.py::test_session_secret_key_fallbacks": _SIGNED,
            "tests/test_testing.py::test_session_transactions_no_null_sessions": _SIGNED,
            "tests/test_basic.py::test_session_using_samesite_attribute": _EACH_CHANGE,
            "tests/test_basic.py::test_session_using_session_settings": _LAST_ONE,
        },
        {"tests/test_reqctx.py::test_bad_environ_raises_bad_request": "fails under this version of Werkzeug"},
    ),
    Suite("starlette", ("tests/middleware/test_session.py",), "understudy_in_starlette", {}),
    Suite(
        "cachelib",
        ("tests/test_simple_cache.py", "tests/test_redis_cache.py"),
        "understudy_in_cachelib",
        {
            "tests/test_simple_cache.py::TestSimpleCache::test_threshold": _EVICTS,
            "tests/test_simple_cache.py::TestSimpleCache::test_threshold_zero_defaults_to_500": _EVICTS,
            "tests/test_simple_cache.py::TestSimpleCache::test_prune_old_entries": _EVICTS,
            "tests/test_redis_cache.py::TestRedisCache::test_callable_key": "calls keys that are functions, which "
            "RedisCache alone takes",
            "tests/test_redis_cache.py::TestRedisCacheCheckConnection::test_unreachable_server_raises_when_enabled": ""
            "expects an error where no redis listens",
        },
        places=("tests",),
    ),
    Suite(
        "flask-caching",
        tuple(f"tests/test_{part}.py" for part in ("cache", "view", "memoize", "templates", "signals", "hash_method")),
        "understudy_in_flask_caching",
        {
            "tests/test_cache.py::test_cache_unlink": _REDIS,
        },
    ),
    Suite(
        "pyramid",
        ("PLUGINS/pyramid_suite.py",),
        "",
        {
            f"TestUnderstudySession::test_{test}": "looks at private parts of the cookie session"
            for test in (
                "_set_cookie_cookieval_too_long",
                "_set_cookie_on_exception",
                "_set_cookie_on_exception_no_request_exception",
                "_set_cookie_options",
                "_set_cookie_real_webob_response",
                "changed",
                "reissue_triggered",
            )
        },
        places=(".",),
    ),
    Suite(
        "aiohttp-session",
        tuple(
            f"tests/test_{part}.py" for part in ("redis_storage", "cookie_storage", "http_exception", "response_types")
        ),
        "understudy_in_aiohttp_session",
        {
            "tests/test_redis_storage.py::test_create_storage_with_custom_key_factory": _CHOSEN,
            "tests/test_cookie_storage.py::test_change_session": _EACH_CHANGE,
            "tests/test_cookie_storage.py::test_clear_cookie_on_session_invalidation": "compares the cookie's contents",
            "tests/test_redis_storage.py::test_change_session": _EACH_CHANGE,
            "tests/test_redis_storage.py::test_clear_cookie_on_session_invalidation": "looks for {} in redis",
            "tests/test_redis_storage.py::test_load_bad_session": "has redis hold what is no session, and loads it",
            "tests/test_redis_storage.py::test_no_aioredis_installed": _REDIS,
            "tests/test_redis_storage.py::test_not_redis_provided_to_storage": _REDIS,
            "tests/test_redis_storage.py::test_old_aioredis_version": _REDIS,
        },
        options=("--noconftest",),
    ),
)
