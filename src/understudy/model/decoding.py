"""How bytes become values again: one reader for each extension type, bounded in depth, harmless on any bytes.

``encoding`` is the other direction. Reading builds values of the types listed here and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID  # the type only: a value like any other; nothing here makes a new one

import msgspec

from understudy import limits

# Extension codes; they are in stores and messages, so a number is never given to another type.
EXT_INTEGER = 1
EXT_TUPLE = 2
EXT_SET = 3
EXT_FROZENSET = 4
EXT_PAIRS = 5
EXT_DATETIME = 6
EXT_DATE = 7
EXT_TIME = 8
EXT_TIMEDELTA = 9
EXT_DECIMAL = 10
EXT_UUID = 11
EXT_MARKUP = 12

MARKUP = "markupsafe.Markup"
"""Text that is HTML already; Flask's and Jinja's, often flashed as a message."""

Decode = Callable[[bytes | memoryview], Any]
_CONTAINER_TYPES = (dict, list, tuple, set, frozenset)


def too_deep() -> str:
    return f"is nested deeper than {limits.VALUE_DEPTH_MAX} levels, or contains itself; store a flatter value"


def _from_ext(decode: Decode, code: int, data: memoryview) -> Any:
    reader = _READERS.get(code)
    if reader is None:
        raise ValueError(f"it holds a value of the unknown type {code}")
    return reader(decode, data)


def _items(decode: Decode, data: memoryview) -> list[Any]:
    """The array that an extension holds. A set or dict instead would have an order that changes from run to run."""
    items = decode(data)
    if type(items) is not list:
        raise ValueError(f"an array was expected, not a {type(items).__name__}")
    return items


def _read_pairs(decode: Decode, data: memoryview) -> dict[Any, Any]:
    parts = _items(decode, data)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _read_datetime(decode: Decode, data: memoryview) -> datetime:
    text, fold, zone = _items(decode, data)
    return datetime.fromisoformat(text).replace(tzinfo=_read_zone(zone), fold=fold)


def _read_time(decode: Decode, data: memoryview) -> time:
    text, fold, zone = _items(decode, data)
    return time.fromisoformat(text).replace(tzinfo=_read_zone(zone), fold=fold)


def _read_zone(zone: Any) -> tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, str):
        from zoneinfo import ZoneInfo  # here, because few need it, and it reads the system's settings when imported

        return ZoneInfo(zone)
    if type(zone) is not list:
        raise ValueError(f"a time zone was expected, not a {type(zone).__name__}")
    microseconds, *name = zone
    return timezone(timedelta(microseconds=microseconds), *name)


def _read_markup(decode: Decode, data: memoryview) -> str:
    text = str(data, "utf-8")
    try:
        from markupsafe import Markup
    except ImportError:  # a member without Flask: it keeps and forwards the bytes as they are
        return text
    return Markup(text)


_READERS: dict[int, Callable[[Decode, memoryview], Any]] = {
    EXT_INTEGER: lambda decode, data: int.from_bytes(data, "big", signed=True),
    EXT_TUPLE: lambda decode, data: tuple(_items(decode, data)),
    EXT_SET: lambda decode, data: set(_items(decode, data)),
    EXT_FROZENSET: lambda decode, data: frozenset(_items(decode, data)),
    EXT_PAIRS: _read_pairs,
    EXT_DATETIME: _read_datetime,
    EXT_DATE: lambda decode, data: date.fromisoformat(str(data, "ascii")),
    EXT_TIME: _read_time,
    EXT_TIMEDELTA: lambda decode, data: timedelta(*_items(decode, data)),
    EXT_DECIMAL: lambda decode, data: Decimal(str(data, "ascii")),
    EXT_UUID: lambda decode, data: UUID(bytes=bytes(data)),
    EXT_MARKUP: _read_markup,
}


def _nested_decoder(levels: int) -> Decode:
    """A decoder that follows extensions inside extensions for so many levels, and refuses the next."""
    decode: Decode = msgspec.msgpack.Decoder(ext_hook=_refuse_ext).decode
    for _ in range(levels):
        decode = msgspec.msgpack.Decoder(ext_hook=partial(_from_ext, decode)).decode
    return decode


def _refuse_ext(code: int, data: memoryview) -> Any:
    raise ValueError(too_deep())


# One level more than containers may have: the innermost container may hold, say, a date.
read: Decode = _nested_decoder(limits.VALUE_DEPTH_MAX + 1)
"""Give the value of some bytes; raises any kind of Exception when they are malformed."""

# Every msgpack byte that can begin a container: arrays, maps and extensions.
_OPENERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0), 0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)])


def is_too_deep(value: object, data: bytes) -> bool:
    """Say whether a value that was read from these bytes is nested deeper than ``write`` would allow.

    A level takes at least one byte that can begin a container. Few values have more of those bytes, by nesting or by
    chance, than there may be levels; only they are walked through.
    """
    if not isinstance(value, _CONTAINER_TYPES):
        return False
    if len(data) - len(data.translate(None, _OPENERS)) <= limits.VALUE_DEPTH_MAX:
        return False
    level: list[Any] = [value]
    for _ in range(limits.VALUE_DEPTH_MAX):
        inside: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                inside.extend(container.keys())
                inside.extend(container.values())
            elif isinstance(container, _CONTAINER_TYPES):
                inside.extend(container)
        level = [item for item in inside if isinstance(item, _CONTAINER_TYPES)]
        if not level:
            return False
    return True
