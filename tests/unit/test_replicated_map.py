"""Claims of ``Cluster.map``: a dictionary over the store, with its own keys, exact counters and asyncio twins."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from understudy import Cluster, limits
from understudy.client.member import _members
from understudy.client.replicated_map import LazyReplicatedMap
from understudy.errors import SessionTooLarge, ValueNotSupported


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    monkeypatch.setenv("UNDERSTUDY_MEMBER", "a")
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


@pytest.fixture
def flags() -> LazyReplicatedMap:
    return Cluster.from_config().map("flags")


def test_nothing_is_opened_before_it_is_used(directory: Path) -> None:
    """A map is safe to make at import."""
    flags = Cluster.from_config().map("flags")
    assert not directory.exists()
    assert len(flags) == 0 and directory.exists()


def test_it_is_a_dictionary(flags: LazyReplicatedMap) -> None:
    """Set, read, replace, remove, use the key again; real keys come back, whatever letters they have."""
    flags["beta"] = True
    flags["grüße 🎭"] = {"since": datetime(2026, 1, 1, tzinfo=UTC), "for": {"ada", "bob"}}
    assert flags["beta"] is True and flags["grüße 🎭"]["for"] == {"ada", "bob"}
    assert sorted(flags) == ["beta", "grüße 🎭"] and len(flags) == 2
    assert "beta" in flags and "gamma" not in flags and 7 not in flags
    del flags["beta"]
    assert "beta" not in flags and flags.get("beta", "off") == "off" and list(flags) == ["grüße 🎭"]
    with pytest.raises(KeyError, match="beta"):
        del flags["beta"]
    flags["beta"] = False
    assert flags["beta"] is False and flags.pop("beta") is False and flags.pop("beta", None) is None
    flags.update(a=1, b=2)
    assert dict(flags.items()) == {"a": 1, "b": 2, "grüße 🎭": flags["grüße 🎭"]}
    flags.clear()
    assert not flags


def test_everybody_sees_one_map_by_its_name(flags: LazyReplicatedMap) -> None:
    """Another cluster object of the same application sees the same; another name or application is another map."""
    flags["beta"] = 1
    assert Cluster.from_config().map("flags")["beta"] == 1
    assert "beta" not in Cluster.from_config().map("flag")
    assert "beta" not in Cluster.from_config(application="other").map("flags")


def test_it_is_no_session(flags: LazyReplicatedMap) -> None:
    """S54: sessions and dictionaries share a store and are never taken for each other."""
    sessions = Cluster.from_config().manager.sessions
    sessions["0" * 32] = {"user": "ada"}
    flags["beta"] = 1
    assert list(sessions) == ["0" * 32] and len(sessions) == 1
    (part,) = flags.all()
    assert part.role == "primary" and part.key not in sessions
    with pytest.raises(KeyError):
        del sessions[part.key]
    assert flags["beta"] == 1 and Cluster.from_config().status()["sessions"]["primary"] == 1


def test_a_value_that_is_read_is_a_copy(flags: LazyReplicatedMap) -> None:
    """What was changed in place is stored when it is assigned again."""
    flags["list"] = [1]
    flags["list"].append(2)
    assert flags["list"] == [1]


def test_what_cannot_be_a_key_or_value_is_refused(flags: LazyReplicatedMap) -> None:
    """S19: nothing else is harmed; the error names what is wrong."""
    flags["good"] = 1
    with pytest.raises(ValueNotSupported, match="object"):
        flags["bad"] = object()
    for wrong in ("\x00hidden", "x" * (limits.ATTRIBUTE_NAME_CHARS_MAX + 1)):
        assert wrong not in flags
        with pytest.raises(KeyError):
            flags[wrong] = 1
    with pytest.raises(SessionTooLarge, match="'big'"):
        flags["big"] = bytes(limits.SESSION_BYTES_MAX)
    assert dict(flags.items()) == {"good": 1}


def test_counters_are_exact(flags: LazyReplicatedMap) -> None:
    """S03: three threads with twenty increments each make sixty; so few that nobody can lose all of its fifty tries."""

    def count() -> None:
        mine = Cluster.from_config().map("flags")
        for _ in range(20):
            mine.transact("n", lambda n: n + 1, 0)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert flags["n"] == 60


def test_of_several_defaults_one_is_stored(flags: LazyReplicatedMap) -> None:
    """``setdefault`` gives what is there, also when that is None."""
    assert flags.setdefault("k", 1) == 1 and flags.setdefault("k", 2) == 1
    flags["none"] = None
    assert flags.setdefault("none", 3) is None


def test_a_failed_transaction_writes_nothing(flags: LazyReplicatedMap) -> None:
    """What the function raises comes out, and the value stays."""
    flags["n"] = 1
    with pytest.raises(ZeroDivisionError):
        flags.transact("n", lambda n: n / 0)
    assert flags["n"] == 1


def test_asyncio_twins_do_the_same(flags: LazyReplicatedMap) -> None:
    """One conversation, two drivers."""

    async def use() -> None:
        await flags.aset("a", [1])
        assert await flags.aget("a") == [1] and await flags.aget("b") is None and await flags.aget("b", 2) == 2
        assert await flags.atransact("a", lambda a: [*a, 2]) == [1, 2]
        assert await flags.akeys() == ["a"]
        await flags.adelete("a")
        with pytest.raises(KeyError):
            await flags.adelete("a")

    asyncio.run(use())
    assert not flags


def test_a_key_is_removed_if_its_value_is_still_so(flags: LazyReplicatedMap) -> None:
    """A newer value stays: the condition is asked again of what another writer has put there meanwhile."""
    flags.update(a=1, b=2)
    asked: list[int] = []

    def is_small(value: int) -> bool:
        if not asked:
            flags["a"] = 10
        asked.append(value)
        return value < 5

    assert not flags.remove_if("a", is_small)
    assert asked == [1, 10] and flags["a"] == 10
    assert flags.remove_if("b", lambda value: value == 2) and "b" not in flags
    assert not flags.remove_if("b", lambda value: True)
    assert asyncio.run(flags.aremove_if("a", lambda value: value == 10)) and not flags
