"""The application under test: every use of a session that the scenarios name, and views that wait in the middle.

A view that is given a ``gate`` reads its session, makes the file ``<gate>.reached``, and goes on when the test has
made ``<gate>.open``: so the test decides what happens between a request's reading and its writing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, request, session, stream_with_context

from understudy.flask import Understudy

GATE_S_MAX = 120
POLL_S = 0.005

app = Flask(__name__)
Understudy(app)


@app.get("/ping")
def ping() -> str:
    """Which worker this is; looks at no session."""
    return f"{os.getpid()}\n"


@app.get("/ready")
def ready() -> tuple[str, int]:
    """What a balancer asks; looks at no session."""
    return ("ready\n", 200) if app.extensions["understudy"].ready() else ("not ready\n", 503)


@app.get("/read")
def read() -> dict[str, Any]:
    """All attributes, after waiting at the gate if there is one."""
    return _facts(dict(session), _waited())


@app.post("/set")
def set_attribute() -> dict[str, Any]:
    """Sets one attribute; has looked at all of them before."""
    before = dict(session)
    waited = _waited()
    session[request.form["name"]] = request.form["value"]
    return _facts(before, waited)


@app.post("/append")
def append() -> dict[str, Any]:
    """Changes a list inside a dict inside the attribute, without any flag."""
    before = dict(session)
    waited = _waited()
    session.setdefault(request.form["name"], {"deep": {"list": []}})["deep"]["list"].append(request.form["value"])
    return _facts(before, waited)


@app.post("/delete")
def delete() -> dict[str, Any]:
    """Deletes one attribute."""
    before = dict(session)
    waited = _waited()
    session.pop(request.form["name"], None)
    return _facts(before, waited)


@app.post("/count")
def count() -> dict[str, Any]:
    """Adds one to a counter, exactly once."""

    def add(current: Any) -> int:
        current["count"] = current.get("count", 0) + 1
        return int(current["count"])

    return {"count": session.transact(add), "pid": os.getpid()}


@app.post("/push")
def push() -> dict[str, Any]:
    """Adds a value to a list, as one: a request that was cut off cannot overwrite what came after it."""

    def add(current: Any) -> dict[str, Any]:
        before = dict(current)
        current.setdefault(request.form["name"], []).append(request.form["value"])
        return before

    return _facts(session.transact(add), False)


@app.post("/login")
def login() -> dict[str, Any]:
    """Begins a session under a new id."""
    session.rotate(principal=request.form["name"])
    session["user"] = request.form["name"]
    return _facts({}, False)


@app.post("/logout")
def logout() -> dict[str, Any]:
    """Ends the session."""
    session.clear()
    return {"member": _member(), "pid": os.getpid()}


@app.post("/mixed")
def mixed() -> dict[str, Any]:
    """Puts something that cannot be stored into one attribute, in place, and changes two others."""
    session["before"] = request.form["value"]
    session["list"].append(object())
    session["after"] = request.form["value"]
    return _facts({}, False)


@app.post("/flag")
def flag() -> dict[str, Any]:
    """Sets a key of a replicated dictionary, or with no value counts on it, or with "-" removes it."""
    flags = app.extensions["understudy"].map("flags")
    name, value = request.form["name"], request.form.get("value")
    if value is None:
        flags.transact(name, lambda n: n + 1, 0)
    elif value == "-":
        del flags[name]
    else:
        flags[name] = value
    return {"member": _member()}


@app.get("/flags")
def all_flags() -> dict[str, Any]:
    """The whole dictionary."""
    flags = app.extensions["understudy"].map("flags")
    return {"flags": {name: flags[name] for name in flags}, "one": flags.get(request.args.get("name", ""))}


@app.post("/stream")
def stream() -> Response:
    """Changes the session after the first byte of the response has left."""
    name, value = request.form["name"], request.form["value"]

    def parts() -> Iterator[bytes]:
        yield b"first\n"
        session[name] = value
        yield b"last\n"

    before = session.get(name)
    return Response(stream_with_context(parts()), headers={"X-Before": str(before)}, mimetype="text/plain")


def _waited() -> bool:
    """Waits at the gate that the request names; False when it names none."""
    gate = request.values.get("gate")
    if gate is None:
        return False
    Path(f"{gate}.reached").write_text(str(os.getpid()))
    deadline_s = time.monotonic() + GATE_S_MAX
    while not Path(f"{gate}.open").exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"nobody opened {gate}")
        time.sleep(POLL_S)
    return True


def _facts(before: dict[str, Any], waited: bool) -> dict[str, Any]:
    """What the view saw when it began, and who served it."""
    return {
        "member": _member(),
        "pid": os.getpid(),
        "before": before,
        "waited": waited,
        "role": session.role,
    }


def _member() -> str:
    return os.environ["UNDERSTUDY_MEMBER"]


if os.environ.get("SESSIONS_APP_WARM"):
    # Somebody uses a session while the application is imported: under a server that forks, in the workers' parent.
    app.test_client().post("/set", data={"name": "warm", "value": str(os.getpid())})
