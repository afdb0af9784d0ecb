"""What one history will be, as data, drawn from its seed before anything runs: the cluster, its users, its faults.

A plan can be written to a file, read back, and made smaller: whatever is taken out of it, it stays a plan. The
profile says which promises apply (``Promises``), so that the checkers ask of each history what it can keep.
"""

from __future__ import annotations

import enum
from random import Random
from typing import NamedTuple

import msgspec


class FaultKind(enum.StrEnum):
    """What can go wrong, or be done to a cluster on purpose."""

    CRASH = "crash"
    """The machine stops without a word and comes back with its store."""
    CRASH_EMPTY = "crash empty"
    """The same, and its store is gone."""
    AGENT = "agent killed"
    """Its workers go on; another agent starts."""
    WORKERS = "workers killed"
    PAUSE = "pause"
    """The whole machine stands still, workers too."""
    SLOW = "slow"
    """Every turn of its agent takes long."""
    RESTART = "restart"
    """Drain, stop, start."""
    ROLL = "rolling restart"
    """Every member in turn, each as soon as the one before is ready."""
    POWER = "all stopped"
    """All machines at once, with their stores."""
    FULL = "full store"
    """Nothing that grows fits into its store any more."""
    JOIN = "join"
    """A member that was never there starts."""
    CUT = "cut"
    """Nothing passes between two members, in either direction."""
    CUT_ONE_WAY = "cut one way"
    FLAP = "flapping"
    """A link that is cut and healed again and again."""
    PARTITION = "partition"
    """Nothing passes between the named members and the others."""
    BLINK = "blink"
    """The same of one member, and it is over before anybody reports it."""
    STORM = "storm"
    """Loss, repeats, and frames that are seconds late, everywhere."""


SHARP = (
    FaultKind.CRASH,
    FaultKind.CRASH_EMPTY,
    FaultKind.AGENT,
    FaultKind.PAUSE,
    FaultKind.BLINK,
)
"""They strike in the middle of work of the machine that they hit."""
CUTS = (FaultKind.CUT, FaultKind.CUT_ONE_WAY, FaultKind.FLAP, FaultKind.PARTITION, FaultKind.BLINK)


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault. It begins ``after_ms`` after the cluster was last calm, or after the fault before began."""

    kind: FaultKind
    members: tuple[str, ...] = ()
    after_ms: int = 0
    lasts_ms: int = 0
    together: bool = False
    """Begins without waiting for the cluster to have recovered from the one before."""
    at_copies: bool = False
    """Strikes a machine while it has not acknowledged what it was sent; all machines, while anybody has not."""
    in_storm: bool = False
    """A storm begins before it and ends after it: frames of the life that it ends arrive in the time of the next."""


class OperationKind(enum.StrEnum):
    """What a tab of a browser does."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    COUNT = "count"
    """One increment in ``transact``."""
    RENEW = "renew"
    """Rotate the id."""
    LOGIN = "login"
    """Rotate it with another principal."""
    LOGOUT = "logout"
    OLD = "old cookie"
    """Come with a cookie that should open nothing any more."""
    IDLE = "idle"
    """The whole user does nothing for a while."""


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request of one tab, with everything that is drawn for it."""

    kind: OperationKind
    think_ms: int = 0
    """Before it, since the answer to the one before."""
    at: int = -1
    """Which of the machines that are up; -1: where the cookie's route says."""
    attribute: str = ""
    view_ms: int = 0
    """Between opening the session and committing."""
    stall_ms: int = 0
    """So long its worker stands still in the middle of serving in place."""
    logs_in: bool = False
    """Of an old cookie's: where it opens nothing, somebody else logs in with it."""
    stalls_after: int = 1
    """Where: after the first look into the store, after the look at the leases, or after the second look."""
    dies_ms: int = 0
    """The worker is killed so long after the request began; 0: it is not."""


LONG_IDLE_MS = 3_600_000


class UserPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """One browser."""

    tabs: tuple[tuple[Operation, ...], ...]
    idle_timeout_ms: int = LONG_IDLE_MS
    absolute_timeout_ms: int = 0
    acknowledges: bool = True
    """Its answers wait for the backup; else nobody's do, ``acknowledge = "local"``."""
    refuses: bool = False
    """``unprotected = "refuse"``: a change that no backup takes is an error."""


class NetworkPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    delay_ms: tuple[int, int] = (1, 5)
    detect_ms: int = 30
    silent_ms: int = 1_500
    resumed_ms: int = 0


class Promises(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may be asked of a history."""

    nothing_lost: bool = True
    """No acknowledged change is lost, nothing goes back, nobody is logged out, counters are exact."""
    sides: bool = False
    """What each side of a partition has acknowledged is there after the heal."""


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything about one history that is not the protocol's own doing."""

    seed: int
    profile: str
    members: tuple[str, ...]
    promises: Promises
    settings: dict[str, int | str] = {}
    """Fields of the engine's ``Settings``."""
    network: NetworkPlan = NetworkPlan()
    zones: dict[str, str] = {}
    """Member -> its zone, where they have one."""
    differs: tuple[str, ...] = ()
    """Members that say that they are configured otherwise (and are not: it must harm nobody to hear so)."""
    clocks: dict[str, tuple[int, int]] = {}
    """Member -> where its clock starts (ms), and its drift (parts in a million)."""
    users: tuple[UserPlan, ...] = ()
    faults: tuple[Fault, ...] = ()
    store_bytes_max: int = 1 << 30

    @property
    def always_answers(self) -> bool:
        """True if no machine that runs may say that a session is unavailable: one fault comes after the other."""
        return self.promises.nothing_lost and not self.cuts and not any(fault.together for fault in self.faults)

    @property
    def cuts(self) -> bool:
        """True if some members cannot hear some others for a while."""
        return any(fault.kind in CUTS for fault in self.faults)


class Profile(NamedTuple):
    """One kind of history."""

    members: tuple[int, ...]
    """How many there may be."""
    faults: tuple[FaultKind, ...]
    how_many: tuple[int, int]
    """Of the faults."""
    copies: int = 1
    pairs: bool = False
    """Two faults at once."""
    promises: Promises = Promises()
    weight: int = 1
    """How often a swarm takes it; "quick" it takes by the seed, see ``QUICK_EVERY``."""
    settings: tuple[tuple[str, int | str], ...] = ()
    """Fields of the engine's ``Settings`` that make it what it is."""
    lasts_ms: tuple[int, ...] = ()
    """How long a fault of it may last, where not as long as any."""
    detect_ms: int = 0
    """Until a cut is reported; 0: drawn."""
    quick: bool = False
    """Half of the faults strike who has not acknowledged a copy, and half of them happen in a storm."""


F = FaultKind
_SINGLE = (F.CRASH, F.CRASH_EMPTY, F.AGENT, F.WORKERS, F.PAUSE, F.SLOW, F.RESTART, F.JOIN, F.STORM)
_LINKS = (F.CUT, F.CUT_ONE_WAY, F.FLAP)
_WEAK = Promises(nothing_lost=False)

PROFILES: dict[str, Profile] = {
    "one": Profile((3, 3, 4), (*_SINGLE, F.CRASH, F.CRASH_EMPTY, F.ROLL, F.POWER), (3, 4), weight=8),
    "pair": Profile((2,), (F.CRASH, F.AGENT, F.PAUSE, F.RESTART, F.STORM), (2, 3), weight=2),
    "copies2": Profile((4, 5), (F.CRASH, F.CRASH_EMPTY, F.AGENT, F.PAUSE), (2, 3), copies=2, pairs=True, weight=2),
    "full": Profile((3,), (F.FULL, F.FULL, F.CRASH), (2, 3), promises=_WEAK),
    "delta": Profile((3, 4), (*_SINGLE, F.ROLL), (2, 4), settings=(("everywhere", True),)),
    "rendezvous": Profile((3, 4), (*_SINGLE, F.ROLL), (2, 4), settings=(("placement", "rendezvous"),)),
    "old": Profile((3, 4), (F.CRASH,), (1, 2), settings=(("forget_ms", 2_500),), lasts_ms=(5_000, 7_000)),
    "blink": Profile((3,), (F.BLINK,), (4, 6), settings=(("members_expected", 3),), detect_ms=2_000),
    "refuse": Profile((3,), (F.PARTITION,), (1, 2), promises=_WEAK, settings=(("members_expected", 3),)),
    "quick": Profile(
        (2, 3, 4),
        (F.CRASH, F.CRASH_EMPTY, F.CRASH_EMPTY, F.AGENT, F.POWER),
        (4, 6),
        weight=0,
        lasts_ms=(5, 5, 20, 150),
        quick=True,
    ),
    "links": Profile((3, 4), (*_LINKS, F.CRASH), (2, 4), weight=3),
    "partition": Profile((3, 4), (F.PARTITION,), (1, 2), promises=Promises(nothing_lost=False, sides=True), weight=2),
    "chaos": Profile(
        (3, 4),
        (*_SINGLE, *_LINKS, F.PARTITION),
        (4, 7),
        pairs=True,
        promises=_WEAK,
        weight=2,
        settings=(("lost_after_ms", 2_500),),
    ),
}
"""Profile's name -> what it is made of."""

NAMES = "abcdefgh"
DIFFERS_EVERY = 16
"""In each plan of so many a member says that it is configured otherwise."""
VARIED_EVERY = 4
"""In each plan of so many there are zones, and users with settings of their own."""
ZONES = ((), ("hall",), ("east", "west"))
ABSOLUTE_MS = 5_000
VIEWS_MS = (700, 1_500)
USERS = (8, 12)
LASTS_MS = 6_000
"""Each tab works about so long, if its requests are answered at once; less, if its user sleeps meanwhile."""
AWAKE_MS = 1_500
"""So long at least."""
ANSWER_MS = 15
PACES_MS = (60, 200, 350)
SHORT_IDLE_MS = 5_000
SLEEPS_MS = (2_000, 7_500)
"""Shorter than that idle timeout, so that the session must be alive, and longer, so that it must be over."""
READING_EVERY, READING_OF, READERS = 4, 2, 3
"""In one of so many seeds there are so many users who only read: only that they are used keeps their sessions alive."""
READS_MS, READ_EVERY_MS = 20_000, 500
QUICK_EVERY, QUICK_OF = 8, 5
"""So many seeds have one history in which members come back before they are missed: the one with this remainder."""
RESUMED_EVERY, RESUMED_OF, RESUMED_MS = 4, 3, 30
"""In one of so many seeds a machine that has stood still loses all others after it has gone on, as zenoh does it."""
_LASTS_MS: dict[FaultKind, tuple[int, ...]] = {
    F.CRASH: (150, 700, 2_500, 5_000),
    F.CRASH_EMPTY: (150, 700, 2_500, 5_000),
    F.AGENT: (20, 150, 900),
    F.PAUSE: (150, 300, 420, 480, 2_000, 6_000),
    F.SLOW: (400, 1_500, 3_000),
    F.FULL: (300, 1_500),
    F.RESTART: (10, 100, 2_500),
    F.ROLL: (10, 200),
    F.POWER: (100, 1_500),
    F.CUT: (100, 400, 2_000, 5_000),
    F.CUT_ONE_WAY: (100, 400, 2_000, 5_000),
    F.FLAP: (1_000, 3_000),
    F.PARTITION: (600, 2_500, 5_000),
    F.BLINK: (150, 300, 600, 900),
    F.STORM: (300, 1_500),
}


def draw(seed: int, profile: str = "") -> Plan:
    """The plan of a seed; ``profile`` "": the seed draws that too.

    Cost: about ten milliseconds.
    """
    random = Random(f"plan {seed} {profile}")
    resumed_ms = RESUMED_MS if not profile and seed % RESUMED_EVERY == RESUMED_OF else 0
    if not profile and seed % QUICK_EVERY == QUICK_OF:
        profile = "quick"
    elif not profile:
        profile = random.choices(list(PROFILES), [p.weight for p in PROFILES.values()])[0]
    kind = PROFILES[profile]
    members = tuple(NAMES[: random.choice(kind.members)])
    plan = Plan(
        seed=seed,
        profile=profile,
        members=members,
        promises=kind.promises,
        settings=_settings(random, kind),
        network=_network(random, kind, resumed_ms),
        differs=members[-1:] if seed % DIFFERS_EVERY == 0 else (),
        clocks={name: (random.randrange(10**6, 10**9), random.randint(-200, 200)) for name in NAMES},
        users=tuple(_user(random) for _ in range(random.randint(*USERS))),
        faults=tuple(_faults(random, kind, members)),
    )
    if seed % READING_EVERY == READING_OF and F.CRASH in kind.faults:
        plan = _with_readers(Random(f"readers {seed} {profile}"), plan)
    return (
        plan if (seed + 1) % VARIED_EVERY and profile != "refuse" else _varied(Random(f"varied {seed} {profile}"), plan)
    )


def _with_readers(random: Random, plan: Plan) -> Plan:
    """The plan with users who change nothing after the login, for longer than a session lives unused, and read where
    its primary is (one that moves takes its use with it); and with a crash when that is all that keeps them alive."""
    count = READS_MS // READ_EVERY_MS
    reads = [
        tuple(Operation(OperationKind.READ, think_ms=random.randint(1, 2 * READ_EVERY_MS)) for _ in range(count))
        for _ in range(READERS)
    ]
    crash = Fault(F.CRASH, (random.choice(plan.members),), after_ms=SHORT_IDLE_MS + READ_EVERY_MS, lasts_ms=2_500)
    return msgspec.structs.replace(
        plan,
        users=(*plan.users, *(UserPlan(tabs=(tab,), idle_timeout_ms=SHORT_IDLE_MS) for tab in reads)),
        faults=(*plan.faults, crash),
    )


def _varied(random: Random, plan: Plan) -> Plan:
    """The plan with zones, and with users who want something else than most."""
    zones = random.choice(ZONES)
    return msgspec.structs.replace(
        plan,
        zones={name: zones[number % len(zones)] for number, name in enumerate(NAMES) if zones},
        users=tuple(_varied_user(random, user, "everywhere" in plan.settings) for user in plan.users),
    )


def _varied_operation(random: Random, operation: Operation) -> Operation:
    """Somebody else logs in with an old cookie; and some views last longer than it takes to notice a cut."""
    view_ms = random.choice(VIEWS_MS) if random.random() < 0.04 else operation.view_ms
    is_old, sleeps = operation.kind is OperationKind.OLD, operation.kind is OperationKind.IDLE
    return msgspec.structs.replace(operation, logs_in=is_old, view_ms=operation.view_ms if sleeps else view_ms)


def _varied_user(random: Random, user: UserPlan, everywhere: bool) -> UserPlan:
    """(Who waits for nobody may be shown the value before by another member, where all read in place.)"""
    waits_not = random.random() < 0.15
    return msgspec.structs.replace(
        user,
        tabs=tuple(tuple(_varied_operation(random, operation) for operation in tab) for tab in user.tabs),
        absolute_timeout_ms=random.choice((0, 0, ABSOLUTE_MS)),
        acknowledges=everywhere or not waits_not,
        refuses=random.random() < 0.3,
    )


def _settings(random: Random, kind: Profile) -> dict[str, int | str]:
    return {
        "copies": kind.copies,
        "dead_ms": random.choice((1_200, 2_500)),
        "sweep_delay_ms": random.choice((300, 1_000, 2_000)),
        "cold_start_ms": random.choice((800, 2_000)),
        "grace_ms": random.choice((1_500, 10_000)),
        "forget_ms": random.choice((20_000, 86_400_000)),
        "patrol_ms": 3_000,
        **dict(kind.settings),
    }


def _network(random: Random, kind: Profile, resumed_ms: int) -> NetworkPlan:
    return NetworkPlan(
        loss=random.choice((0.0, 0.0, 0.01, 0.03)),
        repeat=random.choice((0.0, 0.02, 0.1)),
        reorder=random.choice((0.0, 0.05, 0.2)),
        delay_ms=random.choice(((1, 2), (1, 5), (1, 10))),
        detect_ms=kind.detect_ms or random.choice((10, 30, 100)),
        resumed_ms=resumed_ms,
    )


def _faults(random: Random, kind: Profile, members: tuple[str, ...]) -> list[Fault]:
    faults: list[Fault] = []
    joined = len(members)
    for number in range(random.randint(*kind.how_many)):
        what = random.choice(kind.faults)
        together = kind.pairs and bool(number % 2)
        whom = tuple(random.sample(members, 2))
        if together and what not in _LINKS and whom[0] in faults[-1].members[:1]:
            whom = whom[::-1]
        if what is F.JOIN:
            if joined >= min(len(members) + 1, len(NAMES)):
                what = F.CRASH
            else:
                whom, joined = (NAMES[joined],), joined + 1
        elif what is F.PARTITION:
            whom = tuple(random.sample(members, random.randint(1, len(members) // 2)))
        elif what not in (*_LINKS,):
            whom = whom[:1]
        faults.append(
            Fault(
                what,
                whom,
                after_ms=random.randint(0, 400) if together else random.choice((20, 200, 900)),
                lasts_ms=random.choice(kind.lasts_ms or _LASTS_MS.get(what, (0,))),
                together=together,
                at_copies=kind.quick and random.random() < 0.5,
                in_storm=kind.quick and what is not F.POWER and random.random() < 0.5,
            )
        )
    return faults


def _user(random: Random) -> UserPlan:
    sleep_ms = random.choice(SLEEPS_MS) if random.random() < 0.2 else 0
    tabs = [_tab(random, tab, sleep_ms) for tab in range(random.choice((1, 2, 2, 3)))]
    return UserPlan(tabs=tuple(map(tuple, tabs)), idle_timeout_ms=SHORT_IDLE_MS if sleep_ms else LONG_IDLE_MS)


_KINDS = (
    [OperationKind.READ] * 30
    + [OperationKind.WRITE] * 42
    + [OperationKind.COUNT] * 20
    + [OperationKind.DELETE] * 6
    + [OperationKind.OLD] * 2
)
_RARE = (OperationKind.RENEW, OperationKind.RENEW, OperationKind.LOGIN, OperationKind.LOGOUT)


def _tab(random: Random, number: int, sleep_ms: int) -> list[Operation]:
    sticky = random.choice((0.0, 0.5, 0.95))
    pace_ms = random.choice(PACES_MS)
    operations: list[Operation] = []
    until_ms = max(LASTS_MS - sleep_ms, AWAKE_MS) if number else LASTS_MS
    lasts_ms, sleeps = 0, number == 0 and sleep_ms > 0
    while lasts_ms < until_ms:
        draw_ = random.random()
        kind = random.choice(_KINDS)
        if draw_ < 0.02:
            kind = random.choice(_RARE)
        elif sleeps and draw_ < 0.05:
            kind, sleeps = OperationKind.IDLE, False
        attribute = random.choice((f"t{number}", f"t{number}", f"u{number}", "shared"))
        operations.append(
            Operation(
                kind,
                think_ms=random.randint(1, pace_ms),
                at=-1 if random.random() < sticky else random.randrange(60),
                attribute=attribute if kind in (OperationKind.WRITE, OperationKind.DELETE) else "",
                view_ms=sleep_ms if kind is OperationKind.IDLE else _view_ms(random),
                stall_ms=random.choice((0,) * 24 + (5, 300)),
                stalls_after=random.randint(1, 3),
                dies_ms=random.choice((0,) * 199 + (random.randint(1, 30),)),
            )
        )
        lasts_ms += operations[-1].think_ms + operations[-1].view_ms + ANSWER_MS
    return operations


def _view_ms(random: Random) -> int:
    draw_ = random.random()
    if draw_ < 0.6:
        return 0
    if draw_ < 0.97:
        return random.randint(1, 20)
    return random.choice((100, 700, 3_000))
