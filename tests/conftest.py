"""What all tests share: one Hypothesis profile, and the marker, time limit and place of the system tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SYSTEM = Path(__file__).parent / "system"
SYSTEM_TIMEOUT_S = 300
"""A system test starts processes and waits for real leases; on two busy cores that may take minutes, never more."""

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
                item.add_marker(pytest.mark.timeout(SYSTEM_TIMEOUT_S))
    items.sort(key=lambda item: SYSTEM in item.path.parents)
