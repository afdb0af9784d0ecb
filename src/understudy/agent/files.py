"""The agent's own files in the member's directory: the lock that makes it the only one, and who it is.

Whoever holds the lock is the agent; the kernel gives it up when the process ends, however it ends. The other files
are for people and tools and are never believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from understudy.config import SOCKET_NAME
from understudy.errors import DirectoryError

LOCK_NAME = "agent.lock"
PID_NAME = "agent.pid"
START_ERROR_NAME = "agent.error"
"""Why the last start failed, for the worker or the person that waits for an agent; removed by a start that succeeds."""


class AgentLock:
    """Held by the one agent of a member."""

    def __init__(self, descriptor: int, directory: Path) -> None:
        self._descriptor = descriptor
        self._directory = directory

    @classmethod
    def take(cls, directory: Path) -> AgentLock | None:
        """Gives the lock, or None if another process holds it. Raises: DirectoryError."""
        path = directory / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DirectoryError(
                f"file {path} cannot be opened ({error.strerror}); check its owner, or remove it when no agent runs"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(descriptor, directory)

    def sign(self) -> None:
        """Say which process holds it. Raises: OSError."""
        path = self._directory / PID_NAME
        new = path.with_name(PID_NAME + ".new")
        new.write_text(f"{os.getpid()}\n")
        new.replace(path)

    def release(self) -> None:
        """Remove what says that an agent is here, then let another one be it."""
        for name in (SOCKET_NAME, PID_NAME):
            with contextlib.suppress(OSError):
                (self._directory / name).unlink(missing_ok=True)
        os.close(self._descriptor)


def agent_pid(directory: Path) -> int | None:
    """The process that last signed; None if nobody has."""
    try:
        return int((directory / PID_NAME).read_text())
    except (OSError, ValueError):
        return None


def note_start_error(directory: Path, message: str) -> None:
    """Keep why a start failed."""
    with contextlib.suppress(OSError):
        (directory / START_ERROR_NAME).write_text(message + "\n")


def start_error(directory: Path) -> str | None:
    """Why the last start failed, or None if it did not."""
    try:
        return (directory / START_ERROR_NAME).read_text(errors="replace").strip() or None
    except OSError:
        return None


def forget_start_error(directory: Path) -> None:
    with contextlib.suppress(OSError):
        (directory / START_ERROR_NAME).unlink(missing_ok=True)
