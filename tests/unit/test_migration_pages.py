"""The pages for who comes from elsewhere: their code takes sessions along, and what they name exists."""

from __future__ import annotations

import json
import re
import sys
import types
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tests.django_settings  # noqa: F401  # Django is configured once in a process
from cachelib.file import FileSystemCache
from django.http import HttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import path
from itsdangerous import TimestampSigner
from starlette.testclient import TestClient

from understudy.client.statistics import Figures
from understudy.config import OPTIONS
from understudy.testing import isolated

PAGES = Path(__file__).parents[2] / "docs" / "migration"


@pytest.fixture(autouse=True)
def sessions() -> Iterator[None]:
    with isolated():
        yield


def example(page: str) -> types.ModuleType:
    """The page's code, run as a module."""
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text("utf-8"), re.DOTALL)
    module = types.ModuleType(page.partition(".")[0].replace("-", "_"))
    exec(compile(code, page, "exec"), module.__dict__)
    return module


def test_flask_sessions_come_along_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flask-Session had stored goes on; the old cookie opens it once, and the new one from then on."""
    import flask
    import flask_session

    monkeypatch.chdir(tmp_path)
    before = flask.Flask("before")
    before.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=FileSystemCache("flask_session"))
    flask_session.Session(before)

    @before.get("/")
    def visit() -> str:
        flask.session["visits"] = 41
        return "before"

    old = before.test_client()
    old.get("/")
    cookie = old.get_cookie("session")
    assert cookie is not None

    app = example("flask-session.md").app
    client, thief = app.test_client(), app.test_client()
    for browser in (client, thief):
        browser.set_cookie("session", cookie.value)
    assert client.get("/").text == "visit 42\n"
    assert client.get("/").text == "visit 43\n"
    assert thief.get("/").text == "visit 1\n"


def test_starlettes_cookies_come_along() -> None:
    """A cookie that Starlette has signed begins a session; one that it has not, or another secret, does not."""
    app = example("starlette-cookies.md").app
    data = b64encode(json.dumps({"visits": 41}).encode())
    for secret, seen in (("the old secret_key", 42), ("another", 1)):
        client = TestClient(app)
        client.cookies.set("session", TimestampSigner(secret).sign(data).decode(), domain="testserver.local")
        assert client.get("/").text == f"visit {seen}\n"
        assert client.get("/").text == f"visit {seen + 1}\n"


def count(request: Any) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"visit {request.session['visits']}\n")


urlpatterns = [path("", count)]


def test_djangos_sessions_come_along_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another engine had stored goes on, under a key of ours; the old one opens nothing more."""
    module = example("django-cache.md")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with override_settings(
        SESSION_FILE_PATH=str(tmp_path),
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["understudy.django.SessionMiddleware", f"{module.__name__}.take_along"],
    ):
        old = module.OLD.SessionStore()
        old["visits"] = 41
        old.save()
        client, thief = DjangoClient(), DjangoClient()
        for browser in (client, thief):
            browser.cookies["session"] = old.session_key
        assert client.get("/").content == b"visit 42\n"
        assert client.get("/").content == b"visit 43\n"
        assert thief.get("/").content == b"visit 1\n"


BACKUP_MANAGER = """className name mapSendOptions rpcTimeout terminateOnStartFailure accessTimeout maxActiveSessions
    notifyListenersOnReplication recordAllActions processExpiresFrequency sessionAttributeNameFilter
    sessionAttributeValueClassNameFilter warnOnSessionAttributeFilterFailure secureRandomClass secureRandomProvider
    secureRandomAlgorithm notifyAttributeListenerOnUnchangedValue notifyBindingListenerOnUnchangedValue
    sessionActivityCheck sessionLastAccessAtStart"""
DELTA_MANAGER = """expireSessionsOnShutdown notifySessionListenersOnReplication notifyContainerListenersOnReplication
    stateTransferTimeout sendAllSessions sendAllSessionsSize sendAllSessionsWaitTime stateTimestampDrop
    enableStatistics"""
VALVE = """filter primaryIndicator primaryIndicatorName statistics nrOfRequests nrOfFilterRequests nrOfSendRequests
    nrOfCrossContextSendRequests totalRequestTime totalSendTime lastSendTime"""


@pytest.mark.parametrize(
    ("heading", "attributes"),
    [("BackupManager", BACKUP_MANAGER), ("DeltaManager", DELTA_MANAGER), ("ReplicationValve", VALVE)],
)
def test_every_attribute_of_tomcat_has_its_row(heading: str, attributes: str) -> None:
    """Each attribute is named in the first column of its table, and the last column says what it is here."""
    page = (PAGES / "tomcat.md").read_text("utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)[`(]", row[0])}
    assert set(attributes.split()) <= named, sorted(set(attributes.split()) - named)
    assert all(len(row) == 3 and row[2] for row in rows)


def test_what_the_pages_name_as_ours_exists() -> None:
    """Options in the last column of Tomcat's tables are options, the statistics' fields are fields."""
    page = (PAGES / "tomcat.md").read_text("utf-8")
    known = {option.name for option in OPTIONS} | {option.file_key for option in OPTIONS} | set(Figures._fields)
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z]+(?:_[a-z]+)*)`", row[-1])}
    assert len(named) > 20
    assert named <= known, sorted(named - known)
