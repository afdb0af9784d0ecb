"""One attribute's values: may a request have been shown this one, given what was answered and shown before?

An attribute behaves as if each write took effect at one instant between its request's beginning and the instant at
which somebody knew of it. From that follows, without trying all orders, which values are over for good: those that
were known before a write that is known now, or a look that has shown another value, began.

Source: linearizability (Herlihy and Wing 1990), for a register whose values are all different.
"""

from __future__ import annotations

from collections.abc import Iterator


class Write:
    """One assignment, or (value None) deletion."""

    __slots__ = ("based", "began_ms", "gone_ms", "known_ms", "over_ms", "value")

    def __init__(self, value: int | None, began_ms: int, based: bool) -> None:
        self.value = value
        self.began_ms = began_ms
        self.based = based
        """Its request saw a value there. Only then it can be told from a later assignment of what was absent."""
        self.known_ms: int | None = None
        """It was answered as protected, or shown in a protected state, then: so it had taken effect."""
        self.gone_ms: int | None = None
        """Nobody asks for it any more since then: it has taken effect, or does so over what it has seen, or never."""
        self.over_ms: int | None = None
        """From then on it was certainly replaced."""

    def may_follow(self, began_ms: int) -> bool:
        """Whether it may have taken effect after that instant."""
        ended = [instant for instant in (self.known_ms, self.gone_ms) if instant is not None]
        return not ended or min(ended) >= began_ms


class Register:
    """All writes of one attribute of one session, as far as they may still be shown."""

    def __init__(self, began_ms: int) -> None:
        self._last = 0
        self.all: dict[int | None, list[Write]] = {}
        first = Write(None, began_ms, False)
        first.known_ms = began_ms
        self.all[None] = [first]
        self.live: list[Write] = [first]
        """Those that are not over."""

    def write(self, began_ms: int, *, deletes: bool = False, based: bool = True) -> Write:
        """A request begins that will write; the value is a new one."""
        if not deletes:
            self._last += 1
        written = Write(None if deletes else self._last, began_ms, based)
        self.all.setdefault(written.value, []).append(written)
        self.live.append(written)
        return written

    def answered(self, written: Write, now_ms: int) -> None:
        """It was answered as protected."""
        if written.known_ms is None or written.known_ms > now_ms:
            written.known_ms = now_ms
        began_ms = written.began_ms
        for other in self.live:
            if other is not written and (
                (other.known_ms is not None and other.known_ms < began_ms)
                or (other.gone_ms is not None and other.gone_ms < began_ms and other.based)
            ):
                other.over_ms = now_ms
        self._bury()

    def look(self, value: int | None, began_ms: int) -> str:
        """Why a request that began then must not have been shown ``value``; "" if it may."""
        writes = self.all.get(value)
        if not writes:
            return f"{value}, which nobody has written" if value is not None else "nothing, which was not deleted"
        if any(w.over_ms is None or w.over_ms >= began_ms for w in writes):
            return ""
        newer = [w.value for w in self.live if w.known_ms is not None and w.known_ms < began_ms]
        return f"{value}, which was over at {max(w.over_ms or 0 for w in writes)} ms; now it may be {newer}"

    def lost(self, carried: set[int | None]) -> Iterator[int]:
        """Values that were known to be there, are not carried now, and that no other write can have replaced."""
        writes = [written for same in self.all.values() for written in same]
        for written in writes:
            if written.value is None or written.known_ms is None or written.value in carried:
                continue
            if not any(other is not written and other.may_follow(written.began_ms) for other in writes):
                yield written.value

    def shown(self, value: int | None, began_ms: int, ended_ms: int) -> None:
        """A request in that time was shown ``value``, and told that it is protected.

        Where several writes of it may have been shown (nothing, twice) it is not known which took effect by then.
        """
        matching = [w for w in self.all.get(value, ()) if w.over_ms is None or w.over_ms >= began_ms]
        for other in self.live:
            if other.value != value and other.known_ms is not None and other.known_ms < began_ms:
                other.over_ms = ended_ms
        if len(matching) == 1 and (matching[0].known_ms is None or matching[0].known_ms > ended_ms):
            matching[0].known_ms = ended_ms
        self._bury()

    def _bury(self) -> None:
        if any(w.over_ms is not None for w in self.live):
            self.live = [w for w in self.live if w.over_ms is None]
