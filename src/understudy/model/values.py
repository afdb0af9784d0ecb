"""Safe values: which Python values an attribute may hold, how they become bytes and return, how a change is found.

A value comes back with the same type and content: None, bool, int, float, str, bytes, list, tuple, dict, set,
frozenset, datetime, date, time, timedelta, Decimal, UUID, nested to ``limits.VALUE_DEPTH_MAX``. An Enum comes back as
its value, a dataclass or msgspec Struct as the dict of its fields (``convert`` reads it back), an OrderedDict,
defaultdict or Counter as a dict. Everything else is refused when it is encoded: other subclasses of these types, which
would come back as less than they were, and bytearray and memoryview, which would come back as bytes. Nothing here runs
code from the data.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID  # the type only: a value like any other; nothing here makes a new one

import msgspec

from understudy import limits
from understudy.errors import ValueNotSupported, ValueUndecodable
from understudy.model import decoding, encoding

_IMMUTABLE_TYPES = encoding.LEAF_TYPES | {datetime, date, time, timedelta, Decimal, UUID}
_SHOWN_CHARS_MAX = 200


def encode(value: object, *, attribute: str) -> bytes:
    """Give the canonical bytes of a value: the same value gives the same bytes in every process.

    Raises:
        ValueNotSupported: the value or something inside it cannot be stored; the message names the attribute, the place
            inside it, as ``cart['items'][2]``, the type, and what to store instead. Cycles count as too deep.

    Cost: 2 to 3 µs for 190 bytes of plain values (str keys, numbers, text, lists, dicts), a few times that with others.
    """
    try:
        return encoding.write(value)
    except encoding.Refused as refused:
        place = attribute + "".join(reversed(refused.steps))
        if len(place) > _SHOWN_CHARS_MAX:
            place = place[:_SHOWN_CHARS_MAX] + "…"
        raise ValueNotSupported(f"session attribute {place} {refused.why}") from None


def decode(data: bytes, *, attribute: str) -> Any:
    """Give the value of bytes that ``encode`` gave.

    Raises:
        ValueUndecodable: the bytes are malformed, too deep, or name a time zone that this machine does not know. No
            other error, whatever the bytes.
    """
    try:
        value = decoding.read(data)
        too_deep = type(value) not in encoding.LEAF_TYPES and decoding.is_too_deep(value, data)
    except MemoryError:
        raise  # says nothing about the bytes: msgspec checks every length against them before it allocates
    except Exception as cause:
        why = f"{type(cause).__name__}: {cause}"[:_SHOWN_CHARS_MAX]
        raise ValueUndecodable(f"session attribute {attribute} cannot be decoded: {why}") from cause
    if too_deep:
        raise ValueUndecodable(
            f"session attribute {attribute} cannot be decoded: nested deeper than {limits.VALUE_DEPTH_MAX} levels"
        )
    return value


def is_immutable(value: object) -> bool:
    """Say whether nobody can have changed this value in place, so that touching it needs no comparison."""
    return type(value) in _IMMUTABLE_TYPES or _is_immutable(value, limits.VALUE_DEPTH_MAX)


def differs(stored: bytes, value: object, *, attribute: str) -> bytes | None:
    """Give the new bytes if the value is not what was stored, else None.

    Other bytes alone are no change: an older release may have written the same value differently. So where the bytes
    differ, the stored value is decoded and encoded by the same route, and only a difference from that is a change.
    Stored bytes that cannot be decoded differ from every value.

    Raises:
        ValueNotSupported: as ``encode``.

    Cost: one encoding, and when it differs one decoding and one more encoding.
    """
    encoded = encode(value, attribute=attribute)
    if encoded == stored:
        return None
    try:
        stored_again = encode(decode(stored, attribute=attribute), attribute=attribute)
    except ValueUndecodable:
        return encoded
    return None if stored_again == encoded else encoded


def convert(value: Any, type_: Any) -> Any:
    """Give a decoded value as a dataclass, msgspec Struct, Enum, TypedDict or any other type that msgspec knows, or as
    a pydantic model, which is known by its ``model_validate``.

    Raises:
        ValueUndecodable: the value does not fit the type; the message names the place inside it.
        TypeError: msgspec does not support the type itself, such as an Enum of other than only str or only int values.
    """
    validate = getattr(type_, "model_validate", None)
    if validate is not None:
        try:
            return validate(value)
        except ValueError as cause:
            raise ValueUndecodable(f"the stored value does not fit {type_.__qualname__}: {_reasons(cause)}") from None
    try:
        return msgspec.convert(value, type_, builtin_types=(bytes, datetime, date, time, timedelta, Decimal, UUID))
    except msgspec.ValidationError as cause:
        name = type_.__qualname__ if isinstance(type_, type) else str(type_)
        raise ValueUndecodable(f"the stored value does not fit {name}: {cause}") from cause


def fields(typed: Any) -> dict[str, Any]:
    """The fields of what ``convert`` gave, as plain values of their own. Raises: ValueNotSupported."""
    dump = getattr(typed, "model_dump", None)
    plain = typed if dump is None else dump(by_alias=True)
    kind = type(typed).__name__
    found: dict[str, Any] = decode(encode(plain, attribute=kind), attribute=kind)
    return found


def _reasons(cause: ValueError) -> str:
    """What pydantic finds wrong and where, without the values: messages end up in logs."""
    errors = getattr(cause, "errors", None)
    if errors is None:
        return type(cause).__name__
    found = errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'all of it'}: {one['msg']}" for one in found[:3])


def _is_immutable(value: object, levels_left: int) -> bool:
    kind = type(value)
    if kind in _IMMUTABLE_TYPES:
        return True
    if (kind is tuple or kind is frozenset) and levels_left > 0:
        return all(_is_immutable(item, levels_left - 1) for item in value)  # type: ignore[attr-defined]  # exact type above
    return False
