"""The tests of frameworks and session libraries that run under pytest, unchanged, with sessions in Understudy.

``python -m tests.frameworks.pytest_suites [NAME …]``, or ``make frameworks``. A test that fails must be listed in
``suites.py`` with its reason, and a listed one must fail, or the exit code is 1.
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
from tests.frameworks.suites import SUITES, Suite

PLUGINS = Path(__file__).parent / "plugins"
SRC = Path(__file__).resolve().parents[2] / "src"

_FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.MULTILINE)
_ENDED = re.compile(r"^=*\s*(?:\d+ failed, )?(?P<passed>\d+) passed", re.MULTILINE)


class Outcome(NamedTuple):
    """Of one run of pytest."""

    failed: set[str]
    """Tests, without their parameters."""
    failures: int
    passed: int | None
    """None: it did not come to its end."""
    said: str


def main(names: list[str]) -> int:
    """Runs the named suites, or all; 0 if all tests pass but those that are listed."""
    return max(_run(suite) for suite in SUITES if not names or suite.name in names)


def _run(suite: Suite) -> int:
    print(f"frameworks: {suite.name} {version(suite.name)}: {' '.join(suite.tests)}", flush=True)
    outcome = _tested(suite, suite.tests, ["-p", suite.plugin] if suite.plugin else [])
    listed = suite.left_out.keys() | suite.fail_anyway.keys()
    if outcome.passed is None or outcome.failed - listed:
        print(outcome.said)
    for test in sorted(outcome.failed - listed):
        print(f"frameworks: FAILED {test}")
    for test in sorted(listed - outcome.failed):
        print(f"frameworks: listed, and passes: {test}")
    for test in sorted(outcome.failed & listed):
        print(f"frameworks: left out: {test}: it {suite.left_out.get(test) or suite.fail_anyway[test]}")
    mended = suite.fail_anyway.keys() - _tested(suite, tuple(suite.fail_anyway), []).failed if suite.fail_anyway else ()
    for test in sorted(mended):
        print(f"frameworks: said to fail with the framework's own sessions as well, and passes: {test}")
    if outcome.passed is None or outcome.failed != listed or mended:
        return 1
    print(f"frameworks: {outcome.passed} passed, {outcome.failures} left out")
    return 0


def _tested(suite: Suite, tests: tuple[str, ...], options: list[str]) -> Outcome:
    folder = fetched(suite.name)
    with tempfile.TemporaryDirectory(prefix="us-") as directory:
        places = [str(PLUGINS), str(SRC), *(str(folder / place) for place in suite.places)]
        variables = {"PYTHONPATH": os.pathsep.join(places), "UNDERSTUDY_DIR": f"{directory}/m", "CI": "true"}
        command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-rfE", f"--rootdir={folder}"]
        command += [*options, *suite.options, *(test.replace("PLUGINS", str(PLUGINS)) for test in tests)]
        result = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True)
    failed = [test.removeprefix("::") for test in _FAILED.findall(result.stdout)]  # of a file that is not below it
    ended = _ENDED.search(result.stdout)
    passed = int(ended["passed"]) if ended else None
    return Outcome(set(failed), len(failed), passed, result.stdout + result.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
