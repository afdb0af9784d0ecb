"""What the adapters' conformance suite knows of an application: one way to call it, whatever is around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from understudy.cluster import Cluster

View = Callable[[Any], "str | Iterator[str]"]


class Boom(Exception):
    """What a view raises."""


@dataclass
class Response:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""
    raised: bool = False
    """The application's error reached the server."""

    @property
    def cookie(self) -> str | None:
        """What ``Set-Cookie`` brings: None if there is none, "" if it takes the cookie away."""
        line = self.set_cookie
        return None if line is None else line.partition(";")[0].partition("=")[2].strip('"')

    @property
    def set_cookie(self) -> str | None:
        found = [value for name, value in self.headers if name.lower() == "set-cookie"]
        assert len(found) < 2, "two cookies were sent"
        return found[0] if found else None

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None


@dataclass
class App:
    """An application with an adapter around it. ``view`` is what its next request does with the session."""

    call: Callable[[App, str, str, Callable[[], None]], Response]
    cluster: Callable[[], Cluster]
    view: View = lambda session: "nothing"
    is_django: bool = False
    """Its own rules are others: a status of 500 or more saves nothing; who writes into a session that has ended is
    answered 400; every response that saved sends the cookie again; no cookie is Partitioned, and none is taken away
    with HttpOnly."""

    def get(
        self, view: View, cookie: str = "", *, scheme: str = "http", on_first_byte: Callable[[], None] = lambda: None
    ) -> Response:
        self.view = view
        return self.call(self, cookie, scheme, on_first_byte)


def setting(**attributes: Any) -> View:
    """A view that sets attributes."""

    def view(session: Any) -> str:
        session.update(attributes)
        return "set"

    return view


def shown(session: Any) -> str:
    """A view that shows everything."""
    return repr(dict(session.items()))


def browse(app: App, view: View, cookie: str = "", **options: Any) -> tuple[Response, str]:
    """A request of a browser: the response, and the cookie that the browser has afterwards."""
    response = app.get(view, cookie, **options)
    return response, cookie if response.cookie is None else response.cookie


def meanwhile(
    app: App, view: View, cookie: str, *, at: AbstractContextManager[object] | None = None, **options: Any
) -> Response:
    """Another whole request, which begins and ends while the one that calls this is running; ``at`` some member."""
    responses: list[Response] = []

    def ask() -> None:
        with at or nullcontext():
            responses.append(app.get(view, cookie, **options))

    other = threading.Thread(target=ask)
    other.start()
    other.join()
    return responses[0]


def failing(app: App, view: View, cookie: str, caplog: pytest.LogCaptureFixture) -> list[BaseException]:
    """The errors of a request that the framework answers with its error page, or leaves to the server."""
    errors: list[BaseException] = []
    try:
        response = app.get(view, cookie)
        assert (response.status, response.set_cookie) == (500, None)
    except AssertionError:
        raise
    except Exception as error:
        errors.append(error)
    return errors + [record.exc_info[1] for record in caplog.records if record.exc_info and record.exc_info[1]]


class Lazily:
    """``request.session``, asked for when something of it is used."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request.session, name)

    def __getitem__(self, name: str) -> Any:
        return self._request.session[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._request.session[name] = value

    def __delitem__(self, name: str) -> None:
        del self._request.session[name]

    def __contains__(self, name: str) -> bool:
        return name in self._request.session

    def __len__(self) -> int:
        return len(self._request.session)
