"""Gives what is not one request's: this member, its manager with the sessions, and the cluster's status."""

from __future__ import annotations

from typing import Any

from understudy.client.named_map import NamedLayout
from understudy.client.replicated_map import LazyReplicatedMap
from understudy.client.runtime import Runtime
from understudy.client.sessions_map import SessionsLayout
from understudy.client.statistics import Figures
from understudy.config import load
from understudy.errors import AgentUnavailable, SessionUnavailable, StoreError


class Manager:
    """Who holds the copies of sessions, and the sessions themselves."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.sessions = LazyReplicatedMap(runtime, SessionsLayout())
        """Key -> attributes; see ``LazyReplicatedMap``."""

    @property
    def class_name(self) -> str:
        """``LocalManager`` (this machine only) or ``BackupManager`` (``copies`` other members)."""
        return self._runtime.client().config.manager_class

    def __repr__(self) -> str:
        return f"<{self.class_name}>"


class Cluster:
    """The cluster as this process sees it. Nothing is opened before it is used; safe to make at import."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        """What gives this process's client; for adapters and tests."""
        self.manager = Manager(runtime)

    @classmethod
    def from_config(cls, **keywords: object) -> Cluster:
        """The cluster that file and environment describe; keywords are options of scope "request".

        Raises, at first use: ConfigurationError, DirectoryError.
        """
        return cls(Runtime(lambda: load().with_overrides("keyword", **keywords)))

    @property
    def member(self) -> str:
        """This member's name, also the route in its cookies."""
        return self.runtime.client().member.name

    def map(self, name: str) -> LazyReplicatedMap:
        """A replicated dictionary: the same at every member under the same name, see ``LazyReplicatedMap``.

        Good for flags, counters and caches of moderate size: it is spread over 256 entries, each of which may have
        ``session_bytes_max`` bytes and is replicated whole when a copy is new. Nothing is opened before it is used.
        """
        return LazyReplicatedMap(self.runtime, NamedLayout(name))

    def ready(self) -> bool:
        """True when this member may be given requests, as ``understudy ready``: for a view that a load balancer asks.

        False while its agent joins, compares or leaves, cannot be reached, or (without a cluster) the store cannot be
        read. Raises: ConfigurationError, DirectoryError. Cost: that of ``status``; starts the agent if need be.
        """
        try:
            return bool(self.status().get("ready", True))
        except (AgentUnavailable, SessionUnavailable, StoreError):
            return False

    def statistics(self) -> Figures:
        """What this application's requests did with their sessions in this process, and how long that took."""
        return self.runtime.client().statistics.figures

    def reset_statistics(self) -> None:
        """Begin to count anew."""
        self.runtime.client().statistics.reset()

    def status(self) -> dict[str, Any]:
        """What ``understudy status --json`` shows: members, their standing, sessions per role.

        Raises: AgentUnavailable, SessionUnavailable. Cost: one round trip to the agent; without one, one look-up.
        """
        client = self.runtime.client()
        told = client.member.status()
        if told is not None:
            return told
        with client.member.store.view() as view:
            counts = view.counts()
        return {"member": client.member.name, "manager": client.config.manager_class, "sessions": counts._asdict()}
