"""Pyramid's tests that its two cookie sessions share, for ours: sessions that a test wants are put into the store."""

from __future__ import annotations

import contextlib
import json
import time
import unittest
from collections.abc import Iterator
from typing import Any

import pytest
from tests import test_session as pyramids

from understudy.pyramid import UnderstudySessionFactory
from understudy.testing import Clock, isolated

AGE_S_MAX = 86_400
"""Older than any session here may become."""


class TestUnderstudySession(pyramids.SharedCookieSessionTests, unittest.TestCase):  # type: ignore[misc]
    clock: Clock

    @pytest.fixture(autouse=True)
    def alone(self) -> Iterator[None]:
        """Each test has its sessions by itself, and a clock that is moved until they are as old as it wants them."""
        with isolated() as self.clock:
            yield

    def _serialize(self, value: Any) -> str:
        """What a test finds in the cookie: when it was last used, when it was made, its state."""
        return json.dumps(value)

    def _makeOne(self, request: Any, **keywords: Any) -> Any:
        factory = UnderstudySessionFactory(**keywords)
        with contextlib.suppress(ValueError):
            accessed_s, _created_s, state = json.loads(request.cookies.get("session", ""))
            request.cookies["session"] = self._stored(factory, state)
            self.clock.advance(seconds=min(max(time.time() - accessed_s, 0), AGE_S_MAX))
        return factory(request)

    def _stored(self, factory: UnderstudySessionFactory, state: dict[str, Any]) -> str:
        client = factory.cluster.runtime.client()
        session = client.begin("")
        session.update(state)
        client.finish(session)
        return session.visit.cookie_now or ""
