"""The five questions of the race table, asked of every adapter; and that they can be answered with no."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

import tests.django_settings  # noqa: F401  # before anything else configures Django, which is done once in a process

import race_apps
import race_ours
from race_calls import Loop
from race_questions import QUESTIONS, Browser, RaceError, Slow, Subject, mangled
from races import Row, answers, table

FRAMEWORKS = ("Flask", "Quart", "Starlette", "Litestar", "Django", "aiohttp", "Pyramid", "plain WSGI")
YES = ("yes",) * len(QUESTIONS)


def test_every_adapter_says_yes_to_everything() -> None:
    """S01, S02, S04, S05: on one machine, and with the two requests on two members of a cluster."""
    with race_ours.subjects() as subjects:
        said = {(subject.framework, subject.storage): answers(subject) for subject in subjects}
    assert {framework for framework, _ in said} == set(FRAMEWORKS)
    assert {storage for _, storage in said} == {race_ours.HERE, race_ours.CROSS}
    assert said == dict.fromkeys(said, YES)


def test_the_questions_can_be_answered_with_no() -> None:
    """A session that is a signed cookie loses one of two changes, and a logout takes it from nobody who copied it."""
    subject = Subject("Flask's own", "Flask", "signed cookie", race_apps.flask_call(lambda app: None))
    assert answers(subject) == ("yes", "no", "yes", "no", "no")


def test_a_library_that_writes_everything_back_is_found_out() -> None:
    """Litestar's stores keep neither another's write nor a logout, and adopt any id."""
    from litestar.middleware.session.server_side import ServerSideSessionConfig
    from litestar.stores.memory import MemoryStore

    with Loop() as loop:
        middleware = ServerSideSessionConfig().middleware
        call = race_apps.litestar_call(loop, middleware=[middleware], stores={"sessions": MemoryStore()})
        assert answers(Subject("Litestar's own", "Litestar", "memory", call)) == ("no",) * len(QUESTIONS)


def test_an_application_without_sessions_gives_no_answers() -> None:
    """What is not asked is not answered: neither yes nor no."""
    call = race_apps.plain_wsgi_call(lambda app: lambda environ, start: app({**environ, "s": {}}, start), "s", "clear")
    subject = Subject("nothing", "plain WSGI", "none", call)
    with pytest.raises(RaceError, match="not there at the next request"):
        answers(subject)
    with pytest.raises(RaceError, match="did not come to its gate"):
        Slow(Browser(subject), "/read")


def test_a_made_up_id_has_the_form_of_a_real_one() -> None:
    """Digits stay digits, hexadecimal text stays that, and every sign may differ."""
    real = "00af-GZ9.e4_XyFF"
    made_up = mangled(real)
    assert made_up != real and len(made_up) == len(real)
    for was, now in zip(real, made_up, strict=True):
        assert was.isdigit() == now.isdigit() and was.isupper() == now.isupper()
        assert (was in "0123456789abcdef") == (now in "0123456789abcdef")
        assert was.isalnum() or was == now


def test_rows_that_say_the_same_are_one_line() -> None:
    """Frameworks are joined first, then storages; a no stands out."""
    lines = table(
        [
            Row("L", "F", "x", YES),
            Row("L", "F", "y", YES),
            Row("L", "G", "x", YES),
            Row("L", "G", "y", YES),
            Row("M", "F", "x", ("no", *YES[1:])),
        ]
    )
    assert lines[2:] == [
        "| L | F, G | x, y | yes | yes | yes | yes | yes |",
        "| M | F | x | **no** | yes | yes | yes | yes |",
    ]
