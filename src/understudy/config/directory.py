"""Decides where a member keeps its files, and gives that directory only when nobody else can have tampered with it.

Workers, agent and command line compute the same path from the same settings. What is in it (store, socket, made
secret) is trusted without further proof, so the owner and the mode of everything on the way that we make are checked.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from understudy import limits
from understudy.config.settings import Config
from understudy.errors import DirectoryError

BASE = Path("/var/tmp/understudy")
"""Survives a reboot and is on a disk, unlike /tmp; every user may make his own part of it."""
SOCKET_NAME = "agent.sock"
MEMBER_FILE = "member"
_OWN_FILE_BYTES_MAX = 4096

_ELSEWHERE = "set UNDERSTUDY_DIR to a directory that only this user can write"


def member_directory(
    config: Config, environ: Mapping[str, str] | None = None, uid: int | None = None, base: Path = BASE
) -> Path:
    """Gives the path of the member's directory; nothing is made or checked.

    Raises: DirectoryError when ``UNDERSTUDY_DIR`` is not absolute: it would depend on where a process starts.
    """
    given = (os.environ if environ is None else environ).get("UNDERSTUDY_DIR", "").strip()
    if given:
        if not os.path.isabs(given):
            raise DirectoryError(f"environment UNDERSTUDY_DIR: {given!r} is not an absolute path; begin it with /")
        return Path(os.path.normpath(given))
    return cluster_directory(config, uid, base) / config.member


def cluster_directory(config: Config, uid: int | None = None, base: Path = BASE) -> Path:
    """Gives the directory that this user's members of one cluster on this machine share by default."""
    return base / str(os.getuid() if uid is None else uid) / config.name


def open_directory(
    config: Config,
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
    base: Path = BASE,
    *,
    create: bool = True,
) -> Path:
    """Gives the member's directory, checked: ours, 0700, this member's, and short enough for a socket in it.

    ``create=False`` is for tools that only look: a directory that does not exist is an error then.
    Raises: DirectoryError. Guarantee: safe when several processes do it at once.
    """
    uid = os.getuid() if uid is None else uid
    path = member_directory(config, environ, uid, base)
    _check_length(path)
    if not create and not os.path.lexists(path):
        raise DirectoryError(
            f"directory {path} does not exist: member {config.member!r} of cluster {config.name!r} has not run here"
            " as this user; check UNDERSTUDY_DIR, UNDERSTUDY_MEMBER and the user"
        )
    if path.is_relative_to(base):
        open_private(path, uid, base)
    else:
        _make_missing_parents(path)
        _private(path, uid)
    held = write_once(path / MEMBER_FILE, config.member.encode() + b"\n", uid).decode(errors="replace").strip()
    if held != config.member:
        raise DirectoryError(
            f"directory {path} belongs to member {held!r}, not to {config.member!r} ({config.source('member')});"
            " correct the member's name, or set UNDERSTUDY_DIR to another directory"
        )
    return path


def open_private(path: Path, uid: int, base: Path = BASE) -> None:
    """Makes or checks every directory from ``base`` down to ``path``. Raises: DirectoryError."""
    _shared_base(base, uid)
    step = base
    for part in path.relative_to(base).parts:
        step = step / part
        _private(step, uid)


def write_once(path: Path, content: bytes, uid: int) -> bytes:
    """Gives the file's content, which is ``content`` if nobody wrote it before.

    Guarantee: of several processes at once one wins, all get its bytes, and a file is never seen half written.
    Raises: DirectoryError when the file is not a private one of ours, or cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        return read_own(path, uid)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        raise DirectoryError(f"file {path} cannot be written ({error.strerror}); mend that, or {_ELSEWHERE}") from error
    return read_own(path, uid)


def read_own(path: Path, uid: int) -> bytes:
    """Gives the content of a small private file of ours. Raises: FileNotFoundError, DirectoryError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DirectoryError(f"file {path} cannot be read ({error.strerror}); remove it, or {_ELSEWHERE}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
            raise DirectoryError(
                f"file {path} is not a private file of uid {uid} (owner {status.st_uid}, mode"
                f" {stat.S_IMODE(status.st_mode):04o}); run `chmod 600` on it if it is yours, else remove it"
            )
        return file.read(_OWN_FILE_BYTES_MAX)


def _check_length(path: Path) -> None:
    length = len(os.fsencode(path / SOCKET_NAME))
    if length > limits.SOCKET_PATH_BYTES_MAX:
        raise DirectoryError(
            f"directory {path} is too long: the path of a Unix socket in it would have {length} bytes and the most is"
            f" {limits.SOCKET_PATH_BYTES_MAX}; set UNDERSTUDY_DIR to a shorter path"
        )


def _make_missing_parents(path: Path) -> None:
    missing = []
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        missing.append(parent)
        parent = parent.parent
    for directory in reversed(missing):
        _make(directory)


def _make(path: Path) -> bool:
    """Makes the directory 0700 and gives True, or False when it exists."""
    try:
        path.mkdir(0o700)
        path.chmod(0o700)  # a umask may have taken bits from us too
    except FileExistsError:
        return False
    except OSError as error:
        raise DirectoryError(f"directory {path} cannot be made ({error.strerror}); {_ELSEWHERE}") from error
    return True


def _status(path: Path) -> os.stat_result:
    try:
        status = path.lstat()
    except OSError as error:
        raise DirectoryError(f"directory {path} cannot be used ({error.strerror}); {_ELSEWHERE}") from error
    if stat.S_ISLNK(status.st_mode):
        raise DirectoryError(
            f"directory {path} is a symbolic link, which others could turn elsewhere; {_ELSEWHERE}, by its real path"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise DirectoryError(f"{path} is not a directory; remove it, or {_ELSEWHERE}")
    return status


def _private(path: Path, uid: int) -> None:
    """Makes the directory, or checks that it is ours alone; an empty one of ours is closed to others first."""
    _make(path)
    status = _status(path)
    if status.st_uid != uid:
        raise DirectoryError(
            f"directory {path} belongs to uid {status.st_uid}, not to this process's uid {uid}; run as that"
            f" user, or {_ELSEWHERE}"
        )
    if status.st_mode & 0o077 and not os.listdir(path):
        # Nobody can have planted anything in it yet, and from now on nobody can.
        path.chmod(0o700)
    status = _status(path)
    if status.st_mode & 0o077:
        raise DirectoryError(
            f"directory {path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}); if what is in it is"
            f" yours run `chmod 700 {path}`, else {_ELSEWHERE}"
        )


def _shared_base(path: Path, uid: int) -> None:
    """Makes or checks the directory above all users' own: whoever owns it could exchange what is in it."""
    if _make(path) and uid == 0:
        path.chmod(0o1777)  # so that other users find their place too; sticky: nobody removes another's
    status = _status(path)
    if status.st_uid not in (0, uid):
        raise DirectoryError(
            f"directory {path} belongs to uid {status.st_uid}, neither to root nor to this process's uid {uid}; have"
            f" root run `chown root {path} && chmod 1777 {path}`, or {_ELSEWHERE}"
        )
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise DirectoryError(
            f"directory {path} can be written by other users and is not sticky (mode {stat.S_IMODE(status.st_mode):04o}"
            f"); run `chmod 1777 {path}`, or {_ELSEWHERE}"
        )
