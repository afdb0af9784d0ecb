"""Claims of ``understudy.model.values``: what is refused, with which words, and that no bytes do harm."""

from __future__ import annotations

import struct
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from understudy import limits
from understudy.errors import ValueNotSupported, ValueUndecodable
from understudy.model.values import decode, encode

DEPTH = limits.VALUE_DEPTH_MAX
BERLIN = ZoneInfo("Europe/Berlin")


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Item:
    sku: str
    price: Decimal
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int


class Basket(msgspec.Struct, rename="camel"):
    item_list: list[Item]
    gift_note: str | None = None


def through(value: object) -> Any:
    return decode(encode(value, attribute="a"), attribute="a")


def refusal(value: object, attribute: str = "cart") -> str:
    with pytest.raises(ValueNotSupported) as caught:
        encode(value, attribute=attribute)
    return str(caught.value)


# --- refusals --------------------------------------------------------------------------------------------------------


class Custom:
    pass


class Text(str):
    pass


class Number(int):
    pass


class Bag(dict):  # type: ignore[type-arg]
    pass


Pair = namedtuple("Pair", "a b")


class Zone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "UTC"


def a_function() -> None:
    pass


def a_generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Custom(), "Custom"),
        (Custom, "of type type"),
        (Item, "of type type"),
        (a_function, "function"),
        (len, "builtin_function_or_method"),
        (struct, "module"),
        (a_generator(), "generator"),
        (iter([1]), "list_iterator"),
        (threading.Lock(), "lock"),
        (1j, "complex"),
        (range(3), "range"),
        (..., "ellipsis"),
        ({}.keys(), "dict_keys"),
        (bytearray(b"x"), "bytearray, which would come back as bytes; store bytes"),
        (memoryview(b"x"), "memoryview, which would come back as bytes; store bytes"),
        (Text("x"), "Text, which would come back as a plain str"),
        (Number(1), "Number, which would come back as a plain int"),
        (Bag(), "Bag, which would come back as a plain dict"),
        (Pair(1, 2), "Pair, which would come back as a plain tuple"),
        (datetime(2024, 1, 1, tzinfo=Zone()), "time zone of type"),
        ("\ud800", "lone surrogate at position 0"),
        ("abc\udfff", "lone surrogate at position 3"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_cannot_be_stored_is_refused_by_name(value: object, said: str) -> None:
    """S19: the error names the attribute and the type, alone, inside a list, and as a dict's value."""
    message = refusal(value)
    assert "attribute cart " in message
    assert said in message
    assert "attribute cart[1] " in refusal([0, value])
    assert "attribute cart['k'] " in refusal({"k": value})
    assert said in refusal({"k": value})


def test_the_message_gives_the_place() -> None:
    """S19: keys, indexes, fields, elements: the path to the culprit is spelt as one would write it in Python."""
    assert f"cart['items'][2] is of type {__name__}.Custom, " in refusal({"items": [1, 2, Custom()]})
    assert "cart[1][0] " in refusal(([], (Custom(),)))
    assert "cart[7]['x'] " in refusal({7: {"x": Custom()}})
    assert "cart[tuple] " in refusal({(1, 2): Custom()})
    assert "cart.price " in refusal(Item("x", Custom()))  # type: ignore[arg-type]
    assert "cart.itemList[0].tags{an element} " in refusal(Basket([Item("x", Decimal(1), {Custom()})]))  # type: ignore[arg-type]
    assert "cart['a'][a key] " in refusal({"a": {Text("k"): 1}})
    assert "cart[a key] " in refusal({"\ud800": 1})
    assert "basket " in refusal(Custom(), attribute="basket")


def test_the_message_is_short_whatever_the_keys() -> None:
    """A key of a megabyte, or thirty long ones, do not become an error message of that size."""
    assert len(refusal({"k" * 1_000_000: Custom()})) < 500
    value: object = Custom()
    for _ in range(30):
        value = {"k" * 50: value}
    assert len(refusal(value)) < 600


def test_naming_the_place_runs_no_code_of_the_value() -> None:
    """A key with a defective repr does not hide the error."""

    @dataclass(frozen=True)
    class Key:
        def __repr__(self) -> str:
            raise RuntimeError("never called")

    assert "comes back as a dict" in refusal({(Key(),): 1})
    assert "comes back as a dict" in refusal({Key(): Custom()})


@pytest.mark.parametrize(
    "value",
    [{Point(1, 2)}, {Point(1, 2): "x"}, frozenset({(Point(1, 2),)}), {(1, Point(1, 2)): "x"}],
)
def test_what_would_come_back_unhashable_is_no_key_and_no_element(value: object) -> None:
    """A frozen dataclass comes back as a dict, which no set can hold: refused now, not unreadable later."""
    assert "comes back as a dict or list" in refusal(value)


@pytest.mark.parametrize("value", [{Colour.RED, "red"}, {Colour.RED: 1, "red": 2}, {(Colour.RED,): 1, ("red",): 2}])
def test_an_enum_beside_its_value_is_refused(value: object) -> None:
    """They would come back as one element or key, and the other would be lost without a word."""
    assert "enum and its value side by side" in refusal(value)


def test_a_dataclass_that_holds_more_than_its_fields_is_refused() -> None:
    """A dataclass that extends dict has content beside its fields; storing the fields alone would lose it."""

    @dataclass
    class Sneaky(dict):  # type: ignore[type-arg]
        a: int = 1

    assert "come back as a plain dict" in refusal(Sneaky())


# --- depth -----------------------------------------------------------------------------------------------------------


def nested(wrap: Any, levels: int, core: object) -> object:
    for _ in range(levels):
        core = wrap(core)
    return core


WRAPS = [
    lambda inner: [inner],
    lambda inner: {"k": inner},
    lambda inner: {1: inner},
    lambda inner: (inner,),
    lambda inner: frozenset({inner}),
]


@pytest.mark.parametrize("wrap", WRAPS, ids=["list", "dict", "pairs", "tuple", "frozenset"])
@pytest.mark.parametrize("core", [1, 2**70, datetime(2024, 1, 1, tzinfo=BERLIN), Level.HIGH], ids=repr)
def test_values_nest_exactly_to_the_limit(wrap: Any, core: object) -> None:
    """The last allowed level works for every kind of container, the next is a clear error."""
    assert through(nested(wrap, DEPTH, core)) == nested(wrap, DEPTH, core)
    assert f"deeper than {DEPTH} levels" in refusal(nested(wrap, DEPTH + 1, core))


@pytest.mark.parametrize("wrap", WRAPS[:4], ids=["list", "dict", "pairs", "tuple"])
def test_very_deep_values_give_the_same_error(wrap: Any) -> None:
    """No depth makes the interpreter run out of stack."""
    assert f"deeper than {DEPTH} levels" in refusal(nested(wrap, 5_000, 1))


def test_values_that_contain_themselves_give_the_same_error() -> None:
    """A cycle is an error with a place, not an endless loop, by whatever containers it goes."""
    a_list: list[Any] = []
    a_list.append(a_list)
    a_dict: dict[Any, Any] = {"list": []}
    a_dict["list"].append((a_dict,))
    item = Item("x", Decimal(1))
    item.sku = item  # type: ignore[assignment]
    basket = Basket([])
    basket.item_list.append(basket)  # type: ignore[arg-type]
    for value in (a_list, a_dict, item, basket, [1, {2: a_list}]):
        message = refusal(value)
        assert "contains itself" in message
        assert len(message) < 500


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * (DEPTH + 1) + b"\x01",
        b"\x91" * 500 + b"\x01",
        b"\x91" * 1_000_000,
        b"\x81\xa1k" * (DEPTH + 1) + b"\x01",
        b"\x81\xa1k" * 100_000,
        b"\xdd\xff\xff\xff\xff" * 1_000,
    ],
    ids=lambda data: f"{data[:3].hex()} x {len(data)}",
)
def test_bytes_that_nest_too_deep_are_undecodable(data: bytes) -> None:
    """S52: hostile depth is an ordinary error."""
    with pytest.raises(ValueUndecodable, match="attribute a "):
        decode(data, attribute="a")


def test_extensions_that_nest_too_deep_are_undecodable() -> None:
    """S52: hostile depth by extension inside extension is an ordinary error, at the limit and far beyond."""
    data = b"\x01"
    for level in range(1, 400):
        data = msgspec.msgpack.encode(msgspec.msgpack.Ext(2, b"\x91" + data))
        if level <= DEPTH:
            assert decode(data, attribute="a") == nested(lambda inner: (inner,), level, 1)
        else:
            with pytest.raises(ValueUndecodable, match="deeper than"):
                decode(data, attribute="a")


def test_many_openers_are_not_many_levels() -> None:
    """A wide value, and bytes that look like nesting, are not taken for a deep one."""
    value: object
    for value in ([[]] * 1_000, {"a": [{}] * 100}, b"\x91" * 1_000, [b"\xdd" * 100, {(): ()}]):
        assert through(value) == value


# --- malformed bytes -------------------------------------------------------------------------------------------------


def ext(code: int, payload: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, payload))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xc0\xc0",
        b"\xa5abc",
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x81\x80\x01",
        ext(99, b""),
        ext(-1, b"\xff" * 12),
        ext(2, b""),
        ext(2, b"\x05"),
        ext(2, b"\xa2ab"),
        ext(2, encode({1, 2}, attribute="a")),
        ext(3, encode((1, 2), attribute="a")),
        ext(4, b"\x81\xa1k\x01"),
        ext(3, b"\x91\x90"),
        ext(4, b"\x91\x80"),
        ext(5, b"\x93\x01\x02\x03"),
        ext(5, b"\x92\x90\x02"),
        ext(5, b"\x80"),
        ext(5, b"\x01"),
        ext(6, b"\x93\xa1x\x00\xc0"),
        ext(6, b"\x93\x01\x00\xc0"),
        ext(6, b"\x90"),
        ext(6, b"\x93\xaa2024-01-01\x02\xc0"),
        ext(6, b"\x93\xaa2024-01-01\x00\xaaNo/Such_Tz"),
        ext(6, b"\x93\xaa2024-01-01\x00\xa6Europe"),
        ext(6, b"\x93\xaa2024-01-01\x00\xb1../../../etc/shdw"),
        ext(6, b"\x93\xaa2024-01-01\x00\xab/etc/passwd"),
        ext(6, b"\x93\xaa2024-01-01\x00\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ext(6, b"\x93\xaa2024-01-01\x00\x05"),
        ext(6, b"\x93\xaa2024-01-01\x00\x81\x00\xa1x"),
        ext(7, b"2024-13-01"),
        ext(7, b"\xff"),
        ext(8, b"\x93\xa525:00\x00\xc0"),
        ext(9, b"\x93\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00"),
        ext(9, b"\x94\x01\x02\x03\xa1x"),
        ext(10, b"one"),
        ext(10, b""),
        ext(11, b"short"),
    ],
    ids=lambda data: data.hex()[:40] or "empty",
)
def test_malformed_bytes_are_one_kind_of_error(data: bytes) -> None:
    """S19, S52: whatever is wrong, the error is ValueUndecodable, names the attribute and is short."""
    with pytest.raises(ValueUndecodable, match="session attribute cart cannot be decoded") as caught:
        decode(data, attribute="cart")
    assert len(str(caught.value)) < 400
