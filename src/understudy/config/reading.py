"""Gives the Config of this process from its configuration file, its environment and its command line."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from understudy import limits
from understudy.config.options import FILE_TABLES, OPTIONS, VARIABLES, Option, option_named
from understudy.config.settings import Config, build, nearest, suggestion, typed
from understudy.errors import ConfigurationError

FILE_NAME = "understudy.toml"
PYPROJECT = "pyproject.toml"
PREFIX = "UNDERSTUDY_"

_KUBERNETES = re.compile(r"(.*_)?SERVICE_(HOST|PORT(_.*)?)|(.*_)?PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?")
"""What Kubernetes puts into each pod for a service that is called "understudy": not meant for us."""
_TYPO_SIMILARITY = 0.75


def load(
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    hostname: str | None = None,
    flags: Mapping[str, object] | None = None,
) -> Config:
    """Gives the settings: flags of the command line over the environment over the file over the defaults.

    ``flags`` are option names with text, None where not given. ``environ``, ``cwd`` and ``hostname`` are this process's
    own unless given. An empty variable counts as not set.
    Raises: ConfigurationError that says what is wrong, where it stands and what to do.
    Cost: reads at most two small files.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    values: dict[str, tuple[object, str]] = {}
    values.update(_from_file(environ, cwd))
    values.update(_from_environment(environ, cwd))
    for name, value in (flags or {}).items():
        if value is not None:
            option = option_named(name)
            assert option is not None, f"the command line has a flag for an option that does not exist: {name}"
            where = "command line --" + name.replace("_", "-")
            values[option.name] = (typed(option, value, where, text=True, directory=cwd), where)
    default_member = clean_member_name(socket.gethostname() if hostname is None else hostname)
    return build(values, default_member, environ.get("UNDERSTUDY_SECRET", "").strip() or None)


def clean_member_name(hostname: str) -> str:
    """Gives a valid member name from a host name: its first label; a long one keeps its difference in a hash."""
    label = hostname.partition(".")[0].lower()
    name = re.sub(r"[^a-z0-9-]+", "-", label).strip("-") or "member"
    if len(name) > limits.MEMBER_NAME_CHARS_MAX:
        # Pods of one deployment differ in their last characters only, so that cutting alone would make them equal.
        digest = hashlib.blake2b(label.encode(), digest_size=4).hexdigest()
        name = f"{name[: limits.MEMBER_NAME_CHARS_MAX - 9]}-{digest}"
    return name


def unknown_variables(environ: Mapping[str, str]) -> tuple[tuple[str, str | None], ...]:
    """Gives the variables that begin like ours and are not, each with the one that was probably meant, or None."""
    known = [option.variable for option in OPTIONS] + [variable.name for variable in VARIABLES]
    names = [name.removeprefix(PREFIX) for name in known]
    found = []
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if (
            variable.startswith(PREFIX)
            and variable not in known
            and environ[variable]
            and not _KUBERNETES.fullmatch(name)
        ):
            meant = nearest(name, names, _TYPO_SIMILARITY)
            found.append((variable, PREFIX + meant if meant else None))
    return tuple(found)


def _from_environment(environ: Mapping[str, str], cwd: Path) -> Iterator[tuple[str, tuple[object, str]]]:
    for variable, meant in unknown_variables(environ):
        if meant is not None:
            raise ConfigurationError(f"environment {variable}: there is no such variable; did you mean `{meant}`?")
    for option in OPTIONS:
        value = environ.get(option.variable, "")
        if value.strip():
            where = f"environment {option.variable}"
            yield option.name, (typed(option, value.strip(), where, text=True, directory=cwd), where)


def _from_file(environ: Mapping[str, str], cwd: Path) -> Iterator[tuple[str, tuple[object, str]]]:
    found = _find(environ, cwd)
    if found is None:
        return
    path, label, document, prefix = found
    for table, entries in _tables(document, label, prefix):
        by_key = {option.file_key: option for option in OPTIONS if option.file_table == table}
        for key, value in entries.items():
            option = by_key.get(key)
            if option is None:
                hint = _key_hint(key, list(by_key), prefix)
                raise ConfigurationError(f"file {label} [{prefix}{table}] {key}: there is no such option{hint}")
            where = f"file {label} [{prefix}{table}] {key}"
            yield option.name, (typed(option, value, where, text=False, directory=path.parent), where)


def _find(environ: Mapping[str, str], cwd: Path) -> tuple[Path, str, dict[str, object], str] | None:
    """Gives (path, its name in messages, our part of the document, prefix of our tables), or None without any file."""
    given = environ.get("UNDERSTUDY_CONFIG", "").strip()
    for label in (given,) if given else (FILE_NAME, PYPROJECT):
        path = cwd / label
        document = _read_toml(path, label)
        if document is not None:
            part, prefix = _pyproject_part(document, label) if path.name == PYPROJECT else (document, "")
            return path, label, part, prefix
    if given:
        raise ConfigurationError(
            f"environment UNDERSTUDY_CONFIG: there is no file {cwd / given}; correct the path, or unset the variable"
        )
    return None


def _pyproject_part(document: dict[str, object], label: str) -> tuple[dict[str, object], str]:
    tool = document.get("tool")
    part = tool.get("understudy", {}) if isinstance(tool, dict) else {}
    if not isinstance(part, dict):
        raise ConfigurationError(
            f"file {label} [tool] understudy: is not a table; write [tool.understudy.cluster] above it"
        )
    return part, "tool.understudy."


def _read_toml(path: Path, label: str) -> dict[str, object] | None:
    """Gives the document, or None when there is no such file. Raises: ConfigurationError when it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.CONFIG_FILE_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(
            f"file {label}: cannot be read ({error.strerror}); mend it or its permissions: {path}"
        ) from error
    if len(data) > limits.CONFIG_FILE_BYTES_MAX:
        raise ConfigurationError(
            f"file {label}: is larger than {limits.CONFIG_FILE_BYTES_MAX} bytes; is it the right file?"
        )
    import tomllib  # here, because who is configured by the environment has no file

    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"file {label}: is not UTF-8 (at line {line}); save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"file {label}: is not valid TOML: {error}; mend that line") from None


def _tables(document: dict[str, object], label: str, prefix: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yields the tables we know with their entries. Raises: ConfigurationError for any other."""
    known = list(dict.fromkeys(FILE_TABLES.values()))
    top = [table for table in known if "." not in table]
    for name, table in document.items():
        if name not in top:
            hint = _key_hint(name, [], prefix) or suggestion(name, top)
            what = f"table [{prefix}{name}]" if isinstance(table, dict) else f"key {name}"
            raise ConfigurationError(
                f"file {label} {what}: there is no such table or key"
                + (hint or "; the tables are " + ", ".join(f"[{prefix}{table}]" for table in known))
            )
        entries = _as_table(table, f"file {label} {name}", f"[{prefix}{name}]")
        yield name, {key: value for key, value in entries.items() if f"{name}.{key}" not in known}
        for key, value in entries.items():
            if f"{name}.{key}" in known:
                yield (
                    f"{name}.{key}",
                    _as_table(value, f"file {label} [{prefix}{name}] {key}", f"[{prefix}{name}.{key}]"),
                )


def _as_table(value: object, where: str, header: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: is not a table; write {header} on a line of its own and its keys below")
    return value


def _key_hint(key: str, here: list[str], prefix: str) -> str:
    """Gives where such a key belongs: a name that is near in this table, else the table that has it."""
    homes = [option for option in OPTIONS if key in (option.file_key, option.name)]
    close = suggestion(key, here)
    if homes and not (len(homes) > 1 and close):
        return _belongs(homes[0], prefix)
    return close


def _belongs(option: Option, prefix: str) -> str:
    return f"; `{option.file_key}` belongs in [{prefix}{option.file_table}]"
