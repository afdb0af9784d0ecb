"""Flask's whole test suite and Starlette's session tests, unchanged, with sessions in Understudy.

``python -m tests.frameworks.pytest_suites``, or ``make frameworks``. A test that fails must be listed here with its
reason, and a listed one must fail, or the exit code is 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.frameworks.distribution import fetched

PLUGINS = Path(__file__).parent / "plugins"
SRC = Path(__file__).resolve().parents[2] / "src"

_KEY = "expects an error without SECRET_KEY: ours needs none"
_LATE = "changes the cookie's settings between requests: ours are read once"
_SPELLING = "compares how the name of a cookie's flag is spelled, in which capitals mean nothing"
_NO_TIME = "gives sessions no time to live, or less: ours refuses such a setting"


class Suite(NamedTuple):
    """Tests of one distribution, and those that do not hold."""

    name: str
    tests: str
    plugin: str
    left_out: dict[str, str]
    """Test, without its parameters -> why."""


SUITES = (
    Suite(
        "flask",
        "tests",
        "understudy_in_flask",
        {
            "tests/test_basic.py::test_missing_session": _KEY,
            "tests/test_testing.py::test_session_transactions_no_null_sessions": _KEY,
            "tests/test_basic.py::test_session_secret_key_fallbacks": "changes SECRET_KEY, which signs nothing of ours",
            "tests/test_basic.py::test_session_using_samesite_attribute": _LATE,
            "tests/test_basic.py::test_session_using_session_settings": "expects that a session whose last attribute "
            "was deleted is ended: a request beside it may be writing to it, so ours ends by clear() only",
            "tests/test_basic.py::test_session_expiration": "expects Flask's 31 days where nothing is set: ours are 30 "
            "minutes, for sessions stay in memory",
            "tests/test_basic.py::test_session_refresh_vary": "expects the cookie to be renewed by a request that does "
            "not use its session: such a request costs nothing and renews nothing",
            "tests/test_reqctx.py::test_bad_environ_raises_bad_request": "fails with Flask's own sessions as well, "
            "under this version of Werkzeug",
        },
    ),
    Suite(
        "starlette",
        "tests/middleware/test_session.py",
        "understudy_in_starlette",
        {
            "tests/middleware/test_session.py::test_partitioned_session": _SPELLING,
            "tests/middleware/test_session.py::test_session_cookie_subpath": _SPELLING,
            "tests/middleware/test_session.py::test_domain_cookie": _SPELLING,
            "tests/middleware/test_session.py::test_session_expires": _NO_TIME,
            "tests/middleware/test_session.py::test_session_zero_max_age": _NO_TIME,
        },
    ),
)
_FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.MULTILINE)
_ENDED = re.compile(r"^=*\s*(?:(?P<failed>\d+) failed, )?(?P<passed>\d+) passed", re.MULTILINE)


def main(names: list[str]) -> int:
    """Runs the named suites, or all; 0 if all tests pass but those that are listed."""
    return max(_run(suite) for suite in SUITES if not names or suite.name in names)


def _run(suite: Suite) -> int:
    print(f"frameworks: {suite.name} {version(suite.name)}: {suite.tests}", flush=True)
    with tempfile.TemporaryDirectory(prefix="us-") as directory:
        variables = {"PYTHONPATH": os.pathsep.join([str(PLUGINS), str(SRC)]), "UNDERSTUDY_DIR": f"{directory}/m"}
        command = [sys.executable, "-m", "pytest", "--quiet", "-p", suite.plugin, "-p", "no:cacheprovider"]
        command += ["-rfE", suite.tests]
        result = subprocess.run(
            command, cwd=fetched(suite.name), env=os.environ | variables, capture_output=True, text=True
        )
    failed, ended = set(_FAILED.findall(result.stdout)), _ENDED.search(result.stdout)
    if ended is None or failed - suite.left_out.keys():
        print(result.stdout + result.stderr)
    for test in sorted(failed - suite.left_out.keys()):
        print(f"frameworks: FAILED {test}")
    for test in sorted(suite.left_out.keys() - failed):
        print(f"frameworks: listed, and passes: {test}")
    for test in sorted(failed & suite.left_out.keys()):
        print(f"frameworks: left out: {test}: it {suite.left_out[test]}")
    if ended is None or failed != suite.left_out.keys():
        return 1
    print(f"frameworks: {ended['passed']} passed, {ended['failed'] or 0} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
