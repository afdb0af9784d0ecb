"""An answer that says "protected" leaves when as many machines as it says hold the change, and not before."""

from __future__ import annotations

from collections.abc import Callable

from understudy.model.commit import Outcome
from understudy.model.entry import Entry, contains
from understudy.protocol import messages as m
from understudy.sim.world import Machine, Reply

LOST_A_MOMENT_AGO_MS = 1_000
"""A machine whose store was lost so lately may have acknowledged before."""


class Copies:
    """Looks into all stores whenever a commit is answered."""

    def __init__(self, tell: Callable[[str], None], copies: int) -> None:
        self._tell = tell
        self._copies = copies
        self.protected = 0

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if not isinstance(answer, m.CommitAnswer) or not isinstance(request, m.CommitRequest):
            return
        if answer.outcome is not Outcome.COMMITTED or not answer.protected or not answer.number:
            return
        self.protected += 1
        now_ms = machine.world.now_ms
        holders = 0
        for other in machine.world.machines.values():
            entry = other.store.read(request.key).entry
            holds = entry is not None and (entry.ended or _has(entry, request.commit.id, answer))
            held = other.lost_store_ms >= 0 and now_ms - other.lost_store_ms <= LOST_A_MOMENT_AGO_MS
            holders += holds or held
        if holders <= self._copies:
            self._tell(
                f"at {now_ms} ms, {machine.name}: a change of {request.key.hex()[:6]} was called protected when"
                f" {holders} machines had it"
            )


def _has(entry: Entry, commit_id: bytes, answer: m.CommitAnswer) -> bool:
    """By the commit's id, which is soon forgotten, or by its dot, which a repeated commit's answer does not name."""
    return commit_id in entry.recent or contains(entry.context, answer.incarnation, answer.number)
