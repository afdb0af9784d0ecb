"""A pytest plugin for Flask's own tests: every application keeps its sessions in Understudy."""

from __future__ import annotations

from typing import Any

import _pytest.compat
import _pytest.monkeypatch
import flask

from understudy.flask import Understudy

_pytest.monkeypatch.notset = _pytest.compat.NOTSET  # type: ignore[attr-defined]  # its name before pytest 9
_theirs = flask.Flask.session_interface
_init = flask.Flask.__init__


def _with_ours(app: flask.Flask, *arguments: Any, **keywords: Any) -> None:
    _init(app, *arguments, **keywords)
    if app.session_interface is _theirs:  # else the test brings one of its own
        Understudy(app)


flask.Flask.__init__ = _with_ours  # type: ignore[method-assign]
