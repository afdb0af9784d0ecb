"""Decides whether the network's library still works, from what its calls gave: proofs, panics, or nothing.

zenoh (1.10) now and then panics in one of its own threads and leaves a lock behind that no later call can take. Such a
member goes on over its direct paths, and finds no new member any more. So the transport asks zenoh for something that
it must know, now and then, and whoever meets a panic says so; the agent looks here once a second, and ends if there is
no pulse: its successor has a library that was loaded anew.
"""

from __future__ import annotations

LOOKS_MAX = 45
"""Looks, one a second, without a proof: four times as long as the transport takes for one. Looks, not seconds: a
process that stood still has proved nothing meanwhile, and has missed nothing either."""


class Pulse:
    """What is known of one session of the library."""

    def __init__(self) -> None:
        self._looks = 0
        self._broken = ""

    def proved(self) -> None:
        """The library has just answered rightly."""
        self._looks = 0

    def panicked(self, error: BaseException) -> None:
        """A call ended in a panic: this session does not come back."""
        self._broken = self._broken or f"it panicked ({error})"

    @property
    def is_broken(self) -> bool:
        """A panic was met: even the session's end may not be reached."""
        return bool(self._broken)

    def look(self) -> str:
        """Why the library does not work any more, or "" while it may. Called once a second."""
        self._looks += 1
        if self._looks > LOOKS_MAX and not self._broken:
            return f"it did not answer a question about this member itself for {LOOKS_MAX} s"
        return self._broken


def is_panic(error: BaseException) -> bool:
    """True for a panic of a library in Rust; its class cannot be imported, and is no ``Exception``."""
    return type(error).__name__ == "PanicException"
