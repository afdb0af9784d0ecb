"""What a member's application cannot read, because a later release of it wrote it elsewhere."""

from __future__ import annotations

import pytest
from tests.history.test_partitions import commit_at, entry_at
from tests.history.test_scenarios import SETTLED_MS, Cluster

from understudy.errors import ValueUndecodable
from understudy.model import values
from understudy.model.commit import Commit, Outcome

OF_A_LATER_RELEASE = b"\xc7\x03\x7eabc"
"""A msgpack extension with a number that this release gives to no kind of value."""


def test_a_value_that_a_member_cannot_read_passes_through_it() -> None:
    """S20: it comes in at one member, the session moves to another, is changed there, and both machines that held it
    first die one after the other: the bytes are as they were."""
    with pytest.raises(ValueUndecodable, match="later"):
        values.decode(OF_A_LATER_RELEASE, attribute="later")
    a = Cluster("abc")
    a.write("a", b"1")
    a.writes += 1
    later = Commit(b"%08d" % a.writes, a.secret, {"later": OF_A_LATER_RELEASE})
    assert commit_at(a, "a", later) is Outcome.COMMITTED
    for value in (b"2", b"3", b"4"):
        assert a.read("c") is not None
        a.write("c", value)
    a.wait(SETTLED_MS)
    assert a.primary() == "c"
    for name in "ab":
        assert entry_at(a, "c").shown("later") == OF_A_LATER_RELEASE
        a[name].crash(with_store=False)
        a.wait(SETTLED_MS)
        a.write("c", name.encode())
        a.wait(SETTLED_MS)
    assert entry_at(a, "c").shown("later") == OF_A_LATER_RELEASE
    assert a.read("c") == b"b"
