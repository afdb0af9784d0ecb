"""What a worker may show of its member's store without asking anybody."""

from __future__ import annotations

import pytest
from tests.making import CHOOSERS, KEY, backup_of, moved, new_session, proxy

from understudy.client.in_place import look
from understudy.model.commit import ended
from understudy.model.entry import Entry, Promise
from understudy.store import Reading
from understudy.store.leases import reading_row

NOW_MS = 10_000
MINE = new_session(1, "a", ("b", "c"), NOW_MS, x=b"1")
COPY = backup_of(new_session(1, "b", ("a", "c"), NOW_MS, x=b"1"))
RUN = {"b": NOW_MS + 1, "c": NOW_MS + 1, reading_row("b"): NOW_MS + 1}


class Stored:
    """A store of one key; what is read again may be something else."""

    def __init__(self, *readings: Reading) -> None:
        self.readings = list(readings)

    def read(self, key: bytes) -> Reading:
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def recall(self, key: bytes) -> Reading:
        return self.read(key)

    def now_ms(self) -> int:
        return NOW_MS


def shows(*entries: Entry | None, leases: dict[str, int] | None = None, settled: bool = True) -> bool:
    rows = RUN if leases is None else leases
    return look(Stored(*(Reading(e, settled) for e in entries)), KEY, "a", lambda row: rows.get(row, 0))[1]


def test_a_primary_shows_while_all_backups_leases_run() -> None:
    """S25: one that has run out is enough to ask; without backups no lease is needed; its read lease says nothing."""
    assert shows(MINE)
    assert not shows(MINE, leases={"b": NOW_MS + 1, "c": NOW_MS})
    assert not shows(MINE, leases={reading_row("b"): NOW_MS + 1, reading_row("c"): NOW_MS + 1})
    assert shows(moved(MINE, backups=()), leases={})


def test_a_backup_shows_under_its_primarys_read_lease_alone() -> None:
    """S25: not under the lease against successors, not after the end, not at its last millisecond."""
    assert shows(COPY)
    assert not shows(COPY, leases={"b": NOW_MS + 1})
    assert not shows(COPY, leases={reading_row("b"): NOW_MS})
    assert not shows(COPY, leases={reading_row("c"): NOW_MS + 1})


@pytest.mark.parametrize(
    "entry",
    [
        None,
        proxy("b", ("c",)),
        moved(COPY, unconfirmed=True),
        moved(COPY, backups=("c",)),
        moved(COPY, promised=Promise(2, CHOOSERS["c"])),
        ended(COPY, NOW_MS),
        moved(COPY, times=moved(COPY.times, accessed_ms=0, idle_timeout_ms=NOW_MS)),
    ],
    ids=["nothing", "a place", "unconfirmed", "not listed", "promised away", "ended", "its time is over"],
)
def test_what_a_backup_must_ask_about(entry: Entry | None) -> None:
    """S04, S12, S25, S44: others may lack it, it may lack something, somebody may have taken over, or it is no more."""
    assert not shows(entry)


def test_a_change_of_ones_own_that_is_under_way_is_not_shown_by_a_backup() -> None:
    """S12: it has handed the session over a moment ago."""
    assert not shows(COPY, settled=False)


def test_the_promise_of_the_present_reign_is_none() -> None:
    """A holder that has promised this very reign to its primary goes on."""
    assert shows(moved(COPY, promised=Promise(COPY.epoch.reign, COPY.epoch.chooser)))


def test_what_has_changed_between_the_two_looks_is_asked_about() -> None:
    """S25: the lease was taken for what was there before: another list, another primary, an end, a change since."""
    assert shows(MINE, MINE) and shows(COPY, COPY)
    assert not shows(MINE, moved(MINE, backups=("b",)))
    assert not shows(COPY, moved(COPY, primary="c", backups=("a", "b")))
    assert not shows(COPY, moved(COPY, unconfirmed=True))
    assert not shows(MINE, ended(MINE, NOW_MS)) and not shows(MINE, None) and not shows(MINE, backup_of(MINE))
