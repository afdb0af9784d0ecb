"""A pytest plugin for aiohttp-session's own tests: its cookie and redis storages are Understudy's.

A session that a test has put into a cookie or into redis is put into the store, and its cookie is what the test's
client gets: a name that a test has chosen is never adopted. What a test reads from redis is read from the store.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import aiohttp_session
import aiohttp_session.redis_storage
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from understudy.aiohttp import UnderstudyStorage
from understudy.client.runtime import Client
from understudy.client.session import Session

NAME = "AIOHTTP_SESSION"
_mock = ModuleType("pytest_mock")  # some tests of redis alone use it
_mock.MockFixture = object  # type: ignore[attr-defined]
sys.modules.setdefault("pytest_mock", _mock)


class Storage(UnderstudyStorage):
    """With the arguments of the storages whose place it takes, and their name of the cookie."""

    def __init__(self, _redis: Any = None, *, key_factory: Any = None, **keywords: Any) -> None:
        super().__init__(**{"cookie_name": NAME, **keywords})


aiohttp_session.SimpleCookieStorage = Storage  # type: ignore[misc,assignment]
aiohttp_session.redis_storage.RedisStorage = Storage  # type: ignore[misc,assignment]


class Redis:
    """What a test asks redis for, of the store."""

    def __init__(self) -> None:
        self._client: Client = Storage().cluster.runtime.client()
        self._cookies: dict[str, str] = {}
        """Key that a test has chosen -> the cookie of the session that it has put there."""

    async def set(self, key: str, value: str) -> None:
        if value:
            self._cookies[key.removeprefix(f"{NAME}_")] = self.stored(json.loads(value)["session"])

    async def get(self, key: str) -> str | None:
        session = self._opened(key)
        return None if session.is_new else json.dumps({"created": 0, "session": dict(session)})

    async def exists(self, key: str) -> bool:
        return not self._opened(key).is_new

    async def ttl(self, key: str) -> float:
        session = self._opened(key)
        if session.is_new or session.visit.opened is None:
            return -2
        return session.visit.opened.times.idle_timeout_ms / 1000

    def stored(self, attributes: dict[str, Any]) -> str:
        """The cookie of a new session that has them."""
        session = self._client.begin("")
        session.update(attributes)
        self._client.finish(session)
        return session.visit.cookie_now or ""

    def cookie(self, value: str) -> str:
        """The cookie that stands for one that a test has made."""
        try:
            return self.stored(json.loads(value)["session"])
        except ValueError:
            return self._cookies.get(value, value)

    def _opened(self, key: str) -> Session:
        return self._client.begin(key.removeprefix(f"{NAME}_"))


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def aiohttp_client(request: pytest.FixtureRequest, redis: Redis) -> Callable[[web.Application], Awaitable[Any]]:
    """As that of pytest-aiohttp; it is closed by ``pytest_pyfunc_call``, in the test's loop."""

    async def made(app: web.Application) -> Any:
        client = TestClient(TestServer(app))
        await client.start_server()
        request.node.user_properties.append(("client", client))
        update = client.session.cookie_jar.update_cookies

        def translated(cookies: Any, *arguments: Any) -> None:
            if NAME in cookies:
                given = cookies[NAME]
                if isinstance(given, str):
                    cookies[NAME] = redis.cookie(given)
                else:
                    given.set(NAME, *[redis.cookie(given.value)] * 2)
            update(cookies, *arguments)

        client.session.cookie_jar.update_cookies = translated  # type: ignore[method-assign]
        return client

    return made


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is a coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames

    async def steps() -> None:
        try:
            await pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
        finally:
            for _, client in list(pyfuncitem.user_properties):
                await client.close()  # type: ignore[attr-defined]
            pyfuncitem.user_properties.clear()

    asyncio.run(steps())
    return True


@pytest.fixture
def redis_url() -> str:
    """Of a redis to which nobody connects."""
    return "redis://localhost"
