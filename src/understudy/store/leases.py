"""The lease board: until when each peer has granted this member a lease, for workers to see without asking.

The agent writes, workers read, through one small file that all of them map into memory. A board that is missing,
empty or of another shape grants nothing: a worker then asks the agent.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from understudy import limits
from understudy.errors import StoreError

FILE_NAME = "leases"

_MAGIC = b"ustlease"
_NAME_BYTES = limits.MEMBER_NAME_CHARS_MAX + 8
"""With room for the mark of a read lease, and aligned."""
_READING = "+"
_SLOT_BYTES = _NAME_BYTES + 8
_SLOTS_AT = 8
_FILE_BYTES = _SLOTS_AT + limits.LEASE_SLOTS_MAX * _SLOT_BYTES
# An expiry is read and written as one aligned machine word, so that nobody sees half of one.
assert _SLOTS_AT % 8 == 0 and _SLOT_BYTES % 8 == 0, "the expiries on the lease board are not aligned"


def reading_row(name: str) -> str:
    """The row of a peer's read lease, beside that of its lease against successors. No member's name has that mark."""
    return name + _READING


class LeaseBoard:
    """Peer's name -> the instant, on the store clock, until which its lease runs.

    Guarantee: a name's expiry is never another name's. The writer changes a slot's name only between an expiry of 0
    and the new one; a reader takes the expiry first and compares the name after it.
    """

    def __init__(self, directory: Path, *, writable: bool = False) -> None:
        """Nothing is opened for a reader before the first look; the agent makes the file at once.

        Raises: StoreError when the agent cannot make it.
        """
        self._path = directory / FILE_NAME
        self._map: mmap.mmap | None = None
        self._words: memoryview | None = None
        self._slots: dict[str, int] = {}
        self._padded: dict[str, bytes] = {}
        if writable:
            self._open_for_writing()

    def until_ms(self, name: str) -> int:
        """The expiry of that peer's lease, 0 if it never granted one. Cost: well below 1 µs, no system call."""
        if self._words is None and not self._open_for_reading():
            return 0
        assert self._words is not None and self._map is not None
        offset = self._slots.get(name)
        if offset is not None:
            until_ms: int = self._words[(offset + _NAME_BYTES) >> 3]
            if self._map[offset : offset + _NAME_BYTES] == self._padded[name]:
                return until_ms
        return self._searched(name)

    def publish(self, name: str, until_ms: int) -> None:
        """Tell all workers of this member. For the agent only, on a writable board."""
        assert self._words is not None and self._map is not None, "the lease board was not opened for writing"
        offset = self._slots.get(name)
        if offset is None:
            offset = self._given_slot(name)
        self._words[(offset + _NAME_BYTES) >> 3] = until_ms

    def reset(self) -> None:
        """Take all leases off the board: a new life of the agent has none."""
        assert self._words is not None, "the lease board was not opened for writing"
        for offset in _OFFSETS:
            self._words[(offset + _NAME_BYTES) >> 3] = 0

    def close(self) -> None:
        if self._words is not None and self._map is not None:
            self._words.release()
            self._map.close()
        self._words = self._map = None

    def _searched(self, name: str) -> int:
        padded = self._pad(name)
        assert self._words is not None and self._map is not None
        for offset in _OFFSETS:
            until_ms: int = self._words[(offset + _NAME_BYTES) >> 3]
            if self._map[offset : offset + _NAME_BYTES] == padded:
                self._slots[name] = offset
                return until_ms
        return 0

    def _given_slot(self, name: str) -> int:
        """The name's slot: its old one, a free one, or that of the lease that lapsed longest ago."""
        self._searched(name)
        assert self._words is not None and self._map is not None
        if name not in self._slots:
            words = self._words
            free = bytes(_NAME_BYTES)
            at = min(_OFFSETS, key=lambda o: (self._name_at(o) != free, words[(o + _NAME_BYTES) >> 3]))
            self._slots = {known: offset for known, offset in self._slots.items() if offset != at}
            words[(at + _NAME_BYTES) >> 3] = 0
            self._map[at : at + _NAME_BYTES] = self._pad(name)
            self._slots[name] = at
        return self._slots[name]

    def _name_at(self, offset: int) -> bytes:
        assert self._map is not None
        return self._map[offset : offset + _NAME_BYTES]

    def _pad(self, name: str) -> bytes:
        padded = self._padded.get(name)
        if padded is None:
            padded = self._padded[name] = name.encode("ascii").ljust(_NAME_BYTES, b"\x00")
            assert len(padded) == _NAME_BYTES, "a member's name is longer than its slot on the lease board"
        return padded

    def _open_for_reading(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            if os.fstat(descriptor).st_size != _FILE_BYTES:
                return False
            mapped = mmap.mmap(descriptor, _FILE_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        except (OSError, ValueError):
            return False
        finally:
            os.close(descriptor)
        if mapped[: len(_MAGIC)] != _MAGIC:
            mapped.close()
            return False
        self._take(mapped)
        return True

    def _open_for_writing(self) -> None:
        # The same file in every life of the agent: workers that have it mapped must go on seeing what is written.
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if os.fstat(descriptor).st_size != _FILE_BYTES:
                    os.ftruncate(descriptor, 0)
                    # Written, not left sparse: on a full disk a later store into the map would end the process.
                    os.pwrite(descriptor, bytes(_FILE_BYTES), 0)
                mapped = mmap.mmap(descriptor, _FILE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(
                f"file {self._path} cannot be made ({error.strerror}); make room or mend its place"
            ) from error
        if mapped[: len(_MAGIC)] != _MAGIC:
            mapped[:] = bytes(_FILE_BYTES)
            mapped[: len(_MAGIC)] = _MAGIC
        self._take(mapped)

    def _take(self, mapped: mmap.mmap) -> None:
        self._map = mapped
        self._words = memoryview(mapped).cast("B").cast("Q")


_OFFSETS = tuple(range(_SLOTS_AT, _FILE_BYTES, _SLOT_BYTES))
