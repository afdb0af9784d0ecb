"""One session as its browser was promised it: what it may be shown, when it must be there, and when it must not.

The browser's requests are judged when they are answered, by what was known when they began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from understudy.model.entry import Entry
from understudy.sim.checkers.register import Register, Write
from understudy.sim.plan import Promises, UserPlan

EARLY_MS = 3_000
"""An access may be recorded so much too early: the touch interval, its ride to the backup, one lost message."""
LATE_MS = 1_500
"""How long after its time an expired session may still be shown: the touches of requests that were under way."""
GRACE_SLACK_MS = 50
ABSOLUTE_SLACK_MS, ABSOLUTE_LATE_MS = 50, 500
"""An absolute timeout counts from the session's beginning, whose age grows a little on the way to each copy."""


NEVER_MS = 1 << 60


class Calm:
    """Since when the cluster is whole. Where faults may hide what has ended, it must be gone from then on; and what is
    protected then is. (Where nothing may be lost by a fault either, all time is calm.)"""

    def __init__(self, promises: Promises) -> None:
        self._matters = not promises.nothing_lost
        self.since_ms = 0
        self.whole_ms = 0
        """Since when there has been no fault, whatever is promised."""

    def holds(self, since_ms: int) -> bool:
        """True if it was calm all the time since then."""
        return self.since_ms <= since_ms

    def fault(self) -> None:
        self.whole_ms = NEVER_MS
        if self._matters:
            self.since_ms = NEVER_MS

    def recovered(self, now_ms: int) -> None:
        self.whole_ms = now_ms
        if self._matters:
            self.since_ms = now_ms


class Cookie:
    """One id of the session."""

    __slots__ = ("born_in_login", "born_ms", "fenced_ms", "is_sure", "replaced_ms", "tried_fenced_ms", "tried_ms")

    def __init__(self, born_ms: int, born_in_login: bool) -> None:
        self.born_ms = born_ms
        self.born_in_login = born_in_login
        """A login was under way that came with another id: it may have replaced this one in the same millisecond."""
        self.is_sure = False
        """It came with a protected answer, or got one: the member that had minted it may be lost."""
        self.tried_ms: int | None = None
        """A rotation that may have replaced it began then."""
        self.tried_fenced_ms: int | None = None
        """The same, of a login."""
        self.replaced_ms: int | None = None
        """It was answered that it is replaced."""
        self.fenced_ms: int | None = None
        """It was answered that a login has replaced it: it opens nothing from then on."""

    def tried(self, now_ms: int, *, fenced: bool) -> None:
        """A rotation begins."""
        if self.tried_ms is None:
            self.tried_ms = now_ms
        if fenced and self.tried_fenced_ms is None:
            self.tried_fenced_ms = now_ms

    def replaced(self, now_ms: int, *, fenced: bool) -> None:
        if self.replaced_ms is None:
            self.replaced_ms = now_ms
        if fenced and self.fenced_ms is None:
            self.fenced_ms = now_ms


class Ledger:
    """What is known of one session."""

    def __init__(
        self,
        name: str,
        promises: Promises,
        calm: Calm,
        user: UserPlan,
        grace_ms: int,
        began_ms: int,
        now_ms: Callable[[], int],
        tell: Callable[[str], None],
    ) -> None:
        self.now_ms = now_ms
        self.name = name
        self.promises = promises
        self._calm = calm
        self._idle_ms = user.idle_timeout_ms
        self._absolute_ms = user.absolute_timeout_ms or NEVER_MS
        self._grace_ms = grace_ms
        self._began_ms = began_ms
        self._made_ms = now_ms()
        self._tell = tell
        self.key = b""
        self.registers: dict[str, Register] = {}
        self.cookies: dict[str, Cookie] = {}
        self._rotations: list[int] = []
        """When each rotation began that may have happened."""
        self._logins_until_ms = 0
        """Until when a login may have taken effect that began with another id than the one which it then replaced."""
        self._logins_open = 0
        self.is_sure = False
        """It was answered or shown as protected: it has to be there."""
        self.end_tried_ms: int | None = None
        self.end_known_ms: int | None = None
        """It was answered as ended, or found to be gone: it must never come back."""
        self.used_sure_ms = began_ms
        """The last request that has certainly used it began then."""
        self.used_ms = began_ms
        """The last request that may have used it ended then."""
        self.open_requests = 0
        self.counted_sure = 0
        self.counted_tried = 0
        self.counts: set[int] = set()
        self.count_seen = 0
        self.protected_writes = 0

    # --- what is done with it ------------------------------------------------------------------------------

    def register(self, attribute: str) -> Register:
        found = self.registers.get(attribute)
        if found is None:
            found = self.registers[attribute] = Register(self._began_ms)
        return found

    def cookie(self, text: str) -> Cookie:
        text = text.partition(".")[0]
        found = self.cookies.get(text)
        if found is None:
            found = self.cookies[text] = Cookie(self.now_ms(), self._logins_open > 0)
        return found

    def rotates(self, cookie: str, now_ms: int, *, fenced: bool) -> None:
        """A rotation begins; ``fenced``: a login."""
        self.cookie(cookie).tried(now_ms, fenced=fenced)
        self._rotations.append(now_ms)
        self._logins_open += fenced

    def login_over(self, until_ms: int) -> None:
        """A login was answered, or takes effect until then if at all."""
        self._logins_open -= 1
        self._logins_until_ms = max(self._logins_until_ms, until_ms)

    def ends(self, now_ms: int) -> None:
        """A logout begins."""
        if self.end_tried_ms is None:
            self.end_tried_ms = now_ms

    def ended(self, now_ms: int) -> None:
        """It was answered that the session has ended, for good."""
        self.ends(now_ms)
        if self.end_known_ms is None:
            self.end_known_ms = now_ms

    # --- what its requests were shown ----------------------------------------------------------------------

    def opened(self, cookie: str, values: dict[str, int], began_ms: int, where: str) -> None:
        """A request was shown the session."""
        if self.end_known_ms is not None and max(self.end_known_ms, self._calm.since_ms) < began_ms:
            self._tell(f"{where}: {self.name} is shown, which has ended at {self.end_known_ms} ms")
        if self.promises.nothing_lost:
            self._check_cookie(self.cookie(cookie), began_ms, where)
        for name in self.registers.keys() | values.keys():
            if name != "counter":
                self._look(name, values.get(name), began_ms, where)

    def _check_cookie(self, state: Cookie, began_ms: int, where: str) -> None:
        if state.fenced_ms is not None and state.fenced_ms < began_ms:
            self._tell(f"{where}: {self.name} is shown to a cookie that a login replaced at {state.fenced_ms} ms")
        if state.replaced_ms is not None and state.replaced_ms + self._grace_ms + GRACE_SLACK_MS < began_ms:
            self._tell(f"{where}: {self.name} is shown to a cookie that was replaced at {state.replaced_ms} ms")

    def changed(self, cookie: str, began_ms: int, where: str) -> None:
        """A request that opened the session with that cookie has changed it; ``began_ms``: when its view began to."""
        fenced_ms = self.cookie(cookie).fenced_ms
        if self.promises.nothing_lost and fenced_ms is not None and fenced_ms < began_ms:
            self._tell(f"{where}: {self.name} was changed with a cookie that a login replaced at {fenced_ms} ms")

    def _look(self, name: str, value: int | None, began_ms: int, where: str) -> None:
        why = self.register(name).look(value, began_ms)
        if why and (self.promises.nothing_lost or (value is not None and "nobody" in why)):
            self._tell(f"{where}: {self.name} shows {name} as {why}")

    def shown(self, values: dict[str, int], began_ms: int, ended_ms: int) -> None:
        """The request ended well, and was told that all of it is protected."""
        self.is_sure = True
        for name in self.registers:
            if name != "counter":
                self.registers[name].shown(values.get(name), began_ms, ended_ms)
        self.count_seen = max(self.count_seen, values.get("counter", 0))

    def counter(self, value: int, floor: int, where: str) -> None:
        """A look at the counter; ``floor``: what it was at least when the request began."""
        if self.promises.nothing_lost and value < floor:
            self._tell(f"{where}: the counter of {self.name} is {value}, was {floor}")
        if value > self.counted_tried:
            self._tell(f"{where}: the counter of {self.name} is {value}, only {self.counted_tried} were added")

    @property
    def count_floor(self) -> int:
        return max(self.counted_sure, self.count_seen)

    def counted(self, value: int, where: str) -> None:
        """An increment was answered as protected: it made the counter ``value``, and no other one did."""
        self.counted_sure += 1
        if value in self.counts and self.promises.nothing_lost:
            self._tell(f"{where}: two increments of {self.name} gave {value}")
        self.counts.add(value)
        self.count_seen = max(self.count_seen, value)

    def not_opened(self, cookie: str, now_ms: int, where: str, *, fenced: bool = False) -> None:
        """A request was shown no session."""
        state = self.cookie(cookie)
        if self._may_be_replaced(state, now_ms, fenced):
            return
        if self.end_tried_ms is not None or self._may_be_expired(now_ms):
            if self.promises.nothing_lost:
                self.ended(now_ms)
        elif self.is_sure and state.is_sure and self.promises.nothing_lost:
            self._tell(f"{where}: {self.name} was not found, which nobody has ended")

    def lost(self, entry: Entry | None) -> Iterator[str]:
        """After all faults: what each side of a partition has acknowledged, and ``entry`` does not carry."""
        if not self.promises.sides or not self.is_sure or self.end_tried_ms is not None:
            return
        if self._may_be_expired(self.now_ms()):
            return
        if entry is None:
            yield f"{self.name} is lost"
            return
        for name, register in self.registers.items():
            carried = {msgspec.msgpack.decode(s.value) for s in entry.attributes.get(name, ())}
            for value in register.lost(carried) if name != "counter" else ():
                yield f"{self.name} has lost {name} as {value}, which was acknowledged; it carries {carried}"

    def _may_be_replaced(self, state: Cookie, now_ms: int, fenced: bool) -> bool:
        """By a login, by a renewal whose grace time is over, or by two renewals: an entry knows one previous id."""
        if self._logins_open or state.born_in_login or state.born_ms < self._logins_until_ms:
            return True
        if state.tried_ms is None or state.tried_fenced_ms is not None:
            return state.tried_fenced_ms is not None
        later = sum(began_ms >= state.tried_ms for began_ms in self._rotations)
        return not fenced and (later > 1 or now_ms >= state.tried_ms + self._grace_ms - GRACE_SLACK_MS)

    def _may_be_expired(self, now_ms: int) -> bool:
        if now_ms > self._began_ms + self._absolute_ms - ABSOLUTE_SLACK_MS:
            return True
        return now_ms > self.used_sure_ms + self._idle_ms - EARLY_MS

    def is_certainly_expired(self, now_ms: int) -> bool:
        """Whether a request that begins now must find nothing."""
        if now_ms > self._made_ms + self._absolute_ms + ABSOLUTE_LATE_MS:
            return True
        return not self.open_requests and now_ms > self.used_ms + self._idle_ms + LATE_MS

    # --- writes --------------------------------------------------------------------------------------------

    def answered(self, attribute: str, written: Write, now_ms: int, protected: bool) -> None:
        if protected:
            self.is_sure = True
            self.protected_writes += 1
            self.registers[attribute].answered(written, now_ms)
