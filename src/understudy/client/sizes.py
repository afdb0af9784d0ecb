"""Says which attributes make a session large, in errors and in the log."""

from __future__ import annotations

from collections.abc import Mapping

from understudy import limits
from understudy.errors import SessionTooLarge


def too_large(sizes: Mapping[str, int], bytes_max: int, what: str = "the session") -> SessionTooLarge:
    """The error that names the largest attributes."""
    return SessionTooLarge(
        f"{what} would have {sum(sizes.values())} bytes in {len(sizes)} attributes; the most is {bytes_max}"
        f" (session_bytes_max) and {limits.ATTRIBUTES_MAX} attributes. Its largest, in bytes: {largest(sizes)}"
    )


def largest(sizes: Mapping[str, int]) -> str:
    """The three largest attributes by name, for messages."""
    own = sorted(((size, name) for name, size in sizes.items() if name.isprintable()), reverse=True)
    return ", ".join(f"{name!r} with {size}" for size, name in own[:3])
