"""Gives the processes of one member, and ends or pauses all of them at once, as the loss of a machine would.

Every process of a member inherits ``UNDERSTUDY_DIR``, which no other member has: the application's server and its
workers, the agent, whoever started it, and what a worker has started a moment ago. So they are found by their
environment, in ``/proc``, whatever process group or session they have moved to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc")
VARIABLE = b"UNDERSTUDY_DIR="
END_S_MAX = 10.0
"""A killed process that is still there after so long hangs in the kernel: nobody can end it."""
LOOK_AGAIN_S = 0.005
THREADS_FIELD = 17
"""Where ``/proc/PID/stat`` has the number of threads, counted from the state."""


def is_supported() -> bool:
    """True where processes can be found by their environment."""
    return (PROC / "self" / "environ").exists()


def of_member(directory: Path) -> list[int]:
    """Gives the ids of all living processes of the member with this directory, oldest first.

    Cost: reads one small file for each process of the machine.
    """
    wanted = VARIABLE + os.fsencode(directory)
    return [pid for pid in _all() if wanted in _environment(pid)]


def below(base: Path) -> list[int]:
    """Gives the ids of all living processes of members whose directory is inside ``base``."""
    wanted = VARIABLE + os.fsencode(base) + b"/"
    return [pid for pid in _all() if any(value.startswith(wanted) for value in _environment(pid))]


def children(pid: int) -> list[int]:
    """Gives the ids of the process's living children."""
    return [child for child in _all() if _parent(child) == pid]


def is_running(pid: int) -> bool:
    """False when the process has ended with all its threads, also when nobody has collected it yet."""
    return _parent(pid) is not None


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def pause(directory: Path) -> None:
    """Stops every process of the member where it stands, until ``resume``."""
    stopped: set[int] = set()
    # Again until nobody new is there: one that is being born while we look belongs to the machine, too.
    while new := set(of_member(directory)) - stopped:
        for pid in new:
            send(pid, signal.SIGSTOP)
        stopped |= new


def resume(directory: Path) -> None:
    """Lets a paused member go on."""
    for pid in of_member(directory):
        send(pid, signal.SIGCONT)


def kill(directory: Path) -> float:
    """Ends every process of the member with SIGKILL; gives the monotonic instant, in seconds, at which none ran on.

    They are stopped first, so that none sees another one's end and reacts to it: a machine dies all at once.
    Raises: TimeoutError when one cannot be ended.
    """
    pause(directory)
    died_s = time.monotonic()
    _kill(lambda: of_member(directory), str(directory))
    return died_s


def kill_below(base: Path) -> None:
    """Ends every process of all members inside ``base``. Raises: TimeoutError."""
    _kill(lambda: below(base), str(base))


def _kill(find: Callable[[], list[int]], where: str) -> None:
    deadline_s = time.monotonic() + END_S_MAX
    killed: set[int] = set()
    # Who ends lets go of its memory, where we find it, a moment before its sockets: until then it still accepts.
    while (pids := find()) or any(map(is_running, killed)):
        for pid in pids:
            send(pid, signal.SIGKILL)
        killed.update(pids)
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"processes {sorted(killed)} of {where} cannot be ended")
        time.sleep(LOOK_AGAIN_S)


def _all() -> list[int]:
    return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())


def _environment(pid: int) -> list[bytes]:
    """Empty for a process that has ended or is another user's."""
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _parent(pid: int) -> int | None:
    """None for a process that has ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything; state and parent follow the last one.
    fields = text.rpartition(")")[2].split()
    # The first thread may end before the others, and as long as one of them is there the sockets are open.
    has_ended = fields[0] in "ZX" and int(fields[THREADS_FIELD]) <= 1
    return None if has_ended else int(fields[1])
