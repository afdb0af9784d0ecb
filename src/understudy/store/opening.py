"""Decides who may open a store first after a boot, and where a damaged one goes: the files beside the environment.

Without ``sync`` a power loss may leave pages of different ages in the store. So the first process of a boot verifies
the file before LMDB maps it (a file that is shorter than it says would end the process), while the others wait.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy import errors
from understudy.store import clock

_LOCK = "store.lock"
_BOOT = "store.boot"
_SYNC = "sync"
_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600


def environment(directory: Path) -> Path:
    """The directory that LMDB itself uses."""
    return directory / "store"


def data_file(directory: Path) -> Path:
    return environment(directory) / "data.mdb"


def make_directory(directory: Path) -> None:
    """Raises: StoreError when it cannot be made."""
    try:
        directory.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise errors.StoreError(f"the directory {directory} cannot be made: {error.strerror}") from error


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Only one process at a time opens, verifies or sets aside the store of ``directory``.

    Raises: StoreError when the lock file cannot be used.
    """
    path = directory / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    except OSError as error:
        raise errors.StoreError(f"{path} cannot be opened: {error.strerror}. Check the directory's owner") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Said and not left to close(): a child forked meanwhile by another thread shares the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def is_marked(directory: Path) -> bool:
    """True if this boot's first process has found the store whole, or had made it."""
    return _mark(directory)[0] == clock.boot_id()


def needs_verifying(directory: Path) -> bool:
    """True if the store was last written in another boot, and not always through to the disk."""
    try:
        if data_file(directory).stat().st_size == 0:
            return False
    except OSError:
        return False
    boot_id, how = _mark(directory)
    return how != _SYNC and boot_id != clock.boot_id()


def _mark(directory: Path) -> tuple[str, str]:
    """The boot that marked the store, and how it wrote; empty when nobody did."""
    try:
        boot_id, _, how = (directory / _BOOT).read_text().partition(" ")
    except (OSError, UnicodeDecodeError):
        return "", ""
    return boot_id, how


def mark_boot(directory: Path, sync: bool) -> None:
    """Remember that this boot's processes found the store whole. One that wrote without ``sync`` marks it so."""
    path = directory / _BOOT
    mark = (clock.boot_id(), _SYNC if sync else "cache")
    if _mark(directory) == mark:
        return
    new = directory / (_BOOT + ".new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
        with open(descriptor, "w") as file:
            file.write(" ".join(mark))
        new.replace(path)
    except OSError as error:
        raise errors.StoreError(f"{path} cannot be written: {error.strerror}") from error


def set_aside(directory: Path) -> Path:
    """Move the environment away, as ``store.damaged-<n>``; gives its new place."""
    n = 1
    while (aside := directory / f"store.damaged-{n}").exists():
        n += 1
    environment(directory).rename(aside)
    return aside
