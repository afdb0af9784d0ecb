"""Understudy: HTTP sessions in the memory of the machines that serve them, with a copy on a second one.

``Cluster`` gives what is not a request's: the manager and its sessions, the member's name and status. ``Session`` is
what a view works with. The adapters are imported by their own names, ``understudy.flask``, ``understudy.wsgi`` and
``understudy.asgi``; importing this package loads neither a framework nor the store's or the network's library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from understudy.errors import (
    AgentUnavailable,
    ConfigurationError,
    SessionConflict,
    SessionEnded,
    SessionError,
    SessionPartitioned,
    SessionTooLarge,
    SessionUnavailable,
    SessionUnprotected,
    StoreError,
    StoreFull,
    UnderstudyError,
    ValueNotSupported,
    ValueUndecodable,
)

if TYPE_CHECKING:
    from understudy.client.session import Session
    from understudy.cluster import Cluster

__all__ = [
    "AgentUnavailable",
    "Cluster",
    "ConfigurationError",
    "Session",
    "SessionConflict",
    "SessionEnded",
    "SessionError",
    "SessionPartitioned",
    "SessionTooLarge",
    "SessionUnavailable",
    "SessionUnprotected",
    "StoreError",
    "StoreFull",
    "UnderstudyError",
    "ValueNotSupported",
    "ValueUndecodable",
]


def __getattr__(name: str) -> Any:
    """``Cluster`` and ``Session`` are loaded when they are first asked for: most processes need only their adapter."""
    if name == "Cluster":
        from understudy.cluster import Cluster

        return Cluster
    if name == "Session":
        from understudy.client.session import Session

        return Session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
