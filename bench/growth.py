"""Measures how cost grows with the number of members: messages, bytes and memory, for three ways to place copies.

    python bench/growth.py [--members 3 5 9 ...] [--large] [--json FILE]

The members are simulated (bench/simulated.py), so every figure is a count and none a time: another run gives the same.
Beside each figure stands a model, a formula in the number of members, and how far the two are apart.

The largest clusters take minutes, so they are counted on demand (``--large``, `make bench-growth`) and kept in
bench/results/growth_large.json; a run without them shows what is there, and says from which commit that is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable

import msgspec

from report import ROOT, commit, machine
from section import Claim, Plot, Section, Table, add_option, hand_over, series, shown, table
from simulated import DELTA_NAME, MANAGERS, RENDEZVOUS_NAME, ROUND_ROBIN_NAME, Cost, Simulated
from understudy import limits
from understudy.client.runtime import Client
from understudy.model.entry import Role

MEMBERS = (3, 5, 9, 17, 33, 65)
LARGE = (128, 300)
KEPT = ROOT / "bench" / "results" / "growth_large.json"
TIMES = 8
"""Of each operation; the figures are means."""
HELD = 60
"""Sessions that are there when a member joins, leaves or dies."""
HELD_LARGE = 12
"""The same from so many members on: under DeltaManager every one of them is a change at each member, whose cost grows
with the number of members that it names."""
HELD_LARGE_FROM = 200
SESSION_BYTES, LARGE_BYTES = 1_000, 10_000
USER = "anna@example.org"
FLUSHED_MS = 100
"""News of places is gathered for 20 ms."""
NOTICED_MS = 500
"""By then everybody knows that a member has come or gone."""
SWEPT_MS = 12_000
"""By then sessions without a request have been given new copies after a death: three seconds after it, and a lease."""
PULSE_MEMBERS_MAX = DEATHS_MEMBERS_MAX = 65
"""Beyond, a second of the cluster, and the seconds after a death, take minutes of ours."""
PULSE_MS = 1_000
SLOW, SLOWEST = 20, 100
"""How many times as slow heartbeats are while other things are counted; the second with more members than
``DEATHS_MEMBERS_MAX``, where nobody waits for a lease to run out."""


class Counted(msgspec.Struct, frozen=True):
    """One cluster's figures: operation -> what it cost, and the rest."""

    operations: dict[str, Cost]
    copy_bytes: float
    proxy_bytes: float
    held_bytes: float
    """Of all members together, for each session."""
    pulse: Cost | None
    """A second's heartbeats of the whole cluster, which no manager changes."""
    events: dict[str, tuple[Cost, Cost]]
    """A member's joining, leaving or dying: with no session there, and what each session that it held adds."""
    took_s: float


Found = dict[tuple[str, int], Counted]
"""(manager, number of members) -> what was counted."""


class Kept(msgspec.Struct):
    """Figures of the largest clusters, from a run of their own."""

    commit: str
    clusters: list[tuple[str, int, Counted]]


Model = Callable[[int], float]
MODELS: dict[str, dict[str, tuple[str, Model]]] = {
    ROUND_ROBIN_NAME: {
        "create": ("2 + (N-2)", lambda n: 2 + (n - 2)),
        "write": ("2", lambda n: 2),
        "write elsewhere": ("6", lambda n: 6),
        "delete": ("2 + (N-1)", lambda n: 2 + (n - 1)),
    },
    RENDEZVOUS_NAME: {
        "create": ("2", lambda n: 2),
        "write": ("2", lambda n: 2),
        "write elsewhere": ("6", lambda n: 6),
        "delete": ("2 + (N-1)", lambda n: 2 + (n - 1)),
    },
    DELTA_NAME: {
        "create": ("3(N-1)", lambda n: 3 * (n - 1)),
        "write": ("3(N-1)", lambda n: 3 * (n - 1)),
        "write elsewhere": ("2 + 3(N-1)", lambda n: 2 + 3 * (n - 1)),
        "delete": ("4(N-1)", lambda n: 4 * (n - 1)),
    },
}
"""Messages of one operation: a change and its acknowledgement for each backup; news of a place for each member that
is neither; DeltaManager confirms to every member that all have it, so that they show it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="How cost grows with the number of members (simulated).")
    parser.add_argument("--members", type=int, nargs="+", help="numbers of members, and no kept figures beside them")
    parser.add_argument("--large", action="store_true", help=f"count {LARGE} members and keep that: some minutes")
    add_option(parser)
    options = parser.parse_args()
    counted = sorted(set(options.members or MEMBERS) | (set(LARGE) if options.large else set()))
    if len(counted) < 2 or counted[0] < 3:
        parser.error("two sizes or more, from 3 members on: a model needs them")
    mesh = limits.MEMBERS_MAX
    found = _measure_all(counted)
    run = (*machine(), f"run: {len(found)} clusters, of {counted[0]} to {counted[-1]} members, in "
           f"{sum(one.took_s for one in found.values()):.0f} s")  # fmt: skip
    if options.large:
        large = [(*place, one) for place, one in found.items() if place[1] in LARGE]
        KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(Kept(commit(), large)), indent=1) + b"\n")
    elif not options.members and KEPT.exists():
        kept = msgspec.json.decode(KEPT.read_bytes(), type=Kept)
        found |= {(manager, n): one for manager, n, one in kept.clusters}
        took_s = sum(one.took_s for _, _, one in kept.clusters)
        run += (f"{' and '.join(map(str, LARGE))} members: by `make bench-growth`, an earlier run of {took_s:.0f} s at"
                f" commit {kept.commit}",)  # fmt: skip
    hand_over(_section(run, sorted({n for _, n in found}), found, mesh), options.json)
    return 0


# --- measuring -------------------------------------------------------------------------------------------------------


def _measure_all(sizes: list[int]) -> Found:
    """What comes and goes in a cluster without sessions costs the same under each manager, and is counted once."""
    found: Found = {}
    for n in sizes:
        empty = _events(ROUND_ROBIN_NAME, n, 0)
        for manager in MANAGERS:
            found[manager, n] = _measure(manager, n, empty)
    return found


def _measure(manager: str, count: int, empty: dict[str, tuple[Cost, int]]) -> Counted:
    began_s = time.monotonic()
    cluster = Simulated(count, manager, pulse=_pulse_of(count))
    cluster.exchange_leases()
    operations = _operations(cluster, count)
    for number in range(HELD):
        _create(cluster.client(cluster.names[number % count]), SESSION_BYTES)
    cluster.run_for(FLUSHED_MS)
    held = cluster.held_bytes()
    copies = held[Role.PRIMARY] + held[Role.BACKUP]
    proxies = held[Role.PROXY]
    everything = copies["bytes"] + proxies["bytes"]
    pulse = _pulse(count) if manager == ROUND_ROBIN_NAME and count <= PULSE_MEMBERS_MAX else None
    full = _events(manager, count, HELD if count < HELD_LARGE_FROM else HELD_LARGE)
    events = {
        name: (cost, Cost(*(max(0.0, f - e) / full[name][1] for f, e in zip(full[name][0], cost, strict=True))))
        for name, (cost, _) in empty.items()
    }
    print(f"growth: {manager}, {count} members: {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    return Counted(
        operations,
        copies["bytes"] / copies["entries"],
        proxies["bytes"] / proxies["entries"] if proxies["entries"] else 0.0,
        everything / held[Role.PRIMARY]["entries"],
        pulse,
        events,
        time.monotonic() - began_s,
    )


def _operations(cluster: Simulated, count: int) -> dict[str, Cost]:
    """One at a time, so that nothing shares a message: what a busy cluster saves by batches is not in these figures."""
    here = cluster.client(cluster.names[0])
    cookies = [_create(here, SESSION_BYTES) for _ in range(2)]
    cluster.exchange_leases()  # every reader has a lease on what is there
    bystander = cluster.client(_bystander(cluster, here, cookies[0]))
    large = _create(here, LARGE_BYTES)
    cluster.run_for(FLUSHED_MS)
    made: list[str] = []

    def create() -> None:
        made.append(_create(here, SESSION_BYTES))

    found = {
        "create": _mean(cluster, create),
        "read": _mean(cluster, lambda: _read(here, cookies[0])),
        "write": _mean(cluster, lambda: _write(here, cookies[0])),
        "write in 10 kB": _mean(cluster, lambda: _write(here, large)),
        "read elsewhere": _mean(cluster, lambda: _read(bystander, cookies[0]), times=1),
        "write elsewhere": _mean(cluster, lambda: _write(bystander, cookies[1]), times=1),
        "delete": _mean(cluster, lambda: _delete(here, made.pop())),
    }
    for cookie in (*cookies, large):
        _delete(here, cookie)
    return found


def _bystander(cluster: Simulated, here: Client, cookie: str) -> str:
    """A member that is not among the session's copies, or the last one where everybody is."""
    session = here.begin(cookie)
    assert session["user"] == USER and session.visit.opened is not None
    entry = here.member.store.read(session.visit.opened.key).entry
    assert entry is not None
    return next((name for name in cluster.names[1:] if name not in entry.backups), cluster.names[-1])


def _mean(cluster: Simulated, run: Callable[[], None], times: int = TIMES) -> Cost:
    before = cluster.cost
    for _ in range(times):
        run()
        cluster.run_for(FLUSHED_MS)
    spent = cluster.cost - before
    return Cost(spent.messages / times, spent.sent_bytes / times)


def _pulse_of(count: int) -> int:
    return SLOW if count <= DEATHS_MEMBERS_MAX else SLOWEST


def _events(manager: str, count: int, sessions: int) -> dict[str, tuple[Cost, int]]:
    """A member joins; another leaves in order; another one dies. Each until every session has its copies.

    Beside the cost: of how many sessions the member had the data before. For who joins, all.
    """
    cluster = Simulated(count, manager, pulse=_pulse_of(count))
    leaver, victim = cluster.names[-1], cluster.names[1]
    for number in range(sessions):
        _create(cluster.client((leaver, victim)[number % 2]), SESSION_BYTES)
    cluster.run_for(FLUSHED_MS)
    found: dict[str, tuple[Cost, int]] = {}

    def event(name: str, begin: Callable[[], None], lasts_ms: int, member: str = "") -> None:
        held = cluster.held_at(member) if member else sessions
        before = cluster.cost
        begin()
        cluster.run_for(lasts_ms)
        cluster.settle()
        assert cluster.primaries == sessions, f"{sessions} sessions, and afterwards {cluster.primaries} primaries"
        found[name] = cluster.cost - before, held

    event("joins", cluster.world.add("new").start, NOTICED_MS)
    event("leaves", lambda: _leave(cluster, leaver), NOTICED_MS, leaver)
    if count <= DEATHS_MEMBERS_MAX:
        event("dies", lambda: cluster.world.machines[victim].crash(with_store=False), SWEPT_MS, victim)
    return found


def _leave(cluster: Simulated, name: str) -> None:
    machine = cluster.world.machines[name]
    machine.drain()
    for _ in range(200):
        cluster.run_for(FLUSHED_MS)
        with machine.store.view() as view:
            if not view.counts().primary:
                break
    cluster.run_for(FLUSHED_MS)
    machine.stop()


def _pulse(count: int) -> Cost:
    """A second of a cluster that does nothing, at the pace of the default configuration."""
    cluster = Simulated(count, ROUND_ROBIN_NAME)
    cluster.run_for(PULSE_MS)
    before = cluster.pulse
    cluster.run_for(PULSE_MS)
    return cluster.pulse - before


# --- requests --------------------------------------------------------------------------------------------------------


def _create(client: Client, size_bytes: int) -> str:
    session = client.begin("")
    session.update(user=USER, cart="x" * (size_bytes - len(USER)), number=0)
    client.finish(session)
    assert session.protected, "a new session has no copy"
    return session.visit.cookie_now or ""


def _read(client: Client, cookie: str) -> None:
    session = client.begin(cookie)
    assert session["user"] == USER, "a read gave another user"
    client.finish(session)


def _write(client: Client, cookie: str) -> None:
    session = client.begin(cookie)
    session["number"] += 1
    client.finish(session)
    assert session.protected, "a write has no copy"


def _delete(client: Client, cookie: str) -> None:
    session = client.begin(cookie)
    session.invalidate()
    client.finish(session)


# --- what it says ----------------------------------------------------------------------------------------------------


def _section(run: tuple[str, ...], sizes: list[int], found: Found, mesh: int) -> Section:
    largest = sizes[-1]
    prose = (
        "Simulated clusters: the true engine, executor and client over stores and a network in memory, in one process"
        " and on a virtual clock. So these are counts, not times, and the same in every run. Bytes are the messages"
        " themselves, without what TCP, the secret's seal and the network below add (section “Beside Tomcat” has bytes"
        " as a kernel counts them). Sessions hold 1 kB; operations come one at a time, so that none shares a message"
        " with another: under load acknowledgements and news of places travel in batches, and cost less.",
        "A *read* and a *write* are served by the session's primary; *elsewhere* means at a member that holds no copy"
        " (under DeltaManager, another one than the primary). N is the number of members.",
        f"Here it ended at {largest} members. A mesh is meant for at most {mesh}: beyond, that limit is lifted for this"
        f" benchmark only, to see where it leads. Heartbeats grow with N², and are counted up to {PULSE_MEMBERS_MAX}"
        " members, as is a member's death, after which somebody waits for leases; the other figures were counted with a"
        " slower pulse, which changes none of them.",
    )
    return Section(
        "growth",
        "Growth",
        run,
        prose,
        tuple(_tables(sizes, found)),
        tuple(_plots(sizes, found)),
        _claims(sizes, found),
        tuple(_worse(sizes, found)),
    )  # fmt: skip


def _tables(sizes: list[int], found: Found) -> Iterable[Table]:
    small, large = sizes[0], sizes[-1]
    head = ("operation", f"messages, N={small}", f"bytes, N={small}", f"messages, N={large}", f"bytes, N={large}",
            "model of messages", "largest error of the model")  # fmt: skip
    for manager in MANAGERS:
        lines = []
        for operation, few in found[manager, small].operations.items():
            many = found[manager, large].operations[operation]
            formula, error = _model_error(manager, operation, sizes, found)
            lines.append((operation, *few, *many, formula, error))
        yield table(manager, head, lines)
    yield table(
        "Memory: rows of the stores for one 1 kB session, in bytes",
        ("", "a copy", "a proxy entry", *(f"all {n} members" for n in sizes), "model"),
        [
            (
                manager,
                found[manager, large].copy_bytes,
                found[manager, large].proxy_bytes,
                *(found[manager, n].held_bytes for n in sizes),
                MEMORY_MODELS[manager],
            )
            for manager in MANAGERS
        ],
        f"The first two columns are of {large} members. LMDB's pages add to these; see “Store”.",
    )
    yield from _event_tables(sizes, found)


def _event_tables(sizes: list[int], found: Found) -> Iterable[Table]:
    """The smallest cluster, the largest in which a member dies, and the largest."""
    mortal = [n for n in sizes if n <= DEATHS_MEMBERS_MAX]
    columns = list(dict.fromkeys((sizes[0], mortal[-1], sizes[-1])))
    nothing = (None, None)

    def cells(manager: str, event: str, part: int) -> Iterable[float | None]:
        return (v for n in columns for v in found[manager, n].events.get(event, (nothing, nothing))[part])

    head = ("", *(f"{what}, N={n}" for n in columns for what in ("messages", "bytes")))
    yield table(
        "What a member's coming and going costs, until every session has its copies, for each session that it held",
        head,
        [
            (f"{manager}: a member {event}", *cells(manager, event, 1))
            for manager in MANAGERS
            for event in ("joins", "leaves", "dies")
        ],
        f"Measured with {HELD} sessions ({HELD_LARGE} from {HELD_LARGE_FROM} members on) and with none; this is the difference, divided among the sessions whose data"
        " the member held (primaries and backups; for one that joins, all). The share of backups that moves to a"
        " newcomer afterwards, slowly, is left out.",
    )
    yield table(
        "The same: what is sent whatever sessions there are, under each of the three",
        head,
        [(f"a member {event}", *cells(ROUND_ROBIN_NAME, event, 0)) for event in ("joins", "leaves", "dies")],
    )


def _model_error(
    manager: str, operation: str, sizes: list[int], found: Found
) -> tuple[str, str]:
    if operation not in MODELS[manager]:
        return "", ""
    formula, model = MODELS[manager][operation]
    errors = (abs(found[manager, n].operations[operation].messages / model(n) - 1) for n in sizes)
    return formula, f"{max(errors):.0%}"


MEMORY_MODELS = {
    ROUND_ROBIN_NAME: "2 copies + (N-2) proxy entries",
    RENDEZVOUS_NAME: "2 copies",
    DELTA_NAME: "N copies, each with two rows that name every other member",
}


def _memory_model(manager: str, n: int, least: Counted, next_one: Counted, sizes: list[int]) -> float:
    """From the entries of the smallest cluster, and under DeltaManager what a copy grows by to the next size."""
    if manager != DELTA_NAME:
        return 2 * least.copy_bytes + (n - 2) * least.proxy_bytes
    by_name = (next_one.copy_bytes - least.copy_bytes) / (sizes[1] - sizes[0])
    return n * (least.copy_bytes + (n - sizes[0]) * by_name)


def _plots(sizes: list[int], found: Found) -> Iterable[Plot]:
    for operation in ("create", "write"):
        measured = [
            series(manager, [(n, found[manager, n].operations[operation].messages) for n in sizes])
            for manager in MANAGERS
        ]
        models = [
            series(manager, [(n, MODELS[manager][operation][1](n)) for n in sizes], model=True) for manager in MANAGERS
        ]
        title = {"create": "Messages to create a session", "write": "Messages to change a session"}[operation]
        yield Plot(f"growth-{operation}", title, "members", "messages", (*measured, *models), log_x=True, log_y=True)
    two = {manager: (found[manager, sizes[0]], found[manager, sizes[1]]) for manager in MANAGERS}
    yield Plot(
        "growth-memory", "Memory of all members for one 1 kB session", "members", "bytes",
        (*(series(m, [(n, found[m, n].held_bytes) for n in sizes]) for m in MANAGERS),
         *(series(m, [(n, _memory_model(m, n, *two[m], sizes)) for n in sizes], model=True) for m in MANAGERS)),
        log_x=True, log_y=True,
    )  # fmt: skip
    pulses = [(n, pulse) for n in sizes if (pulse := found[ROUND_ROBIN_NAME, n].pulse) is not None]
    per_pair = 2 * PULSE_MS / (250 // 3)
    yield Plot(
        "growth-heartbeats", "Heartbeats and answers of the whole cluster", "members", "messages per second",
        (series("all managers", [(n, pulse.messages) for n, pulse in pulses]),
         series("all managers", [(n, per_pair * n * (n - 1)) for n, _ in pulses], model=True)),
        log_x=True, log_y=True,
    )  # fmt: skip
    yield Plot(
        "growth-death", "Bytes until all is well after a member's death", "members", "bytes for each session",
        tuple(
            series(m, [(n, found[m, n].events["dies"][1].sent_bytes) for n in sizes if "dies" in found[m, n].events])
            for m in MANAGERS
        ),
        log_x=True, log_y=True,
    )  # fmt: skip


def _claims(sizes: list[int], found: Found) -> tuple[Claim, ...]:
    every = [found[manager, n] for manager in (ROUND_ROBIN_NAME, RENDEZVOUS_NAME) for n in sizes]
    small = max((one.operations["write in 10 kB"] for one in every), key=lambda cost: cost.sent_bytes)
    return (
        Claim("a read-only request sends", max(one.operations["read"].messages for one in found.values()), 0,
              "messages", target="read-only"),
        Claim("a clean read sends", max(one.operations["read"].messages for one in found.values()), 0, "messages",
              target="clean-read"),
        Claim("one small attribute changed in a 10 kB session", small.messages, 2, "messages", target="bytes"),
        Claim("one small attribute changed in a 10 kB session, with its acknowledgement", small.sent_bytes, 200,
              "bytes", target="bytes"),
        Claim("our own fields in a copy of a session of 1 kB, without LMDB's pages",
              max(one.copy_bytes for one in every) - SESSION_BYTES, 300, "bytes", target="memory"),
        Claim("a proxy entry, without LMDB's pages", max(one.proxy_bytes for one in every), 130, "bytes"),
        Claim("a proxy entry under rendezvous", max(found[RENDEZVOUS_NAME, n].proxy_bytes for n in sizes), 0, "bytes",
              target="memory"),
    )  # fmt: skip


def _worse(sizes: list[int], found: Found) -> Iterable[str]:
    n = sizes[-1]
    delta, robin = found[DELTA_NAME, n], found[ROUND_ROBIN_NAME, n]
    yield (
        f"DeltaManager sends {shown(delta.operations['write'].messages)} messages for one change among {n} members, and"
        f" keeps {delta.held_bytes / robin.held_bytes:.0f} times as many bytes as BackupManager under round-robin"
    )
    yield (
        f"under round-robin each session costs a message to every member when it begins, and {robin.proxy_bytes:.0f}"
        " bytes at each; under rendezvous neither"
    )
    yield "a deletion is told to every member under each of the three, since it must outlive old stores everywhere"
    pulses = [(m, pulse) for m in sizes if (pulse := found[ROUND_ROBIN_NAME, m].pulse) is not None]
    if pulses:
        m, pulse = pulses[-1]
        yield f"heartbeats of {m} members come to {shown(pulse.messages)} messages a second, whoever needs them or not"


if __name__ == "__main__":
    sys.exit(main())
