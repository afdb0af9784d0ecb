"""Scenarios that a person can read, in the cluster of one thread: losses one after another and at once, a stop of
everything, a pause, a primary that is cut off while its lease runs."""

from __future__ import annotations

import pytest
from tests.history.broken import leases_are_looked_at_last

from understudy.client.conversation import open_session
from understudy.client.visit import Opened
from understudy.client.visit import World as ClientWorld
from understudy.model import values
from understudy.model.commit import Commit, Creation, Outcome
from understudy.model.entry import Attributes, Promise, Role
from understudy.model.ids import cookie_value
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind
from understudy.protocol.members import Members
from understudy.sim.plan import UserPlan
from understudy.sim.workers import Handling, Script, Worlds, client_world
from understudy.sim.world import Machine, World
from understudy.transport.memory import MemoryNetwork

SETTLED_MS = 8_000
"""More than the sweep's delay and what it then takes to replace a copy."""
GIVES_UP_MS = 20_000
IDLE_MS = 10**9
USER = UserPlan((), IDLE_MS)


class Cluster:
    """Machines and one session; each method waits until it is answered, as a browser does."""

    def __init__(
        self,
        names: str,
        copies: int = 1,
        seed: int = 1,
        *,
        clocks: dict[str, tuple[int, int]] | None = None,
        **settings: int,
    ) -> None:
        told = c.Settings("", 0, 0, copies=copies, **settings)  # type: ignore[arg-type]
        self.world = World(seed, tuple(names), told, MemoryNetwork(seed, detect_ms=30), clocks=clocks)
        keys = self.world.keys
        session_id = keys.mint(b"a locator, a key")
        self.key, self.secret = keys.key("default", session_id), keys.secret_hash(session_id)
        self.cookie = cookie_value(session_id, names[0])
        for machine in self.world.machines.values():
            machine.start()
        self.wait(4_000)
        self.writes = 0

    def __getitem__(self, name: str) -> Machine:
        return self.world.machines[name]

    @property
    def now_ms(self) -> int:
        return self.world.network.now_ms

    def wait(self, ms: int) -> None:
        self.world.run_until(self.now_ms + ms)

    def write(self, at: str, value: bytes) -> m.CommitAnswer:
        """Sets x (the first write begins the session); asked again under the same id until it is committed."""
        self.writes += 1
        creates = Creation(IDLE_MS) if self.writes == 1 else None
        commit = Commit(b"%08d" % self.writes, self.secret, {"x": values.encode(value, attribute="x")}, creates=creates)
        until_ms = self.now_ms + GIVES_UP_MS
        while self.now_ms < until_ms:
            answers: list[m.FetchAnswer | m.CommitAnswer | None] = []
            self[at].ask(m.CommitRequest(0, self.key, commit, m.AcknowledgeMode.BACKUP), answers.append)
            while not answers and self.now_ms < until_ms:
                self.wait(1)
            if answers and isinstance(answers[0], m.CommitAnswer) and answers[0].outcome is Outcome.COMMITTED:
                return answers[0]
            self.wait(20)
        raise AssertionError(f"nothing was committed at {at} within {GIVES_UP_MS} ms")

    def read(self, at: str) -> bytes | None:
        """x, as a worker at that machine shows it: in place under its leases, else through its agent."""
        until_ms = self.now_ms + GIVES_UP_MS
        while self.now_ms < until_ms:
            shown: list[Opened] = []
            ended: list[Exception | None] = []

            def script(world: ClientWorld, shown: list[Opened] = shown) -> Script:
                shown.append((yield from open_session(world, self.cookie)))

            Handling(self[at], ended.append).begin(script, Worlds(USER))
            while not ended and self.now_ms < until_ms:
                self.wait(1)
            if shown and shown[0].session_id is not None:
                return x_of(shown[0].attributes)
            self.wait(20)
        raise AssertionError(f"{at} did not find the session")

    def read_in_place(self, at: str) -> bytes | None:
        """x, if a worker may show it without asking anybody at this instant."""
        conversation = open_session(client_world(self[at], USER), self.cookie)
        try:
            next(conversation)
        except StopIteration as stop:
            return x_of(stop.value.attributes)
        return None

    def roles(self) -> dict[Role, list[str]]:
        """Who holds what, of the machines that are up."""
        held: dict[Role, list[str]] = {role: [] for role in Role}
        for name, machine in self.world.machines.items():
            entry = machine.store.read(self.key).entry
            if entry is not None and machine.is_up:
                held[entry.role].append(name)
        return held

    def primary(self) -> str:
        (name,) = self.roles()[Role.PRIMARY]
        return name

    def others(self, *names: str) -> list[str]:
        return [name for name in self.world.machines if name not in names]


def x_of(attributes: Attributes) -> bytes | None:
    shown: bytes | None = values.decode(attributes["x"][0].value, attribute="x") if "x" in attributes else None
    return shown


@pytest.mark.parametrize("silent_too", [False, True], ids=["machine", "machine, its store lost"])
def test_the_primarys_machine_dies(silent_too: bool) -> None:
    """S22: each other member shows and takes changes at once, and the session has a primary and a backup again."""
    a = Cluster("abc")
    assert a.write("a", b"1").protected
    died = a.primary()
    a[died].crash(with_store=not silent_too)
    began_ms = a.now_ms
    for name in a.others(died):
        assert a.read(name) == b"1"
    assert a.now_ms - began_ms < 300, "on the cluster's own clock"
    first, second = a.others(died)
    assert a.write(first, b"2").protected and a.read(second) == b"2"
    a.wait(SETTLED_MS)
    assert len(a.roles()[Role.PRIMARY]) == len(a.roles()[Role.BACKUP]) == 1


def test_primary_and_backup_die_one_after_the_other() -> None:
    """S29: with time to re-protect in between nothing is lost, down to the last machine."""
    a = Cluster("abc")
    a.write("b", b"1")
    for value in (b"2", b"3"):
        died = a.primary()
        a[died].crash(with_store=False)
        left = [name for name in a.others(died) if a[name].is_up]
        assert a.read(left[0]) == (b"1" if value == b"2" else b"2")
        a.write(left[-1], value)
        a.wait(SETTLED_MS)
    assert a.read(a.primary()) == b"3"


def test_with_two_copies_two_machines_die_at_once() -> None:
    """S30: primary and one backup, without a word and with their stores: the other backup has everything."""
    a = Cluster("abcd", copies=2)
    assert a.write("a", b"1").protected
    assert a.write("b", b"2").protected
    held = a.roles()
    died = (held[Role.PRIMARY][0], held[Role.BACKUP][0])
    for name in died:
        a[name].crash(with_store=False)
    for name in a.others(*died):
        assert a.read(name) == b"2"


def test_all_machines_stop_and_start_with_their_stores() -> None:
    """S35: the session is back, as it was."""
    a = Cluster("abc")
    a.write("a", b"1")
    a.write("b", b"2")
    for name in "abc":
        a[name].crash()
    a.wait(1_000)
    for name in "abc":
        a[name].start()
    assert [a.read(name) for name in "abc"] == [b"2", b"2", b"2"]


def test_a_paused_primary_serves_nothing_stale() -> None:
    """S25: ten seconds stopped, replaced meanwhile: the first read after it shows the new value, and its copy is gone
    or the successor's."""
    a = Cluster("abc")
    a.write("a", b"1")
    paused = a.primary()
    a[paused].pause()
    assert a.write(a.others(paused)[0], b"2").protected
    a.wait(10_000)
    a[paused].resume()
    assert a.read(paused) == b"2"
    assert a.primary() != paused


def cut_off(a: Cluster) -> tuple[bytes, bytes | None]:
    """The primary loses both others while its lease runs; another takes a change; what is written and what the worker
    of the old primary shows in the instant in which that change has been answered."""
    a.write("a", b"1")
    old = a.primary()
    a.wait(200)
    for name in a.others(old):
        a.world.network.cut(old, name)
    holder = next(name for name in a.others(old) if name in a.roles()[Role.BACKUP])
    assert a.write(holder, b"2").protected
    return b"2", a.read_in_place(old)


def test_a_primary_that_is_cut_off_shows_nothing_old_once_another_has_answered() -> None:
    """S25, S31: its lease has run out before the successor's first answer leaves."""
    written, shown = cut_off(Cluster("abc"))
    assert shown in (None, written)


def test_that_is_seen_when_the_promise_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario can fail: a successor that does not hold its first answer shows it."""
    monkeypatch.setattr(Members, "hold_until_ms", lambda self, names: 0)
    written, shown = cut_off(Cluster("abc"))
    assert shown not in (None, written)


def test_every_member_is_restarted_as_fast_as_readiness_allows() -> None:
    """S34: drain, stop, start, ready, the next; the session is there throughout, with every change."""
    a = Cluster("abc")
    a.write("a", b"0")
    for number, name in enumerate(("a", "b", "c", "a", "b", "c"), start=1):
        machine = a[name]
        machine.drain()
        while machine.executor is not None and not machine.executor.engine.drained:
            a.wait(10)
        machine.stop()
        machine.start()
        while machine.executor is not None and not machine.executor.engine.ready:
            a.wait(10)
        assert a.write(a.others(name)[0], b"%d" % number).protected
        assert a.read(name) == b"%d" % number
    a.wait(SETTLED_MS)
    assert len(a.roles()[Role.PRIMARY]) == len(a.roles()[Role.BACKUP]) == 1


# --- requests do not wait for the detector ----------------------------------------------------------------------------


def answered_within_ms(a: Cluster, old: str) -> int:
    """How long the slower of a read and a write takes that come to the two others at once."""
    first, second = a.others(old)
    began_ms = a.now_ms
    assert a.read(first) == b"1"
    a.write(second, b"2")
    return a.now_ms - began_ms


@pytest.mark.parametrize("phase_ms", range(0, 90, 15))
def test_a_silent_primary_is_replaced_within_a_second(phase_ms: int) -> None:
    """S22, S25: stopped without a word, at any instant between two heartbeats: the network will tell after 1.5 s, the
    others' requests are answered long before."""
    a = Cluster("abc")
    a.write("a", b"1")
    a.wait(phase_ms)
    old = a.primary()
    a[old].pause()
    assert answered_within_ms(a, old) < 800


def cut_all(a: Cluster, *pairs: str) -> None:
    for one, other in pairs:
        a.world.network.cut(one, other)


def test_a_primary_that_one_member_cannot_reach_stays() -> None:
    """S31, S40: a and b are cut from each other, c sees both: b's requests go through c, for as long as it lasts, and
    nobody promotes itself."""
    a = Cluster("abc")
    a.write("a", b"1")
    assert a.primary() == "a"
    cut_all(a, "ab")
    for round_ in range(8):
        value = b"%d" % (round_ + 2)
        assert a.write("b", value).protected
        assert a.read("b") == a.read("c") == a.read("a") == value
        a.wait(1_000)
    assert a.primary() == "a" and FactKind.PROMOTED not in a.world.facts
    a.world.network.heal_all()
    a.wait(SETTLED_MS)
    assert a.roles()[Role.PRIMARY] == ["a"] and len(a.roles()[Role.BACKUP]) == 1


@pytest.mark.parametrize(("deaf", "mute"), ["ab", "ba"])
def test_a_cut_of_one_direction_is_gone_around_too(deaf: str, mute: str) -> None:
    """S40: nothing passes from one to the other; c sees both."""
    a = Cluster("abc")
    a.write("a", b"1")
    a.world.network.cut_one_way(mute, deaf)
    for round_ in range(4):
        value = b"%d" % (round_ + 2)
        assert a.write("b", value).protected
        assert a.read("b") == a.read("c") == a.read("a") == value
        a.wait(1_500)
    assert len(a.roles()[Role.PRIMARY]) == 1
    a.world.network.heal_all()
    a.wait(SETTLED_MS)
    assert len(a.roles()[Role.PRIMARY]) == len(a.roles()[Role.BACKUP]) == 1 and a.read("b") == b"5"


def test_a_flapping_link_moves_little() -> None:
    """S41: two members on one cable that comes and goes, requests on both: at first each cut moves the primaryship,
    then they wait for each other a little; nothing is lost, and afterwards there is one primary."""
    a = Cluster("ab")
    a.write("a", b"0")
    for round_ in range(12):
        cut_all(a, "ab")
        a.wait(40)  # the network has told both
        a.world.later(40, a.world.network.heal_all)
        a.write("ab"[round_ % 2], b"%d" % (round_ + 1))
        a.wait(400)
    assert a.world.facts[FactKind.PROMOTED] <= 6
    a.wait(SETTLED_MS)
    assert len(a.roles()[Role.PRIMARY]) == len(a.roles()[Role.BACKUP]) == 1
    assert a.read("a") == a.read("b") == b"12"


# --- the primaryship follows the requests -----------------------------------------------------------------------------


def test_a_session_moves_to_who_serves_it_and_back() -> None:
    """S28: A -> B -> A with a change at each step: every member shows the newest; the members that were left behind
    promote nothing old when the last primary dies."""
    a = Cluster("abc")
    a.write("a", b"0")
    for number, name in enumerate("bcab", start=1):
        for _ in range(3):
            a.read(name)
            a.write(name, b"%d" % number)
        a.wait(6_000)
        assert a.primary() == name
        assert [a.read(other) for other in a.others()] == [b"%d" % number] * 3
    assert a.world.facts[FactKind.MOVED] == 4 and FactKind.PROMOTED not in a.world.facts
    a[a.primary()].crash(with_store=False)
    assert a.read("a") == a.read("c") == b"4"


def test_twenty_members_are_asked_for_one_session_at_once() -> None:
    """S09: each reads, writes and reads; one primary afterwards, and nothing is lost."""
    names = "abcdefghijklmnopqrst"
    a = Cluster(names)
    a.write("a", b"1")
    answered: list[str] = []
    for round_ in range(3):
        for name in names:
            commit = Commit(b"%s%07d" % (name.encode(), round_), a.secret, {name: b"%d" % round_})
            request = m.CommitRequest(0, a.key, commit, m.AcknowledgeMode.BACKUP)
            a[name].ask(m.FetchRequest(0, a.key), lambda answer: None)
            a[name].ask(request, lambda answer, name=name: answered.append(name) if answer else None)  # type: ignore[misc]
        a.wait(300)
    a.wait(2_000)
    assert len(answered) == 60
    held = a.roles()
    assert len(held[Role.PRIMARY]) == len(held[Role.BACKUP]) == 1
    entry = a[held[Role.PRIMARY][0]].store.read(a.key).entry
    assert entry is not None and [entry.shown(name) for name in names] == [b"2"] * 20


def test_a_worker_that_stood_still_shows_nothing_old_under_a_new_lease() -> None:
    """S23, S25: stopped between its look into the store and its look at the leases, while its machine's agent is
    replaced and finds out that the entry is old."""
    for after in (1, 2, 3):
        a = Cluster("abc")
        a.write("a", b"1")
        old = a.primary()
        a[old].crash()
        assert a.write(a.others(old)[0], b"2").protected
        a[old].start()
        shown: list[Opened] = []

        def script(world: ClientWorld, shown: list[Opened] = shown, cookie: str = a.cookie) -> Script:
            shown.append((yield from open_session(world, cookie)))

        Handling(a[old], lambda error: None).begin_stalled(script, Worlds(USER), a.key, 3_000, after)
        a.wait(6_000)
        assert x_of(shown[0].attributes) == b"2"


def test_a_worker_that_stood_still_and_then_asks_its_agent_looks_anew() -> None:
    """S25: nothing is left of what it saw before, also where the leases were over and it took no second look (in seed
    437 such a worker found its session expired after its agent had answered)."""
    a = Cluster("abc")
    a.write("a", b"1")
    shown: list[Opened] = []

    def script(world: ClientWorld) -> Script:
        shown.append((yield from open_session(world, a.cookie)))

    Handling(a[a.primary()], lambda error: None).begin_stalled(script, Worlds(USER), a.key, 3_000, 3)
    assert a.write("a", b"2").protected
    a.wait(3_000)
    assert x_of(shown[0].attributes) == b"2"


def isolate(cluster: Cluster, name: str) -> None:
    """Nothing passes between that machine and the others, in either direction, until all is healed."""
    for other in cluster.others(name):
        cluster.world.network.cut(name, other)
        cluster.world.network.cut(other, name)


@pytest.mark.parametrize("cut_ms", [450, 900, 1_400])
@pytest.mark.parametrize("seed", range(4))
def test_after_a_short_cut_nothing_stale_is_shown_in_place(cut_ms: int, seed: int) -> None:
    """S25, S40: a cut too short for anybody to be called dead, in which a request has claimed the session: when leases
    are granted again, the former primary shows nothing in place that was overwritten meanwhile."""
    assert not stale_after_a_cut(cut_ms, seed)


def test_that_is_seen_when_a_lease_is_taken_behind_a_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario can fail: where nobody minds the fence, something old is shown."""
    monkeypatch.setattr(Members, "fence", lambda self, name: None)
    assert any(stale_after_a_cut(900, seed) for seed in range(4))


def stale_after_a_cut(cut_ms: int, seed: int) -> bool:
    """Whether the former primary shows something in place, at any instant after the cut, that was overwritten in it."""
    cluster = Cluster("abc", seed=seed)
    cluster.world.network.detect_ms = 5_000
    cluster.write("a", b"old")
    entry = cluster["a"].store.read(cluster.key).entry
    assert entry is not None and cluster.read_in_place("a") == b"old"
    isolate(cluster, "a")
    cluster.wait(300)
    assert cluster.write(entry.backups[0], b"new").protected
    cluster.wait(max(0, cut_ms - 450))
    cluster.world.network.heal_all()
    shown = set()
    for _ in range(2_000):
        cluster.wait(1)
        shown.add(cluster.read_in_place("a"))
    if b"old" in shown:
        return True
    assert cluster.read("a") == b"new" and len(cluster.roles()[Role.PRIMARY]) == 1
    return False


def test_who_is_outbid_asks_before_it_shows_anything() -> None:
    """S25: a backup has promised to somebody who then died: the primary that was cut off learns of the promise when it
    compares, shows nothing in place, and wins a higher reign."""
    cluster = Cluster("abc")
    cluster.world.network.detect_ms = 5_000
    cluster.write("a", b"old")
    entry = cluster["a"].store.read(cluster.key).entry
    assert entry is not None
    backup = entry.backups[0]
    isolate(cluster, "a")
    cluster.wait(300)
    asker = cluster.others("a", backup)[0]
    promise = Promise(entry.epoch.reign + 1, 7)
    question = m.Question(cluster.key, promise, {}, entry.location)
    executor, asking = cluster[backup].executor, cluster[asker].me
    assert executor is not None
    executor.submit(c.Received(asker, asking.incarnation, m.Ask(1, (question,))))
    executor.turn()
    cluster.world.network.heal_all()
    for _ in range(1_500):
        cluster.wait(1)
        shown = cluster.read_in_place("a")
        now = cluster["a"].store.read(cluster.key).entry
        assert now is not None
        assert shown is None or now.epoch.reign > promise.reign
    assert cluster.read("a") == b"old" and cluster.primary() == "a"


# --- away for too long ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away_ms", [4_000, 30_000], ids=["while the tombstone lives", "longer than it lives"])
def test_no_old_store_brings_back_what_was_ended(away_ms: int) -> None:
    """S04: the backup's machine was off when the user logged out: whenever it comes back, nobody finds the session."""
    a = Cluster("abc", forget_ms=10_000)
    a.write("a", b"1")
    away = a.roles()[Role.BACKUP][0]
    a[away].crash()
    ends = Commit(b"%08d" % 99, a.secret, ends=True)
    a["a"].ask(m.CommitRequest(0, a.key, ends, m.AcknowledgeMode.BACKUP), lambda answer: None)
    a.wait(away_ms)
    a[away].start()
    a.wait(SETTLED_MS)
    for name in "abc":
        entry = a[name].store.read(a.key).entry
        assert entry is None or entry.ended, name
    assert (FactKind.STORE_OUTDATED in a.world.facts) == (away_ms > 10_000)


def test_sessions_survive_a_long_stop_of_everything() -> None:
    """S35: all were away for longer than deletions are remembered: nobody has forgotten what another knows."""
    a = Cluster("abc", forget_ms=10_000)
    a.write("a", b"1")
    for name in "abc":
        a[name].crash()
    a.wait(40_000)
    for name in "abc":
        a[name].start()
    assert [a.read(name) for name in "abc"] == [b"1", b"1", b"1"]


def test_that_is_seen_when_leases_are_looked_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario can fail: a worker that takes a lease which runs now for one that ran when it read."""
    leases_are_looked_at_last(monkeypatch)
    with pytest.raises(AssertionError):
        test_a_worker_that_stood_still_shows_nothing_old_under_a_new_lease()


def found_at(cluster: Cluster, name: str) -> str:
    """What a worker at that machine makes of the cookie: "shown", "none" (a new session may begin), "unavailable"."""
    shown: list[Opened] = []
    ended: list[Exception | None] = []

    def script(world: ClientWorld) -> Script:
        shown.append((yield from open_session(world, cluster.cookie)))

    Handling(cluster[name], ended.append).begin(script, Worlds(USER))
    while not ended:
        cluster.wait(1)
    if not shown:
        return "unavailable"
    return "none" if shown[0].session_id is None else "shown"


@pytest.mark.parametrize("after_ms", [100, 2_000, 15_000, 60_000])
def test_a_member_that_is_cut_off_begins_nobodys_session_anew(after_ms: int) -> None:
    """S31, S42: a proxy that loses all others at once cannot tell their death from its own isolation: its visitors are
    told to come again, and find their session when the cut is healed."""
    cluster = Cluster("abc")
    cluster.write("a", b"kept")
    entry = cluster["a"].store.read(cluster.key).entry
    assert entry is not None
    (proxy,) = cluster.others("a", *entry.backups)
    isolate(cluster, proxy)
    cluster.wait(after_ms)
    assert found_at(cluster, proxy) == "unavailable"
    cluster.world.network.heal_all()
    cluster.wait(3_000)
    assert cluster.read(proxy) == b"kept"


def test_members_that_are_lost_together_are_given_up_in_the_end() -> None:
    """S29: after ``lost_after`` their sessions count as lost, and that is told; visitors may begin anew."""
    cluster = Cluster("abc", lost_after_ms=30_000)
    cluster.write("a", b"gone")
    cluster.wait(200)  # the others learn where it is
    entry = cluster["a"].store.read(cluster.key).entry
    assert entry is not None
    (proxy,) = cluster.others("a", *entry.backups)
    for name in cluster.others(proxy):
        cluster[name].crash(with_store=False)
    cluster.wait(20_000)
    assert found_at(cluster, proxy) == "unavailable"
    cluster.wait(20_000)
    assert found_at(cluster, proxy) == "none"
    assert cluster.world.facts[FactKind.SESSION_LOST]


def test_who_is_alone_for_a_moment_shows_nothing_before_somebody_answers() -> None:
    """S25, S42: a primary that nobody answers cannot know whether its session was taken: a request waits until it is
    told, or until the others are called dead; then it is served, as on any side of a partition."""
    for heals in (True, False):
        cluster = Cluster("abc")
        cluster.world.network.detect_ms = 1_500
        cluster.write("a", b"old")
        entry = cluster["a"].store.read(cluster.key).entry
        assert entry is not None
        isolate(cluster, "a")
        cluster.wait(300)
        assert cluster.write(entry.backups[0], b"new").protected
        if heals:
            cluster.world.later(200, cluster.world.network.heal_all)
        assert cluster.read("a") == (b"new" if heals else b"old")
