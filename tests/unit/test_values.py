"""Claims of ``understudy.model.values``: what can be stored, how it comes back, what is refused and how it is said."""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Any, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from markupsafe import Markup

from understudy import limits
from understudy.errors import ValueNotSupported, ValueUndecodable
from understudy.model.values import convert, decode, differs, encode, is_immutable

DEPTH = limits.VALUE_DEPTH_MAX
BERLIN = ZoneInfo("Europe/Berlin")
A_UUID = UUID("12345678-1234-5678-1234-567812345678")


def through(value: object) -> Any:
    return decode(encode(value, attribute="a"), attribute="a")


def ext(code: int, payload: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, payload))


class Custom:
    pass


class Text(str):
    pass


Pair = namedtuple("Pair", "a b")


class Colour(Enum):
    RED = "red"
    SIZES = (1, 2)


class Shade(Enum):
    PALE = "pale"


class Level(IntEnum):
    HIGH = 3


class Mode(StrEnum):
    DARK = "dark"


class Right(Flag):
    READ = 1
    WRITE = 2


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


class Card(msgspec.Struct, tag="card"):
    last_digits: str


class Invoice(msgspec.Struct, tag="invoice"):
    days: int


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str


class Profile(TypedDict):
    name: str
    born: date


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        2**4000,
        -(2**4000),
        0.0,
        1.5,
        float("inf"),
        -float("inf"),
        5e-324,
        "",
        "Zoë 🦀 \x00",
        b"",
        b"\x00\xff",
        [],
        {},
        (),
        set(),
        frozenset(),
        [1, [2.0, [True, [None, ["x", [b"y"]]]]]],
        (1,),
        ((), ((),)),
        [(1, 2), {"a": (3,)}],
        {1: "int", "1": "str", (1, 2): "tuple", None: "none", b"1": "bytes", 2.5: "float", frozenset({1}): "set"},
        {True: "a", 2: "b"},
        {1.0: "a"},
        {1: "a"},
        {date(2024, 1, 1): 1, A_UUID: 2, Decimal("1.10"): 3},
        {1, "1", b"1", 2.5, None, (1, 2), frozenset({3})},
        {frozenset({frozenset({1})})},
        datetime(2024, 2, 29, 12, 30, 59, 123456),
        datetime.min,
        datetime.max,
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=1, microseconds=1))),
        date(2024, 2, 29),
        date.min,
        time(23, 59, 59, 999999),
        time(1, 2, tzinfo=UTC),
        timedelta(0),
        timedelta.min,
        timedelta.max,
        timedelta(microseconds=-1),
        Decimal("0"),
        Decimal("Infinity"),
        Decimal("1E+999999"),
        Decimal("123456789012345678901234567890.123456789"),
        A_UUID,
        Markup("<b>bold</b> é"),
        [("message", Markup("<b>bold</b>"))],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_value_comes_back_with_its_type_and_content(value: object) -> None:
    """What is stored is what is read, to the type of every part."""
    back = through(value)
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, set | frozenset | dict)


@pytest.mark.parametrize("payload", [0x7FF8000000000000, 0xFFF8000000000001, 0x8000000000000000])
def test_floats_keep_their_bits(payload: int) -> None:
    """Not-a-number, with its sign and payload, and minus zero come back as they were."""
    (value,) = struct.unpack(">d", payload.to_bytes(8, "big"))
    assert struct.pack(">d", through(value)) == payload.to_bytes(8, "big")


@pytest.mark.parametrize(
    "text", ["1", "1.0", "1.00", "-0", "-0.000", "1E+3", "NaN", "-NaN123", "sNaN", "sNaN7", "-Infinity"]
)
def test_decimals_keep_sign_digits_and_exponent(text: str) -> None:
    """1.0 and 1.00 are different prices on a receipt; neither becomes the other."""
    assert through(Decimal(text)).as_tuple() == Decimal(text).as_tuple()


def test_one_and_true_and_one_point_nought_stay_what_they_are() -> None:
    """They are equal in Python and different in the store, as values and as keys."""
    for value in (1, True, 1.0):
        assert type(through(value)) is type(value)
        assert [type(key) for key in through({value: "x"})] == [type(value)]
        assert [type(item) for item in through({value})] == [type(value)]
    assert len({encode(value, attribute="a") for value in (1, True, 1.0, Decimal(1))}) == 4


@pytest.mark.parametrize("value", [{"b": 1, "a": 2, "c": 3}, {2: "b", "x": 0, 1: "a", (): None}])
def test_dicts_keep_their_order(value: dict[Any, Any]) -> None:
    """Insertion order is part of a dict: it comes back, and another order is another value."""
    assert list(through(value)) == list(value)
    turned = dict(reversed(value.items()))
    assert encode(turned, attribute="a") != encode(value, attribute="a")


@pytest.mark.parametrize("fold", [0, 1])
def test_a_zone_keeps_its_key_and_an_ambiguous_hour_its_side(fold: int) -> None:
    """Half past two happens twice when the clocks go back; the stored one is still the same instant."""
    value = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=fold)
    back = through(value)
    assert back.tzinfo is BERLIN
    assert (back.replace(tzinfo=None), back.fold) == (value.replace(tzinfo=None), fold)
    assert back.astimezone(UTC) == value.astimezone(UTC)
    assert through(time(2, 30, tzinfo=BERLIN, fold=fold)).fold == fold


def test_a_fixed_offset_keeps_its_name() -> None:
    """A named offset prints its name, also after a round trip, and an unnamed one does not get one."""
    named = datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET"))
    assert through(named).tzname() == "CET"
    assert through(named.replace(tzinfo=timezone(timedelta(hours=1)))).tzname() == "UTC+01:00"
    assert through(named.replace(tzinfo=UTC)).tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Colour.SIZES, (1, 2)),
        (Level.HIGH, 3),
        (Mode.DARK, "dark"),
        (Right.READ | Right.WRITE, 3),
        ([Mode.DARK], ["dark"]),
        ({Mode.DARK: Level.HIGH}, {"dark": 3}),
        ({Colour.RED, Level.HIGH}, {"red", 3}),
    ],
)
def test_an_enum_comes_back_as_its_value(value: object, plain: object) -> None:
    """Enums of every kind are stored by value, also as keys and elements."""
    back = through(value)
    assert back == plain
    assert type(back) is type(plain)
    assert encode(value, attribute="a") == encode(plain, attribute="a")


def test_dataclasses_and_structs_come_back_as_dicts_of_their_fields() -> None:
    """Without a type to read them through, they are plain dicts, all the way down."""
    item = Item("A-1", Decimal("1.50"), {"new"})
    plain = {"sku": "A-1", "price": Decimal("1.50"), "tags": {"new"}}
    assert through(item) == plain
    assert through(Point(1, 2)) == {"x": 1, "y": 2}
    assert through(Basket([item])) == {"itemList": [plain], "giftNote": None}
    assert through(Card("42")) == {"type": "card", "last_digits": "42"}
    assert through(Row(1, "x")) == [1, "x"]


def test_fields_that_are_not_set_are_left_out() -> None:
    """A field without a value has nothing to store, and harms no other."""

    class Partial(msgspec.Struct):
        a: int
        b: int | msgspec.UnsetType = msgspec.UNSET

    @dataclass
    class Late:
        a: int
        b: int = field(init=False)

    assert through(Partial(1)) == {"a": 1}
    assert through(Late(1)) == {"a": 1}


def test_dicts_with_manners_come_back_as_plain_dicts() -> None:
    """OrderedDict, defaultdict and Counter hold what a dict holds; they come back as one, in their order."""
    for value in (OrderedDict([("b", 1), ("a", 2)]), defaultdict(list, {"b": [1], "a": [2]}), Counter("abba")):
        back = through(value)
        assert type(back) is dict
        assert list(back.items()) == list(value.items())


# --- canonical encoding ----------------------------------------------------------------------------------------------


def test_sets_have_one_encoding_whatever_their_history() -> None:
    """The order in which a set was filled, and hashes that differ between processes, do not show in the bytes."""
    numbers = [0, 8, 16, 24, 32]  # these collide in a small table, so their order shows how it was filled
    assert list(set(numbers)) != list(set(reversed(numbers)))
    for kind in (set, frozenset):
        assert encode(kind(numbers), attribute="a") == encode(kind(reversed(numbers)), attribute="a")
    assert encode({"b", "a"}, attribute="a").hex() == "c70503" + "92" + "a161" + "a162"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, None, True, 1.5, "x", b"y"]}, "81a1619601c0c3cb3ff8000000000000a178c40179"),
        (2**64, "c70901010000000000000000"),
        (-(2**63) - 1, "c70901ff7fffffffffffffff"),
        ((1, 2), "c70302920102"),
        (frozenset({2, 1}), "c70304920102"),
        ({1: 2, 3: 4}, "c705059401020304"),
        (datetime(2024, 1, 2, 3, 4, 5), "c717" + "06" + "93b3" + b"2024-01-02T03:04:05".hex() + "00c0"),
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "c718" + "06" + "93b3" + b"2024-01-02T03:04:05".hex() + "009100"),
        (date(2024, 1, 2), "c70a07" + b"2024-01-02".hex()),
        (time(3, 4, 5), "c70c08" + "93a8" + b"03:04:05".hex() + "00c0"),
        (timedelta(1, 2, 3), "d60993010203"),
        (Decimal("1.10"), "d60a" + b"1.10".hex()),
        (A_UUID, "d80b" + A_UUID.hex),
        (Markup("<b>"), "c7030c3c623e"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_the_format_does_not_change(value: object, expected: str) -> None:
    """The bytes of each type are those of this format version: stores and other members hold them."""
    assert encode(value, attribute="a").hex() == expected


# --- finding changes -------------------------------------------------------------------------------------------------


def test_an_untouched_value_does_not_differ() -> None:
    """S06: a request that changed nothing finds nothing to write."""
    for value in ([1, {"a": {3, 1, 2}}], {"t": (1, [2])}, {"n": float("nan")}, {1: [Decimal("NaN")]}, []):
        stored = encode(value, attribute="a")
        assert differs(stored, decode(stored, attribute="a"), attribute="a") is None


def test_a_change_deep_inside_is_found() -> None:
    """S06: append, remove, reorder and retype inside are changes; the new bytes hold the new value."""
    stored = encode({"cart": {"items": [1, {"q": 1}], "tags": {"x"}}}, attribute="a")

    def after(change: Any) -> Any:
        value = decode(stored, attribute="a")
        change(value["cart"])
        encoded = differs(stored, value, attribute="a")
        assert encoded is not None
        assert decode(encoded, attribute="a") == value
        return value

    after(lambda cart: cart["items"].append(2))
    after(lambda cart: cart["items"][1].update(q=2))
    after(lambda cart: cart["items"][1].update(q=True))
    after(lambda cart: cart["items"][1].update(q=1.0))
    after(lambda cart: cart["items"].reverse())
    after(lambda cart: cart["tags"].add("y"))
    after(lambda cart: cart["tags"].clear())
    after(lambda cart: cart.update(items=tuple(cart["items"])))
    after(lambda cart: cart.update({"items": cart.pop("items")}))


def test_other_bytes_for_the_same_value_are_no_change() -> None:
    """S06: a set in another order, or an integer in a longer form, as another release may write, is the same value."""
    for stored, value in ((ext(3, b"\x92\x02\x01"), {1, 2}), (b"\x91\xcd\x00\x01", [1]), (b"\x91\xd9\x01x", ["x"])):
        assert encode(value, attribute="a") != stored
        assert differs(stored, value, attribute="a") is None
        assert differs(stored, [*value, 3], attribute="a") is not None


def test_a_value_assigned_as_an_enum_or_dataclass_does_not_differ_from_what_is_stored_of_it() -> None:
    """S06: assigning an equal dataclass again writes nothing."""
    stored = encode(Item("x", Decimal(1)), attribute="a")
    assert differs(stored, Item("x", Decimal(1)), attribute="a") is None
    assert differs(stored, Item("y", Decimal(1)), attribute="a") is not None
    assert differs(encode("red", attribute="a"), Colour.RED, attribute="a") is None


def test_any_value_differs_from_bytes_that_cannot_be_read() -> None:
    """S19: an attribute that became unreadable can be overwritten."""
    assert differs(b"\xc1", [1], attribute="a") == encode([1], attribute="a")


def test_a_value_that_became_unstorable_is_named() -> None:
    """S19: what was put inside after the assignment is found at the comparison, with its place."""
    with pytest.raises(ValueNotSupported, match=r"cart\[0\] "):
        differs(encode([], attribute="cart"), [Custom()], attribute="cart")


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 1, 2**70, 1.5, "x", b"x", Decimal(1), A_UUID, date.min, datetime.min, time.min, timedelta.min),
        *((), (1, ("x",)), frozenset({1}), (frozenset({(1,)}),)),
    ],
    ids=repr,
)
def test_immutable_values_need_no_comparison(value: object) -> None:
    """Nobody can have changed these in place."""
    assert is_immutable(value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        set(),
        ([],),
        (1, ({},)),
        Item("x", Decimal(1)),
        Custom(),
        Text("x"),
        Pair(1, 2),
        (Custom(),),
        bytearray(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_might_have_been_changed_is_compared(value: object) -> None:
    """A list in a tuple, and anything unknown, counts as mutable."""
    assert not is_immutable(value)


def test_a_very_deep_tuple_counts_as_mutable() -> None:
    """It is left to the encoder, which refuses it with a clear error."""
    value: object = 1
    for _ in range(5_000):
        value = (value,)
    assert not is_immutable(value)


# --- reading through a type ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (Item("x", Decimal("1.50"), {"a"}), Item),
        (Basket([Item("x", Decimal(1))], "hello"), Basket),
        (Point(1, 2), Point),
        (Card("42"), Card | Invoice),
        (Invoice(30), Card | Invoice),
        (Row(1, "x"), Row),
        ([Shade.PALE], list[Shade]),
        (Level.HIGH, Level),
        (Mode.DARK, Mode),
        ({"name": "Ada", "born": date(1815, 12, 10)}, Profile),
        ({Mode.DARK: (1, "x")}, dict[Mode, tuple[int, str]]),
        ({1: {A_UUID: [timedelta(1)]}}, dict[int, dict[UUID, list[timedelta]]]),
        ([datetime(2024, 1, 1, tzinfo=BERLIN), 1], list[datetime | int]),
        (b"\xff", bytes),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_typed_value_is_read_back_through_its_type(value: object, type_: Any) -> None:
    """Dataclasses, Structs, enums and typed containers survive the store when read back through their type."""
    back = convert(through(value), type_)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "type_", "said"),
    [
        ({"sku": 5, "price": Decimal(1)}, Item, r"Item.*\$\.sku"),
        ({"sku": "x"}, Item, "price"),
        ("green", Shade, "Shade"),
        ({"name": "Ada"}, Profile, "born"),
        ("2024-01-01T00:00:00", datetime, "datetime"),
        ([1, "x"], list[int], r"list\[int\].*\$\[1\]"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_value_that_does_not_fit_its_type_is_named(value: object, type_: Any, said: str) -> None:
    """The error is ValueUndecodable and says which type and which part of the value."""
    with pytest.raises(ValueUndecodable, match=said):
        convert(value, type_)


def test_a_type_that_cannot_be_converted_to_is_the_callers_mistake() -> None:
    """An Enum of mixed values is no fault of the stored data: TypeError, not ValueUndecodable."""
    with pytest.raises(TypeError, match="Colour"):
        convert("red", Colour)
