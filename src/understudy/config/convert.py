"""Gives the typed value of one option from what the file, the environment or a keyword holds, or says what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

from understudy import limits
from understudy.config.options import Option
from understudy.config.parse import (
    Address,
    format_duration,
    format_size,
    parse_address,
    parse_duration,
    parse_milliseconds,
    parse_size,
)

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


def convert(option: Option, value: object, *, text: bool, directory: Path) -> object:
    """Gives the option's value in its type: milliseconds, bytes, ``Address``, absolute ``Path`` and so on.

    ``text`` means that the value comes from the environment or the command line, where everything is text and lists
    are comma separated; elsewhere a number is a number and a list a list. Relative paths count from ``directory``.
    Raises: ValueError whose message continues a sentence that begins with the option's place and value.
    """
    if option.optional and (value is None or (isinstance(value, str) and value.strip().lower() == "none")):
        return None
    match option.kind:
        case "str":
            return _string(option, value)
        case "choice":
            return _choice(option, value)
        case "bool":
            return _bool(value, text)
        case "secure":
            return "auto" if isinstance(value, str) and value.strip().lower() == "auto" else _secure(value)
        case "int":
            return _bounded(option, _int(value, text))
        case "milliseconds":
            return _bounded(option, parse_milliseconds(value))
        case "duration":
            return _bounded(option, parse_duration(value))
        case "size":
            return _bounded(option, parse_size(value))
        case "address":
            return parse_address(value)
        case "addresses":
            return _addresses(value, text)
        case "path":
            return _path(value, directory)
        case "regex":
            return _regex(value)


def _string(option: Option, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError('is not text; write it between quotes, like "name"')
    if option.pattern is not None and not re.fullmatch(option.pattern, value):
        raise ValueError(f"is not allowed; it must be: {option.rule}")
    return value


def _regex(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError('is not text; write it between quotes, like "/static/.*"')
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return value


def _choice(option: Option, value: object) -> str:
    known = " or ".join(f'"{choice}"' for choice in option.choices)
    if not isinstance(value, str):
        raise ValueError(f"is not text; write {known}")
    wanted = value.strip().lower()
    for choice in option.choices:
        if choice.lower() == wanted:
            return choice
    raise ValueError(f"is not known; use {known}")


def _bool(value: object, text: bool) -> bool:
    if isinstance(value, bool):
        return value
    if text and isinstance(value, str):
        if value.strip().lower() in _TRUE:
            return True
        if value.strip().lower() in _FALSE:
            return False
    raise ValueError("is neither true nor false; write true or false" + ("" if text else ", without quotes"))


def _secure(value: object) -> bool:
    try:
        return _bool(value, text=True)
    except ValueError:
        raise ValueError('is not known; use "auto", true or false') from None


def _int(value: object, text: bool) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if text and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
        return int(value)
    raise ValueError("is not a whole number; write it like 1" + ("" if text else ", without quotes"))


def _bounded(option: Option, value: int) -> int:
    if option.minimum is not None and value < option.minimum:
        raise ValueError(f"is too small; the least is {_quantity(option, option.minimum)}")
    if option.maximum is not None and value > option.maximum:
        raise ValueError(f"is too large; the most is {_quantity(option, option.maximum)}")
    return value


def _quantity(option: Option, value: int) -> str:
    if option.kind in ("milliseconds", "duration"):
        return format_duration(value)
    return format_size(value) if option.kind == "size" else str(value)


def _addresses(value: object, text: bool) -> tuple[Address, ...]:
    if text and isinstance(value, str):
        value = [part for part in (part.strip() for part in value.split(",")) if part]
    if not isinstance(value, list | tuple):
        raise ValueError('is not a list of addresses; write it like ["10.0.0.1:7400", "10.0.0.2:7400"]')
    addresses: dict[Address, None] = {}
    for item in value:
        try:
            address = parse_address(item)
        except ValueError as error:
            raise ValueError(f"holds {item!r}, which {error}") from None
        if address.wildcard:
            raise ValueError(f"holds {item!r}, to which nobody can connect; write the address of that member")
        addresses[address] = None
    if len(addresses) > limits.MEMBERS_MAX:
        raise ValueError(
            f"holds {len(addresses)} addresses; the most is {limits.MEMBERS_MAX}, and two or three suffice"
        )
    return tuple(addresses)


def _path(value: object, directory: Path) -> Path:
    if isinstance(value, Path):
        return directory / value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError('is not a path; write it like "/run/secrets/understudy"')
    return directory / value
