"""Gives each kind of Python web server, with the sessions application, as one process to start, end and kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.patience import PATIENCE_S, PATIENT
from tests.system.cluster import free_ports, processes

from understudy.agent.control import ask
from understudy.agent.takeover import open_store
from understudy.config import load
from understudy.demo.cluster import answers
from understudy.errors import AgentUnavailable
from understudy.store.check import check

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
SCRIPTS = Path(sys.executable).parent
POLL_S = 0.01

WSGI, ASGI = "sessions_app:app", "sessions_asgi:app"
WARM = "SESSIONS_APP_WARM"
"""The variable that has ``sessions_app`` use a session while it is imported."""


class Kind(NamedTuple):
    """One way to serve. ``command`` may use {port}; ``workers``: processes that serve."""

    name: str
    command: tuple[str, ...]
    workers: int = 2
    is_warm: bool = False
    """The application uses a session while it is imported: in the process from which the workers are then forked."""
    recycles: bool = False


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


def gunicorn(*arguments: str, application: str = WSGI, workers: int = 2) -> tuple[str, ...]:
    """Its command with these arguments."""
    # Its control socket has a default place that all gunicorns of one user share.
    common = ("--no-control-socket", "--workers", str(workers), "--graceful-timeout", "10")
    return _python("gunicorn", *common, "--bind", "127.0.0.1:{port}", *arguments, application)


def _uvicorn(workers: int) -> tuple[str, ...]:
    return _python("uvicorn", "--port", "{port}", "--workers", str(workers), "--log-level", "warning", ASGI)


def _granian(interface: str, application: str) -> tuple[str, ...]:
    # Its WSGI workers do not always notice a SIGTERM under load, and nothing ends them then unless it is told to.
    common = ("--workers", "2", "--workers-kill-timeout", "5s", "--port", "{port}")
    return _python("granian", "--interface", interface, *common, application)


def _uwsgi(*arguments: str) -> tuple[str, ...]:
    common = ("--http-socket", "127.0.0.1:{port}", "--master", "--processes", "2", "--need-app", "--die-on-term")
    return (str(SCRIPTS / "uwsgi"), *common, *arguments, "--module", WSGI)


KINDS = (
    Kind("gunicorn sync", gunicorn()),
    Kind("gunicorn gthread", gunicorn("-k", "gthread", "--threads", "4")),
    Kind("gunicorn gevent", gunicorn("-k", "gevent")),
    Kind("gunicorn asgi", gunicorn("-k", "asgi", application=ASGI)),
    Kind("gunicorn preload", gunicorn("--preload", "-k", "gthread", "--threads", "4")),
    Kind("gunicorn preload, warm", gunicorn("--preload", "-k", "gthread", "--threads", "4"), is_warm=True),
    Kind("gunicorn max-requests", gunicorn("-k", "gthread", "--max-requests", "10"), recycles=True),
    Kind("uvicorn", _uvicorn(1), workers=1),
    Kind("uvicorn workers", _uvicorn(2)),
    Kind("hypercorn", _python("hypercorn", "--bind", "127.0.0.1:{port}", "--workers", "2", ASGI)),
    Kind("granian wsgi", _granian("wsgi", WSGI)),
    Kind("granian asgi", _granian("asgi", ASGI)),
    Kind("uwsgi prefork", _uwsgi()),
    Kind("uwsgi prefork, warm", _uwsgi(), is_warm=True),
    Kind("uwsgi lazy", _uwsgi("--lazy-apps")),
    Kind("waitress", _python("waitress", "--listen=127.0.0.1:{port}", WSGI), workers=1),
)

CONCURRENT = (
    Kind("threads", gunicorn("-k", "gthread", "--threads", "8", workers=1), workers=1),
    Kind("greenlets", gunicorn("-k", "gevent", workers=1), workers=1),
    Kind("asyncio", _uvicorn(1), workers=1),
)
"""One process each, that serves several requests at once."""


class Server:
    """One member's web server, in a directory of its own; with ``supervised`` below ``understudy run``."""

    def __init__(
        self, directory: Path, kind: Kind, environment: Mapping[str, str] | None = None, *, supervised: bool = False
    ) -> None:
        directory.mkdir(mode=0o700)
        self.kind = kind
        self.directory = directory
        self.member = directory / "m"
        self.port = free_ports(1)[0]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("UNDERSTUDY_", "GUNICORN_"))}
        paths = [str(SOURCE), str(HERE), *filter(None, [inherited.get("PYTHONPATH")])]
        self.environment = {
            **inherited,
            "HOME": str(directory),
            "PYTHONPATH": os.pathsep.join(paths),
            "UNDERSTUDY_DIR": str(self.member),
            "UNDERSTUDY_MEMBER": directory.name,
            "UNDERSTUDY_PROTECTED_HEADER": "true",
            **({WARM: "1"} if kind.is_warm else {}),
            **PATIENT,
            **(environment or {}),
        }
        run = _python("understudy", "run", "--") if supervised else ()
        self._command = [*run, *(part.format(port=self.port) for part in kind.command)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "out").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.wait(lambda: answers(self.port), "the server answers")

    def terminate(self) -> None:
        """As a deployment ends it; does not wait."""
        assert self._process is not None
        self._process.terminate()

    def wait_for_end(self) -> None:
        assert self._process is not None
        self._process.wait(PATIENCE_S)
        self.wait(lambda: not answers(self.port), "nobody serves any more")

    def kill(self) -> None:
        """Every process at one moment, in the middle of whatever it does; the agent, too."""
        processes.kill(self.member)
        if self._process is not None:
            self._process.wait(PATIENCE_S)

    def children(self) -> list[int]:
        """The processes that the server has started and that live: gunicorn's workers."""
        assert self._process is not None
        return processes.children(self._process.pid)

    def agent(self) -> dict[str, Any]:
        """What the agent says; nothing if none runs."""
        try:
            return ask(self.member, "status", timeout_s=PATIENCE_S)
        except AgentUnavailable:
            return {}

    def sees(self, other: str) -> bool:
        """Both are ready, as far as this one knows."""
        told = self.agent()
        return bool(told.get("ready")) and any(
            one["name"] == other and one["standing"] == "alive" and one["ready"] for one in told["members"]
        )

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {what}\n{self.output()}"
            time.sleep(POLL_S)

    def output(self) -> str:
        log = self.member / "agent.log"
        return (self.directory / "out").read_text()[-6000:] + (log.read_text()[-3000:] if log.exists() else "")

    def check(self) -> None:
        """The store passes its check."""
        store = open_store(load(environ=self.environment, cwd=self.directory), self.member, read_only=True)
        try:
            assert list(check(store).problems) == []
        finally:
            store.close()
