"""Measures operations in rounds, each in a new order, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import redis

from elsewhere import Elsewhere
from operations import CLEAN_READ, PIPELINE, PROTECTED, Failed, Notes, Operation, Ours, Theirs
from report import Meter, Row
from started import Started
from understudy.client.runtime import Client, Runtime
from understudy.config import Config, load

MEMBERS = ("a", "b", "c")
"""The measured worker is the first one's; a session on a proxy has its primary and its backup at the others."""
PAYLOADS_BYTES = (190, 1_000)
SWITCHES_OF = 2_000
MODES = ("none", "local", "backup")

Times = dict[tuple[int, str], list[list[int]]]
"""(a session's size, operation) -> times in ns, by round."""


class Run(NamedTuple):
    """What came of all rounds."""

    times: Times
    rounds: int
    count: int
    """Of each operation in a round."""
    seconds: float
    others: float
    """Share of all CPU time that other processes took meanwhile."""

    @property
    def told(self) -> str:
        return f"{self.rounds} rounds of {self.count} of each operation in {self.seconds:.1f} s"


def measured(
    operations: Mapping[int, list[Operation]], notes: Notes, *, rounds: int, count: int, seconds: float
) -> Run:
    """So many rounds, but no new one after so many seconds. ``operations``: a session's size -> what is done."""
    _round(operations, count, random.Random(0), notes)  # warms everybody up, and is not counted
    notes.clear()
    times: Times = {(size, operation.name): [] for size, all_ in operations.items() for operation in all_}
    order, meter, began_s, done = random.Random(1), Meter(), time.monotonic(), 0
    while done < rounds and time.monotonic() - began_s < seconds:
        for place, found in _round(operations, count, order, notes).items():
            times[place].append(found)
        done += 1
    return Run(times, done, count, time.monotonic() - began_s, meter.others())


def _round(
    operations: Mapping[int, list[Operation]], count: int, order: random.Random, notes: Notes
) -> dict[tuple[int, str], list[int]]:
    """Each operation ``count`` times, in a new order; gives the times in ns."""
    found: dict[tuple[int, str], list[int]] = {}
    todo = [(size, operation) for size, all_ in operations.items() for operation in all_]
    order.shuffle(todo)
    for size, operation in todo:
        operation.settle()
        began_ns = time.perf_counter_ns()
        times = [operation.run() for _ in range(count)]
        operation.settle()
        notes.settled_ns.setdefault((size, operation.name), []).append((time.perf_counter_ns() - began_ns) // count)
        found[size, operation.name] = [time_ns for time_ns in times if time_ns is not None]
    return found


def all_operations(
    redis_client: redis.Redis, ours: Mapping[str, Client], there: Client, notes: Notes
) -> dict[int, list[Operation]]:
    """A session's size -> what is done, by redis and by us, in the tables' order."""
    found: dict[int, list[Operation]] = {}
    for size in PAYLOADS_BYTES:
        here = Ours(ours, size, notes)
        elsewhere = Elsewhere(ours["backup"], there, size, notes, here.settle)
        found[size] = [
            *Theirs(redis_client, size, notes).operations(), *here.operations(), *elsewhere.operations()
        ]  # fmt: skip
    return found


def switches(operations: Mapping[int, list[Operation]]) -> float:
    """How often this thread let a processor go for each clean read: it waited for nobody if it never did."""
    read = next(one.run for one in operations[PAYLOADS_BYTES[0]] if one.name == CLEAN_READ)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for _ in range(SWITCHES_OF):
        read()
    return (resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before) / SWITCHES_OF


def rows(operations: Iterable[Operation], times: Times, size: int) -> dict[str, Row]:
    """By name; the last one puts a write beside redis' quicker way to the same.

    Raises: Failed for an operation that never did what its name says.
    """
    found: dict[str, Row] = {}
    for operation in operations:
        own = times[size, operation.name]
        if not any(own):
            raise Failed(f"{operation.name}: not one of them did what it says")
        found[operation.name] = Row(operation.name, own, found.get(operation.beside))
    again = f"{PROTECTED}, same times"
    return found | {again: Row(again, found[PROTECTED].rounds, found[PIPELINE])}


def clients(config: Config) -> dict[str, Client]:
    """A worker's, by ``acknowledge``; all share one store and one connection to the agent, as applications of a
    process do.
    """
    return {
        mode: Runtime(lambda mode=mode: config.with_overrides("keyword", acknowledge=mode)).client() for mode in MODES
    }


def client_of(started: Started, member: str) -> Client:
    """A worker of another member, in this process."""
    here, variables = os.environ["UNDERSTUDY_DIR"], started.variables[member]
    os.environ["UNDERSTUDY_DIR"] = variables["UNDERSTUDY_DIR"]
    try:
        config = load(environ=variables)
        return Runtime(lambda: config).client()
    finally:
        os.environ["UNDERSTUDY_DIR"] = here
