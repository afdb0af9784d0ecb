"""Users and their browsers: several tabs each, one cookie jar; every request is the client's own conversation.

An attribute holds numbers that are drawn in order, so that what a request was shown can be judged, see ``checkers``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from understudy.client.conversation import Conversation, commit, open_session, transact
from understudy.client.session import Session
from understudy.client.visit import KEEP, Visit
from understudy.client.visit import World as ClientWorld
from understudy.errors import SessionEnded, SessionUnavailable, SessionUnprotected, StoreFull
from understudy.model.commit import Opening, Outcome
from understudy.sim.checkers.ledger import Calm, Ledger
from understudy.sim.checkers.register import Write
from understudy.sim.plan import Operation, OperationKind, Plan, UserPlan
from understudy.sim.workers import Died, Handling, Pause, Script, Worlds
from understudy.sim.world import Machine, World

PATIENCE_MS = 2_500
"""A browser, or the balancer before it, gives up then; the request goes on without it."""
PROMPT_MS = 1_000
"""Without a fault a request is answered by then, whatever the network loses."""
LOOK_AGAIN_MS = 500
LATE_COMMIT_MS = 6_000
"""How long after its worker's end a commit may still be under way."""
KIND = OperationKind
_Result = TypeVar("_Result")


class Request:
    """One request of one tab, from the click to the answer."""

    def __init__(self, user: User, operation: Operation, cookie: str, ledger: Ledger | None) -> None:
        self.user = user
        self.number = user.operations
        self.operation = operation
        self.cookie = cookie
        self.ledger = ledger
        self.began_ms = user.world.now_ms
        self.count_floor = ledger.count_floor if ledger is not None else 0
        self.visit = Visit(self.cookie)
        self.opening: Opening | None = None
        self.opened_protected = False
        self.values: dict[str, int] = {}
        self.written: Write | None = None
        self.outcome: Outcome | None = None
        self.changes_ms = 0
        """When its view began to change the session."""
        self.count = 0
        self.comes_too_late = False
        """The session had certainly expired when it began."""
        self.over = False
        """Answered, or given up by the browser."""
        self.at = self.where = ""
        self.is_login = False
        """A rotation with another principal is under way."""
        self.answered = False
        """Its conversation came to its end."""

    def script(self, world: ClientWorld) -> Script:
        """What the worker does."""
        visit, operation = self.visit, self.operation
        visit.found((yield from open_session(world, self.cookie)))
        assert visit.opened is not None
        self.opening, self.opened_protected = visit.opened.opening, visit.opened.protected
        self.values = {name: visit.draft.get(name) for name in visit.draft}
        if operation.view_ms:
            yield Pause(operation.view_ms)
        self.changes_ms = self.user.world.now_ms
        if visit.exists and operation.kind is KIND.COUNT:
            self.count = yield from transact(world, visit, self._increment)
        else:
            self._change(Session(visit, _Nobody(world)))
        self.outcome = yield from commit(world, visit)

    def _change(self, session: Session) -> None:
        """What the application's view does with the session."""
        kind, ledger = self.operation.kind, self.ledger
        if not self.visit.exists:
            if not self.cookie:  # a login page, without a session yet
                session.rotate(principal=self.user.name)
                session["t0"] = 1
            elif self.operation.logs_in:
                session.rotate(principal="somebody else")
                session["t0"] = 1
            return
        if ledger is None:
            return
        name, now = self.operation.attribute, self.user.world.now_ms
        if kind is KIND.WRITE:
            self.written = ledger.register(name).write(self.began_ms, based=name in session)
            session[name] = self.written.value
        elif kind is KIND.DELETE and name in session:
            self.written = ledger.register(name).write(self.began_ms, deletes=True)
            del session[name]
        elif kind in (KIND.RENEW, KIND.LOGIN):
            self.is_login = kind is KIND.LOGIN
            ledger.rotates(self.cookie, now, fenced=kind is KIND.LOGIN)
            session.rotate(principal=f"{self.user.name} at {now}" if kind is KIND.LOGIN else KEEP)
        elif kind is KIND.LOGOUT:
            ledger.ends(now)
            session.invalidate()

    def _increment(self) -> int:
        """May run several times; each of them may be the one that counts."""
        draft = self.visit.draft
        value = int(draft.get("counter")) if "counter" in draft else 0
        draft.set("counter", value + 1)
        return value + 1


class _Nobody:
    """Runs no conversation: the session is open, and the script commits."""

    def __init__(self, world: ClientWorld) -> None:
        self.world = world

    def run(self, conversation: Conversation[_Result]) -> _Result:
        raise AssertionError("a view asked for more than its session")

    async def arun(self, conversation: Conversation[_Result]) -> _Result:
        raise AssertionError("a view asked for more than its session")


class User:
    """One browser."""

    def __init__(self, world: World, number: int, user: UserPlan, plan: Plan, calm: Calm, problems: list[str]) -> None:
        self.world = world
        self.name = f"user{number}"
        self.plan = user
        self.promises = plan.promises
        self.always_answers = plan.always_answers
        self.calm = calm
        self.problems = problems
        self.cookie = ""
        self.ledger: Ledger | None = None
        self.ledgers: list[Ledger] = []
        self.old_cookies: list[tuple[str, Ledger]] = []
        self.asleep_until_ms = 0
        self.tabs_left = len(user.tabs)
        self.operations = self.unavailable = self.begun = 0
        self.looks = 0
        """Last looks that are not answered yet."""
        self._is_logging_in = False
        self._worlds = Worlds(user)

    def tell(self, text: str) -> None:
        self.problems.append(f"at {self.world.now_ms} ms, {self.name}, {text}")

    # --- tabs ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        for tab in range(len(self.plan.tabs)):
            self.next(tab, 0)

    def next(self, tab: int, index: int) -> None:
        """The next operation of a tab, after the user has thought."""
        operations = self.plan.tabs[tab]
        if index >= len(operations):
            self.tabs_left -= 1
            return
        operation = operations[index]
        wait_ms = max(operation.think_ms, self.asleep_until_ms - self.world.now_ms)
        self.world.later(wait_ms, lambda: self._do(tab, index, operation))

    def _do(self, tab: int, index: int, operation: Operation) -> None:
        if self.world.now_ms < self.asleep_until_ms:
            return self.next(tab, index)
        if operation.kind is KIND.IDLE:
            self.asleep_until_ms = self.world.now_ms + operation.view_ms
            return self.next(tab, index + 1)
        machine = self._machine(operation)
        if machine is None or (not self.cookie and self._is_logging_in):
            return self.next(tab, index + 1)
        self.send(machine, operation, lambda request: self.next(tab, index + 1))

    def _machine(self, operation: Operation) -> Machine | None:
        """What the balancer chooses."""
        up = [machine for machine in self.world.machines.values() if machine.is_on]
        if not up:
            return None
        if operation.at < 0:
            route = self.cookie.partition(".")[2]
            for machine in up:
                if machine.name == route:
                    return machine
        return up[operation.at % len(up)]

    def look(self, machine: Machine) -> None:
        """A last look, when everything is quiet: it has to be answered. Again and again where nobody holds the session:
        as long as a store that was lost may have held it, nobody calls it unknown."""
        self.looks += 1

        def done(request: Request) -> None:
            if request.answered:
                self.looks -= 1
            elif request.ledger is not None and not self.world.is_held(request.ledger.key):
                self.world.later(LOOK_AGAIN_MS, ask)

        def ask() -> None:
            self.send(machine, Operation(KIND.READ), done)

        ask()

    # --- one request ---------------------------------------------------------------------------------------

    def send(self, machine: Machine, operation: Operation, done: Callable[[Request], None]) -> Request:
        """Send a request; ``done`` is called with its answer, or when the browser gives up."""
        self.operations += 1
        cookie, ledger = self.cookie, self.ledger
        is_old = operation.kind is KIND.OLD
        if is_old and self.old_cookies:
            cookie, ledger = self.old_cookies[operation.at % len(self.old_cookies)]
        request = Request(self, operation, cookie, ledger)
        if is_old and not self.old_cookies:
            done(request)
            return request
        if not cookie:
            self._is_logging_in = True
        if request.ledger is not None:
            request.comes_too_late = request.ledger.is_certainly_expired(self.world.now_ms)
            request.ledger.open_requests += 1
            if operation.kind is KIND.COUNT:
                request.ledger.counted_tried += 1
        request.at = machine.name
        request.where = f"{operation.kind} at {machine.name}, begun at {request.began_ms} ms"
        self._note(request, lambda: f"asks {machine.name} to {operation.kind} {operation.attribute}".rstrip())
        handling = Handling(machine, partial(self._answered, request, done))
        if operation.stall_ms and request.ledger is not None:
            key, after = request.ledger.key, operation.stalls_after
            handling.begin_stalled(request.script, self._worlds, key, operation.stall_ms, after)
        else:
            handling.begin(request.script, self._worlds)
        if operation.dies_ms:
            self.world.later(operation.dies_ms, handling.die)
        if not request.over:
            self.world.later(PATIENCE_MS, lambda: self._give_up(request, done))
        return request

    def _note(self, request: Request, text: Callable[[], str]) -> None:
        """A line of the transcript. Only who wants one pays for its text."""
        if self.world.trace is not None:
            key = request.ledger.key.hex()[:6] if request.ledger is not None else "new"
            self.world.note(f"{self.name} ({key}) #{request.number}: {text()}")

    def _give_up(self, request: Request, done: Callable[[Request], None]) -> None:
        """The browser waits no longer; what the request does it does for nobody."""
        if not request.over:
            request.over = True
            self._note(request, lambda: "gives up")
            self._is_logging_in = self._is_logging_in and bool(request.cookie)
            done(request)

    def _answered(self, request: Request, done: Callable[[Request], None], error: Exception | None) -> None:
        ledger, now = request.ledger, self.world.now_ms
        nobody = request.over
        request.over, request.answered = True, error is None
        if ledger is not None:
            ledger.open_requests -= 1
            late_ms = LATE_COMMIT_MS if error is not None else 0
            ledger.used_ms = max(ledger.used_ms, now + late_ms)
            if request.is_login:
                ledger.login_over(now + late_ms)
        if not request.cookie:
            self._is_logging_in = False
        if error is not None:
            self._note(request, lambda: f"gets {type(error).__name__}")
            if isinstance(error, SessionUnavailable):
                self._unavailable(request, error)
            if ledger is not None and request.written is not None:
                request.written.gone_ms = now
            if isinstance(error, SessionEnded) and ledger is not None:
                ledger.not_opened(request.cookie, now, request.where)
            elif isinstance(error, StoreFull):
                if self.promises.nothing_lost:
                    self.tell(f"{request.where}: {error!r}")
            elif not isinstance(error, (SessionUnavailable, Died)):
                self.tell(f"{request.where}: {error!r}")
        else:
            self._look_how_long(request)
            self._note(
                request,
                lambda: f"is answered {request.values} {request.outcome!r} protected={_protected(request)}",
            )
            if ledger is None:
                if not nobody:
                    self._logged_in(request)
            else:
                self._judge(request, ledger, nobody)
        if not nobody:
            done(request)

    def _unavailable(self, request: Request, error: SessionUnavailable) -> None:
        """An error page: where one fault comes after the other, only of a machine that has itself failed, or of a
        session that nobody holds any more."""
        self.unavailable += 1
        if not self.always_answers or request.ledger is None or isinstance(error, SessionUnprotected):
            return
        machine = self.world.machines[request.at]
        if machine.is_up and machine.back_ms < request.began_ms and self.world.is_held(request.ledger.key):
            self.tell(f"{request.where}: an error page, {error}")

    def _look_how_long(self, request: Request) -> None:
        """A request that is shown its session waits for no fault that another machine can stand in for."""
        operation, machine, machines = request.operation, self.world.machines[request.at], self.world.machines.values()
        took_ms = self.world.now_ms - request.began_ms - operation.view_ms - operation.stall_ms
        if took_ms <= PROMPT_MS or request.opening not in (Opening.CURRENT, Opening.GRACE):
            return  # (that nobody holds it may take its time)
        if self.calm.whole_ms <= request.began_ms:
            self.tell(f"{request.where}: is answered after {took_ms} ms, and nothing had gone wrong")
        is_well = machine.is_up and machine.back_ms < request.began_ms and not any(m.turn_ms for m in machines)
        if took_ms > PATIENCE_MS and self.always_answers and is_well:
            self.tell(f"{request.where}: is answered after {took_ms} ms, and its machine was well")

    def _logged_in(self, request: Request) -> None:
        """A new session was begun."""
        opened, cookie = request.visit.opened, request.visit.cookie_now
        if self.cookie or opened is None or not cookie:
            return
        self.begun += 1
        ledger = Ledger(
            f"{self.name}'s session {opened.key.hex()[:6]}",
            self.promises,
            self.calm,
            self.plan,
            self.world.settings.grace_ms,
            request.began_ms,
            lambda: self.world.now_ms,
            self.tell,
        )
        ledger.key = opened.key
        written = ledger.register("t0").write(request.began_ms)
        ledger.answered("t0", written, self.world.now_ms, opened.protected)
        ledger.cookie(cookie).is_sure = opened.protected
        self.cookie, self.ledger = cookie, ledger
        self.ledgers.append(ledger)

    # --- judging an answer ---------------------------------------------------------------------------------

    def _judge(self, request: Request, ledger: Ledger, nobody: bool) -> None:
        now, visit, where = self.world.now_ms, request.visit, request.where
        if request.opening not in (Opening.CURRENT, Opening.GRACE):
            ledger.not_opened(request.cookie, now, where, fenced=request.opening is Opening.FENCED)
            if visit.opened is not None and visit.opened.key == ledger.key and visit.wrote:
                self.tell(f"{where}: somebody else took {ledger.name} with a cookie that opens nothing")
            self._forget(request)
            return
        if request.comes_too_late:
            self.tell(f"{where}: {ledger.name} is shown, which had expired before")
        ledger.used_sure_ms = max(ledger.used_sure_ms, request.began_ms)
        ledger.opened(request.cookie, request.values, request.began_ms, where)
        ledger.counter(request.values.get("counter", 0), request.count_floor, where)
        if visit.ended:
            if request.written is not None:
                request.written.gone_ms = now  # it may have been done, and ended before its answer
            ledger.not_opened(request.cookie, now, where)
            return
        if visit.wrote:
            ledger.changed(request.cookie, request.changes_ms, where)
        protected = _protected(request)
        ledger.cookie(request.cookie).is_sure |= protected
        # What a writing request was shown may be older than what its commit found; its answer speaks of the latter.
        if request.opened_protected if visit.wrote else protected:
            ledger.shown(request.values, request.began_ms, now)
        if not visit.wrote and visit.opened is not None:
            self.world.seen(ledger.key, visit.opened.attributes, visit.opened.primary)
        if protected and not visit.wrote and visit.opened is not None:
            self.world.shown(ledger.key, visit.opened.attributes, request.began_ms, where)
        if request.written is not None:
            ledger.answered(request.operation.attribute, request.written, now, protected)
        if request.count and protected:
            ledger.protected_writes += 1
            ledger.counted(request.count, where)
        self._follow(request, ledger, nobody, protected)

    def _follow(self, request: Request, ledger: Ledger, nobody: bool, protected: bool) -> None:
        """Take the cookie of the answer."""
        now, visit, cookie = self.world.now_ms, request.visit, request.visit.cookie_now
        if request.operation.kind is KIND.LOGOUT and visit.removed:
            ledger.protected_writes += protected
            ledger.ended(now)
        if cookie and cookie.partition(".")[0] != request.cookie.partition(".")[0]:
            ledger.cookie(cookie).is_sure |= protected
            if protected:
                ledger.cookie(request.cookie).replaced(now, fenced=request.operation.kind is KIND.LOGIN)
                ledger.protected_writes += 1
        if nobody or request.ledger is not self.ledger or request.operation.kind is KIND.OLD:
            return
        if cookie == "":
            self._forget(request)
        elif cookie is not None and cookie != self.cookie:
            if cookie.partition(".")[0] != self.cookie.partition(".")[0]:
                if request.cookie.partition(".")[0] != self.cookie.partition(".")[0]:
                    return  # another tab has rotated since: its cookie is the newer
                self._remember(self.cookie, ledger)
            self.cookie = cookie

    def _forget(self, request: Request) -> None:
        """The browser's cookie opens nothing any more."""
        if request.ledger is self.ledger and request.cookie.partition(".")[0] == self.cookie.partition(".")[0]:
            assert self.ledger is not None
            self._remember(self.cookie, self.ledger)
            self.cookie, self.ledger = "", None

    def _remember(self, cookie: str, ledger: Ledger) -> None:
        self.old_cookies = [*self.old_cookies[-3:], (cookie, ledger)]


def _protected(request: Request) -> bool:
    return request.visit.opened is not None and request.visit.opened.protected
