"""``understudy doctor``: every setting and where it came from, where things are, and what stands in the way."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from understudy import limits
from understudy.agent import files
from understudy.agent.control import ask
from understudy.agent.status import own_version
from understudy.cli.show import different, table
from understudy.config import (
    OPTIONS,
    SOCKET_NAME,
    Address,
    Config,
    load,
    member_directory,
    open_directory,
    secret_origin,
    shown,
    unknown_variables,
)
from understudy.errors import AgentUnavailable, ConfigurationError, UnderstudyError

LIBRARIES = ("lmdb", "eclipse-zenoh", "msgspec", "flask", "starlette", "fastapi", "gunicorn", "uvicorn")


class Findings:
    """What is wrong, and what might be."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []


def doctor(flags: Mapping[str, str]) -> int:
    """Print everything; 1 if something stands in the way of this member. Raises: ConfigurationError."""
    config = load(flags=flags)
    found = Findings()
    rows = [(option.name, shown(config, option), config.source(option.attribute)) for option in OPTIONS]
    for line in table(("setting", "value", "from"), rows):
        print(line)
    print()
    facts = [*_place(config, found), *_network(config, found), *_versions()]
    for line in table(("what", "is"), facts):
        print(line)
    _warn_about(config, found)
    print()
    for problem in found.problems:
        print(f"problem: {problem}")
    for warning in found.warnings:
        print(f"warning: {warning}")
    if not found.problems:
        print("nothing stands in the way" if not found.warnings else "nothing stands in the way, but see the warnings")
    return 1 if found.problems else 0


def _place(config: Config, found: Findings) -> Iterator[tuple[str, str]]:
    """Directory, socket, secret and agent."""
    try:
        path = member_directory(config)
    except ConfigurationError as error:
        found.problems.append(str(error))
        return
    exists = path.exists()
    yield "directory", f"{path}{'' if exists else ' (not made yet)'}"
    yield "socket path", f"{len(os.fsencode(path / SOCKET_NAME))} bytes of at most {limits.SOCKET_PATH_BYTES_MAX}"
    if exists:
        try:
            open_directory(config, create=False)
        except ConfigurationError as error:
            found.problems.append(str(error))
    elif len(os.fsencode(path / SOCKET_NAME)) > limits.SOCKET_PATH_BYTES_MAX:
        found.problems.append(f"directory {path} is too long for a socket in it; set UNDERSTUDY_DIR to a shorter path")
    try:
        yield "secret", secret_origin(config, path)
    except ConfigurationError as error:
        yield "secret", "missing"
        found.problems.append(str(error))
    yield "agent", _agent(config, path, found)


def _agent(config: Config, directory: Path, found: Findings) -> str:
    try:
        status = ask(directory, "status")
    except (AgentUnavailable, UnderstudyError) as error:
        if not config.clustered:
            return "none, and none is needed (LocalManager)"
        if why := files.start_error(directory):
            found.problems.append(f"the last start of an agent failed: {why}")
        if isinstance(error, AgentUnavailable):
            return "not running; " + ("a worker starts it" if config.autostart else "`autostart` is off: start it")
        found.problems.append(str(error))
        return "of another release"
    if len(status.get("members", ())) == 0:
        found.warnings.append("the agent sees no other member: new sessions have no second copy")
    for member in status.get("members", ()):
        if member.get("differs"):
            (found.problems if member.get("unfit") else found.warnings).append(different(member))
    state = "ready" if status.get("ready") else "not ready"
    return f"pid {status.get('pid')}, {state}, version {status.get('version')}"


def _network(config: Config, found: Findings) -> Iterator[tuple[str, str]]:
    """The port, and whether somebody else has it."""
    if config.listen is None:
        yield "network", "none: sessions stay on this machine"
        return
    taken = _why_taken(config.listen)
    if taken is None:
        yield "listen", f"{config.listen} is free"
    elif _is_running(config):
        yield "listen", f"{config.listen}, by this member's agent"
    else:
        yield "listen", f"{config.listen}: {taken}"
        found.problems.append(
            f"{config.listen} cannot be listened on ({taken}); end the process that has it, or choose another `listen`"
        )


def _is_running(config: Config) -> bool:
    try:
        ask(member_directory(config), "status")
    except UnderstudyError:
        return False
    return True


def _why_taken(address: Address) -> str | None:
    """Why one cannot listen there, or None."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _versions() -> Iterator[tuple[str, str]]:
    yield "understudy", own_version()
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for library in LIBRARIES:
        try:
            yield library, importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            yield library, "not installed"


def _warn_about(config: Config, found: Findings) -> None:
    """What is allowed and probably not meant."""
    others = [seed for seed in config.seeds if seed != config.listen]
    if config.clustered and not others and not config.multicast:
        found.warnings.append(
            "`seeds` names no other member: unless others name this one, every session has one copy only"
        )
    if config.listen is not None and config.listen.loopback and any(not seed.loopback for seed in config.seeds):
        found.warnings.append(
            f"`listen` is {config.listen}, which other machines cannot reach, but `seeds` names other machines"
        )
    if config.clustered and config.acknowledge != "backup":
        found.warnings.append(
            f"`acknowledge` is {config.acknowledge!r}: a response may leave before a second machine has its changes"
        )
    if config.clustered and config.listen is not None and config.listen.loopback and not config.secret_text:
        found.warnings.append("all members are on this machine: if it dies, every session is gone")
    if config.cookie_secure is False:
        found.warnings.append("cookie `secure` is false: the cookie is also sent over plain http")
    for variable, _ in unknown_variables(os.environ):
        found.warnings.append(f"environment {variable}: there is no such variable, it has no effect")
    if platform.system() != "Linux":
        found.warnings.append(f"{platform.system()} is for development only")
