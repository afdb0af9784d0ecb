"""Which tests of whom run on Understudy, and which of them do not hold, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_SIGNED = "asserts what SECRET_KEY does to a signed cookie: ours needs none and is not signed with it"
_EACH_CHANGE = "expects the cookie with each change: ours is sent when the id or route changes, so that a slow answer "
_EACH_CHANGE += "never puts an old one over that of a login (S11)"
_LAST_ONE = (
    "expects that a session whose last attribute was deleted is ended: a request beside it may be setting another "
)
_LAST_ONE += "(S02), so ours ends by clear() only"


class Suite(NamedTuple):
    """Tests of one distribution."""

    name: str
    tests: tuple[str, ...]
    """Files of it; or files beside the plugins, as ``PLUGINS/…``, that inherit its tests."""
    plugin: str
    """Puts Understudy in the place of its own sessions."""
    left_out: Mapping[str, str]
    """Test, without its parameters -> why it does not hold."""
    fail_anyway: Mapping[str, str] = MappingProxyType({})
    """The same for tests that fail without Understudy as well; that is tried."""
    places: tuple[str, ...] = ()
    """Folders of it that its tests import from."""


SUITES = (
    Suite(
        "flask",
        ("tests",),
        "understudy_in_flask",
        {
            "tests/test_basic.py::test_missing_session": _SIGNED,
            "tests/test_basic.py::test_session_secret_key_fallbacks": _SIGNED,
            "tests/test_testing.py::test_session_transactions_no_null_sessions": _SIGNED,
            "tests/test_basic.py::test_session_using_samesite_attribute": _EACH_CHANGE,
            "tests/test_basic.py::test_session_using_session_settings": _LAST_ONE,
        },
        {"tests/test_reqctx.py::test_bad_environ_raises_bad_request": "fails under this version of Werkzeug"},
    ),
    Suite("starlette", ("tests/middleware/test_session.py",), "understudy_in_starlette", {}),
)
