"""``understudy demo --check``: shoppers under steady load, the loss of a machine among them, and an account of it all.

Each shopper is a browser that follows its cookie from member to member and puts numbered orders into its cart. An
answer that says "protected" acknowledges its order for good: at the end every such order must be in the cart, whoever
serves it. A connection that a dead member refuses or resets is tried on another one, as a balancer would; an error
page, a lost login, or silence of a living member is an error.
"""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from understudy.demo import places
from understudy.demo.browser import Answer, Browser
from understudy.demo.cluster import Cluster
from understudy.demo.pages import GOODS

SHOPPERS = 6
PAUSE_S = 0.03
"""Between two requests of one shopper."""
BEFORE_S, AFTER_S, RETURNED_S = 4.0, 6.0, 4.0
"""Load before the kill; after it (longer than `sweep_delay_ms`, so that sessions without requests move too); and once
the killed member is back."""
RETRIES_MAX = 50
"""Tries of one request among members of which one is dead; then it is an error."""
SHOWN_MAX = 10

Say = Callable[[str], None]


class Stage:
    """What the shoppers share: the members, which of them are known to be dead, and whether to go on."""

    def __init__(self, cluster: Cluster) -> None:
        self.ports = {name: member.port for name, member in cluster.members.items()}
        self.dead: set[str] = set()
        self.died_s = 0.0
        """When the machine died, on the monotonic clock."""
        self.curtain = threading.Event()


class Report(NamedTuple):
    """What came out; ``holds`` decides."""

    members: int
    requests: int
    retried: int
    """Requests that met the dead member and were answered by another one."""
    errors: list[str]
    unprotected: int
    acknowledged: int
    lost: list[str]
    failover_ms: list[float]
    """Per session whose primary died: from the kill to its first answer elsewhere."""
    orphans: int
    """How many sessions had their primary on the machine that was killed."""

    @property
    def holds(self) -> bool:
        answered = self.orphans > 0 and len(self.failover_ms) == self.orphans
        return not self.errors and not self.lost and self.acknowledged > 0 and answered


class Shopper:
    """One browser, what it was promised, and how its requests went."""

    def __init__(self, name: str, stage: Stage, first: str) -> None:
        self.name = name
        self.browser = Browser(places.COOKIE_NAME)
        self.requests = self.retried = self.unprotected = 0
        self.errors: list[str] = []
        self.acknowledged: set[str] = set()
        self.was_orphaned = False
        self._answered: list[tuple[float, float]] = []
        """When the requests since the kill began, and were answered with what they had asked for."""
        self._stage = stage
        self._names = list(stage.ports)
        self._at = self._names.index(first)
        self._orders = 0

    def log_in(self) -> None:
        """Begin a session at this shopper's first member, then put one order in through each member."""
        self._request(lambda port: self.browser.post(port, "/login", {"name": self.name}))
        for _ in self._names:
            self._hop()
            self.order()

    def shop(self) -> None:
        """Order, look, hop to the next member, until the curtain falls."""
        while not self._stage.curtain.wait(PAUSE_S):
            self._hop()
            if self._orders % 4 == 3:
                self._look()
            self.order()

    def order(self) -> None:
        """Put the next numbered order in; remember it if the answer says that it is protected."""
        self._orders += 1
        number, good = f"{self.name}-{self._orders}", GOODS[self._orders % len(GOODS)]
        answer = self._request(lambda port: self.browser.post(port, "/add", {"order": number, "good": good}))
        if answer is None or not self._is_logged_in(answer):
            return
        if number not in answer.json["orders"]:
            self._wrong(f"order {number} is not in the cart that answers it")
        elif answer.protected:
            self.acknowledged.add(number)
        elif answer.protected is False:  # None: a repeat, which found its order in the cart and changed nothing
            self.unprotected += 1

    def missing_at(self, member: str) -> list[str]:
        """What this shopper was promised and does not find on that member."""
        answer = self._ask(lambda port: self.browser.get(port, "/whoami"), member)
        if answer is None or not self._is_logged_in(answer):
            return [f"{self.name} on {member}: the whole session"]
        orders, changes = answer.json["orders"], answer.json["changes"]
        lost = [f"{order} on {member}" for order in sorted(self.acknowledged - set(orders))]
        if changes < len(self.acknowledged):
            lost.append(f"{self.name} on {member}: its counter is {changes}, at least {len(self.acknowledged)} counted")
        return lost

    def failover_ms(self) -> float | None:
        """From the machine's death to the first answer to a request that began after it."""
        died_s = self._stage.died_s
        after = [ended_s for began_s, ended_s in self._answered if began_s >= died_s]
        return (min(after) - died_s) * 1000 if after else None

    def _look(self) -> None:
        answer = self._request(lambda port: self.browser.get(port, "/whoami"))
        if (
            answer is not None
            and self._is_logged_in(answer)
            and (gone := self.acknowledged - set(answer.json["orders"]))
        ):
            self._wrong(f"{answer.json['member']} does not show acknowledged orders {sorted(gone)[:3]}")

    def _is_logged_in(self, answer: Answer) -> bool:
        if answer.status == 200 and answer.json["user"] == self.name:
            return True
        if answer.status in (200, 401):
            self._wrong(f"login lost at {self._names[self._at]}")
        return False

    def _request(self, send: Callable[[int], Answer]) -> Answer | None:
        """One request of a browser behind a balancer: the next member when one is dead; None after an error."""
        for _ in range(RETRIES_MAX):
            member = self._names[self._at]
            answer = self._ask(send, member)
            if answer is not None:
                return answer
            if member not in self._stage.dead:
                return None
            self.retried += 1
            self._hop()
        self._wrong(f"no member answered in {RETRIES_MAX} tries")
        return None

    def _ask(self, send: Callable[[int], Answer], member: str) -> Answer | None:
        """One request to one member. None: no connection, which is an error only if the member lives; or an error."""
        began_s = time.monotonic()
        self.requests += 1
        try:
            answer = send(self._stage.ports[member])
        except (OSError, http.client.HTTPException) as error:
            if member not in self._stage.dead:
                self._wrong(f"{member} did not answer: {error!r}")
            return None
        if answer.status >= 500:
            text = answer.body[:120].decode(errors="replace").strip()
            self._wrong(f"{member} answered {answer.status} after {time.monotonic() - began_s:.2f} s: {text}")
        if self._stage.dead and answer.status == 200:
            self._answered.append((began_s, time.monotonic()))
        return answer

    def _hop(self) -> None:
        self._at = (self._at + 1) % len(self._names)

    def _wrong(self, what: str) -> None:
        self.errors.append(f"{self.name}: {what}")


def run(cluster: Cluster, say: Say) -> Report:
    """Gives the account of one check over a cluster that has not been started. Raises: ClusterError.

    Cost: about 30 s.
    """
    names = list(cluster.members)
    say(f"Starting members {', '.join(names)} …")
    cluster.start()
    cluster.wait_ready()
    stage = Stage(cluster)
    shoppers = [Shopper(f"shopper{number}", stage, names[number % len(names)]) for number in range(SHOPPERS)]
    say(f"{SHOPPERS} shoppers log in, and order through each member …")
    _together([shopper.log_in for shopper in shoppers])
    lost = _missing(shoppers, names)

    victim = _primary_of(cluster, shoppers[0])
    say(f"Load; then kill -9 of everything on {victim}, the primary of {shoppers[0].name}'s session …")
    kill = (BEFORE_S, lambda: _kill(cluster, stage, shoppers, victim))
    _load(stage, shoppers, [kill, (AFTER_S, lambda: _wait_answered(cluster, shoppers))])
    living = [name for name in names if name != victim]
    _wait_protected(cluster, living)
    lost += _missing(shoppers, living)

    say(f"Starting {victim} again, with its old store, under load …")
    _load(stage, shoppers, [(0.0, lambda: _start(cluster, stage, victim)), (RETURNED_S, lambda: None)])
    lost += _missing(shoppers, names)
    report = _report(cluster, shoppers, lost)
    say(describe(report))
    return report


def describe(report: Report) -> str:
    """The account as lines for a person."""
    times = sorted(report.failover_ms)
    spread = f"median {statistics.median(times):.0f} ms, longest {times[-1]:.0f} ms" if times else "none"
    lines = [
        "",
        f"    members                         {report.members}",
        f"    requests                        {report.requests}  ({report.retried} met the dead member, repeated)",
        f"    errors                          {len(report.errors)}",
        f"    unprotected answers             {report.unprotected}",
        f"    acknowledged changes            {report.acknowledged}",
        f"    acknowledged changes lost       {len(report.lost)}  (must be 0)",
        f"    sessions whose primary died     {report.orphans}",
        f"    kill to first answer elsewhere  {spread}",
        "",
    ]
    for title, texts in (("Errors", report.errors), ("Lost", report.lost)):
        if texts:
            lines += [f"{title}:", *(f"    {text}" for text in texts[:SHOWN_MAX])]
            lines += [f"    and {len(texts) - SHOWN_MAX} more"] if len(texts) > SHOWN_MAX else []
    lines.append("All held." if report.holds else "NOT all held.")
    return "\n".join(lines)


# --- the acts -------------------------------------------------------------------------------------------------------


def _load(stage: Stage, shoppers: list[Shopper], acts: list[tuple[float, Callable[[], None]]]) -> None:
    """Lets the shoppers shop while the acts happen: each after so many seconds."""
    stage.curtain.clear()
    threads = [threading.Thread(target=shopper.shop, name=shopper.name, daemon=True) for shopper in shoppers]
    for thread in threads:
        thread.start()
    try:
        for seconds, act in acts:
            time.sleep(seconds)
            act()
    finally:
        stage.curtain.set()
        for thread in threads:
            thread.join()


def _together(tasks: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task, daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _primary_of(cluster: Cluster, shopper: Shopper) -> str:
    assert shopper.browser.cookie is not None, f"{shopper.name} has no session: {shopper.errors}"
    located = cluster.locate(next(iter(cluster.members)), shopper.browser.cookie)
    assert located is not None and located["known"], "a member does not know a session that it has served"
    return str(located["primary"])


def _kill(cluster: Cluster, stage: Stage, shoppers: list[Shopper], victim: str) -> None:
    for shopper in shoppers:
        shopper.was_orphaned = _primary_of(cluster, shopper) == victim
    stage.dead.add(victim)
    stage.died_s = cluster.kill(victim)


def _start(cluster: Cluster, stage: Stage, victim: str) -> None:
    cluster.start(victim)
    cluster.wait_ready()
    stage.dead.discard(victim)


def _wait_answered(cluster: Cluster, shoppers: list[Shopper]) -> None:
    """Until each shopper whose primary died has been answered by another member, or has met an error."""

    def all_answered() -> bool:
        return all(not one.was_orphaned or one.errors or one.failover_ms() is not None for one in shoppers)

    cluster.wait(all_answered, "every shopper is served again")


def _wait_protected(cluster: Cluster, names: list[str]) -> None:
    """Until every session has its copies again."""

    def all_protected() -> bool:
        counts = [cluster.status(name)["sessions"] for name in names]
        return all(count["unprotected"] == 0 and count["outbox"] == 0 for count in counts)

    cluster.wait(all_protected, "every session has a backup again")


def _missing(shoppers: list[Shopper], members: list[str]) -> list[str]:
    return [lost for shopper in shoppers for member in members for lost in shopper.missing_at(member)]


def _report(cluster: Cluster, shoppers: list[Shopper], lost: list[str]) -> Report:
    return Report(
        members=len(cluster.members),
        requests=sum(shopper.requests for shopper in shoppers),
        retried=sum(shopper.retried for shopper in shoppers),
        errors=[error for shopper in shoppers for error in shopper.errors],
        unprotected=sum(shopper.unprotected for shopper in shoppers),
        acknowledged=sum(len(shopper.acknowledged) for shopper in shoppers),
        lost=lost,
        failover_ms=[ms for shopper in shoppers if shopper.was_orphaned and (ms := shopper.failover_ms()) is not None],
        orphans=sum(shopper.was_orphaned for shopper in shoppers),
    )
