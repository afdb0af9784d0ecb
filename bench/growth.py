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
from collections.abc import Callable

import msgspec

from growth_section import (
    DEATHS_MEMBERS_MAX,
    HELD,
    HELD_LARGE,
    HELD_LARGE_FROM,
    PULSE_MEMBERS_MAX,
    PULSE_MS,
    SESSION_BYTES,
    Counted,
    Found,
    Kept,
    growth_section,
)
from report import ROOT, commit, machine
from section import add_option, hand_over
from simulated import MANAGERS, ROUND_ROBIN_NAME, Cost, Simulated
from understudy import limits
from understudy.client.runtime import Client
from understudy.model.entry import Role

MEMBERS = (3, 5, 9, 17, 33, 65)
LARGE = (128, 300)
KEPT = ROOT / "bench" / "results" / "growth_large.json"
TIMES = 8
"""Of each operation; the figures are means."""
LARGE_BYTES = 10_000
USER = "anna@example.org"
FLUSHED_MS = 100
"""News of places is gathered for 20 ms."""
NOTICED_MS = 500
"""By then everybody knows that a member has come or gone."""
SWEPT_MS = 12_000
"""By then sessions without a request have been given new copies after a death: three seconds after it, and a lease."""
SLOW, SLOWEST = 20, 100
"""How many times as slow heartbeats are while other things are counted; the second with more members than
``DEATHS_MEMBERS_MAX``, where nobody waits for a lease to run out."""


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
    hand_over(growth_section(run, sorted({n for _, n in found}), found, mesh), options.json)
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


if __name__ == "__main__":
    sys.exit(main())
