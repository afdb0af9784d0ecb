"""Django's own test suites for sessions, caches, auth, messages, the test client and the admin, unchanged, on ours.

``python -m tests.frameworks.django_suites [SUITE …]``, or ``make frameworks``. The suites are not in Django's wheel:
the source distribution of the installed version is fetched once from the package index, into ``.frameworks``. A test
that fails must be listed in ``OTHERS_INTERNALS``, and a listed one must fail, or the exit code is 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import django
from tests.frameworks.distribution import fetched

ROOT = Path(__file__).resolve().parents[2]
PROJECT = Path(__file__).parent / "django_project"
"""Settings, and the tests that put our store in the place of Django's."""
OURS = "understudy_suite"
INSTALLS = ("sessions_tests.tests.SessionBaseTests", "cache.tests.CacheHandlerTest")
"""Their models must be installed for ours, and are when something of them runs, too."""
SUITES = ("sessions_tests", "auth_tests", "messages_tests", "csrf_tests", "test_client", "test_client_regress")
SUITES += ("admin_views", "admin_changelist", "admin_inlines")

_COUNTS_QUERIES = "counts the queries of a request, one of them to the session's table: there is one fewer"
_PICKLES = "keeps what only pickle can: instances of models, functions, or what even pickle cannot"
_ROW = "reads the session's row in the database"
OTHERS_INTERNALS = {
    "sessions_tests.tests.SessionMiddlewareTests.test_empty_session_saved": _ROW,
    f"{OURS}.tests.UnderstudyMiddlewareTests.test_empty_session_saved": _ROW,
    **{
        f"{OURS}.tests.UnderstudyCacheTests.{test}": _PICKLES
        for test in (
            "test_add_fail_on_pickleerror",
            "test_cache_read_for_model_instance",
            "test_cache_read_for_model_instance_with_deferred",
            "test_cache_write_for_model_instance_with_deferred",
            "test_data_types",
            "test_set_fail_on_pickleerror",
        )
    },
    "admin_views.tests.AdminCustomQuerysetTest.test_changelist_view_count_queries": _COUNTS_QUERIES,
    "admin_views.tests.AdminSearchTest.test_no_total_count": _COUNTS_QUERIES,
    "admin_views.tests.AdminSearchTest.test_reset_link": _COUNTS_QUERIES,
    "admin_views.tests.GroupAdminTest.test_group_permission_performance": _COUNTS_QUERIES,
    "admin_views.tests.UserAdminTest.test_user_permission_performance": _COUNTS_QUERIES,
    "admin_changelist.tests.ChangeListTests"
    ".test_changelist_view_list_editable_changed_objects_uses_filter": "looks at the fifth query of a request; there, "
    "too, the one to the session's table is missing before it",
}
"""Test -> what of another storage it asserts."""
if django.VERSION[0] >= 6:
    OTHERS_INTERNALS[
        "auth_tests.test_middleware.TestLoginRequiredMiddleware.test_protected_view_logged_in_performance"
    ] = _COUNTS_QUERIES

_FAILED = re.compile(r"^(?:FAIL|ERROR): \S+ \(([\w.]+)\)", re.MULTILINE)
_ENDED = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)


def main(suites: list[str]) -> int:
    """Runs them; 0 if all pass but what asserts another storage's internals."""
    chosen = suites or [OURS, *SUITES]
    if OURS in chosen:
        chosen += INSTALLS
    tests = fetched("django") / "tests"
    with tempfile.TemporaryDirectory(prefix="us-") as directory:
        variables = {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(ROOT / "src")]), "UNDERSTUDY_DIR": directory}
        command = [sys.executable, "runtests.py", "--settings=understudy_settings", "--parallel=1", *chosen]
        print(f"frameworks: Django {django.get_version()}: {' '.join(chosen)}", flush=True)
        result = subprocess.run(command, cwd=tests, env=os.environ | variables, capture_output=True, text=True)
    said = result.stdout + result.stderr
    failed, ended = set(_FAILED.findall(said)), _ENDED.search(said)
    listed = {test for test in OTHERS_INTERNALS if test.split(".")[0] in chosen}
    if ended is None or failed - listed:
        print(said)
    for test in sorted(failed - listed):
        print(f"frameworks: FAILED {test}")
    for test in sorted(listed - failed):
        print(f"frameworks: listed, and passes: {test}")
    for test in sorted(failed & listed):
        print(f"frameworks: left out: {test}: it {OTHERS_INTERNALS[test]}")
    if ended is None or failed != listed:
        return 1
    print(f"frameworks: {int(ended.group(1)) - len(failed)} passed, {len(failed)} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
