"""Where copies are after members have come and gone: a fair share each, other zones, or where the keys say."""

from __future__ import annotations

from collections import Counter

from understudy.client.named_map import NEVER_EXPIRES
from understudy.model.commit import Commit, Creation, Outcome
from understudy.model.entry import Entry, Role, names_session
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.sim.world import World
from understudy.transport.memory import MemoryNetwork

SETTLED_MS = 12_000


class Cluster:
    """Machines and many sessions."""

    def __init__(self, names: str, **settings: object) -> None:
        self.world = World(1, (), c.Settings("", 0, 0, **settings), MemoryNetwork(1, detect_ms=30))  # type: ignore[arg-type]
        self.keys: list[bytes] = []
        for name in names:
            self.join(name)
        self.wait(4_000)

    def wait(self, ms: int) -> None:
        self.world.run_for(ms)

    def join(self, name: str, zone: str = "") -> None:
        self.world.zones[name] = zone or self.world.settings.zone
        self.world.add(name).start()

    def create(self, count: int, at: str, is_part: bool = False) -> None:
        """Begin so many sessions, whose primary is there, or parts of dictionaries, and wait until that is answered."""
        answers: list[object] = []
        for _ in range(count):
            number = len(self.keys)
            # The first bit tells a session from a part, which begins at the member that its key gives.
            key = bytes((self.world.random.randrange(0x80) | is_part << 7,)) + self.world.random.randbytes(15)
            assert names_session(key) is not is_part
            self.keys.append(key)
            commit = Commit(b"%08d" % number, b"s", {"x": b"1"}, creates=NEVER_EXPIRES if is_part else Creation(10**9))
            self.world.machines[at].ask(m.CommitRequest(0, key, commit, m.AcknowledgeMode.BACKUP), answers.append)
        self.wait(2_000)
        assert len(answers) == count
        assert all(isinstance(answer, m.CommitAnswer) and answer.outcome is Outcome.COMMITTED for answer in answers)

    def entries(self, role: Role) -> dict[str, list[Entry]]:
        """What each machine that is on holds in that role."""
        held = {}
        for name, machine in self.world.machines.items():
            found = (machine.store.read(key).entry for key in self.keys)
            held[name] = [e for e in found if machine.is_up and e is not None and e.role is role and not e.ended]
        return held

    def load(self) -> Counter[str]:
        """Copies by machine."""
        return Counter({name: len(entries) for name, entries in self.entries(Role.BACKUP).items() if entries})


def test_a_joining_member_gets_its_share() -> None:
    """S32, S37: 60 sessions of a on b and c; d joins, knows them all, and soon holds a third of the copies; then
    nothing moves any more, and nothing was without a copy."""
    cluster = Cluster("abc")
    cluster.create(60, "a")
    assert set(cluster.load()) == {"b", "c"}
    cluster.join("d")
    unprotected = 0
    for _ in range(SETTLED_MS // 100):
        cluster.wait(100)
        copies = sum(cluster.load().values())
        unprotected += copies < 60
    assert not unprotected
    load = cluster.load()
    assert sum(load.values()) == 60 and all(18 <= load[name] <= 22 for name in "bcd"), load
    assert len(cluster.entries(Role.PROXY)["d"]) == 60 - load["d"]
    moved = cluster.world.facts[c.FactKind.BACKUP_MOVED]
    cluster.wait(SETTLED_MS)
    assert cluster.world.facts[c.FactKind.BACKUP_MOVED] == moved


def test_what_a_lost_member_held_is_spread_over_the_rest() -> None:
    """S29, S36, S37: its copies, and those of the sessions that others take over from it."""
    cluster = Cluster("abcd")
    cluster.create(40, "a")
    cluster.create(40, "b")
    cluster.world.machines["a"].crash(with_store=False)
    cluster.wait(2 * SETTLED_MS)
    load = cluster.load()
    assert sum(load.values()) == 80 and sum(map(len, cluster.entries(Role.PRIMARY).values())) == 80
    assert set(load) == set("bcd")


def test_copies_go_to_another_zone_when_one_appears() -> None:
    """S37: a and b are in one rack; when c comes in another, all copies of theirs move there."""
    cluster = Cluster("ab", zone="rack-1")
    cluster.create(20, "a")
    assert cluster.load() == {"b": 20}
    cluster.join("c", zone="rack-2")
    cluster.wait(SETTLED_MS)
    assert cluster.load() == {"c": 20}


def test_where_places_are_computed_nobody_keeps_notes() -> None:
    """S31, S32, S37: with rendezvous every session is found from every machine, nobody holds a proxy entry, also after
    a loss and a join; copies are where the keys say."""
    cluster = Cluster("abcd", placement="rendezvous")
    cluster.create(40, "a")
    assert not any(cluster.entries(Role.PROXY).values())
    cluster.world.machines["b"].crash(with_store=False)
    cluster.wait(SETTLED_MS)
    cluster.join("e")
    cluster.wait(SETTLED_MS)
    cluster.world.machines["b"].start()
    cluster.wait(2 * SETTLED_MS)
    assert not any(cluster.entries(Role.PROXY).values()), cluster.entries(Role.PROXY)
    members = cluster.world.machines["a"].executor.engine.members  # type: ignore[union-attr]
    for entry, key in ((cluster.world.machines["a"].store.read(key).entry, key) for key in cluster.keys):
        assert entry is not None and entry.backups == members.place(key, 1)
    answers: list[object] = []
    for name, machine in cluster.world.machines.items():
        for key in cluster.keys[:10]:
            machine.ask(m.FetchRequest(0, key), answers.append)
        cluster.wait(500)
        assert all(a.outcome in (m.FetchOutcome.FOUND, m.FetchOutcome.HERE) for a in answers), name  # type: ignore[attr-defined]
    assert len(answers) == 50


def test_three_copies_survive_three_losses_at_once() -> None:
    """S30: the primary and two of three backups; what is left has all sessions, and makes three copies again."""
    cluster = Cluster("abcdef", copies=3)
    cluster.create(20, "a")
    assert sum(cluster.load().values()) == 60
    for name in "abc":
        cluster.world.machines[name].crash(with_store=False)
    cluster.wait(2 * SETTLED_MS)
    assert sum(map(len, cluster.entries(Role.PRIMARY).values())) == 20
    assert sum(cluster.load().values()) == 40, "three members hold all there can be"
    for name in "abc":
        cluster.world.machines[name].start()
    cluster.wait(2 * SETTLED_MS)
    assert sum(cluster.load().values()) == 60
