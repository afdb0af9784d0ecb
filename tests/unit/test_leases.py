"""Claims of ``understudy.store.leases``: what the agent publishes is what workers see, and nothing else."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from understudy import limits
from understudy.errors import StoreError
from understudy.store.leases import FILE_NAME, LeaseBoard


def test_a_missing_board_grants_nothing(tmp_path: Path) -> None:
    """Where no agent has run there is no lease, and looking makes no file."""
    assert LeaseBoard(tmp_path).until_ms("b") == 0
    assert list(tmp_path.iterdir()) == []


def test_workers_see_what_is_published(tmp_path: Path) -> None:
    """A reader that looked before there was a board sees it as soon as there is one, and each later change."""
    reader = LeaseBoard(tmp_path)
    assert reader.until_ms("b") == 0
    writer = LeaseBoard(tmp_path, writable=True)
    writer.publish("b", 1_234)
    writer.publish("c", 2**62)
    assert (reader.until_ms("b"), reader.until_ms("c"), reader.until_ms("d")) == (1_234, 2**62, 0)
    writer.publish("b", 5_678)
    assert reader.until_ms("b") == 5_678


def test_a_reset_takes_all_leases_off(tmp_path: Path) -> None:
    """A new life of the agent has no leases, and readers that mapped the old board see that."""
    writer, reader = LeaseBoard(tmp_path, writable=True), LeaseBoard(tmp_path)
    writer.publish("b", 1_234)
    assert reader.until_ms("b") == 1_234
    again = LeaseBoard(tmp_path, writable=True)
    again.reset()
    assert reader.until_ms("b") == 0
    again.publish("b", 99)
    assert reader.until_ms("b") == 99


def test_another_process_sees_it(tmp_path: Path) -> None:
    """A child of fork, with the board mapped by its parent, sees what is published after the fork."""
    writer, reader = LeaseBoard(tmp_path, writable=True), LeaseBoard(tmp_path)
    writer.publish("b", 1)
    assert reader.until_ms("b") == 1
    go, ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(go, 1)
        os._exit(0 if reader.until_ms("b") == 77 and LeaseBoard(tmp_path).until_ms("c") == 88 else 1)
    writer.publish("b", 77)
    writer.publish("c", 88)
    os.write(ready, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_names_beyond_the_slots_take_the_longest_lapsed_one(tmp_path: Path) -> None:
    """A full board gives the oldest lease's slot to a new name; who asks for the old name reads 0, not its lease."""
    writer, reader = LeaseBoard(tmp_path, writable=True), LeaseBoard(tmp_path)
    for number in range(limits.LEASE_SLOTS_MAX):
        writer.publish(f"m{number}", 1_000 + (number or 500_000))
    assert reader.until_ms("m1") == 1_001
    writer.publish("late", 9_999)
    assert reader.until_ms("late") == 9_999
    assert reader.until_ms("m1") == 0
    assert reader.until_ms("m0") == 501_000


def test_no_reader_ever_sees_another_names_lease(tmp_path: Path) -> None:
    """While slots change their names again and again, a name's expiry is its own or 0."""
    writer, reader = LeaseBoard(tmp_path, writable=True), LeaseBoard(tmp_path)
    names = [f"m{number}" for number in range(limits.LEASE_SLOTS_MAX + 8)]
    wrong: list[tuple[str, int]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for number, name in enumerate(names):
                seen = reader.until_ms(name)
                if seen and seen % 1_000 != number:
                    wrong.append((name, seen))

    thread = threading.Thread(target=read)
    thread.start()
    for round_number in range(1, 6):
        for number, name in enumerate(names):
            writer.publish(name, round_number * 1_000 + number)
    done.set()
    thread.join()
    assert wrong == []


@pytest.mark.parametrize("content", [b"", b"short", bytes(100_000)], ids=["empty", "short", "long"])
def test_a_board_of_another_shape_grants_nothing_and_is_made_anew(tmp_path: Path, content: bytes) -> None:
    """What is no board is not believed; the agent replaces its content."""
    (tmp_path / FILE_NAME).write_bytes(content)
    assert LeaseBoard(tmp_path).until_ms("b") == 0
    LeaseBoard(tmp_path, writable=True).publish("b", 5)
    assert LeaseBoard(tmp_path).until_ms("b") == 5


def test_only_this_user_can_read_it(tmp_path: Path) -> None:
    """The file is private, and never reached through a symbolic link."""
    LeaseBoard(tmp_path, writable=True)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    other = tmp_path / "other"
    other.mkdir()
    (other / FILE_NAME).symlink_to(tmp_path / FILE_NAME)
    assert LeaseBoard(other).until_ms("b") == 0
    with pytest.raises(StoreError, match="cannot be made"):
        LeaseBoard(other, writable=True)
