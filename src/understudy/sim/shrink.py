"""Makes a failing plan smaller, as long as it fails in the same way: fewer faults, users, tabs and operations.

Source: delta debugging (Zeller and Hildebrandt 2002): take out half, then quarters, and so on down to single pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from understudy.sim.history import run
from understudy.sim.plan import NetworkPlan, Plan, UserPlan

RUNS_MAX = 400
_Piece = TypeVar("_Piece")


def shrunk(plan: Plan, tell: Callable[[str], None] = lambda text: None) -> Plan:
    """The smallest plan found that fails as ``plan`` does; ``plan`` itself if it does not fail.

    Cost: at most ``RUNS_MAX`` histories, most of them shorter than the first.
    """
    wanted = failures(plan)
    if not wanted:
        return plan
    left = RUNS_MAX
    changed = True
    while changed and left > 0:
        changed = False
        for step in (_faults, _users, _tabs, _operations, _network):
            candidates = step(plan)
            smaller = next(candidates, None)
            while smaller is not None and left > 0:
                left -= 1
                if wanted & failures(smaller):
                    plan, changed = smaller, True
                    tell(f"{describe(plan)}; {left} tries left")
                    candidates = step(plan)
                smaller = next(candidates, None)
    return plan


def failures(plan: Plan) -> set[str]:
    """What goes wrong, without the instants, names and numbers in it."""
    return {re.sub(r"\b[0-9a-f]{6}\b|\d+|\b[a-h]\b|'[^']*'", "*", problem) for problem in run(plan).problems}


def describe(plan: Plan) -> str:
    operations = sum(len(tab) for user in plan.users for tab in user.tabs)
    return f"{len(plan.faults)} faults, {len(plan.users)} users, {operations} operations"


def _without(pieces: Sequence[_Piece]) -> Iterator[tuple[_Piece, ...]]:
    """The sequence without each half, each quarter, … each single piece."""
    size = len(pieces) // 2 or 1
    while pieces and size:
        for start in range(0, len(pieces), size):
            yield (*pieces[:start], *pieces[start + size :])
        size //= 2


def _faults(plan: Plan) -> Iterator[Plan]:
    for faults in _without(plan.faults):
        yield msgspec.structs.replace(plan, faults=faults)


def _users(plan: Plan) -> Iterator[Plan]:
    """A user that does nothing keeps its place, so that the others keep their names."""
    for number, user in enumerate(plan.users):
        if user.tabs:
            yield _with_user(plan, number, msgspec.structs.replace(user, tabs=()))


def _tabs(plan: Plan) -> Iterator[Plan]:
    for number, user in enumerate(plan.users):
        for tabs in _without(user.tabs) if len(user.tabs) > 1 else ():
            yield _with_user(plan, number, msgspec.structs.replace(user, tabs=tabs))


def _operations(plan: Plan) -> Iterator[Plan]:
    for number, user in enumerate(plan.users):
        for index, tab in enumerate(user.tabs):
            for operations in _without(tab):
                tabs = (*user.tabs[:index], operations, *user.tabs[index + 1 :])
                yield _with_user(plan, number, msgspec.structs.replace(user, tabs=tabs))


def _network(plan: Plan) -> Iterator[Plan]:
    still = NetworkPlan(delay_ms=plan.network.delay_ms, detect_ms=plan.network.detect_ms)
    if plan.network != still:
        yield msgspec.structs.replace(plan, network=still)


def _with_user(plan: Plan, number: int, user: UserPlan) -> Plan:
    return msgspec.structs.replace(plan, users=(*plan.users[:number], user, *plan.users[number + 1 :]))
