"""A poisoned entry: one on whose handling the agent has died twice is moved aside, so that everybody else is served.

An entry that breaks an invariant, or cannot be read, ends the agent; the next life would meet it again. So the executor
leaves the key on which it died in a note, and the next life counts. At the second death the entry is set aside in the
store, where ``status`` counts it and ``understudy check`` names it, and this member has no room for that key any more:
others may hold the session.
"""

from __future__ import annotations

import contextlib

import msgspec

from understudy import limits
from understudy.errors import StoreError
from understudy.model.entry import Key
from understudy.store import Store, Transaction

DEATHS_NOTE = "deaths"
"""How often an agent has died on a key, by the key."""
DEATHS_MAX = 2

_DEATHS = msgspec.msgpack.Decoder(dict[bytes, int])


def note_death(store: Store, key: Key) -> None:
    """Leave word of the key on which this agent dies; a store that takes nothing any more is left alone."""
    with contextlib.suppress(StoreError), store.write() as transaction:
        deaths = _deaths(transaction)
        deaths[key] = deaths.pop(key, 0) + 1
        while len(deaths) > limits.QUARANTINED_MAX:
            del deaths[next(iter(deaths))]
        transaction.set_note(DEATHS_NOTE, msgspec.msgpack.encode(deaths))


def set_poison_aside(transaction: Transaction) -> frozenset[Key]:
    """Move every entry aside on which agents have died twice. Gives their keys, for the log and the executor."""
    poisoned = frozenset(key for key, count in _deaths(transaction).items() if count >= DEATHS_MAX)
    for key in sorted(poisoned):
        transaction.set_aside(key)
    return poisoned


def _deaths(transaction: Transaction) -> dict[Key, int]:
    raw = transaction.note(DEATHS_NOTE)
    return _DEATHS.decode(raw) if raw else {}
