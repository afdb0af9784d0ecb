"""Helpers for the tests of applications that keep their sessions in Understudy. docs/testing.md shows them at work.

``isolated()``
    sessions of a test in memory, by themselves, on a clock that the test moves.
``MemoryCluster``
    several members in this process, which the test kills, pauses and cuts off, while the application runs on them.
``session_of(client)``
    the session of any framework's test client, to look into and to fill.

The pytest plugin offers the first two as the fixtures ``understudy_clock`` and ``understudy_cluster``. Everything here
is production code over a store and a network in memory: no agent, no file, no port, no waiting.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.testing.cluster import MemberDown, MemoryCluster
    from understudy.testing.local import Clock, isolated
    from understudy.testing.sessions import session_of

__all__ = ["Clock", "MemberDown", "MemoryCluster", "isolated", "session_of"]

_PLACES = {
    "Clock": "understudy.testing.local",
    "isolated": "understudy.testing.local",
    "MemberDown": "understudy.testing.cluster",
    "MemoryCluster": "understudy.testing.cluster",
    "session_of": "understudy.testing.sessions",
}


def __getattr__(name: str) -> Any:
    """Loaded when first asked for: pytest imports the plugin, and so this page, in every run of every project."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
