"""Measures the same operations on three members of Tomcat 10 and on three of ours: time, packets, bytes and memory.

    python bench/beside_tomcat.py [--rounds N] [--seconds S] [--sessions N] [--json FILE]

Needs root (for network namespaces) and Debian's package tomcat10. All clusters run at once; one at a time is asked, by
one client, one request after another. Every round measures each operation of each cluster in a new order.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.system import network
from tests.system.network import Network

import tomcat
from filling import proxy_bytes
from load_client import Order
from report import Meter, load, machine, quietness
from section import Cell, Claim, Section, Table, add_option, hand_over, shown, table
from sides import NAMES, Cpu, Ours, Side, Tomcat, Traffic
from started import StartError
from web import LoadClient, load_client

PLAIN, READ, WRITE, CREATE = "page without session", "read", "write", "create"
READ_HOP, WRITE_HOP = "read, another member each time", "write, another member each time"
OPERATIONS = (READ, WRITE, CREATE, READ_HOP, WRITE_HOP)
PLAIN_SHARE = 0.5
"""Of an operation's time: just before it and just after it the page without a session is measured for so long. Before
it alone, it would pay for what another cluster has left in the machine's caches."""
MAKERS = 8
"""Clients at once, where sessions are made to be weighed."""
WARM_S = {Tomcat: 1.5, Ours: 0.3}
"""Of each operation, before anything is counted: a Java machine compiles what it has seen often."""
SETTLED_S = 0.3
"""What an operation leaves to be sent later, news and acknowledgements, has been sent by then."""
IDLE_S = 2.0
PROXIES = 25_000
WARM_SESSIONS = 4_000
"""An agent and a Java machine grow with the first requests, whatever these bring; that is no session's. (An agent by
half a megabyte, and by hardly a byte a session after that.)"""
TOMCATS = (tomcat.BACKUP, tomcat.DELTA)
SIDES = {
    "Understudy, BackupManager": (Ours, "BackupManager"),
    "Tomcat, BackupManager": (Tomcat, tomcat.BACKUP),
    "Understudy, DeltaManager": (Ours, "DeltaManager"),
    "Tomcat, DeltaManager": (Tomcat, tomcat.DELTA),
}
OURS, THEIRS = (
    ("Understudy, BackupManager", "Understudy, DeltaManager"),
    ("Tomcat, BackupManager", "Tomcat, DeltaManager"),
)


class Once(NamedTuple):
    """One operation in one round."""

    plain_us: float
    """The page without a session: of its medians just before and just after, the mean."""
    median_us: float
    p99_us: float
    packets: float
    sent_bytes: float
    cpu_us: tuple[float, ...]
    """CPU time beyond the page without a session, see ``Cpu``."""


class Idle(NamedTuple):
    """What a cluster that is asked nothing does in a second."""

    packets: float
    sent_bytes: float
    cpu_us: tuple[float, ...]


class Held(NamedTuple):
    """Bytes for each session."""

    primary: float
    copy: float
    proxy: float | None


Measured = dict[tuple[str, str], list[Once]]
"""(side, operation) -> rounds."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Three members of Tomcat and three of ours, the same operations.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each operation in each round (0.4)")
    parser.add_argument("--sessions", type=int, default=2_500, help="for the memory of one (2500)")
    add_option(parser)
    options = parser.parse_args()
    if (missing := tomcat.why_not() or network.why_not()) is not None:
        print(f"bench: {missing}; nothing was measured", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load_before = load()
    base = Path(tempfile.mkdtemp(prefix="us-bench-", dir="/tmp"))
    try:
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(load_client())
            sides, held = _started(stack, base, client, options.sessions)
            meter = Meter()
            measured = _measure(client, sides, options)
            others = meter.others()
    except (StartError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(base, ignore_errors=True)
    run = (*machine(), f"Tomcat {tomcat.version()}", f"load average: {load_before} before, {load()} after",
           quietness(others),
           f"run: {options.rounds} rounds, {options.seconds} s of each operation; memory: {options.sessions} sessions",
           )  # fmt: skip
    hand_over(_section(run, measured, held, others), options.json)
    return 0


# --- measuring -------------------------------------------------------------------------------------------------------


def _started(
    stack: contextlib.ExitStack, base: Path, client: LoadClient, sessions: int
) -> tuple[list[Side], dict[str, Held]]:
    """All clusters, with three members each. What a session takes is found while they grow: with two members every
    copy is at the second one; when the third is there, it and the second share copies and proxies.
    """
    sides: list[Side] = []
    held: dict[str, Held] = {}
    for number, (name, (kind, manager)) in enumerate(SIDES.items()):
        place = base / str(number)
        place.mkdir()
        side = kind(place, stack.enter_context(Network(NAMES)).places(), manager)
        assert side.name == name
        stack.callback(side.stop)
        sides.append(side)
        first, second, third = NAMES
        side.start(first)
        side.start(second)
        _create(client, side, WARM_SESSIONS)
        primary, copy = _growth(client, side, sessions, (first, second))
        side.start(third)
        client.run(_order(side, READ_HOP, 0.5))
        _, second_grown, third_grown = _growth(client, side, sessions, NAMES)
        proxy = second_grown + third_grown - copy if kind is Tomcat else proxy_bytes(PROXIES)
        held[name] = Held(primary, copy, proxy if manager == tomcat.BACKUP else None)
        print(f"beside_tomcat: {name} runs", file=sys.stderr)
    return sides, held


def _growth(client: LoadClient, side: Side, sessions: int, members: Iterable[str]) -> list[float]:
    """What each member's memory grows by for each of so many new sessions at the first one."""
    before = {member: side.used_bytes(member) for member in members}
    made = _create(client, side, sessions)
    time.sleep(SETTLED_S)
    return [(side.used_bytes(member) - before[member]) / made for member in members]


def _create(client: LoadClient, side: Side, count: int) -> int:
    made = 0
    while made < count:
        found = client.run(_order(side, CREATE, 0.5, MAKERS))
        made += found.answered - found.failures
    return made


def _order(side: Side, operation: str, seconds: float, clients: int = 1) -> Order:
    pages = side.pages
    reads = {PLAIN: pages.plain, CREATE: pages.begin}
    hops = operation in (READ_HOP, WRITE_HOP)
    return Order(
        tuple(side.door(name) for name in (NAMES if hops else NAMES[:1])),
        clients,
        seconds,
        1.0 if operation in (WRITE, WRITE_HOP) else 0.0,
        hops=hops,
        fresh=operation == CREATE,
        key=f"{side.name}, {operation}",
        read=reads.get(operation, pages.read),
        write=pages.write,
        begin=pages.begin,
    )


def _measure(client: LoadClient, sides: list[Side], options: argparse.Namespace) -> Measured:
    for side in sides:
        for operation in (PLAIN, *OPERATIONS):
            client.run(_order(side, operation, WARM_S[type(side)]))
    idle = {side.name: _idle(side) for side in sides}
    measured: Measured = {}
    order = random.Random(1)
    places = [(side, operation) for side in sides for operation in OPERATIONS]
    for number in range(options.rounds):
        for side, operation in order.sample(places, len(places)):
            once = _once(client, side, operation, options.seconds, idle[side.name])
            measured.setdefault((side.name, operation), []).append(once)
        print(f"beside_tomcat: round {number + 1} of {options.rounds}", file=sys.stderr)
    return measured


def _idle(side: Side) -> Idle:
    before, cpu, began_s = side.traffic(), side.cpu_us(), time.monotonic()
    time.sleep(IDLE_S)
    after, spent, took_s = side.traffic(), _since(cpu, side), time.monotonic() - began_s
    return Idle(
        (after.packets - before.packets) / took_s,
        (after.sent_bytes - before.sent_bytes) / took_s,
        tuple(us / took_s for us in spent),
    )


def _since(before: Cpu, side: Side) -> tuple[float, ...]:
    return tuple(now - then for now, then in zip(side.cpu_us(), before, strict=True))


def _once(client: LoadClient, side: Side, operation: str, seconds: float, idle: Idle) -> Once:
    plain_cpu, plain_s = side.cpu_us(), time.monotonic()
    plain = client.run(_order(side, PLAIN, seconds * PLAIN_SHARE))
    plain_spent, plain_s = _since(plain_cpu, side), time.monotonic() - plain_s
    before, cpu, began_s = side.traffic(), side.cpu_us(), time.monotonic()
    found = client.run(_order(side, operation, seconds))
    time.sleep(SETTLED_S)
    after, spent_us, took_s = side.traffic(), _since(cpu, side), time.monotonic() - began_s
    plain_after = client.run(_order(side, PLAIN, seconds * PLAIN_SHARE))
    if found.failures or not found.answered:
        raise RuntimeError(f"{side.name}, {operation}: {found.failures} of {found.answered} answers were not right")
    times = sorted((*found.reads_us, *found.writes_us))
    spent = Traffic(after.packets - before.packets, after.sent_bytes - before.sent_bytes)
    return Once(
        statistics.mean(statistics.median(page.reads_us) for page in (plain, plain_after)),
        statistics.median(times),
        times[min(len(times) - 1, len(times) * 99 // 100)],
        max(0.0, spent.packets - idle.packets * took_s) / found.answered,
        max(0.0, spent.sent_bytes - idle.sent_bytes * took_s) / found.answered,
        tuple(
            (of_it - rest * took_s) / found.answered - (of_plain - rest * plain_s) / plain.answered
            for of_it, of_plain, rest in zip(spent_us, plain_spent, idle.cpu_us, strict=True)
        ),
    )


# --- what it says ----------------------------------------------------------------------------------------------------


def _added_us(measured: Measured, side: str, operation: str) -> float:
    """What the operation takes beyond the same member's page without a session; the median of the rounds."""
    return statistics.median(once.median_us - once.plain_us for once in measured[side, operation])


def _cpu_columns(side: str) -> tuple[str, ...]:
    return ("server", "others") if side in THEIRS else ("server", "agent", "others")


def _added_cpu_us(measured: Measured, side: str, operation: str) -> tuple[float, ...]:
    rounds = (once.cpu_us for once in measured[side, operation])
    asked, agent, others = (statistics.median(part) for part in zip(*rounds, strict=True))
    return (asked, others) if side in THEIRS else (asked, agent, others)


def _plain_us(measured: Measured, side: str) -> float:
    return statistics.median(once.plain_us for operation in OPERATIONS for once in measured[side, operation])


def _median(measured: Measured, side: str, operation: str, field: str) -> float:
    return statistics.median(getattr(once, field) for once in measured[side, operation])


def _section(run: tuple[str, ...], measured: Measured, held: dict[str, Held], others: float) -> Section:
    return Section(
        "beside_tomcat",
        "Beside Tomcat",
        run,
        (
            "Three real members of Tomcat 10 under its BackupManager and its DeltaManager, and three of ours, each in a"
            " network namespace of its own; the same pages (JSP there, Flask under gunicorn here) asked by the same"
            " client through Unix sockets, one request at a time. A session holds 1 kB, and a write sets one number of"
            " it. *Added* is what an operation takes beyond the same server's page without a session, measured just"
            " before it and just after it, so that what the two languages and servers take is left out.",
            "Both of Tomcat's managers send with `channelSendOptions` 6, acknowledged when applied: BackupManager's own"
            " default, and what makes DeltaManager wait as ours does (its default, 8, waits for nobody).",
            "Packets and bytes are what the kernel counted on all members' cables, headers and TCP's acknowledgements"
            " included, less what an idle cluster sends in the same time.",
            "Memory: of Tomcat what the Java heap grows by, after collection; of ours what the store's file and the"
            " agent's own memory grow by. Both for sessions that were made over HTTP; but a proxy entry of ours, which"
            f" is less than a page of the file, is what a file grows by for {PROXIES:,} of them.",
        ),
        tuple(_tables(measured, held)),
        (),
        tuple(_claims(measured, held)),
        tuple(_worse(measured, held)),
        others,
    )


def _tables(measured: Measured, held: dict[str, Held]) -> Iterable[Table]:
    yield table(
        "Time added by the session, in µs",
        ("", *(column for name in SIDES for column in (name, "p99, whole"))),
        [
            (operation, *(v for side in SIDES for v in (_added_us(measured, side, operation),
                                                        _median(measured, side, operation, "p99_us"))))
            for operation in OPERATIONS
        ],
        "The page without a session takes "
        + ", ".join(f"{shown(_plain_us(measured, side))} µs ({side})" for side in SIDES) + ".",
    )  # fmt: skip
    yield table(
        "CPU time added, in µs: of the web server that is asked, of its agent, of the other members",
        ("", *(f"{side}: {what}" for side in SIDES for what in _cpu_columns(side))),
        [
            (operation, *(cell for side in SIDES for cell in _added_cpu_us(measured, side, operation)))
            for operation in OPERATIONS
        ],
        "What an idle cluster takes is left out. Where requests go to another member each time, the web servers there"
        " are among the other members.",
    )
    yield table(
        "Between members, for each operation",
        ("", *(f"{side}: {what}" for side in SIDES for what in ("packets", "bytes"))),
        [
            (operation, *(_median(measured, side, operation, field) for side in SIDES for field in
                          ("packets", "sent_bytes")))
            for operation in OPERATIONS
        ],
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [(side, one.primary, one.copy, one.proxy) for side, one in held.items()]
    yield table("Bytes of memory for each session of 1 kB", ("", "primary", "a copy", "a proxy"), rows)


def _claims(measured: Measured, held: dict[str, Held]) -> Iterable[Claim]:
    (ours, ours_delta), (theirs, theirs_delta) = OURS, THEIRS
    for mine, other in ((ours, theirs), (ours_delta, theirs_delta)):
        for operation in (READ, WRITE, CREATE):
            yield Claim(f"{mine}: time added by a {operation}, beside {other}'s", _added_us(measured, mine, operation),
                        _added_us(measured, other, operation), "µs",
                        target="protected-tomcat" if operation == WRITE else "")  # fmt: skip
        yield Claim(f"{mine}: bytes on the wire for a write, beside {other}'s",
                    _median(measured, mine, WRITE, "sent_bytes"), _median(measured, other, WRITE, "sent_bytes"),
                    "bytes")  # fmt: skip
    yield Claim("a read-only request sends", _median(measured, ours, READ, "packets"), 0.05, "packets",
                target="read-only")  # fmt: skip
    hop_us = _added_us(measured, ours, READ_HOP) - _added_us(measured, ours, READ)
    yield Claim("time added when a read is served by another member", hop_us, 1_000, "µs", target="hop")
    for role in ("primary", "copy", "proxy"):
        yield Claim(f"memory of a session, {role}, beside Tomcat's BackupManager", getattr(held[ours], role),
                    getattr(held[theirs], role), "bytes", target="memory-tomcat")  # fmt: skip


def _worse(measured: Measured, held: dict[str, Held]) -> Iterable[str]:
    for mine, other in zip(OURS, THEIRS, strict=True):
        for operation in OPERATIONS:
            for what, value, beside, unit in (
                ("adds more time", _added_us(measured, mine, operation), _added_us(measured, other, operation), "µs"),
                ("sends more packets", *(_median(measured, s, operation, "packets") for s in (mine, other)), "packets"),
                ("sends more", *(_median(measured, s, operation, "sent_bytes") for s in (mine, other)), "bytes"),
            ):
                if value > beside * 1.05 and value - beside > 0.1:
                    yield f"{mine}, {operation}: {what} than {other} ({shown(value)} and {shown(beside)} {unit})"
        for role in ("primary", "copy", "proxy"):
            value, beside = getattr(held[mine], role), getattr(held[other], role)
            if value is not None and beside is not None and value > beside:
                yield (
                    f"{mine}: a session takes more memory as {role} than {other}'s"
                    f" ({shown(value)} and {shown(beside)} bytes)"
                )


if __name__ == "__main__":
    sys.exit(main())
