"""What only the LMDB store has to prove: files, processes, fork, kill, a full map, a full disk, a reboot."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S

from understudy import errors, limits
from understudy.model.entry import Entry, Epoch, Role, Sibling, Times
from understudy.store import clock, codec
from understudy.store.check import check
from understudy.store.codec import Index
from understudy.store.lmdb import LmdbStore

MIB = 1 << 20
FORGET_MS = 86_400_000


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def entry(value: bytes = b"v", backups: tuple[str, ...] = ("b",), **more: Any) -> Entry:
    attributes = {"value": (Sibling(9, 4, 1, value),)}
    return Entry(Role.PRIMARY, "a", backups, Epoch(1, 2, 3), attributes=attributes, times=Times(1, 1, 0, 1_000), **more)


def put(store: LmdbStore, number: int, value: bytes = b"v") -> None:
    with store.write() as transaction:
        transaction.put(key(number), entry(value))


def holds(store: LmdbStore, number: int) -> bool:
    return store.read(key(number)).entry is not None


def count(store: LmdbStore) -> int:
    with store.view() as view:
        return view.counts().primary


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., LmdbStore]]:
    """Opens stores in one directory, and closes what is left of them."""
    made: list[LmdbStore] = []

    def opened(**options: Any) -> LmdbStore:
        made.append(LmdbStore(tmp_path, **{"copies": 1, "forget_ms": FORGET_MS, "bytes_max": 16 * MIB} | options))
        return made[-1]

    yield opened
    for store in made:
        store.close()


@pytest.fixture
def store(make: Callable[..., LmdbStore]) -> LmdbStore:
    return make()


@contextmanager
def forked(work: Callable[[Callable[[bytes], None], Callable[[], bytes]], None]) -> Iterator[tuple[int, int, int]]:
    """A child of fork that runs ``work(tell, hear)``; gives its process id and the parent's ends of both pipes.

    At the end of the block the child must have ended by itself, or have been killed, and be collected.
    """
    from_child, child_writes = os.pipe()
    child_reads, to_child = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(from_child)
            os.close(to_child)
            work(lambda text: os.write(child_writes, text) and None, lambda: os.read(child_reads, 1))
            status = 0
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(status)
    os.close(child_writes)
    os.close(child_reads)
    try:
        yield child, from_child, to_child
    finally:
        os.close(from_child)
        os.close(to_child)


def ended_well(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- one process -----------------------------------------------------------------------------------------------------


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    """S48: an application that is only imported leaves no file, and the store may be opened after a fork."""
    store = LmdbStore(tmp_path / "member", copies=1, forget_ms=1)
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_files_are_for_their_user_only(tmp_path: Path) -> None:
    """S54: whatever the umask says, directories are 0700 and files 0600."""
    umask = os.umask(0)
    try:
        store = LmdbStore(tmp_path / "member", copies=1, forget_ms=1)
        put(store, 1)
        store.close()
    finally:
        os.umask(umask)
    found = {p.relative_to(tmp_path).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert found == {
        "member": 0o700,
        "member/store": 0o700,
        "member/store/data.mdb": 0o600,
        "member/store/lock.mdb": 0o600,
        "member/store.lock": 0o600,
        "member/store.boot": 0o600,
    }


def test_two_stores_on_one_path_share_what_they_hold(make: Callable[..., LmdbStore]) -> None:
    """LMDB must not open a file twice in a process: both objects work, and the second goes on after the first's end."""
    first, second = make(), make()
    put(first, 1)
    assert holds(second, 1)
    first.close()
    put(second, 2)
    assert holds(second, 2)
    with pytest.raises(errors.StoreError, match="closed"):
        first.read(key(1))


def test_a_store_is_found_again_after_it_was_closed(make: Callable[..., LmdbStore]) -> None:
    """S35: entries, numbers and store time go on where they were."""
    first = make()
    put(first, 1)
    with first.write() as transaction:
        assert transaction.next_number() == 1
    time_ms = first.now_ms()
    first.close()
    again = make()
    assert again.read(key(1)).entry == entry()
    assert again.now_ms() >= time_ms
    with again.write() as transaction:
        assert transaction.next_number() == 2


def test_many_threads_read_and_write(make: Callable[..., LmdbStore]) -> None:
    """S50: each of 16 threads reads its own writes at once; nothing is lost, and the store passes its check.

    On a busy machine a thread may be held up in the middle of a look-up while the others go on; the pages that they
    free meanwhile, some ten for each change, wait for it. The map has room for all 640 changes behind such a thread.
    """
    store = make(bytes_max=64 * MIB)
    failures: list[object] = []

    def work(thread: int) -> None:
        for n in range(40):
            number = thread * 1000 + n
            put(store, number)
            if not holds(store, number):
                failures.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert count(store) == 640
    assert check(store).problems == ()


def test_a_reader_that_stands_still_is_named_when_the_store_is_full(store: LmdbStore) -> None:
    """S50: what is freed behind it is not used again, so that a map of any size runs out; the error says since when
    somebody has been reading, and as soon as the reader ends there is room."""
    put(store, 0)
    with store.view():
        with pytest.raises(errors.StoreFull, match=r"a process has been reading since \d+ changes ago") as full:
            for n in range(1, 10_000):
                put(store, n % 10)
        assert count(store) <= 10 and "bytes_max" in str(full.value)
    for n in range(100):
        put(store, n)
    assert count(store) == 100


def test_more_readers_at_once_than_lmdb_allows_by_itself(store: LmdbStore) -> None:
    """S50: 1,000 reading transactions are open at the same moment."""
    put(store, 1)
    with ExitStack() as stack:
        for _ in range(1000):
            assert stack.enter_context(store.view()).get(key(1)) is not None


def test_other_copies_make_the_indexes_anew(make: Callable[..., LmdbStore]) -> None:
    """A store that was written under ``copies = 1`` lists the right keys under ``copies = 2``, and the other way."""
    first = make(copies=1)
    put(first, 1)
    first.close()
    second = make(copies=2)
    with second.write() as transaction:
        assert transaction.keys_lacking(None, 9) == [key(1)]
    assert check(second).problems == ()
    second.close()
    third = make(copies=1, forget_ms=5)
    with third.write() as transaction:
        assert transaction.keys_lacking(None, 9) == []
    assert check(third).problems == ()


def test_other_copies_leave_the_other_indexes_alone(make: Callable[..., LmdbStore]) -> None:
    """Of a million sessions only the list of those that lack a copy is made anew: a row that no entry asks for, in the
    index of members, is still there afterwards."""
    first = make(copies=1)
    put(first, 1)
    with first.write() as transaction:
        transaction._txn.put(codec.member_row("nobody", key(9)), b"", db=transaction._tables.indexes[Index.MEMBERS])
    first.close()
    second = make(copies=2)
    with second.view() as view:
        assert codec.member_row("nobody", key(9)) in set(view.index(Index.MEMBERS))
        assert list(view.index(Index.LACKING)) == [key(1)]


def test_another_memory_of_deletions_moves_their_ends(make: Callable[..., LmdbStore]) -> None:
    """A tombstone is due when the new ``forget_ms`` says so, and a session when it was before."""
    first = make(forget_ms=1_000)
    put(first, 1)
    with first.write() as transaction:
        transaction.put(key(2), Entry(Role.PROXY, "a", (), Epoch(1, 2, 3), ended_ms=5))
        due_1 = transaction.keys_due(1 << 40, 9)
    first.close()
    second = make(forget_ms=2_000)
    with second.write() as transaction:
        assert sorted(due_1) == sorted(transaction.keys_due(1 << 40, 9)) == [key(1), key(2)]
        assert transaction.keys_due(1_500, 9) == [key(1)] and key(2) in transaction.keys_due(2_005, 9)
    assert check(second).problems == ()


# --- several processes -----------------------------------------------------------------------------------------------


def test_a_child_of_fork_uses_the_store_that_its_parent_had_opened(store: LmdbStore) -> None:
    """S48: with --preload the parent has used the store; the child reads and writes, and the parent goes on."""
    put(store, 1)

    def work(tell: Callable[[bytes], None], hear: Callable[[], bytes]) -> None:
        assert holds(store, 1)
        put(store, 2)
        tell(b"x")
        hear()
        assert holds(store, 3)

    with forked(work) as (child, from_child, to_child):
        assert os.read(from_child, 1) == b"x"
        assert holds(store, 2)
        put(store, 3)
        os.write(to_child, b"x")
        assert ended_well(child)
    put(store, 4)
    assert store.tidy_readers() == 0
    assert check(store).problems == ()


def test_a_child_forked_in_the_middle_of_a_threads_transaction(
    make: Callable[..., LmdbStore], store: LmdbStore
) -> None:
    """S48: another thread of the parent is writing while the main thread forks; a child that only reads does so at
    once, is no part of that transaction, and one that writes does so when it is over."""
    put(store, 1)
    inside, leave = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with store.write() as transaction:
            transaction.put(key(2), entry())
            inside.set()
            leave.wait()

    thread = threading.Thread(target=write_slowly)
    thread.start()
    inside.wait()

    def work(tell: Callable[[bytes], None], hear: Callable[[], bytes]) -> None:
        reader = make(read_only=True)
        assert holds(reader, 1) and not holds(reader, 2)
        tell(b"x")
        put(store, 3)
        assert holds(store, 2) and holds(reader, 3)

    with forked(work) as (child, from_child, _):
        assert os.read(from_child, 1) == b"x"
        leave.set()
        thread.join()
        assert ended_well(child)
    assert [holds(store, n) for n in (1, 2, 3)] == [True] * 3


FORK_AND_EXIT = """
import os, sys, threading
from pathlib import Path
from understudy.store.lmdb import LmdbStore

store = LmdbStore(Path(sys.argv[1]), copies=1, forget_ms=1000)
with store.write() as transaction:
    transaction.set_note("parent", b"1")
inside, leave = threading.Event(), threading.Event()

def write_slowly():
    with store.write():
        inside.set()
        leave.wait()

thread = threading.Thread(target=write_slowly)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    reader = LmdbStore(Path(sys.argv[1]), copies=1, forget_ms=1000, read_only=True)
    assert reader.read(bytes(16)).entry is None
    sys.exit(3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
leave.set()
thread.join()
with store.write() as transaction:
    assert transaction.note("parent") == b"1"
sys.exit(0 if status == 3 else 1)
"""


def test_a_child_ends_by_itself_though_its_parent_was_writing(tmp_path: Path) -> None:
    """S49: an ordinary interpreter exit in the child neither waits for a thread that it never had nor harms its
    parent's environment."""
    assert subprocess.run([sys.executable, "-c", FORK_AND_EXIT, str(tmp_path)], timeout=PATIENCE_S).returncode == 0


SPAWNED = """
import sys
from pathlib import Path
from understudy.store.lmdb import LmdbStore

store = LmdbStore(Path(sys.argv[1]), copies=1, forget_ms=int(sys.argv[2]), bytes_max=int(sys.argv[3]))
for line in sys.stdin:
    with store.write() as transaction:
        transaction.set_note(line.strip(), bytes(int(sys.argv[4])))
    print("done", flush=True)
store.close()
"""


@contextmanager
def spawned(directory: Path, bytes_max: int, note_bytes: int) -> Iterator[Callable[[str], None]]:
    """Another process with the same store; gives a function that lets it write one note."""
    process = subprocess.Popen(
        [sys.executable, "-c", SPAWNED, str(directory), str(FORGET_MS), str(bytes_max), str(note_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def write(name: str) -> None:
        stdin.write(name + "\n")
        stdin.flush()
        assert stdout.readline() == "done\n"

    yield write
    stdin.close()
    assert process.wait(60) == 0
    stdout.close()


def note(store: LmdbStore, name: str) -> bytes | None:
    with store.view() as view:
        return view.note(name)


def test_a_process_started_afresh_shares_the_store(store: LmdbStore, tmp_path: Path) -> None:
    """S48: what an unrelated process commits is seen at once here, and what is written here there."""
    put(store, 1)
    with spawned(tmp_path, 16 * MIB, 1) as write:
        write("one")
        assert note(store, "one") == b"\x00"
        put(store, 2)
        write("two")
        assert note(store, "two") == b"\x00"
    assert count(store) == 2


def test_a_larger_map_of_another_process_is_adopted(make: Callable[..., LmdbStore], tmp_path: Path) -> None:
    """After ``bytes_max`` was raised, processes with the old map read and write on beyond its end."""
    store = make(bytes_max=MIB)
    put(store, 1)
    with spawned(tmp_path, 16 * MIB, 2 * MIB) as write:
        write("one")
        assert store.read(key(1)).entry == entry()
        assert note(store, "one") == bytes(2 * MIB)
        write("two")
        with store.write() as transaction:
            transaction.remove(key(1))
        assert not holds(store, 1)


def test_a_reader_adopts_a_larger_map_too(make: Callable[..., LmdbStore], tmp_path: Path) -> None:
    """S50: a worker that only reads, started with the old ``bytes_max``, reads on and sees what lies beyond it."""
    writer = make(bytes_max=MIB)
    put(writer, 1)
    writer.close()
    reader = make(bytes_max=MIB, read_only=True)
    assert holds(reader, 1)
    with spawned(tmp_path, 16 * MIB, 2 * MIB) as write:
        write("one")
        assert reader.read(key(1)).entry == entry()
        assert note(reader, "one") == bytes(2 * MIB)


def test_reading_only_makes_and_changes_nothing(make: Callable[..., LmdbStore], tmp_path: Path) -> None:
    """S07: a reader without a store says that there is none; with one it sees what others write, and cannot write."""
    reader = make(read_only=True)
    with pytest.raises(errors.StoreError, match="no store"):
        reader.read(key(1))
    assert list(tmp_path.iterdir()) == []
    with spawned(tmp_path, 16 * MIB, 5) as write:
        write("one")
        assert note(reader, "one") == bytes(5)
        before = (tmp_path / "store.boot").stat().st_mtime_ns
        assert reader.now_ms() > 0
        with pytest.raises(errors.StoreError, match="reading only"):
            reader.write()
        write("two")
        assert note(reader, "two") == bytes(5)
    assert (tmp_path / "store.boot").stat().st_mtime_ns == before


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def test_a_process_killed_in_the_middle_of_a_transaction(store: LmdbStore) -> None:
    """S24: its transaction has not happened, the store passes its check, and others write on."""
    put(store, 1)

    def work(tell: Callable[[bytes], None], hear: Callable[[], bytes]) -> None:
        with store.write() as transaction:
            for n in range(64):
                transaction.put(key(n), entry(b"x" * 5_000))
            transaction.next_number()
            tell(b"x")
            hear()

    with forked(work) as (child, from_child, _):
        assert os.read(from_child, 1) == b"x"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert check(store).problems == ()
    assert count(store) == 1
    put(store, 2)
    with store.write() as transaction:
        assert transaction.next_number() == 1
    assert check(store).problems == ()


def test_a_process_killed_at_any_instant_of_many_transactions(store: LmdbStore) -> None:
    """S24: whatever it was doing, what it had committed before it said so is there, and the check passes."""

    def work(tell: Callable[[bytes], None], hear: Callable[[], bytes]) -> None:
        while True:
            with store.write() as transaction:
                number = transaction.next_number()
                transaction.put(key(number % 50), entry(b"x" * (number % 7_000), number=number))
                transaction.outbox_remove(
                    [row.number for row in transaction.outbox(0, 99) if row.key == key(number % 50)]
                )
                transaction.outbox_add(number, key(number % 50))
            tell(b"x")

    told = 0
    for wanted in (1, 2, 3, 50, 75, 100):
        with forked(work) as (child, from_child, _):
            for _ in range(wanted):
                assert os.read(from_child, 1) == b"x"
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            told += wanted
        assert check(store).problems == ()
        with store.view() as view:
            assert view.state.number >= told


def test_a_killed_readers_slot_is_freed(store: LmdbStore) -> None:
    """S24: a reader killed in its look-up would hold old pages for ever; tidying frees its slot."""
    put(store, 1)

    def work(tell: Callable[[bytes], None], hear: Callable[[], bytes]) -> None:
        with store.view():
            tell(b"x")
            hear()

    with forked(work) as (child, from_child, _):
        assert os.read(from_child, 1) == b"x"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert store.tidy_readers() == 1
    assert store.tidy_readers() == 0


# --- room ------------------------------------------------------------------------------------------------------------


def fill(store: LmdbStore, start: int = 0) -> int:
    number = start
    with pytest.raises(errors.StoreFull):
        while True:
            put(store, number, b"x" * 3_000)
            number += 1
    return number


def test_filling_and_emptying_does_not_use_the_map_up(make: Callable[..., LmdbStore], tmp_path: Path) -> None:
    """S50: five times filled and emptied: it takes about as much each time, is never reported full when it is empty,
    and the file stays within the map."""
    store = make(bytes_max=2 * MIB)
    first = fill(store)
    for _ in range(5):
        for number in range(first):
            with store.write() as transaction:
                transaction.remove(key(number))
        with store.write() as transaction:
            assert not transaction.is_nearly_full()
            assert transaction.counts().bytes_used < MIB // 4
        assert fill(store) >= first * 0.9
    assert (tmp_path / "store" / "data.mdb").stat().st_size <= 2 * MIB
    assert check(store).problems == ()


def test_a_full_store_names_itself_and_the_option(make: Callable[..., LmdbStore], tmp_path: Path) -> None:
    """S50: the message says which store, how large, and what to raise."""
    store = make(bytes_max=MIB)
    fill(store)
    with pytest.raises(errors.StoreFull, match=rf"{tmp_path}.*of {MIB} bytes.*bytes_max"):
        put(store, 10**6, b"x" * 3_000)


def test_one_entry_larger_than_the_room_left(make: Callable[..., LmdbStore]) -> None:
    """S50: LMDB itself runs out of pages in the middle of a transaction: the same error, and the store goes on."""
    store = make(bytes_max=MIB)
    put(store, 1)
    with pytest.raises(errors.StoreFull):
        put(store, 2, b"x" * (2 * MIB))
    assert holds(store, 1) and not holds(store, 2)
    put(store, 3)
    assert check(store).problems == ()


def test_a_smaller_bytes_max_keeps_what_is_there(make: Callable[..., LmdbStore]) -> None:
    """After ``bytes_max`` was lowered below what is stored, everything is read, can be removed, and nothing grows."""
    first = make(bytes_max=8 * MIB)
    last = fill(first)
    first.close()
    store = make(bytes_max=MIB)
    assert holds(store, 0) and holds(store, last - 1)
    with pytest.raises(errors.StoreFull):
        put(store, last, b"x" * 3_000)
    for number in range(last):
        with store.write() as transaction:
            transaction.remove(key(number))
    put(store, 1)
    assert check(store).problems == ()


def test_a_full_disk_is_an_error_and_reads_go_on(store: LmdbStore) -> None:
    """A file that may not grow is refused with a message that says so; the process lives, and writes on when it may."""
    put(store, 1)

    def work(tell: Callable[[bytes], None], hear: Callable[[], bytes]) -> None:
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        assert holds(store, 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, unlimited[1]))
        with pytest.raises(errors.StoreFull, match="disk"):
            put(store, 2, b"x" * (3 * MIB))
        assert holds(store, 1) and not holds(store, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        put(store, 2, b"x" * (3 * MIB))

    with forked(work) as (child, _, _):
        assert ended_well(child)
    assert holds(store, 2)
    assert check(store).problems == ()


# --- what is refused -------------------------------------------------------------------------------------------------


def other_format(store: LmdbStore, row: bytes, in_meta: bool) -> None:
    with store.write() as transaction:
        tables = transaction._tables  # type: ignore[attr-defined]
        db = tables.meta if in_meta else tables.entries
        raw = transaction._txn.get(row, db=db)  # type: ignore[attr-defined]
        transaction._txn.put(row, b"\x63" + raw[1:], db=db)  # type: ignore[attr-defined]


def test_a_store_of_another_format_is_refused(make: Callable[..., LmdbStore]) -> None:
    """S20: the error names both versions and what to do; nothing is changed or set aside."""
    first = make()
    put(first, 1)
    other_format(first, b"state", in_meta=True)
    first.close()
    store = make()
    with pytest.raises(errors.StoreFormatError, match=rf"version 99.*version {limits.FORMAT_VERSION}"):
        store.read(key(1))
    assert store.set_aside is None


def test_one_entry_of_another_format_does_not_harm_the_others(store: LmdbStore) -> None:
    """S19: only that entry is refused, and the check names it."""
    put(store, 1)
    put(store, 2)
    other_format(store, key(1), in_meta=False)
    with pytest.raises(errors.StoreFormatError, match="version 99"):
        store.read(key(1))
    assert holds(store, 2)
    assert any(key(1).hex() in problem and "version 99" in problem for problem in check(store).problems)


def test_a_file_that_is_no_store_is_named(tmp_path: Path, make: Callable[..., LmdbStore]) -> None:
    """The error says which file, why not, and what to do; the file is left as it is."""
    (tmp_path / "store").mkdir()
    data = tmp_path / "store" / "data.mdb"
    data.write_bytes(b"garbage" * 5_000)
    (tmp_path / "store.boot").write_text(f"{clock.boot_id()} cache")
    with pytest.raises(errors.StoreError, match=rf"{tmp_path}.*move that directory away"):
        make().read(key(1))
    assert data.read_bytes() == b"garbage" * 5_000


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands where the directory should be: the error names it."""
    (tmp_path / "file").write_text("")
    store = LmdbStore(tmp_path / "file" / "member", copies=1, forget_ms=1)
    with pytest.raises(errors.StoreError, match="member"):
        store.read(key(1))


def test_another_members_store_is_refused(make: Callable[..., LmdbStore]) -> None:
    """Two members in one directory would both be primary for everything."""
    first = make(member="a")
    put(first, 1)
    first.close()
    with pytest.raises(errors.DirectoryError, match=r"'a'.*'b'.*UNDERSTUDY_DIR"):
        make(member="b").read(key(1))
    assert holds(make(member=""), 1)
    assert holds(make(member="a"), 1)


# --- after a reboot --------------------------------------------------------------------------------------------------


def pretend_reboot(directory: Path) -> None:
    (directory / "store.boot").write_text("another-boot cache")


def test_a_whole_store_is_kept_after_a_reboot(make: Callable[..., LmdbStore], tmp_path: Path) -> None:
    """S35: it is verified, found whole, and used; the next process of this boot does not verify it again."""
    first = make()
    put(first, 1)
    first.close()
    pretend_reboot(tmp_path)
    store = make()
    assert holds(store, 1)
    assert store.set_aside is None
    assert (tmp_path / "store.boot").read_text() == f"{clock.boot_id()} cache"


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "not a store"])
def test_a_damaged_store_is_set_aside_after_an_unclean_boot(
    make: Callable[..., LmdbStore], tmp_path: Path, damage: str
) -> None:
    """A power loss may leave anything: the process lives, keeps the damaged store for people, begins with an empty
    one, and says where the old one is."""
    first = make()
    for number in range(200):
        put(first, number, b"x" * 500)
    first.close()
    data = tmp_path / "store" / "data.mdb"
    content = data.read_bytes()
    half = len(content) // 2
    data.write_bytes(
        {
            "truncated": content[:half],
            "overwritten": content[:half] + bytes(len(content) - half),
            "not a store": bytes(len(content)),
        }[damage]
    )
    pretend_reboot(tmp_path)
    with pytest.raises(errors.StoreError, match="unclean boot"):
        make(read_only=True).read(key(1))
    store = make()
    assert not holds(store, 1)
    assert store.set_aside == tmp_path / "store.damaged-1"
    assert (tmp_path / "store.damaged-1" / "data.mdb").stat().st_size > 0
    put(store, 1)
    assert make().read(key(1)).entry == entry()


def test_a_store_whose_rows_contradict_is_set_aside_after_an_unclean_boot(
    make: Callable[..., LmdbStore], tmp_path: Path
) -> None:
    """Pages of different ages may each be sound: then the entries and the indexes disagree."""
    first = make()
    put(first, 1)
    with first.write() as transaction:
        transaction.state.primary = 5  # type: ignore[attr-defined]
    first.close()
    (tmp_path / "store.damaged-1").mkdir()
    pretend_reboot(tmp_path)
    store = make()
    assert not holds(store, 1)
    assert store.set_aside == tmp_path / "store.damaged-2"


def test_a_store_written_through_to_the_disk_is_trusted(make: Callable[..., LmdbStore], tmp_path: Path) -> None:
    """With ``sync`` LMDB's own guarantee holds, and a reboot costs no verification."""
    first = make(sync=True)
    put(first, 1)
    with first.write() as transaction:
        transaction.state.primary = 5  # type: ignore[attr-defined]
    first.close()
    assert (tmp_path / "store.boot").read_text().endswith(" sync")
    (tmp_path / "store.boot").write_text("another-boot sync")
    store = make(sync=True)
    assert holds(store, 1)
    assert store.set_aside is None


def test_store_time_goes_on_after_a_reboot(make: Callable[..., LmdbStore]) -> None:
    """S47: the time away is added once, by the first process; readers that come before it agree with it."""
    first = make()
    with first.write() as transaction:
        state = transaction.state  # type: ignore[attr-defined]
        state.boot_id, state.offset_ms = "another-boot", 123
        state.store_ms, state.wall_ms = 10**9, clock.wall_ms() - 60_000
    first.close()
    reader = make(read_only=True)
    early_ms = reader.now_ms()
    assert 10**9 + 60_000 <= early_ms < 10**9 + 180_000
    writer = make()
    put(writer, 1)
    assert early_ms <= writer.now_ms() < 10**9 + 180_000
    again = make()
    assert writer.now_ms() <= again.now_ms() < 10**9 + 180_000


def test_store_time_is_recorded_with_writes(make: Callable[..., LmdbStore]) -> None:
    """A write after the recording interval records store time and wall time together; one within it does not."""
    store = make()
    put(store, 1)
    with store.write() as transaction:
        transaction.state.store_ms -= clock.RECORD_EVERY_MS  # type: ignore[attr-defined]
    put(store, 2)
    with store.view() as view:
        recorded = view.state.clock
    assert recorded.store_ms > store.now_ms() - clock.RECORD_EVERY_MS
    put(store, 3)
    with store.view() as view:
        assert view.state.clock == recorded
