"""Makes the store the agent's: who owns it from now on, which earlier lives it had, and what peers may lack of it.

While the owner row names an agent, workers without a cluster (``LocalManager``) write nothing in the store
themselves. It is set before the agent listens and removed by a clean end only: after a killed agent the store waits
for the next one.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from understudy import limits
from understudy.agent.quarantine import set_poison_aside
from understudy.config import Config
from understudy.errors import StoreError
from understudy.model.entry import Key, Role
from understudy.protocol.absence import ALIVE_NOTE, SINCE_NOTE
from understudy.protocol.commands import Started
from understudy.protocol.lives import OVER_NOTE
from understudy.store import Owner, Store, Transaction
from understudy.store.lmdb import LmdbStore

LIVES_NOTE = "lives"
VIEW_NOTE = "view"
"""Written by the engine: the names of the members that it last saw, with blanks between them."""
ADOPTING_NOTE = "adopting"
"""Set while entries that workers wrote without an agent are put in the outbox; a killed agent's successor goes on."""

GIVEN_BACK_NOTE = "given back"
"""The commit number drawn at a clean end: if the next life draws the one after it, nobody has committed since."""

_LIVES = msgspec.msgpack.Decoder(list[int])


class Taken(NamedTuple):
    """What an agent must know of its store before it begins."""

    own_lives: frozenset[int]
    last_view: tuple[str, ...]
    has_entries: bool
    adopted: int
    """Entries that were written without an agent, and now wait for their copies."""
    alive_ms: int = 0
    """When an earlier life was noted to live last, on the store clock; 0: never."""
    since_ms: int = 0
    """Since when it had been there without a long gap; 0: not known."""
    over: bytes = b""
    """What it had noted of other lives that seem over."""
    poisoned: frozenset[Key] = frozenset()
    """Entries on which earlier lives have died; they were moved aside."""

    def started(self, expects_peers: bool) -> Started:
        """What the engine is told of it."""
        return Started(self.last_view, self.has_entries, expects_peers, self.alive_ms, self.since_ms, self.over)


def open_store(config: Config, directory: Path, *, read_only: bool = False) -> LmdbStore:
    """Gives the member's store as its settings say; opened at first use."""
    return LmdbStore(
        directory,
        copies=config.copies,
        forget_ms=config.forget_ms,
        bytes_max=config.store_bytes_max,
        sync=config.store_sync,
        member=config.member,
        read_only=read_only,
    )


def take_over(store: Store, member: str, incarnation: int) -> Taken:
    """Make the agent of this life the store's only writer.

    Raises: StoreError. Cost: one transaction; after workers wrote without an agent one more per 64 entries.
    """
    with store.write() as transaction:
        before = transaction.owner()
        adopting = transaction.note(ADOPTING_NOTE) == b"1" or (
            (before is None or not before.agent) and not _is_as_given_back(transaction)
        )
        transaction.set_owner(Owner(True, incarnation, member))
        raw = transaction.note(LIVES_NOTE)
        lives = _LIVES.decode(raw) if raw else []
        transaction.set_note(LIVES_NOTE, msgspec.msgpack.encode([*lives, incarnation][-limits.OWN_LIVES_MAX :]))
        alive_ms, since_ms = (int(transaction.note(name) or b"0") for name in (ALIVE_NOTE, SINCE_NOTE))
        poisoned = set_poison_aside(transaction)
        over = transaction.note(OVER_NOTE) or b""
        view = (transaction.note(VIEW_NOTE) or b"").decode().split()
        has_entries = bool(transaction.keys(None, 1))
        adopting = adopting and has_entries
        if adopting:
            transaction.set_note(ADOPTING_NOTE, b"1")
    adopted = _adopt_all(store) if adopting else 0
    return Taken(frozenset(lives), tuple(view), has_entries, adopted, alive_ms, since_ms, over, poisoned)


def give_back(store: Store) -> None:
    """A clean end: workers without a cluster may write again. Raises: StoreError."""
    with store.write() as transaction:
        transaction.set_owner(None)
        transaction.set_note(GIVEN_BACK_NOTE, str(transaction.next_number()).encode())


def chooser_of(link_key: bytes, member: str, incarnation: int) -> int:
    """The 63-bit hash that makes this life's epochs differ from every other's; nobody without the secret picks it."""
    digest = blake2b(f"{member}/{incarnation}".encode(), digest_size=8, key=link_key[:64], person=b"understudy epoch")
    return int.from_bytes(digest.digest(), "big") >> 1


def first_id(incarnation: int) -> int:
    """From where a life counts its requests: 2^31 numbers that hardly any other life of the member has."""
    return (incarnation & 0x3FFF_FFFF) << 31


def _is_as_given_back(transaction: Transaction) -> bool:
    return transaction.note(GIVEN_BACK_NOTE) == str(transaction.next_number() - 1).encode()


def _adopt_all(store: Store) -> int:
    adopted, after = 0, None
    while True:
        with store.write() as transaction:
            keys = transaction.keys(after, limits.BATCH_ENTRIES_MAX)
            adopted += sum(_adopt(key, transaction) for key in keys)
            if len(keys) < limits.BATCH_ENTRIES_MAX:
                transaction.set_note(ADOPTING_NOTE, b"0")
                return adopted
            after = keys[-1]


def _adopt(key: Key, transaction: Transaction) -> bool:
    """Put one entry of ours in the outbox, marked: its users were answered when nobody else held it."""
    try:
        entry = transaction.get(key)
    except StoreError:
        return False  # the engine will meet it, and ``quarantine`` deal with it
    if entry is None or entry.role is not Role.PRIMARY or not entry.number:
        return False
    rows = transaction.outbox(entry.number - 1, 1)
    if not rows or rows[0].number != entry.number:
        transaction.outbox_add(entry.number, key)
        transaction.outbox_mark((entry.number,))
    return True
