"""Django's settings for the tests: it has them once in a process, so all tests share these and change them in turn."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

DJANGO_SETTINGS: dict[str, Any] = {
    "ALLOWED_HOSTS": ["*"],
    "LOGGING_CONFIG": None,
    "MIDDLEWARE": ["understudy.django.SessionMiddleware"],
    "SECRET_KEY": "for tests",
    "SESSION_ENGINE": "understudy.django",
    "SESSION_COOKIE_NAME": "session",
    "SESSION_COOKIE_PATH": "/",
    "SESSION_COOKIE_SAMESITE": "Lax",
    "SESSION_COOKIE_SECURE": False,
    "USE_TZ": True,
}
settings.configure(**DJANGO_SETTINGS)
django.setup()
