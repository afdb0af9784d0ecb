"""What all tests share: one Hypothesis profile; the marker, time limit and place of the system tests; and the marker
``own_process``.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings
from tests.patience import TEST_S_MAX

SYSTEM = Path(__file__).parent / "system"
OWN_PROCESS_S = 500
"""Less than the time limit of a test, which only this process has."""

# The same examples in every run, and no judgement of speed: a test fails because the code is wrong, not because the
# machine is slow. HYPOTHESIS_PROFILE=wide draws other and more examples.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("wide", settings.get_profile("repeatable"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything under tests/system, gives it a longer time limit, and puts it last: quick failures first."""
    for item in items:
        if SYSTEM in item.path.parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TEST_S_MAX))
    items.sort(key=lambda item: SYSTEM in item.path.parents)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Runs a test that is marked ``own_process`` in a fork, which leaves behind nothing that could disturb the next."""
    if item.get_closest_marker("own_process") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports_of_a_fork(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    item.session._setupstate.teardown_exact(nextitem)  # here, too, what the next test shares no folder with ends
    return True


def _reports_of_a_fork(item: pytest.Item) -> list[pytest.TestReport]:
    hook, config = item.config.hook, item.config
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            faulthandler.dump_traceback_later(OWN_PROCESS_S, exit=True)
            told = [
                hook.pytest_report_to_serializable(config=config, report=report)
                for report in runtestprotocol(item, log=False, nextitem=None)
            ]
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(told, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told_bytes = pipe.read()
    os.waitpid(child, 0)
    if not told_bytes:
        failure = f"its process ended, or was ended after {OWN_PROCESS_S} s, without a report"
        return [pytest.TestReport(item.nodeid, item.location, {}, "failed", failure, "call")]
    return [hook.pytest_report_from_serializable(config=config, data=data) for data in pickle.loads(told_bytes)]
