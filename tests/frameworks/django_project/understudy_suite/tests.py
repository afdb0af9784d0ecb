"""Run by Django's own runner: what it asserts of each of its stores, and of its middleware, of ours."""

from __future__ import annotations

from unittest import mock

from django.test import SimpleTestCase
from sessions_tests import tests as djangos

from understudy.django import SessionMiddleware, SessionStore


class UnderstudySessionTests(djangos.SessionTestsMixin, SimpleTestCase):  # type: ignore[misc]
    backend = SessionStore


class UnderstudyMiddlewareTests(djangos.SessionMiddlewareTests):  # type: ignore[misc]
    def setUp(self) -> None:
        super().setUp()
        ours = mock.patch.object(djangos, "SessionMiddleware", SessionMiddleware)
        ours.start()
        self.addCleanup(ours.stop)
