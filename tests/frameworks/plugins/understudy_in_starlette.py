"""A pytest plugin for Starlette's own tests: ``SessionMiddleware`` is Understudy's."""

from __future__ import annotations

import sys

import httpx
import starlette.middleware.sessions

from understudy.asgi import SessionMiddleware

sys.modules.setdefault("httpx2", httpx)  # what Starlette's tests import is the successor; they need nothing new of it
starlette.middleware.sessions.SessionMiddleware = SessionMiddleware  # type: ignore[misc,assignment]
