"""Values that lapse, in a replicated dictionary: what caches need beside it. Each is stored with its end.

The end is a time of the wall clock, because nothing else is known to all members and lasts beyond a reboot: where
clocks differ, a value lapses earlier or later by as much. Nothing of sessions depends on it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from understudy import limits

MISSING: Any = object()
"""No value, or one that has lapsed."""


def kept(value: Any, for_s: float | None, now_s: float) -> list[Any]:
    """What is stored for a value; it lapses after ``for_s`` seconds, or never (None)."""
    return [value, None if for_s is None else now_s + for_s]


def current(stored: Any, now_s: float) -> Any:
    """The value of what is stored, or ``MISSING``."""
    return MISSING if stored is None or remaining_s(stored, now_s) == 0 else stored[0]


def remaining_s(stored: Any, now_s: float) -> float | None:
    """Seconds until it lapses, 0 when it has; None if it never does."""
    return None if stored[1] is None else max(stored[1] - now_s, 0.0)


def key_of(prefix: str, key: str) -> str:
    """The dictionary's key for a cache's key of any length."""
    if len(prefix) + len(key) + 1 <= limits.ATTRIBUTE_NAME_CHARS_MAX:
        return f"{prefix}:{key}"
    return f"{prefix}#{hashlib.blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=32).hexdigest()}"
