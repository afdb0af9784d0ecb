"""Counts what one application's requests do with their sessions in one process, and how long that takes."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from understudy.client.session import Session
from understudy.client.visit import Visit


class Figures(NamedTuple):
    """Since the process's first request, or since ``Statistics.reset``."""

    requests: int = 0
    """That came to the adapter; where the framework asks for a session only when it is used, only those."""
    read_only: int = 0
    """Of them, with a path that ``read_only_paths`` names."""
    used: int = 0
    """That looked at their session; under Django, which saves only what was changed, that changed it."""
    wrote: int = 0
    """That committed something."""
    unprotected: int = 0
    """Of these, whose change no second machine has (all of them on one machine)."""
    failed: int = 0
    """That could not commit what they wanted."""
    request_ms: float = 0.0
    """From the beginning to the end of the commit, of all that used their session; and later commits of theirs."""
    commit_ms: float = 0.0
    """Of that, in the commit at the end; near nothing where nothing was changed."""
    last_commit_ms: float = 0.0


class Statistics:
    """Safe for threads. Cost: 1 µs for a request, where a whole one that only reads takes 20."""

    __slots__ = ("_commit_s", "_failed", "_last_commit_s", "_lock", "_read_only", "_request_s", "_requests",
                 "_unprotected", "_used", "_wrote")  # fmt: skip

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    @property
    def figures(self) -> Figures:
        """All of one instant."""
        with self._lock:
            return Figures(
                requests=self._requests,
                read_only=self._read_only,
                used=self._used,
                wrote=self._wrote,
                unprotected=self._unprotected,
                failed=self._failed,
                request_ms=self._request_s * 1000,
                commit_ms=self._commit_s * 1000,
                last_commit_ms=self._last_commit_s * 1000,
            )

    def reset(self) -> None:
        """Begin anew."""
        with self._lock:
            self._requests = self._read_only = self._used = self._wrote = self._unprotected = self._failed = 0
            self._request_s = self._commit_s = self._last_commit_s = 0.0

    def begun(self, visit: Visit) -> None:
        """A request begins."""
        visit.began_s = time.perf_counter()
        with self._lock:
            self._requests += 1
            if visit.read_only:
                self._read_only += 1

    def finished(self, session: Session, began_s: float, *, failed: bool) -> None:
        """A request has committed, from ``began_s`` until now; again for what it changed after its first byte."""
        now_s = time.perf_counter()
        visit = session.visit
        with self._lock:
            self._last_commit_s = now_s - began_s
            self._commit_s += self._last_commit_s
            if visit.began_s and session.accessed:
                self._used += 1
                self._request_s += now_s - visit.began_s
                visit.began_s = 0.0
            else:
                self._request_s += self._last_commit_s
            if visit.wrote and not visit.counted:
                visit.counted = True
                self._wrote += 1
                if visit.opened is None or not visit.opened.protected:
                    self._unprotected += 1
            if failed:
                self._failed += 1
