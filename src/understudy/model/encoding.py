"""How each kind of value is written: msgpack, with one extension type for every kind that msgpack does not have.

The bytes are canonical: the same value gives the same bytes in every process. Sets are written in the order of their
elements' encodings; dicts and lists keep their order. msgspec alone would write a tuple as a list and a UUID as text,
so a value is first given its *form*: an object that msgspec writes without loss. Values of plain types, which are most,
are their own form, and ``is_plain`` finds that out quickly.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID  # the type only: a value like any other; nothing here makes a new one

import msgspec

from understudy import limits
from understudy.model import decoding

LEAF_TYPES: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})
"""What msgspec writes without loss and without looking inside, integers beyond 64 bits and lone surrogates apart."""
_CONTENT_TYPES = (str, bytes, int, float, dict, list, tuple, set, frozenset)
_TIME_TYPES = (datetime, date, time, timedelta)  # datetime before date, which it extends
_SUPPORTED_TYPES: tuple[type, ...] = (*_CONTENT_TYPES, *_TIME_TYPES, Decimal, UUID)
_STR_ONLY = frozenset({str})
_INTEGER_MIN, _INTEGER_MAX = -(1 << 63), (1 << 64) - 1
_MICROSECOND = timedelta(microseconds=1)

_encode = msgspec.msgpack.Encoder().encode


class Refused(Exception):
    """A value has no form: why, and the steps to it from the outside, collected innermost first."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.steps: list[str] = []


def is_plain(value: Any, levels_left: int = limits.VALUE_DEPTH_MAX) -> bool:
    """Say whether msgspec writes this list or dict as it is: plain values all the way down, within the depth limit.

    Hot: this runs for every touched attribute of a request, so it makes no call per leaf.
    """
    if levels_left <= 0:
        return False
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                return False
            if type(item) not in LEAF_TYPES and not is_plain(item, levels_left - 1):
                return False
        return True
    if type(value) is list:
        for item in value:  # noqa: SIM110  # all() with a generator takes twice as long
            if type(item) not in LEAF_TYPES and not is_plain(item, levels_left - 1):
                return False
        return True
    return False


def write(value: object) -> bytes:
    """Give the bytes of any supported value.

    Raises:
        Refused: the value, or something in it, is not supported or too deep.
    """
    if type(value) in LEAF_TYPES or is_plain(value):
        try:
            return _encode(value)
        except (OverflowError, UnicodeEncodeError):
            pass  # an integer beyond 64 bits or a lone surrogate: the slow way writes the one and names the other
    return _encode(_form(value, limits.VALUE_DEPTH_MAX))


# --- from a value to its form ----------------------------------------------------------------------------------------


def _form(value: Any, levels_left: int) -> Any:
    make = _FORMS.get(type(value))
    return _form_by_kind(value, levels_left) if make is None else make(value, levels_left)


def _form_by_kind(value: Any, levels_left: int) -> Any:
    """Of what is recognised by its class, not its exact type: enums, dataclasses and Structs."""
    if isinstance(value, Enum):
        return _form(value.value, levels_left)
    if _name(type(value)) == decoding.MARKUP:  # not by its class: that would import what most have no use for
        return _ext(decoding.EXT_MARKUP, _text(str.__str__(value), levels_left).encode())
    is_struct = isinstance(value, msgspec.Struct)
    # A dataclass that extends, say, dict holds more than its fields.
    if not is_struct and (not dataclasses.is_dataclass(value) or isinstance(value, (type, *_SUPPORTED_TYPES))):
        raise Refused(_unsupported(value))
    if levels_left <= 0:
        raise Refused(decoding.too_deep())
    if is_struct:
        return _struct(value, levels_left)
    fields = [(field.name, getattr(value, field.name, msgspec.UNSET)) for field in dataclasses.fields(value)]
    return _fields(fields, levels_left)


def _itself(value: Any, levels_left: int) -> Any:
    return value


def _text(value: str, levels_left: int) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as cause:
            raise Refused(
                f"is a str with a lone surrogate at position {cause.start}, which has no UTF-8; decode its bytes "
                "with errors='replace', or store the bytes"
            ) from None
    return value


def _integer(value: int, levels_left: int) -> Any:
    if _INTEGER_MIN <= value <= _INTEGER_MAX:
        return value
    return _ext(decoding.EXT_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _sequence(value: Iterable[Any], levels_left: int) -> list[Any]:
    if levels_left <= 0:
        raise Refused(decoding.too_deep())
    forms = []
    for index, item in enumerate(value):
        try:
            forms.append(_form(item, levels_left - 1))
        except Refused as refused:
            refused.steps.append(f"[{index}]")
            raise
    return forms


def _tuple(value: tuple[Any, ...], levels_left: int) -> Any:
    return _ext(decoding.EXT_TUPLE, _encode(_sequence(value, levels_left)))


def _set(code: int, value: Iterable[Any], levels_left: int) -> Any:
    if levels_left <= 0:
        raise Refused(decoding.too_deep())
    forms = _hashable_forms(list(value), levels_left, "{an element}")
    encodings = sorted(map(_encode, forms))
    return _ext(code, _encode([msgspec.Raw(encoding) for encoding in encodings]))


def _dict(value: dict[Any, Any], levels_left: int) -> Any:
    if levels_left <= 0:
        raise Refused(decoding.too_deep())
    keys = _hashable_forms(list(value), levels_left, "[a key]")
    values = []
    for key, item in value.items():
        try:
            values.append(_form(item, levels_left - 1))
        except Refused as refused:
            refused.steps.append(f"[{_shown_key(key)}]")
            raise
    if _STR_ONLY.issuperset(map(type, keys)):  # the forms: a StrEnum's is a str
        return dict(zip(keys, values, strict=True))
    return _ext(decoding.EXT_PAIRS, _encode([part for pair in zip(keys, values, strict=True) for part in pair]))


def _hashable_forms(items: list[Any], levels_left: int, step: str) -> list[Any]:
    """The forms of keys or elements, which must come back hashable and as different from each other as they are."""
    forms = []
    for item in items:
        try:
            forms.append(_form(item, levels_left - 1))
        except Refused as refused:
            refused.steps.append(step)
            raise
    if not LEAF_TYPES.issuperset(map(type, items)):
        # A frozen dataclass comes back as a dict, and an enum as its value, which may be there too.
        try:
            distinct = len(set(decoding.read(_encode(forms))))
        except TypeError:
            raise Refused(
                f"has {step.strip('{[]}')} that comes back as a dict or list, which cannot be one; use a tuple"
            ) from None
        if distinct != len(items):
            raise Refused("has an enum and its value side by side, which would come back as one; keep one of them")
    return forms


def _struct(value: msgspec.Struct, levels_left: int) -> Any:
    """As msgspec itself would write it, so that ``msgspec.convert`` reads it back: tags, renames and arrays too."""
    config = value.__struct_config__
    names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    fields = [(written, getattr(value, name, msgspec.UNSET)) for written, name in names]
    if config.array_like:
        items = [item for _, item in fields]
        return _sequence(items if config.tag is None else [config.tag, *items], levels_left)
    if config.tag_field is not None:
        fields.insert(0, (config.tag_field, config.tag))
    return _fields(fields, levels_left)


def _fields(fields: list[tuple[str, Any]], levels_left: int) -> dict[str, Any]:
    forms = {}
    for name, item in fields:
        if item is msgspec.UNSET:  # a field that was never set has no value to keep
            continue
        try:
            forms[name] = _form(item, levels_left - 1)
        except Refused as refused:
            refused.steps.append(f".{name}")
            raise
    return forms


def _datetime(value: datetime, levels_left: int) -> Any:
    text = value.replace(tzinfo=None).isoformat()
    return _ext(decoding.EXT_DATETIME, _encode([text, value.fold, _zone(value.tzinfo)]))


def _date(value: date, levels_left: int) -> Any:
    return _ext(decoding.EXT_DATE, value.isoformat().encode())


def _time(value: time, levels_left: int) -> Any:
    text = value.replace(tzinfo=None).isoformat()
    return _ext(decoding.EXT_TIME, _encode([text, value.fold, _zone(value.tzinfo)]))


def _zone(zone: tzinfo | None) -> Any:
    """None, the key of a zone of the time zone data, or a fixed offset in microseconds with its name if it has one."""
    if zone is None:
        return None
    if zone is UTC:
        return [0]
    if type(zone) is timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        microseconds = offset // _MICROSECOND
        return [microseconds] if name == timezone(offset).tzname(None) else [microseconds, _text(str(name), 0)]
    from zoneinfo import ZoneInfo  # here, because few need it, and it reads the system's settings when imported

    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    kind = _name(type(zone))
    raise Refused(f"has a time zone of type {kind}; use zoneinfo.ZoneInfo('Area/City') or datetime.timezone")


def _timedelta(value: timedelta, levels_left: int) -> Any:
    return _ext(decoding.EXT_TIMEDELTA, _encode([value.days, value.seconds, value.microseconds]))


def _decimal(value: Decimal, levels_left: int) -> Any:
    return _ext(decoding.EXT_DECIMAL, str(value).encode())


def _uuid(value: UUID, levels_left: int) -> Any:
    return _ext(decoding.EXT_UUID, value.bytes)


_ext = msgspec.msgpack.Ext

_FORMS: dict[type, Callable[[Any, int], Any]] = {
    type(None): _itself,
    bool: _itself,
    float: _itself,
    bytes: _itself,
    str: _text,
    int: _integer,
    list: _sequence,
    tuple: _tuple,
    set: partial(_set, decoding.EXT_SET),
    frozenset: partial(_set, decoding.EXT_FROZENSET),
    dict: _dict,
    # These hold what a dict holds and come back as one. Other subclasses of dict may hold more, and are refused.
    OrderedDict: _dict,
    defaultdict: _dict,
    Counter: _dict,
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: _timedelta,
    Decimal: _decimal,
    UUID: _uuid,
}

# --- words -----------------------------------------------------------------------------------------------------------


def _unsupported(value: object) -> str:
    kind = type(value)
    if isinstance(value, bytearray | memoryview):
        return f"is a {_name(kind)}, which would come back as bytes; store bytes(value)"
    for base in _SUPPORTED_TYPES:
        if isinstance(value, base):
            return f"is a {_name(kind)}, which would come back as a plain {_name(base)}; store a {_name(base)} instead"
    return (
        f"is of type {_name(kind)}, which a session cannot hold; store plain values (str, int, list, dict, datetime, "
        "Decimal, UUID and the like), a dataclass or a msgspec Struct"
    )


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _shown_key(key: object) -> str:
    """Short, and without running an unknown type's code."""
    if type(key) not in LEAF_TYPES:
        return _name(type(key))
    shown = repr(key if type(key) is not str and type(key) is not bytes else key[:40])
    return shown if len(shown) <= 60 else shown[:60] + "…"
