"""Gives the page's section on growth: tables, plots, and beside them the models, formulas in the number of members."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from section import Claim, Plot, Section, Table, series, shown, table
from simulated import DELTA_NAME, MANAGERS, RENDEZVOUS_NAME, ROUND_ROBIN_NAME, Cost

SESSION_BYTES = 1_000
HELD = 60
"""Sessions that are there when a member joins, leaves or dies."""
HELD_LARGE = 12
"""The same from so many members on: under DeltaManager every one of them is a change at each member, whose cost grows
with the number of members that it names."""
HELD_LARGE_FROM = 200
PULSE_MEMBERS_MAX = DEATHS_MEMBERS_MAX = 65
"""Beyond, a second of the cluster, and the seconds after a death, take minutes of ours."""
PULSE_MS = 1_000
EVENTS = ("joins", "leaves", "dies")
"""What a member does."""


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
EVENT_MODELS: dict[tuple[str, str], tuple[str, Model | None]] = {
    (ROUND_ROBIN_NAME, "joins"): ("0: places come in batches", None),
    (RENDEZVOUS_NAME, "joins"): ("0", None),
    (DELTA_NAME, "joins"): ("2N to 3N", lambda n: 2 * n),
    (ROUND_ROBIN_NAME, "leaves"): ("9 to 9 + (N-2)", lambda n: 9),
    (RENDEZVOUS_NAME, "leaves"): ("9", lambda n: 9),
    (DELTA_NAME, "leaves"): ("2N-1 to 3N-1", lambda n: 2 * n - 1),
}
"""Messages for each session, beside those that come whatever sessions there are; where there are two, the second is
without batches. Joining, under DeltaManager: a change and its acknowledgement for the newcomer and each other member,
and the word that all have it. Leaving: four changes with their acknowledgements, and a release of who goes (under
round-robin the new place for each other member, too); under DeltaManager the changed list for each other member, and
for half of the sessions another primary."""


def growth_section(run: tuple[str, ...], sizes: list[int], found: Found, mesh: int) -> Section:
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

    def model(manager: str, event: str) -> str:
        return EVENT_MODELS[manager, event][0] if (manager, event) in EVENT_MODELS else ""

    head = ("", *(f"{what}, N={n}" for n in columns for what in ("messages", "bytes")))
    yield table(
        "What a member's coming and going costs, until every session has its copies, for each session that it held",
        (*head, "model of messages"),
        [
            (f"{manager}: a member {event}", *cells(manager, event, 1), model(manager, event))
            for manager in MANAGERS
            for event in EVENTS
        ],
        f"Measured with {HELD} sessions ({HELD_LARGE} from {HELD_LARGE_FROM} members on) and with none; this is the"
        " difference, divided among the sessions whose data"
        " the member held (primaries and backups; for one that joins, all). The share of backups that moves to a"
        " newcomer afterwards, slowly, is left out. After a death whoever takes a session over asks all living members"
        " about it first; of many sessions up to 64 share a question, of these few, scattered over many members, hardly"
        " any do.",
    )
    yield table(
        "The same: what is sent whatever sessions there are, under each of the three",
        head,
        [(f"a member {event}", *cells(ROUND_ROBIN_NAME, event, 0)) for event in EVENTS],
    )


def _model_error(manager: str, operation: str, sizes: list[int], found: Found) -> tuple[str, str]:
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
    for event in EVENTS:
        yield _event_plot(event, sizes, found)


def _event_plot(event: str, sizes: list[int], found: Found) -> Plot:
    counted = [(m, n, found[m, n].events[event][1]) for m in MANAGERS for n in sizes if event in found[m, n].events]
    measured = [series(m, [(n, cost.messages) for of, n, cost in counted if of == m]) for m in MANAGERS]
    models = [
        series(m, [(n, model(n)) for n in sizes], model=True)
        for m in MANAGERS
        if (model := EVENT_MODELS.get((m, event), ("", None))[1]) is not None
    ]
    title = f"Messages until all is well after a member {event}"
    return Plot(f"growth-{event}", title, "members", "for each session", (*measured, *models), log_x=True, log_y=True)


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
