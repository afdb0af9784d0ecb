"""The store in an LMDB environment, which all workers of a machine map into memory; the one file that knows LMDB.

Three rules of LMDB shape it. An environment is opened once in a process, so stores on one path share it. It must not
be used in a child of ``fork``, so each process opens its own on first use. A read transaction holds old pages, so
none outlives one look-up.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
from lmdb import _envid

from understudy import errors, limits
from understudy.model.entry import Key
from understudy.store import Reading, Transaction, clock, codec, opening
from understudy.store.codec import State
from understudy.store.remembered import Remembered
from understudy.store.tables import STATE, LmdbTransaction, Tables, reindex

_MODE = 0o700
_DATABASES_MAX = 16
_TRIES = 3
"""Of a read transaction that another thread's change of the map, or another process's, has made void."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""LMDB says "input/output error" when the disk took a part of a page's bytes, which is how a full one begins."""


class _Opened:
    """One environment in one process, shared by all store objects on its path."""

    __slots__ = ("env", "pid", "read_only", "references", "tables", "turn", "writing")

    def __init__(self, env: lmdb.Environment, tables: Tables, read_only: bool) -> None:
        self.env = env
        self.tables = tables
        self.read_only = read_only
        self.pid = os.getpid()
        self.references = 0
        self.turn = threading.Lock()
        """Held by the thread that writes: a thread that waits for LMDB's own lock cannot see that it is nested."""
        self.writing: int | None = None

    def begin(self, write: bool = False) -> lmdb.Transaction[bytes]:
        """A transaction, after adopting the larger map that another process may have set.

        Raises: lmdb.Error. The caller holds ``turn`` if it writes.
        """
        try:
            return self.env.begin(self.tables.entries, None, write)
        except lmdb.MapResizedError:
            if write:
                self.env.set_mapsize(0)
            else:
                with self.turn:
                    self.env.set_mapsize(0)
            return self.env.begin(self.tables.entries, None, write)

    def begin_writing(self) -> LmdbTransaction:
        """Raises: lmdb.Error, StoreError. The caller holds ``turn``."""
        transaction = self.begin(write=True)
        try:
            return LmdbTransaction(transaction, self.tables)
        except BaseException:
            transaction.abort()
            raise


class _Process:
    """The environments that one process has opened, by path."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.opened: dict[str, _Opened] = {}


_processes: dict[int, _Process] = {}
"""By process id. A child of ``fork`` finds its parent's here, and never touches them."""


def _this_process() -> _Process:
    found = _processes.get(os.getpid())
    if found is None:
        inherited = [opened for process in tuple(_processes.values()) for opened in tuple(process.opened.values())]
        if inherited:
            _leave_to_parent(inherited)
        found = _processes.setdefault(os.getpid(), _Process())
    return found


def _leave_to_parent(inherited: list[_Opened]) -> None:
    """Make sure that a child never closes its parent's environments, and may open its own.

    Closing would wait for threads that exist only in the parent, and would give up the child's own file locks with
    the inherited descriptors: so they are kept, also at the interpreter's end. py-lmdb's guard against opening a file
    twice in a process knows files only; the child's set of open files begins with its parent's.
    """
    import ctypes  # here, because few workers have a parent that had opened a store

    for opened in inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(opened.env))
    file_keys = _envid.env_keys

    def keys_of_process(path: Any, subdir: Any) -> tuple[Any, ...]:
        return tuple((os.getpid(), *key) for key in file_keys(path, subdir))  # type: ignore[no-untyped-call]  # private, and the only door

    _envid.env_keys = keys_of_process


class LmdbStore:
    """One member's entries on this machine.

    Args:
        directory: the member's directory; the environment is ``directory/store``.
        copies: backups that a primary should have; a primary with fewer counts as unprotected.
        forget_ms: life of a tombstone, and the longest time away that is believed after a reboot.
        bytes_max: size of the map.
        sync: write through to the disk at each commit; else the page cache serves.
        member: this member's name; "" does not ask whose store it is.
        read_only: never make, repair or write the store.

    Nothing is opened before first use, in each process. Raises at first use: StoreError (missing, unreadable,
    damaged), StoreFormatError, DirectoryError (another member's store).
    """

    def __init__(
        self,
        directory: Path,
        *,
        copies: int,
        forget_ms: int,
        bytes_max: int = limits.STORE_BYTES_MAX,
        sync: bool = False,
        member: str = "",
        read_only: bool = False,
    ) -> None:
        self._directory = directory
        self._copies = copies
        self._forget_ms = forget_ms
        self._bytes_max = bytes_max // mmap.PAGESIZE * mmap.PAGESIZE
        self._sync = sync
        self._member = member
        self._read_only = read_only
        self._opened: _Opened | None = None
        self._offset_ms: int | None = None
        self._remembered = Remembered()
        self._closed = False
        self.set_aside: Path | None = None
        """Where this object has put a store that was damaged in an unclean boot; what was in it is lost here."""

    def read(self, key: Key) -> Reading:
        """One look-up. Raises: StoreError. Cost: 1 µs, 4 µs for a new row of 1 kB; wakes nobody."""
        opened = self._opened
        if opened is None or opened.pid != os.getpid():
            opened = self._open()
        try:
            return self._remembered.look_up(opened.env.begin(opened.tables.entries), key, opened.tables.outbox)
        except lmdb.Error:
            return self._read_again(opened, key)

    def recall(self, key: Key) -> Reading:
        """What the last look-up gave, if it is remembered, but for whether it was settled. Cost: 0.2 µs."""
        return self._remembered.last(key) or self.read(key)

    def write(self) -> AbstractContextManager[Transaction]:
        """A write transaction; a commit that fails raises at the end of its block.

        Raises: StoreFull, StoreError; AssertionError when nested.
        """
        if self._read_only:
            raise errors.StoreError(f"the store {opening.environment(self._directory)} was opened for reading only")
        return _Writing(self._here())

    @contextmanager
    def view(self) -> Iterator[LmdbTransaction]:
        """Everything at one instant, for ``check`` and tools; while it lasts, pages that change are not used again."""
        opened = self._here()
        with _explaining(opened.env.path()):
            transaction = opened.begin()
            try:
                yield LmdbTransaction(transaction, opened.tables)
            finally:
                transaction.abort()

    def now_ms(self) -> int:
        """Store time. Raises: as at first use. Cost: 0.3 µs."""
        if self._offset_ms is None:
            self._here()
            if self._offset_ms is None:
                # Nobody has written since the reboot: what a reader works out is not to be kept.
                with self.view() as view:
                    return self._clock_offset(view.state, clock.now()) + clock.boot_ms()
        return clock.boot_ms() + self._offset_ms

    def tidy_readers(self) -> int:
        """Free the reader slots of killed processes; gives their number. Called about each second by the agent."""
        opened = self._here()
        with _explaining(opened.env.path()):
            return opened.env.reader_check()

    def close(self) -> None:
        """Give up this object's share of the environment; the last one in a process closes it."""
        opened, self._opened, self._closed = self._opened, None, True
        if opened is None or opened.pid != os.getpid():
            return
        process = _this_process()
        with process.lock:
            _release(process, opened)

    def _here(self) -> _Opened:
        opened = self._opened
        return opened if opened is not None and opened.pid == os.getpid() else self._open()

    def _read_again(self, opened: _Opened, key: Key) -> Reading:
        """The look-up, when the quick one failed: the map was changed by another process, or under our feet."""
        path = opened.env.path()
        with _explaining(path):
            for _ in range(_TRIES - 1):
                try:
                    return self._remembered.look_up(opened.begin(), key, opened.tables.outbox)
                except lmdb.Error:
                    continue
            return self._remembered.look_up(opened.begin(), key, opened.tables.outbox)

    def _open(self) -> _Opened:
        """This process's environment, opened if it is not yet; the store is made, verified and adapted on the way."""
        path = opening.environment(self._directory)
        if self._closed:
            raise errors.StoreError(f"the store {path} was closed by this process")
        process = _this_process()
        with process.lock:
            if self._opened is not None and self._opened.pid == os.getpid():
                return self._opened
            if self._read_only and not opening.data_file(self._directory).exists():
                raise errors.StoreError(f"there is no store at {path}: no member has run in this directory yet")
            if not self._read_only:
                opening.make_directory(self._directory)
            # Once this boot's first process has found the store whole, nobody waits for anybody.
            quick = opening.is_marked(self._directory)
            try:
                with _explaining(str(path)), nullcontext() if quick else opening.alone(self._directory):
                    opened = self._open_alone(process, os.path.realpath(path))
            except OSError as error:
                raise errors.StoreError(f"the store {path} cannot be opened: {error}. Check its owner") from error
            opened.references += 1
            self._opened = opened
            return opened

    def _open_alone(self, process: _Process, path: str) -> _Opened:
        doubtful = opening.needs_verifying(self._directory)
        if doubtful and (damage := self._damage_of_file()):
            self._put_away(process, path, damage)
        opened = process.opened.get(path)
        if opened is None:
            opened = self._environment(path)
        elif opened.read_only and not self._read_only:
            # Readers that are inside meanwhile fail, and look again.
            opened.env.close()
            writable = self._environment(path)
            opened.env, opened.tables, opened.read_only = writable.env, writable.tables, False
        try:
            self._prepare(opened)
            if doubtful and self.set_aside is None and (damage := _Unshared(opened).problems()):
                if opened.references == 0:
                    opened.env.close()
                self._put_away(process, path, damage)
                opened = self._environment(path)
                self._prepare(opened)
        except BaseException:
            if opened.references == 0:
                opened.env.close()
            raise
        if not self._read_only:
            opening.mark_boot(self._directory, self._sync)
        process.opened[path] = opened
        return opened

    def _environment(self, path: str) -> _Opened:
        """Open the file. A map smaller than the file, after ``bytes_max`` was lowered, would leave nothing to write
        with."""
        data = opening.data_file(self._directory)
        file_bytes = data.stat().st_size if data.exists() else 0
        env = lmdb.open(
            path,
            map_size=max(self._bytes_max, file_bytes // mmap.PAGESIZE * mmap.PAGESIZE + limits.STORE_RESERVE_BYTES_MIN),
            readonly=self._read_only,  # opening the tables for writing waits for the one who writes
            create=not self._read_only,
            sync=self._sync,
            metasync=self._sync,
            writemap=False,  # on a full disk it ends the process
            mode=_MODE,
            max_readers=limits.STORE_READERS_MAX,
            max_dbs=_DATABASES_MAX,
            max_spare_txns=0,  # a spare one would go astray in a fork
            lib_version=0,
        )
        try:
            tables = Tables(env, create=not self._read_only, bytes_max=self._bytes_max, map_full=lmdb.MapFullError)
            return _Opened(env, tables, self._read_only)
        except BaseException:
            env.close()
            raise

    def _prepare(self, opened: _Opened) -> None:
        """Make the store this release's, this member's, this boot's and this configuration's.

        Writes nothing when it is so already: a worker that starts does not wait for the one that writes.
        """
        now = clock.now()
        transaction = opened.begin()
        try:
            raw = transaction.get(STATE, db=opened.tables.meta)
            state = None if raw is None else codec.decode_state(raw)
        finally:
            transaction.abort()
        if state is not None and state.member and self._member and state.member != self._member:
            raise errors.DirectoryError(
                f"the store in {self._directory} belongs to the member {state.member!r}, and this is {self._member!r}: "
                "give each member its own directory (UNDERSTUDY_DIR)"
            )
        if state is None and self._read_only:
            raise errors.StoreError(f"there is no store in {self._directory} yet")
        if not self._read_only and (state is None or not self._fits(state, now)):
            with opened.turn:
                state = self._adapted(opened, now)
        assert state is not None
        if state.boot_id == now.boot_id:
            self._offset_ms = state.offset_ms

    def _fits(self, state: State, now: clock.Now) -> bool:
        return (
            state.boot_id == now.boot_id
            and (state.copies, state.forget_ms) == (self._copies, self._forget_ms)
            and state.member in (self._member or state.member,)
        )

    def _adapted(self, opened: _Opened, now: clock.Now) -> State:
        """Write what this process brings: a first row, a new boot, other copies. Cost: all entries in the last case."""
        transaction = opened.begin(write=True)
        try:
            raw = transaction.get(STATE, db=opened.tables.meta)
            state = State(self._copies, self._forget_ms) if raw is None else codec.decode_state(raw)
            before, after = (state.copies, state.forget_ms), (self._copies, self._forget_ms)
            if before != after:
                state.copies, state.forget_ms = after
                reindex(transaction, opened.tables, before, after)
            state.member = self._member or state.member
            if state.boot_id != now.boot_id:
                state.offset_ms = self._clock_offset(state, now)
                state.boot_id = now.boot_id
                state.store_ms, state.wall_ms = now.boot_ms + state.offset_ms, now.wall_ms
            transaction.put(STATE, codec.encode_state(state), db=opened.tables.meta)
            transaction.commit()
        except BaseException:
            transaction.abort()
            raise
        return state

    def _clock_offset(self, state: State, now: clock.Now) -> int:
        return clock.offset_ms(state.clock if state.boot_id else None, now, self._forget_ms)

    def _damage_of_file(self) -> list[str]:
        """What is wrong in the file's own structure. Cost: about 5 s for 1 GB, once in a boot."""
        # Here, because a boot's first process needs it, and hardly any other.
        from lmdb.verify import VerifyError, verify

        data = opening.data_file(self._directory)
        try:
            return list(verify(str(data), subdir=False))  # type: ignore[no-untyped-call]  # it has no stub
        except (VerifyError, OSError) as error:
            return [str(error)]

    def _put_away(self, process: _Process, path: str, damage: list[str]) -> None:
        """Set a damaged store aside, so that the member can start and take its sessions from its peers."""
        if self._read_only or path in process.opened:
            raise errors.StoreError(
                f"the store {path} was damaged in an unclean boot ({damage[0]}): start the member, which sets it "
                "aside and begins with an empty one"
            )
        self.set_aside = opening.set_aside(self._directory)


class _Unshared:
    """An environment that no store object has yet, for its first check."""

    def __init__(self, opened: _Opened) -> None:
        self._opened = opened

    def problems(self) -> list[str]:
        # Here, for the reason of ``_damage_of_file``.
        from understudy.store.check import check

        return list(check(self).problems)

    @contextmanager
    def view(self) -> Iterator[LmdbTransaction]:
        transaction = self._opened.begin()
        try:
            yield LmdbTransaction(transaction, self._opened.tables)
        finally:
            transaction.abort()


class _Writing:
    """The block of one write transaction."""

    __slots__ = ("_opened", "_transaction")

    def __init__(self, opened: _Opened) -> None:
        self._opened = opened

    def __enter__(self) -> LmdbTransaction:
        opened = self._opened
        me = threading.get_ident()
        assert opened.writing != me, "write transactions were nested"
        opened.turn.acquire()
        try:
            self._transaction = opened.begin_writing()
        except lmdb.Error as error:
            opened.turn.release()
            raise _explained(error, opened.env.path()) from error
        except BaseException:
            opened.turn.release()
            raise
        opened.writing = me
        return self._transaction

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened = self._opened
        try:
            if error is None:
                self._transaction.commit()
        except lmdb.Error as failure:
            raise _explained(failure, opened.env.path()) from failure
        finally:
            self._transaction.abort()  # does nothing after a commit
            opened.writing = None
            opened.turn.release()
        if isinstance(error, lmdb.Error):
            raise _explained(error, opened.env.path()) from error


def _release(process: _Process, opened: _Opened) -> None:
    opened.references -= 1
    if opened.references == 0:
        for path in [path for path, other in process.opened.items() if other is opened]:
            del process.opened[path]
        opened.env.close()


@contextmanager
def _explaining(path: str) -> Iterator[None]:
    """Turn LMDB's errors into ours."""
    try:
        yield
    except lmdb.Error as error:
        raise _explained(error, path) from error


def _explained(error: lmdb.Error, path: str) -> errors.StoreError:
    """An error that says what was wrong with which store, and what to do."""
    if isinstance(error, lmdb.MapFullError):
        return errors.StoreFull(
            f"the store {path} is full: no page is left. Raise bytes_max under [store], shorten idle_timeout, or "
            "store less in each session"
        )
    if error.code in _NO_ROOM:
        return errors.StoreFull(f"the disk of the store {path} is full or fails ({error}): make room on it")
    if isinstance(error, lmdb.NotFoundError):
        return errors.StoreError(f"there is no whole store at {path}: no member has made it yet")
    if isinstance(error, lmdb.ReadersFullError):
        return errors.StoreError(f"more than {limits.STORE_READERS_MAX} threads read the store {path} at once")
    if error.code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return errors.StoreError(f"the store {path} may not be opened: {error}. It belongs to another user")
    return errors.StoreError(
        f"the store {path} cannot be used: {error}. If no process can, stop the member and move that directory away: "
        "the member then begins with an empty store and takes its sessions from its peers"
    )
