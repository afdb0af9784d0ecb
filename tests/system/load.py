"""Visitors under steady load who follow their cookies from member to member, each with an account that judges answers.

A visitor adds numbers to a list in its session, looks at it, now and then logs out and in again, and tries the cookie
of a session that has ended. Numbers are added by ``transact``: the commit of a request that was cut off may still be
under way while the next one is served, and of two plain assignments to one attribute the later commit stands.

A test that harms a member says so before (``losing``): until that is over a request there may stay without an answer,
and visitors go elsewhere, as behind a balancer. An error page is never expected, from anybody: but of a member that is
cut off from all who hold the session (``apart``).
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.patience import PATIENCE_S
from tests.system.account import Account

from understudy.demo.browser import Answer, Browser
from understudy.demo.cluster import Cluster
from understudy.errors import UnderstudyError

READS = 0.25
"""Share of requests that only look."""
ENDED_TRIED = 0.1
"""Share of requests with the cookie of a session that has ended."""
NUMBERS_MAX = 60
"""Numbers in one session before its visitor logs out."""
TIMES_MAX = 100_000
"""The last answers are kept with what they took."""
FAILURES_MAX = 20
"""More say nothing new."""
ERROR_PAGE = "an error page"
SILENT = "no answer from a living member"
OTHER = "something else"
"""What may be wrong beside what an account finds."""


class Counts(NamedTuple):
    """What a load has done."""

    requests: int
    unanswered: int
    acknowledged: int
    unprotected: int
    sessions: int
    ended: int
    """Sessions that were ended, and afterwards tried."""


class Load:
    """Visitors in threads, from now until ``finish``.

    Args:
        members: whom visitors use.
        visitors: how many; visitor i logs in at member i first.
        logouts: whether sessions end now and then.
        pause_s: between two requests of a visitor.
        seed: of their choices.
    """

    def __init__(
        self,
        cluster: Cluster,
        members: Iterable[str],
        visitors: int = 4,
        *,
        logouts: bool = False,
        pause_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.cluster = cluster
        self.members = tuple(members)
        self.logouts, self.pause_s = logouts, pause_s
        self.failures: list[str] = []
        """What was wrong, in words."""
        self.wrongs: Counter[str] = Counter()
        """How often, by kind."""
        self.took: deque[tuple[float, float]] = deque(maxlen=TIMES_MAX)
        """When requests that were answered began, and how long they took, in s."""
        self.end = threading.Event()
        self._lost_until_s: dict[str, float] = {}
        self._apart: frozenset[str] = frozenset()
        self._visitors = [_Visitor(self, number, random.Random(f"{seed}/{number}")) for number in range(visitors)]
        self._threads = [threading.Thread(target=one.run, name=one.user, daemon=True) for one in self._visitors]
        for thread in self._threads:
            thread.start()
        self.wait_for(visitors)

    @property
    def answers(self) -> int:
        return sum(visitor.answers for visitor in self._visitors)

    def counts(self) -> Counts:
        """What has been done so far."""
        of = self._visitors
        return Counts(
            requests=sum(one.requests for one in of),
            unanswered=sum(one.unanswered for one in of),
            acknowledged=sum(one.acknowledged + len(one.account.acknowledged) for one in of),
            unprotected=sum(one.unprotected for one in of),
            sessions=sum(one.sessions for one in of),
            ended=sum(one.ended for one in of),
        )

    def wait_for(self, answers: int) -> None:
        """Waits for so many further answers: proof that visitors are served."""
        wanted = self.answers + answers
        self.cluster.wait(lambda: self.answers >= wanted or bool(self.failures), f"{answers} further answers")

    @contextlib.contextmanager
    def losing(self, *names: str, visited: bool = False) -> Iterator[None]:
        """Meanwhile these members may leave requests without an answer, and are visited only if that is said."""
        for name in names:
            self._lost_until_s[name] = math.inf
        before = self.members
        if not visited:
            self.members = tuple(name for name in before if name not in names)
        try:
            yield
        finally:
            self.members = before
            for name in names:
                self._lost_until_s[name] = time.monotonic()

    @contextlib.contextmanager
    def apart(self, *side: str) -> Iterator[None]:
        """Meanwhile these members may be cut off from the others: a visitor whose session's primary is among them
        keeps to them, the others keep away. Every visitor has chosen when this begins.
        """
        for visitor in self._visitors:
            visitor.side = None
        self._apart = frozenset(side)
        self.cluster.wait(lambda: all(one.side is not None for one in self._visitors), "all visitors have chosen")
        try:
            yield
        finally:
            self._apart = frozenset()

    def finish(self, members: Iterable[str]) -> Counts:
        """Ends, looks at every session on each of these members, and gives what was done. Raises: AssertionError."""
        self.end.set()
        for thread in self._threads:
            thread.join()
        for visitor in self._visitors:
            for member in members:
                visitor.look_at(member)
        assert not self.failures, "\n".join([*self.failures[:FAILURES_MAX], self.cluster.logs()])
        counts = self.counts()
        assert counts.acknowledged > 0, f"nothing was acknowledged: {counts}"
        return counts

    # --- for visitors -------------------------------------------------------------------------------------------

    def wrong(self, kind: str, what: str) -> None:
        self.wrongs[kind] += 1
        if len(self.failures) < FAILURES_MAX:
            now = datetime.datetime.now(datetime.UTC)
            self.failures.append(f"{now:%H:%M:%S.%f} {what}")
        else:
            self.end.set()

    def choices(self, visitor: _Visitor) -> tuple[str, ...]:
        """The members that this visitor may use now."""
        apart = self._apart
        if not apart:
            return self.members
        if visitor.side is None:
            visitor.side = visitor.route in apart
        return tuple(name for name in self.members if (name in apart) == visitor.side)

    def may_be_silent(self, member: str, began_s: float) -> bool:
        """True when a request to this member that began then may rightly have no answer."""
        return began_s < self._lost_until_s.get(member, 0.0)

    def may_refuse(self, member: str, cookie: str | None) -> bool:
        """True when this member is cut off from whoever holds the session."""
        if member not in self._apart or cookie is None:
            return member in self._apart
        try:
            located = self.cluster.locate(member, cookie)
        except UnderstudyError:
            return True
        return located is None or not located["known"] or located["role"] == "proxy"


class _Visitor:
    """One user with one browser."""

    def __init__(self, load: Load, number: int, chance: random.Random) -> None:
        self.user = f"v{number}"
        self.side: bool | None = False
        """While some members are cut off: whether this visitor keeps to those; None: it has not chosen yet."""
        self.requests = self.answers = self.unanswered = 0
        self.acknowledged = self.unprotected = 0
        """Of sessions that have ended; of all."""
        self.sessions = self.ended = 0
        self.account = Account(self.user)
        self._load, self._chance = load, chance
        self._browser = Browser(timeout_s=PATIENCE_S)
        self._first = load.members[number % len(load.members)]
        self._number = 0
        self._past: tuple[str, Account] | None = None
        """The cookie of the session that ended last."""

    @property
    def route(self) -> str:
        """The primary of the session, as its cookie says."""
        return (self._browser.cookie or "").partition(".")[2]

    def run(self) -> None:
        try:
            while not self._load.end.is_set():
                self._step()
                if self._load.pause_s:
                    self._load.end.wait(self._load.pause_s * (0.5 + self._chance.random()))
        except Exception as error:
            self._load.wrong(OTHER, f"{self.user} fell over: {error!r}")
            raise

    def look_at(self, member: str) -> None:
        """Read the session at one member."""
        if self._browser.cookie is not None:
            self._look(self._browser, member, self.account)

    def _step(self) -> None:
        choices = self._load.choices(self)
        if not choices:
            self._load.end.wait(0.05)
            return
        member, chance = self._chance.choice(choices), self._chance.random()
        if self._browser.cookie is None:
            self._log_in(self._first if self._first in choices and not self.sessions else member)
        elif self._past is not None and chance < ENDED_TRIED:
            cookie, account = self._past
            self._look(Browser(cookie=cookie, timeout_s=PATIENCE_S), member, account)
        elif self._load.logouts and len(self.account.acknowledged) >= NUMBERS_MAX:
            self._log_out(member)
        elif chance > 1 - READS:
            self._look(self._browser, member, self.account)
        else:
            self._push(member)

    def _log_in(self, member: str) -> None:
        answer = self._ask(self._browser, member, "/login", name=self.user)
        if answer is None or not answer.protected:
            self._browser = Browser(timeout_s=PATIENCE_S)  # nothing was promised: begin anew
            return
        self.account = Account(self.user)
        self.sessions += 1

    def _log_out(self, member: str) -> None:
        cookie = self._browser.cookie
        assert cookie is not None
        answer = self._ask(self._browser, member, "/logout", really="yes")
        self.acknowledged += len(self.account.acknowledged)
        self._report(self.account)
        if answer is not None and answer.protected is not False:
            self.account.ended()
            self._past = (cookie, self.account)
            self.ended += 1
        self.account = Account(self.user)
        self._browser = Browser(timeout_s=PATIENCE_S)

    def _push(self, member: str) -> None:
        self._number += 1
        account, number = self.account, self._number
        account.sent(number)
        answer = self._ask(self._browser, member, "/push", name="numbers", value=str(number))
        if answer is None:
            return
        self._saw(account, member, answer)
        if answer.protected is None:
            self._load.wrong(OTHER, f"{self.user}: {member} does not say if number {number} is protected")
            return
        account.answered(number, answer.protected)
        self.unprotected += not answer.protected

    def _look(self, browser: Browser, member: str, account: Account) -> None:
        answer = self._ask(browser, member, "/read")
        if answer is not None:
            self._saw(account, member, answer)

    def _saw(self, account: Account, member: str, answer: Answer) -> None:
        before = answer.json["before"]
        account.saw(f"{member}, {answer.json['role']}", before.get("user"), map(int, before.get("numbers", [])))
        self._report(account)

    def _report(self, account: Account) -> None:
        for finding in account.findings:
            self._load.wrong(finding.wrong, f"{self.user}: {finding}")
        account.findings.clear()

    def _ask(self, browser: Browser, member: str, path: str, **form: str) -> Answer | None:
        """One request. None: no answer, or an error page; either is noted where it must not be."""
        door, began_s = self._load.cluster[member].door, time.monotonic()
        self.requests += 1
        try:
            answer = browser.post(door, path, form) if form else browser.get(door, path)
        except (OSError, http.client.HTTPException) as error:
            self.unanswered += 1
            if not self._load.may_be_silent(member, began_s):
                waited_s = time.monotonic() - began_s
                self._load.wrong(SILENT, f"{self.user}: {member} left {path}, {waited_s:.2f} s: {error!r}")
            return None
        if answer.status != 200:
            if not (answer.status == 503 and self._load.may_refuse(member, browser.cookie)):
                text = answer.body[:200].decode(errors="replace").strip()
                waited_s = time.monotonic() - began_s
                what = f"{member} answered {answer.status} after {waited_s:.2f} s: {text}"
                self._load.wrong(ERROR_PAGE, f"{self.user}: {what}")
            return None
        self.answers += 1
        self._load.took.append((began_s, time.monotonic() - began_s))
        return answer
