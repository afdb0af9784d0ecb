"""What every adapter claims about what may stand in a session: values, types, sizes, and a store that is full."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from tests.conformance.app import App, browse, failing, setting, shown

from understudy.errors import SessionTooLarge


class Colour(enum.Enum):
    RED = "red"


class Item(msgspec.Struct):
    name: str
    price: Decimal


VALUES: dict[str, Any] = {
    "none": None,
    "bool": True,
    "int": -(2**40),
    "float": 0.1,
    "str": "Zoë",
    "bytes": b"\x00\xff",
    "list": [1, [2]],
    "tuple": (1, ("a", None)),
    "dict": {"a": {1: "int key", (1, 2): "tuple key"}},
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "datetime": datetime(2026, 11, 25, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2))),
    "naive": datetime(2026, 11, 25, 1, 2, 3),
    "date": date(2026, 11, 25),
    "time": time(1, 2, 3, 4),
    "timedelta": timedelta(days=-1, microseconds=1),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
}
LARGE = "x" * 50_000


@dataclass
class Shop:
    user: str = ""
    cart: list[str] = field(default_factory=list)


class ShopDict(TypedDict, total=False):
    user: str
    cart: list[str]


class ShopStruct(msgspec.Struct):
    user: str = ""
    cart: list[str] = msgspec.field(default_factory=list)


class ShopModel(pydantic.BaseModel):
    user: str = ""
    cart: list[str] = []


def test_values_of_all_kinds_come_back(app: App) -> None:
    """As what they were, in another request; an Enum as its value, a Struct as a dict."""
    _, cookie = browse(app, setting(**VALUES, enum=Colour.RED, struct=Item("tea", Decimal("1.10"))))
    found: dict[str, Any] = {}
    app.get(lambda session: found.update(session) or "seen", cookie)
    assert (found.pop("enum"), found.pop("struct")) == ("red", {"name": "tea", "price": Decimal("1.10")})
    assert found == VALUES
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in VALUES.items()}


@pytest.mark.parametrize("type_", [Shop, ShopDict, ShopStruct, ShopModel])
def test_a_session_may_have_a_type(app: App, type_: Any) -> None:
    """What a view changes in the typed value is the session's; what the type does not know stays."""
    _, cookie = browse(app, setting(user="ada", cart=["tea"], other=1))

    def view(session: Any) -> str:
        shop = session.as_type(type_)
        cart = shop["cart"] if type_ is ShopDict else shop.cart
        cart.append("milk")
        return str(shop["user"] if type_ is ShopDict else shop.user)

    assert app.get(view, cookie).body == "ada"
    assert app.get(shown, cookie).body == "{'user': 'ada', 'cart': ['tea', 'milk'], 'other': 1}"


def test_a_session_that_is_too_large_is_an_error_that_names_what_is_large(
    make: Callable[..., App], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It reaches the application's error page and its log, nothing of the request is committed, and others go on."""
    monkeypatch.setenv("UNDERSTUDY_SESSION_BYTES_MAX", "100000")
    app = make()
    _, cookie = browse(app, setting(n=1))
    errors = failing(app, setting(n=2, huge="x" * 90_000, large="y" * 40_000), cookie, caplog)
    found = [error for error in errors if isinstance(error, SessionTooLarge)]
    assert found and "'huge' with 90" in str(found[0]) and "'large' with 40" in str(found[0])
    assert app.get(shown, cookie).body == "{'n': 1}"
    assert app.get(setting(n=3), cookie).status == 200


def test_a_full_store_refuses_new_sessions_and_no_others(
    make: Callable[..., App], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S50: they are answered 503, with a line in the log; those that exist are read, changed and ended, and after that
    there is room for others.
    """
    monkeypatch.setenv("UNDERSTUDY_STORE_BYTES_MAX", "2MiB")
    caplog.set_level(logging.WARNING)
    app = make()
    cookies: list[str] = []
    while (response := app.get(setting(large=LARGE))).status == 200:
        cookies.append(response.cookie or "")
        assert len(cookies) < 200, "it never fills"
    assert (response.status, response.header("Retry-After"), response.set_cookie) == (503, "1", None)
    assert "full" in caplog.text and "store_bytes_max" in caplog.text
    for cookie in cookies:
        assert app.get(lambda session: str(len(session["large"])), cookie).body == str(len(LARGE))
    assert app.get(setting(small=1), cookies[0]).status == 200
    for cookie in cookies[:5]:
        assert app.get(lambda session: session.invalidate() or "out", cookie).status == 200
    assert app.get(setting(small=1)).status == 200
