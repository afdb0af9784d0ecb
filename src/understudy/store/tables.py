"""One transaction of the LMDB store: which rows a change of an entry writes, in which tables.

It is given LMDB's objects and imports none of them, so it holds all of the store's decisions, and ``lmdb`` none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from understudy import errors, limits
from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Key
from understudy.store import Change, Counts, OutboxRow, Owner, clock, codec, rows
from understudy.store.codec import NO_ROW, Index

STATE = b"state"
_OWNER = b"owner"
_NOTE = b"note:"
_ASIDE = b"aside:"
"""With the key: the row of an entry that was set aside, as it was."""
_META_PAGES = 2
_ENTRIES = b"entries"
_OUTBOX = b"outbox"
_META = b"meta"
_LAST = b"\xff" * 17
"""Above every key, which has 16 bytes."""
PINNED_CHANGES_MIN = 64
"""A reader that is so many changes behind when the map is full is worth a word: each change frees some ten pages."""


class Tables:
    """The open tables of one environment, and how much room is left in it.

    Args:
        create: make the tables that are not there.
        bytes_max: size of the map, as configured.
        map_full: what LMDB raises when no page is left.
    """

    __slots__ = (
        "_full",
        "_unseen_bytes",
        "bytes_max",
        "entries",
        "env",
        "indexes",
        "main",
        "map_full",
        "meta",
        "outbox",
        "page_bytes",
    )

    def __init__(self, env: Any, *, create: bool, bytes_max: int, map_full: type[Exception]) -> None:
        self.env = env
        self.bytes_max = bytes_max
        self.map_full = map_full
        self.page_bytes = int(env.stat()["psize"])
        self.main = env.open_db(None)
        self.entries = env.open_db(_ENTRIES, create=create)
        self.outbox = env.open_db(_OUTBOX, create=create)
        self.meta = env.open_db(_META, create=create)
        self.indexes = tuple(env.open_db(_index_name(index), create=create) for index in Index)
        self._unseen_bytes = bytes_max
        self._full = False

    @property
    def all(self) -> tuple[Any, ...]:
        return (self.entries, self.outbox, self.meta, *self.indexes)

    def no_page(self) -> str:
        """Why LMDB has no page any more; a reader that stands still keeps all that were freed since it began."""
        text = f"no page of its {self.bytes_max} bytes is left"
        last = self.env.info()["last_txnid"]
        behind = last - min(_seen_by_readers(self.env.readers()), default=last)
        if behind < PINNED_CHANGES_MIN:
            return text
        return f"{text} (a process has been reading since {behind} changes ago: pages freed since then wait for it)"

    @property
    def bytes_hard(self) -> int:
        """Above this no entry grows and none is added."""
        return self.bytes_max - max(int(self.bytes_max * limits.STORE_RESERVE), limits.STORE_RESERVE_BYTES_MIN)

    @property
    def bytes_soft(self) -> int:
        return min(int(self.bytes_max * limits.STORE_SOFT_LIMIT), int(self.bytes_hard * 0.95))

    def bytes_used(self, transaction: Any) -> int:
        """Pages in use; those of the free list, and those the file never had, are room. Cost: one call a table."""
        stats = [transaction.stat(db) for db in (self.main, *self.all)]
        pages = _META_PAGES + sum(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"] for s in stats)
        return int(pages) * self.page_bytes

    def uses_more_than(self, transaction: Any, bytes_limit: int) -> bool:
        """True above the limit. Cost: one call while the file has never been that large."""
        if (self.env.info()["last_pgno"] + 1) * self.page_bytes <= bytes_limit:
            return False
        return self.bytes_used(transaction) > bytes_limit

    def refuses(self, transaction: Any, growth_bytes: int) -> bool:
        """True if the store is too full to grow. It looks again after each eighth of the reserve: growth by other
        processes in between is what the rest of the reserve is for."""
        self._unseen_bytes += growth_bytes
        if self._full or self._unseen_bytes * 8 > self.bytes_max - self.bytes_hard:
            self._unseen_bytes = 0
            self._full = self.uses_more_than(transaction, self.bytes_hard)
        return self._full


class LmdbTransaction:
    """What can be done in one transaction; ``LmdbStore`` begins it. Reading methods serve views too."""

    __slots__ = ("_failure", "_raw_state", "_tables", "_txn", "_wrote", "state")

    def __init__(self, txn: Any, tables: Tables) -> None:
        """Raises: StoreError, StoreFormatError."""
        self._txn = txn
        self._tables = tables
        self._wrote = False
        self._failure: errors.StoreFull | None = None
        self._raw_state = txn.get(STATE, db=tables.meta)
        if self._raw_state is None:
            raise errors.StoreError("the store has lost its row of counters: set its directory aside")
        self.state = codec.decode_state(self._raw_state)

    # --- entries ---------------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Entry | None:
        raw = self._txn.get(key)
        return None if raw is None else codec.decode_entry(raw)

    def put(self, key: Key, entry: Entry) -> None:
        raw = self._txn.get(key)
        self._replace(key, raw, None if raw is None else codec.decode_entry(raw), entry)

    def remove(self, key: Key) -> None:
        raw = self._txn.get(key)
        if raw is not None:
            self._replace(key, raw, codec.decode_entry(raw), None)

    def set_aside(self, key: Key) -> None:
        raw = self._txn.get(key)
        if raw is None:
            return
        self._wrote = True
        self._txn.put(_ASIDE + key, raw, db=self._tables.meta)
        try:
            self._replace(key, raw, codec.decode_entry(raw), None)
        except errors.StoreError:
            self._txn.delete(key)  # nobody knows its index rows and what it was counted as: the check will say so

    def change(self, key: Key, change: Change) -> tuple[Outcome, Entry | None]:
        raw = self._txn.get(key)
        old = None if raw is None else codec.decode_entry(raw)
        outcome, new = change(old)
        if new is not old:
            self._replace(key, raw, old, new)
        return outcome, new

    def _replace(self, key: Key, old_raw: bytes | None, old: Entry | None, new: Entry | None) -> None:
        """Write one entry and move its index rows and counters."""
        state, tables, txn = self.state, self._tables, self._txn
        self._wrote = True
        try:
            if new is None:
                txn.delete(key)
            else:
                raw = codec.encode_entry(new)
                growth_bytes = len(raw) - (len(old_raw) if old_raw is not None else 0)
                if growth_bytes > 0 and tables.refuses(txn, growth_bytes):
                    # Nothing is written yet: the other changes of this transaction go on.
                    raise self._full(f"it has used {tables.bytes_used(txn)} of {tables.bytes_max} bytes")
                txn.put(key, raw)
        except tables.map_full:
            self._fail(tables.no_page())
        before = NO_ROW if old is None else rows(old, state.copies, state.forget_ms)
        after = NO_ROW if new is None else rows(new, state.copies, state.forget_ms)
        if before != after:
            self._move(*codec.moved_rows(key, before, after))
        if old is None or new is None or old.role is not new.role or old.ended is not new.ended:
            state.count(key, old, -1)
            state.count(key, new, 1)

    def _move(self, gone: list[codec.IndexRow], new: list[codec.IndexRow]) -> None:
        indexes, txn = self._tables.indexes, self._txn
        try:
            for index, row in gone:
                txn.delete(row, db=indexes[index])
            for index, row in new:
                txn.put(row, b"", db=indexes[index])
        except self._tables.map_full:
            self._fail(self._tables.no_page())

    def _fail(self, cause: str) -> None:
        """Raises: StoreFull, here and once more at the end of the block if it is caught inside."""
        self._failure = self._full(cause)
        raise self._failure

    def _full(self, cause: str) -> errors.StoreFull:
        return errors.StoreFull(
            f"the store {self._tables.env.path()} is full: {cause}. Raise bytes_max under [store], "
            "shorten idle_timeout, or store less in each session"
        )

    # --- numbers and the outbox ------------------------------------------------------------------------------------

    def next_number(self) -> int:
        self.state.number += 1
        return self.state.number

    def outbox_add(self, number: int, key: Key) -> None:
        self._wrote = True
        try:
            self._txn.put(codec.number_row(number), codec.outbox_value(key, False), db=self._tables.outbox)
        except self._tables.map_full:
            self._fail(self._tables.no_page())

    def outbox_remove(self, numbers: Iterable[int]) -> None:
        self._wrote = True
        for number in numbers:
            self._txn.delete(codec.number_row(number), db=self._tables.outbox)

    def outbox_mark(self, numbers: Iterable[int]) -> None:
        self._wrote = True
        for number in numbers:
            row = codec.number_row(number)
            value = self._txn.get(row, db=self._tables.outbox)
            if value is not None:
                key = codec.outbox_row(row, value).key
                self._txn.put(row, codec.outbox_value(key, True), db=self._tables.outbox)

    def outbox(self, after: int, limit: int) -> list[OutboxRow]:
        start = codec.number_row(after + 1)
        return [codec.outbox_row(*item) for item in self._scan(self._tables.outbox, start, limit)]

    # --- lists of keys ---------------------------------------------------------------------------------------------

    def keys(self, after: Key | None, limit: int) -> list[Key]:
        return [key for key, _ in self._scan(self._tables.entries, _above(after), limit, values=False)]

    def keys_of(self, member: str, after: Key | None, limit: int) -> list[Key]:
        prefix = codec.member_row(member)
        return self._keys_in(Index.MEMBERS, prefix + _above(after), prefix + _LAST, limit)

    def keys_lacking(self, after: Key | None, limit: int) -> list[Key]:
        return self._keys_in(Index.LACKING, _above(after), None, limit)

    def keys_due(self, now_ms: int, limit: int) -> list[Key]:
        return self._keys_in(Index.DUE, b"", codec.due_row(now_ms + 1), limit)

    def _keys_in(self, index: Index, start: bytes, end: bytes | None, limit: int) -> list[Key]:
        found = self._scan(self._tables.indexes[index], start, limit, values=False)
        return [codec.key_of_row(index, row) for row, _ in found if end is None or row < end]

    def _scan(self, db: Any, start: bytes, limit: int, values: bool = True) -> list[tuple[bytes, bytes]]:
        """Up to ``limit`` rows from ``start`` on, in order."""
        cursor = self._txn.cursor(db)
        found: list[tuple[bytes, bytes]] = []
        more = limit > 0 and (cursor.set_range(start) if start else cursor.first())
        while more:
            found.append(cursor.item() if values else (cursor.key(), b""))
            more = len(found) < limit and cursor.next()
        cursor.close()
        return found

    # --- the member ------------------------------------------------------------------------------------------------

    def counts(self) -> Counts:
        state, tables = self.state, self._tables
        return Counts(
            primary=state.primary,
            backup=state.backup,
            proxy=state.proxy,
            ended=state.ended,
            unprotected=self.index_count(Index.LACKING),
            outbox=self._txn.stat(tables.outbox)["entries"],
            quarantined=sum(1 for _ in self.quarantined()),
            bytes_used=tables.bytes_used(self._txn),
            bytes_max=tables.bytes_max,
        )

    def is_nearly_full(self) -> bool:
        return self._tables.uses_more_than(self._txn, self._tables.bytes_soft)

    def owner(self) -> Owner | None:
        raw = self._txn.get(_OWNER, db=self._tables.meta)
        return None if raw is None else codec.decode_owner(raw)

    def set_owner(self, owner: Owner | None) -> None:
        self._wrote = True
        if owner is None:
            self._txn.delete(_OWNER, db=self._tables.meta)
        else:
            self._txn.put(_OWNER, codec.encode_owner(owner), db=self._tables.meta)

    def note(self, name: str) -> bytes | None:
        raw: bytes | None = self._txn.get(_NOTE + name.encode(), db=self._tables.meta)
        return raw

    def set_note(self, name: str, value: bytes) -> None:
        self._wrote = True
        self._txn.put(_NOTE + name.encode(), value, db=self._tables.meta)

    # --- everything, for the check ---------------------------------------------------------------------------------

    def entries(self) -> Iterator[tuple[Key, Entry | errors.StoreError]]:
        for key, raw in self._txn.cursor(self._tables.entries):
            try:
                yield key, codec.decode_entry(raw)
            except errors.StoreError as error:
                yield key, error

    def index(self, index: Index) -> Iterator[bytes]:
        yield from self._txn.cursor(self._tables.indexes[index]).iternext(values=False)

    def named(self) -> list[str]:
        """The members that live entries name, in order."""
        names: list[str] = []
        start = b""
        while found := self._scan(self._tables.indexes[Index.MEMBERS], start, 1, values=False):
            names.append(codec.member_of_row(found[0][0]))
            start = codec.after_member(names[-1])
        return names

    def index_count(self, index: Index) -> int:
        return int(self._txn.stat(self._tables.indexes[index])["entries"])

    def in_index(self, index: Index, row: bytes) -> bool:
        return self._txn.get(row, db=self._tables.indexes[index]) is not None

    def quarantined(self) -> Iterator[tuple[Key, bytes]]:
        cursor = self._txn.cursor(self._tables.meta)
        more = cursor.set_range(_ASIDE)
        while more and cursor.key().startswith(_ASIDE):
            yield cursor.key()[len(_ASIDE) :], cursor.value()
            more = cursor.next()

    def strays(self) -> Iterator[str]:
        known = {_ENTRIES, _OUTBOX, _META, *(_index_name(index) for index in Index)}
        for name in self._txn.cursor(self._tables.main).iternext(values=False):
            if name not in known:
                yield f"there is a table {name!r}, which this release does not write"
        for name in self._txn.cursor(self._tables.meta).iternext(values=False):
            if name not in (STATE, _OWNER) and not name.startswith((_NOTE, _ASIDE)):
                yield f"the table of notes has a row {name!r}, which this release does not write"

    # --- its end ---------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Raises: StoreFull, also if an operation did and the block went on; what LMDB raises."""
        if self._failure is not None:
            raise self._failure
        state = self.state
        if self._wrote:
            now_ms = clock.boot_ms() + state.offset_ms
            if now_ms - state.store_ms >= clock.RECORD_EVERY_MS:
                state.store_ms, state.wall_ms = now_ms, clock.wall_ms()
        raw = codec.encode_state(state)
        try:
            if raw != self._raw_state:
                self._txn.put(STATE, raw, db=self._tables.meta)
            self._txn.commit()
        except self._tables.map_full as error:
            raise self._full(self._tables.no_page()) from error

    def abort(self) -> None:
        self._txn.abort()


def reindex(txn: Any, tables: Tables, before: tuple[int, int], after: tuple[int, int]) -> None:
    """Move the index rows that other copies or another ``forget_ms`` (``after``, ``before``) list otherwise.

    Most entries keep all their rows: other copies move only the list of what lacks some, another ``forget_ms`` only the
    ends of tombstones. Cost: decodes every entry, about 10 µs each with its rows.
    """
    for key, raw in txn.cursor(tables.entries):
        entry = codec.decode_entry(raw)
        gone, come = codec.moved_rows(key, rows(entry, *before), rows(entry, *after))
        for index, row in gone:
            txn.delete(row, db=tables.indexes[index])
        for index, row in come:
            txn.put(row, b"", db=tables.indexes[index])


def _seen_by_readers(table: str) -> Iterator[int]:
    """Of each look-up that is under way, the last change that it sees; ``table`` is LMDB's: pid, thread, change."""
    for line in table.splitlines()[1:]:
        *_, seen = line.split() or ("-",)
        if seen.isdecimal():
            yield int(seen)


def _index_name(index: Index) -> bytes:
    return index.name.lower().encode()


def _above(key: Key | None) -> bytes:
    """The first row after ``key``'s."""
    return b"" if key is None else key + b"\x00"
