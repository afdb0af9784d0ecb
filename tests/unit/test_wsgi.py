"""Claims of ``understudy.wsgi`` beyond those of every adapter: it stands in nobody's way."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from understudy.client.member import _members
from understudy.wsgi import SESSION, SessionMiddleware


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


class Server:
    """Calls an application as a server does, and keeps what it was given."""

    def __init__(self, app: Any, **environ: Any) -> None:
        self.begun: list[tuple[str, dict[str, str], Any]] = []
        self.environ: dict[str, Any] = dict(environ)
        setup_testing_defaults(self.environ)
        self.environ["QUERY_STRING"] = ""
        self.parts = app(self.environ, self._start_response)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if exc_info is not None and self.begun:
            raise exc_info[1]
        self.begun.append((status, dict(headers), exc_info))
        return lambda data: None

    def body(self) -> bytes:
        try:
            return b"".join(self.parts)
        finally:
            if hasattr(self.parts, "close"):
                self.parts.close()


def test_lists_and_files_reach_the_server_as_they_are() -> None:
    """It may send them in its own way: with a length, or by the kernel."""
    body = [b"whole"]
    file = FileWrapper(io.BytesIO(b"file"))

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        environ[SESSION]["n"] = 1
        start_response("200 OK", [])
        return file if "wsgi.file_wrapper" in environ else body

    app = SessionMiddleware(application)
    plain, sent = Server(app), Server(app, **{"wsgi.file_wrapper": FileWrapper})
    assert plain.parts is body and sent.parts is file
    assert all("Set-Cookie" in server.begun[0][1] for server in (plain, sent))


def test_an_error_may_replace_a_response_that_has_not_begun() -> None:
    """``start_response`` may be called again with ``exc_info``, as the specification has it."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            raise ValueError("early")
        except ValueError:
            start_response("500 Oh", [], sys.exc_info())
        yield b"error"
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Oh", [], sys.exc_info())

    server = Server(SessionMiddleware(application))
    with pytest.raises(ValueError, match="late"):
        server.body()
    assert [status for status, _, _ in server.begun] == ["500 Oh"]


def test_the_applications_iterable_is_closed_once() -> None:
    """Also when it was never read to its end, and before the last changes are committed."""
    closed: list[str] = []

    class Parts:
        def __init__(self, session: Any) -> None:
            self.session = session

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a", b"b"])

        def close(self) -> None:
            self.session["closed"] = True
            closed.append("closed")

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        environ[SESSION].setdefault("n", 1)
        start_response("200 OK", [])
        return Parts(environ[SESSION])

    app = SessionMiddleware(application)
    server = Server(app)
    assert next(iter(server.parts)) == b"a"
    server.parts.close()
    assert closed == ["closed"]
    (key,) = app.cluster.manager.sessions
    assert dict(app.cluster.manager.sessions[key]) == {"n": 1, "closed": True}


def test_it_keeps_to_the_specification() -> None:
    """As the standard library's validator sees it, from both sides."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        environ[SESSION]["n"] = 1
        yield b"a"
        yield b"b"

    assert Server(validator(SessionMiddleware(validator(application)))).body() == b"ab"
