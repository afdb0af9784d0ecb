"""Decides what Django's settings mean for Understudy, and gives the client that follows from them."""

from __future__ import annotations

from typing import Any

from django.conf import global_settings, settings
from django.core.signals import setting_changed

from understudy.client.runtime import Runtime
from understudy.cluster import Cluster
from understudy.config import Config, load
from understudy.errors import ConfigurationError

AGE = "SESSION_COOKIE_AGE"
OPTIONS = "UNDERSTUDY"


def configured() -> Config:
    """File and environment, under ``SESSION_COOKIE_AGE``, under the dict ``UNDERSTUDY``. Raises: ConfigurationError."""
    given: dict[str, object] = dict(getattr(settings, OPTIONS, {}))
    for name in given:
        if name.startswith("cookie_"):
            setting = f"SESSION_{name.upper()}"
            raise ConfigurationError(f"{OPTIONS}[{name!r}]: the cookie is Django's; use its own setting {setting}")
    sources = {name: f"Django setting {OPTIONS}[{name!r}]" for name in given}
    config = load()
    age_s = getattr(settings, AGE)
    is_default = age_s == getattr(global_settings, AGE)
    if not {"idle_timeout", "idle_timeout_ms"} & given.keys() and not (
        is_default and config.source("idle_timeout") != "default"
    ):
        given["idle_timeout"], sources["idle_timeout"] = age_s, f"Django setting {AGE}"
    return config.with_overrides(sources, **given)


RUNTIME = Runtime(configured)
cluster = Cluster(RUNTIME)
"""The cluster of this application: its member, its manager with all sessions, its status."""


def _changed(setting: str, **_: Any) -> None:
    """Tests change settings of a process that runs."""
    if setting in (AGE, OPTIONS):
        RUNTIME.reset()


setting_changed.connect(_changed)
