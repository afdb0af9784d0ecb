"""Gives the cluster's secrets: the configured ones, or on one machine a random one that is made once and kept."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from understudy import limits
from understudy.config.directory import BASE, cluster_directory, open_private, write_once
from understudy.config.settings import Config
from understudy.errors import ConfigurationError

SECRET_FILE = "secret"
_MADE_BYTES = 32
HOW_TO_MAKE = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'


def read_secrets(config: Config, directory: Path, *, uid: int | None = None, base: Path = BASE) -> tuple[bytes, ...]:
    """Gives the valid secrets, at least one; the first one mints, the others still open what they minted.

    From ``UNDERSTUDY_SECRET`` or ``secret_file``. With neither, 32 random bytes are made once as text: in ``directory``
    without a cluster, and for members that are all on the loopback interface in the place that they share.
    Raises: ConfigurationError off loopback without a secret, and for a file that cannot be used.
    Guarantee: processes that make it at once all get the same. No message shows a secret.
    """
    if _variable_counts(config):
        assert config.secret_text is not None
        return _lines(config.secret_text.encode(errors="surrogateescape"), "environment UNDERSTUDY_SECRET")
    if config.secret_file is not None:
        where = f"secret file {config.secret_file} ({config.source('secret_file')})"
        return _lines(_read(config.secret_file, where), where)
    path = _made_path(config, directory, uid, base)
    if config.clustered:
        open_private(path.parent, os.getuid() if uid is None else uid, base)
    made = secrets.token_hex(_MADE_BYTES).encode() + b"\n"
    content = write_once(path, made, os.getuid() if uid is None else uid)
    return _lines(content, f"file {path}")


def secret_origin(config: Config, directory: Path, *, uid: int | None = None, base: Path = BASE) -> str:
    """Gives in words where the secret comes from, without reading it. Raises: as ``read_secrets`` without one."""
    if _variable_counts(config):
        return "environment UNDERSTUDY_SECRET"
    if config.secret_file is not None:
        return f"file {config.secret_file} ({config.source('secret_file')})"
    return f"made here, in {_made_path(config, directory, uid, base)}"


def _variable_counts(config: Config) -> bool:
    """Decides between the two: the environment wins over the file; both in the environment is a contradiction."""
    if config.secret_text is None:
        return False
    file_source = config.source("secret_file")
    if config.secret_file is not None and not file_source.startswith("file "):
        raise ConfigurationError(
            f"both environment UNDERSTUDY_SECRET and `secret_file` ({file_source}) are given; unset one of them"
        )
    return True


def _made_path(config: Config, directory: Path, uid: int | None, base: Path) -> Path:
    if not config.clustered:
        return directory / SECRET_FILE
    if config.loopback:
        return cluster_directory(config, uid, base) / SECRET_FILE
    reason = "`multicast` is on" if config.multicast else "the cluster reaches beyond the loopback interface"
    raise ConfigurationError(
        f"{reason} (listen {config.listen}), so its members need a secret that they share: run `{HOW_TO_MAKE} >"
        " understudy.secret && chmod 600 understudy.secret` once, copy the file to every member, and set `secret_file`"
        " in [cluster] or UNDERSTUDY_SECRET_FILE to its path (or UNDERSTUDY_SECRET to its content)"
    )


def _read(path: Path, where: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limits.SECRET_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{where}: cannot be read ({error.strerror}); make it with `{HOW_TO_MAKE} > {path}`, the same on every"
            " member, and let this user read it"
        ) from error


def _lines(content: bytes, where: str) -> tuple[bytes, ...]:
    again = f"make one with `{HOW_TO_MAKE}`, the same on every member"
    if len(content) > limits.SECRET_FILE_BYTES_MAX:
        raise ConfigurationError(f"{where}: has more than {limits.SECRET_FILE_BYTES_MAX} bytes; {again}")
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        secret = line.strip()
        if not secret:
            continue
        if not _is_text(secret):
            raise ConfigurationError(f"{where}: line {number} is not text, so that it could be cut anywhere; {again}")
        if len(secret) < limits.SECRET_BYTES_MIN:
            raise ConfigurationError(
                f"{where}: line {number} has {len(secret)} bytes and the least is {limits.SECRET_BYTES_MIN}; {again}"
            )
        found.append(secret)
    if not found:
        raise ConfigurationError(f"{where}: holds no secret; {again}")
    if len(found) > limits.SECRETS_MAX:
        raise ConfigurationError(
            f"{where}: holds {len(found)} secrets; the most is {limits.SECRETS_MAX}, remove the oldest"
        )
    return tuple(found)


def _is_text(secret: bytes) -> bool:
    try:
        return secret.decode().isprintable()
    except UnicodeDecodeError:
        return False
