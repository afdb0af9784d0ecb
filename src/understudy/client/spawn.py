"""Starts the member's agent when nobody has, once, and tells when it answers.

Of all workers that need the agent at the same moment one starts it, under a file lock; the others wait for its
socket. The agent holds ``agent.lock`` for its life, so that a second one, however started, ends at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.errors import AgentUnavailable

if TYPE_CHECKING:
    import subprocess

AGENT = ("-m", "understudy.agent", "--linger", "--detach", "--quiet")
START_LOCK = "start.lock"
OUTPUT = "agent.out"
REFUSAL = "agent.error"
"""Where an agent leaves why it did not start."""
POLL_S = 0.02
"""Between two looks whether the agent answers: it takes some 200 ms to start."""
START_AGAIN_S = 0.25
"""Between two starts: a port may be free, or a killed agent's lock given up, a moment later."""

_NO_AUTOSTART = (
    " and `autostart` is false; start it with `understudy agent`, or run the application under `understudy run -- …`"
)


class Starter:
    """Connects to the agent of one directory, starting it if need be.

    Args:
        autostart: False leaves that to ``understudy agent`` or ``understudy run``, and only waits for it.
        environ: what the agent is started with beside this process's own environment.
    """

    def __init__(
        self,
        socket_path: Path,
        *,
        autostart: bool,
        command: tuple[str, ...] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.socket_path = socket_path
        self._directory = socket_path.parent
        self._autostart = autostart
        self._command = command or (interpreter(), *AGENT)
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None
        """Kept, so that one that ended is waited for and leaves no zombie."""
        self._last_words = ""
        self._next_start_s = 0.0

    def connect(self, deadline_s: float) -> socket.socket:
        """A connected socket, before the monotonic instant ``deadline_s``. Raises: AgentUnavailable."""
        connected = self._try()
        while connected is None:
            if self._autostart:
                with _alone(self._directory / START_LOCK) as alone:
                    if alone:
                        return self._started(deadline_s)
            # Another process is starting it, or restarts the one that was killed.
            if time.monotonic() >= deadline_s:
                raise AgentUnavailable(
                    f"no agent answers at {self.socket_path}{'' if self._autostart else _NO_AUTOSTART}"
                )
            time.sleep(POLL_S)
            connected = self._try()
        return connected

    def _started(self, deadline_s: float) -> socket.socket:
        connected = self._try()
        while connected is None:
            self._maybe_start()
            if time.monotonic() >= deadline_s:
                raise AgentUnavailable(
                    f"no agent answers at {self.socket_path}, and a new one did not within `agent_timeout_ms`; what it"
                    f" said last: {self._last_words or 'nothing'} (see also {self._directory / 'agent.log'})"
                )
            time.sleep(POLL_S)
            connected = self._try()
        return connected

    def _try(self) -> socket.socket | None:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.connect(os.fspath(self.socket_path))
        except (ConnectionRefusedError, FileNotFoundError, BlockingIOError):
            found.close()
            return None
        except OSError as error:
            found.close()
            raise AgentUnavailable(f"the agent's socket {self.socket_path} cannot be used: {error.strerror}") from error
        return found

    def _maybe_start(self) -> None:
        """Start the agent unless it is starting or one runs already; after one that failed, with a pause."""
        import subprocess  # here, because one worker of a machine starts its agent, and the others none

        if self._process is not None:
            if self._process.poll() is None:
                return
            self._last_words = self._read_last_words()
            self._process = None
        if time.monotonic() < self._next_start_s or _is_held(self._directory / "agent.lock"):
            return
        self._next_start_s = time.monotonic() + START_AGAIN_S
        with open(self._directory / OUTPUT, "wb", opener=_private) as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                close_fds=True,
                # A session of its own: what ends the worker's terminal or process group does not end the agent.
                start_new_session=True,
                env={**os.environ, **self._environ},
            )

    def _read_last_words(self) -> str:
        for name in (REFUSAL, OUTPUT):
            with contextlib.suppress(OSError):
                text = (self._directory / name).read_text(errors="replace").strip()
                if text:
                    return text.splitlines()[-1][:500]
        return ""


def interpreter() -> str:
    """The Python that finds what this process finds. uWSGI's ``sys.executable`` is itself, or knows of no virtual
    environment; its ``sys.prefix`` is right.
    """
    scripts = Path(sys.prefix) / "bin"
    if Path(sys.executable).parent == scripts and Path(sys.executable).name.startswith("python"):
        return sys.executable
    names = (f"python{sys.version_info.major}.{sys.version_info.minor}", "python3")
    found = (str(scripts / name) for name in names if os.access(scripts / name, os.X_OK))
    return next(found, sys.executable)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """True while no other process holds the lock file; never waits."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    """True while a living agent holds its lock."""
    if not path.exists():
        return False
    with _alone(path) as alone:
        return not alone


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
