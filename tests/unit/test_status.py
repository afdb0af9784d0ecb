"""What `status` counts: sessions whose copies are with members that live."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.making import backup_of, new_session, proxy

from understudy import limits
from understudy.agent.status import counted_among
from understudy.model.entry import Entry
from understudy.store import Store
from understudy.store.lmdb import LmdbStore
from understudy.store.memory import MemoryStore

HOUR_MS = 3_600_000


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore(copies=1, forget_ms=HOUR_MS)
    made = LmdbStore(tmp_path, copies=1, forget_ms=HOUR_MS)
    request.addfinalizer(made.close)
    return made


def hold(store: Store, *entries: Entry) -> None:
    with store.write() as transaction:
        for number, entry in enumerate(entries):
            transaction.put(b"%016d" % number, entry)


def test_a_copy_with_a_lost_member_protects_nothing(store: Store) -> None:
    """Counted are primaries here whose backups do not live or that list none: nobody else's sessions, not those with a
    living copy beside the dead one, and each once. When the lost member is back it is as before."""
    both, dead, none = (new_session(1, "a", backups, 1_000) for backups in (("b", "c"), ("b",), ()))
    hold(store, both, dead, none, backup_of(new_session(1, "b", ("a",), 1_000)), proxy("b", ("d",)))
    assert counted_among(store, {"a", "c"})["unprotected"] == 2
    assert counted_among(store, {"a", "b", "c"})["unprotected"] == 1
    assert counted_among(store, {"a"})["unprotected"] == 3
    assert counted_among(store, {"a"})["primary"] == 3


def test_no_more_is_looked_into_than_the_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the number is the least, and that is said."""
    monkeypatch.setattr(limits, "UNPROTECTED_COUNTED_MAX", 5)
    hold(store, *(new_session(1, "a", ("b",), 1_000) for _ in range(6)))
    told = counted_among(store, {"a"})
    assert (told["unprotected"], told["unprotected_more"]) == (5, True)
    with store.write() as transaction:
        transaction.remove(b"%016d" % 0)
    told = counted_among(store, {"a"})
    assert (told["unprotected"], told["unprotected_more"]) == (5, False)
