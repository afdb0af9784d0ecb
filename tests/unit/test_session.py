"""Claims of ``understudy.client.session`` and ``draft``: what an application sees, and what is written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from tests.workers import Clock, Worker, local_worker

from understudy import limits
from understudy.client.draft import Draft
from understudy.errors import SessionTooLarge, ValueNotSupported, ValueUndecodable
from understudy.model import values
from understudy.model.entry import Sibling
from understudy.protocol.messages import CommitRequest


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(clock: Clock) -> Worker:
    return local_worker(clock)


def commits(worker: Worker) -> list[CommitRequest]:
    return [asked.request for asked in worker.asked if isinstance(asked.request, CommitRequest)]


def test_it_is_a_mapping(worker: Worker) -> None:
    """Everything that a dict can do with str keys."""
    session = worker.begin()
    session["a"] = 1
    session.update(b=[2], c="three")
    assert (len(session), sorted(session)) == (3, ["a", "b", "c"])
    assert ("a" in session, "x" in session, 5 in session) == (True, False, False)
    assert session.pop("a") == 1
    assert session.setdefault("d", {}) == {}
    del session["c"]
    assert dict(session) == {"b": [2], "d": {}}
    with pytest.raises(KeyError):
        del session["c"]
    session.clear()
    assert not session


def test_an_empty_session_is_never_made(worker: Worker) -> None:
    """Without a write there is no session, no commit and no cookie."""
    session = worker.begin()
    assert session.get("x") is None and session.is_new and session.id is None and session.role == "new"
    assert worker.finish(session) is None
    assert worker.asked == []


def test_what_one_request_wrote_the_next_one_reads(worker: Worker) -> None:
    """With the cookie that the first response brought; id and creation stay."""
    cookie = worker.request(user="ada", cart=[1])
    session = worker.begin(cookie)
    assert (session["user"], session["cart"], session.is_new, session.role) == ("ada", [1], False, "primary")
    assert session.id == cookie.split(".")[0] and cookie.endswith(".a")
    assert worker.finish(session) is None


def test_changes_inside_values_are_noticed(worker: Worker) -> None:
    """S06: a change in a nested list or dict is committed without any flag, and it alone."""
    cookie = worker.request(cart={"items": [{"n": 1}]}, other=[1])
    session = worker.begin(cookie)
    session["other"]
    session["cart"]["items"][0]["n"] += 1
    worker.finish(session)
    assert list(commits(worker)[-1].commit.sets) == ["cart"]
    assert worker.begin(cookie)["cart"] == {"items": [{"n": 2}]}


def test_a_request_that_changed_nothing_writes_nothing(worker: Worker) -> None:
    """S06: reading, and assigning or rebuilding what is there already, asks for nothing."""
    cookie = worker.request(cart={"items": [1]}, tags={"b", "a"}, when=datetime(2026, 1, 1, tzinfo=UTC))
    worker.asked.clear()
    session = worker.begin(cookie)
    session["cart"]["items"].append(2)
    session["cart"]["items"].pop()
    session["tags"] = {"a", "b"}
    session["when"] = datetime(2026, 1, 1, tzinfo=UTC)
    session["fleeting"] = 1
    del session["fleeting"]
    assert not session.modified
    assert worker.finish(session) is None
    assert worker.asked == []


def test_a_value_kept_in_hand_is_watched_after_a_commit(worker: Worker) -> None:
    """S12: what a streaming response changes after its first byte is committed by the late finish."""
    cookie = worker.request(cart=[1])
    session = worker.begin(cookie)
    cart = session["cart"]
    cart.append(2)
    worker.finish(session)
    cart.append(3)
    worker.finish(session, late=True)
    assert worker.begin(cookie)["cart"] == [1, 2, 3]


def test_one_undecodable_attribute_harms_no_other(worker: Worker) -> None:
    """S19: only its own access raises, naming it; the others are read and written."""
    cookie = worker.request(good=1, bad=2)
    session = worker.begin(cookie)
    assert session["good"] == 1 and session.visit.opened is not None
    key = session.visit.opened.key
    with worker.store.write() as transaction:
        entry = transaction.get(key)
        assert entry is not None
        broken = {**entry.attributes, "bad": (Sibling(1, 1, 1, b"\xc1"),)}
        transaction.put(key, msgspec.structs.replace(entry, attributes=broken))
    session = worker.begin(cookie)
    assert session["good"] == 1 and list(session) == ["good", "bad"]
    with pytest.raises(ValueUndecodable, match="bad"):
        session["bad"]
    session["good"] = 5
    worker.finish(session)
    assert worker.begin(cookie)["good"] == 5


def test_one_unstorable_change_takes_no_other_with_it(worker: Worker) -> None:
    """S19: assigned, it is refused at once; made in place, the others are committed and the error names it."""
    cookie = worker.request(cart=[], n=1)
    session = worker.begin(cookie)
    with pytest.raises(ValueNotSupported, match="widget"):
        session["widget"] = object()
    session["cart"].append(object())
    session["n"] = 2
    with pytest.raises(ValueNotSupported, match=r"cart\[0\]"):
        worker.finish(session)
    again = worker.begin(cookie)
    assert (again["n"], again["cart"]) == (2, [])


@pytest.mark.parametrize("name", ["\x00secrets", "x" * (limits.ATTRIBUTE_NAME_CHARS_MAX + 1), "\ud800", 5, None])
def test_names_that_cannot_be_are_refused(worker: Worker, name: Any) -> None:
    """Names of ours, too long ones, ones without UTF-8, and what is no str."""
    with pytest.raises(ValueNotSupported):
        worker.begin()[name] = 1


def test_reserved_attributes_are_not_seen(worker: Worker) -> None:
    """The secrets' hashes and the principal are in the entry and in no mapping."""
    session = worker.begin()
    session.rotate(principal="ada")
    session["n"] = 1
    cookie = worker.finish(session) or ""
    again = worker.begin(cookie)
    assert list(again) == ["n"] and again.principal == "ada"
    with pytest.raises(KeyError):
        again["\x00secrets"]
    entry = worker.entry(again)
    assert entry is not None and len(entry.attributes) == 3


def test_a_session_too_large_is_refused_with_its_largest_attributes(worker: Worker) -> None:
    """The error names them; nothing of the request is written."""
    cookie = worker.request(small=1, big="x" * 60_000)
    session = worker.begin(cookie)
    session["bigger"] = "y" * 70_000
    with pytest.raises(SessionTooLarge, match=r"'bigger' with 70\d+, 'big' with 60\d+"):
        worker.finish(session)
    assert "bigger" not in worker.begin(cookie)


def test_its_representation_holds_no_id_and_no_value(worker: Worker) -> None:
    """S54: representations end up in logs."""
    cookie = worker.request(card="4111")
    session = worker.begin(cookie)
    unused = repr(session)
    assert session["card"] == "4111"
    assert session.visit.opened is not None
    for text in (unused, repr(session), repr(session.visit), repr(session.visit.opened.session_id)):
        assert "4111" not in text and cookie.split(".")[0] not in text


def test_creation_is_an_aware_datetime(worker: Worker, clock: Clock) -> None:
    """It is where the wall clock was when the session began, however the store's clock counts."""
    cookie = worker.request(n=1)
    clock.ms += 5 * 60_000
    created = worker.begin(cookie).created
    assert created.tzinfo is not None
    assert timedelta(minutes=4) < datetime.now(UTC) - created < timedelta(minutes=6)


def test_concurrent_values_stand_side_by_side_until_one_is_chosen() -> None:
    """The shown one comes first; assigning even that one is a choice, and is written."""
    one, two = (values.encode(text, attribute="n") for text in ("one", "two"))
    draft = Draft({"n": (Sibling(1, 5, 1, one), Sibling(2, 3, 2, two))})
    assert draft.get("n") == "two" and draft.concurrent("n") == ["two", "one"]
    assert draft.changes().empty
    draft.set("n", "two")
    assert list(draft.changes().sets) == ["n"] and draft.concurrent("n") == ["two"]


class Line(msgspec.Struct):
    sku: str
    n: int = 1


def test_what_was_deleted_is_gone_after_the_commit_and_takes_no_room() -> None:
    """Also for the rest of the same request, and when the limit of the session's size is looked at."""
    one, two = values.encode(1, attribute="a"), values.encode("two", attribute="c")
    draft = Draft({"a": (Sibling(1, 1, 1, one),), "b": (Sibling(1, 1, 1, one),)})
    draft.delete("a")
    draft.set("c", "two")
    changes = draft.changes()
    assert draft.sizes(changes) == {"b": 1 + len(one), "c": 1 + len(two)}
    draft.committed(changes, 1, 2, 1)
    assert (list(draft), draft.get("c")) == (["b", "c"], "two")
    assert draft.changes().empty
    assert draft.sizes(draft.changes()) == {"b": 1 + len(one), "c": 1 + len(two)}


@dataclass
class Shop:
    user: str = ""
    lines: list[Line] = field(default_factory=list)
    address: dict[str, str] = field(default_factory=dict)


def test_a_typed_view_writes_back_and_keeps_what_it_does_not_know(worker: Worker) -> None:
    """Fields that changed are set; attributes and inner keys that the type leaves out stay."""
    cookie = worker.request(user="ada", lines=[{"sku": "x", "n": 1}], address={"city": "Basel"}, theme="dark")
    session = worker.begin(cookie)
    shop = session.as_type(Shop)
    assert shop.lines == [Line("x")]
    shop.lines.append(Line("y", 2))
    shop.address["zip"] = "4001"
    worker.finish(session)
    assert sorted(commits(worker)[-1].commit.sets) == ["address", "lines"]
    again = worker.begin(cookie)
    assert again["theme"] == "dark" and again["address"] == {"city": "Basel", "zip": "4001"}
    assert again.as_type(Shop).lines == [Line("x"), Line("y", 2)]


class Known(msgspec.Struct):
    name: str


class Profile(msgspec.Struct):
    known: Known


def test_inner_fields_that_a_type_does_not_know_survive_its_change(worker: Worker) -> None:
    """An older release of an application may change what a newer one wrote."""
    cookie = worker.request(known={"name": "ada", "since": 1843})
    session = worker.begin(cookie)
    session.as_type(Profile).known.name = "augusta"
    worker.finish(session)
    assert worker.begin(cookie)["known"] == {"name": "augusta", "since": 1843}


class Basket(TypedDict):
    user: str
    lines: list[str]


@dataclass
class BasketClass:
    user: str
    lines: list[str]


class BasketStruct(msgspec.Struct):
    user: str
    lines: list[str]


class BasketModel(pydantic.BaseModel):
    user: str
    lines: list[str]
    since: datetime | None = None


@pytest.mark.parametrize("type_", [Basket, BasketClass, BasketStruct, BasketModel], ids=lambda type_: type_.__name__)
def test_a_session_is_seen_as_any_kind_of_type(worker: Worker, type_: Any) -> None:
    """TypedDict, dataclass, msgspec Struct and pydantic model: changes of their fields are written, and no others."""
    cookie = worker.request(user="ada", lines=["tea"], theme="dark")
    session = worker.begin(cookie)
    basket = session.as_type(type_)
    user, lines = (basket["user"], basket["lines"]) if type_ is Basket else (basket.user, basket.lines)
    assert (user, lines) == ("ada", ["tea"])
    lines.append("milk")
    worker.finish(session)
    assert list(commits(worker)[-1].commit.sets) == ["lines"]
    assert dict(worker.begin(cookie)) == {"user": "ada", "lines": ["tea", "milk"], "theme": "dark"}
    before = len(worker.asked)
    session = worker.begin(cookie)
    session.as_type(type_)
    worker.finish(session)
    assert len(worker.asked) == before, "what was only looked at is not written"


@pytest.mark.parametrize("type_", [Basket, BasketClass, BasketStruct, BasketModel], ids=lambda type_: type_.__name__)
def test_a_session_that_does_not_fit_is_an_error_without_its_values(worker: Worker, type_: Any) -> None:
    """The message names the place and not what is there: messages end up in logs."""
    cookie = worker.request(user="ada", lines="the secret of ada")
    with pytest.raises(ValueUndecodable, match="lines") as raised:
        worker.begin(cookie).as_type(type_)
    assert "secret" not in str(raised.value) and raised.value.__suppress_context__ | (type_ is not BasketModel)


class Address(pydantic.BaseModel):
    city: str
    zip_code: str = pydantic.Field(default="", alias="zip")


class Person(pydantic.BaseModel):
    address: Address
    since: datetime


def test_a_pydantic_models_aliases_and_inner_models_are_kept(worker: Worker) -> None:
    """The attributes have the names that the model reads; values keep their types."""
    since = datetime(1843, 7, 10, tzinfo=UTC)
    cookie = worker.request(address={"city": "Basel", "zip": "4000", "floor": 2}, since=since)
    session = worker.begin(cookie)
    person = session.as_type(Person)
    person.address.zip_code = "4001"
    worker.finish(session)
    assert dict(worker.begin(cookie)) == {"address": {"city": "Basel", "zip": "4001", "floor": 2}, "since": since}


def test_counters_are_exact_between_requests_under_way(worker: Worker) -> None:
    """S03: two requests that both began before either counted: both are counted."""
    cookie = worker.request(n=0)
    first, second = worker.begin(cookie), worker.begin(cookie)
    assert first["n"] == second["n"] == 0

    def count(session: Any) -> int:
        session["n"] += 1
        return int(session["n"])

    assert first.transact(count) == 1
    assert second.transact(count) == 2
    assert asyncio.run(first.atransact(count)) == 3
    worker.finish(first)
    worker.finish(second)
    assert worker.begin(cookie)["n"] == 3


def test_transact_leaves_the_requests_other_changes_alone(worker: Worker) -> None:
    """They are neither seen by the function nor lost, and what was only read is read anew."""
    cookie = worker.request(n=0, seen=[1], cart=[])
    session = worker.begin(cookie)
    assert session["seen"] == [1]
    session["mine"] = "pending"
    session["cart"].append("pear")
    worker.request(cookie, seen=[2])
    keys = session.transact(lambda s: sorted(s))
    assert keys == ["cart", "n", "seen"]
    session.transact(lambda s: s.update(n=s["n"] + 1))
    assert session["seen"] == [2] and session["n"] == 1 and session["mine"] == "pending"
    worker.finish(session)
    assert dict(worker.begin(cookie)) == {"n": 1, "seen": [2], "mine": "pending", "cart": ["pear"]}


def test_transact_on_a_new_session_begins_it(worker: Worker) -> None:
    """The first use of a session may be a counter; its response brings the cookie."""
    session = worker.begin()
    assert session.transact(lambda s: s.setdefault("n", 1)) == 1
    cookie = worker.finish(session)
    assert cookie and worker.begin(cookie)["n"] == 1
