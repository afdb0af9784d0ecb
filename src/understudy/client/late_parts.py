"""Commits what a streaming response changes: before its server tells the client that this was all, or went away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


class LateParts:
    """The parts of a response, in the place of the iterable that gives them."""

    def __init__(self, parts: Iterable[Any], finish: Callable[[], None]) -> None:
        """``finish`` commits; it is called once more at ``close``, when there is usually nothing left."""
        self._parts = parts
        self._iterator = iter(parts)
        self._finish = finish

    def __iter__(self) -> LateParts:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            self._finish()
            raise

    def close(self) -> None:
        """Called by the server at the end, whatever happened."""
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()
        finally:
            self._finish()
