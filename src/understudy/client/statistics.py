"""Counts what one application's requests do with their sessions in one process, and how long that takes."""

from __future__ import annotations

import threading
import time
from types import TracebackType
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
    """From the beginning to the end of the commit, of all that used their session."""
    commit_ms: float = 0.0
    """Of that, in the commit at the end; near nothing where nothing was changed."""
    last_commit_ms: float = 0.0


class Statistics:
    """Safe for threads. Cost: about 1 µs for a request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._figures = Figures()

    @property
    def figures(self) -> Figures:
        return self._figures

    def reset(self) -> None:
        """Begin anew."""
        with self._lock:
            self._figures = Figures()

    def begun(self, visit: Visit) -> None:
        """A request begins."""
        visit.began_s = time.perf_counter()
        with self._lock:
            now = self._figures
            self._figures = now._replace(requests=now.requests + 1, read_only=now.read_only + visit.read_only)

    def finished(self, session: Session, commit_s: float, now_s: float, *, failed: bool) -> None:
        """A request has committed; again for what it changed after its first byte."""
        visit = session.visit
        first = visit.began_s > 0.0 and session.accessed
        request_s = now_s - visit.began_s
        if first:
            visit.began_s = 0.0
        wrote = visit.wrote and not visit.counted
        visit.counted = visit.counted or visit.wrote
        protected = visit.opened is not None and visit.opened.protected
        with self._lock:
            now = self._figures
            self._figures = now._replace(
                used=now.used + first,
                wrote=now.wrote + wrote,
                unprotected=now.unprotected + (wrote and not protected),
                failed=now.failed + failed,
                request_ms=now.request_ms + (request_s * 1000 if first else 0.0),
                commit_ms=now.commit_ms + commit_s * 1000,
                last_commit_ms=commit_s * 1000,
            )


class Commits:
    """Around the commit at a request's end: takes its time, and tells how it went."""

    __slots__ = ("_began_s", "_session", "_statistics")

    def __init__(self, statistics: Statistics, session: Session) -> None:
        self._statistics = statistics
        self._session = session

    def __enter__(self) -> None:
        self._began_s = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now_s = time.perf_counter()
        self._statistics.finished(self._session, now_s - self._began_s, now_s, failed=kind is not None)
