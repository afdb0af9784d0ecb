"""Answers a worker's requests in the store itself, while no agent owns it (LocalManager).

Every write transaction reads first who writes the store. If it is an agent, nothing is written and the caller is
told so: from then on it asks the agent.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable

from understudy.model.commit import Outcome, found_by, touched
from understudy.model.entry import Entry, Role
from understudy.protocol.local import Environment, do_commit, do_expire
from understudy.protocol.settings import Settings
from understudy.protocol.worker_messages import (
    CommitAnswer,
    CommitRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Request,
    TouchRequest,
)
from understudy.store import Owner, Store, Transaction

REAP_EVERY_MS = 5_000
"""How often one process looks for expired sessions: nobody sees one meanwhile, it only takes room."""
REAP_ENTRIES_MAX = 16
"""Removed by one commit, and by the next ones as long as there are so many: sessions that a site begins faster than
this many in ``REAP_EVERY_MS`` would fill the store otherwise. A commit begins one at most, and pays 0.3 ms."""
BOOT_NOTE = "boot of the incarnation"
"""Without ``sync`` a store may lose its last changes with the machine's power, and would give their numbers again."""


class StoreLink:
    """What an agent does for its workers, without one: commits, touches, expiry. No copies, so nothing is protected."""

    def __init__(
        self, store: Store, *, member: str, grace_ms: int, bytes_max: int, forget_ms: int, boot_id: Callable[[], str]
    ) -> None:
        self._store = store
        self._settings = Settings(
            member=member, incarnation=0, chooser=0, copies=0, grace_ms=grace_ms, bytes_max=bytes_max,
            forget_ms=forget_ms,
        )  # fmt: skip
        self._boot_id = boot_id
        self._checked_boot = False
        self._lock = threading.Lock()
        self._next_reap_ms = 0

    def ask(self, request: Request) -> FetchAnswer | CommitAnswer | None:
        """The answer, or None when an agent owns the store: nothing was written then.

        Raises: StoreFull, StoreError. Cost: one write transaction.
        """
        with self._store.write() as transaction:
            settings = self._ours(transaction)
            if settings is None:
                return None
            now_ms = self._store.now_ms()
            environment = Environment(settings, now_ms, transaction.next_number, transaction.is_nearly_full)
            answer = self._answer(request, transaction, environment)
            if now_ms >= self._next_reap_ms and not isinstance(request, FetchRequest):
                more = _reap(transaction, environment)
                self._next_reap_ms = now_ms if more else now_ms + REAP_EVERY_MS
        return answer

    def _answer(
        self, request: Request, transaction: Transaction, environment: Environment
    ) -> FetchAnswer | CommitAnswer:
        member = environment.settings.member
        match request:
            case FetchRequest(key=key):
                entry = transaction.get(key)
                here = entry is not None and entry.role is Role.PRIMARY and not entry.ended
                return FetchAnswer(FetchOutcome.HERE if here else FetchOutcome.UNKNOWN, member)
            case CommitRequest(key=key, commit=commit):
                outcome, entry = transaction.change(key, lambda entry: do_commit(entry, commit, (), environment))
                outcome = Outcome.COMMITTED if outcome is Outcome.REPEATED else outcome
                number = entry.number if entry is not None else 0
                found = found_by(entry, commit) if outcome is Outcome.OUTDATED else {}
                return CommitAnswer(outcome, False, member, environment.settings.incarnation, number, found=found)
            case TouchRequest(key=key, age_ms=age_ms):
                transaction.change(key, lambda entry: _touch(entry, environment.now_ms - age_ms))
        return CommitAnswer(Outcome.COMMITTED, False, member)

    def _ours(self, transaction: Transaction) -> Settings | None:
        """The settings of this store's present incarnation, or None if an agent owns it."""
        owner = transaction.owner()
        if owner is not None and owner.agent:
            return None
        with self._lock:
            if owner is None or not self._checked_boot:
                boot = self._boot_id().encode()
                if owner is None or transaction.note(BOOT_NOTE) != boot:
                    owner = Owner(False, secrets.randbits(62) + 1, self._settings.member)
                    transaction.set_owner(owner)
                    transaction.set_note(BOOT_NOTE, boot)
                self._checked_boot = True
            if owner.incarnation != self._settings.incarnation:
                old = self._settings
                self._settings = Settings(
                    member=old.member, incarnation=owner.incarnation, chooser=_chooser(old.member, owner.incarnation),
                    copies=0, grace_ms=old.grace_ms, bytes_max=old.bytes_max, forget_ms=old.forget_ms,
                )  # fmt: skip
            return self._settings


def _touch(entry: Entry | None, accessed_ms: int) -> tuple[Outcome, Entry | None]:
    return (Outcome.UNKNOWN, None) if entry is None else touched(entry, accessed_ms)


def _reap(transaction: Transaction, environment: Environment) -> bool:
    """Remove some of what has expired; True if there may be more of it."""
    keys = transaction.keys_due(environment.now_ms, REAP_ENTRIES_MAX)
    left = [transaction.change(key, lambda entry: do_expire(entry, environment))[1] for key in keys]
    return len(keys) == REAP_ENTRIES_MAX and None in left  # copies of other members, from former times, are left alone


def _chooser(member: str, incarnation: int) -> int:
    """Decides between two promotions of one reign: different for every life of every member."""
    digest = hashlib.blake2b(f"{member} {incarnation}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
