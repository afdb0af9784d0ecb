"""Gives the bytes of every row in a store: entries, index rows, the outbox, and the one row of counters.

Rows sort as bytes, so that both stores list them alike. Values begin with the format version: a store written in
another one is refused, never guessed at.
"""

from __future__ import annotations

import enum

import msgspec

from understudy import errors, limits
from understudy.model.entry import Entry, Key, Role, names_session
from understudy.store import OutboxRow, Owner, Row
from understudy.store.clock import Recorded

FORMAT = bytes([limits.FORMAT_VERSION])
NO_ROW = Row((), False, None)
_NUMBER_BYTES = 8
_SEPARATOR = b"\x00"
_MARKED = b"\x01"
_UNMARKED = b"\x00"
_ENCODER = msgspec.msgpack.Encoder()
_ENTRY_DECODER = msgspec.msgpack.Decoder(Entry)


class Index(enum.IntEnum):
    """The ordered sets of rows that are functions of the entries."""

    MEMBERS = 0
    """Member's name, zero, key."""
    LACKING = 1
    """Key."""
    DUE = 2
    """Deadline, 8 bytes, and key."""


class State(msgspec.Struct, array_like=True):
    """The one row that every write transaction reads first and writes last, if it changed."""

    copies: int
    forget_ms: int
    """With these two the index rows were made: they hold for every process, whatever it was started with."""
    member: str = ""
    number: int = 0
    """The last commit number that was given."""
    primary: int = 0
    backup: int = 0
    proxy: int = 0
    ended: int = 0
    boot_id: str = ""
    offset_ms: int = 0
    store_ms: int = 0
    wall_ms: int = 0

    @property
    def clock(self) -> Recorded:
        return Recorded(self.boot_id, self.offset_ms, self.store_ms, self.wall_ms)

    def count(self, key: Key, entry: Entry | None, by: int) -> None:
        """Add ``by`` to the counter of what ``entry`` is; only sessions are counted."""
        if entry is None or not names_session(key):
            return
        if entry.ended_ms:
            self.ended += by
        elif entry.role is Role.PRIMARY:
            self.primary += by
        elif entry.role is Role.BACKUP:
            self.backup += by
        else:
            self.proxy += by


_STATE_DECODER = msgspec.msgpack.Decoder(State)
_OWNER_DECODER = msgspec.msgpack.Decoder(Owner)


def encode_entry(entry: Entry) -> bytes:
    """The row of an entry. A proxy's, of which a member holds most, ends where nothing more is in it."""
    if entry.role is Role.PROXY:
        place = (entry.role, entry.primary, entry.backups, entry.epoch)
        if entry == Entry(*place):
            return FORMAT + _ENCODER.encode(place)
    return FORMAT + _ENCODER.encode(entry)


def decode_entry(raw: bytes) -> Entry:
    """Raises: StoreFormatError for another format version, StoreError for bytes that are no entry."""
    if raw[:1] == FORMAT:
        try:
            return _ENTRY_DECODER.decode(raw[1:])
        except msgspec.DecodeError as error:
            raise errors.StoreError(f"an entry of the store cannot be decoded: {error}") from error
    raise _refused("an entry", raw)


def encode_state(state: State) -> bytes:
    return FORMAT + _ENCODER.encode(state)


def decode_state(raw: bytes) -> State:
    """Raises: StoreFormatError, StoreError."""
    if raw[:1] != FORMAT:
        raise _refused("the store", raw)
    try:
        return _STATE_DECODER.decode(raw[1:])
    except msgspec.DecodeError as error:
        raise errors.StoreError(f"the store's row of counters cannot be decoded: {error}") from error


def encode_owner(owner: Owner) -> bytes:
    return FORMAT + _ENCODER.encode(owner)


def decode_owner(raw: bytes) -> Owner:
    if raw[:1] != FORMAT:
        raise _refused("the store's owner", raw)
    try:
        return _OWNER_DECODER.decode(raw[1:])
    except msgspec.DecodeError as error:
        raise errors.StoreError(f"the store's row of its owner cannot be decoded: {error}") from error


def number_row(number: int) -> bytes:
    """Row of the outbox: its order is the order of the numbers."""
    return number.to_bytes(_NUMBER_BYTES, "big")


def outbox_value(key: Key, marked: bool) -> bytes:
    return (_MARKED if marked else _UNMARKED) + key


def outbox_row(row: bytes, value: bytes) -> OutboxRow:
    return OutboxRow(int.from_bytes(row, "big"), value[1:], value[:1] == _MARKED)


def member_row(member: str, key: Key = b"") -> bytes:
    return member.encode() + _SEPARATOR + key


def member_of_row(row: bytes) -> str:
    """The name in a row of the members' index."""
    return row.partition(_SEPARATOR)[0].decode()


def after_member(member: str) -> bytes:
    """The first row that a later name could have."""
    return member.encode() + b"\x01"


def due_row(deadline_ms: int, key: Key = b"") -> bytes:
    """Row of the deadline index; instants outside 64 bits sort at its ends."""
    return min(max(deadline_ms, 0), (1 << 64) - 1).to_bytes(_NUMBER_BYTES, "big") + key


def key_of_row(index: Index, row: bytes) -> Key:
    """The key at the end of an index row."""
    if index is Index.MEMBERS:
        return row.partition(_SEPARATOR)[2]
    return row[_NUMBER_BYTES:] if index is Index.DUE else row


IndexRow = tuple[Index, bytes]
"""One row of one index."""


def index_rows(key: Key, row: Row) -> set[IndexRow]:
    """All index rows of one entry."""
    found = {(Index.MEMBERS, member_row(member, key)) for member in row.members}
    if row.lacking:
        found.add((Index.LACKING, key))
    if row.deadline_ms is not None:
        found.add((Index.DUE, due_row(row.deadline_ms, key)))
    return found


def moved_rows(key: Key, before: Row, after: Row) -> tuple[list[IndexRow], list[IndexRow]]:
    """The index rows to take away and those to add when an entry's rows change. Only the difference is built: most
    changes move one deadline."""
    gone: list[IndexRow] = []
    new: list[IndexRow] = []
    if before.members != after.members:
        gone += [(Index.MEMBERS, member_row(m, key)) for m in before.members if m not in after.members]
        new += [(Index.MEMBERS, member_row(m, key)) for m in after.members if m not in before.members]
    if before.lacking is not after.lacking:
        (gone if before.lacking else new).append((Index.LACKING, key))
    if before.deadline_ms != after.deadline_ms:
        if before.deadline_ms is not None:
            gone.append((Index.DUE, due_row(before.deadline_ms, key)))
        if after.deadline_ms is not None:
            new.append((Index.DUE, due_row(after.deadline_ms, key)))
    return gone, new


def _refused(what: str, raw: bytes) -> errors.StoreFormatError:
    found = str(raw[0]) if raw else "none"
    return errors.StoreFormatError(
        f"{what} was written in format version {found}, and this release reads version {limits.FORMAT_VERSION}: "
        "use the release that wrote it, or move the store's directory away to begin with an empty one"
    )
